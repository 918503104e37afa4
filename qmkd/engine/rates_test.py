"""The shipped rates in a program: against decoding the same program's syndromes as it runs."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from qmkd.engine import run
from qmkd.engine.prepared import Prepared, Unable
from qmkd.engine.rates import TableRates
from qmkd.qec.data import calibration
from qvm.profiles import Profile, parse_profile

SHOTS = 1 << 16


def bell(profile: str = "logical:Surface(d=3)") -> Prepared:
    """A pair, an epoch, and both measured."""
    ops = [("APPLY_H", "a"), ("APPLY_CNOT", "ab"), ("FENCE_EPOCH", ""), ("MEASURE_Z", "a")]
    nodes: list[dict[str, Any]] = [
        {"op": op, "vqs": list(qubits)} for op, qubits in [*ops, ("MEASURE_Z", "b")]
    ]
    nodes[2].pop("vqs")
    nodes.insert(0, {"op": "ALLOC_LQ", "vqs": ["a", "b"], "args": {"n": 2, "profile": profile}})
    for node, event in zip(nodes[-2:], "mn", strict=True):
        node["produces"] = [event]
    graph = {
        "version": "0.1",
        "program": {"nodes": [{"id": f"n{at}", **node} for at, node in enumerate(nodes)]},
        "resources": {"vqs": ["a", "b"], "events": ["m", "n"]},
    }
    return run.prepare(json.dumps(graph).encode())


def wrong(noise: str) -> float:
    """How often the outcomes of the pair differ."""
    report, _ = run.run_segment(bell(), 5, 0, SHOTS, "frames", noise)
    assert report.counts is not None
    return (report.counts["01"] + report.counts["10"]) / SHOTS


def test_calibrated_errors_are_those_of_decoding_while_the_program_runs() -> None:
    calibrated, decoded = wrong("calibrated uniform 0.003"), wrong("decoded uniform 0.003")
    error = math.sqrt(2 * calibrated * (1 - calibrated) / SHOTS)
    assert 0.02 < calibrated < 0.04
    assert abs(calibrated - decoded) < 5 * error + 0.15 * calibrated, "and 15 % between the ways"


def test_fewer_physical_errors_and_more_distance_make_fewer_logical_ones() -> None:
    rates = [TableRates(calibration(), "uniform", p) for p in (1e-3, 2e-3, 3e-3)]
    found = [[sum(each.memory(surface(d))) for each in rates] for d in (3, 5, 7)]
    assert all(row == sorted(row) for row in found)
    assert all(list(column) == sorted(column, reverse=True) for column in zip(*found, strict=True))


def surface(distance: int) -> Profile:
    found = parse_profile(f"logical:Surface(d={distance})")
    assert isinstance(found, Profile)
    return found


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        ("calibrated loud 0.001", "under loud noise of 0.001 are not known"),
        ("calibrated uniform 0.4", "under uniform noise of 0.4 are not known"),
        ("calibrated uniform", "no noise model"),
        ("calibrated uniform 0", "no noise model"),
        ("calibrated uniform nan", "no noise model"),
        ("louder", "no noise model"),
    ],
)
def test_what_is_not_known_is_refused_in_words(noise: str, said: str) -> None:
    with pytest.raises(Unable, match=said):
        run.run_segment(bell(), 5, 0, 64, "frames", noise)
