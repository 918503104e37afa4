"""Which qubits can be entangled with which: a program falls into parts that never touch.

A qubit's life begins where it is fresh, |0> and entangled with nothing (ALLOC_LQ, an unguarded
RESET or INJECT_T_STATE), and ends where the next begins. Lives that some operation on several
qubits brings together belong to one part. Parts share nothing but classical events, so each may be
run by the engine that suits it. `shapes.py` finds the parts of a graph; the engines, those of what
a program comes to for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from qvm import isa

SHAPES_MAX: Final = 128
"""Different shapes of parts that a summary names."""


class Shape(NamedTuple):
    """What matters of a part for choosing an engine.

    qubits: live at once. operations: primitives on its qubits. measured: of these, measurements and
    resets. turns: of these, gates outside the Clifford group. branching: guarded ones that are no
    Paulis.
    """

    qubits: int
    operations: int
    measured: int
    turns: int
    branching: int


class Alike(NamedTuple):
    """`number` parts, each of this shape or smaller in every respect."""

    shape: Shape
    number: int


class Lives:
    """Union-find over lives, numbered in the order in which they begin.

    parent: of each life one that is nearer to the representative of its part, or itself.
    """

    def __init__(self) -> None:
        self.parent: list[int] = []

    def __len__(self) -> int:
        return len(self.parent)

    def begin(self) -> int:
        """A new life, by itself."""
        self.parent.append(len(self.parent))
        return len(self.parent) - 1

    def root(self, life: int) -> int:
        """The representative of its part so far."""
        parent = self.parent
        while parent[life] != life:
            parent[life] = parent[parent[life]]
            life = parent[life]
        return life

    def join(self, one: int, two: int) -> None:
        """Both are of one part from the start. The older representative stays."""
        one, two = self.root(one), self.root(two)
        if one != two:
            self.parent[max(one, two)] = min(one, two)


def bounded(shapes: Mapping[Shape, int], most: int = SHAPES_MAX) -> tuple[Alike, ...]:
    """Shapes with how many parts have each, widest first; at most `most` of them.

    Where there are more, like ones are taken together as the smallest shape that none of them
    exceeds: first those that differ within a power of two in operations and measurements, then in
    turns and branching too, in the end in qubits. What has no turns, or no branching, stays apart
    from what has. So an engine that can run the shape can run the parts, and needs no more for
    them; the widest part with turns keeps its width.
    """
    assert most >= _COARSEST, most
    for level in range(_LEVELS):
        groups: dict[tuple[int, ...], Shape] = {}
        numbers: Counter[tuple[int, ...]] = Counter()
        for shape, number in shapes.items():
            key = _key(shape, level)
            groups[key] = Shape(*map(max, groups.get(key, shape), shape))
            numbers[key] += number
        if len(groups) <= most:
            break
    assert len(groups) <= most, "the last level is coarse enough"
    found = [Alike(shape, numbers[key]) for key, shape in groups.items()]
    return tuple(sorted(found, reverse=True))


def _key(shape: Shape, level: int) -> tuple[int, ...]:
    """Shapes with the same key are taken together."""
    qubits, operations, measured, turns, branching = shape
    match level:
        case 0:
            return shape
        case 1:
            return qubits, operations.bit_length(), measured.bit_length(), turns, branching
        case 2:
            return qubits, operations.bit_length(), turns.bit_length(), branching.bit_length()
        case 3:
            return qubits, turns.bit_length(), branching > 0
        case 4:
            return qubits.bit_length(), turns.bit_length(), branching > 0
        case _:
            return qubits.bit_length(), turns > 0, branching > 0


_LEVELS: Final = 6
_COARSEST: Final = 4 * isa.QUBITS_MAX.bit_length()
"""How many keys the last level has at the most."""
assert _COARSEST <= SHAPES_MAX
