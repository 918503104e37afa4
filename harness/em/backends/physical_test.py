"""The noisy simulator beside Qiskit's density matrices, and its two engines beside each other."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from harness.em.backends.backend import Refused, seconds_of
from harness.em.backends.device import Device, Gate, device, steps
from harness.em.backends.physical import Physical
from harness.em.backends.registry import open_backend
from harness.em.backends.superoperators import Superoperators
from harness.em.backends.twirled import counts_of, sample
from harness.em.circuits.families import make
from harness.em.circuits.paulis import bases, measured
from harness.em.circuits.tasks import Gates
from runtime.jit.circuit import Circuit
from runtime.jit.gates import GATES


def kraus_of_relaxation(seconds: float, t1: float, t2: float) -> list[Any]:
    """Amplitude damping, then the dephasing that T2 has beyond it (Nielsen and Chuang, 8.3.5)."""
    lost = 1 - math.exp(-seconds / t1)
    pure = math.exp(-seconds / t2) / math.sqrt(1 - lost)
    damping = [np.diag([1, math.sqrt(1 - lost)]), np.array([[0, math.sqrt(lost)], [0, 0]])]
    phases = [math.sqrt((1 + pure) / 2) * np.eye(2), math.sqrt((1 - pure) / 2) * np.diag([1, -1])]
    return [b @ a for a in damping for b in phases]


def by_qiskit(circuit: Circuit, machine: Device) -> Any:
    """Probabilities of all outcomes, from density matrices and Kraus operators."""
    from qiskit.quantum_info import DensityMatrix, Kraus, Operator, pauli_basis

    figures = machine.figures
    state = DensityMatrix.from_int(0, 2**circuit.width)

    def depolarised(state: Any, chance: float, qubits: list[int]) -> Any:
        size = 4 ** len(qubits) - 1
        products = [p.to_matrix() for p in pauli_basis(len(qubits))]
        weights = [1 - chance] + [chance / size] * size
        kraus = [math.sqrt(w) * p for w, p in zip(weights, products, strict=True)]
        return state.evolve(Kraus(kraus), qargs=qubits)

    def relaxed(state: Any, qubit: int, seconds: float) -> Any:
        known = figures.qubits[qubit]
        assert known.t1_s is not None
        assert known.t2_s is not None
        kraus = kraus_of_relaxation(seconds, known.t1_s, known.t2_s)
        return state.evolve(Kraus(kraus), qargs=[qubit])

    for step in steps(circuit, figures):
        if not isinstance(step, Gate):
            state = relaxed(state, step.qubit, step.seconds)
            continue
        each, qubits = step.operation, list(step.operation.qubits)
        matrix = GATES[each.name].matrix(*(a.radians for a in each.angles))
        state = state.evolve(Operator(matrix), qargs=qubits)
        if not step.seconds:
            continue
        if len(qubits) == 1:
            far = GATES["rx"].matrix(machine.turn_1q)
            chance = figures.qubits[qubits[0]].error
        else:
            far = GATES["rzx" if each.name == "cx" else "rzz"].matrix(machine.turn_2q)
            chance = figures.pair_error(*qubits)
        state = depolarised(state.evolve(Operator(far), qargs=qubits), chance, qubits)
        for qubit in qubits:
            state = relaxed(state, qubit, step.seconds)
    found = np.real(state.probabilities())
    for qubit in range(circuit.width):
        known = figures.qubits[qubit]
        a, b = known.read_1_for_0, known.read_0_for_1
        read = np.array([[1 - a, b], [a, 1 - b]])
        shaped = found.reshape(2 ** (circuit.width - 1 - qubit), 2, 2**qubit)
        found = np.einsum("ij,ajb->aib", read, shaped).reshape(-1)
    return found


@pytest.mark.parametrize("family", ["random", "heisenberg", "vqe-hea", "qft"])
def test_the_simulator_agrees_with_density_matrices_of_qiskit(family: str) -> None:
    pytest.importorskip("qiskit")
    task = make(family, 2, 3)
    machine = device(3, 5, day=4, turn_2q=0.05)
    circuit = measured(task.circuit, bases(task.observable)[-1].letters)
    found = Superoperators(machine).probabilities(circuit)
    assert found == pytest.approx(by_qiskit(circuit, machine), abs=1e-12)


def test_circuits_that_share_their_beginning_are_not_confused() -> None:
    engine = Superoperators(device(4, 1))
    task = make("vqe-hea", 1, 4)
    circuits = [measured(task.circuit, basis.letters) for basis in bases(task.observable)]
    apart = [Superoperators(device(4, 1)).probabilities(circuit) for circuit in circuits]
    for circuit, alone in zip(circuits, apart, strict=True):
        assert (engine.probabilities(circuit) == alone).all()


def test_twirled_samples_have_the_exact_simulators_expectations() -> None:
    """Where errors are Pauli channels: no T1, nothing turned too far."""
    machine = device(4, 3)
    still = [msgspec.structs.replace(q, t1_s=None) for q in machine.figures.qubits]
    figures = msgspec.structs.replace(machine.figures, qubits=tuple(still))
    machine = msgspec.structs.replace(machine, figures=figures)
    task = make("clifford", 4, 4)
    shots = 200_000
    for basis in bases(task.observable):
        circuit = measured(task.circuit, basis.letters)
        exact = Superoperators(machine).probabilities(circuit)
        counts = sample(circuit, machine, shots, 9)
        seen = np.array([counts.get(f"{word:04b}", 0) for word in range(16)])
        spread = np.sqrt(shots * exact * (1 - exact)) + 1
        assert (abs(seen - shots * exact) < 5 * spread).all()


def test_a_seed_gives_the_same_counts_again_and_another_one_others() -> None:
    for width, family in ((4, "ising"), (40, "clifford")):
        backend = Physical(width, 2)
        circuit = measured(make(family, 1, width).circuit, ())
        first, again, other = (backend.run(circuit, 500, seed) for seed in (1, 1, 2))
        assert first == again != other
        assert first.shots == 500


def test_bit_0_of_an_outcome_is_on_the_right() -> None:
    gates = Gates(3)
    gates.add("x", 0)
    backend = Physical(3, 1, strength=0.0)
    counts = backend.run(measured(gates.circuit(), ()), 1000, 1).counts
    assert max(counts, key=lambda word: counts[word]) == "001"
    assert counts_of(np.array([[True, False, False]])) == {"001": 1}


def test_readout_errs_as_calibrated() -> None:
    backend = Physical(1, 4, strength=0.0)
    counts = backend.run(measured(Gates(1).circuit(), ()), 1_000_000, 3).counts
    wrong = backend.calibration.qubits[0].read_1_for_0
    error = 5 * math.sqrt(wrong * (1 - wrong) / 1e6)
    assert counts["1"] / 1e6 == pytest.approx(wrong, abs=error)


def test_a_day_changes_the_machine_and_its_digest_and_age_only_what_it_tells() -> None:
    today, yesterday = Physical(4, 1, day=9), Physical(4, 1, day=8)
    late = Physical(4, 1, day=9, age_days=1)
    assert today.calibration.digest != yesterday.calibration.digest == late.calibration.digest
    assert late.device == today.device
    assert Physical(4, 1, day=9).calibration.digest == today.calibration.digest


def test_error_rates_drift_as_those_of_real_devices_did() -> None:
    """Median change from day to day within the 6.6 to 11.7 % of four IBM devices in 2022."""
    errors = np.array(
        [[q.error for q in device(8, 6, day=day).figures.qubits] for day in range(40)]
    )
    changes = np.abs(np.diff(np.log(errors), axis=0))
    assert 0.066 < np.median(changes) < 0.117


def test_what_the_simulator_cannot_do_is_refused() -> None:
    backend = Physical(12, 1)
    with pytest.raises(Refused, match="Clifford"):
        backend.run(measured(make("ising", 1, 12).circuit, ()), 10, 1)
    with pytest.raises(Refused, match="has 12 qubits, not 13"):
        backend.run(measured(make("ghz", 1, 13).circuit, ()), 10, 1)
    with pytest.raises(Refused, match="shots"):
        backend.run(measured(make("ghz", 1, 3).circuit, ()), 0, 1)
    with pytest.raises(Refused, match="distances"):
        backend.run(measured(make("ghz", 1, 3).circuit, ()), 10, 1, distance=3)
    with pytest.raises(Refused, match="days old"):
        Physical(4, 1, day=1, age_days=2)


def test_backends_are_opened_by_name_and_options() -> None:
    backend = open_backend("physical:qubits=5,seed=9,day=3,age=1,turn=0")
    assert backend.capabilities.qubits == 5
    for text, why in (
        ("nowhere", "No backend"),
        ("physical:size=3", "no option size"),
        ("physical:qubits=many", "invalid literal"),
        ("aer", "Name a snapshot"),
    ):
        with pytest.raises(Refused, match=why):
            open_backend(text)


def test_time_is_that_of_the_longest_way() -> None:
    gates = Gates(2)
    for name, qubits in (("h", (0,)), ("rz", (0,)), ("cx", (0, 1)), ("h", (1,))):
        gates.add(name, *qubits, angles=(0.1,) if name == "rz" else ())
    known = Physical(2, 1).calibration
    once = 2 * known.gate_1q_s + known.gate_2q_s + known.readout_s
    assert seconds_of(known, measured(gates.circuit(), ()), 10) == pytest.approx(10 * once)
