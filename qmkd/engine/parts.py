"""Cuts the primitives of a program into its parts (`qvm/parts.py`) and numbers qubits within each.

Without noise the parts have the shapes that `qvm/shapes.py` finds, which the planner goes by. A
part's qubits are numbered from 0, lowest free number first; a number comes back where a life
ends. So `qubits` is how many of a part are ever live at once, which is what an engine pays for.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from qmkd.engine.prepared import polled
from qmkd.engine.primitives import (
    CLIFFORDS,
    Fence,
    Flip,
    Gate,
    History,
    Measure,
    Noise,
    Pauli,
    Primitive,
    Ran,
    Reset,
)
from qvm.parts import Lives, Shape

__all__ = ["Placed", "Shape", "cut"]


class Placed(NamedTuple):
    """A primitive on qubits of one part, numbered within it, or on none (then part is -1).

    ends: the qubit's number means another life afterwards; it is in |0>.
    """

    part: int
    primitive: Primitive
    ends: bool = False


def cut(
    primitives: Iterable[Primitive], slots: int, poll: Callable[[], None] = lambda: None
) -> tuple[list[Shape], list[Placed]]:
    """Every primitive in order, and the shape of every part, in order of first use.

    A Pauli on several parts is cut in several. A reset of a qubit to which nothing has been done
    since the last one is left out.
    """
    whole = list(primitives)
    roots = _roots(polled(whole, poll), slots)
    cutting = _Cutting()
    placed: list[Placed] = []
    for primitive, lives in polled(zip(whole, roots, strict=True), poll):
        placed += cutting.place(primitive, lives)
    return cutting.shapes(), placed


def _roots(primitives: Iterable[Primitive], slots: int) -> list[tuple[tuple[int, int], ...]]:
    """Of each primitive the (life, representative of its part) of each of its qubits."""
    lives = Lives()
    now = [lives.begin() for _ in range(slots)]
    touched: list[tuple[int, ...]] = []
    for each in primitives:
        if isinstance(each, (Ran, Flip, History, Fence)):
            touched.append(())
            continue
        touched.append(tuple(now[qubit] for qubit in each.qubits))
        if not isinstance(each, Pauli):
            for qubit in each.qubits[1:]:
                lives.join(now[each.qubits[0]], now[qubit])
        if isinstance(each, Reset) and each.guard is None:
            now[each.qubits[0]] = lives.begin()
    return [tuple((life, lives.root(life)) for life in each) for each in touched]


class _Cutting:
    """Parts so far."""

    def __init__(self) -> None:
        self.part_of: dict[int, int] = {}
        self.local: dict[int, int] = {}
        self.free: list[list[int]] = []
        self.counts: list[list[int]] = []

    def shapes(self) -> list[Shape]:
        return [Shape(*counts) for counts in self.counts]

    def place(self, primitive: Primitive, lives: tuple[tuple[int, int], ...]) -> Iterator[Placed]:
        if not lives:
            assert isinstance(primitive, (Ran, Flip, History, Fence))
            yield Placed(-1, primitive)
            return
        assert not isinstance(primitive, (Ran, Flip, History, Fence))
        if isinstance(primitive, Reset) and lives[0][0] not in self.local:
            return
        numbers = {
            qubit: self._place(*each) for qubit, each in zip(primitive.qubits, lives, strict=True)
        }
        for part in dict.fromkeys(part for part, _ in numbers.values()):
            here = {qubit: at for qubit, (of, at) in numbers.items() if of == part}
            local = _renumbered(primitive, here)
            self._count(part, local)
            ends = isinstance(local, Reset) and local.guard is None
            if ends:
                self._free(lives[0][0], part)
            yield Placed(part, local, ends)

    def _place(self, life: int, root: int) -> tuple[int, int]:
        """The part of a life and its number there, given out at first use."""
        part = self.part_of.get(root)
        if part is None:
            part = self.part_of[root] = len(self.counts)
            self.counts.append([0, 0, 0, 0, 0])
            self.free.append([])
        at = self.local.get(life)
        if at is None:
            free, counts = self.free[part], self.counts[part]
            if free:
                at = heapq.heappop(free)
            else:
                at, counts[0] = counts[0], counts[0] + 1
            self.local[life] = at
        return part, at

    def _free(self, life: int, part: int) -> None:
        heapq.heappush(self.free[part], self.local.pop(life))

    def _count(self, part: int, primitive: Primitive) -> None:
        counts = self.counts[part]
        counts[1] += 1
        if isinstance(primitive, (Measure, Reset)):
            counts[2] += 1
            counts[4] += primitive.guard is not None
        elif isinstance(primitive, Gate):
            counts[3] += primitive.name not in CLIFFORDS
            counts[4] += primitive.guard is not None


def _renumbered(
    primitive: Gate | Pauli | Measure | Reset | Noise, numbers: dict[int, int]
) -> Primitive:
    """The same on other qubits; of a Pauli, what acts on these."""
    if isinstance(primitive, Pauli):
        return primitive._replace(
            xs=tuple(numbers[qubit] for qubit in primitive.xs if qubit in numbers),
            zs=tuple(numbers[qubit] for qubit in primitive.zs if qubit in numbers),
        )
    if isinstance(primitive, (Measure, Reset)):
        return primitive._replace(qubits=(numbers[primitive.qubits[0]],))
    qubits = tuple(numbers[qubit] for qubit in primitive.qubits)
    return primitive._replace(qubits=qubits)
