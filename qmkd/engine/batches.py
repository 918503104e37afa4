"""Shots cut into batches that fit in memory, alike for every engine that runs many at once.

A batch runs all steps for its shots. No outcome depends on how shots are cut, so a batch that would
outgrow its memory is thrown away and a smaller one starts over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

from qmkd.engine.chance import Chance
from qmkd.engine.prepared import Poll, Prepared, Stop, Stopped

Action = tuple[Callable[..., None], tuple[Any, ...]]
"""A method of the engine's batch, and what it is called with besides the batch."""


class Where(NamedTuple):
    """Chance address of a node's draw, without the shot."""

    epoch: int
    node: int
    draw: int


class TooManyParts(Exception):
    """The shots of a batch differ in so many ways that what is held for each would not fit."""


class Form(Protocol):
    """A compiled program. parts_max: groups or branches that one batch may hold.

    batch_shots: shots at a time, lowered where they were too many.
    """

    actions: list[Action]
    parts_max: int
    batch_shots: int


class Batch(Protocol):
    """Shots under way. parts_peak: most groups or branches so far."""

    parts_peak: int


_B = TypeVar("_B", bound=Batch)
_F = TypeVar("_F", bound=Form)


def run_batches(
    program: Prepared,
    form: _F,
    make: Callable[[_F, Chance, int, int, Poll], _B],
    seed: int,
    shot_first: int,
    shots: int,
    stop: Stop,
    note: str,
) -> Iterator[_B]:
    """The shots [shot_first, shot_first + shots), batch by batch, each run to its end.

    note: the name in `program.notes` under which the most parts of a batch are left.
    Raises `Stopped` where `stop()` was true between batches or, now and then, between actions; a
    batch asks at its fences itself.
    """
    chance = Chance(seed)
    program.notes = {note: 1}
    first, end = shot_first, shot_first + shots
    while first < end:
        size = min(form.batch_shots, end - first)
        poll = Poll(stop)
        batch = make(form, chance, first, size, poll)
        try:
            for act, arguments in form.actions:
                act(batch, *arguments)
                poll()
        except TooManyParts:
            assert size > form.parts_max, "there are no more parts than shots"
            form.batch_shots = max(form.parts_max, size // 8)
            continue
        program.notes[note] = max(program.notes[note], batch.parts_peak)
        yield batch
        first += size
        if first < end and stop():
            raise Stopped(0)
