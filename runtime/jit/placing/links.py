"""When the pairs of a plan are there, and how long a shot waits for them.

A link makes one pair after the other, in the order in which the program wants them, and keeps no
more than `KEPT` that nobody has consumed: what an open channel has. A program that waits for one
pair stands still. The kernel reckons from below, as if pairs were made at any time of the shot
(`qvm/cycles.py`); what is found here is never less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

KEPT: Final = 1


class Wanted(NamedTuple):
    """A pair: in which cycle it is consumed if nothing is waited for, the link, by the numbers of
    its modules, and for how many cycles it keeps that link busy."""

    due: int
    link: tuple[int, int]
    cycles: float


def waits(wanted: Sequence[Wanted], kept: int = KEPT) -> dict[tuple[int, int], float]:
    """The cycles that a shot waits for each link, pairs being wanted in this order."""
    assert kept >= 1
    found: dict[tuple[int, int], float] = {each.link: 0.0 for each in wanted}
    taken: dict[tuple[int, int], list[float]] = {link: [] for link in found}
    ready = dict.fromkeys(found, 0.0)
    delay = 0.0
    for each in sorted(wanted, key=lambda one: one.due):
        before = taken[each.link]
        room = before[-kept] if len(before) >= kept else 0.0
        ready[each.link] = max(ready[each.link], room) + each.cycles
        now = max(each.due + delay, ready[each.link])
        found[each.link] += now - (each.due + delay)
        delay = now - each.due
        before.append(now)
    return found
