"""Exact noisy evolution of few qubits: Pauli transfer matrices on a vector of Pauli expectations.

The state is the real tensor of all 4^n expectation values, shape (4,) * n, qubit 0 the last axis,
letters in the order I X Y Z. A gate with all its errors is one real matrix, kept for the next time.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.em.backends.backend import QubitFigures
from harness.em.backends.device import Device, Gate, Wait, kept, steps
from runtime.jit.circuit import Circuit
from runtime.jit.gates import GATES

QUBITS_MAX: Final = 8
STATES_KEPT: Final = 8

Real = NDArray[np.float64]

_PAULIS: Final = np.array(
    [[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]]
)
_PAIRS: Final = np.array([np.kron(b, a) for b in _PAULIS for a in _PAULIS])


def transfer(matrix: NDArray[np.complex128]) -> Real:
    """The Pauli transfer matrix of a unitary: R[i, j] = tr(P_i U P_j U+) / d.

    Of two qubits an index is 4 * letter of the second + letter of the first operand.
    """
    basis = _PAULIS if len(matrix) == 2 else _PAIRS
    moved = np.einsum("ab,jbc,dc->jad", matrix, basis, matrix.conj())
    return np.asarray(np.einsum("iab,jba->ij", basis, moved).real / len(matrix))


@lru_cache(maxsize=4096)
def _gate(name: str, radians: tuple[float, ...]) -> Real:
    return transfer(GATES[name].matrix(*radians))


def depolarising(number: int, chance: float) -> Real:
    """With this chance one of the other Paulis, alike."""
    size = 4**number
    found = np.full(size, 1 - chance * size / (size - 1))
    found[0] = 1
    return np.diag(found)


def relaxation(known: QubitFigures, seconds: float) -> Real:
    """T1 towards |0> and T2."""
    transverse, along = kept(known, seconds)
    found = np.diag([1, transverse, transverse, along])
    found[3, 0] = 1 - along
    return found


class Superoperators:
    """One machine's gates with their errors."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._gates: dict[Any, Real] = {}
        self._states: OrderedDict[Any, Real] = OrderedDict()

    def probabilities(self, circuit: Circuit) -> Real:
        """Of every outcome, readout errors included: shape (2^n,), bit 0 the lowest."""
        state = self._state(circuit)
        for qubit in range(circuit.width):
            known = self.device.figures.qubits[qubit]
            a, b = known.read_1_for_0, known.read_0_for_1
            # Rows: read 0 and 1; columns: I and Z, of which p0 is half the sum.
            read = np.array([[(1 - a) + b, (1 - a) - b], [a + (1 - b), a - (1 - b)]]) / 2
            state = _on_one(state, read, qubit, (0, 3))
        found = np.clip(state.reshape(-1), 0, None)
        return np.asarray(found / found.sum())

    def _state(self, circuit: Circuit) -> Real:
        """Circuits that differ in their last turns alone share what comes before."""
        gates = [each for each in circuit.operations if each.name != "measure"]
        cut = max((at + 1 for at, each in enumerate(gates) if len(each.qubits) > 1), default=0)
        walk = list(steps(circuit, self.device.figures))
        # Waits stand between gates, so the same number of gates is found again in the walk.
        places = [at for at, step in enumerate(walk) if isinstance(step, Gate)]
        split = places[cut - 1] + 1 if cut else 0
        key = (circuit.width, tuple(walk[:split]))
        state = self._states.get(key)
        if state is None:
            state = np.zeros((4,) * circuit.width)
            state[np.ix_(*([0, 3],) * circuit.width)] = 1
            for step in walk[:split]:
                state = self._applied(state, step)
            self._states[key] = state
            if len(self._states) > STATES_KEPT:
                self._states.popitem(last=False)
        for step in walk[split:]:
            state = self._applied(state, step)
        return state

    def _applied(self, state: Real, step: Gate | Wait) -> Real:
        if isinstance(step, Wait):
            known = self.device.figures.qubits[step.qubit]
            return _on_one(state, relaxation(known, step.seconds), step.qubit)
        qubits = step.operation.qubits
        key = (step.operation.name, step.operation.angles, qubits)
        matrix = self._gates.get(key)
        if matrix is None:
            matrix = self._gates[key] = self._noisy(step)
        return (
            _on_one(state, matrix, qubits[0])
            if len(qubits) == 1
            else _on_two(state, matrix, *qubits)
        )

    def _noisy(self, step: Gate) -> Real:
        """The gate, then what it turns too far, then a Pauli, then relaxation."""
        each, figures = step.operation, self.device.figures
        ideal = _gate(each.name, tuple(angle.radians for angle in each.angles))
        if step.seconds == 0:
            return ideal
        if len(each.qubits) == 1:
            known = figures.qubits[each.qubits[0]]
            far = _gate("rx", (self.device.turn_1q,))
            return np.asarray(
                relaxation(known, step.seconds) @ depolarising(1, known.error) @ far @ ideal
            )
        first, second = each.qubits
        # CNOT is made of a ZX pulse and CZ of a ZZ pulse: these go too far.
        pulse = GATES["rzx" if each.name == "cx" else "rzz"].matrix(self.device.turn_2q)
        wait = np.kron(
            relaxation(figures.qubits[second], step.seconds),
            relaxation(figures.qubits[first], step.seconds),
        )
        error = depolarising(2, figures.pair_error(first, second))
        return np.asarray(wait @ error @ transfer(pulse) @ ideal)


def _on_one(state: Real, matrix: Real, qubit: int, letters: tuple[int, ...] = ()) -> Real:
    """letters: of this axis, those that the matrix takes; all by default."""
    axis = state.ndim - 1 - qubit
    before = int(np.prod(state.shape[:axis], dtype=np.int64))
    flat = state.reshape(before, state.shape[axis], -1)
    taken = flat[:, list(letters)] if letters else flat
    shape = (*state.shape[:axis], len(matrix), *state.shape[axis + 1 :])
    return np.asarray(np.matmul(matrix, taken).reshape(shape))


def _on_two(state: Real, matrix: Real, first: int, second: int) -> Real:
    axes = [state.ndim - 1 - second, state.ndim - 1 - first]
    moved = np.tensordot(matrix.reshape(4, 4, 4, 4), state, axes=([2, 3], axes))
    return np.moveaxis(moved, (0, 1), axes)
