"""The one way in which noise enters an engine: Pauli channels around steps, and readout flips.

A model says what happens to which qubits with which probability; engines turn that into bits with
the words of `chance.py`, so every engine applies the same errors to the same shots. What a model
asks for on a guarded step happens in the shots in which the guard holds, unless it says otherwise.
Models that stand for real codes do not live here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import msgspec

from qmkd.engine.chance import NOISE_DRAWS, Strikes, Words, strikes
from qmkd.engine.rows import Where
from qmkd.engine.shot_data import ShotData
from qvm.program import Step


class PauliChannel(msgspec.Struct, frozen=True):
    """At most one of several Pauli products strikes.

    qubits: slots. terms: (one letter of I, X, Y, Z per qubit, probability); the probabilities add
    up to at most 1, and with what is left of 1 nothing happens. always: in every shot, whether or
    not the guard of its step holds, as errors of time that passes do.
    """

    qubits: tuple[int, ...]
    terms: tuple[tuple[str, float], ...]
    always: bool = False

    def strikes(self) -> Strikes | None:
        """Its terms as kinds of strikes; None where nothing ever happens."""
        return strikes(tuple(chance for _, chance in self.terms))


class NoiseModel(Protocol):
    """What errors surround a step. Hashable: engines keep compiled programs by it.

    Draws of a step are numbered from NOISE_DRAW_FIRST: one per channel, those before the step
    first, then one per outcome bit for its readout flip.
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


Figures = dict[str, int]
"""What was counted, by name; figures of different shots add up, but for those whose names end with
MOST: of these the most is kept."""
MOST: Final = "_most"
DECODING: Final = "decoding: "
"""Begins the names of what decoders did (`tally.py`)."""
SHOTS_FLIPPED: Final = "shots_flipped"
"""Count of the shots in which anything is found ahead, whether or not it matters later."""


def add_figures(total: Figures, more: Figures) -> None:
    """Add those of other shots."""
    for name, value in more.items():
        before = total.get(name, 0)
        total[name] = max(before, value) if name.endswith(MOST) else before + value


def figures_in(saved: Any) -> Figures:
    """Figures read back. Raises ValueError where they are none."""
    if not all(type(name) is str and type(value) is int for name, value in saved.items()):
        raise ValueError("figures are numbers by name")
    return dict(saved)


class Histories(Protocol):
    """Bits that are found together, ahead of the time at which they matter."""

    @property
    def bits(self) -> int:
        """How many."""

    @property
    def draws(self) -> int:
        """How many draws they take."""

    def find(
        self,
        seed: int,
        at: Where,
        shot_first: int,
        wanted: Words,
        poll: Callable[[], None],
        into: ShotData | None = None,
    ) -> tuple[Words, Figures]:
        """The bits of the shots of `wanted`, and nothing of others: uint64, shape (bits, words).

        at: the first draw. wanted: as rows are, its first shot being number shot_first. Calls
        `poll` every now and then. into: records of as many shots as there are, or fewer where the
        last are not wanted, to which is added what decoders knew.
        """


class Told(NamedTuple):
    """X or Z strikes the qubit where the parity of some bits, which are there already, is odd."""

    qubit: int
    letter: str
    bits: tuple[int, ...]


@runtime_checkable
class Remembering(NoiseModel, Protocol):
    """A noise model some of whose errors hang together over many steps, and are found ahead.

    Its bits are numbered from 0. Errors that are told strike in all shots, guard or no guard.
    """

    @property
    def keeps(self) -> bool:
        """Whether it is kept of each shot what decoders knew."""

    @property
    def length(self) -> int:
        """Rounds of syndrome extraction that a shot takes."""

    def begun(self, step: Step) -> tuple[tuple[Histories, int], ...]:
        """What is found just after the step, and the number of the first bit of each."""

    def told(self, step: Step) -> tuple[Told, ...]:
        """What strikes just before the step, and before its channels."""


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


class Uniform(msgspec.Struct, frozen=True):
    """Depolarizing after each operation on one or two qubits, X after a reset, readout flips.

    one, two: probability that some Pauli but the identity strikes, all equally likely. Allocation,
    fences, barriers and COND_PAULI are free of errors.
    """

    one: float
    two: float
    reset: float
    readout: float
    ideal: bool = False

    def before(self, step: Step) -> tuple[PauliChannel, ...]:
        return ()

    def after(self, step: Step) -> tuple[PauliChannel, ...]:
        if step.op in ("RESET", "INJECT_T_STATE"):
            return tuple(PauliChannel((qubit,), (("X", self.reset),)) for qubit in step.qubits)
        if step.op.startswith(("APPLY_", "TELEPORT_")):
            return (_depolarizing(step.qubits, self.one if len(step.qubits) == 1 else self.two),)
        return ()

    def flips(self, step: Step) -> float:
        return self.readout


def _depolarizing(qubits: tuple[int, ...], rate: float) -> PauliChannel:
    letters = _LETTERS[len(qubits)]
    return PauliChannel(qubits, tuple((each, rate / len(letters)) for each in letters))


_LETTERS: Final = {
    count: tuple(map("".join, itertools.product("IXYZ", repeat=count)))[1:] for count in (1, 2)
}

CHANNELS_PER_STEP_MAX: Final = NOISE_DRAWS - 3
assert CHANNELS_PER_STEP_MAX > 0, "and two readout flips"
