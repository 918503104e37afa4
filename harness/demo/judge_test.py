"""The bounds against SciPy's own test, against chance, and against machines that are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import power_divergence

from harness.demo.judge import EXPECTED_MIN, P_MIN, distance, g_statistic, judge, pooled

FAIR = {"00": 0.5, "11": 0.5}


def drawn(exact: dict[str, float], shots: int, seed: int) -> dict[str, int]:
    numbers = np.random.default_rng(seed).multinomial(shots, list(exact.values()))
    return {key: int(n) for key, n in zip(exact, numbers, strict=True) if n}


def test_the_g_statistic_is_scipys() -> None:
    exact = {"a": 0.2, "b": 0.3, "c": 0.5}
    counts = drawn(exact, 1000, 3)
    expected = [1000 * exact[key] for key in counts]
    wanted = power_divergence(list(counts.values()), expected, lambda_="log-likelihood")
    g, degrees = g_statistic(counts, exact)
    assert g == pytest.approx(wanted.statistic)
    assert degrees == 2
    assert judge(counts, exact).p == pytest.approx(wanted.pvalue)


def test_the_distance_is_half_the_sum_of_differences() -> None:
    assert distance({"00": 60, "11": 40}, FAIR) == pytest.approx(0.1)
    assert distance({"01": 1}, FAIR) == 1


def test_a_right_machine_is_inside_with_every_seed() -> None:
    exact = {f"{n:03b}": p for n, p in enumerate([0.4, 0.3, 0.2, 0.06, 0.03, 0.009, 9e-4, 1e-4])}
    for seed in range(200):
        assert judge(drawn(exact, 20_000, seed), exact).inside


def test_a_machine_that_is_a_little_wrong_is_outside() -> None:
    off = {"00": 0.53, "11": 0.47}
    verdict = judge(drawn(off, 20_000, 1), FAIR)
    assert not verdict.inside
    assert verdict.p < P_MIN


def test_the_distance_bound_alone_can_fail_a_machine() -> None:
    verdict = judge({"00": 20_000}, FAIR)
    assert verdict.distance > verdict.distance_max


def test_one_impossible_outcome_is_enough() -> None:
    verdict = judge({"00": 10_000, "11": 9_999, "01": 1}, FAIR)
    assert verdict.impossible == ["01"]
    assert not verdict.inside


def test_a_certain_outcome_leaves_nothing_to_test() -> None:
    verdict = judge({"1": 100}, {"1": 1.0})
    assert (verdict.degrees, verdict.p, verdict.inside) == (0, 1.0, True)


def test_pooling_keeps_every_shot_and_leaves_no_small_cell() -> None:
    cells = [(0.1, 0), (3.0, 4), (4.0, 2), (100.0, 99), (900.0, 895)]
    found = pooled(cells)
    assert sum(seen for _, seen in found) == sum(seen for _, seen in cells)
    assert sum(expected for expected, _ in found) == pytest.approx(1007.1)
    assert all(expected >= EXPECTED_MIN for expected, _ in found)
