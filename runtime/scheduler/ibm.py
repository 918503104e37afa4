"""Calibration snapshots of real IBM machines, as qiskit-ibm-runtime ships them.

The package's JSON files are read where they lie; nothing of it is imported. IBM states average gate
infidelities r; the chance of a Pauli error is r (d + 1) / d, so 3/2 r on one qubit and 5/4 r on
two. Where a pair has several gates, the better one counts. What is missing stays missing.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from runtime.scheduler.calibrations import Calibration, QubitFigures, check, parse_time
from runtime.scheduler.errors import BadInput, Missing

HINT: Final = "The snapshots are part of qiskit-ibm-runtime: pip install 'qmkd[snapshots]'."
UNIT_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
NO_TIME: Final = {"rz", "id", "reset", "delay", "if_else"}
READOUT_S: Final = 4e-6
"""Where a snapshot does not say how long a readout takes."""


def snapshots() -> Iterator[Calibration]:
    """Every snapshot that has a two-qubit gate, once, by the names of files. Raises Missing."""
    seen = set()
    for properties in sorted(_folder().glob("*/props_*.json")):
        found = calibration_of(properties.read_bytes())
        if found.edges and found.backend not in seen:
            seen.add(found.backend)
            yield found


def _folder() -> Path:
    spec = importlib.util.find_spec("qiskit_ibm_runtime")
    for place in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(place) / "fake_provider" / "backends"
        if folder.is_dir():
            return folder
    raise Missing(HINT)


def calibration_of(data: bytes) -> Calibration:
    """A snapshot from the JSON of IBM's backend properties. Raises BadInput."""
    try:
        raw = msgspec.json.decode(data)
        found = _calibration(raw)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"These are no backend properties of IBM's: {error!r}.") from error
    check(found)
    return found


def _calibration(raw: dict[str, Any]) -> Calibration:
    ones: dict[int, float] = {}
    edges: dict[str, float] = {}
    lengths: dict[int, list[float]] = {1: [], 2: []}
    for gate in raw["gates"]:
        qubits, values = gate["qubits"], _values(gate["parameters"])
        if gate["gate"] not in NO_TIME and len(qubits) in lengths and "gate_length" in values:
            lengths[len(qubits)].append(values["gate_length"])
        error = values.get("gate_error")
        if error is None:
            continue
        if len(qubits) == 1 and gate["gate"] in ("sx", "x", "u2"):
            ones[qubits[0]] = min(ones.get(qubits[0], 1.0), error * 3 / 2)
        elif len(qubits) == 2:
            name = "-".join(map(str, sorted(qubits)))
            edges[name] = min(edges.get(name, 1.0), error * 5 / 4)
    figures = [_values(qubit) for qubit in raw["qubits"]]
    readouts = [each["readout_length"] for each in figures if each.get("readout_length")]
    return Calibration(
        backend=str(raw["backend_name"]),
        taken_at=parse_time(str(raw["last_update_date"])).isoformat(),
        qubits=tuple(_qubit(each, ones.get(number, 1.0)) for number, each in enumerate(figures)),
        edges=dict(sorted(edges.items())),
        gate_1q_s=statistics.median(lengths[1]) if lengths[1] else 5e-8,
        gate_2q_s=statistics.median(lengths[2]) if lengths[2] else 5e-7,
        readout_s=statistics.median(readouts) if readouts else READOUT_S,
    )


def _values(parameters: list[dict[str, Any]]) -> dict[str, float]:
    """By name, in seconds where they are times."""
    return {
        each["name"]: float(each["value"]) * UNIT_S.get(each["unit"], 1.0) for each in parameters
    }


def _qubit(values: dict[str, float], error: float) -> QubitFigures:
    either = values.get("readout_error", 1.0)
    return QubitFigures(
        error=min(1.0, error),
        t1_s=values.get("T1"),
        t2_s=values.get("T2"),
        read_1_for_0=values.get("prob_meas1_prep0", either),
        read_0_for_1=values.get("prob_meas0_prep1", either),
    )
