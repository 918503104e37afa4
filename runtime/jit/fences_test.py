from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.jit.circuit import Circuit, Operation, Register, bit_is, check
from runtime.jit.costs import counts
from runtime.jit.fences import fenced
from tests import branches

QUBITS = 3
FENCE = Operation("fence")
WIRES = st.permutations(range(QUBITS)).map(tuple)
PARTS = st.one_of(
    st.builds(lambda name, w: Operation(name, w[:1]), st.sampled_from(["h", "t", "reset"]), WIRES),
    st.builds(lambda w: Operation("cx", w[:2]), WIRES),
    st.builds(lambda w, bit: Operation("measure", w[:1], (), (bit,)), WIRES, st.integers(0, 1)),
    st.builds(lambda w, bit: Operation("x", w[:1], (), (), bit_is(bit)), WIRES, st.integers(0, 1)),
    st.just(FENCE),
    st.just(Operation("barrier")),
)


def circuit(operations: list[Operation]) -> Circuit:
    made = Circuit(
        qubits=(Register("q", QUBITS),), bits=(Register("c", 2),), operations=tuple(operations)
    )
    check(made)
    return made


def epochs(made: Circuit) -> list[list[Operation]]:
    parts: list[list[Operation]] = [[]]
    for each in made.operations:
        if each == FENCE:
            parts.append([])
        else:
            parts[-1].append(each)
    return parts


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(PARTS, max_size=16), st.integers(1, 5))
def test_no_epoch_is_deeper_than_asked_and_nothing_else_changes(
    listed: list[Operation], steps: int
) -> None:
    source = circuit(listed)
    made = fenced(source, steps)
    check(made)
    for part in epochs(made):
        assert counts(part).depth <= steps
    kept = [each for each in made.operations if each != FENCE]
    assert kept == [each for each in listed if each != FENCE]
    assert fenced(made, steps).operations == made.operations
    assert branches.distribution(made) == pytest.approx(branches.distribution(source))


def test_a_fence_stands_where_the_fewest_qubits_are_held() -> None:
    wide = [Operation("h", (0,)), Operation("cx", (0, 1)), Operation("cx", (1, 2))]
    read = [Operation("measure", (q,), (), (0,)) for q in (2, 1)]
    again = [Operation("reset", (1,)), Operation("reset", (2,)), *wide, *wide]
    made = fenced(circuit([*wide, *read, *again]), 6)
    # Between the measurements and the next CX, qubit 0 alone holds something; of these places the
    # last. Six steps would reach further.
    assert epochs(made)[0] == [*wide, *read, *again[:3]]


def test_a_fence_may_stand_inside_a_gate_that_takes_many_steps() -> None:
    parts = epochs(fenced(circuit([Operation("ccx", (0, 1, 2))]), 4))
    assert len(parts) > 1
    assert all(counts(part).depth <= 4 for part in parts)


def test_a_circuit_shallow_enough_has_no_fence_and_fences_that_stand_there_count() -> None:
    shallow = circuit([Operation("h", (0,)), Operation("cx", (0, 1))])
    assert fenced(shallow, 2).operations == shallow.operations
    there = circuit([Operation("h", (0,)), FENCE, Operation("cx", (0, 1))])
    assert fenced(there, 1).operations == there.operations
