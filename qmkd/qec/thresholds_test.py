"""The crossing is found where it was put, and where published counts have it."""

from __future__ import annotations

import math

import numpy as np

from qmkd.qec.calibration import Basis
from qmkd.qec.data import Count, published
from qmkd.qec.sampling import from_log, to_log
from qmkd.qec.thresholds import Near, fit_crossing, near

BASES: tuple[Basis, ...] = ("X", "Z")


def model(distance: int, p: float) -> float:
    x = math.log(p / 7e-3) * math.pow(distance, 0.8)
    return -1.6 + 0.5 * x - 0.02 * x * x


def test_points_of_the_model_give_back_its_crossing() -> None:
    points = [
        Near(distance, p, model(distance, p), 0.01)
        for distance in (3, 5, 9)
        for p in (5e-3, 7e-3, 9e-3)
    ]
    found = fit_crossing(points)
    assert math.isclose(found.p, 7e-3, rel_tol=1e-5)
    assert math.isclose(found.power, 0.8, rel_tol=1e-4)
    assert math.isclose(found.log(7, 6e-3), model(7, 6e-3), rel_tol=1e-4)


def test_the_interval_holds_the_crossing_of_sampled_counts_as_often_as_it_says() -> None:
    """Two standard deviations hold 95.4 %; five standard errors of 200 samples below."""
    generator = np.random.default_rng(4)
    held = 0
    for _ in range(200):
        counts = []
        for distance in (5, 7, 9, 11):
            for p in (5e-3, 7e-3, 9e-3):
                chance = from_log(4 * math.exp(model(distance, p)) / 2)
                for basis in BASES:
                    errors = int(generator.binomial(4096, chance))
                    counts.append(
                        Count("drawn", "", "", basis, distance, 4 * distance, p, 4096, errors)
                    )
        found = fit_crossing(near(counts))
        held += found.low <= 7e-3 <= found.high
    assert held >= 200 * 0.954 - 5 * math.sqrt(200 * 0.954 * 0.046)


def test_a_point_is_both_bases_per_d_rounds() -> None:
    counts = [Count("drawn", "", "", basis, 5, 20, 8e-3, 1000, 250) for basis in BASES]
    (point,) = near(counts)
    assert math.isclose(point.log, math.log(2 * to_log(0.25) / 4))
    # Of each basis: sqrt(0.25 0.75 / 1000) / (1 - 0.5) / 4; both, over their sum.
    each = math.sqrt(0.25 * 0.75 / 1000) / 0.5 / 4
    assert math.isclose(point.deviation, each * math.sqrt(2) / math.exp(point.log))
    assert near(counts[:1]) == []


def test_published_curves_cross_at_eight_per_mille() -> None:
    """McEwen, Bacon and Gidney's counts; every pair of neighbours crosses between 5 and 10 too."""
    counts = [
        count
        for count in published()
        if count.source == "midout" and 5e-3 <= count.p <= 1e-2 and 5 <= count.distance <= 11
    ]
    found = fit_crossing(near(counts))
    assert 7.7e-3 < found.low < found.p < found.high < 8.3e-3
    logs = {(point.distance, point.p): point.log for point in near(counts)}
    assert all(logs[d, 5e-3] > logs[d + 2, 5e-3] for d in (5, 7, 9))
    assert all(logs[d, 1e-2] < logs[d + 2, 1e-2] for d in (5, 7, 9))
