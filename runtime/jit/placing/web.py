"""The hypergraph of a circuit: its edges cost a pair for each further module that they reach.

An edge joins a qubit and all that it meets in one run (`flow.py`): spread over modules it takes a
copy in each, as in Andres-Martinez and Heunen, arXiv:1811.10972. Which of its two runs serves a
gate is settled here by their lengths; `packets.py` settles it again, exactly, for an assignment.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import msgspec

from runtime.jit.placing.flow import End, Flow, Gate


class Web(msgspec.Struct, frozen=True):
    """weights: 1 for each qubit that an operation names, else 0. edges: qubits, ascending, and the
    weight in pairs; of two qubits at least."""

    weights: tuple[int, ...]
    edges: tuple[tuple[tuple[int, ...], int], ...]


def web(flow: Flow, gates: Sequence[Gate] | None = None) -> Web:
    """The hypergraph of these gates, or of all."""
    gates = flow.gates if gates is None else gates
    length = Counter[End](end for gate in gates for end in gate.ends)
    runs = defaultdict[End, set[int]](set)
    for gate in gates:
        one, two = gate.ends
        kept, met = (one, two) if length[one] >= length[two] else (two, one)
        runs[kept].add(met.qubit)
    edges = Counter(tuple(sorted({end.qubit, *met})) for end, met in runs.items())
    used = {qubit for each in flow.circuit.operations for qubit in each.qubits}
    weights = tuple(int(qubit in used) for qubit in range(flow.circuit.width))
    return Web(weights, tuple(sorted(edges.items())))
