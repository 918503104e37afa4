"""An assignment made better one qubit, or two that change places, at a time; until nothing helps.

What partitioners know only roughly is exact here: the room of each module, the pairs that an edge
takes over the links that there are, and where qubits were before. Greedy, in the order of qubits,
so the same question has the same answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from runtime.jit.placing.room import FAR, Room
from runtime.jit.placing.web import Web

PASSES_MAX: Final = 12
PARTNERS: Final = 4
"""Qubits that are tried in exchange for one that is to go to a full module."""


class Refiner:
    """row: of each qubit its module, as it becomes. near: where each was before, or nothing."""

    def __init__(
        self,
        web: Web,
        room: Room,
        row: Sequence[int],
        slots: Mapping[int, int],
        near: Sequence[int] | None = None,
    ) -> None:
        self.web, self.room, self.slots, self.near = web, room, slots, near
        self.row = list(row)
        self.held = Counter[int]()
        for qubit, module in enumerate(self.row):
            self.held[module] += web.weights[qubit]
        self.of = defaultdict[int, list[int]](list)
        for number, (pins, _) in enumerate(web.edges):
            for pin in pins:
                self.of[pin].append(number)
        self.trees: dict[frozenset[int], int] = {}
        self.costs = [self._edge(number) for number in range(len(web.edges))]

    def run(self) -> tuple[int, ...]:
        """The assignment when no step helps any more."""
        self._make_room()
        self._relabel()
        for _ in range(PASSES_MAX):
            improved = [self._improve(qubit) for qubit in self._movable()]
            if not any(improved):
                break
        return tuple(self.row)

    def total(self) -> int:
        """Pairs of all edges, and of being elsewhere than before."""
        return sum(self.costs) + sum(
            self._away(qubit, self.row[qubit]) for qubit in self._movable()
        )

    def fits(self) -> bool:
        return all(number <= self.slots.get(module, 0) for module, number in self.held.items())

    def _movable(self) -> Iterator[int]:
        return (qubit for qubit, weight in enumerate(self.web.weights) if weight)

    def _away(self, qubit: int, module: int) -> int:
        return 0 if self.near is None else self.room.hops[self.near[qubit]][module]

    def _edge(self, number: int) -> int:
        pins, weight = self.web.edges[number]
        return weight * self._tree(frozenset(self.row[pin] for pin in pins))

    def _tree(self, modules: frozenset[int]) -> int:
        if len(modules) == 1:
            return 0
        if modules not in self.trees:
            start = min(modules)
            self.trees[modules] = min(FAR, self.room.reach(start, modules))
        return self.trees[modules]

    def _gain(self, qubit: int, module: int) -> int:
        """Pairs that fewer are needed with the qubit there, all others being where they are."""
        here = self.row[qubit]
        self.row[qubit] = module
        after = sum(self._edge(number) for number in self.of[qubit])
        self.row[qubit] = here
        before = sum(self.costs[number] for number in self.of[qubit])
        return before - after + self._away(qubit, here) - self._away(qubit, module)

    def _put(self, qubit: int, module: int) -> None:
        self.held[self.row[qubit]] -= self.web.weights[qubit]
        self.held[module] += self.web.weights[qubit]
        self.row[qubit] = module
        for number in self.of[qubit]:
            self.costs[number] = self._edge(number)

    def _improve(self, qubit: int) -> bool:
        """Take the best step of this qubit, if any helps."""
        here = self.row[qubit]
        gains = sorted(
            ((self._gain(qubit, module), -module) for module in self.slots if module != here),
            reverse=True,
        )
        for gain, negated in gains:
            module = -negated
            if self.held[module] < self.slots[module]:
                if gain > 0:
                    self._put(qubit, module)
                    return True
            elif self._exchanged(qubit, module, gain):
                return True
        return False

    def _exchanged(self, qubit: int, module: int, gain: int) -> bool:
        """Put the qubit in a full module and one from there in its place, if that helps."""
        here = self.row[qubit]
        there = [each for each in self._movable() if self.row[each] == module]
        best = sorted((-self._gain(each, here), each) for each in there)[:PARTNERS]
        for loss, other in best:
            if gain - loss <= 0:
                return False
            # The two gains are exact unless they share an edge.
            before = self.total_of(qubit, other)
            self._put(qubit, module)
            self._put(other, here)
            if self.total_of(qubit, other) < before:
                return True
            self._put(qubit, here)
            self._put(other, module)
        return False

    def total_of(self, *qubits: int) -> int:
        """What the edges and places of these qubits cost."""
        edges = {number for qubit in qubits for number in self.of[qubit]}
        return sum(self.costs[number] for number in edges) + sum(
            self._away(qubit, self.row[qubit]) for qubit in qubits
        )

    def _make_room(self) -> None:
        """Take qubits out of modules that hold too many, those first that cost least elsewhere."""
        while over := [m for m, number in self.held.items() if number > self.slots.get(m, 0)]:
            free = [module for module in self.slots if self.held[module] < self.slots[module]]
            assert free, "there is room for all"
            module = over[0]
            moves = [
                (-self._gain(qubit, end), qubit, end)
                for qubit in self._movable()
                if self.row[qubit] == module
                for end in free
            ]
            _, qubit, end = min(moves)
            self._put(qubit, end)

    def _relabel(self) -> None:
        """Let two modules exchange all they hold, as long as that helps."""
        modules = sorted(self.slots)
        better = True
        while better:
            better = False
            for one in modules:
                for two in modules:
                    if one < two and self._swapped(one, two):
                        better = True

    def _swapped(self, one: int, two: int) -> bool:
        if self.held[one] > self.slots[two] or self.held[two] > self.slots[one]:
            return False
        before, row, costs = self.total(), list(self.row), list(self.costs)
        change = {one: two, two: one}
        self.row = [change.get(module, module) for module in self.row]
        self.costs = [self._edge(number) for number in range(len(self.web.edges))]
        if self.total() < before:
            self.held[one], self.held[two] = self.held[two], self.held[one]
            return True
        self.row, self.costs = row, costs
        return False
