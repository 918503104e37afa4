"""What grows is said to grow, what does not is said not to, and noise is not taken for either."""

from __future__ import annotations

import random

import pytest
from scipy.stats import linregress

from tests.soak.verdict import BLOCKS, Verdict, blocks, judge, judge_factor, line, said

SAMPLES = 600
TRIALS = 400
FALSE_ALARMS_MAX = 32  # of 400 at 2.5 %: the mean is 10, five standard errors are 16


def noisy(rise: float, noise: float, seed: int) -> tuple[list[float], list[float]]:
    rng = random.Random(seed)
    at_s = [float(at) for at in range(SAMPLES)]
    return at_s, [100 * (1 + rise * at / SAMPLES + rng.gauss(0, noise)) for at in at_s]


def test_a_constant_is_flat_and_its_line_is_itself() -> None:
    judged = judge("memory", "B", [0.0, 1.0, 2.0, 3.0], [7.0] * 4, 0.05)
    assert (judged.first, judged.last, judged.growth, judged.error) == (7.0, 7.0, 0.0, 0.0)
    assert judged.verdict is Verdict.FLAT


def test_the_line_and_its_error_are_those_of_another_library() -> None:
    centres, means = blocks(*noisy(0.4, 0.2, seed=9))
    other = linregress(centres, means)
    expected = (other.intercept, other.slope, other.stderr)
    assert line(centres, means) == pytest.approx(expected, rel=1e-9)


def test_a_leak_of_ten_percent_grows_under_noise_as_large() -> None:
    judged = judge("memory", "B", *noisy(0.10, 0.03, seed=1), 0.05)
    assert judged.verdict is Verdict.GROWS
    assert abs(judged.growth - 0.10) < judged.error


def test_what_shrinks_is_flat() -> None:
    assert judge("memory", "B", *noisy(-0.3, 0.01, seed=2), 0.05).verdict is Verdict.FLAT


def test_what_doubles_grows_by_one_however_wide_it_scatters() -> None:
    rng = random.Random(5)
    at_s = [float(at) for at in range(SAMPLES)]
    values = [2 ** (at / SAMPLES) * rng.lognormvariate(0, 0.3) for at in at_s]
    judged = judge_factor("time", "x", at_s, values, 0.25)
    assert abs(judged.growth - 1.0) < judged.error
    assert judged.verdict is Verdict.GROWS


def test_a_handful_of_times_decides_nothing() -> None:
    assert judge_factor("time", "x", [0.0], [1.0], 0.25).verdict is Verdict.UNDECIDED


def test_what_is_too_noisy_is_undecided() -> None:
    assert judge("time", "s", *noisy(0.0, 5.0, seed=3), 0.05).verdict is Verdict.UNDECIDED


def test_the_interval_holds_what_was_put_in_as_often_as_it_says() -> None:
    outside = 0
    for seed in range(TRIALS):
        judged = judge("memory", "B", *noisy(0.05, 0.2, seed), 0.05)
        outside += abs(judged.growth - 0.05) > judged.error
    assert outside <= 2 * FALSE_ALARMS_MAX


def test_a_bound_inside_the_interval_leaves_it_undecided() -> None:
    assert said(0.05, 0.01, 0.05) is Verdict.UNDECIDED
    assert said(0.03, 0.01, 0.05) is Verdict.FLAT
    assert said(0.07, 0.01, 0.05) is Verdict.GROWS


def test_blocks_are_means_of_equal_stretches() -> None:
    at_s = [float(at) for at in range(2 * BLOCKS)]
    centres, means = blocks(at_s, at_s)
    assert len(means) == BLOCKS
    assert means == centres
