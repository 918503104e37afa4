"""The comparisons compare the same programs: what peers are given does what ours does."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from harness.bench import peers_engine
from harness.bench.engine_bench import against, numpy_vector
from harness.bench.engine_programs import (
    as_circuit,
    as_ops,
    clifford_program,
    dense_program,
    guarded_teleport,
    injections,
    noisy,
)
from harness.bench.growth_bench import slope
from harness.bench.peers_engine import Peer
from qmkd.engine.run import event_rows, prepare
from qvm.program import VerifiedProgram
from qvm.reference import distribution
from qvm.verify import verify_bytes


def test_numpy_alone_makes_the_state_that_the_reference_measures() -> None:
    raw, qubits = dense_program(6, 4), 6
    vector = np.asarray(numpy_vector(qubits, as_ops(prepare(raw), 0.0)["ops"], np.complex128))
    verified = verify_bytes(raw)
    assert isinstance(verified, VerifiedProgram)
    exact = distribution(verified).probabilities
    for index, amplitude in enumerate(vector):
        key = "".join(str(index >> qubit & 1) for qubit in range(qubits))
        assert abs(amplitude) ** 2 == pytest.approx(exact.get(key, 0.0), abs=1e-12)


def test_the_sampler_of_a_program_with_pauli_guards_flips_as_often_as_ours() -> None:
    program, noise, shots = prepare(clifford_program(8, 60, pauli_guards=True)), noisy(0.02), 20_000
    ours = event_rows(program, 1, 0, shots, "frames", noise)
    theirs = as_circuit(program, noise).compile_sampler(seed=1).sample(shots)
    # Errors after a guarded Pauli strike only here, or always there: 2 % of half of the shots.
    guards = sum(step.guard is not None for step in program.lowered.steps)
    bound = 5 * math.sqrt(2 * 0.25 / shots) + guards * 0.02
    assert abs(ours.mean(axis=0) - theirs.mean(axis=0)).max() < bound


def test_injections_of_t_states_turn_a_qubit_as_t_gates_do() -> None:
    raw = injections(2, 3)
    verified = verify_bytes(raw)
    assert isinstance(verified, VerifiedProgram)
    exact = distribution(verified).probabilities
    last = sum(chance for key, chance in exact.items() if key[-1] == "1")
    turn = np.diag([1, np.exp(0.25j * np.pi)])
    hadamard = np.array([[1, 1], [1, -1]]) / math.sqrt(2)
    state = hadamard @ np.array([1, 0])
    for _ in range(3):
        state = hadamard @ turn @ state
    assert last == pytest.approx(abs(state[1]) ** 2)


def test_a_peer_that_is_not_installed_is_named_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(peers_engine.PYTHON, sys.executable)
    with Peer("qulacs", as_ops(prepare(guarded_teleport()), 0.0), 1) as peer:
        if not peer.missing:
            pytest.skip("qulacs is installed here")
        (found,) = against("own / qulacs", peer, [1.0], [], 0.9)
        assert "qulacs is not installed: pip install 'qmkd[peers-simulators]'" in found["metric"]
        assert math.isnan(found["value"])


def test_the_exponent_of_a_power_is_found() -> None:
    assert slope((10, 100, 1000), [3e-3, 0.3, 30.0]) == pytest.approx(2)
