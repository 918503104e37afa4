"""Estimates against sums done by hand, the law against published counts, inverses against it."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from qmkd.qec import azure, resources
from qmkd.qec.azure import Counts, EstimateError
from qmkd.qec.data import published
from qmkd.qec.resources import Machine, PublishedLaw

LAW = PublishedLaw()
QUBIT = azure.QUBITS["qubit_gate_ns_e3"]
PROGRAM = Counts(num_qubits=100, t_count=10**6, measurement_count=10**4)
BUDGET = azure.split_budget(1e-2, PROGRAM)


def published_points() -> list[tuple[int, float, float]]:
    """(distance, p, rate of d rounds, X and Z added) where both bases saw ten errors or more."""
    rates: defaultdict[tuple[int, float], list[float]] = defaultdict(list)
    for row in published():
        known = row.source == "midout" and row.distance >= 5 and row.p <= 3e-3
        if known and row.errors >= 10:
            rounds = row.distance / row.rounds
            flips = (1 - (1 - 2 * row.errors / row.shots) ** rounds) / 2
            rates[row.distance, row.p].append(float(flips))
    return [(*at, sum(both)) for at, both in sorted(rates.items()) if len(both) == 2]


def test_the_law_is_the_least_squares_fit_of_the_published_counts() -> None:
    points = published_points()
    assert len(points) == 22
    halves = np.array([(distance + 1) / 2 for distance, _, _ in points])
    logs = np.log([rate for _, _, rate in points]) - halves * np.log([p for _, p, _ in points])
    (level, slope), *_ = np.linalg.lstsq(np.stack([np.ones(22), halves], axis=1), logs)
    assert math.exp(level) == pytest.approx(LAW.prefactor, rel=0.01)
    assert math.exp(-slope) == pytest.approx(LAW.threshold, rel=0.01)
    for distance, p, rate in points:
        found = LAW.rate("Surface", distance, p)
        assert found is not None
        assert found.low <= rate <= found.high


def test_azures_prefactor_is_optimistic_by_an_order_of_magnitude() -> None:
    for distance, p, rate in published_points():
        if p in (1e-3, 3e-3):
            assert 10 < rate / azure.SURFACE_GATES.error(p, distance) < 18
    found = resources.compare(PROGRAM, BUDGET, QUBIT, azure.SURFACE_GATES, Machine(p=1e-3), LAW)
    assert found.optimism is not None
    assert 8 < found.optimism < 20
    assert isinstance(found.azure, azure.Estimate)
    assert isinstance(found.measured, resources.Measured)
    assert found.measured.distance > found.azure.patch.distance


def test_the_law_knows_nothing_beyond_what_it_was_fitted_to() -> None:
    for code, distance, p in (("BaconShor", 5, 1e-3), ("Surface", 2, 1e-3), ("Surface", 5, 4e-3)):
        assert LAW.rate(code, distance, p) is None


def test_a_measured_estimate_adds_up() -> None:
    machine = Machine(p=1e-3, round_ns=400)
    found = resources.measured_estimate(PROGRAM, BUDGET, machine, LAW)
    d, source = found.distance, found.source
    assert source is not None
    assert found.cycles == 10**6 + 10**4
    assert found.runtime_ns == found.cycles * d * 400
    tiles = 2 * 100 + math.ceil(math.sqrt(800)) + 1
    assert found.qubits_for_program == tiles * (2 * d * d - 1)
    assert found.physical_qubits == found.qubits_for_program + found.sources * source.qubits
    assert found.sources * found.cycles * d >= 10**6 * source.rounds_per_state
    wrong = tiles * found.cycles * found.rate.value + 10**6 * source.error
    assert found.failure == pytest.approx(-math.expm1(-wrong), rel=1e-6)
    assert found.failure <= 1e-2


def test_the_distance_is_the_smallest_that_keeps_the_budget() -> None:
    for error in (1e-4, 1e-9, 1e-15):
        distance, rate = resources.smallest_distance(LAW, "Surface", 1e-3, error)
        smaller = LAW.rate("Surface", distance - 2, 1e-3)
        assert rate.value <= error
        assert smaller is None or smaller.value > error
    with pytest.raises(EstimateError, match="no known distance"):
        resources.smallest_distance(LAW, "Surface", 1e-3, 1e-60)


@given(error=some.floats(1e-15, 1e-4), distance=some.integers(2, 12).map(lambda n: 2 * n + 1))
def test_the_strongest_noise_is_where_the_law_meets_the_error(error: float, distance: int) -> None:
    p = resources.strongest_noise(LAW, "Surface", distance, error)
    exact = LAW.threshold * (error / LAW.prefactor) ** (2 / (distance + 1))
    assert p == pytest.approx(min(exact, LAW.p_max), rel=1e-9)


def test_the_frontier_trades_qubits_for_time_within_the_budget() -> None:
    program = msgspec.structs.replace(PROGRAM, t_count=10**8)
    budget = azure.split_budget(1e-2, program)
    points = resources.measured_frontier(program, budget, Machine(p=1e-3), LAW)
    assert len(points) > 3
    for fast, slow in itertools.pairwise(points):
        assert fast.runtime_ns < slow.runtime_ns
        assert fast.physical_qubits > slow.physical_qubits
    for point in points:
        assert point.failure <= 1e-2
        assert point.source is not None
        states = point.sources * point.cycles * point.distance / point.source.rounds_per_state
        assert states >= 10**8 * (1 - 1e-9)


def test_codes_are_asked_for_the_distances_that_they_have() -> None:
    assert resources.distances("Surface")[:3] == [3, 5, 7]
    assert resources.distances("SHYPS") == [2, 4, 8, 16]
    with pytest.raises(EstimateError, match="no code"):
        resources.distances("Steane")


def test_without_t_states_there_are_no_sources() -> None:
    clifford = Counts(num_qubits=5, measurement_count=100)
    found = resources.measured_estimate(
        clifford, azure.split_budget(1e-3, clifford), Machine(), LAW
    )
    assert (found.source, found.sources, found.qubits_for_sources) == (None, 0, 0)
    assert resources.measured_frontier(
        clifford, azure.split_budget(1e-3, clifford), Machine(), LAW
    ) == [found]


def test_what_one_side_refuses_the_other_still_answers() -> None:
    found = resources.compare(PROGRAM, BUDGET, QUBIT, azure.SURFACE_GATES, Machine(p=5e-3), LAW)
    assert isinstance(found.azure, azure.Estimate)
    assert isinstance(found.measured, str)
    assert found.optimism is None
