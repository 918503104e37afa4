from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.jit.angles import angle, turn
from runtime.jit.circuit import Circuit, Operation, Register, bit_is, check, expanded
from runtime.jit.costs import counts
from runtime.jit.lower.ands import with_ands
from tests import branches

QUBITS = 3
GENERIC = [angle(each) for each in (0.9, 2.1, 1.3, 0.4, 1.9, 2.7)]


def circuit(*middle: Operation) -> Circuit:
    """Gates between qubits in generic states and measurements in generic bases."""
    before = [Operation("ry", (q,), (GENERIC[q],)) for q in range(QUBITS)]
    entangled = [Operation("cz", (0, 1)), Operation("cz", (1, 2)), Operation("cx", (2, 0))]
    after = [Operation("ry", (q,), (GENERIC[q + QUBITS],)) for q in range(QUBITS)]
    phases = [Operation("rz", (q,), (GENERIC[q],)) for q in range(QUBITS)]
    read = [Operation("measure", (q,), (), (q,)) for q in range(QUBITS)]
    made = Circuit(
        qubits=(Register("q", QUBITS),),
        bits=(Register("c", QUBITS), Register("and", 1)),
        operations=(*before, *entangled, *phases, *middle, *phases, *after, *read),
    )
    check(made)
    return made


def assert_same(one: Circuit, other: Circuit) -> None:
    left, right = branches.distribution(one), branches.distribution(other)
    for key in left.keys() | right.keys():
        assert left.get(key, 0.0) == pytest.approx(right.get(key, 0.0), abs=1e-12), key


MIDDLE = st.one_of(
    st.builds(
        Operation, st.sampled_from(["ccx", "ccz", "cswap"]), st.permutations(range(3)).map(tuple)
    ),
    st.builds(
        lambda wires, value: Operation("cp", wires[:2], (angle(value),)),
        st.permutations(range(3)).map(tuple),
        st.floats(0.1, 0.7),
    ),
)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(MIDDLE, min_size=1, max_size=3), st.integers(1, 2))
def test_gates_through_ands_measure_the_same_in_every_basis(
    middle: list[Operation], ancillas: int
) -> None:
    source = circuit(*middle)
    made = with_ands(source, ancillas)
    check(made)
    assert made.width == QUBITS + ancillas
    assert_same(made, source)


def test_a_gate_under_a_condition_is_still_done_only_then() -> None:
    asked = [Operation("measure_x", (0,), (), (3,)), Operation("h", (0,))]
    for value in (0, 1):
        gate = Operation("ccx", (0, 1, 2), (), (), bit_is(3, value))
        source = circuit(*asked, gate)
        assert_same(with_ands(source), source)


@pytest.mark.parametrize("name", ["ccx", "ccz", "cswap"])
def test_a_gate_with_two_controls_takes_four_t_gates_instead_of_seven(name: str) -> None:
    source = circuit(Operation(name, (0, 1, 2)))
    spent = counts(expanded(source.operations)).t, counts(with_ands(source).operations).t
    assert spent == (7, 4)


def test_a_controlled_phase_takes_one_rotation_instead_of_three() -> None:
    others = counts(circuit().operations).rotations
    source = circuit(Operation("cp", (0, 1), (angle(0.3),)))
    plain, through = (
        counts(expanded(source.operations)),
        counts(expanded(with_ands(source).operations)),
    )
    assert (plain.rotations - others, through.rotations - others, through.t) == (3, 1, 4)


def test_a_circuit_without_such_gates_stays_as_it_is() -> None:
    source = circuit(Operation("cp", (0, 1), (turn(1) / 4,)), Operation("cx", (0, 1)))
    assert with_ands(source) is source


def test_the_registers_added_have_names_of_their_own() -> None:
    made = with_ands(circuit(Operation("ccx", (0, 1, 2))), 2)
    assert [(each.name, each.size) for each in made.qubits] == [("q", 3), ("and", 2)]
    assert made.bits[-1] == Register("and_", 2, hidden=True)


def test_what_a_front_end_said_of_the_circuit_is_kept() -> None:
    source = circuit(Operation("ccx", (0, 1, 2)))
    source = msgspec.structs.replace(source, metadata={"dropped": {"noise": 1}}, name="named")
    made = with_ands(source)
    assert (made.metadata, made.name) == (source.metadata, source.name)
