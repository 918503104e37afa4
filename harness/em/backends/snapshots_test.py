"""What is chosen of a device with holes in its calibration; running it needs qiskit-ibm-runtime."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from harness.em.backends.backend import Refused
from harness.em.backends.registry import open_backend
from harness.em.backends.snapshots import DEAD, all_pairs, best_connected, live_edges
from harness.em.circuits.families import make
from harness.em.methods.registry import method
from harness.em.running import carried_out


class Figures(NamedTuple):
    error: float | None


def test_dead_and_unknown_edges_are_left_out_and_the_better_direction_counts() -> None:
    target = {
        "cx": {
            (0, 1): Figures(0.02), (1, 0): Figures(0.01), (1, 2): Figures(1.0),
            (2, 3): Figures(DEAD), (3, 4): None, (4, 5): Figures(None), (5, 6): Figures(0.03),
        }
    }  # fmt: skip
    assert live_edges(target, "cx") == {(0, 1): 0.01, (5, 6): 0.03}


def test_the_best_connected_qubits_are_chosen() -> None:
    edges = {(0, 1): 0.01, (1, 2): 0.2, (3, 4): 0.02, (4, 5): 0.02}
    assert sorted(best_connected(edges, 3)) == [3, 4, 5]
    assert len(best_connected(edges, 4)) == 3
    assert best_connected({}, 2) == []


def test_a_gate_between_distant_qubits_costs_its_swaps() -> None:
    found = all_pairs({(0, 1): 0.01, (1, 2): 0.02}, 3)
    assert found[0, 1] == 0.01
    assert found[0, 2] == pytest.approx(min(3 * 0.01 + 0.02, 3 * 0.02 + 0.01))


def test_without_snapshots_or_for_unknown_ones_the_refusal_says_what_to_do() -> None:
    with pytest.raises(Refused, match="qiskit-ibm-runtime"):
        open_backend("aer:fake_nowhere")


def test_a_snapshot_of_a_real_device_runs_and_is_mitigated() -> None:
    pytest.importorskip("qiskit_ibm_runtime", reason="qiskit-ibm-runtime is not installed")
    pytest.importorskip("qiskit_aer", reason="qiskit-aer is not installed")
    backend = open_backend("aer:fake_lima,qubits=4")
    task = make("ghz", 1, 3)
    plain = carried_out(method("none"), task, backend, 8000, 1).estimate
    found = carried_out(method("zne"), task, backend, 8000, 1).estimate
    assert abs(found.value - task.exact) < abs(plain.value - task.exact)
