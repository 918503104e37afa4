"""Which physical qubits are whose: code blocks placed into the modules of a machine.

A block is a range of neighbouring qubits of one module. A program's blocks go into the module that
they fill best; where none has room for all, into modules that links join. Nothing here knows jobs
or decides who waits: it finds room, takes it, and takes it back. Physical qubits are numbered
through the modules in their order; in each, those of factories come first and are never free.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import NamedTuple, Self

from qvm.machine import Hardware
from qvm.program import Blocks


class Run(NamedTuple):
    """`number` blocks of `size` qubits, side by side from qubit `first` on; kind: which of all."""

    module: int
    kind: int
    first: int
    size: int
    number: int

    @property
    def qubits(self) -> int:
        return self.size * self.number


Place = tuple[Run, ...]
"""Where a program's blocks lie. Blocks of a kind are numbered through its runs in their order."""

Need = Sequence[Blocks]
Hole = tuple[int, int]
"""Free qubits: (first, how many)."""


def qubits_of(need: Need) -> int:
    """Physical qubits of all blocks."""
    return sum(each.physical * each.number for each in need)


@dataclass(init=False, slots=True, eq=False)
class Inventory:
    """The free qubits of a machine. holes: of each module, in order, apart. free: their sums.

    total, widest: what an empty machine has, and its largest module. closed: modules of which
    nothing is free for now, and what is not taken of them.
    """

    neighbours: tuple[frozenset[int], ...]
    free: list[int]
    holes: list[list[Hole]]
    total: int
    widest: int
    closed: dict[int, list[Hole]]

    def __init__(self, hardware: Hardware, closed: Iterable[int] = ()) -> None:
        ends = list(accumulate(each.qubits for each in hardware.module))
        self.neighbours = hardware.neighbours
        self.free = list(hardware.spare)
        self.holes = [[(end - spare, spare)] for end, spare in zip(ends, self.free, strict=True)]
        self.total = sum(self.free)
        self.widest = max(self.free)
        self.closed = {}
        for module in closed:
            self.close(module)

    def close(self, module: int) -> None:
        """Nothing of this module is free until it is opened again."""
        self.closed[module], self.holes[module], self.free[module] = self.holes[module], [], 0

    def open(self, module: int) -> None:
        """What nobody holds of this module is free again."""
        self.holes[module] = self.closed.pop(module)
        self.free[module] = sum(size for _, size in self.holes[module])

    def copy(self) -> Self:
        """Another with the same qubits free."""
        made = object.__new__(type(self))
        made.neighbours, made.total, made.widest = self.neighbours, self.total, self.widest
        made.free, made.holes = list(self.free), [list(each) for each in self.holes]
        made.closed = {module: list(each) for module, each in self.closed.items()}
        return made

    def find(
        self, need: Need, beside: Collection[int] = (), only: int | None = None
    ) -> Place | None:
        """Room for all of these blocks, or None. In one module where any has it: the fullest.

        beside: modules where more of the same program lies. only: the one module that will do.
        """
        asked = qubits_of(need)
        if asked > sum(self.free):
            return None
        alone = (beside or range(len(self.free))) if only is None else (only,)
        for module in sorted(alone, key=lambda each: self.free[each]):
            if self.free[module] >= asked:
                runs, left = self.fill(module, need, [each.number for each in need])
                if not any(left):
                    return tuple(runs)
        return self._find_linked(need, beside) if only is None else None

    def _find_linked(self, need: Need, beside: Collection[int]) -> Place | None:
        """Room in several modules, each linked to one before it; from the emptiest on."""
        emptiest = sorted(range(len(self.free)), key=lambda each: -self.free[each])
        around = {each for module in beside for each in (module, *self.neighbours[module])}
        for start in emptiest if not beside else (None,):
            runs: list[Run] = []
            left, joined = [each.number for each in need], set[int]()
            near = around if start is None else {start}
            while near and any(left):
                module = min(near, key=emptiest.index)
                more, left = self.fill(module, need, left)
                runs += more
                joined.add(module)
                if more:  # what holds nothing of it joins nothing
                    near |= self.neighbours[module]
                near -= joined
            if not any(left):
                return tuple(runs)
        return None

    def fill(self, module: int, need: Need, left: list[int]) -> tuple[list[Run], list[int]]:
        """Put as many as go into one module, largest blocks first; and how many are left then."""
        holes, runs, left = list(self.holes[module]), list[Run](), list(left)
        for kind, blocks in enumerate(need):
            size = blocks.physical
            # The smallest hole that takes all that are left, else the largest ones.
            holes.sort(key=partial(_preference, size * left[kind]))
            for at, (first, free) in enumerate(holes):
                number = min(left[kind], free // size)
                if number:
                    runs.append(Run(module, kind, first, size, number))
                    left[kind] -= number
                    holes[at] = (first + size * number, free - size * number)
        return runs, left

    def is_free(self, run: Run) -> bool:
        """Whether these are qubits of this module that nobody has."""
        holes = self._holes(run.module) if run.module < len(self.holes) else []
        return any(
            first <= run.first and run.first + run.qubits <= first + free for first, free in holes
        )

    def joined(self, modules: Collection[int]) -> bool:
        """Whether links lead from each of these modules to each, through no others."""
        reached, near = set[int](), set(list(modules)[:1])
        while near:
            module = near.pop()
            reached.add(module)
            near |= self.neighbours[module].intersection(modules) - reached
        return reached == set(modules)

    def take(self, place: Place) -> None:
        """These qubits are no longer free."""
        for run in place:
            holes = self._holes(run.module)
            at = bisect(holes, (run.first, self.total)) - 1
            first, free = holes[at]
            before, after = run.first - first, first + free - run.first - run.qubits
            assert at >= 0 <= min(before, after), "only free qubits are taken"
            parts = ((first, before), (run.first + run.qubits, after))
            holes[at : at + 1] = [part for part in parts if part[1]]
            self._count(run, -run.qubits)

    def give(self, place: Place) -> None:
        """These qubits are free again."""
        for run in place:
            holes = self._holes(run.module)
            first, end = run.first, run.first + run.qubits
            at = bisect(holes, (first, 0))
            assert at == len(holes) or end <= holes[at][0], "qubits are given back once"
            low = at
            if at and sum(holes[at - 1]) >= first:
                assert sum(holes[at - 1]) == first, "qubits are given back once"
                low, first = at - 1, holes[at - 1][0]
            high = at
            if at < len(holes) and holes[at][0] == end:
                high, end = at + 1, sum(holes[at])
            holes[low:high] = [(first, end - first)]
            self._count(run, run.qubits)

    def _holes(self, module: int) -> list[Hole]:
        """What is not taken of a module, be it closed or not."""
        return self.closed.get(module, self.holes[module])

    def _count(self, run: Run, more: int) -> None:
        self.free[run.module] += 0 if run.module in self.closed else more


def _preference(whole: int, hole: Hole) -> tuple[bool, int, int]:
    first, free = hole
    return (False, free, first) if free >= whole else (True, -free, first)
