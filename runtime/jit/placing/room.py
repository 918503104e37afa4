"""What a machine has for a program over several modules: places for qubits, and ways over links.

Only what a plan needs of a machine's description (`qvm/machine.py`), for qubits of one profile.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Final

import msgspec

from qvm.channels import settled
from qvm.machine import Hardware
from qvm.profiles import Profile

FAR: Final = 1 << 20
"""In place of a number of links where none lead."""


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """slots: of each module, the logical qubits that fit beside its factories; whole blocks of
    `block`. distance: of the profile, in cycles of a step. hops: links between two modules on the
    best way, FAR if there is none; onward: the next module on it. cycles: that a link takes for a
    pair as good as asked for, by its two modules.
    """

    names: tuple[str, ...]
    slots: tuple[int, ...]
    block: int
    distance: int
    hops: tuple[tuple[int, ...], ...]
    onward: tuple[tuple[int, ...], ...]
    cycles: dict[tuple[int, int], float]

    def reach(self, start: int, ends: Iterable[int]) -> int:
        """Pairs that it takes to have a qubit of `start` shared with all `ends`, greedily;
        FAR where no links lead."""
        there, pairs = {start}, 0
        for end in sorted(set(ends), key=lambda each: self.hops[start][each]):
            if self.hops[start][end] >= FAR:
                return FAR
            for module in self.path(there, end):
                there.add(module)
                pairs += 1
        return pairs

    def path(self, there: Iterable[int], end: int) -> list[int]:
        """The modules on the way from the nearest of those to the end; empty if it is there."""
        here = min(there, key=lambda each: (self.hops[each][end], each))
        found = []
        while here != end:
            here = self.onward[here][end]
            found.append(here)
        return found


def room(hardware: Hardware, profile: Profile, asked: float = 0.0) -> Room:
    """For qubits of that profile. asked: fidelity of pairs when they are consumed, 0 for the usual
    one. A link that does not make such pairs is left out."""
    cycles: dict[tuple[int, int], float] = {}
    for ends, link in hardware.links.items():
        made, _ = settled(asked, "", 0, link)
        if made is not None:
            cycles[ends] = made.ladder.cycles(link.cycles)
    number = len(hardware.module)
    ways = [_ways(start, number, cycles) for start in range(number)]
    return Room(
        names=tuple(each.name for each in hardware.module),
        slots=tuple(
            spare // profile.block_physical * profile.block for spare in hardware.spare
        ),
        block=profile.block,
        distance=max(1, profile.distance),
        hops=tuple(tuple(hops) for hops, _ in ways),
        onward=tuple(tuple(onward) for _, onward in ways),
        cycles=cycles,
    )  # fmt: skip


def _ways(
    start: int, number: int, cycles: dict[tuple[int, int], float]
) -> tuple[list[int], list[int]]:
    """Fewest links to each module, by those the fewest cycles; and the first step on each way."""
    best: dict[int, tuple[int, float, int]] = {}
    heap: list[tuple[int, float, int, int]] = [(0, 0.0, start, start)]
    while heap:
        hops, cost, here, first = heappop(heap)
        if here in best:
            continue
        best[here] = (hops, cost, first)
        for (one, two), more in cycles.items():
            if one == here and two not in best:
                heappush(heap, (hops + 1, cost + more, two, two if here == start else first))
    return (
        [best[each][0] if each in best else FAR for each in range(number)],
        [best[each][2] if each in best else each for each in range(number)],
    )


def clusters(found: Room, wanted: int) -> list[tuple[int, ...]]:
    """Sets of several linked modules to try for so many qubits; the fewest modules first."""
    made: dict[tuple[int, ...], None] = {}
    number = len(found.slots)
    for start in range(number):
        taken = [start]
        while len(taken) <= number:
            fits = sum(found.slots[at] for at in taken) >= wanted
            if fits and len(taken) > 1:
                made[tuple(sorted(taken))] = None
            near = [
                at
                for at in range(number)
                if at not in taken and any((at, each) in found.cycles for each in taken)
            ]
            if not near:
                break
            taken.append(
                max(
                    near,
                    key=lambda at: (
                        found.slots[at],
                        sum((at, each) in found.cycles for each in taken),
                        -at,
                    ),
                )
            )
    return sorted(made, key=len)
