"""Closed forms against density matrices, and against the formulas of the papers."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.typing import NDArray

from qvm import pairs
from qvm.pairs import Pair

Matrix = NDArray[np.complex128]
PAULIS = [
    np.array(rows, dtype=complex)
    for rows in ([[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]])
]
PHI = np.array([1, 0, 0, 1], dtype=complex) / math.sqrt(2)
STATES = [np.kron(PAULIS[0], pauli) @ PHI for pauli in PAULIS]


def density(pair: Pair) -> Matrix:
    columns: Matrix = np.stack(STATES, axis=1)
    weighed: Matrix = (columns * np.array(pair.chances)).astype(np.complex128)
    found: Matrix = weighed @ columns.conj().T
    return found


def on(qubit: int, matrix: Matrix) -> Matrix:
    """The matrix on one of four qubits: kept A, kept B, spent A, spent B."""
    return reduce(np.kron, [matrix if each == qubit else PAULIS[0] for each in range(4)])


def cnot(control: int, target: int) -> Matrix:
    zero, one = np.diag([1, 0]).astype(complex), np.diag([0, 1]).astype(complex)
    return on(control, zero) + on(control, one) @ on(target, PAULIS[1])


def exact(kept: Pair, spent: Pair, turn: bool) -> tuple[float, list[float]]:
    """Success and final Bell weights from density matrices of four qubits."""
    state = np.kron(density(kept), density(spent))
    root = (PAULIS[0] - 1j * PAULIS[1]) / math.sqrt(2)
    circuit = np.eye(16, dtype=complex)
    if turn:
        for qubit in range(4):
            circuit = on(qubit, root if qubit % 2 == 0 else root.conj().T) @ circuit
    circuit = cnot(1, 3) @ cnot(0, 2) @ circuit
    state = circuit @ state @ circuit.conj().T
    agree = (np.eye(16) + on(2, PAULIS[3]) @ on(3, PAULIS[3])) / 2
    state = agree @ state @ agree
    success = float(np.trace(state).real)
    left = state.reshape(4, 4, 4, 4).trace(axis1=1, axis2=3) / success
    return success, [float((v.conj() @ left @ v).real) for v in STATES]


def a_pair() -> some.SearchStrategy[Pair]:
    weights = some.lists(some.floats(0.01, 1), min_size=4, max_size=4)
    return weights.map(lambda w: Pair(*(each / sum(w) for each in w)))


@given(kept=a_pair(), spent=a_pair())
def test_closed_forms_agree_with_density_matrices(kept: Pair, spent: Pair) -> None:
    success, found = exact(kept, spent, turn=True)
    ours = pairs.dejmps(kept, spent)
    assert ours.success == pytest.approx(success)
    assert ours.pair.chances == pytest.approx(found)
    success, found = exact(pairs.twirled(kept), pairs.twirled(spent), turn=False)
    ours = pairs.bbpssw(kept, spent)
    assert ours.success == pytest.approx(success)
    assert ours.pair.chances == pytest.approx(found)


def test_bbpssw_is_the_formula_of_its_paper() -> None:
    for fidelity in (0.55, 0.8, 0.95):
        rest = (1 - fidelity) / 3
        success = fidelity**2 + 2 * fidelity * rest + 5 * rest**2
        ours = pairs.bbpssw(pairs.werner(fidelity), pairs.werner(fidelity))
        assert ours.success == pytest.approx(success)
        assert ours.pair.fidelity == pytest.approx((fidelity**2 + rest**2) / success)


def test_dejmps_needs_fewer_pairs_than_bbpssw() -> None:
    ladders = [pairs.purify(pairs.werner(0.9), name, 0.9999) for name in ("DEJMPS", "BBPSSW")]
    assert all(ladders)
    assert ladders[0] is not None
    assert ladders[1] is not None
    assert ladders[0].raw_pairs < ladders[1].raw_pairs
    assert ladders[0].pair.fidelity >= 0.9999


def test_pairs_without_entanglement_cannot_be_purified() -> None:
    for name in pairs.PROTOCOLS:
        assert pairs.purify(pairs.werner(0.5), name, 0.9) is None
        assert pairs.purify(pairs.werner(0.25), name, 0.9) is None


def test_a_good_pair_costs_nothing_more() -> None:
    assert pairs.purify(pairs.werner(0.99), "BBPSSW", 0.99) == (pairs.werner(0.99), 0, 1.0)


def test_chances_that_are_none_are_refused() -> None:
    for chances in ((0.5, 0.5, 0.5, 0.5), (1.2, -0.2, 0, 0)):
        with pytest.raises(ValueError, match="probabilities"):
            Pair(*chances)
    with pytest.raises(ValueError, match="never accepted"):
        pairs.compared(Pair(1, 0, 0, 0), Pair(0, 1, 0, 0))
