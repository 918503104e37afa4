"""Circuits on vectors against plain NumPy, gate by gate."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from qmkd.engine import vectors
from qmkd.engine.vectors import CX, CZ, GENERAL, Gate, Matrix, Vectors, compiled, doubles

NEAR = 1e-12

Amplitudes = NDArray[np.complex128]


def amplitudes(psi: NDArray[np.float64], width: int) -> Amplitudes:
    """Of one vector, in the order of their indices."""
    blocks = psi.reshape(-1, 2, 8)
    whole: Amplitudes = (blocks[:, 0] + 1j * blocks[:, 1]).reshape(-1)
    assert not whole[1 << width :].any(), "beyond the qubits there is nothing"
    return whole[: 1 << width]


def random_vectors(rng: np.random.Generator, branches: int, width: int) -> Vectors:
    found = Vectors()
    found.width = width
    found.psi = vectors.aligned(branches, doubles(width))
    found.psi[:] = 0
    lanes = found.psi.reshape(branches, -1, 2, 8)[..., : 1 << min(width, 3)]
    lanes[:] = rng.normal(size=lanes.shape)
    found.psi /= np.linalg.norm(found.psi, axis=1)[:, None]
    return found


def random_gates(rng: random.Random, width: int, count: int, controls: int) -> list[Gate]:
    gates = []
    for _ in range(count):
        control = rng.randrange(-3, controls) if controls else -1
        control, value = max(control, -1), rng.randrange(2)
        one = rng.randrange(width)
        if width > 1 and rng.random() < 0.5:
            two = rng.choice([each for each in range(width) if each != one])
            gates.append(Gate(rng.choice((CX, CZ)), one, two, control=control, value=value))
        else:
            gates.append(Gate(GENERAL, one, one, random_matrix(rng), control, value))
    return gates


def random_matrix(rng: random.Random) -> Matrix:
    if rng.random() < 0.3:
        return vectors.rotation(rng.choice("XYZ"), rng.uniform(-7, 7))
    return vectors.MATRICES[rng.choice(list(vectors.MATRICES))]


def applied(state: Amplitudes, gates: list[Gate], pattern: int) -> Amplitudes:
    """The slow way."""
    index = np.arange(len(state))
    for gate in gates:
        if gate.control >= 0 and pattern >> gate.control & 1 != gate.value:
            continue
        one, two = index >> gate.one & 1, index >> gate.two & 1
        if gate.kind == CX:
            state = state[index ^ (one << gate.two)]
        elif gate.kind == CZ:
            state = state * (1 - 2 * (one & two))
        else:
            a, b, c, d = gate.matrix
            other = state[index ^ (1 << gate.one)]
            state = np.where(one == 0, a * state + b * other, c * other + d * state)
    return state


def check(seed: int, width: int, count: int, branches: int, controls: int) -> None:
    """Circuits are right up to a phase."""
    rng = random.Random(seed)
    state = random_vectors(np.random.default_rng(seed), branches, width)
    gates = random_gates(rng, width, count, controls)
    patterns = [rng.getrandbits(controls) if controls else 0 for _ in range(branches)]
    wanted = [
        applied(amplitudes(psi, width), gates, pattern)
        for psi, pattern in zip(state.psi, patterns, strict=True)
    ]
    state.run(compiled(gates, width), np.array(patterns, dtype=np.uint64))
    for psi, want in zip(state.psi, wanted, strict=True):
        assert abs(abs(np.vdot(want, amplitudes(psi, width))) - 1) < NEAR, (seed, width)


@pytest.mark.parametrize("width", range(1, 12))
def test_circuits_do_what_their_gates_do(width: int) -> None:
    for seed in range(12):
        check(seed, width, 40, branches=1 + seed % 4, controls=seed % 3 * 4)


def test_circuits_on_vectors_wider_than_a_tile_do_what_their_gates_do() -> None:
    width = vectors.TILE_BITS + 3
    for seed in range(6):
        check(seed, width, 90, branches=1 + seed % 2, controls=seed % 3 * 4)


def test_every_gate_is_in_a_pass_once_and_in_order_on_its_qubits() -> None:
    for seed in range(30):
        width = vectors.TILE_BITS + 1 + seed % 12
        gates = random_gates(random.Random(seed), width, 200, 0)
        inside = [gate for _, each in vectors.passed(gates, width) for gate in each]
        assert len(inside) == len(gates)
        for qubit in range(width):
            assert [each for each in inside if qubit in (each.one, each.two)] == [
                each for each in gates if qubit in (each.one, each.two)
            ]


def test_fusing_leaves_one_gate_where_many_follow_one_another() -> None:
    gates = [Gate(GENERAL, 1, 1, vectors.MATRICES[name]) for name in ("H", "T", "T", "S_DAG", "H")]
    assert list(vectors.fused(gates)) == []
    around = [Gate(GENERAL, 0, 0, vectors.MATRICES["T"]), Gate(CX, 0, 1)]
    assert len(list(vectors.fused(around * 4))) == 5, "a phase passes a control"


@pytest.mark.parametrize("width", range(1, 9))
def test_projections_keep_one_half(width: int) -> None:
    rng = np.random.default_rng(width)
    for qubit in range(width):
        for mode in (vectors.DROP, vectors.STAY, vectors.CLEAR):
            state = random_vectors(rng, 3, width)
            before = [amplitudes(psi, width) for psi in state.psi]
            sources, outcomes = [0, 1, 2, 1], [0, 1, 1, 0]
            if mode != vectors.DROP:
                sources, outcomes = [*sources, 2], [*outcomes, vectors.BOTH]
            factors = rng.uniform(1, 2, len(sources))
            state.project(
                qubit, mode, np.array(sources, dtype=np.int32),
                np.array(outcomes, dtype=np.uint8), factors,
            )  # fmt: skip
            for psi, source, outcome, factor in zip(
                state.psi, sources, outcomes, factors, strict=True
            ):
                want = projected(before[source], qubit, mode, outcome, factor)
                assert np.array_equal(amplitudes(psi, state.width), want)


def projected(state: Amplitudes, qubit: int, mode: int, outcome: int, factor: float) -> Amplitudes:
    if outcome == vectors.BOTH:
        return state
    index = np.arange(len(state))
    bit = index >> qubit & 1
    if mode == vectors.DROP:
        half: Amplitudes = state[bit == outcome] * factor
        return half
    kept = np.zeros_like(state)
    kept[bit == outcome] = state[bit == outcome] * factor
    if mode == vectors.CLEAR and outcome:
        kept = kept[index ^ (1 << qubit)]
    return kept


def test_weights_add_up_the_squares_of_each_half() -> None:
    rng = np.random.default_rng(5)
    for width in (1, 2, 3, 4, 7, 11, 13):
        state = random_vectors(rng, 3, width)
        for qubit in range(width):
            bit = np.arange(1 << width) >> qubit & 1
            for psi, weights in zip(state.psi, state.weights(qubit), strict=True):
                chances = abs(amplitudes(psi, width)) ** 2
                want = [chances[bit == 0].sum(), chances[bit == 1].sum()]
                assert np.allclose(weights, want, rtol=NEAR, atol=0)


def test_the_same_state_is_found_whatever_its_phase() -> None:
    rng = np.random.default_rng(7)
    for width in (1, 3, 5, 11):
        state = random_vectors(rng, 6, width)
        assert state.same() is None
        whole = amplitudes(state.psi[1], width) * np.exp(2.1j)
        for branch, other in ((4, whole), (2, whole * -1j), (3, whole + 1e-9)):
            lanes = state.psi[branch].reshape(-1, 2, 8)
            shape = (-1, 1 << min(width, 3))
            lanes[:, 0, : shape[1]] = other.real.reshape(shape)
            lanes[:, 1, : shape[1]] = other.imag.reshape(shape)
        same = state.same()
        assert same is not None
        assert len({same[1], same[2], same[4]}) == 1
        assert [same[each] for each in (0, 3, 5)] == [0, 3, 5]


def test_wider_vectors_are_the_same_state_with_zeros() -> None:
    rng = np.random.default_rng(9)
    state = random_vectors(rng, 2, 2)
    before = [amplitudes(psi, 2) for psi in state.psi]
    for width in (3, 3, 6):
        state.widen(width)
        for psi, was in zip(state.psi, before, strict=True):
            whole = amplitudes(psi, width)
            assert np.array_equal(whole[:4], was)
            assert not whole[4:].any()
