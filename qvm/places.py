"""Room for a program whose channels tie groups of its blocks to modules with links between them.

Each group goes into a module of its own, what sessions hold stays where it is, and between the
modules of two groups that a pair crosses there has to be a link that is as good as the one that
the program's errors were settled for, and that still makes as many pairs. The search turns back
where it is stuck and gives up after a bounded number of tries; last of all it tries the modules of
the empty machine. What a group is, and which pairs cross, `channels.py` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from qvm.blocks import Inventory, Need, Place, Run
from qvm.channels import Brokered, Crossing
from qvm.cycles import LinkRate
from qvm.machine import Link
from qvm.program import HELD

TRIES_MAX: Final = 2_000

Pair = tuple[int, int]
"""Two modules, the smaller number first."""


def pair(one: int, two: int) -> Pair:
    return (one, two) if one < two else (two, one)


def find_apart(
    inventory: Inventory,
    need: Need,
    brokered: Brokered,
    held: Sequence[int],
    links: Mapping[Pair, Link],
    spare: Mapping[Pair, int],
    rates: Sequence[LinkRate],
) -> Place | None:
    """held: modules of what sessions hold, by number. links: of the machine. spare: pairs per
    million cycles that those which work still make. rates: that the program takes, in the order of
    its crossings."""
    search = _Search(inventory, need, brokered, held, links, spare, rates)
    found = search.run() or search.as_on_the_empty_machine()
    return None if found is None else _blocks_in_order(brokered, search.runs)


class _Search:
    """runs: of each group that has its module, where its blocks lie there."""

    def __init__(
        self,
        inventory: Inventory,
        need: Need,
        brokered: Brokered,
        held: Sequence[int],
        links: Mapping[Pair, Link],
        spare: Mapping[Pair, int],
        rates: Sequence[LinkRate],
    ) -> None:
        self.inventory, self.need, self.links, self.spare = inventory, need, links, spare
        self.groups = brokered.groups
        self.fixed = {span.group: held[span.first] for span in brokered.spans if span.kind == HELD}
        self.crossings: list[list[tuple[int, Crossing, int]]] = [[] for _ in self.groups]
        for crossing, taken in zip(brokered.crossings, rates, strict=True):
            one, two = crossing.groups
            self.crossings[one].append((two, crossing, taken.rate))
            self.crossings[two].append((one, crossing, taken.rate))
        self.modules: dict[int, int] = {}
        self.runs: dict[int, list[Run]] = {}

    def run(self) -> dict[int, int] | None:
        """group -> module."""
        order, left = self._order(), list[list[int]]()
        for _ in range(TRIES_MAX):
            if len(left) == len(self.modules):
                if len(left) == len(order):
                    return self.modules
                left.append(self._candidates(order[len(left)]))
            group = order[len(left) - 1]
            if not left[-1]:
                left.pop()
                if not left:
                    break
                self.modules.pop(order[len(left) - 1])
            elif self._fits(group, module := left[-1].pop()):
                self.modules[group] = module
        return None

    def as_on_the_empty_machine(self) -> dict[int, int] | None:
        self.modules = {}
        for number, group in enumerate(self.groups):
            if not self._fits(number, group.module):
                return None
            self.modules[number] = group.module
        return self.modules

    def _order(self) -> list[int]:
        """What is fixed first; from there to neighbours, before those without any."""
        found: dict[int, None] = {}
        waiting = [*self.fixed, *sorted(range(len(self.groups)), key=self._lonely)]
        while waiting:
            group = waiting.pop(0)
            if group not in found:
                found[group] = None
                waiting = [other for other, _, _ in self.crossings[group]] + waiting
        return list(found)

    def _lonely(self, group: int) -> tuple[bool, int]:
        return not self.crossings[group], group

    def _candidates(self, group: int) -> list[int]:
        """Modules to try, the last one first: the fullest."""
        if group in self.fixed:
            return [self.fixed[group]]
        free = self.inventory.free
        return sorted(range(len(free)), key=lambda module: -free[module])

    def _fits(self, group: int, module: int) -> bool:
        if self.fixed.get(group, module) != module or module in self.modules.values():
            return False
        for other, crossing, rate in self.crossings[group]:
            if other in self.modules:
                between = pair(module, self.modules[other])
                link = self.links.get(between)
                if link is None or not crossing.link.served_by(link):
                    return False
                if self.spare.get(between, -1) < rate:
                    return False
        runs, left = self.inventory.fill(module, self.need, list(self.groups[group].number))
        self.runs[group] = runs
        return not any(left)


def _blocks_in_order(brokered: Brokered, runs: Mapping[int, Sequence[Run]]) -> Place:
    """Runs such that blocks of a kind are numbered through them as the program numbers them."""
    left = {
        (group, kind): [run for run in those if run.kind == kind]
        for group, those in runs.items()
        for kind in {run.kind for run in those}
    }
    found: list[Run] = []
    for kind, _, number, group in sorted(brokered.spans):
        while kind != HELD and number:
            run = left[group, kind].pop(0)
            taken = min(number, run.number)
            found.append(run._replace(number=taken))
            number -= taken
            if taken < run.number:
                first = run.first + taken * run.size
                rest = run._replace(first=first, number=run.number - taken)
                left[group, kind].insert(0, rest)
    return tuple(found)


def crossed(brokered: Brokered, place: Place, held: Sequence[int]) -> list[Pair]:
    """Between which modules the program's pairs cross, in the order of its crossings."""
    modules: dict[int, int] = {}
    for kind, first, _, group in brokered.spans:
        if kind == HELD:
            modules[group] = held[first]
        elif group not in modules:
            modules[group] = _module(place, kind, first)
    return [pair(*(modules[group] for group in each.groups)) for each in brokered.crossings]


def _module(place: Place, kind: int, block: int) -> int:
    for run in place:
        if run.kind == kind:
            if block < run.number:
                return run.module
            block -= run.number
    raise AssertionError("a placed program has all of its blocks")
