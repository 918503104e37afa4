"""Logical noise by decoding in the loop: histories of syndromes are drawn and decoded as shots run.

The schedule is that of `coded.py`: who works and waits for how many rounds. What comes of it is not
looked up. A qubit's *life* lasts from a preparation or measurement to the next one. When it begins,
its whole history is drawn, every mechanism of the detector error model of a memory of as many
rounds, and decoded: once for X errors, by a memory in Z, and once for Z errors, by one in X,
independently. `qmkd/qec/histories.py` tells in which stretch of the life the decoder's residual
flipped the qubit, a stretch being what lies between two gates on it, and there the flip strikes,
just before the gate. So over a life of n rounds, measured at its end, a qubit errs exactly as a
memory of n rounds does, preparation and measurement among them, however many stretches there are.

What differs from `coded.py`, and from a device:
- The life after a measurement begins as a memory does, with a preparation. Of a program that
  measures the same qubit again and again, that is half a round less of errors for each time.
- A guarded preparation or measurement ends the life in all shots. Where it does not happen, the two
  lives together err for about a round less than one would.
- A life of more rounds than DETECTORS_MAX allows (2,048 at d = 3, 73 at d = 15) is drawn in pieces
  of about the same length; each seam errs for about a round less.
- Gates are not in the histories. What they err beyond their rounds is added as in `coded.py`.

All draws are ours (`chance.py`), one per mechanism, so the bits depend on the version of Stim that
finds the mechanisms and on that of the decoder, and on nothing else. Decoders have a speed: a
history in which a window of syndrome is heavier than they take is left undecoded, whatever that
does to the qubit; all else about speed is accounted for and changes no bit (`tally.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmkd.engine.coded import CodedNoise, Rates
from qmkd.engine.drawn import Drawn, check_model, described
from qmkd.engine.noise import PauliChannel, Told
from qmkd.engine.prepared import PAULIS, Unable
from qmkd.qec import noise
from qmkd.qec.codes import code as codes
from qmkd.qec.decoders import Packed, Undecodable
from qmkd.qec.histories import History
from qmkd.qec.measuring import CODES
from qvm.profiles import Profile
from qvm.program import Lowered, Step
from syscalls.decoding import AT_ONCE, DecoderSpeed

DETECTORS_MAX: Final = 1 << 14
"""Of one history: some 300,000 mechanisms, 300 MB, and ten seconds to make its decoder."""
DETECTORS_IN_ALL_MAX: Final = 1 << 16
"""Of the different histories of one program."""
HISTORIES_KEPT: Final = 16  # for other programs
SEEN_BY: Final[dict[str, codes.Basis]] = {"X": "Z", "Z": "X"}
"""In which basis a memory sees this error."""
MATTERS: Final = {"MEASURE_Z": "X", "MEASURE_X": "Z"}
"""Errors just before a measurement that change what it says."""


class _Stretch(NamedTuple):
    """It ends before `step`, when the life has lasted `end` rounds. letters: errors that matter."""

    end: int
    step: Step
    letters: str


class _Life:
    """A qubit from one preparation or measurement, `begun`, to the next."""

    def __init__(self, qubit: int, profile: Profile, begun: Step) -> None:
        self.qubit = qubit
        self.profile = profile
        self.begun = begun
        self.rounds = 0
        self.stretches: list[_Stretch] = []


class DecodedNoise(CodedNoise):
    """The residual errors of whatever codes one program asks for, decoded shot by shot.

    name: `decoded MODEL STRENGTH`. rates: for the rounds that operations take, and for what they
    err beyond these. speed: of the decoders. length: rounds of a shot. keeps: of each shot what
    decoders knew.

    Calls `poll` now and then while decoders are made, which may take seconds. Raises `Unable` where
    a code cannot be decoded here.
    """

    def __init__(
        self,
        name: str,
        lowered: Lowered,
        rates: Rates,
        model: str,
        strength: float,
        speed: DecoderSpeed = AT_ONCE,
        keeps: bool = False,
        poll: Callable[[], None] = lambda: None,
    ) -> None:
        check_model(model)
        self.length = 0
        self.keeps = keeps
        self._physical = (model, strength)
        self._speed = speed
        self._living: dict[int, _Life] = {}
        self._lives: list[_Life] = []
        self._begun: dict[int, list[tuple[Memories, int]]] = {}
        self._told: dict[int, list[Told]] = {}
        self._bits = 0
        self._different: set[Memories] = set()
        super().__init__(described(name, speed, keeps), lowered, rates)
        for life in self._lives:
            for letter in "XZ":
                self._find(life, letter, poll)

    def __repr__(self) -> str:
        """With what residual errors depend on beside Stim, so that snapshots name it."""
        return f"{self.name} by pymatching {version('pymatching')}"

    def begun(self, step: Step) -> tuple[tuple[Memories, int], ...]:
        return tuple(self._begun.get(id(step), ()))

    def told(self, step: Step) -> tuple[Told, ...]:
        return tuple(self._told.get(id(step), ()))

    # --- lives, as the schedule goes --------------------------------------------------------------

    def _memory(self, qubit: int, rounds: int) -> None:
        self._living[qubit].rounds += rounds
        self.length = max(self.length, self.clocks[qubit] + rounds)

    def _worked(self, step: Step, slowest: Profile) -> tuple[PauliChannel, ...]:
        """The operation comes first, then its rounds. Flips and Paulis pass each other."""
        if step.op not in PAULIS and step.op != "COND_PAULI":
            for qubit in step.qubits:
                self._ends_stretch(qubit, step, "XZ")
        return super()._worked(step, slowest)

    def _misread(self, step: Step, coded: Sequence[int]) -> tuple[PauliChannel, ...]:
        """Nothing is left to chance: the flip is told of before the measurement."""
        letters = MATTERS.get(step.op, "XZ") if step.guard is None else "XZ"
        for qubit in coded:
            self._lasts(qubit, step)
            self._ends_stretch(qubit, step, letters)
            self._begins(qubit, step)
        return ()

    def _prepared(self, step: Step) -> tuple[PauliChannel, ...]:
        for qubit in step.qubits:
            if self.profiles[qubit].code != "ideal":
                if step.guard is not None:
                    self._ends_stretch(qubit, step, "XZ")
                self._begins(qubit, step)
                self._lasts(qubit, step)
        return ()

    def _begins(self, qubit: int, step: Step) -> None:
        life = self._living[qubit] = _Life(qubit, self.profiles[qubit], step)
        self._lives.append(life)

    def _lasts(self, qubit: int, step: Step) -> None:
        rounds = self.rates.rounds(self.profiles[qubit], step.op)
        self.clocks[qubit] += rounds
        self.length = max(self.length, self.clocks[qubit])
        self._living[qubit].rounds += rounds

    def _ends_stretch(self, qubit: int, step: Step, letters: str) -> None:
        if self.profiles[qubit].code != "ideal":
            life = self._living[qubit]
            life.stretches.append(_Stretch(life.rounds, step, letters))

    # --- histories of lives that are over ---------------------------------------------------------

    def _find(self, life: _Life, letter: str, poll: Callable[[], None]) -> None:
        """Draw the errors of one kind, and tell of them where they matter."""
        stretches = [each for each in life.stretches if letter in each.letters and each.end]
        if not stretches:
            return
        first = 0
        bits: list[tuple[int, int]] = []  # (round up to which, bit)
        for length in _pieces(life):
            ends = {min(each.end - first, length) for each in stretches if each.end > first}
            ends.add(length)
            seen_by, told_at = SEEN_BY[letter], tuple(sorted(ends))
            of = _memories(life.profile, *self._physical, seen_by, told_at, self._speed)
            poll()
            self._differs(of)
            self._begun.setdefault(id(life.begun), []).append((of, self._bits))
            bits += [(first + end, self._bits + at) for at, end in enumerate(of.ends)]
            self._bits += of.bits
            first += length
        bits.reverse()
        for end, step, _ in stretches:
            said = []
            while bits and bits[-1][0] <= end:
                said.append(bits.pop()[1])
            if said:
                self._told.setdefault(id(step), []).append(Told(life.qubit, letter, tuple(said)))

    def _differs(self, of: Memories) -> None:
        self._different.add(of)
        whole = sum(each.detectors for each in self._different)
        if whole > DETECTORS_IN_ALL_MAX:
            raise Unable(
                "too much to decode: the histories of this program have more than "
                f"{DETECTORS_IN_ALL_MAX} detectors"
            )


def _pieces(life: _Life) -> list[int]:
    """Rounds of the memories as which a life is drawn: one, if it is not too long."""
    most = DETECTORS_MAX // len(_code_of(life.profile).stabilizers)
    if most < life.profile.distance:
        raise Unable(f"{life.profile.asked} is too large to decode: {most} rounds fit")
    count = -(-life.rounds // most)
    cuts = [life.rounds * at // count for at in range(count + 1)]
    return [late - early for early, late in itertools.pairwise(cuts)]


@lru_cache(maxsize=HISTORIES_KEPT)
def _code_of(profile: Profile) -> codes.Code:
    code = CODES[profile.code](profile.distance)
    if not code.matchable or code.k > 1:
        raise Unable(
            f"{profile.asked} cannot be decoded in the loop: its errors are no edges, or a block "
            "holds several qubits; `calibrated` has its rates"
        )
    return code


@lru_cache(maxsize=HISTORIES_KEPT)
def _memories(
    profile: Profile,
    model: str,
    strength: float,
    basis: codes.Basis,
    ends: tuple[int, ...],
    speed: DecoderSpeed,
) -> Memories:
    code = _code_of(profile)
    try:
        history = History(code, noise.PRESETS[model](strength), basis, ends)
    except Undecodable as problem:
        raise Unable(
            f"{profile.asked} under {model} noise cannot be decoded in the loop: {problem}"
        ) from problem
    return Memories(history, code.distance, speed)


class Memories(Drawn):
    """Memories of one kind. Of each stretch is found whether it flips the qubit; `ends` are the
    rounds in which they end. distance: by which decoders are given windows."""

    def __init__(self, history: History, distance: int, speed: DecoderSpeed) -> None:
        super().__init__(history, history.ends[-1], distance, speed)
        self.ends = history.ends
        self._history = history

    def gaps(self, detections: Packed) -> NDArray[np.float64]:
        """Of the whole memory."""
        return self._history.gaps(detections)
