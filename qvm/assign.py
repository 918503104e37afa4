"""Which module each block of a program lies in on the empty machine, where it uses channels.

The two ends of a channel get different modules with a link between them. Blocks that other
operations join stay together where they can, and so do the operands of a TELEPORT_CNOT, which is
local then. What sessions hold stays where it is. The search is greedy, turns back where it is
stuck, and gives up after a bounded number of tries; the same program and machine give the same
answer. What pairs cost is for `channels.py` to say.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, groupby
from typing import Final

from qvm.machine import Hardware, Link
from qvm.program import HELD, Kind, PairUse, Summary
from qvm.uses import ALONE

TRIES_SPARE: Final = 2_000
"""Modules tried beyond two for each unit."""

Price = Callable[[Kind, Link], float | None]
"""Cycles that a pair of this kind takes of a link; None where that does not make it."""


def assign(
    summary: Summary, hardware: Hardware, held: Sequence[int], price: Price
) -> dict[int, list[int]] | None:
    """Kind, HELD among them -> module of each of its blocks; None where there is no way, or none is
    found. held: the modules of what sessions hold, in the order of `held_names`."""
    for together in (True, False):
        units = _Units(summary, held, max(hardware.spare), together)
        modules = _Search(units, hardware, price).run()
        if modules is not None:
            starts = iter(modules)
            found = {
                kind: [next(starts) for _ in range(each.number)]
                for kind, each in enumerate(summary.blocks)
            }
            return found | {HELD: list(starts)}
    return None


class _Units:
    """Blocks that are placed together, and what there is between them.

    sizes: qubits of each block; blocks are numbered through all kinds, and behind them what
    sessions hold. fixed: module of each of these. of: unit -> its blocks. size: of it, in qubits.
    apart, near: for each unit its neighbours, and the pairs between them: by channels, and by
    TELEPORT_CNOT. rest: blocks of no unit, largest first.
    """

    def __init__(self, summary: Summary, held: Sequence[int], widest: int, together: bool) -> None:
        self.sizes = [each.physical for each in summary.blocks for _ in range(each.number)]
        firsts = list(accumulate((each.number for each in summary.blocks), initial=0))
        assert HELD == -1, "what is held comes last"
        self.fixed = dict(enumerate(held, firsts[HELD]))
        self.sizes += [0] * len(held)
        uses = [
            (firsts[one[0]] + one[1], firsts[two[0]] + two[1], use)
            for use in summary.uses
            for one, two in (use.ends,)
            if one != two
        ]
        members = defaultdict[int, list[int]](list)
        for kind, first, number, group in summary.joined if together else ():
            if group != ALONE:
                start = firsts[kind] + first
                members[group] += range(start, start + number)
        torn = self._torn(members, uses)
        self.of = [
            blocks
            for group, blocks in members.items()
            if group not in torn and self._fits(blocks, widest)
        ]
        unit_of = {block: unit for unit, blocks in enumerate(self.of) for block in blocks}
        for block in (*(end for one, two, _ in uses for end in (one, two)), *self.fixed):
            if block not in unit_of:
                unit_of[block] = len(self.of)
                self.of.append([block])
        self.apart: list[dict[int, Counter[Kind]]] = [{} for _ in self.of]
        self.near: list[dict[int, Counter[Kind]]] = [{} for _ in self.of]
        for one, two, use in uses:
            a, b = unit_of[one], unit_of[two]
            if a != b:
                between = self.apart if use.channel else self.near
                between[b][a] = pairs = between[a].setdefault(b, Counter())
                pairs[use.kind] += 1
        self.size = [sum(map(self.sizes.__getitem__, blocks)) for blocks in self.of]
        alone = [block for block in range(len(self.sizes)) if block not in unit_of]
        self.rest = sorted(alone, key=lambda block: -self.sizes[block])

    def _torn(
        self, members: Mapping[int, list[int]], uses: Sequence[tuple[int, int, PairUse]]
    ) -> set[int]:
        """Groups of which two blocks are the ends of a channel."""
        group_of = {block: group for group, blocks in members.items() for block in blocks}
        return {
            group_of[one]
            for one, two, use in uses
            if use.channel and one in group_of and group_of[one] == group_of.get(two)
        }

    def _fits(self, blocks: Sequence[int], widest: int) -> bool:
        """Whether one module may hold them all."""
        held = {self.fixed[block] for block in blocks if block in self.fixed}
        return len(held) <= 1 and sum(map(self.sizes.__getitem__, blocks)) <= widest

    def order(self) -> list[int]:
        """From each unit on to its neighbours; those without any last, largest first."""
        found: dict[int, None] = {}
        for start in range(len(self.of)):
            waiting = deque([start] if self.apart[start] or self.near[start] else [])
            while waiting:
                unit = waiting.popleft()
                if unit not in found:
                    found[unit] = None
                    waiting += (*self.apart[unit], *self.near[unit])
        left = [unit for unit in range(len(self.of)) if unit not in found]
        return [*found, *sorted(left, key=lambda unit: -self.size[unit])]


class _Search:
    """modules: of each unit, once it has one. used: how many units each module holds."""

    def __init__(self, units: _Units, hardware: Hardware, price: Price) -> None:
        self.units = units
        self.links = hardware.links
        self.neighbours = hardware.neighbours
        self.free = list(hardware.spare)
        self.price = price
        self.modules: dict[int, int] = {}
        self.used = [0] * len(self.free)

    def run(self) -> list[int] | None:
        """The module of each block."""
        whole = sum(self.units.sizes)
        wide_enough = [at for at, free in enumerate(self.free) if free >= whole]
        if wide_enough and not any(self.units.apart) and not self.units.fixed:
            fullest = min(wide_enough, key=lambda at: self.free[at])
            return [fullest] * len(self.units.sizes)
        return self._filled() if whole <= sum(self.free) and self._placed() else None

    def _placed(self) -> bool:
        """Give every unit a module; where one finds none, give the one before it another."""
        order = self.units.order()
        left: list[list[int]] = []
        for _ in range(2 * len(order) + TRIES_SPARE):
            if len(left) == len(self.modules):
                if len(left) == len(order):
                    return True
                left.append(self._candidates(order[len(left)]))
            unit = order[len(left) - 1]
            if left[-1]:
                self._put(unit, left[-1].pop(0))
            else:
                left.pop()
                if not left:
                    return False
                self._take_back(order[len(left) - 1])
        return False

    def _put(self, unit: int, module: int) -> None:
        self.modules[unit] = module
        self.free[module] -= self.units.size[unit]
        self.used[module] += 1

    def _take_back(self, unit: int) -> None:
        module = self.modules.pop(unit)
        self.free[module] += self.units.size[unit]
        self.used[module] -= 1

    def _within_reach(self) -> set[int]:
        """Modules in use and those that links join to them; all of them at the start."""
        used = [at for at, number in enumerate(self.used) if number]
        return set(used).union(*(self.neighbours[at] for at in used)) or set(range(len(self.used)))

    def _candidates(self, unit: int) -> list[int]:
        """Modules that may hold it, the best first: that with most of those it is near to, then one
        that is in use, then where pairs are cheapest, then the emptiest."""
        size = self.units.size[unit]
        fixed = {self.units.fixed.get(block, -1) for block in self.units.of[unit]} - {-1}
        found = []
        for module in fixed or self._within_reach():
            cost = self._cost(unit, module) if self.free[module] >= size else None
            if cost is not None:
                near = self.units.near[unit].items()
                beside = sum(n.total() for each, n in near if self.modules.get(each) == module)
                unused = not self.used[module]
                found.append((-beside, unused, cost, -self.free[module], module))
        return [module for *_, module in sorted(found)]

    def _cost(self, unit: int, module: int) -> float | None:
        """Cycles of links, by neighbours that have a module; None where it may not be there."""
        cost = 0.0
        for between, apart in ((self.units.apart, True), (self.units.near, False)):
            for other, pairs in between[unit].items():
                there = self.modules.get(other)
                if there is None or (there == module and not apart):
                    continue
                link = self.links.get((module, there))
                for kind, number in pairs.items():
                    more = None if link is None else self.price(kind, link)
                    if more is None:
                        return None
                    cost += number * more
        return cost

    def _filled(self) -> list[int] | None:
        """With the blocks of no unit: where some are already, then where links lead."""
        found = [-1] * len(self.units.sizes)
        for unit, module in self.modules.items():
            for block in self.units.of[unit]:
                found[block] = module
        for size, alike in groupby(self.units.rest, self.units.sizes.__getitem__):
            blocks = list(alike)
            while blocks:
                room = self._room(size)
                if room is None:
                    return None
                number = min(len(blocks), self.free[room] // size)
                for block in blocks[:number]:
                    found[block] = room
                del blocks[:number]
                self.free[room] -= number * size
                self.used[room] += number
        return found

    def _room(self, size: int) -> int | None:
        fit = [at for at in self._within_reach() if self.free[at] >= size]
        return min(fit, key=lambda at: (not self.used[at], -self.free[at], at), default=None)
