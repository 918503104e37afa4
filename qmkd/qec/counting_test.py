"""Counts are what the plan counts, and a file of them is read as it was written."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from qmkd.qec import counting
from qmkd.qec.counting import PLAN, Planned, as_csv, count, from_csv, main, versions_now
from qmkd.qec.data import counted, published

SHIPPED = from_csv((files("qmkd.qec.data") / "counts.csv").read_text(encoding="utf-8"))


def test_the_shipped_counts_are_those_of_the_plan_and_in_order() -> None:
    planned = {(each.distance, each.p): each for each in PLAN}
    assert len(planned) == len(PLAN)
    have = {(each.row.distance, each.row.p, each.row.basis) for each in SHIPPED}
    assert have == {(*place, basis) for place in planned for basis in counting.BASES}
    for row, _, _ in SHIPPED:
        end = planned[row.distance, row.p]
        assert row.rounds == 4 * row.distance
        assert row.shots == end.shots or row.errors >= end.errors
    assert tuple(each.row for each in SHIPPED) == counted()
    assert from_csv(as_csv(SHIPPED)) == SHIPPED


def test_every_planned_memory_was_published_or_lies_among_those_that_were() -> None:
    theirs = {(each.distance, each.p) for each in published()}
    between = {(each.distance, each.p) for each in counting.NEAR_THRESHOLD}
    assert all((each.distance, each.p) in theirs | between for each in PLAN)


@pytest.mark.skipif(
    {each.versions for each in SHIPPED} != {versions_now()},
    reason="other versions draw other shots",
)
def test_a_memory_counted_again_is_the_shipped_count() -> None:
    (planned,) = (each for each in PLAN if (each.distance, each.p) == (5, 1e-2))
    assert count(planned, "X") in SHIPPED


def test_what_a_file_holds_is_not_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "PLAN", (Planned(2, 1e-2, 256, 1), Planned(3, 1e-2, 256, 1)))
    out = tmp_path / "counts.csv"
    assert main(["--out", str(out), "--distance", "3"]) == 0
    first = from_csv(out.read_text(encoding="utf-8"))
    assert [(each.row.distance, each.row.basis) for each in first] == [(3, "X"), (3, "Z")]
    altered = [each._replace(row=each.row._replace(errors=7)) for each in first]
    out.write_text(as_csv(altered), encoding="utf-8")
    assert main(["--out", str(out)]) == 0
    second = from_csv(out.read_text(encoding="utf-8"))
    assert [each.row.distance for each in second] == [2, 2, 3, 3]
    assert second[2:] == altered
