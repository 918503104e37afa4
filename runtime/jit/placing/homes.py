"""In which module each qubit lies, from when on.

A static assignment is one row; one that changes has a row for each change. Nothing here judges.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from runtime.jit.placing.flow import End, Flow, Gate
from runtime.jit.placing.room import Room


class Homes(msgspec.Struct, frozen=True):
    """rows: of each qubit its module. starts: the operation from which each row holds; 0 first."""

    rows: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        assert len(self.rows) == len(self.starts)
        assert self.starts[0] == 0

    def row(self, at: int) -> int:
        """Which row holds for this operation."""
        return bisect_right(self.starts, at) - 1

    def stays(self) -> tuple[tuple[int, ...], ...]:
        """For each row and qubit, the first row since which it lies where it does."""
        found = [(0,) * len(self.rows[0])]
        for number, (before, row) in enumerate(pairwise(self.rows), start=1):
            found.append(
                tuple(
                    since if was == now else number
                    for since, was, now in zip(found[-1], before, row, strict=True)
                )
            )
        return tuple(found)

    def moves(self, room: Room) -> int:
        """Pairs that moving takes."""
        return sum(
            room.hops[was][now]
            for before, row in pairwise(self.rows)
            for was, now in zip(before, row, strict=True)
        )


class Option(msgspec.Struct, frozen=True, gc=False):
    """A copy of a qubit that could serve a gate: of which end, since which row it lies there, in
    which module it would be."""

    end: End
    stay: int
    module: int


def options(flow: Flow, homes: Homes) -> list[tuple[Gate, Option, Option]]:
    """Of each gate between two modules, the copies of either end that could serve it."""
    stays = homes.stays()
    found = []
    for gate in flow.gates:
        number = homes.row(gate.at)
        row, stay = homes.rows[number], stays[number]
        one, two = gate.ends
        here, there = row[one.qubit], row[two.qubit]
        if here != there:
            found.append(
                (
                    gate,
                    Option(one, stay[one.qubit], there),
                    Option(two, stay[two.qubit], here),
                )
            )
    return found


def in_order(weights: Sequence[int], slots: Sequence[int]) -> tuple[int, ...]:
    """Modules filled one after the other, in the order of qubits. weights: 1 for those that take a
    place, else 0. There has to be room."""
    row: list[int] = []
    module = taken = 0
    for weight in weights:
        while taken + weight > slots[module]:
            module, taken = module + 1, 0
        taken += weight
        row.append(module)
    return tuple(row)
