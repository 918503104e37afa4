from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.jit.angles import Angle, angle, turn
from runtime.jit.gates import GATES, Matrix
from runtime.jit.lower.synthesis import EPSILON_MIN, Unreachable, Word, canonical, z_rotation

pytest.importorskip("qiskit", reason="rotations are synthesised by Qiskit's library")

ROUNDING = 1e-13
"""Of a product of some hundred matrices in floats."""


def product(word: Word) -> Matrix:
    made = np.eye(2, dtype=np.complex128)
    for name in word.gates:
        made = GATES[name].matrix() @ made
    return np.asarray(np.exp(1j * math.pi * float(word.phase)) * made)


def distance(word: Word, wanted: Angle) -> float:
    return float(np.linalg.norm(product(word) - GATES["rz"].matrix(wanted.radians), 2))


@pytest.mark.parametrize("epsilon", [1.0, 0.1, 1e-2, 1e-4, 1e-7, 1e-10, 1e-13])
def test_a_word_is_as_near_to_its_rotation_as_was_asked_and_as_it_says(epsilon: float) -> None:
    for radians in np.random.default_rng(7).uniform(-7, 7, 6):
        wanted = angle(float(radians))
        word = z_rotation(wanted, epsilon)
        assert word.error <= epsilon
        assert abs(distance(word, wanted) - word.error) <= ROUNDING
        assert word.t_count == sum(name in ("t", "tdg") for name in word.gates)


@settings(derandomize=True)
@given(st.integers(-64, 64))
def test_multiples_of_an_eighth_turn_are_exact_with_a_t_gate_at_most(eighths: int) -> None:
    word = z_rotation(turn(Fraction(eighths, 4)), EPSILON_MIN)
    assert word.error == 0
    assert word.t_count == eighths % 2
    assert distance(word, turn(Fraction(eighths, 4))) <= 1e-14


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.floats(-20, 20, allow_nan=False), st.integers(-4, 4))
def test_angles_that_differ_by_sign_and_quarter_turns_share_a_word(
    radians: float, quarters: int
) -> None:
    assert 0 <= canonical(angle(radians)).radians <= math.pi / 4 + 1e-15
    exact = turn(Fraction(1, 7) + Fraction(quarters, 2))
    assert canonical(exact) == canonical(-exact) == turn(Fraction(1, 7))
    word = z_rotation(exact, 1e-3)
    assert word.t_count == z_rotation(-exact, 1e-3).t_count
    assert distance(z_rotation(-exact, 1e-3), -exact) <= 1e-3


def test_the_t_count_in_the_mean_is_no_more_than_three_for_each_bit() -> None:
    # 3 log2(1/epsilon), Ross and Selinger; in the mean over angles, within five standard errors.
    epsilon = 1e-8
    angles = np.random.default_rng(11).uniform(0, math.pi / 4, 60)
    found = np.array([z_rotation(angle(float(each)), epsilon).t_count for each in angles])
    error = found.std(ddof=1) / math.sqrt(len(found))
    assert found.mean() <= 3 * math.log2(1 / epsilon) + 5 * error


@pytest.mark.parametrize("epsilon", [0.0, -1.0, EPSILON_MIN / 2, math.nan, math.inf])
def test_what_cannot_be_reached_is_refused(epsilon: float) -> None:
    with pytest.raises(Unreachable):
        z_rotation(angle(0.3), epsilon)


def test_an_angle_as_good_as_none_takes_no_gate() -> None:
    assert z_rotation(Angle(1e-9), 1e-6).gates == ()
