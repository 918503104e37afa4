"""A program over several modules: which qubit lies where, and what goes through which Bell pair.

`planning.place` takes a circuit and a machine, and gives a QVM program of the same outcomes whose
operations between modules all go through channels, with what they cost. In the order of the work:
`room.py` (what fits where, which way leads where), `flow.py` (the circuit, and which of its gates
may share a pair), `homes.py` and `partition.py` (qubits to modules), `packets.py` (gates to pairs),
`writing.py` (the circuit over blocks), `channels.py` (the program with channels), `links.py` (when
pairs are there). What it does and cannot do is in docs/placing.md.
"""
