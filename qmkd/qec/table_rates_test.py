"""A table of one measured point, and a law behind it."""

from __future__ import annotations

import pytest

from qmkd.qec import azure, resources
from qmkd.qec.calibration import Basis, Entry, Experiment, Table, Term
from qmkd.qec.data import calibration
from qmkd.qec.resources import FirstThatKnows, PublishedLaw
from qmkd.qec.table_rates import TableRates

LAW = PublishedLaw()
SHIPPED = TableRates(table=calibration())


def entry(distance: int, basis: Basis, per_round: float) -> Entry:
    pauli = "X" if basis == "Z" else "Z"
    term = Term(pauli=pauli, rate=per_round, low=0.9 * per_round, high=1.1 * per_round)
    shots = Experiment(rounds=10, shots=10**6, errors=round(10**7 * per_round), seed=1)
    return Entry(
        code="Surface",
        variant="test",
        distance=distance,
        noise="uniform",
        p=1e-3,
        gadget="memory",
        basis=basis,
        per="round",
        terms=(term,),
        decoder="correlated",
        interval="test",
        experiments=(shots,),
    )


def test_a_table_gives_rates_of_d_rounds_and_a_law_what_it_lacks() -> None:
    bases: tuple[Basis, ...] = ("X", "Z")
    table = Table([entry(5, basis, 1e-4) for basis in bases], {})
    rates = FirstThatKnows((TableRates(table=table), LAW))
    found = rates.rate("Surface", 5, 1e-3)
    assert found is not None
    flips = (1 - (1 - 2e-4) ** 5) / 2
    assert found.value == pytest.approx(2 * flips)
    assert found.how == "measured"
    assert found.low < found.value < found.high
    beyond = rates.rate("Surface", 21, 1e-3)
    assert beyond == LAW.rate("Surface", 21, 1e-3)
    assert beyond is not None
    assert beyond.how == "extrapolated"
    assert rates.rate("SHYPS", 4, 1e-3) is None


@pytest.mark.parametrize("p", [1e-4, 5e-4, 1e-3, 2e-3, 3e-3])
def test_our_table_says_that_azures_prefactor_is_optimistic_by_an_order_of_magnitude(
    p: float,
) -> None:
    """Where memories were measured, and by our law where published counts say 10.8 to 17.6."""
    for distance in range(3, 16, 2):
        found = SHIPPED.rate("Surface", distance, p)
        assert found is not None
        if found.how == "measured" and p >= 5e-4:
            assert 10 < found.value / azure.SURFACE_GATES.error(p, distance) < 18
        elif p >= 1e-3:
            assert 9 < found.value / azure.SURFACE_GATES.error(p, distance) < 19
        if found.how == "measured":
            assert found.low > 3 * azure.SURFACE_GATES.error(p, distance)


@pytest.mark.parametrize("p", [1e-3, 2e-3, 3e-3])
def test_our_table_and_the_law_through_published_counts_agree(p: float) -> None:
    for distance in range(5, 16, 2):
        ours, published = SHIPPED.rate("Surface", distance, p), LAW.rate("Surface", distance, p)
        assert ours is not None
        assert published is not None
        assert ours.low < published.high
        assert published.low < ours.high


def test_codes_that_only_the_table_knows_have_a_strongest_noise() -> None:
    p = resources.strongest_noise(SHIPPED, "BaconShor", 5, 1e-3)
    at, beyond = (SHIPPED.rate("BaconShor", 5, each) for each in (p, 1.01 * p))
    assert at is not None
    assert beyond is not None
    assert at.value <= 1e-3 < beyond.value
