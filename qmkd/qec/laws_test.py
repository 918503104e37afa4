"""Laws recover what made the points, and say where they do not reach."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qmkd.qec.data import published
from qmkd.qec.laws import Point, crossing, fit_law, fit_threshold, suppression
from qmkd.qec.sampling import piece_rate

A, P_STAR = 0.2, 0.011


def made(errors: int = 400, seed: int = 0) -> list[Point]:
    """Points of the usual law with the scatter of so many errors; rates per round."""
    rng = np.random.default_rng(seed)
    return [
        (
            d,
            p,
            A * (p / P_STAR) ** ((d + 1) / 2) * math.exp(rng.normal() / math.sqrt(errors)),
            errors,
        )
        for d in (5, 7, 9)
        for p in (1e-3, 2e-3, 3e-3)
    ]


def test_the_law_of_a_family_goes_through_its_points_and_on_beyond_them() -> None:
    law = fit_law("Surface", made())
    assert law is not None
    for distance, p in ((7, 1.5e-3), (11, 1e-3), (15, 5e-4)):
        exact = A * (p / P_STAR) ** ((distance + 1) / 2)
        value, low, high, _ = law.rate(distance, p)
        # The band is two standard deviations either way.
        assert abs(math.log(value / exact)) < 5 * math.log(high / low) / 4
        assert low < value < high
    assert law.rate(7, 1.5e-3)[3]
    assert not law.rate(11, 1e-3)[3]


@pytest.mark.parametrize("basis", ["X", "Z"])
def test_the_law_goes_through_published_counts(basis: str) -> None:
    """Within 35 %, over five decades of rates; of two distances only the law of three terms."""
    points = [
        (each.distance, each.p, piece_rate(each.errors / each.shots, each.rounds), each.errors)
        for each in published()
        if (each.source, each.basis) == ("midout", basis) and each.errors >= 40
        if each.distance >= 5 and 3e-4 <= each.p <= 3e-3
    ]
    law = fit_law("Surface", points)
    assert law is not None
    assert law.plane is not None
    assert len(law.plane.solution) == 4
    for distance, p, rate, _ in points:
        assert abs(math.log(rate) - law.plane.predict(distance, p)[0]) < 0.3
    fewer = fit_law("Surface", [each for each in points if each[0] in (5, 7)])
    assert fewer is not None
    assert fewer.plane is not None
    assert len(fewer.plane.solution) == 3


def test_the_band_widens_with_the_reach() -> None:
    law = fit_law("Surface", made())
    assert law is not None
    widths = [law.rate(d, 1e-3)[2] / law.rate(d, 1e-3)[1] for d in (9, 15, 25)]
    assert widths == sorted(widths)


def test_a_law_reaches_neither_small_codes_nor_strong_noise() -> None:
    law = fit_law("Surface", made())
    assert law is not None
    assert law.reaches(15, 1e-4)
    assert not law.reaches(3, 1e-3)
    assert not law.reaches(7, 9e-3)
    assert not law.reaches(7, 1e-6)


def test_an_even_distance_is_answered_with_the_odd_one_below_it() -> None:
    law = fit_law("Surface", made())
    assert law is not None
    assert law.rate(12, 1e-3) == law.rate(11, 1e-3)


@pytest.mark.parametrize("code", ["Surface", "BaconShor"])
def test_between_two_strengths_of_a_distance_the_rate_is_a_power_of_p(code: str) -> None:
    law = fit_law(code, [(3, 1e-3, 1e-4, 400), (3, 2e-3, 4e-4, 400), (3, 4e-3, 8e-4, 400)])
    assert law is not None
    for p, rate in ((1.5e-3, 2.25e-4), (3e-3, 6e-4), (1e-3, 1e-4), (4e-3, 8e-4)):
        value, low, high, inside = law.rate(3, p)
        assert math.isclose(value, rate, rel_tol=1e-9)
        assert low < value < high
        assert inside


def test_codes_without_a_threshold_go_on_in_p_only() -> None:
    law = fit_law("BaconShor", [(5, 1e-3, 1e-4, 400), (5, 2e-3, 8e-4, 400), (7, 1e-3, 1e-5, 90)])
    assert law is not None
    value, low, high, inside = law.rate(5, 5e-4)
    assert math.isclose(value, 1e-4 / 8, rel_tol=1e-9)
    assert low < value < high
    assert not inside
    assert law.reaches(5, 1e-4)
    assert not law.reaches(7, 1e-4)
    assert not law.reaches(9, 1e-3)


def test_too_few_points_make_no_law() -> None:
    law = fit_law("Surface", made()[:3])
    assert law is not None
    assert law.plane is None
    assert not law.reaches(7, 1e-3)
    assert fit_law("BaconShor", [(5, 1e-3, 1e-4, 3)]) is None


def test_the_threshold_and_lambda_of_the_usual_law_are_recovered() -> None:
    per_cycle = [(d, p, rate, errors) for d, p, rate, errors in made(10_000)]
    fit = fit_threshold(per_cycle)
    assert fit.p_star_low < P_STAR < fit.p_star_high
    assert math.isclose(fit.a, A, rel_tol=0.1)
    assert fit.spread[0] <= 1 <= fit.spread[1]
    value, deviation = suppression([each for each in per_cycle if each[1] == 1e-3])
    assert abs(value - P_STAR / 1e-3) < 5 * deviation


def test_a_crossing_lies_where_rate_and_strength_are_equal() -> None:
    points = [(p, 100 * p**2 / 0.8) for p in (4e-3, 7e-3, 1e-2)]
    assert math.isclose(crossing(points), 8e-3, rel_tol=1e-9)
    with pytest.raises(ValueError, match="do not cross"):
        crossing([(1e-3, 1e-5), (2e-3, 4e-5)])
