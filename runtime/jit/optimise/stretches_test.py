from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.jit.angles import angle, turn
from runtime.jit.circuit import Circuit, Operation, Register, bit_is, check
from runtime.jit.gates import GATES
from runtime.jit.optimise.stretches import Stretch, about_z, cut, placed
from tests import branches

QUBITS = 3
WIRES = st.permutations(range(QUBITS)).map(tuple)
PARTS = st.one_of(
    st.builds(lambda name, w: Operation(name, w[:1]), st.sampled_from(["h", "t", "x", "s"]), WIRES),
    st.builds(lambda name, w: Operation(name, w[:2]), st.sampled_from(["cx", "cz"]), WIRES),
    st.builds(
        lambda name, w: Operation(name, w[:1], (angle(0.7),)), st.sampled_from(["ry", "rx"]), WIRES
    ),
    st.builds(lambda w, bit: Operation("measure", w[:1], (), (bit,)), WIRES, st.integers(0, 1)),
    st.builds(lambda w, bit: Operation("x", w[:1], (), (), bit_is(bit)), WIRES, st.integers(0, 1)),
    st.builds(lambda w: Operation("reset", w[:1]), WIRES),
    st.builds(lambda w, k: Operation("barrier", w[:k]), WIRES, st.integers(0, 3)),
)


def circuit(operations: list[Operation]) -> Circuit:
    made = Circuit(
        qubits=(Register("q", QUBITS),), bits=(Register("c", 2),), operations=tuple(operations)
    )
    check(made)
    return made


def joined(parts: list[Stretch | Operation]) -> list[Operation]:
    made: list[Operation] = []
    for part in parts:
        made += placed(part, part.gates) if isinstance(part, Stretch) else [part]
    return made


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(PARTS, max_size=14), st.integers(1, 6), st.integers(2, 3))
def test_what_is_cut_means_the_same_in_its_new_order(
    listed: list[Operation], gates: int, qubits: int
) -> None:
    source = [*(Operation("h", (q,)) for q in range(QUBITS)), *listed]
    parts = list(cut(list(about_z(source)), gates, qubits))
    for part in parts:
        if isinstance(part, Stretch):
            assert 1 <= len(part.gates) <= gates
            assert len(part.qubits) <= qubits
    before, after = (branches.distribution(circuit(each)) for each in (source, joined(parts)))
    for key in before.keys() | after.keys():
        assert before.get(key, 0.0) == pytest.approx(after.get(key, 0.0), abs=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(PARTS, max_size=14))
def test_what_no_engine_may_touch_keeps_its_order(listed: list[Operation]) -> None:
    def kept(operations: list[Operation]) -> list[Operation]:
        return [each for each in operations if each.condition or each.name not in GATES]

    source = list(about_z(listed))
    assert kept(joined(list(cut(source)))) == kept(source)


def test_a_gate_beside_a_measurement_belongs_to_the_stretch_before_it() -> None:
    one, two = Operation("h", (0,)), Operation("h", (1,))
    measured = Operation("measure", (0,), (), (0,))
    parts = list(cut([one, measured, two, one]))
    assert parts[0] == Stretch((0, 1), (one, two))
    assert parts[1] == measured
    assert parts[2] == Stretch((0,), (one,))


def test_nothing_passes_a_barrier_over_everything() -> None:
    one, everything = Operation("h", (0,)), Operation("barrier")
    assert [type(part) for part in cut([one, everything, one])] == [Stretch, Operation, Stretch]


def test_rotations_about_other_axes_and_by_known_multiples_are_rewritten_exactly() -> None:
    for name in ("rx", "ry", "rz"):
        for value in (angle(0.3), turn(3) / 4, turn(1) / 2):
            made = list(about_z([Operation(name, (0,), (value,))]))
            assert {each.name for each in made} <= {"h", "s", "sdg", "t", "tdg", "z", "rz"}
            sides = (
                branches.unitary(circuit(each))
                for each in ([Operation(name, (0,), (value,))], made)
            )
            one, other = sides
            overlap = abs((one.conj() * other).sum()) / len(one)
            assert overlap == pytest.approx(1, abs=1e-12)
