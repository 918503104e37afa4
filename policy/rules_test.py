"""The closed forms against what they stand for, and questions that make no sense."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.api import Asked, BackendFeatures, BadFeatures, Past
from policy.conftest import question
from policy.rules import FOLDS, Rules, advise, damping, effects, fidelity, standard_error, variance


def test_extrapolations_are_exact_for_the_polynomials_that_they_fit() -> None:
    """Coefficients from Lagrange's formula, and the moments they must have."""
    for folds in (FOLDS["zne"], FOLDS["richardson"]):
        scales = [scale for scale, _ in folds]
        for power in range(len(scales)):
            total = sum(c * scale**power for scale, c in folds)
            assert total == pytest.approx(1.0 if power == 0 else 0.0, abs=1e-12)


def test_the_cost_of_an_extrapolation_is_that_of_its_best_split_of_shots() -> None:
    """Against the least of sum c^2 / n over all splits of the shots, searched for."""
    for method in ("zne", "richardson"):
        weights = np.array([c for _, c in FOLDS[method]])
        rng = np.random.Generator(np.random.PCG64(1))
        splits = rng.dirichlet(np.ones(len(weights)), 20_000)
        searched = (weights**2 / splits).sum(axis=1).min()
        formula = variance(method, 1.0) * 0.9  # without the share for readout
        assert formula <= searched <= 1.02 * formula


def test_no_mitigation_where_the_bias_is_below_two_standard_errors() -> None:
    for shots in (50, 200, 1000, 5000, 50_000):
        asked = question(gates=6, shots=shots, error_2q=0.004)
        advice = advise(asked)
        bias = effects(asked)["none"].bias
        assert (advice.method == "none") == (bias < 2 * standard_error(asked))
        assert advice.alternatives[0].method in {each.method for each in advice.alternatives}
    assert "standard errors" in advise(question(gates=2, shots=50)).because[0]


def test_more_shots_make_stronger_extrapolation_worth_it() -> None:
    """The order that was measured with simulated circuits: none, linear, Richardson."""
    methods = [advise(question(gates=30, shots=shots)).method for shots in (20, 300, 100_000)]
    order = ["none", "zne", "richardson"]
    assert methods == sorted(methods, key=order.index)
    assert methods[0] == "none"
    assert methods[-1] == "richardson"


def test_bounds_widen_with_the_age_of_a_calibration_and_most_where_it_is_unknown() -> None:
    ages: list[float | None] = [0.0, 86400.0, 30 * 86400.0, 3000 * 86400.0]
    lows = [advise(question(calibration_age_s=age)).fidelity_low for age in ages]
    assert lows == sorted(lows, reverse=True)
    unknown = advise(question(calibration_age_s=None))
    assert unknown.fidelity_low < lows[0]
    assert "unknown" in unknown.because[0]


def test_the_expected_error_and_its_bound_are_those_of_a_normal_variable() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    for bias, width in ((0.0, 0.05), (0.1, 0.01), (0.05, 0.05)):
        drawn = np.abs(rng.normal(bias, width, 200_000))
        mean, low = fidelity(bias, 0.0, width)
        assert 2 * (1 - mean) == pytest.approx(drawn.mean(), rel=0.2)
        assert (drawn <= 2 * (1 - low)).mean() >= 0.90


def test_history_moves_an_expectation_towards_what_was_found() -> None:
    asked = question()
    worse = msgspec.structs.replace(
        asked, history=(Past(method="zne", runs=50, expected_error=0.02, found_error=0.06),)
    )
    before = {each.method: each.expected_fidelity for each in advise(asked).alternatives}
    after = {each.method: each.expected_fidelity for each in advise(worse).alternatives}
    assert after["zne"] < before["zne"]
    assert after["none"] == before["none"]


def test_logical_methods_are_offered_where_the_machine_has_what_they_need() -> None:
    plain = {each.method for each in advise(question()).alternatives}
    assert plain == {"none", "zne", "richardson"}
    gaps = advise(question(gaps=True))
    assert "gap" in {each.method for each in gaps.alternatives}
    # Calibrated suppression by three between distances, and none to speak of near threshold.
    good = question(by_distance={"3": 9e-3, "5": 3e-3, "7": 1e-3})
    near = question(by_distance={"3": 2e-2, "5": 1.8e-2})
    found = {each.method: each for each in advise(good).alternatives}
    assert found["ds-zne"].params["distances"] == [5, 7]
    assert "ds-zne" not in {each.method for each in advise(near).alternatives}


def test_distances_extrapolate_to_the_value_without_errors() -> None:
    """The combination of both values is exact where the bias is as the rates say."""
    scaled = effects(question(by_distance={"5": 3e-3, "7": 1e-3}))["ds-zne"]
    (r_low, r_high), norm = scaled.params["rates"], math.sqrt(scaled.variance)
    low, high = 1 - 7 * r_low, 1 - 7 * r_high
    assert (r_low * high - r_high * low) / (r_low - r_high) == pytest.approx(1.0)
    assert norm == pytest.approx((r_low + r_high) / (r_low - r_high))


def test_relaxation_and_readout_damp() -> None:
    asked = question()
    waits = msgspec.structs.replace(asked.circuit, depth=60)
    asked = msgspec.structs.replace(asked, circuit=waits)
    exponent, readout = damping(asked)
    still = msgspec.structs.replace(
        asked, backend=msgspec.structs.replace(asked.backend, t1_s=None, t2_s=None)
    )
    assert damping(still)[0] < exponent
    assert readout == pytest.approx((1 - 0.02) ** 5)


@pytest.mark.parametrize(
    ("part", "field", "value", "word"),
    [
        ("backend", "error_2q", float("nan"), "error_2q"),
        ("backend", "readout_error", 1.5, "readout_error"),
        ("backend", "t1_s", -1.0, "t1_s"),
        ("backend", "calibration_age_s", float("inf"), "calibration_age_s"),
        ("backend", "by_distance", {"x": 0.1}, "distances"),
        ("circuit", "mapping_entropy", float("nan"), "mapping_entropy"),
        ("circuit", "qubits", 0, "qubits"),
        ("circuit", "signal", 2.0, "signal"),
        ("budget", "shots", 0, "shots"),
        ("budget", "shots_max", -5, "shots_max"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    part: str, field: str, value: object, word: str
) -> None:
    asked = question()
    inner = msgspec.structs.replace(getattr(asked, part), **{field: value})
    with pytest.raises(BadFeatures, match=word):
        Rules().recommend([msgspec.structs.replace(asked, **{part: inner})])


@given(
    st.integers(0, 2000),
    st.integers(1, 10**7),
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(0, 1e9)),
)
def test_every_answer_is_a_fidelity_with_its_bound_below(
    gates: int, shots: int, error: float, age: float | None
) -> None:
    asked: Asked = question(gates, shots, error, calibration_age_s=age)
    advice = advise(asked)
    assert advice.method in {each.method for each in advice.alternatives}
    for each in advice.alternatives:
        assert 0 <= each.fidelity_low <= each.expected_fidelity <= 1
        assert 1 <= each.shots <= 4 * shots
    assert 0 <= advice.confidence <= 1


def test_a_question_of_another_shape_does_not_decode() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"error_1q": "NaN"}', type=BackendFeatures)
