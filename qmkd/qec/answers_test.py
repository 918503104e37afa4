"""One question in, one answer out: what is asked, refused and found."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from qmkd.qec import answers
from qmkd.qec.resources import PublishedLaw

PROGRAM = {"numQubits": 20, "tCount": 100_000, "measurementCount": 500}


def asked(**fields: Any) -> dict[str, Any]:
    return answers.answer(json.dumps(fields).encode(), PublishedLaw())


def test_both_estimates_have_the_same_numbers_to_compare() -> None:
    found = asked(counts=PROGRAM)
    common = set(found["azure"]) - {"error_source"}
    assert common <= set(found["measured"])
    for key in ("physical_qubits", "seconds", "failure"):
        assert found["azure"][key] > 0
        assert found["measured"][key] > 0
    assert found["optimism"] > 8
    assert (
        found["azure_fields"]["physicalCounts"]["physicalQubits"]
        == (found["azure"]["physical_qubits"])
    )
    assert found["machine"] == {
        "code": "Surface",
        "p": 1e-3,
        "round_ns": 400.0,
        "injected_error": None,
    }


def test_a_frontier_begins_with_the_fastest() -> None:
    found = asked(counts=PROGRAM | {"tCount": 10**8}, frontier=True)["frontier"]
    for points in found.values():
        assert 1 < len(points) <= answers.POINTS_MAX
        assert points[0]["seconds"] < points[-1]["seconds"]
        assert points[0]["physical_qubits"] > points[-1]["physical_qubits"]


def test_the_smallest_distance_needs_no_program() -> None:
    found = asked(error_wanted=1e-9, p=1e-3, distance=11)
    assert set(found) == {"notes", "warnings", "machine", "inverse"}
    assert found["inverse"]["distance"] == 17
    assert found["inverse"]["physical_qubits_per_block"] == 2 * 17**2 - 1
    assert 1e-4 < found["inverse"]["strongest_noise"] < 1e-3


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "counts or an error"),
        ({"speed": 3}, "unknown field"),
        ({"counts": {"numQubits": 3, "tcount": 4}}, "unknown field"),
        ({"counts": {"numQubits": 3}, "failure": 2}, "between 0 and 1"),
        ({"counts": PROGRAM, "qubit": "best"}, "there are qubit_gate"),
        ({"counts": PROGRAM, "code": "Steane"}, "no code"),
        ({"counts": PROGRAM, "scheme": "floquet_code"}, "driven by measurements"),
        ({"counts": PROGRAM, "p": 0.7}, "noise strength"),
        ({"counts": PROGRAM, "round_ns": 0}, "takes some time"),
        ({"error_wanted": 3}, "error wanted"),
    ],
)
def test_a_question_without_an_answer_is_refused_with_the_reason(
    fields: dict[str, Any], why: str
) -> None:
    assert why in asked(**fields)["refused"]


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff\xfe"])
def test_what_is_no_question_is_refused(raw: bytes) -> None:
    assert "cannot be read" in answers.answer(raw, PublishedLaw())["refused"]


def test_settings_are_read_strictly_and_their_differences_told() -> None:
    document: dict[str, dict[str, Any]] = {
        "qec_scheme": {
            "code_family": "surface_code",
            "code_distance": 9,
            "logical_cycle_time_us": 9.0,
        },
        "error_budget": {"physical_gate_error_rate": 1e-3},
    }
    found = asked(counts=PROGRAM, settings=document)
    assert found["machine"]["round_ns"] == pytest.approx(1000)
    assert any(path == "$.qec_scheme.code_distance" for path, _ in found["notes"])
    document["error_budget"]["measurement_error_rate"] = 2e-3
    assert asked(counts=PROGRAM, settings=document)["machine"]["p"] == 2e-3
    document["decoder"] = {"size": 3}
    paths = [each["path"] for each in asked(counts=PROGRAM, settings=document)["findings"]]
    assert paths == ["$.decoder.size"]


def test_one_side_may_refuse_alone() -> None:
    found = asked(counts=PROGRAM, p=5e-3)
    assert "no known distance" in found["measured"]["refused"]
    assert found["azure"]["physical_qubits"] > 0


def test_the_module_is_a_program_that_answers_on_standard_output() -> None:
    question = json.dumps({"error_wanted": 1e-6}).encode()
    command = [sys.executable, "-m", "qmkd.qec"]
    done = subprocess.run([*command, "estimate"], input=question, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == set(asked(error_wanted=1e-6))
    assert json.loads(done.stdout)["inverse"]["error_per_cycle"] <= 1e-6
    assert subprocess.run(command, capture_output=True).returncode == 2
