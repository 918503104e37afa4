"""What Stim cannot hold is refused; what it can hold acts as the gate table says.

Round trips from Stim's side are in `runtime/jit/frontends/stim_test.py`.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import stim

from runtime.jit.angles import angle, turn
from runtime.jit.backends.stim import Parity, export
from runtime.jit.circuit import (
    FALSE,
    TRUE,
    Circuit,
    Condition,
    Operation,
    Position,
    Register,
    Unsupported,
    bit_is,
)
from runtime.jit.gates import TABLE

HALF = turn(Fraction(1, 2))


def circuit_of(*listed: Operation) -> Circuit:
    return Circuit(qubits=(Register("q", 3),), bits=(Register("c", 3),), operations=tuple(listed))


def measured(qubit: int, bit: int) -> Operation:
    return Operation("measure", (qubit,), (), (bit,))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_gate_is_exported_as_its_own_matrix_or_refused(row: object) -> None:
    assert isinstance(row, type(TABLE[0]))
    gate = Operation(row.name, tuple(range(row.qubits)), (HALF,) * row.angles)
    matrix = row.matrix(*(each.radians for each in gate.angles))
    try:
        made = export(circuit_of(gate)).circuit
    except Unsupported:
        with pytest.raises(ValueError):
            stim.Tableau.from_unitary_matrix(matrix, endian="little")
        return
    wanted = stim.Tableau.from_unitary_matrix(matrix, endian="little")
    padded = stim.Tableau(3)
    padded.append(wanted, list(gate.qubits))
    made.append("I", range(3))
    assert made.to_tableau() == padded


@pytest.mark.parametrize(
    ("each", "why"),
    [
        (Operation("t", (0,)), "`t` is no Clifford gate"),
        (Operation("rz", (0,), (angle(0.3),)), "`rz` is no Clifford gate"),
        (Operation("h", (0,), condition=bit_is(0)), "conditions Paulis alone, not `h`"),
        (Operation("reset", (0,), condition=bit_is(0)), "no conditioned `reset`"),
        (Operation("x", (0,), condition=Condition("and", ((0, 1), (1, 1)))), "this is none"),
    ],
)
def test_what_stim_cannot_hold_is_refused_where_it_stands(each: Operation, why: str) -> None:
    at = Position("f.qasm", 4, 2, "thing")
    placed = Operation(each.name, each.qubits, each.angles, each.bits, each.condition, at)
    with pytest.raises(Unsupported, match=rf"^f\.qasm:4:2: thing: .*{why}"):
        export(circuit_of(measured(1, 0), measured(2, 1), placed))


def test_feedback_is_a_parity_of_what_was_measured_and_copied() -> None:
    made, bits = export(
        circuit_of(
            measured(0, 0),
            measured(1, 1),
            Operation("assign", bits=(2,), condition=Condition("xor", ((0, 1), (1, 0)))),
            Operation("z", (2,), condition=bit_is(2, 0)),
            measured(0, 0),
            Operation("y", (1,), condition=Condition("and", ((0, 1), (0, 1)))),
        )
    )
    assert str(made) == ("M 0 1\nCZ rec[-2] 2 rec[-1] 2\nM 0\nCY rec[-1] 1")
    assert bits == (
        Parity(frozenset({2}), 0), Parity(frozenset({1}), 0), Parity(frozenset({0, 1}), 1),
    )  # fmt: skip


def test_a_condition_that_is_settled_by_constants_needs_no_feedback() -> None:
    never = Condition("and", ((0, 1), (2, 1)))  # c[2] was never written: it is 0.
    always = Condition("or", ((0, 1), (2, 0)))
    made, _ = export(
        circuit_of(
            measured(0, 0),
            Operation("h", (1,), condition=never),
            Operation("h", (2,), condition=always),
            Operation("x", (1,), condition=FALSE),
            Operation("s", (1,), condition=TRUE),
        )
    )
    assert str(made) == "M 0\nH 2\nS 1"


def test_rotations_by_quarter_turns_are_clifford_gates() -> None:
    for name, axis in (("rx", "X"), ("ry", "Y"), ("rz", "Z")):
        for quarters in range(-4, 9):
            made, _ = export(circuit_of(Operation(name, (0,), (HALF * quarters,))))
            made.append("I", [0])
            power = {0: "I", 1: f"SQRT_{axis}", 2: axis, 3: f"SQRT_{axis}_DAG"}[quarters % 4]
            assert made.to_tableau() == stim.Circuit(f"{power} 0").to_tableau()
    assert np.isclose(HALF.radians, np.pi / 2)
