"""Logical noise of error-corrected qubits: what a code does to each operation and to waiting.

Every logical qubit has a clock that counts rounds of syndrome extraction. An operation takes the
rounds that its code needs for it; qubits that meet wait for each other, and at a fence all wait for
the last. Whoever works or waits for r rounds suffers r rounds of the errors that a memory of that
code suffers; some operations err beyond that. The rates come from a `Rates`, which measures or
extrapolates them (`qmkd/qec/calibration.py`); nothing here knows a code or a decoder.

A guarded operation takes its time in every shot, because the schedule is the same for all shots. So
what errs by time errs in every shot, and what errs beyond that errs only where it happens. A wrong
outcome is an error just before the measurement, so the qubit is left as the outcome says. Where a
guarded preparation or measurement does not happen, its round errs as one of an end does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from qmkd.engine.noise import PauliChannel
from qmkd.engine.prepared import PASSIVE
from qvm.profiles import Profile
from qvm.program import Lowered, Step

Flips = tuple[float, float]
"""Probabilities of a logical X error and of a logical Z error, independent of one another."""
MEASURES: Final = "MEASURE_"
PREPARES: Final = frozenset({"RESET", "INJECT_T_STATE"})
MAGIC: Final = frozenset({"APPLY_T", "APPLY_TDG", "INJECT_T_STATE"})


class Rates(Protocol):
    """What is known of codes under one physical noise."""

    def memory(self, profile: Profile) -> Flips:
        """Per logical qubit and round."""

    def rounds(self, profile: Profile, op: str) -> int:
        """Rounds that the operation takes."""

    def extra(self, profile: Profile, op: str) -> tuple[tuple[str, float], ...]:
        """Paulis on the operands, and their probabilities, beyond what its rounds cost."""

    def ends(self, profile: Profile) -> Flips:
        """In the first round of a qubit's life, and in the last, which ends in a measurement."""

    def magic(self, profile: Profile) -> float:
        """Probability that a T state that is consumed carries a Z error."""


class _Around(NamedTuple):
    """What surrounds a step."""

    before: tuple[PauliChannel, ...]
    after: tuple[PauliChannel, ...]


class CodedNoise:
    """The noise of whatever codes one program asks for; qubits of the ideal profile have none.

    name: as it is asked for; with the program, it says all that decides the rates. rounds: of each
    epoch that a fence ends, how many rounds it takes.
    """

    ideal = False

    def __init__(self, name: str, lowered: Lowered, rates: Rates) -> None:
        self.name = name
        self.rates = rates
        self.profiles: dict[int, Profile] = {}
        self.clocks: dict[int, int] = {}
        self.rounds: list[int] = []
        self._started = 0
        self._around = {id(step): self._schedule(step, lowered) for step in lowered.steps}
        self._steps = lowered.steps  # keeps the ids good

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CodedNoise) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name

    def before(self, step: Step) -> tuple[PauliChannel, ...]:
        return self._around[id(step)].before

    def after(self, step: Step) -> tuple[PauliChannel, ...]:
        return self._around[id(step)].after

    def flips(self, step: Step) -> float:
        """None: a wrong outcome is an error before the measurement."""
        return 0.0

    def _schedule(self, step: Step, lowered: Lowered) -> _Around:
        if step.op == "FENCE_EPOCH":
            return _Around(self._fence(), ())
        if step.op == "ALLOC_LQ":
            profile = lowered.alloc_profiles[step.node]
            for qubit in step.qubits:
                self.profiles[qubit] = profile
                self.clocks[qubit] = self._started
            return _Around((), self._prepared(step))
        coded = [qubit for qubit in step.qubits if self.profiles[qubit].code != "ideal"]
        if step.op in PASSIVE or not coded:
            return _Around((), ())
        return self._operate(step, coded)

    def _operate(self, step: Step, coded: Sequence[int]) -> _Around:
        """Wait for one another, work for as long as the slowest, err beyond that."""
        before = self._waited(coded, max(self.clocks[qubit] for qubit in coded))
        slowest = max((self.profiles[qubit] for qubit in coded), key=lambda p: self._takes(p, step))
        if step.op == "FREE_LQ":
            for qubit in step.qubits:
                del self.profiles[qubit], self.clocks[qubit]
            return _Around(before, ())
        if step.op.startswith(MEASURES):
            return _Around((*before, *self._misread(step, coded)), ())
        if step.op in PREPARES:
            return _Around(before, (*self._prepared(step), *self._magic(step, coded)))
        working = self._worked(step, slowest)
        return _Around(before, (*working, *self._erred(step, coded)))

    def _takes(self, profile: Profile, step: Step) -> int:
        return 0 if profile.code == "ideal" else self.rates.rounds(profile, step.op)

    def _worked(self, step: Step, slowest: Profile) -> tuple[PauliChannel, ...]:
        """Every coded operand spends the rounds of the operation."""
        rounds = self._takes(slowest, step)
        coded = [qubit for qubit in step.qubits if self.profiles[qubit].code != "ideal"]
        channels = [self._memory(qubit, rounds) for qubit in coded]
        for qubit in coded:
            self.clocks[qubit] += rounds
        return tuple(each for each in channels if each is not None)

    def _erred(self, step: Step, coded: Sequence[int]) -> tuple[PauliChannel, ...]:
        """What an operation errs beyond its rounds, by the code of its coded operands."""
        terms = self.rates.extra(self.profiles[coded[0]], step.op)
        alike = len({self.profiles[qubit] for qubit in step.qubits}) == 1
        extra = (PauliChannel(step.qubits, terms),) if terms and alike else ()
        return (*extra, *self._magic(step, coded))

    def _magic(self, step: Step, coded: Sequence[int]) -> tuple[PauliChannel, ...]:
        if step.op not in MAGIC:
            return ()
        rates = [(qubit, self.rates.magic(self.profiles[qubit])) for qubit in coded]
        return tuple(PauliChannel((qubit,), (("Z", rate),)) for qubit, rate in rates if rate)

    def _prepared(self, step: Step) -> tuple[PauliChannel, ...]:
        """The first round of each operand."""
        return self._ends(step, [at for at in step.qubits if self.profiles[at].code != "ideal"])

    def _ends(self, step: Step, coded: Sequence[int]) -> tuple[PauliChannel, ...]:
        channels = []
        for qubit in coded:
            profile = self.profiles[qubit]
            self.clocks[qubit] += self.rates.rounds(profile, step.op)
            channels.append(_channel(qubit, *self.rates.ends(profile)))
        return tuple(each for each in channels if each is not None)

    def _misread(self, step: Step, coded: Sequence[int]) -> tuple[PauliChannel, ...]:
        """The last round of each operand."""
        return self._ends(step, coded)

    def _waited(self, qubits: Sequence[int], until: int) -> tuple[PauliChannel, ...]:
        channels = [self._memory(qubit, until - self.clocks[qubit]) for qubit in qubits]
        for qubit in qubits:
            self.clocks[qubit] = until
        return tuple(each for each in channels if each is not None)

    def _fence(self) -> tuple[PauliChannel, ...]:
        """All wait for the last."""
        coded = [qubit for qubit, each in self.profiles.items() if each.code != "ideal"]
        until = max((self.clocks[qubit] for qubit in coded), default=self._started)
        self.rounds.append(until - self._started)
        self._started = until
        return self._waited(coded, until)

    def _memory(self, qubit: int, rounds: int) -> PauliChannel | None:
        """Errors of that many rounds. Flips that are alike compose to (1 - (1 - 2p)^n) / 2."""
        if not rounds:
            return None
        x, z = (flips_of(each, rounds) for each in self.rates.memory(self.profiles[qubit]))
        return _channel(qubit, x, z)


def _channel(qubit: int, x: float, z: float) -> PauliChannel | None:
    """Independent X and Z errors of time that passes."""
    terms = (("X", x * (1 - z)), ("Z", z * (1 - x)), ("Y", x * z))
    kept = tuple((letter, each) for letter, each in terms if each)
    return PauliChannel((qubit,), kept, always=True) if kept else None


def flips_of(probability: float, times: int) -> float:
    """Probability of an odd number of flips in `times` independent trials."""
    return (1 - (1 - 2 * probability) ** times) / 2
