"""The closed forms against the answers of `qdk`, from a committed table."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qmkd.qec import azure
from qmkd.qec.azure import Budget, Counts, EstimateError, Limits, Qubit, Scheme

TABLE = Path(__file__).parents[2] / "harness" / "bench" / "peers_qdk.json.gz"
QUBIT_FIELDS = {
    "oneQubitMeasurementTime": "measure_ns",
    "oneQubitGateTime": "gate_ns",
    "twoQubitGateTime": "pair_ns",
    "tGateTime": "t_gate_ns",
    "oneQubitMeasurementErrorRate": "measure_error",
    "oneQubitGateErrorRate": "gate_error",
    "twoQubitGateErrorRate": "pair_error",
    "twoQubitJointMeasurementErrorRate": "pair_error",
    "tGateErrorRate": "t_error",
    "idleErrorRate": "idle_error",
}
SCHEME_FIELDS = {
    "crossingPrefactor": "prefactor",
    "distanceCoefficientPower": "power",
    "logicalCycleTime": "cycle_time",
    "physicalQubitsPerLogicalQubit": "qubits",
}


def table() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(gzip.decompress(TABLE.read_bytes()))["rows"]
    return rows


ROWS = table()


def read_qubit(given: dict[str, Any]) -> Qubit:
    own = {
        QUBIT_FIELDS[key]: int(value.removesuffix(" ns")) if isinstance(value, str) else value
        for key, value in given.items()
        if key != "name"
    }
    return msgspec.structs.replace(azure.QUBITS[given["name"]], **own)


def read_scheme(given: dict[str, Any], qubit: Qubit) -> Scheme:
    own = {SCHEME_FIELDS[key]: value for key, value in given.items() if key != "name"}
    return msgspec.structs.replace(azure.scheme_named(given["name"], qubit), **own)


def read_budget(given: Any, counts: Counts) -> Budget:
    if isinstance(given, float):
        return azure.split_budget(given, counts)
    return Budget(logical=given["logical"], states=given["tStates"], rotations=given["rotations"])


def ours(row: dict[str, Any]) -> dict[str, Any]:
    """Our answer in the form of the table."""
    counts = msgspec.convert(row["counts"], Counts)
    params = row["params"]
    qubit = read_qubit(params["qubitParams"])
    constraints = params.get("constraints", {})
    asked = (
        counts,
        qubit,
        read_scheme(params["qecScheme"], qubit),
        read_budget(params["errorBudget"], counts),
        Limits(
            depth_factor=constraints.get("logicalDepthFactor", 1.0),
            factories_max=constraints.get("maxTFactories"),
        ),
    )
    try:
        if params.get("estimateType") == "frontier":
            points = [each.as_azure() for each in azure.frontier(*asked)]
            kept = ("physicalCounts", "logicalQubit", "tfactory")
            return {"points": [{key: point.get(key) for key in kept} for point in points]}
        return {"tfactory": None} | azure.estimate(*asked).as_azure()
    except EstimateError:
        return {"refused": None}


def differences(rows: list[dict[str, Any]]) -> list[int]:
    return [
        index
        for index, row in enumerate(rows)
        if ours(row) != (row["answer"] if "refused" not in row["answer"] else {"refused": None})
    ]


def test_every_number_of_a_thousand_random_estimates_equals_the_peers() -> None:
    answered = [row for row in ROWS if row["answer"].get("refused") != "never answers"]
    assert len(answered) >= 1000
    assert differences(answered) == []


def test_the_table_asks_about_everything_that_is_modelled() -> None:
    asked = Counter(
        key
        for row in ROWS
        for part in ("qubitParams", "qecScheme", "constraints", "counts")
        for key in (row["params"] | row).get(part, {})
    )
    for key in (*QUBIT_FIELDS, *SCHEME_FIELDS, "logicalDepthFactor", "maxTFactories"):
        assert asked[key] >= 50, key
    rounds = Counter(
        len(row["answer"]["tfactory"]["numUnitsPerRound"])
        for row in ROWS
        if row["answer"].get("tfactory")
    )
    assert min(rounds[1], rounds[2], rounds[3]) >= 50


def test_where_the_peer_never_answers_there_is_an_answer_all_the_same() -> None:
    unanswered = [row for row in ROWS if row["answer"].get("refused") == "never answers"]
    assert unanswered
    assert all("refused" not in ours(row) for row in unanswered)


NS_E3 = azure.QUBITS["qubit_gate_ns_e3"]


def estimated(counts: Counts, qubit: Qubit = NS_E3, **limits: Any) -> azure.Estimate:
    budget = azure.split_budget(1e-3, counts)
    return azure.estimate(counts, qubit, azure.SURFACE_GATES, budget, Limits(**limits))


def test_states_that_no_factory_can_improve_are_refused_instead_of_searched_for_ever() -> None:
    hopeless = msgspec.structs.replace(NS_E3, t_error=0.3)
    with pytest.raises(EstimateError, match="no factory"):
        estimated(Counts(num_qubits=100, t_count=10_000), hopeless)


def test_a_point_of_the_frontier_is_beaten_by_no_other() -> None:
    counts = Counts(num_qubits=50, t_count=10**6, measurement_count=1000)
    budget = azure.split_budget(1e-3, counts)
    points = azure.frontier(counts, NS_E3, azure.SURFACE_GATES, budget)
    assert len(points) > 5
    qubits = [point.physical_qubits for point in points]
    times = [point.runtime_ns for point in points]
    assert times == sorted(set(times))
    assert qubits == sorted(set(qubits), reverse=True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"gate_error": 0.02}, "threshold"),
        ({"measure_error": 0.01}, "threshold"),
    ],
)
def test_a_qubit_beyond_the_threshold_is_refused(change: dict[str, float], why: str) -> None:
    with pytest.raises(EstimateError, match=why):
        estimated(Counts(num_qubits=1, t_count=1), msgspec.structs.replace(NS_E3, **change))


def test_programs_and_limits_without_sense_are_refused() -> None:
    for counts in (Counts(num_qubits=0), Counts(num_qubits=1), Counts(num_qubits=3, t_count=-1)):
        with pytest.raises(EstimateError):
            estimated(counts)
    for limits in ({"depth_factor": 0.5}, {"factories_max": 0}):
        with pytest.raises(EstimateError):
            estimated(Counts(num_qubits=1, t_count=1), **limits)
    with pytest.raises(EstimateError, match="between 0 and 1"):
        azure.split_budget(1.0, Counts(num_qubits=1))


@pytest.mark.parametrize("formula", ["7000 us", "codeDistance - 3", "speed * 3", "1/0"])
def test_a_formula_that_gives_no_number_is_refused(formula: str) -> None:
    scheme = msgspec.structs.replace(azure.SURFACE_GATES, cycle_time=formula)
    with pytest.raises(EstimateError):
        scheme.cycle_ns(NS_E3, 3)
