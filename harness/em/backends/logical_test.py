"""Logical qubits of a real daemon as a backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.em.backends.backend import Refused
from harness.em.backends.logical import Logical
from harness.em.circuits.families import make
from harness.em.circuits.paulis import measured
from harness.em.methods.gap import build_twin, known_products
from harness.em.methods.registry import method
from harness.em.running import carried_out
from tests.daemon import running_daemon


@pytest.fixture(scope="module")
def socket() -> Iterator[str]:
    with running_daemon(config='physical_noise = "uniform 0.003"\n') as daemon:
        yield str(daemon.socket)


def test_rates_fall_with_distance_and_slow_gates_err_more_often(socket: str) -> None:
    backend = Logical(socket, distances=(5, 3), memory_shots=5_000)
    found = backend.calibration
    assert found.by_distance["3"] > found.by_distance["5"] > 0
    assert found.slow_by_distance["3"] > found.by_distance["3"]
    assert backend.calibration_shots == 4 * 5_000
    assert backend.calibration.digest == found.digest
    backend.close()


def test_a_seed_gives_the_same_counts_again_and_distances_are_those_offered(socket: str) -> None:
    backend = Logical(socket, distances=(3,))
    circuit = measured(make("clifford", 1, 3, 2).circuit, ())
    assert backend.run(circuit, 200, 4) == backend.run(circuit, 200, 4)
    assert backend.run(circuit, 200, 4) != backend.run(circuit, 200, 5)
    assert not backend.run(circuit, 10, 1).gaps
    with pytest.raises(Refused, match="offers these code distances: 3"):
        backend.run(circuit, 10, 1, distance=7)
    backend.close()


def test_gaps_come_with_the_counts_and_take_the_bias_away(socket: str) -> None:
    backend = Logical(socket, distances=(3,), noise="decoded", memory_shots=1_000)
    task = make("ghz", 1, 2)
    found = carried_out(method("gap"), task, backend, 3_000, 3)
    for outcome in found.outcomes:
        assert {word: sum(b.values()) for word, b in outcome.gaps.items()} == outcome.counts
    plain = carried_out(method("none"), task, backend, 3_000, 3).estimate
    assert abs(found.estimate.value - 1) < 5 * found.estimate.std_err
    assert abs(plain.value - 1) > 5 * plain.std_err
    backend.close()


def test_a_twin_has_the_same_build_and_certain_answers() -> None:
    task = make("clifford", 3, 4)
    twin = build_twin(task, 5)
    gates = [each for each in twin.circuit.operations if each.name != "x"]
    plain = [each for each in task.circuit.operations if each.name != "x"]
    assert gates == plain
    assert len(known_products(twin)) == len(task.observable.moving)


def test_no_daemon_and_unknown_noise_are_refused_with_a_sentence(tmp_path: Path) -> None:
    backend = Logical(str(tmp_path / "none"))
    with pytest.raises(Refused, match="logical:"):
        backend.run(measured(make("ghz", 1, 2).circuit, ()), 10, 1)
    with pytest.raises(Refused, match="calibrated, decoded"):
        Logical(noise="loud")
