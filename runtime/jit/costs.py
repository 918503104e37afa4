"""What a circuit costs: T gates, rotations still to be synthesised, two-qubit gates, depth.

`Counts.key` is the one order by which passes choose. Nothing is estimated of any machine here;
`qmkctl estimate` does that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import msgspec

from runtime.jit.circuit import MEASUREMENTS, ORDERS, Operation
from runtime.jit.gates import GATES

T_PER_BIT: Final = 3.0
"""T gates of a rotation for each bit of its precision (Ross and Selinger, arXiv:1403.2975)."""
ROTATIONS: Final = frozenset({"rx", "ry", "rz"})
T_GATES: Final = frozenset({"t", "tdg"})


class Counts(msgspec.Struct, frozen=True):
    """Of operations that all have opcodes.

    t: T and inverse T gates, and rotations by odd multiples of pi/4. rotations: by no multiple of
    pi/4. two_qubit: gates on two qubits. depth: longest chain of gates, measurements and resets.
    t_depth: most T gates and rotations on one chain.
    """

    t: int
    rotations: int
    two_qubit: int
    depth: int
    t_depth: int
    gates: int

    def t_states(self, epsilon: float) -> float:
        """T gates once each rotation is synthesised, `epsilon` being the error of all together."""
        if not self.rotations:
            return self.t
        return self.t + self.rotations * T_PER_BIT * max(0.0, math.log2(self.rotations / epsilon))

    def key(self, epsilon: float) -> tuple[float, int, int, int]:
        """Smaller is better: T states, then two-qubit gates and depth together, then the former."""
        states = round(self.t_states(epsilon), 6)
        return (states, self.two_qubit + self.depth, self.two_qubit, self.gates)


def counts(operations: Iterable[Operation]) -> Counts:
    """What the operations cost. Every gate among them has an opcode (`circuit.expanded`)."""
    t = rotations = two_qubit = gates = 0
    wires: dict[tuple[str, int], tuple[int, int]] = {}
    # What a barrier over everything lets nothing pass: the least depth of any wire from there on.
    floor = (0, 0)
    for each in operations:
        if each.name in ORDERS and not each.qubits:
            floor = _longest([floor, *wires.values()])
            wires.clear()
            continue
        magic = 0
        if each.name in T_GATES:
            t, magic = t + 1, 1
        elif each.name in ROTATIONS:
            eighths = each.angles[0].eighths
            magic = 1 if eighths is None else eighths % 2
            t, rotations = t + (magic if eighths is not None else 0), rotations + (eighths is None)
        two_qubit += len(each.qubits) == 2 and each.name in GATES
        gates += each.name in GATES
        touched = [("q", at) for at in each.qubits] + [("b", at) for at in each.bits]
        if each.condition is not None:
            touched += [("b", bit) for bit, _ in each.condition.tests]
        level, t_level = _longest([wires.get(wire, floor) for wire in touched])
        one = each.name in GATES or each.name in MEASUREMENTS or each.name == "reset"
        for wire in touched:
            wires[wire] = (level + one, t_level + magic)
    depth, t_depth = _longest([floor, *wires.values()])
    return Counts(t, rotations, two_qubit, depth, t_depth, gates)


def _longest(levels: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The greatest of each."""
    first, second = zip(*levels, strict=True)
    return max(first), max(second)
