"""Yields against another library's binomial distribution, the search against brute force."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import binom

from qmkd.qec import azure, factories
from qmkd.qec.factories import Bare, Factory

QUBIT = azure.QUBITS["qubit_gate_ns_e3"]
BARE = Bare(t_gate_ns=50, t_error=1e-3, clifford_error=1e-3)
PATCHES = tuple(azure.SURFACE_GATES.patch(QUBIT, distance) for distance in range(1, 14, 2))


@given(
    units=some.integers(1, factories.UNITS_LARGE - 1),
    failure=some.floats(1e-9, 1 - 1e-6),
    shortfall=some.sampled_from([0.01, 0.005, 0.01 / 3, 0.0025]),
)
def test_a_yield_is_the_quantile_of_the_binomial(
    units: int, failure: float, shortfall: float
) -> None:
    found = factories.yield_of(units, failure, shortfall)
    slack = 1e-9  # two libraries round differently where the distribution just reaches the level
    assert binom.cdf(found, units, 1 - failure) >= shortfall - slack
    assert found == 0 or binom.cdf(found - 1, units, 1 - failure) < shortfall + slack


def test_a_first_term_too_small_for_full_precision_is_not_summed_from() -> None:
    assert 0 < (1 - 0.73828125) ** 551 < 2.3e-308
    assert factories.yield_of(551, 0.73828125, 0.01) == int(binom.ppf(0.01, 551, 1 - 0.73828125))


@given(units=some.integers(factories.UNITS_LARGE, 10**6), failure=some.floats(1e-6, 0.9))
def test_an_approximate_yield_is_off_by_a_few_states_at_most(units: int, failure: float) -> None:
    found = factories.yield_of(units, failure, 0.005)
    exact = int(binom.ppf(0.005, units, 1 - failure))
    # The term that lacks its division is at most 2 (3 w^4 + 7 w^2) / variance, w = -2.58.
    variance = units * failure * (1 - failure)
    extra = 360 / variance if variance > factories.VARIANCE_LARGE else 0
    assert abs(found - exact) <= 2 + extra


def test_one_state_fewer_would_need_fewer_units() -> None:
    for failure in (0.01, 0.3, 0.9):
        units = factories._units_needed(100, 1, failure, 0.005)
        assert units is not None
        assert factories.yield_of(units, failure, 0.005) >= 100
        assert factories.yield_of(units - 1, failure, 0.005) < 100


def everything(error_wanted: float, rounds: int) -> list[Factory]:
    """Every factory good enough, whatever its distances, so long as they never fall."""
    places = factories._Places(PATCHES, BARE)
    found = []
    for count in range(1, rounds + 1):
        for choice in product(range(len(factories.UNITS)), repeat=count):
            low = places.lowest(choice)
            ranges = [range(least, len(PATCHES)) for least in low]
            for indexes in product(*ranges):
                if list(indexes) != sorted(indexes):
                    continue
                built = factories.build(places.pipeline(choice, indexes), BARE.t_error)
                if isinstance(built, Factory) and built.error <= error_wanted:
                    found.append(built)
    return found


@pytest.mark.parametrize("error_wanted", [1e-6, 1e-7, 3e-8])
def test_no_factory_beats_those_found(error_wanted: float) -> None:
    found = factories.find_factories(PATCHES, BARE, error_wanted)
    assert found
    for other in everything(error_wanted, 2):
        assert not any(
            other.qubits_per_state <= each.qubits_per_state
            and other.duration_ns <= each.duration_ns
            and (other.qubits_per_state, other.duration_ns)
            != (each.qubits_per_state, each.duration_ns)
            for each in found
        )
    assert all(each.error <= error_wanted for each in found)


def test_states_that_are_good_enough_need_no_distillation() -> None:
    (only,) = factories.find_factories(PATCHES, BARE, 2e-3)
    assert (only.rounds[0].name, only.error) == ("trivial 1-to-1", BARE.t_error)
