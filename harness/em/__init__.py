"""Error mitigation: circuit families, backends, methods, and records of what came out.

`circuits/` makes tasks (a circuit, an observable, its exact value), `backends/` run circuits,
`methods/` plan what to run and reduce what was counted, `records/` keep every number with where it
came from, `running.py` puts them together. User mode throughout: the kernel knows nothing of it.
"""
