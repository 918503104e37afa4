"""What is emitted does what the circuit does: exact distributions beside another interpreter."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvm.program import VerifiedProgram
from qvm.reference import distribution
from qvm.verify import verify
from runtime.jit.angles import angle, turn
from runtime.jit.circuit import (
    Circuit,
    Condition,
    Operation,
    Position,
    Register,
    Unsupported,
    bit_is,
    check,
)
from runtime.jit.emit import emit
from runtime.jit.gates import TABLE
from runtime.jit.readout import register_counts
from tests import branches

QUBITS, BITS = 3, 4


def measured(circuit: Circuit, **options: str) -> dict[str, float]:
    """Exact probabilities of the registers, by way of QVM."""
    graph = emit(circuit, **options)
    program = verify(graph)
    assert isinstance(program, VerifiedProgram), program
    return register_counts(graph, distribution(program).probabilities)


def assert_same(one: dict[str, float], other: dict[str, float]) -> None:
    for key in one.keys() | other.keys():
        assert one.get(key, 0.0) == pytest.approx(other.get(key, 0.0), abs=1e-9), key


CONDITIONS = st.one_of(
    st.none(),
    st.builds(
        Condition,
        st.sampled_from(["and", "or", "xor"]),
        st.lists(
            st.tuples(st.integers(0, BITS - 1), st.integers(0, 1)), min_size=0, max_size=3
        ).map(tuple),
    ),
)


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    condition = draw(CONDITIONS)
    kind = draw(st.sampled_from(["gate", "gate", "measure", "reset", "assign", "barrier"]))
    qubits = tuple(draw(st.permutations(range(QUBITS))))
    bit = draw(st.integers(0, BITS - 1))
    if kind == "gate":
        gate = draw(st.sampled_from(TABLE))
        angles = tuple(
            draw(st.one_of(st.integers(-9, 9).map(lambda n: turn(n) / 4), st.just(angle(0.7))))
            for _ in range(gate.angles)
        )
        return Operation(gate.name, qubits[: gate.qubits], angles, (), condition)
    if kind == "measure":
        name = draw(st.sampled_from(["measure", "measure", "measure_x", "measure_y"]))
        return Operation(name, qubits[:1], (), (bit,), condition)
    if kind == "assign":
        return Operation("assign", bits=(bit,), condition=condition or bit_is(bit, 0))
    if kind == "reset":
        return Operation("reset", qubits[:1], condition=condition)
    return Operation("barrier", qubits[: draw(st.integers(0, QUBITS))])


def circuit_of(listed: list[Operation]) -> Circuit:
    return Circuit(
        qubits=(Register("q", QUBITS),),
        bits=(Register("a", 2), Register("b", BITS - 2)),
        operations=tuple(listed),
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(operations(), max_size=14))
def test_a_circuit_with_feed_forward_measures_the_same_as_its_graph(
    listed: list[Operation],
) -> None:
    # Hadamards first, so that measurements branch.
    circuit = circuit_of([*(Operation("h", (q,)) for q in range(QUBITS)), *listed])
    check(circuit)
    assert_same(measured(circuit), branches.distribution(circuit))


def test_a_bit_measured_again_where_another_says_so_keeps_its_old_value_elsewhere() -> None:
    circuit = circuit_of([
        Operation("h", (0,)),
        Operation("measure", (0,), (), (0,)),
        Operation("h", (1,)),
        Operation("measure", (1,), (), (1,)),
        Operation("h", (2,)),
        Operation("measure", (2,), (), (0,), bit_is(1)),
        Operation("x", (2,), condition=bit_is(0, 0)),
        Operation("measure", (2,), (), (2,)),
    ])  # fmt: skip
    found = measured(circuit)
    assert_same(found, branches.distribution(circuit))
    events = emit(circuit).resources.events
    assert events == ["a[0]", "a[1]", "a[0]@2", "b[0]"]


def test_a_parity_of_many_bits_steers_a_pauli_in_one_node() -> None:
    listed = [Operation("h", (0,))]
    for bit in range(BITS):
        listed += [Operation("measure", (0,), (), (bit,)), Operation("h", (0,))]
    listed.append(
        Operation("x", (1,), condition=Condition("xor", tuple((b, 1) for b in range(BITS))))
    )
    nodes = emit(circuit_of(listed)).program.nodes
    (node,) = [each for each in nodes if each.op == "COND_PAULI"]
    assert node.inputs == ["a[0]", "a[1]", "b[0]", "b[1]"]


def test_an_encoded_profile_refuses_a_rotation_and_names_its_place() -> None:
    at = Position("x.qasm", 7, 3, "rz(0.3)")
    circuit = circuit_of([Operation("rz", (0,), (angle(0.3),), at=at)])
    with pytest.raises(Unsupported, match=r"^x\.qasm:7:3: rz\(0\.3\): .* Clifford\+T"):
        emit(circuit, profile="logical:Surface(d=3)")
    exact = circuit_of([Operation("rz", (0,), (turn(3) / 4,))])
    ops = [each.op for each in emit(exact, profile="logical:Surface(d=3)").program.nodes]
    assert ops == ["ALLOC_LQ", "APPLY_S", "APPLY_T", "FREE_LQ"]


def test_a_condition_in_too_many_parts_is_refused_with_its_place() -> None:
    bits = 9
    listed = [Operation("measure", (0,), (), (bit,)) for bit in range(bits)]
    odd = Condition("xor", tuple((bit, 1) for bit in range(bits)))
    listed.append(Operation("h", (0,), condition=odd, at=Position("", 4, 1, "if")))
    circuit = Circuit(
        qubits=(Register("q", 1),), bits=(Register("c", bits),), operations=tuple(listed)
    )
    with pytest.raises(Unsupported, match="4:1: if: its condition would take more than 64"):
        emit(circuit)


def test_qubits_that_nothing_touches_are_not_allocated() -> None:
    graph = emit(circuit_of([Operation("h", (2,))]))
    assert graph.resources.vqs == ["q[2]"]
