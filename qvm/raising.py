"""Larger codes for a machine that errs more often than it should: which, and what changes by them.

A program's text stays as it is: its summary and its lowered form are made anew with the larger
distances, so that its random words, and all but the errors, are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import msgspec

from qvm.profiles import Profile, at_distance
from qvm.program import Lowered, Summary
from syscalls.job import RaisedCode

RAISABLE: Final = "Surface"
"""Of the codes with a free distance the one whose errors fall with it at any usual strength."""
THRESHOLD: Final = 0.01


def least_distance(distance: int, p: float, drifted: float) -> float | None:
    """The distance from which on a surface code errs no more at `drifted` than one of `distance`
    does at `p`; None where no distance does.

    A logical qubit errs about 0.1 (p / 0.01)^((d + 1) / 2) times a cycle (Gidney and Ekera,
    arXiv:1905.09749, section 2.13).
    """
    if drifted >= THRESHOLD:
        return None
    return (distance + 1) * math.log(p / THRESHOLD) / math.log(drifted / THRESHOLD) - 1


def raised_summary(summary: Summary, raised: Iterable[RaisedCode]) -> Summary:
    """The summary of the same program with these codes; their blocks keep their order.

    `peak_physical` is that of all kinds of blocks at their most, at once.
    """
    wanted = {(each.code, each.distance): each.to for each in raised}
    profiles = tuple(_raised(each, wanted) for each in summary.profiles)
    sizes = {
        (old.code, old.distance): new
        for old, new in zip(summary.profiles, profiles, strict=True)
        if old != new
    }
    blocks = tuple(
        msgspec.structs.replace(
            each,
            distance=sizes[each.code, each.distance].distance,
            physical=sizes[each.code, each.distance].block_physical,
        )
        if (each.code, each.distance) in sizes
        else each
        for each in summary.blocks
    )
    return msgspec.structs.replace(
        summary,
        profiles=profiles,
        blocks=blocks,
        peak_physical=sum(each.physical * each.number for each in blocks),
    )


def raised_lowered(lowered: Lowered, raised: Iterable[RaisedCode]) -> Lowered:
    """The same steps on qubits of these codes."""
    wanted = {(each.code, each.distance): each.to for each in raised}
    profiles = {node: _raised(each, wanted) for node, each in lowered.alloc_profiles.items()}
    return msgspec.structs.replace(lowered, alloc_profiles=profiles)


def _raised(profile: Profile, wanted: dict[tuple[str, int], int]) -> Profile:
    to = wanted.get((profile.code, profile.distance))
    return profile if to is None else at_distance(profile, to)
