from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.jit.angles import angle
from runtime.jit.circuit import Circuit, Operation, Register, bit_is, check
from runtime.jit.gates import GATES
from runtime.jit.optimise.edges import CONTROLLED, DIAGONAL, PERMUTING, without_unseen
from tests import branches

QUBITS = 3
WIRES = st.permutations(range(QUBITS)).map(tuple)
NAMES = sorted({*CONTROLLED, *DIAGONAL, *PERMUTING, "h", "u"})


def gate(name: str, wires: tuple[int, ...], when: int | None = None) -> Operation:
    row = GATES[name]
    angles = tuple(angle(0.4 + each) for each in range(row.angles))
    condition = None if when is None else bit_is(when)
    return Operation(name, wires[: row.qubits], angles, (), condition)


PARTS = st.one_of(
    st.builds(gate, st.sampled_from(NAMES), WIRES),
    st.builds(gate, st.sampled_from(NAMES), WIRES),
    st.builds(gate, st.just("h"), WIRES),
    st.builds(gate, st.sampled_from(NAMES), WIRES, st.integers(0, 2)),
    st.builds(lambda w, bit: Operation("measure", w[:1], (), (bit,)), WIRES, st.integers(0, 2)),
    st.builds(
        lambda w, bit: Operation("measure", w[:1], (), (bit,), bit_is(1 - bit)),
        WIRES, st.integers(0, 1),
    ),
    st.builds(lambda w, bit: Operation("measure_x", w[:1], (), (bit,)), WIRES, st.integers(0, 2)),
    st.builds(lambda w: Operation("reset", w[:1]), WIRES),
    st.builds(lambda w: Operation("reset", w[:1], condition=bit_is(0)), WIRES),
    st.just(Operation("fence")),
)  # fmt: skip


def circuit(operations: list[Operation]) -> Circuit:
    made = Circuit(
        qubits=(Register("q", QUBITS),), bits=(Register("c", 6),), operations=tuple(operations)
    )
    check(made)
    return made


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(PARTS, max_size=12), st.sampled_from(["measure", "measure_x", "measure_y"]))
def test_what_is_left_out_changes_no_measurement(listed: list[Operation], last: str) -> None:
    # The last measurements look at the state that is left, in every basis.
    read = [Operation(last, (q,), (), (3 + q,)) for q in range(QUBITS)]
    source, made = circuit([*listed, *read]), circuit(without_unseen([*listed, *read]))
    assert len(made.operations) <= len(source.operations)
    before, after = branches.distribution(source), branches.distribution(made)
    for key in before.keys() | after.keys():
        assert before.get(key, 0.0) == pytest.approx(after.get(key, 0.0), abs=1e-12)


def test_phases_before_measurements_and_after_the_beginning_are_left_out() -> None:
    one, two = Operation("h", (0,)), Operation("h", (1,))
    read = [Operation("measure", (q,), (), (q,)) for q in range(2)]
    listed = [gate("rz", (0,)), one, two, gate("t", (1,)), gate("crz", (0, 1)), gate("x", (1,))]
    assert without_unseen([*listed, *read]) == [one, two, gate("x", (1,)), *read]


def test_a_phase_that_a_later_gate_turns_into_a_value_stays() -> None:
    listed = [
        gate("h", (0,)),
        gate("t", (0,)),
        gate("h", (0,)),
        Operation("measure", (0,), (), (0,)),
    ]
    assert without_unseen(listed) == listed


def test_a_circuit_that_nobody_measures_keeps_its_phases() -> None:
    listed = [gate("h", (0,)), gate("t", (0,)), gate("cx", (0, 1)), gate("rz", (1,))]
    assert without_unseen(listed) == listed


def test_controls_of_known_value_go() -> None:
    listed = [gate("ccx", (0, 1, 2)), gate("x", (0,)), gate("h", (1,)), gate("ccx", (1, 0, 2))]
    assert without_unseen(listed) == [gate("x", (0,)), gate("h", (1,)), gate("cx", (1, 2))]


@pytest.mark.parametrize("name", sorted({*CONTROLLED, *DIAGONAL, *PERMUTING}))
def test_the_lists_say_of_gates_what_their_matrices_do(name: str) -> None:
    row = GATES[name]
    angles = tuple(0.4 + each for each in range(row.angles))
    matrix = row.matrix(*angles)
    if name in DIAGONAL:
        assert np.allclose(matrix, np.diag(np.diag(matrix)))
    if name in PERMUTING:
        assert np.allclose(abs(matrix) ** 2, abs(matrix) > 0.5)
    if name in CONTROLLED:
        inner = GATES[CONTROLLED[name]].matrix(*angles)
        assert np.allclose(matrix[0::2, 0::2], np.eye(len(inner)))
        assert np.allclose(matrix[1::2, 1::2], inner)
