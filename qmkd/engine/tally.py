"""What decoders did for some shots: counted history by history, reported once a run is over.

On its way through engines it is figures, which add up by name; `figures_of` makes of them what is
reported. Read `qmkd/qec/streams.py` for the accounting.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from qmkd.engine.noise import DECODING, Figures, add_figures
from qmkd.qec.decoders import Packed
from qmkd.qec.device import Device
from qmkd.qec.streams import Window, account, weights
from syscalls.decoding import WEIGHT_BUCKETS_MAX, DecoderFigures, DecoderSpeed

BUCKET: Final = DECODING + "weights "
"""With the number of the bucket behind it."""


class Tally:
    """What the decoders of one kind of history did. rounds: of each history."""

    def __init__(self, speed: DecoderSpeed, windows: tuple[Window, ...], rounds: int) -> None:
        self._device = device_of(speed)
        self._windows = windows
        self._arrives = tuple(each.arrives for each in windows)
        self._rounds = rounds
        self.figures: Figures = {}

    def weigh(self, detections: Packed) -> NDArray[np.bool_]:
        """Count what decoders are given, packed rows of shots. Returns where it is too much."""
        found = weights(self._windows, detections)
        done = account(self._device, found, self._arrives)
        heaviest = self._device.weight_max
        undecoded = found.max(axis=1) > heaviest if heaviest is not None else False
        failed: NDArray[np.bool_] = np.broadcast_to(undecoded, len(found))
        # Of 0, 1, 2 to 3, 4 to 7 and so on, the exponent that `frexp` gives is 0, 1, 2, 3.
        buckets = np.bincount(np.frexp(found)[1].ravel(), minlength=1)
        counted = dict(
            histories=len(found),
            calls=found.size,
            cycles=len(found) * self._rounds,
            failures=done.failures,
            undecoded=int(failed.sum()),
            busy_ns=done.busy_ns,
            stalled_ns=done.stalled_ns,
            overloads=done.overloads,
            backlog_most=done.backlog_most,
            reaction_ns_most=done.waited_ns_most,
            **{f"weights {at}": int(number) for at, number in enumerate(buckets) if number},
        )
        self._count(counted)
        return failed

    def judge(self, flips: NDArray[np.uint8]) -> None:
        """Count what they left: flips of each stretch, 0 or 1, shape (shots, stretches)."""
        self._count({"errors": int(np.bitwise_xor.reduce(flips, axis=1).sum())})

    def _count(self, counted: Figures) -> None:
        add_figures(self.figures, {DECODING + name: value for name, value in counted.items()})


def device_of(speed: DecoderSpeed) -> Device:
    """As the accounting takes it; whole nanoseconds, so that it is exact."""
    return Device(
        round_ns=speed.round_ns,
        window_ns=speed.window_ns,
        event_ns=speed.event_ns,
        weight_max=speed.weight_max,
        backlog_max=speed.backlog_max,
    )


def figures_of(notes: Figures, speed: DecoderSpeed, rounds: int) -> DecoderFigures:
    """What is reported, of all that was noted. rounds: of all shots together."""
    buckets = [notes.get(f"{BUCKET}{at}", 0) for at in range(WEIGHT_BUCKETS_MAX)]
    while buckets and not buckets[-1]:
        buckets.pop()
    names = (name for name in DecoderFigures.__struct_fields__ if DECODING + name in notes)
    stalled_ns = notes.get(DECODING + "stalled_ns", 0)
    return DecoderFigures(
        **{name: notes[DECODING + name] for name in names},
        syndrome_weights=buckets,
        machine_ns=rounds * speed.round_ns + stalled_ns,
    )
