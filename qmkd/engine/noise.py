"""The one way in which noise enters an engine: Pauli channels around steps, and readout flips.

A model says what happens to which qubits with which probability; engines turn that into bits with
the words of `chance.py`, so every engine applies the same errors to the same shots. What a model
asks for on a guarded step happens in the shots in which the guard holds. Models that stand for
real codes do not live here.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from qmkd.engine.chance import NOISE_DRAWS, ONE, Words, fraction
from qvm.program import Step


class PauliChannel(msgspec.Struct, frozen=True):
    """At most one of several Pauli products strikes.

    qubits: slots. terms: (one letter of I, X, Y, Z per qubit, probability); the probabilities add
    up to at most 1, and with what is left of 1 nothing happens.
    """

    qubits: tuple[int, ...]
    terms: tuple[tuple[str, float], ...]

    def thresholds(self) -> Words:
        """Cumulative probabilities in units of 2^-40, for `struck`."""
        total = np.cumsum([chance for _, chance in self.terms])
        whole: Words = np.rint(np.minimum(total, 1.0) * ONE).astype(np.uint64)
        return whole


def struck(thresholds: Words, words: Words) -> NDArray[np.intp]:
    """Which term each word picks, shape as `words`; `len(thresholds)` where none."""
    return np.asarray(np.searchsorted(thresholds, fraction(words), side="right"))


def flipped(probability: float, words: Words) -> NDArray[np.bool_]:
    """Where a readout flips, shape as `words`."""
    return np.asarray(fraction(words) < np.uint64(round(probability * ONE)))


class NoiseModel(Protocol):
    """What errors surround a step. Hashable: engines keep compiled programs by it.

    Draws of a step are numbered from NOISE_DRAW_FIRST: one per channel, those before the step
    first, then one per event for its readout flip.
    """

    @property
    def ideal(self) -> bool:
        """True where nothing ever happens, so that engines need not ask."""

    def before(self, step: Step) -> tuple[PauliChannel, ...]:
        """Channels that act just before the step."""

    def after(self, step: Step) -> tuple[PauliChannel, ...]:
        """Channels that act just after the step."""

    def flips(self, step: Step) -> float:
        """Probability that an outcome bit of this measurement is reported wrongly."""


class Ideal(msgspec.Struct, frozen=True):
    """No noise at all."""

    ideal: bool = True

    def before(self, step: Step) -> tuple[PauliChannel, ...]:
        return ()

    def after(self, step: Step) -> tuple[PauliChannel, ...]:
        return ()

    def flips(self, step: Step) -> float:
        return 0.0


IDEAL: Final = Ideal()

CHANNELS_PER_STEP_MAX: Final = NOISE_DRAWS - 2
assert CHANNELS_PER_STEP_MAX > 0
