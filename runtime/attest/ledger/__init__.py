"""The ledger: an append-only log of leaves, as RFC 9162 and the C2SP transparency-log formats say.

`tree.py` is arithmetic, `notes.py` signed checkpoints, `proofs.py` what is handed to verifiers,
`log.py` what is kept on the disk and signed, `tiles.py` the files that others read, `witness.py`
who else signs, `leaves.py` what is logged. Read on in docs/ledger.md.
"""
