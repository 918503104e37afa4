"""How many stabilizer cycles a shot takes: an estimate from a program's summary, the same anywhere.

A logical operation takes a time step of d cycles, d being the code distance (Beverland et al.,
arXiv:2211.07629, section III; Litinski, arXiv:1808.02892). A part of q qubits with n operations
takes n / q steps at least, since a qubit takes part in one operation at a time; parts run side by
side; an epoch takes a step at least. What factories, links and the decoder cannot keep up with
makes a shot longer. It is an estimate from below: operations that wait for one another take longer.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

import msgspec

from qvm.blocks import qubits_of
from qvm.machine import MILLION, Hardware, pair_rate
from qvm.program import Summary

SPANS_MAX: Final = 64


class Load(NamedTuple):
    """Of a link between two groups of blocks a shot takes `raw_pairs` in the mean, each of which
    takes it `cycles`."""

    groups: tuple[int, int]
    raw_pairs: float
    cycles: float


class LinkRate(NamedTuple):
    """Raw pairs per million cycles of a link between two groups of blocks."""

    groups: tuple[int, int]
    rate: int


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What a running program takes of a machine.

    cycles: of one shot. steps: logical time steps of one shot. qubits: physical ones of its blocks.
    t_rate: T states per million cycles. blocks: code blocks to decode. slowed: what made a shot
    longer, `T states`, `decoding`, `links` or nothing. links: what it takes of each.
    """

    cycles: int
    steps: int
    qubits: int
    t_rate: int
    blocks: int
    slowed: str = ""
    links: tuple[LinkRate, ...] = ()


def steps_of(summary: Summary) -> int:
    """Logical time steps of one shot, at least."""
    depth = max(
        (-(-shape.operations // max(1, shape.qubits)) for shape, _ in summary.parts), default=0
    )
    return max(summary.epochs, depth)


def demand(summary: Summary, hardware: Hardware, loads: Sequence[Load] = ()) -> Demand:
    """What one shot after another of the program takes of the machine.

    loads: of the links that its pairs cross (`channels.py`).
    """
    steps = steps_of(summary)
    # A qubit without a code takes a cycle for an operation.
    cycles = steps * max((1, *(each.distance for each in summary.profiles)))
    slowed = ""
    blocks = sum(each.number for each in summary.blocks if each.coded)
    blocks += sum(each.profile.code != "ideal" for each in summary.handles)
    qubits = qubits_of(summary.blocks)
    limit, made = hardware.decoder_blocks, hardware.t_rate
    if limit is not None and blocks > limit:
        cycles, blocks, slowed = -(-cycles * blocks // limit), limit, "decoding"
    made_in = 0 if made is None else -(-summary.t_states * MILLION // max(1, made))
    linked_in = max((math.ceil(each.raw_pairs * each.cycles) for each in loads), default=0)
    for waited, what in ((made_in, "T states"), (linked_in, "links")):
        if waited > cycles:
            cycles, slowed = waited, what
    rate = 0 if made is None else min(made, -(-summary.t_states * MILLION // cycles))
    return Demand(
        cycles=cycles,
        steps=steps,
        qubits=qubits,
        t_rate=rate,
        blocks=blocks,
        slowed=slowed,
        links=tuple(LinkRate(each.groups, _rate(each, cycles)) for each in loads),
    )


def _rate(load: Load, cycles: int) -> int:
    """No more than the link has, which is a whole number as well."""
    return min(pair_rate(load.cycles), math.ceil(load.raw_pairs * MILLION / cycles))


def earliest(
    now: int, free: int, ends: Iterable[tuple[int, int]], wants: Sequence[tuple[int, int]]
) -> int:
    """When the last of `wants` can start, none before those ahead of it.

    free: qubits that nobody holds. ends: (cycle, qubits that are given back then). wants: (qubits,
    cycles that they are held); each is no more than there is in all.
    """
    heap = list(ends)
    heapify(heap)
    for qubits, cycles in wants:
        while free < qubits and heap:  # else it waits for what no end gives back
            end, back = heappop(heap)
            now, free = max(now, end), free + back
        free -= qubits
        heappush(heap, (now + cycles, qubits))
    return now


@dataclass(slots=True, eq=False)
class Vacancy:
    """How much of something is free, and since which cycle: (since, how much), longest first."""

    spans: list[tuple[int, int]]

    @property
    def free(self) -> int:
        """All that is free."""
        return sum(amount for _, amount in self.spans)

    def take(self, amount: int) -> int:
        """Take what was free longest. Returns the cycle since which all of it is free."""
        since = 0
        while amount:
            since, free = self.spans[0]
            if free > amount:
                self.spans[0] = (since, free - amount)
                return since
            amount -= free
            del self.spans[0]
        return since

    def give(self, since: int, amount: int) -> None:
        """So much is free from that cycle on. Beyond SPANS_MAX the two oldest spans become one."""
        if amount:
            insort(self.spans, (since, amount))
        if len(self.spans) > SPANS_MAX:
            (_, older), (then, newer), *rest = self.spans
            self.spans = [(then, older + newer), *rest]
