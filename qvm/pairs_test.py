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


def purified(raw: pairs.Pair, protocol: str, fidelity: float) -> pairs.Ladder | None:
    """What it takes to make so good a pair."""
    found = pairs.cheapest(pairs.purifications(raw, protocols=(protocol,)), fidelity)
    return None if found is None else found.ladder


def test_dejmps_needs_fewer_pairs_than_bbpssw() -> None:
    dejmps, bbpssw = (purified(pairs.werner(0.9), name, 0.99) for name in ("DEJMPS", "BBPSSW"))
    assert dejmps is not None
    assert bbpssw is not None
    assert dejmps.raw_pairs < bbpssw.raw_pairs
    assert dejmps.pair.fidelity >= 0.99


def test_pairs_without_entanglement_cannot_be_purified() -> None:
    for name in pairs.PROTOCOLS:
        assert purified(pairs.werner(0.5), name, 0.9) is None
        assert purified(pairs.werner(0.25), name, 0.9) is None


def test_a_good_pair_costs_nothing_more() -> None:
    assert purified(pairs.werner(0.99), "BBPSSW", 0.99) == (pairs.werner(0.99), 0, 1.0)


def test_chances_that_are_none_are_refused() -> None:
    for chances in ((0.5, 0.5, 0.5, 0.5), (1.2, -0.2, 0, 0)):
        with pytest.raises(ValueError, match="probabilities"):
            Pair(*chances)
    with pytest.raises(ValueError, match="never accepted"):
        pairs.compared(Pair(1, 0, 0, 0), Pair(0, 1, 0, 0))


def kept_apart(state: Matrix, cycles: float, lifetime: float) -> Matrix:
    """Both halves in memories of twice that lifetime each, by Kraus operators on 4x4 matrices."""
    kept = math.exp(-cycles / (2 * lifetime))
    weights = [(1 + 3 * kept) / 4, *[(1 - kept) / 4] * 3]
    for halves in [(p, PAULIS[0]) for p in PAULIS], [(PAULIS[0], p) for p in PAULIS]:
        sums = np.zeros((4, 4), dtype=np.complex128)
        for weight, (one, two) in zip(weights, halves, strict=True):
            error = np.kron(one, two)
            sums += weight * error @ state @ error.conj().T
        state = sums
    return state


@given(pair=a_pair(), age=some.floats(0, 500), lifetime=some.floats(1, 1000))
def test_a_stored_pair_decays_as_both_its_halves_do_in_depolarising_memories(
    pair: Pair, age: float, lifetime: float
) -> None:
    state = kept_apart(density(pair), age, lifetime)
    expected = [float((v.conj() @ state @ v).real) for v in STATES]
    assert pairs.stored(pair, age, lifetime).chances == pytest.approx(expected)


def test_a_memory_without_a_lifetime_keeps_a_pair() -> None:
    assert pairs.stored(pairs.werner(0.9), 1e9, None) == pairs.werner(0.9)
    assert pairs.stored(pairs.werner(0.9), 1e9, 1.0).fidelity == pytest.approx(0.25)


def test_two_rounds_are_two_rounds_of_density_matrices() -> None:
    for protocol, turn in (("DEJMPS", True), ("BBPSSW", False)):
        pair, cost = pairs.werner(0.9), 1.0
        for ladder in list(pairs.ladders(pairs.werner(0.9), protocol))[:4]:
            assert ladder.pair.chances == pytest.approx(pair.chances)
            assert ladder.raw_pairs == pytest.approx(cost)
            assert ladder.cycles(7.0) == pytest.approx(7 * cost)
            start = pair if turn else pairs.twirled(pair)
            success, weights = exact(start, start, turn)
            pair, cost = Pair(*weights), 2 * cost / success


@pytest.mark.parametrize("protocol", list(pairs.PROTOCOLS))
@pytest.mark.parametrize(
    ("raw", "success", "fidelity"), [(0.8, 0.769, 0.838), (0.95, 0.936, 0.965)]
)
def test_one_round_gives_the_figures_of_the_table_in_the_documents(
    protocol: str, raw: float, success: float, fidelity: float
) -> None:
    """Of docs/validation.md."""
    found = pairs.PROTOCOLS[protocol](pairs.werner(raw), pairs.werner(raw))
    assert (round(found.success, 3), round(found.pair.fidelity, 3)) == (success, fidelity)


@given(
    raw=some.floats(0.3, 0.999),
    asked=some.floats(0.3, 0.99999),
    age=some.floats(0, 100),
    lifetime=some.none() | some.floats(10, 1e6),
)
def test_the_cheapest_way_is_good_enough_and_no_cheaper_one_is(
    raw: float, asked: float, age: float, lifetime: float | None
) -> None:
    ways = pairs.purifications(pairs.werner(raw), age, lifetime)
    found = pairs.cheapest(ways, asked)
    reachable = pairs.best(ways).used.fidelity
    assert (found is not None) == (reachable >= asked)
    for way in ways:
        assert way.ladder.raw_pairs <= pairs.RAW_PAIRS_MAX
        assert way.used.fidelity <= reachable
        assert (way.protocol == pairs.RAW) == (way.ladder.rounds == 0)
        if found is not None and way.ladder.raw_pairs < found.ladder.raw_pairs:
            assert way.used.fidelity < asked
    assert found is None or found.used.fidelity >= asked


def test_a_pair_that_waits_is_purified_more() -> None:
    fresh, old = (
        pairs.cheapest(pairs.purifications(pairs.werner(0.97), age, 10_000.0), 0.999)
        for age in (0, 5)
    )
    assert fresh is not None
    assert old is not None
    assert (fresh.ladder.rounds, old.ladder.rounds) == (2, 3)
    assert pairs.cheapest(pairs.purifications(pairs.werner(0.97), 50, 10_000.0), 0.999) is None
