"""Exact probabilities of all rows of events, without drawing anything, for small programs.

What can happen is followed in all its ways. A *record* is one assignment of values to events so
far; it owns a few vectors over all qubits, not normalised, whose outer products add up to its
density matrix, and whose weights add up to its probability. A measurement splits records. What is
forgotten, by a reset, a channel or a wrong report, leaves more vectors; where these get many, they
are replaced by the fewest that say the same, so that a record on k qubits never owns much more than
2^k. Sampling engines are elsewhere; `batch.py` is the way to them.

Vectors are complex128, slot i being bit i of the index.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from qmkd.engine.chance import Strikes
from qmkd.engine.limits import EXACT_AMPLITUDES_MAX, EXACT_QUBITS_MAX, EXACT_ROWS_MAX
from qmkd.engine.noise import NoiseModel
from qmkd.engine.prepared import Poll, Prepared, Stop, Unable
from qmkd.engine.primitives import (
    Fence,
    Flip,
    Gate,
    Guard,
    History,
    Measure,
    Noise,
    Pauli,
    Primitive,
    Ran,
    Reset,
    primitives,
    supports,
)
from qmkd.engine.vectors import MATRICES, Matrix, rotation

WEIGHT_MIN: Final = 1e-17  # a vector of less weight is left out
TOTAL_TOLERANCE: Final = 1e-9  # how far the sum of all probabilities may be from 1

_Vectors = NDArray[np.complex128]
_Mask = NDArray[np.bool_]
_Numbers = NDArray[np.intp]


class TooLarge(Unable):
    """Following this program in all its ways takes more than there is; a sampling engine may do.

    what: "qubits", "amplitudes" or "rows". needed, most: how many of them.
    """

    def __init__(self, what: str, needed: int, most: int) -> None:
        super().__init__(f"exact probabilities take {needed} {what}, and {most} are the most")
        self.what, self.needed, self.most = what, needed, most


class Exact(msgspec.Struct, frozen=True):
    """probabilities: keyed as counts are on the wire, one character per event in the order of
    `Lowered.events`, `-` where it is absent. Sorted by key; they sum to 1 up to rounding."""

    probabilities: dict[str, float]


def exact(program: Prepared, noise: NoiseModel, stop: Stop = lambda: False) -> Exact:
    """The distribution that the rows of any engine are drawn from.

    Raises `TooLarge`, and `Stopped` where `stop()` was true.
    """
    lowered = program.lowered
    if lowered.slots > EXACT_QUBITS_MAX:
        raise TooLarge("qubits", lowered.slots, EXACT_QUBITS_MAX)
    ways, poll = _Ways(lowered.slots, len(lowered.events)), Poll(stop)
    for each in primitives(lowered, noise):
        ways.follow(each)
        poll()
    return Exact(ways.probabilities())


class _Ways:
    """All records at one point of the program.

    values: uint8, shape (records, events): 0..3. ran: bool, the same shape. vectors: shape
    (vectors, 2^qubits). of: the record of each vector. few: how many vectors there were when they
    were fewest.
    """

    def __init__(self, qubits: int, events: int) -> None:
        self.qubits = qubits
        self.values = np.zeros((1, events), dtype=np.uint8)
        self.ran = np.zeros((1, events), dtype=np.bool_)
        self.vectors: _Vectors = np.zeros((1, 1 << qubits), dtype=np.complex128)
        self.vectors[0, 0] = 1
        self.of: _Numbers = np.zeros(1, dtype=np.intp)
        self.few = 1

    def follow(self, each: Primitive) -> None:
        match each:
            case Gate():
                here = self._at(each.guard)
                self.vectors[here] = self._gated(each, self.vectors[here])
            case Pauli():
                here = self._at(each.guard, each.xor)
                self.vectors[here] = self._paulied(self.vectors[here], each.xs, each.zs)
            case Measure():
                self._measure(each)
            case Ran():
                self.ran[self._holds(each.guard), each.event] = True
            case Flip():
                self._flip(each)
            case Reset():
                zero, one = self._halves(self.vectors[self._at(each.guard)], each.qubits[0])
                self._mix(each.guard, [zero, self._paulied(one, each.qubits, ())])
            case Noise():
                self._strike(each)
            case History():
                raise Unable("errors that decoders leave have no exact probabilities; draw shots")
            case Fence():
                pass

    def probabilities(self) -> dict[str, float]:
        self._unite()
        weight = np.zeros(len(self.values))
        np.add.at(weight, self.of, _weights(self.vectors))
        assert abs(weight.sum() - 1) < TOTAL_TOLERANCE, f"they add up to {weight.sum()}"
        characters = np.where(self.ran, self.values + ord("0"), ord("-")).astype(np.uint8)
        keys = [row.tobytes().decode("ascii") for row in characters]
        assert len(set(keys)) == len(keys), "records are distinct"
        return dict(sorted(zip(keys, weight.tolist(), strict=True)))

    # --- guards -----------------------------------------------------------------------------------

    def _holds(self, guard: Guard, xor: tuple[int, ...] = ()) -> _Mask:
        """In which records. An absent event equals no value and counts as 0."""
        whole: _Mask = np.ones(len(self.values), dtype=np.bool_)
        if guard is not None:
            tests = [
                self.ran[:, event] & (self.values[:, event] == wanted)
                for event, wanted in guard.tests
            ]
            join = np.logical_or if guard.any else np.logical_and
            whole = join.reduce(tests)
        if xor:
            told = self.values[:, xor] * self.ran[:, xor]
            whole = whole & (np.bitwise_xor.reduce(told, axis=1) & 1 == 1)
        return whole

    def _at(self, guard: Guard, xor: tuple[int, ...] = ()) -> _Mask:
        """The same, of vectors."""
        return self._holds(guard, xor)[self.of]

    # --- gates ------------------------------------------------------------------------------------

    def _gated(self, gate: Gate, vectors: _Vectors) -> _Vectors:
        index = np.arange(1 << self.qubits)
        if len(gate.qubits) == 2:
            one, two = (index >> qubit & 1 for qubit in gate.qubits)
            if gate.name == "CZ":
                return vectors * (1 - 2 * (one & two))
            turned = one if gate.name == "CX" else one ^ two
            source = index ^ turned << gate.qubits[1]
            if gate.name == "SWAP":
                source ^= turned << gate.qubits[0]
            return vectors[:, source]
        a, b, c, d = _matrix(gate)
        (qubit,) = gate.qubits
        bit, other = index >> qubit & 1, vectors[:, index ^ 1 << qubit]
        return np.where(bit == 0, a, d) * vectors + np.where(bit == 0, b, c) * other

    def _paulied(self, vectors: _Vectors, xs: tuple[int, ...], zs: tuple[int, ...]) -> _Vectors:
        """Up to phase."""
        index = np.arange(1 << self.qubits)
        parity = np.bitwise_count(index & sum(1 << qubit for qubit in zs)) & 1
        whole: _Vectors = vectors * (1 - 2.0 * parity)
        return whole[:, index ^ sum(1 << qubit for qubit in xs)]

    def _halves(self, vectors: _Vectors, qubit: int) -> tuple[_Vectors, _Vectors]:
        bit = np.arange(1 << self.qubits) >> qubit & 1
        return vectors * (1 - bit), vectors * bit

    # --- ways part --------------------------------------------------------------------------------

    def _measure(self, each: Measure) -> None:
        """Records part by the outcome; the new ones have 1."""
        measured, here = self._holds(each.guard), self._at(each.guard)
        zero, one = self._halves(self.vectors[here], each.qubits[0])
        self._room(len(one))
        number = np.cumsum(measured) - 1 + len(self.values)
        values = self.values[measured]
        values[:, each.event] |= 1 << each.bit
        self.values = np.concatenate([self.values, values])
        self.ran = np.concatenate([self.ran, self.ran[measured]])
        self.vectors[here] = zero
        self.vectors = np.concatenate([self.vectors, one])
        self.of = np.concatenate([self.of, number[self.of[here]]])
        self._clear()

    def _flip(self, each: Flip) -> None:
        """Wrong reports may make records the same."""
        chance = _chances(each.of)[0]
        wrong, here = self._holds(each.guard), self._at(each.guard)
        self._room(int(here.sum()))
        number = np.cumsum(wrong) - 1 + len(self.values)
        values = self.values[wrong]
        values[:, each.event] ^= 1 << each.bit
        self.values = np.concatenate([self.values, values])
        self.ran = np.concatenate([self.ran, self.ran[wrong]])
        moved = self.vectors[here] * np.sqrt(chance)
        self.vectors[here] *= np.sqrt(1 - chance)
        self.vectors = np.concatenate([self.vectors, moved])
        self.of = np.concatenate([self.of, number[self.of[here]]])
        self._unite()

    def _strike(self, each: Noise) -> None:
        chances = _chances(each.of)
        vectors = self.vectors[self._at(each.guard)]
        struck = [
            np.sqrt(chance) * self._paulied(vectors, xs, zs)
            for chance, (xs, zs) in zip(chances, supports(each.qubits, each.kinds), strict=True)
        ]
        self._mix(each.guard, [vectors * np.sqrt(max(0.0, 1 - sum(chances))), *struck])

    def _mix(self, guard: Guard, parts: list[_Vectors]) -> None:
        """Vectors of the records where the guard holds become several, in the same records."""
        here = self._at(guard)
        self._room((len(parts) - 1) * len(parts[0]))
        self.vectors = np.concatenate([self.vectors[~here], *parts])
        self.of = np.concatenate([self.of[~here], *[self.of[here]] * len(parts)])
        self._clear()
        if len(self.vectors) > 2 * self.few:
            self._fewest()

    def _room(self, more: int) -> None:
        needed = (len(self.vectors) + more) << self.qubits
        if needed > EXACT_AMPLITUDES_MAX:
            raise TooLarge("amplitudes", needed, EXACT_AMPLITUDES_MAX)

    # --- ways meet --------------------------------------------------------------------------------

    def _clear(self) -> None:
        """Leave out vectors of no weight, and records without vectors."""
        kept = _weights(self.vectors) > WEIGHT_MIN
        self.vectors, self.of = self.vectors[kept], self.of[kept]
        there, self.of = np.unique(self.of, return_inverse=True)
        self.values, self.ran = self.values[there], self.ran[there]
        if len(self.values) > EXACT_ROWS_MAX:
            raise TooLarge("rows", len(self.values), EXACT_ROWS_MAX)

    def _unite(self) -> None:
        """Records that are the same become one."""
        self._clear()
        whole = np.concatenate([self.values, self.ran, np.ones((len(self.ran), 1))], axis=1)
        _, first, record = np.unique(whole, axis=0, return_index=True, return_inverse=True)
        self.values, self.ran = self.values[first], self.ran[first]
        self.of = record[self.of]
        self._fewest()

    def _fewest(self) -> None:
        """Each record owns as few vectors as its density matrix has rank."""
        order = np.argsort(self.of, kind="stable")
        starts = np.flatnonzero(np.diff(self.of[order])) + 1
        owned = [_fewest(each) for each in np.split(self.vectors[order], starts)]
        self.of = np.repeat(np.arange(len(owned)), [len(each) for each in owned])
        self.vectors = np.concatenate(owned)
        self.few = len(self.vectors)


def _fewest(vectors: _Vectors) -> _Vectors:
    """Eigenvectors of the same density matrix; of the smaller one of it and the Gram matrix."""
    count, size = vectors.shape
    if count == 1:
        return vectors
    if count <= size:
        values, turns = np.linalg.eigh(vectors.conj() @ vectors.T)
        found = turns.T @ vectors
    else:
        values, columns = np.linalg.eigh(vectors.T @ vectors.conj())
        found = columns.T * np.sqrt(np.maximum(values, 0))[:, None]
    return found[values > WEIGHT_MIN]


def _weights(vectors: _Vectors) -> NDArray[np.float64]:
    weights: NDArray[np.float64] = (vectors.real**2 + vectors.imag**2).sum(axis=1)
    return weights


def _matrix(gate: Gate) -> Matrix:
    if gate.name in MATRICES:
        return MATRICES[gate.name]
    return rotation(gate.name[1], gate.angle)


def _chances(of: Strikes) -> list[float]:
    """Of each kind: strikes are told by tables in units of 2^-64."""
    whole = 1 - int(of.gaps[0]) / 2**64
    ends = [*(int(bound) / 2**64 for bound in of.bounds), 1.0]
    return [whole * (end - begin) for begin, end in zip([0.0, *ends], ends, strict=False)]
