"""Runs with larger codes than the program names: as if it named them, and whether that helps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qmkd.core.ports import Setting
from qmkd.engine.run import prepare, run_segment
from qmkd.engine.tables import table
from qvm.raising import least_distance
from syscalls.job import RaisedCode


def graph(profile: str) -> bytes:
    """Two qubits that idle, entangle and are measured."""
    names = ["a", "b"]
    nodes: list[dict[str, Any]] = [
        {"op": "ALLOC_LQ", "args": {"n": 2, "profile": profile}, "vqs": names},
        {"op": "APPLY_H", "vqs": ["a"]},
        *({"op": "APPLY_CNOT", "vqs": names} for _ in range(9)),
        {"op": "MEASURE_Z", "vqs": ["a"], "produces": ["m"]},
        {"op": "MEASURE_Z", "vqs": ["b"], "produces": ["n"]},
        {"op": "FREE_LQ", "vqs": names},
    ]
    nodes = [{"id": f"n{at}", **node} for at, node in enumerate(nodes)]
    resources = {"vqs": names, "events": ["m", "n"]}
    text = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    return json.dumps(text).encode()


@pytest.mark.parametrize(
    "noise",
    [
        "calibrated uniform 0.002",
        pytest.param("decoded uniform 0.002", marks=pytest.mark.slow),
        pytest.param("physical uniform 0.002", marks=pytest.mark.slow),
    ],
)
def test_the_errors_are_those_of_the_larger_code(noise: str) -> None:
    """Bit by bit those of a program that names it: nothing else depends on distances."""
    setting = Setting(raised=(RaisedCode(code="Surface", distance=3, to=5),))
    small, large = prepare(graph("logical:Surface(d=3)")), prepare(graph("logical:Surface(d=5)"))
    rows = [
        run_segment(made, 5, 0, 1024, "frames", noise, setting=given)[1]
        for made, given in ((small, setting), (large, Setting()), (small, Setting()))
    ]
    assert rows[0] == rows[1] != rows[2]


@pytest.mark.parametrize(("distance", "times"), [(3, 1.5), (3, 2.0), (5, 1.5), (5, 2.0), (7, 1.5)])
def test_the_distance_chosen_by_the_law_is_enough_as_measured(distance: int, times: float) -> None:
    p = 0.001
    least = least_distance(distance, p, times * p)
    assert least is not None
    chosen = next(d for d in range(3, 99, 2) if d >= least)
    measured = table("")
    for basis in "XZ":
        usual = measured.look_up("Surface", distance, "uniform", p, "memory").rate(basis)
        drifted = measured.look_up("Surface", chosen, "uniform", times * p, "memory").rate(basis)
        assert drifted <= usual, (chosen, basis)
