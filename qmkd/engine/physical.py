"""Logical noise of a whole program, as one circuit of physical qubits that is drawn and decoded.

The schedule is that of `coded.py`: who works and waits for how many rounds. Patches are allocated,
go through transversal gates and rounds, and are measured, all in one noisy circuit, gates among the
rounds; `qmkd/qec/whole.py` writes it, and says which measured outcomes follow from earlier ones.
Paulis, whatever conditions them, are bookkeeping on outcomes and not in the circuit.

The engine runs the program as if it were ideal. A random outcome is a coin: whatever faults do to
it, it stays one. An outcome that follows from earlier ones comes out wrong where true flip and
decoder disagree; these bits are found for the whole program when it begins, and each strikes just
before its measurement, as an error that the basis sees. A measured patch is gone, and what is left
is what the outcome says, right or wrong; so nothing else of the program changes, and conditional
Paulis carry wrong outcomes on, as in a device.

What differs from `coded.py`:
- A qubit that is used again after a measurement, and not by RESET, is prepared anew as it was
  measured, which takes as long as a RESET.
- MEASURE_BELL is a CNOT, one round, and both patches measured; the qubits are not used again.
- SWAP exchanges the names of patches, and waits as long as it would take.

Errors of one program hang together, so a history here is the program, and its decoder sees all
patches. All draws are ours, as in `decoded.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qmkd.engine.coded import CodedNoise, Rates, _Around
from qmkd.engine.drawn import Drawn, check_model, described
from qmkd.engine.noise import PauliChannel, Told
from qmkd.engine.prepared import PASSIVE, PAULIS, Unable
from qmkd.qec import noise
from qmkd.qec.codes.code import Basis
from qmkd.qec.decoders import Undecodable
from qmkd.qec.logic import Action, What, determined
from qmkd.qec.measuring import CODES
from qmkd.qec.whole import OutOfReach
from qmkd.qec.whole_decoding import Program
from qvm.profiles import Profile
from qvm.program import Lowered, Step
from syscalls.decoding import AT_ONCE, DecoderSpeed

CODES_HERE: Final = ("Surface", "BaconShor")
DETECTORS_MAX: Final = 1 << 12
"""Of a program, about: some 80,000 mechanisms, and seconds to make its decoder."""
LAYERS: Final[dict[str, What]] = {
    "APPLY_H": "H",
    "APPLY_S": "S",
    "APPLY_SDG": "S",
    "APPLY_CNOT": "CX",
    "TELEPORT_CNOT": "CX",
    "APPLY_CZ": "CZ",
}
READS: Final[dict[str, tuple[Basis, ...]]] = {
    "MEASURE_Z": ("Z",),
    "MEASURE_X": ("X",),
    "MEASURE_BELL": ("X", "Z"),
}
"""Of each operand, the basis in which it is measured."""
FLIPS: Final[dict[Basis, str]] = {"Z": "X", "X": "Z"}
FRAME: Final = frozenset({*PAULIS, "COND_PAULI"})
"""Operations that are bookkeeping."""
UNTOUCHED: Final = (PASSIVE - {"ALLOC_LQ"}) | FRAME | {"FENCE_EPOCH"}
KNOWN: Final = FRAME | {*LAYERS, *READS, "APPLY_SWAP", "RESET", "FREE_LQ"}


class PhysicalNoise(CodedNoise):
    """What one program's circuit of physical qubits leaves wrong in its outcomes.

    name: `physical MODEL STRENGTH`. rates: for the rounds that operations take. speed: of the
    decoders. length: rounds of a shot. keeps: of each shot what decoders knew. actions: what is
    done to patches; acting: of each the step, and a qubit of it.

    Calls `poll` now and then while decoders are made, which may take seconds. Raises `Unable` where
    the program is out of reach.
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
        self._profiles: list[Profile] = []
        self._patch: dict[int, int] = {}
        self.actions: list[Action] = []
        self.acting: list[tuple[Step, int]] = []
        self._again = _used_again(lowered.steps)
        self._begun: dict[int, Programs] = {}
        self._told: dict[int, list[Told]] = {}
        super().__init__(described(name, speed, keeps), lowered, rates)
        if determined(self.actions):
            self._find(noise.PRESETS[model](strength), speed, poll)

    def __repr__(self) -> str:
        """With what residual errors depend on beside Stim, so that snapshots name it."""
        return f"{self.name} by pymatching {version('pymatching')}"

    def begun(self, step: Step) -> tuple[tuple[Programs, int], ...]:
        found = self._begun.get(id(step))
        return () if found is None else ((found, 0),)

    def told(self, step: Step) -> tuple[Told, ...]:
        return tuple(self._told.get(id(step), ()))

    # --- actions, as the schedule goes ------------------------------------------------------------

    def _act(self, step: Step, what: What, qubits: Sequence[int], basis: Basis = "Z") -> None:
        at = self.clocks[qubits[0]]
        patches = tuple(self._patch[qubit] for qubit in qubits)
        self.actions.append(Action(at, what, patches, basis))
        self.acting.append((step, qubits[0]))

    def _memory(self, qubit: int, rounds: int) -> None:
        self.length = max(self.length, self.clocks[qubit] + rounds)

    def _lasts(self, qubit: int, op: str) -> None:
        self.clocks[qubit] += self.rates.rounds(self.profiles[qubit], op)
        self.length = max(self.length, self.clocks[qubit])

    def _operate(self, step: Step, coded: Sequence[int]) -> _Around:
        _check(step, coded)
        if step.op == "FREE_LQ":
            self._waited(coded, max(self.clocks[qubit] for qubit in coded))
            for qubit in coded:
                self._act(step, "discard", [qubit])
        return super()._operate(step, coded)

    def _worked(self, step: Step, slowest: Profile) -> tuple[PauliChannel, ...]:
        if step.op == "APPLY_SWAP":
            one, two = step.qubits
            if self.profiles[one] != self.profiles[two]:
                raise Unable(f"{_named(step)} exchanges patches that are not alike")
            self._patch[one], self._patch[two] = self._patch[two], self._patch[one]
        elif step.op in LAYERS:
            for qubits in [step.qubits] if len(LAYERS[step.op]) == 2 else zip(step.qubits):
                self._act(step, LAYERS[step.op], qubits)
        return super()._worked(step, slowest)

    def _erred(self, step: Step, coded: Sequence[int]) -> tuple[PauliChannel, ...]:
        """Gates are in the circuit."""
        return ()

    def _misread(self, step: Step, coded: Sequence[int]) -> tuple[PauliChannel, ...]:
        if step.op == "MEASURE_BELL":
            self._act(step, "CX", coded)
        for qubit in coded:
            self._lasts(qubit, step.op)
        for qubit, basis in zip(coded, READS[step.op], strict=True):
            self._act(step, "measure", [qubit], basis)
            if (id(step), qubit) in self._again:
                if step.op == "MEASURE_BELL":
                    raise Unable(
                        f"{_named(step)} measures qubits that are used again without RESET"
                    )
                self._act(step, "prepare", [qubit], basis)
                self._lasts(qubit, "RESET")
        return ()

    def _prepared(self, step: Step) -> tuple[PauliChannel, ...]:
        for qubit in step.qubits:
            profile = self.profiles[qubit]
            if profile.code == "ideal":
                continue
            if profile.code not in CODES_HERE:
                raise Unable(
                    f"{_named(step)}: `physical` noise is of Surface and BaconShor patches, not of "
                    f"{profile.asked}"
                )
            if step.op == "ALLOC_LQ":
                self._patch[qubit] = len(self._profiles)
                self._profiles.append(profile)
            self._act(step, "prepare", [qubit])
            self._lasts(qubit, step.op)
        return ()

    # --- the whole --------------------------------------------------------------------------------

    def _find(self, model: noise.NoiseModel, speed: DecoderSpeed, poll: Callable[[], None]) -> None:
        """Draw and decode it, and tell of outcomes that come out wrong."""
        self._check_size()
        codes = [CODES[profile.code](profile.distance) for profile in self._profiles]
        try:
            program = Program(codes, self.actions, model, poll)
        except OutOfReach as out:
            step, _ = self.acting[out.place]
            raise Unable(f"{_named(step)}: {out}") from None
        except Undecodable as reason:
            raise Unable(f"this program cannot be decoded as one circuit: {reason}") from None
        distance = max(code.distance for code in codes)
        first, _ = self.acting[0]
        self._begun[id(first)] = Programs(program, self.length, distance, speed)
        for bit, place in enumerate(program.places):
            step, qubit = self.acting[place]
            letter = FLIPS[self.actions[place].basis]
            self._told.setdefault(id(step), []).append(Told(qubit, letter, (bit,)))

    def _check_size(self) -> None:
        """Every patch compares its checks in every round."""
        begun: dict[int, int] = {}
        detectors = 0
        for at, what, patches, _ in self.actions:
            for patch in patches:
                checks = len(
                    CODES[self._profiles[patch].code](self._profiles[patch].distance).stabilizers
                )
                if what != "prepare":
                    detectors += checks * (at - begun[patch])
                begun[patch] = at
        if detectors > DETECTORS_MAX:
            raise Unable(
                f"as one circuit this program has some {detectors} detectors; at most "
                f"{DETECTORS_MAX} are decoded at once, so that `physical` noise is for few patches"
            )


def _check(step: Step, coded: Sequence[int]) -> None:
    """Raises `Unable` where a step has no place in a circuit."""
    if step.op not in KNOWN:
        raise Unable(f"{_named(step)} is no transversal Clifford operation on patches")
    if step.op in FRAME:
        return
    if step.guard is not None:
        raise Unable(f"{_named(step)} is conditional, which only Paulis are in one circuit")
    if step.op not in ("RESET", "FREE_LQ") and len(coded) < len(step.qubits):
        raise Unable(f"{_named(step)} acts on a patch and on an ideal qubit")


def _named(step: Step) -> str:
    return f"{step.op} at node {step.node}"


def _used_again(steps: Sequence[Step]) -> frozenset[tuple[int, int]]:
    """Measurements, by id, and qubits that something happens to afterwards other than the end."""
    used: dict[int, bool] = {}
    found: set[tuple[int, int]] = set()
    for step in reversed(steps):
        if step.op in UNTOUCHED:
            continue
        for qubit in step.qubits:
            if step.op in READS and used.get(qubit):
                found.add((id(step), qubit))
            used[qubit] = step.op not in ("ALLOC_LQ", "FREE_LQ", "RESET")
    return frozenset(found)


class Programs(Drawn):
    """A program, shot by shot. Of each outcome that follows from others is found whether it comes
    out wrong."""

    def __init__(self, program: Program, length: int, distance: int, speed: DecoderSpeed) -> None:
        super().__init__(program, length, distance, speed)

    def judged(self, flips: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A decoder fails where any outcome comes out wrong."""
        failed: NDArray[np.uint8] = flips.max(axis=1, keepdims=True)
        return failed
