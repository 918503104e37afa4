"""Points measured when asked for: always the same, used for themselves alone, or refused."""

from __future__ import annotations

import pytest

from qmkd.qec import demand
from qmkd.qec.calibration import NotKnown, Table, decode, encode
from qmkd.qec.data import calibration
from qmkd.qec.demand import Layered, Unmeasurable, measure
from qmkd.qec.measuring import Effort

QUICK = Effort(seconds=0.2, errors=100)
POINT = ("Surface", 3, "si1000", 0.0061)


def test_a_point_gives_the_same_counts_whenever_it_is_asked_for() -> None:
    first = measure(*POINT, effort=QUICK)
    assert [entry.basis for entry in first] == ["Z", "X"]
    assert first == measure(*POINT, effort=QUICK)
    assert decode(encode(Table(first, {}), demand.COMMAND)).entries == Table(first, {}).entries


def test_points_are_used_where_the_table_reaches_nowhere_and_change_nothing_else() -> None:
    table, entries = calibration(), measure(*POINT, effort=QUICK)
    layered = Layered(table, Table(entries, {}))
    with pytest.raises(NotKnown):
        table.look_up(*POINT, "memory")
    found = layered.look_up(*POINT, "memory")
    assert found.how == "measured"
    assert [term.rate for term in found.terms] == [entry.terms[0].rate for entry in entries]
    for distance, p in ((3, 1e-3), (5, 1.5e-3), (21, 1e-3)):
        asked = ("Surface", distance, "uniform", p, "memory")
        assert layered.look_up(*asked) == table.look_up(*asked)
    with pytest.raises(NotKnown):
        layered.look_up("Surface", 5, *POINT[2:], "memory")


@pytest.mark.parametrize(
    ("point", "why"),
    [
        (("Surface", 11, "uniform", 1e-4), "too few errors to tell"),
        (("Surface", 3, "uniform", 0.03), "errs more often than once in 20 rounds"),
        (("SHYPS", 4, "uniform", 1e-3), "too slow to measure it"),
        (("Surface", 3, "pink", 1e-3), "no noise 'pink'"),
        (("Steane", 3, "uniform", 1e-3), "no code 'Steane'"),
        (("Surface", 3, "uniform", 0.9), "0.9"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(
    point: tuple[str, int, str, float], why: str
) -> None:
    with pytest.raises(Unmeasurable, match=why):
        measure(*point, effort=Effort(seconds=0.05, errors=100))


def test_only_memories_are_measured_when_asked_for() -> None:
    with pytest.raises(Unmeasurable, match="inject is not measured"):
        measure(*POINT, gadget="inject")
