"""Any program of few qubits, by state vectors, with any guards.

Shots that have had the same outcomes so far share one vector, a *branch*; so the cost of a gate
grows with the number of different histories, not of shots. Everything that a guard can see is the
same within a branch. Random outcomes are drawn per shot, by the same words as in the other engines,
and split branches. Where an outcome is forgotten (RESET, FREE_LQ) the two halves are joined again
if they hold the same state.

Vectors are complex128, shape (2^slots, branches); slot i is bit i of the first index.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qmkd.engine.batches import Action, TooManyParts, Where, run_batches
from qmkd.engine.chance import ONE, Chance, Words, fraction, quantise
from qmkd.engine.layout import Packed, pack_rows
from qmkd.engine.limits import DENSE_QUBITS_MAX
from qmkd.engine.noise import NoiseModel, PauliChannel, flipped, struck
from qmkd.engine.prepared import (
    ABSENT,
    PASSIVE,
    Numbered,
    Poll,
    Prepared,
    Rows,
    Stop,
    Unable,
    numbered,
)
from qvm.isa import OPS
from qvm.program import LoweredGuard, Step

STATE_BYTES_MAX: Final = 64 << 20  # of all branches together; operations need a few times as much
BATCH_SHOTS: Final = 1 << 16
SAME: Final = 1e-12  # two states whose overlap is nearer to 1 than this are one

assert 16 << DENSE_QUBITS_MAX <= STATE_BYTES_MAX, "one branch of the widest program fits"

_Complexes = NDArray[np.complex128]
_Mask = NDArray[np.bool_]
_Numbers = NDArray[np.intp]
_Matrix = tuple[tuple[complex, complex], tuple[complex, complex]]


def run(
    program: Prepared, seed: int, shot_first: int, shots: int, noise: NoiseModel, stop: Stop
) -> Rows:
    """Run shots [shot_first, shot_first + shots).

    Raises `Unable` where the program is too wide, `Stopped` where `stop()` was true at a fence,
    between batches or some time between operations.
    """
    parts = [each.rows() for each in _batches(program, seed, shot_first, shots, noise, stop)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def run_packed(
    program: Prepared, seed: int, shot_first: int, shots: int, noise: NoiseModel, stop: Stop
) -> Packed:
    """As `run`, but the rows packed."""
    parts = [each.packed() for each in _batches(program, seed, shot_first, shots, noise, stop)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _batches(
    program: Prepared, seed: int, shot_first: int, shots: int, noise: NoiseModel, stop: Stop
) -> Iterator[_Batch]:
    form = program.form(_Form, noise)
    return run_batches(program, form, _Batch, seed, shot_first, shots, stop, "branches_peak")


class _Batch:
    """Shots under way.

    psi: the branches' vectors, each of norm 1. of: intp, shape (shots,), the branch of each shot.
    events: uint8, shape (events, branches).
    """

    def __init__(
        self, form: _Form, chance: Chance, shot_first: int, shots: int, poll: Poll
    ) -> None:
        self.form = form
        self.chance = chance
        self.shot_first = shot_first
        self.shots = shots
        self.poll = poll
        self.psi: _Complexes = np.zeros((1 << form.slots, 1), dtype=np.complex128)
        self.psi[0] = 1
        self.of = np.zeros(shots, dtype=np.intp)
        self.events: Rows = np.full((form.events, 1), ABSENT, dtype=np.uint8)
        self.parts_peak = 1

    def rows(self) -> Rows:
        """The events of all shots so far."""
        return np.ascontiguousarray(self.events.T)[self.of]

    def packed(self) -> Packed:
        """The same, packed."""
        return pack_rows(self.events.T, self.form.fields)[self.of]

    # --- branches ---------------------------------------------------------------------------------

    def truth(self, guard: LoweredGuard | None) -> _Mask | None:
        """In which branches the guard holds; None for all. An absent event equals no value."""
        if guard is None:
            return None
        event, wanted = guard.tests[0]
        whole: _Mask = self.events[event] == wanted
        for event, wanted in guard.tests[1:]:
            held = self.events[event] == wanted
            whole = whole | held if guard.any else whole & held
        return whole

    def split(self, choice: _Numbers, choices: int) -> tuple[_Numbers, _Numbers]:
        """Split branches by the choice (0 <= choice < choices) of each shot.

        Returns of each branch that there is now, in ascending order: its parent, its choice.
        """
        branches = self.psi.shape[1]
        code = self.of * choices + choice
        there = np.flatnonzero(np.bincount(code, minlength=branches * choices))
        if len(there) > self.form.parts_max:
            raise TooManyParts
        number = np.empty(branches * choices, dtype=np.intp)
        number[there] = np.arange(len(there))
        self.of = number[code]
        parents, chosen = np.divmod(there, choices)
        if len(there) != branches:
            self.psi = self.psi[:, parents]
            self.events = self.events[:, parents]
            self.parts_peak = max(self.parts_peak, len(there))
        return parents, chosen

    def halves(self, qubit: int) -> tuple[_Complexes, _Complexes]:
        """Views of the amplitudes with the qubit 0 and 1: shape (higher, lower, branches)."""
        view = self.psi.reshape(-1, 2, 1 << qubit, self.psi.shape[1])
        return view[:, 0], view[:, 1]

    def on_some(self, where: _Mask | None, act: Callable[..., None], *arguments: Any) -> None:
        """Do `act` to the vectors of the branches in `where`, and leave the others."""
        if where is None or where.all():
            act(*arguments)
        elif where.any():
            whole = self.psi
            self.psi = whole[:, where]
            act(*arguments)
            whole[:, where] = self.psi
            self.psi = whole

    def apply_matrix(self, qubit: int, matrix: _Matrix) -> None:
        (a, b), (c, d) = matrix
        zero, one = self.halves(qubit)
        if b == 0 and c == 0:
            if a != 1:
                zero *= a
            one *= d
            return
        kept = zero * c
        if a == 0 and d == 0:
            np.multiply(one, b, out=zero)
            one[...] = kept
        else:
            zero *= a
            zero += one * b
            one *= d
            one += kept

    def apply_pair(self, gate: str, one: int, two: int) -> None:
        """CX, CZ or SWAP."""
        high, low = max(one, two), min(one, two)
        view = self.psi.reshape(-1, 2, 1 << (high - 1 - low), 2, 1 << low, self.psi.shape[1])
        if gate == "CZ":
            view[:, 1, :, 1] *= -1
            return
        if gate == "SWAP":
            first, second = view[:, 0, :, 1], view[:, 1, :, 0]
        elif one == high:
            first, second = view[:, 1, :, 0], view[:, 1, :, 1]
        else:
            first, second = view[:, 0, :, 1], view[:, 1, :, 1]
        kept = first.copy()
        first[...] = second
        second[...] = kept

    def apply_paulis(self, letters: str, qubits: tuple[int, ...]) -> None:
        for letter, qubit in zip(letters, qubits, strict=True):
            if letter != "I":
                self.apply_matrix(qubit, _PAULIS[letter])

    def project(self, qubit: int, where: _Mask | None, at: Where) -> tuple[_Numbers, _Mask, _Mask]:
        """Measure Z of `qubit` in the branches of `where` (None for all), splitting them.

        Returns of each branch that there is now: its parent, its outcome, whether it was measured.
        """
        branches = self.psi.shape[1]
        weights = (self.psi.real**2 + self.psi.imag**2).reshape(-1, 2, 1 << qubit, branches)
        zeros, ones = weights.sum(axis=(0, 2))
        threshold = quantise(ones / (zeros + ones))
        if where is not None:
            threshold[~where] = 0
        parents = np.arange(branches)
        outcome: _Mask = threshold == ONE
        if not (outcome | (threshold == 0)).all():
            drawn = fraction(self.chance.words(*at, self.shot_first, self.shots))
            bits = drawn < (threshold[self.of] if branches > 1 else threshold[0])
            parents, chosen = self.split(bits.astype(np.intp), 2)
            outcome = chosen == 1
        measured = np.ones(len(parents), dtype=np.bool_) if where is None else where[parents]
        kept = np.where(outcome, ones[parents], zeros[parents])
        scale = 1 / np.sqrt(np.where(measured, kept, 1.0))
        zero, one = self.halves(qubit)
        zero *= np.where(measured & outcome, 0.0, scale)
        one *= np.where(measured & ~outcome, 0.0, scale)
        return parents, outcome, measured

    def join(self, parents: _Numbers) -> None:
        """Join branches that came from one parent and hold the same state, up to phase."""
        left = np.flatnonzero(parents[1:] == parents[:-1])
        if not len(left):
            return
        one, two = self.psi[:, left], self.psi[:, left + 1]
        overlap = np.sum(one.conj() * two, axis=0)
        size = np.abs(overlap)
        phase = np.where(size > 0.5, overlap / np.where(size > 0.5, size, 1), 1)
        same = np.abs(one * phase - two).max(axis=0) < SAME
        keep = np.ones(len(parents), dtype=np.bool_)
        keep[left[same] + 1] = False
        self.of = (np.cumsum(keep) - 1)[self.of]
        self.psi = self.psi[:, keep]
        self.events = self.events[:, keep]

    # --- actions ----------------------------------------------------------------------------------

    def matrix(self, qubit: int, matrix: _Matrix, guard: LoweredGuard | None) -> None:
        self.on_some(self.truth(guard), self.apply_matrix, qubit, matrix)

    def pair(self, gate: str, one: int, two: int, guard: LoweredGuard | None) -> None:
        self.on_some(self.truth(guard), self.apply_pair, gate, one, two)

    def cond_pauli(
        self,
        letters: str,
        qubits: tuple[int, ...],
        xor: tuple[int, ...],
        guard: LoweredGuard | None,
    ) -> None:
        where = self.truth(guard)
        if xor:
            odd: _Mask = np.bitwise_xor.reduce(self.events[list(xor)] == 1, axis=0)
            where = odd if where is None else odd & where
        self.on_some(where, self.apply_paulis, letters, qubits)

    def measure(
        self, step: Step, turn: _Matrix | None, at: Where, flip: float, flip_at: Where
    ) -> None:
        (qubit,), (event,) = step.qubits, step.events
        if turn is not None:
            self.apply_matrix(qubit, turn)
        _, outcome, measured = self.project(qubit, self.truth(step.guard), at)
        self.events[event, measured] = outcome[measured]
        if turn is not None:
            self.apply_matrix(qubit, _adjoint(turn))
        self.flip(event, 1, flip, flip_at)

    def bell(self, step: Step, at: Where, flip: float, flip_at: Where) -> None:
        one, two = step.qubits
        where = self.truth(step.guard)
        self.apply_pair("CX", one, two)
        self.apply_matrix(one, _HADAMARD)
        parents, m0, measured = self.project(one, where, at)
        where = None if where is None else measured
        parents, m1, measured = self.project(two, where, at._replace(draw=at.draw + 1))
        m0 = m0[parents]
        self.apply_matrix(one, _HADAMARD)
        self.apply_pair("CX", one, two)
        next_at = flip_at._replace(draw=flip_at.draw + 1)
        # Events are written before readout flips, which split branches further.
        if len(step.events) == 1:
            self.events[step.events[0], measured] = (2 * m0 + m1)[measured]
            self.flip(step.events[0], 2, flip, flip_at)
            self.flip(step.events[0], 1, flip, next_at)
        else:
            first, second = step.events
            self.events[first, measured] = m0[measured]
            self.events[second, measured] = m1[measured]
            self.flip(first, 1, flip, flip_at)
            self.flip(second, 1, flip, next_at)

    def flip(self, event: int, bit: int, probability: float, at: Where) -> None:
        """Report the bit wrongly, with that probability, where there is a report."""
        if probability:
            wrong = flipped(probability, self.chance.words(*at, self.shot_first, self.shots))
            ran = (self.events[event] != ABSENT)[self.of]
            _, chosen = self.split((wrong & ran).astype(np.intp), 2)
            self.events[event] ^= (bit * chosen).astype(np.uint8)

    def reset(self, step: Step, at: Where, matrix: _Matrix | None) -> None:
        """Measure away, put |0>, and then apply `matrix` if there is one."""
        for place, qubit in enumerate(step.qubits):
            where = self.truth(step.guard)
            where_at = at._replace(draw=at.draw + place)
            parents, outcome, measured = self.project(qubit, where, where_at)
            self.on_some(outcome & measured, self.apply_matrix, qubit, _PAULIS["X"])
            self.join(parents)
            if matrix is not None:
                self.on_some(self.truth(step.guard), self.apply_matrix, qubit, matrix)

    def fence(self, epoch: int) -> None:
        self.poll.fence(epoch)

    def noise(
        self, channel: PauliChannel, thresholds: Words, guard: LoweredGuard | None, at: Where
    ) -> None:
        where = self.truth(guard)
        term_of = struck(thresholds, self.chance.words(*at, self.shot_first, self.shots))
        terms = len(channel.terms)
        if where is not None:
            term_of[~where[self.of]] = terms
        _, chosen = self.split(term_of, terms + 1)
        for term, (letters, _) in enumerate(channel.terms):
            self.on_some(chosen == term, self.apply_paulis, letters, channel.qubits)


class _Form:
    """A program compiled for this engine under one noise model.

    parts_max: most vectors at once. batch_shots: shots at a time, lowered where they were too
    many.
    """

    def __init__(self, program: Prepared, noise: NoiseModel) -> None:
        lowered = program.lowered
        if lowered.slots > DENSE_QUBITS_MAX:
            raise Unable(f"{lowered.slots} qubits are more than {DENSE_QUBITS_MAX}")
        self.slots = lowered.slots
        self.fields = lowered.events
        self.events = len(lowered.events)
        self.parts_max = max(1, STATE_BYTES_MAX // max(16 << self.slots, self.events))
        self.batch_shots = BATCH_SHOTS
        self.actions: list[Action] = []
        for each in numbered(lowered, noise):
            self._noisy(each, each.before)
            if each.step.op not in PASSIVE:
                self.actions.append(_act(each))
            self._noisy(each, each.after)

    def _noisy(self, each: Numbered, channels: tuple[tuple[int, PauliChannel], ...]) -> None:
        step = each.step
        guard = None if step.op == "FENCE_EPOCH" else step.guard
        for draw, channel in channels:
            at = Where(step.epoch, step.node, draw)
            self.actions.append((_Batch.noise, (channel, channel.thresholds(), guard, at)))


def _act(each: Numbered) -> Action:
    step = each.step
    at = Where(step.epoch, step.node, each.draw)
    flip_at = Where(step.epoch, step.node, each.flip_draw)
    if step.op in _PAIRS:
        return _Batch.pair, (_PAIRS[step.op], *step.qubits, step.guard)
    if step.op in _TURNS:
        turn = _TURNS[step.op](step.angle)
        return _Batch.measure, (step, turn, at, each.flip, flip_at)
    if step.op in ("RESET", "FREE_LQ"):
        return _Batch.reset, (step, at, None)
    if step.op == "INJECT_T_STATE":
        return _Batch.reset, (step, at, _T_STATE)
    if step.op == "MEASURE_BELL":
        return _Batch.bell, (step, at, each.flip, flip_at)
    if step.op == "COND_PAULI":
        return _Batch.cond_pauli, (step.pauli, step.qubits, step.xor, step.guard)
    if step.op == "FENCE_EPOCH":
        return _Batch.fence, (step.epoch,)
    return _Batch.matrix, (step.qubits[0], _matrix(step), step.guard)


def _matrix(step: Step) -> _Matrix:
    if step.op in _AXES:
        cos, sin = math.cos(step.angle / 2), math.sin(step.angle / 2)
        (a, b), (c, d) = _PAULIS[_AXES[step.op]]
        return (cos - 1j * sin * a, -1j * sin * b), (-1j * sin * c, cos - 1j * sin * d)
    matrix = OPS[step.op].matrix
    if matrix is None:
        raise Unable(f"{step.op} has no matrix")
    (a, b), (c, d) = matrix
    return (a, b), (c, d)


def _adjoint(matrix: _Matrix) -> _Matrix:
    (a, b), (c, d) = matrix
    return (
        (complex(a).conjugate(), complex(c).conjugate()),
        (complex(b).conjugate(), complex(d).conjugate()),
    )


def _tilt(angle: float) -> _Matrix:
    """Turns cos(angle) Z + sin(angle) X into Z."""
    cos, sin = math.cos(angle / 2), math.sin(angle / 2)
    return (cos, sin), (-sin, cos)


_R: Final = math.sqrt(0.5)
_HADAMARD: Final[_Matrix] = ((_R, _R), (_R, -_R))
_PAULIS: Final[dict[str, _Matrix]] = {
    "I": ((1, 0), (0, 1)),
    "X": ((0, 1), (1, 0)),
    "Y": ((0, -1j), (1j, 0)),
    "Z": ((1, 0), (0, -1)),
}
_AXES: Final = {"APPLY_RX": "X", "APPLY_RY": "Y", "APPLY_RZ": "Z"}
_PAIRS: Final = {
    "APPLY_CNOT": "CX",
    "TELEPORT_CNOT": "CX",
    "APPLY_CZ": "CZ",
    "APPLY_SWAP": "SWAP",
}
_TURNS: Final[dict[str, Callable[[float], _Matrix | None]]] = {
    "MEASURE_Z": lambda angle: None,
    "MEASURE_X": lambda angle: _HADAMARD,
    "MEASURE_Y": lambda angle: ((_R, -1j * _R), (_R, 1j * _R)),
    "MEASURE_ANGLE": _tilt,
}
"""What turns the measured observable into Z."""
_T_STATE: Final[_Matrix] = ((_R, _R), (_R * complex(_R, _R), -_R * complex(_R, _R)))
"""Takes |0> to (|0> + exp(i pi/4)|1>) / sqrt(2): T after H."""
