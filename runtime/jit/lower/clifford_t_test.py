from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.jit.angles import ZERO, Angle, angle, turn
from runtime.jit.circuit import Circuit, Operation, Register, bit_is, check
from runtime.jit.gates import GATES
from runtime.jit.lower.clifford_t import to_clifford_t
from runtime.jit.lower.synthesis import Unreachable
from tests import branches

pytest.importorskip("qiskit", reason="rotations are synthesised by Qiskit's library")

CLIFFORD_T = {"x", "y", "z", "h", "s", "sdg", "t", "tdg", "cx", "cz", "swap"}
QUBITS = 3


def circuit(*operations: Operation, phase: Angle = ZERO, bits: int = 0) -> Circuit:
    made = Circuit(
        qubits=(Register("q", QUBITS),),
        bits=(Register("c", bits),) if bits else (),
        operations=operations,
        phase=phase,
    )
    check(made)
    return made


angles = st.one_of(
    st.floats(-7, 7, allow_nan=False).map(angle),
    st.builds(lambda a, b: turn(a) / b, st.integers(-9, 9), st.integers(1, 16)),
)


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    gate = GATES[draw(st.sampled_from(sorted(GATES)))]
    wires = draw(st.permutations(range(QUBITS)))[: gate.qubits]
    return Operation(gate.name, tuple(wires), tuple(draw(angles) for _ in range(gate.angles)))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(operations(), max_size=5), angles)
def test_a_lowered_circuit_differs_from_its_source_by_no_more_than_it_says(
    parts: list[Operation], phase: Angle
) -> None:
    source = circuit(*parts, phase=phase)
    lowered = to_clifford_t(source, 1e-4)
    check(lowered.circuit)
    assert {each.name for each in lowered.circuit.operations} <= CLIFFORD_T
    assert lowered.report.error <= 1e-4
    # The global phase as well: it is tracked, not fitted.
    distance = np.linalg.norm(branches.unitary(lowered.circuit) - branches.unitary(source), 2)
    assert distance <= lowered.report.error + 1e-11
    found = sum(each.name in ("t", "tdg") for each in lowered.circuit.operations)
    assert found == lowered.report.t_count


def test_one_budget_is_shared_by_all_rotations_and_repeated_angles_share_a_word() -> None:
    once = [Operation("rz", (0,), (angle(0.1 + 0.01 * k),)) for k in range(8)]
    again = [Operation("rx", (1,), (angle(-0.3),)), Operation("ry", (2,), (angle(0.3),))] * 4
    report = to_clifford_t(circuit(*once, *again), 1e-3).report
    assert (report.rotations, report.distinct) == (16, 9)
    assert 0.2e-3 < report.error <= 1e-3
    assert to_clifford_t(circuit(*once), 1e-3).report.t_count < report.t_count


def test_without_rotations_nothing_is_approximated_at_any_precision() -> None:
    exact = (Operation("ccx", (0, 1, 2)), Operation("cp", (0, 2), (turn(1) / 2,)))
    report = to_clifford_t(circuit(*exact), 0.0).report
    assert (report.error, report.rotations, report.t_count) == (0.0, 0, 10)


def test_conditions_measurements_and_fences_stay_as_they_are() -> None:
    held = [
        Operation("measure", (0,), (), (0,)),
        Operation("fence"),
        Operation("x", (1,), (), (), bit_is(0)),
        Operation("reset", (2,)),
    ]
    turned = Operation("rz", (1,), (angle(0.3),), (), bit_is(0))
    made = to_clifford_t(circuit(*held, turned, bits=1), 1e-2).circuit.operations
    assert list(made[:4]) == held
    assert {each.condition for each in made[4:]} == {bit_is(0)}
    assert {each.name for each in made[4:]} <= CLIFFORD_T


def test_a_share_too_small_for_synthesis_is_refused() -> None:
    many = [Operation("rz", (0,), (angle(0.1 + 0.01 * k),)) for k in range(8)]
    with pytest.raises(Unreachable):
        to_clifford_t(circuit(*many), 4e-14)
