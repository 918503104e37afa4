"""Turns and measurements of Pauli products on vectors, against matrices."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from qmkd.engine import vectors
from qmkd.engine.paulis import Letters, Measured, PauliVectors, angles
from qmkd.engine.vectors import BOTH, CLEAR, DROP, STAY
from qmkd.engine.vectors_test import amplitudes

NEAR = 1e-12

Amplitudes = NDArray[np.complex128]


def applied(what: Letters, state: Amplitudes) -> Amplitudes:
    """The product on a state: X last, Y being i X Z."""
    index = np.arange(len(state))
    signs = np.array([1 - 2 * (int(each & what.z).bit_count() & 1) for each in index])
    found: Amplitudes = (1j ** (what.x & what.z).bit_count()) * (signs * state)[index ^ what.x]
    return found


def random_vectors(rng: np.random.Generator, branches: int, width: int) -> PauliVectors:
    found = PauliVectors()
    found.width = width
    found.psi = vectors.aligned(branches, vectors.doubles(width))
    found.psi[:] = 0
    lanes = found.psi.reshape(branches, -1, 2, 8)[..., : 1 << min(width, 3)]
    lanes[:] = rng.normal(size=lanes.shape)
    return found


def random_letters(rng: random.Random, width: int) -> Letters:
    """Not the identity; one of three has no X."""
    while True:
        found = Letters(rng.getrandbits(width) * (rng.random() < 0.7), rng.getrandbits(width))
        if found.x or found.z:
            return found


def states(some: PauliVectors) -> list[Amplitudes]:
    return [amplitudes(psi, some.width) for psi in some.psi]


@pytest.mark.parametrize("width", range(1, 10))
def test_turns_are_exponentials_of_products(width: int) -> None:
    rng = random.Random(width)
    for _ in range(20):
        some, what = (
            random_vectors(np.random.default_rng(width), 3, width),
            random_letters(rng, width),
        )
        before, angle, factors = states(some), rng.uniform(-7, 7), np.array([1.0, 0.0, -1.0])
        some.turn(what, angles(angle, factors))
        for was, found, factor in zip(before, states(some), factors, strict=True):
            half = angle / 2 * factor
            want = np.cos(half) * was - 1j * np.sin(half) * applied(what, was)
            assert np.allclose(found, want, rtol=0, atol=NEAR)


@pytest.mark.parametrize("width", range(9))
def test_vectors_grow_by_a_qubit_that_is_turned_out_of_zero(width: int) -> None:
    for letter, what in (("X", Letters(1 << width, 0)), ("Y", Letters(1 << width, 1 << width))):
        some = random_vectors(np.random.default_rng(width), 3, width)
        before, sources = states(some), [2, 0, 2, 1]
        factors = np.array([1.0, 0.0, -1.0, 1.0])
        some.grow(letter, np.array(sources, dtype=np.int32), angles(0.7, factors))
        for source, factor, found in zip(sources, factors, states(some), strict=True):
            wider = np.concatenate([before[source], np.zeros(1 << width)])
            half = 0.35 * factor
            want = np.cos(half) * wider - 1j * np.sin(half) * applied(what, wider)
            assert np.allclose(found, want, rtol=0, atol=NEAR)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 6, 9, 12])
def test_weights_are_those_of_the_parts_with_either_sign(width: int) -> None:
    rng = random.Random(width)
    for _ in range(20):
        some, what = (
            random_vectors(np.random.default_rng(width), 2, width),
            random_letters(rng, width),
        )
        for state, weights in zip(states(some), some.weigh(what), strict=True):
            other = applied(what, state)
            want = [np.linalg.norm(state + sign * other) ** 2 / 4 for sign in (1, -1)]
            assert np.allclose(weights, want, rtol=NEAR)


def becoming_z(what: Measured, state: Amplitudes) -> Amplitudes:
    """The state in which the product is Z of the pivot, and that stands behind the others: half by
    half, as a product of Clifford operations on matrices."""
    pivot, (x, z) = 1 << what.pivot, what.product
    sign = -1 if what.minus else 1
    letter = Letters(x & pivot, z & pivot)
    rest = Letters(x & ~pivot, z & ~pivot)
    index = np.arange(len(state))
    one = (index & pivot) > 0
    if x:
        state = np.where(one, sign * applied(rest, state), state)  # under control of the pivot
        state = (applied(Letters(0, pivot), state) + applied(letter, state)) / np.sqrt(2)
    else:
        x_pivot = Letters(pivot, 0)
        turned = sign * applied(rest, state)
        flipped = applied(x_pivot, state)
        state = (state + flipped + turned - applied(x_pivot, turned)) / 2
    halves = [state[~one], state[one]]
    halves[1] = applied(what.after, halves[1])
    return np.concatenate(halves)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7, 10])
def test_measured_products_become_a_single_z(width: int) -> None:
    rng = random.Random(width)
    for _ in range(40):
        product = random_letters(rng, width)
        own = product.x or product.z
        pivot = rng.choice([at for at in range(width) if own >> at & 1])
        after = Letters(rng.getrandbits(width - 1), rng.getrandbits(width - 1))
        what = Measured(product, rng.random() < 0.5, pivot, after)
        for mode in (DROP, STAY, CLEAR):
            some = random_vectors(np.random.default_rng(width), 3, width)
            wanted = [becoming_z(what, state) for state in states(some)]
            sources, outcomes = [0, 1, 2, 1], [0, 1, 1, 0]
            if mode != DROP:
                sources, outcomes = [*sources, 2], [*outcomes, BOTH]
            factors = np.array([rng.uniform(1, 2) for _ in sources])
            some.fold(
                what, mode, np.array(sources, dtype=np.int32),
                np.array(outcomes, dtype=np.uint8), factors,
            )  # fmt: skip
            for source, outcome, factor, found in zip(
                sources, outcomes, factors, states(some), strict=True
            ):
                want = kept(wanted[source], mode, outcome, factor)
                if outcome == BOTH:
                    assert np.allclose(found, want, rtol=0, atol=NEAR)
                else:
                    overlap = np.vdot(want, found)
                    phase = overlap / abs(overlap)
                    assert np.allclose(found, phase * want, rtol=0, atol=NEAR)


def kept(state: Amplitudes, mode: int, outcome: int, factor: float) -> Amplitudes:
    """What is left of a state of which the last qubit is measured."""
    if outcome == BOTH:
        return state
    halves = state.reshape(2, -1) * factor
    if mode == DROP:
        dropped: Amplitudes = halves[outcome]
        return dropped
    found = np.zeros_like(halves)
    found[0 if mode == CLEAR else outcome] = halves[outcome]
    return found.reshape(-1)


def test_products_that_do_not_fit_are_refused() -> None:
    some = random_vectors(np.random.default_rng(1), 1, 3)
    with pytest.raises(ValueError, match="qubits that are not there"):
        some.turn(Letters(8, 0), angles(0.5, np.ones(1)))
    with pytest.raises(ValueError, match="do not fit"):
        some.turn(Letters(1, 0), angles(0.5, np.ones(2)))
    one = np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.uint8), np.ones(1)
    with pytest.raises(ValueError, match="the pivot is no qubit of the product"):
        some.fold(Measured(Letters(1, 2), False, 1, Letters(0, 0)), DROP, *one)
    with pytest.raises(ValueError, match="do not fit"):
        some.grow("X", np.array([1], dtype=np.int32), angles(0.5, np.ones(1)))
