"""Estimates against sums done by hand, the law against published counts, inverses against it."""

from __future__ import annotations

import itertools
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from qmkd.qec import azure, resources
from qmkd.qec.azure import Counts, EstimateError
from qmkd.qec.resources import Machine, PublishedLaw, Rate

LAW = PublishedLaw()
QUBIT = azure.QUBITS["qubit_gate_ns_e3"]
PROGRAM = Counts(num_qubits=100, t_count=10**6, measurement_count=10**4)
BUDGET = azure.split_budget(1e-2, PROGRAM)

# (distance, p, error rate of a shot of 4d rounds in the X basis, in the Z basis): rotated
# surface code, style 4-CX, internal_correlated; github.com/Strilanc/midout, assets/stats.csv, the
# data of arXiv:2302.02192.
PUBLISHED = [
    (5, 1e-3, 8.25e-4, 8.62e-4),
    (5, 3e-3, 2.21e-2, 2.10e-2),
    (7, 3e-3, 7.85e-3, 7.60e-3),
    (9, 3e-3, 2.446e-3, 2.446e-3),
]


def per_cycle(per_shot: float) -> float:
    """Of d rounds, from a shot of 4d rounds; flips of one basis cancel in pairs."""
    return (1 - math.sqrt(math.sqrt(1 - 2 * per_shot))) / 2


@pytest.mark.parametrize(("distance", "p", "x", "z"), PUBLISHED)
def test_the_law_is_within_its_spread_of_published_rates(
    distance: int, p: float, x: float, z: float
) -> None:
    rate = LAW.rate("Surface", distance, p)
    assert rate is not None
    assert rate.low <= per_cycle(x) + per_cycle(z) <= rate.high


def test_azures_prefactor_is_optimistic_by_an_order_of_magnitude() -> None:
    for distance, p, x, z in PUBLISHED:
        closed = azure.SURFACE_GATES.error(p, distance)
        assert 10 < (per_cycle(x) + per_cycle(z)) / closed < 20
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


def test_most_cycles_use_up_the_failure_allowed() -> None:
    rate = Rate(value=1e-6, low=1e-6, high=1e-6, how="measured", source="test")
    cycles = resources.most_cycles(rate, tiles=50, failure=0.01)
    assert 1 - (1 - 1e-6) ** (50 * cycles) <= 0.01 < 1 - (1 - 1e-6) ** (50 * (cycles + 1))


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
