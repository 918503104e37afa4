"""Random questions for the Azure Quantum Resource Estimator, with the answers of `qdk`.

`python -m harness.bench.peers_qdk OUT.json.gz` asks the estimator of an installed `qdk` (extra
`peers-simulators`) and writes one table of questions and answers. The committed table is compared
with our own closed forms in `qmkd/qec/azure_test.py`; a table written anew with the same versions
is the same. Answers keep every number that the estimator gives, and leave out its prose.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import random
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

SEED = 20261121
QUESTIONS = 1200
FRONTIERS = 60
ANSWER_S_MAX = 20  # some questions it never answers: its search for a quantile does not end
KEPT = ("physicalCounts", "logicalQubit", "tfactory", "errorBudget", "logicalCounts")
KEPT_OF_A_POINT = ("physicalCounts", "logicalQubit", "tfactory")
GATE_QUBITS = ("qubit_gate_ns_e3", "qubit_gate_ns_e4", "qubit_gate_us_e3", "qubit_gate_us_e4")
MAJORANA_QUBITS = ("qubit_maj_ns_e4", "qubit_maj_ns_e6")


def question(chance: random.Random, index: int) -> dict[str, Any]:
    """One question: {"counts": ..., "params": ...}, as the estimator takes them."""
    name = chance.choice(GATE_QUBITS + MAJORANA_QUBITS)
    qubit: dict[str, Any] = {"name": name}
    if chance.random() < 0.4:
        qubit |= _own_qubit(chance, name)
    params: dict[str, Any] = {"qubitParams": qubit, "qecScheme": _scheme(chance, name)}
    params["errorBudget"] = _budget(chance)
    constraints: dict[str, Any] = {}
    if chance.random() < 0.3:
        constraints["logicalDepthFactor"] = round(chance.uniform(1, 20), 3)
    if index % 5 == 0 and index >= FRONTIERS:
        constraints["maxTFactories"] = chance.randint(1, 12)
    if index < FRONTIERS:
        params["estimateType"] = "frontier"
    if constraints:
        params["constraints"] = constraints
    return {"counts": _counts(chance), "params": params}


def _counts(chance: random.Random) -> dict[str, int]:
    def some(largest: float) -> int:
        return int(10 ** chance.uniform(0, largest)) if chance.random() < 0.6 else 0

    rotations = some(5)
    return {
        "numQubits": int(10 ** chance.uniform(0, 4)),
        "tCount": some(9),
        "rotationCount": rotations,
        "rotationDepth": chance.randint(1, rotations) if rotations else 0,
        "cczCount": some(7),
        "ccixCount": some(6),
        "measurementCount": 1 + some(8),
    }


def _own_qubit(chance: random.Random, name: str) -> dict[str, Any]:
    def rate(low: float, high: float) -> float:
        return float(f"{10 ** chance.uniform(low, high):.4g}")

    if name in MAJORANA_QUBITS:
        return {
            "oneQubitMeasurementErrorRate": rate(-6, -3.2),
            "twoQubitJointMeasurementErrorRate": rate(-6, -3.2),
            "idleErrorRate": rate(-6, -3.2),
            "oneQubitMeasurementTime": f"{chance.randint(50, 2000)} ns",
        }
    return {
        "oneQubitGateErrorRate": rate(-5, -2.3),
        "twoQubitGateErrorRate": rate(-5, -2.3),
        "idleErrorRate": rate(-6, -2.5),
        "oneQubitMeasurementErrorRate": rate(-5, -2.3),
        "tGateErrorRate": rate(-5, -2.2),
        "oneQubitMeasurementTime": f"{chance.randint(50, 2000)} ns",
        "oneQubitGateTime": f"{chance.randint(20, 900)} ns",
        "twoQubitGateTime": f"{chance.randint(20, 900)} ns",
        "tGateTime": f"{chance.randint(20, 900)} ns",
    }


def _scheme(chance: random.Random, name: str) -> dict[str, Any]:
    if name in MAJORANA_QUBITS and chance.random() < 0.5:
        return {"name": "floquet_code"}
    scheme: dict[str, Any] = {"name": "surface_code"}
    if chance.random() < 0.3:
        scheme["crossingPrefactor"] = round(chance.uniform(0.01, 0.5), 3)
    if chance.random() < 0.2:
        scheme["distanceCoefficientPower"] = chance.randint(0, 2)
    if name in GATE_QUBITS and chance.random() < 0.2:
        scheme["logicalCycleTime"] = "6 * twoQubitGateTime * codeDistance + oneQubitGateTime / 4"
        scheme["physicalQubitsPerLogicalQubit"] = "9 * codeDistance * codeDistance / 4 + 1"
    return scheme


def _budget(chance: random.Random) -> Any:
    if chance.random() < 0.25:
        return {
            part: float(f"{10 ** chance.uniform(-6, -1):.3g}")
            for part in ("logical", "tStates", "rotations")
        }
    return float(f"{10 ** chance.uniform(-6, -0.5):.3g}")


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """What `qdk` says: its numbers, or the code of its refusal."""
    from qdk.estimator import EstimatorError, LogicalCounts

    try:
        found = dict(LogicalCounts(asked["counts"]).estimate(asked["params"]))
    except EstimatorError as error:  # derives from BaseException
        return {"refused": error.code}
    if "frontierEntries" in found:
        points = found["frontierEntries"]
        return {"points": [{key: point.get(key) for key in KEPT_OF_A_POINT} for point in points]}
    return {key: found.get(key) for key in KEPT}


def answer_in_time(asked: dict[str, Any]) -> dict[str, Any]:
    """As `answer`, from a process of its own that is ended after ANSWER_S_MAX."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=lambda: theirs.send(answer(asked)))
    process.start()
    found = ours.recv() if ours.poll(ANSWER_S_MAX) else {"refused": "never answers"}
    process.kill()
    process.join()
    return dict(found)


def main(arguments: list[str]) -> None:
    warnings.simplefilter("ignore")
    chance = random.Random(SEED)
    rows = []
    for index in range(QUESTIONS):
        asked = question(chance, index)
        rows.append(asked | {"answer": answer_in_time(asked)})
    table = {"qdk": version("qdk"), "seed": SEED, "rows": rows}
    raw = json.dumps(table, separators=(",", ":")).encode()
    # No time stamp in the file: the same answers are the same bytes.
    Path(arguments[0]).write_bytes(gzip.compress(raw, 9, mtime=0))


if __name__ == "__main__":
    main(sys.argv[1:])
