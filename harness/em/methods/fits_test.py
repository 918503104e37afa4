"""Extrapolations beside mitiq's on the same numbers, and beside closed forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.em.methods import fits
from harness.em.methods.plan import Unplannable, shares

TABLE: dict[str, Any] = json.loads((Path(__file__).parent / "data/mitiq_fits.json").read_bytes())


def extrapolated(case: dict[str, Any]) -> float:
    scales, values = case["scales"], case["values"]
    nothing = [0.0] * len(scales)
    if case["kind"] == "exponential":
        return fits.exponential(scales, values, nothing, case["asymptote"]).value
    degree = {"linear": 1, "richardson": len(scales) - 1}.get(case["kind"], case.get("degree"))
    assert degree is not None
    return fits.polynomial(scales, values, nothing, degree).value


@pytest.mark.parametrize("kind", ["linear", "polynomial", "richardson", "exponential"])
def test_extrapolations_agree_with_mitiq_on_the_same_numbers(kind: str) -> None:
    """mitiq 1.1.0; the file says how its values were made."""
    cases = [case for case in TABLE["cases"] if case["kind"] == kind]
    assert len(cases) >= 50
    for case in cases:
        assert extrapolated(case) == pytest.approx(case["mitiq"], rel=1e-9, abs=1e-9)


def test_coefficients_are_those_of_lagrange() -> None:
    scales = [1.0, 3.0, 5.0]
    lagrange = [
        np.prod([other / (other - own) for other in scales if other != own]) for own in scales
    ]
    assert fits.coefficients(scales, 2) == pytest.approx(lagrange)
    assert fits.coefficients([1.0, 3.0], 1) == pytest.approx([1.5, -0.5])


def test_shots_in_proportion_to_coefficients_give_the_least_variance() -> None:
    """Equal shots cost a factor of 5 for a line through 1 and 3, best ones a factor of 4."""
    for scales, degree, even, best in (
        ([1.0, 3.0], 1, 5.0, 4.0),
        ([1.0, 3.0, 5.0], 2, 15.65625, 12.25),
    ):
        found = fits.coefficients(scales, degree)
        assert len(found) * float(found @ found) == pytest.approx(even)
        assert float(np.abs(found).sum()) ** 2 == pytest.approx(best)


def test_an_exact_exponential_is_extrapolated_exactly() -> None:
    scales = [1.0, 2.0, 3.0]
    values = [0.25 - 0.5 * np.exp(-0.2 * s) for s in scales]
    found = fits.exponential(scales, values, [1e-8] * 3, 0.25)
    assert found.value == pytest.approx(-0.25)
    assert not found.note


def test_values_within_their_error_of_the_asymptote_get_a_line_and_a_note() -> None:
    scales, values = [1.0, 3.0], [0.02, -0.01]
    found = fits.exponential(scales, values, [1e-3] * 2, 0.0)
    assert found.note
    assert found.value == fits.polynomial(scales, values, [1e-3] * 2, 1).value


def test_variances_are_those_of_many_draws() -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    scales, spread = [1.0, 3.0, 5.0], 0.01
    true = 0.8 * np.exp(-0.15 * np.array(scales))
    drawn = true + spread * rng.standard_normal((2000, 3))
    errors = [spread**2] * 3
    ways: list[Callable[[Any], fits.Extrapolated]] = [
        lambda v: fits.polynomial(scales, v, errors, 2),
        lambda v: fits.exponential(scales, v, errors, 0.0),
    ]
    for way in ways:
        seen = np.var([way(each).value for each in drawn])
        told = way(true).variance
        # A variance from 2000 draws has an error of 3.2 %; the exponential's is first order.
        assert seen == pytest.approx(told, rel=5 * 0.032 + 0.05)


def test_shares_use_every_shot_and_leave_nobody_out() -> None:
    found = shares(1000, [1.875, 1.25, 0.375, 0.0])
    assert sum(found) == 1000
    assert min(found) >= 1
    assert found == sorted(found, reverse=True)
    with pytest.raises(Unplannable, match="too few"):
        shares(3, [1.0] * 4)
