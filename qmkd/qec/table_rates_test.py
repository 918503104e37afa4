"""A table of one measured point, and a law behind it."""

from __future__ import annotations

import pytest

from qmkd.qec.calibration import Basis, Entry, Experiment, Table, Term
from qmkd.qec.resources import FirstThatKnows, PublishedLaw
from qmkd.qec.table_rates import TableRates

LAW = PublishedLaw()


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
