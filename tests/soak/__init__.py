"""A real daemon under mixed load for an hour: do memory, descriptors and answer times stay?

`python -m tests.soak --seconds 3600 --out FOLDER`, or `make soak`. `load.py` is what tenants do,
`probe.py` times calls beside an echo, `figures.py` reads the processes, `soak.py` puts these
together, `verdict.py` says what grew, with what error.
"""
