"""Which distance makes up for a drift, and what a program is with larger codes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qvm.lower import lower
from qvm.program import VerifiedProgram
from qvm.raising import least_distance, raised_lowered, raised_summary
from qvm.verify import verify_bytes
from syscalls.job import RaisedCode


def program(first: str, second: str = "logical:Surface(d=9)") -> VerifiedProgram:
    """Two qubits of one profile and one of another."""
    nodes: list[dict[str, Any]] = [
        {"op": "ALLOC_LQ", "args": {"n": 2, "profile": first}, "vqs": ["a", "b"]},
        {"op": "ALLOC_LQ", "args": {"n": 1, "profile": second}, "vqs": ["c"]},
        {"op": "APPLY_CNOT", "vqs": ["a", "c"]},
        {"op": "MEASURE_Z", "vqs": ["c"], "produces": ["m"]},
        {"op": "FREE_LQ", "vqs": ["a", "b", "c"]},
    ]
    nodes = [{"id": f"n{at}", **node} for at, node in enumerate(nodes)]
    resources = {"vqs": ["a", "b", "c"], "events": ["m"]}
    text = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    found = verify_bytes(json.dumps(text).encode())
    assert isinstance(found, VerifiedProgram), found
    return found


@pytest.mark.parametrize("distance", [3, 5, 9, 15])
@pytest.mark.parametrize("times", [1.1, 2.0, 5.0])
def test_the_least_distance_errs_exactly_as_often_by_the_law(distance: int, times: float) -> None:
    found = least_distance(distance, 0.001, 0.001 * times)
    assert found is not None
    assert found > distance
    before, after = (
        0.1 * (100 * p) ** ((d + 1) / 2) for p, d in ((0.001, distance), (0.001 * times, found))
    )
    assert after == pytest.approx(before, rel=1e-9)


def test_beyond_the_threshold_no_distance_helps() -> None:
    assert least_distance(3, 0.001, 0.01) is None
    assert least_distance(3, 0.001, 0.3) is None


def test_a_raised_program_is_like_one_that_names_the_larger_codes() -> None:
    raised = (RaisedCode(code="Surface", distance=3, to=5),)
    made, like = program("logical:Surface(d=3)"), program("logical:Surface(d=5)")
    one, other = raised_summary(made.summary, raised), like.summary
    assert one.peak_physical == other.peak_physical
    assert one.digest == made.summary.digest
    assert {(b.code, b.distance, b.physical, b.number) for b in one.blocks} == {
        (b.code, b.distance, b.physical, b.number) for b in other.blocks
    }
    assert [b.number for b in one.blocks] == [b.number for b in made.summary.blocks]
    profiles = raised_lowered(lower(made), raised).alloc_profiles
    assert [each.distance for each in profiles.values()] == [5, 9]
    assert [each.block_physical for each in profiles.values()] == [49, 161]
    assert raised_lowered(lower(made), ()) == lower(made)
