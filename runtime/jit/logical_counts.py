"""A circuit in the counts from which resources are estimated (Beverland et al., arXiv:2211.07629).

Gates count as the estimator of the Quantum Development Kit counts those of Q# and OpenQASM: a
Toffoli is one, a rotation by an odd multiple of pi/4 a T gate, by an even one nothing, any other
a rotation. Rotations stand in layers: two may be in one if no chain of gates joins them, and T
gates and Toffolis take layers of their own. What it costs to run the circuit is for
`qmkctl estimate`; what passes make of it is in `costs.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from runtime.jit.circuit import MEASUREMENTS, Circuit, Operation, defined
from runtime.jit.costs import ROTATIONS, T_GATES
from runtime.jit.gates import GATES

TOFFOLIS: Final = frozenset({"ccx", "ccz"})


class LogicalCounts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """As if every condition held. num_qubits: that an operation names. measurement_count: without
    resets. ccz_count: Toffolis, of which two CNOTs more make a controlled swap."""

    num_qubits: int
    t_count: int
    rotation_count: int
    rotation_depth: int
    ccz_count: int
    measurement_count: int


def logical_counts(circuit: Circuit) -> LogicalCounts:
    """The counts of a circuit."""
    level = [0] * circuit.width
    t = rotations = toffolis = measured = 0
    rotated: set[int] = set()
    used: set[int] = set()
    for each in _parts(circuit.operations):
        used.update(each.qubits)
        measured += each.name in MEASUREMENTS
        if each.name not in GATES:
            continue
        here = max(level[qubit] for qubit in each.qubits)
        eighths = each.angles[0].eighths if each.name in ROTATIONS else None
        if each.name in TOFFOLIS:
            toffolis += 1
        elif each.name in T_GATES or (eighths is not None and eighths % 2):
            t += 1
        elif each.name in ROTATIONS and eighths is None:
            rotations += 1
            rotated.add(here)
        else:
            for qubit in each.qubits:
                level[qubit] = here
            continue
        for qubit in each.qubits:
            level[qubit] = here + 1
    return LogicalCounts(
        num_qubits=max(1, len(used)),
        t_count=t,
        rotation_count=rotations,
        rotation_depth=len(rotated),
        ccz_count=toffolis,
        measurement_count=measured,
    )


def _parts(operations: Iterable[Operation]) -> Iterator[Operation]:
    """Down to Toffolis and what has an opcode."""
    for each in operations:
        row = GATES.get(each.name)
        if row is None or row.definition is None or each.name in TOFFOLIS:
            yield each
        else:
            yield from _parts(defined(each)[0])
