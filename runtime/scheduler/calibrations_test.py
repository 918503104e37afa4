"""Snapshots that are not clean, and which part of a machine a circuit would use."""

from __future__ import annotations

import hashlib
import itertools
import json
from datetime import timedelta

import msgspec
import pytest

from runtime.scheduler.calibrations import Calibration, QubitFigures, Snapshot, hazards
from runtime.scheduler.conftest import NOW, calibration
from runtime.scheduler.errors import BadInput, Missing
from runtime.scheduler.ibm import calibration_of, snapshots


def real() -> list[Calibration]:
    try:
        return list(snapshots())
    except Missing as error:
        pytest.skip(str(error))


def test_dead_edges_and_qubits_without_coherence_times_are_not_used_and_said() -> None:
    made = calibration("m")
    qubits = list(made.qubits)
    qubits[0] = msgspec.structs.replace(qubits[0], t1_s=None)
    made = msgspec.structs.replace(made, qubits=tuple(qubits), edges={**made.edges, "2-3": 1.0})
    snapshot = Snapshot(made)
    part = snapshot.part(3)
    assert part is not None
    assert part.qubits == (3, 4, 5)
    assert snapshot.part(4) is None
    told = "; ".join(hazards(made, NOW))
    assert "1 qubits lack T1 or T2" in told
    assert "1 of 5 edges are dead" in told
    assert "days old" in hazards(made, NOW + timedelta(days=400))[-1]
    assert "future" in hazards(made, NOW - timedelta(days=1))[-1]


def test_the_part_that_is_found_is_the_best_of_all_connected_parts_of_a_small_machine() -> None:
    """Against trying all of them, where growing from the best edge is exact: a line."""
    errors = [0.02, 0.004, 0.006, 0.005, 0.03]
    made = calibration("m")
    made = msgspec.structs.replace(
        made, edges={f"{low}-{low + 1}": error for low, error in enumerate(errors)}
    )
    part = Snapshot(made).part(3)
    assert part is not None
    spans = [sum(errors[at : at + 2]) / 2 for at in range(4)]
    assert part.error_2q == pytest.approx(min(spans))
    assert part.qubits == tuple(range(spans.index(min(spans)), spans.index(min(spans)) + 3))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"qubits": ()}, "empty"),
        ({"edges": {"0-1": float("nan")}}, "probability"),
        ({"edges": {"0-9": 0.1}}, "joins no two"),
        ({"edges": {"x": 0.1}}, "3-7"),
        ({"taken_at": "yesterday"}, "no time"),
        ({"taken_at": "2026-04-18T00:00:00"}, "offset"),
        ({"gate_2q_s": float("inf")}, "no time"),
        ({"backend": ""}, "names its backend"),
        ({"by_distance": {"3": 2.0}}, "probability"),
    ],
)
def test_a_calibration_that_makes_no_sense_is_refused_with_the_place(
    change: dict[str, object], word: str
) -> None:
    with pytest.raises(BadInput, match=word):
        Snapshot(msgspec.structs.replace(calibration("m"), **change))


def test_a_digest_is_that_of_the_canonical_json() -> None:
    made = calibration("m", qubits=2)
    # Python writes the exponents of its floats with two digits.
    plain = json.dumps(msgspec.to_builtins(made), sort_keys=True, separators=(",", ":"))
    assert made.digest == hashlib.sha256(plain.replace("e-0", "e-").encode()).hexdigest()
    changed = msgspec.structs.replace(made, edges={"0-1": 0.0051})
    assert changed.digest != made.digest


def test_every_real_snapshot_is_read_and_its_dead_edges_are_left_out() -> None:
    found = {each.backend: each for each in real()}
    assert len(found) > 60
    assert Snapshot(found["ibm_kyoto"]).part(2) is None
    for name, made in found.items():
        snapshot = Snapshot(made)
        part = snapshot.part(4)
        if part is None:
            assert name == "ibm_kyoto"
            continue
        for low, high in itertools.combinations(part.qubits, 2):
            assert made.edges.get(f"{low}-{high}", 0.0) < 0.5
    # Kingston has a qubit without T1, Cairo edges of two kinds.
    assert any("lack T1" in each for each in hazards(found["ibm_kingston"], NOW))
    assert len(found["alt_cairo"].edges) == 26


def test_properties_that_are_none_are_refused() -> None:
    for data in (b"", b"[]", b"{}", b'{"backend_name": "x", "gates": 3}'):
        with pytest.raises(BadInput, match="no backend properties"):
            calibration_of(data)


def test_the_better_gate_of_a_pair_counts_and_errors_become_chances_of_paulis() -> None:
    def gate(name: str, qubits: list[int], error: float) -> dict[str, object]:
        values = {"gate_error": error, "gate_length": 300.0}
        units = {"gate_error": "", "gate_length": "ns"}
        parameters = [
            {"name": each, "value": value, "unit": units[each]} for each, value in values.items()
        ]
        return {"gate": name, "qubits": qubits, "parameters": parameters}

    made = calibration_of(
        json.dumps(
            {
                "backend_name": "x",
                "last_update_date": "2026-01-01T00:00:00+02:00",
                "qubits": [
                    [{"name": "T1", "value": 100.0, "unit": "us"}],
                    [{"name": "readout_error", "value": 0.02, "unit": ""}],
                ],
                "gates": [
                    gate("sx", [0], 1e-3),
                    gate("cz", [0, 1], 0.004),
                    gate("rzz", [1, 0], 1.0),
                ],
            }
        ).encode()
    )
    assert made.edges == {"0-1": pytest.approx(0.005)}
    assert made.gate_2q_s == pytest.approx(3e-7)
    first, second = made.qubits
    assert first.error == pytest.approx(1.5e-3)
    assert first.t1_s == pytest.approx(1e-4)
    assert first.t2_s is None
    assert first.read_1_for_0 == 1.0
    unknown = QubitFigures(error=1.0, t1_s=None, t2_s=None, read_1_for_0=0.02, read_0_for_1=0.02)
    assert second == unknown
    assert made.taken_at == "2025-12-31T22:00:00+00:00"
