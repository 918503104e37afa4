"""Parts by hand: what brings qubits together, what ends a part, what counts as what.

That engines find the same in any program is kept by `qmkd/engine/parts_test.py`.
"""

from __future__ import annotations

import pytest

from qvm import isa
from qvm.assemble import assemble
from qvm.parts import Alike, Shape
from qvm.program import VerifiedProgram
from qvm.verify import verify


def parts(text: str) -> tuple[Alike, ...]:
    verified = verify(assemble(text))
    assert isinstance(verified, VerifiedProgram), verified
    return verified.summary.parts


def alloc(*qubits: str) -> str:
    return f"ALLOC_LQ n={len(qubits)}, profile=logical:ideal, {', '.join(qubits)}\n"


def test_qubits_that_never_touch_are_parts_of_their_own() -> None:
    assert parts(alloc("a", "b", "c") + "APPLY_H a\nAPPLY_CNOT a, b\nAPPLY_S c") == (
        Alike(Shape(2, 2, 0, 0, 0), 1),
        Alike(Shape(1, 1, 0, 0, 0), 1),
    )


def test_a_qubit_that_is_never_used_is_in_no_part() -> None:
    assert parts(alloc("a")) == ()


def test_a_reset_of_a_qubit_that_nothing_was_done_to_is_nothing() -> None:
    assert parts(alloc("a", "b") + "RESET a\nMEASURE_Z b -> m\nRESET a if m==1\nFREE_LQ a") == (
        Alike(Shape(1, 1, 1, 0, 0), 1),
    )


def test_a_reset_ends_a_part_unless_a_guard_may_leave_it_out() -> None:
    ended = parts(alloc("a", "b") + "APPLY_CNOT a, b\nRESET b\nAPPLY_H b")
    assert ended == (Alike(Shape(2, 2, 1, 0, 0), 1), Alike(Shape(1, 1, 0, 0, 0), 1))
    guarded = "MEASURE_Z a -> m\nAPPLY_CNOT a, b\nRESET b if m==1\nAPPLY_H b"
    assert parts(alloc("a", "b") + guarded) == (Alike(Shape(2, 4, 2, 0, 1), 1),)


def test_width_is_of_qubits_live_at_once() -> None:
    text = alloc("a", "b")
    text += 5 * "APPLY_CNOT a, b\nRESET b\n"
    assert parts(text)[0].shape.qubits == 2


def test_a_pauli_on_many_parts_leaves_them_apart_and_counts_in_each() -> None:
    text = alloc("a", "b", "c") + "MEASURE_Z a -> m\nCOND_PAULI pauli=XIZ, a, b, c if m==1"
    assert parts(text) == (Alike(Shape(1, 2, 1, 0, 0), 1), Alike(Shape(1, 1, 0, 0, 0), 1))


def test_guards_on_paulis_do_not_branch_and_others_do() -> None:
    text = alloc("a") + "MEASURE_Z a -> m\nAPPLY_X a if m==1\n"
    assert parts(text) == (Alike(Shape(1, 2, 1, 0, 0), 1),)
    assert parts(text + "APPLY_H a if m==1") == (Alike(Shape(1, 3, 1, 0, 1), 1),)


def test_an_injected_state_is_a_life_with_one_turn() -> None:
    assert parts(alloc("a") + "INJECT_T_STATE a") == (Alike(Shape(1, 2, 0, 1, 0), 1),)


@pytest.mark.parametrize("op", [op for op in isa.TABLE if op.kind is isa.Kind.UNITARY])
def test_only_operations_outside_the_clifford_group_are_turns(op: isa.Op) -> None:
    if op.name == "COND_PAULI":
        return
    operands = ", ".join(["a", "b"][: op.vqs.most])
    argument = " theta=0.1," if op.args else ""
    (only,) = parts(alloc("a", "b") + f"{op.name}{argument} {operands}")
    assert only == Alike(Shape(op.vqs.most, 1, 0, int(not op.clifford), 0), 1)
