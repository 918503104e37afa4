from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.jit.angles import angle, turn
from runtime.jit.circuit import Circuit, Operation, Register
from runtime.jit.optimise import equivalence
from runtime.jit.optimise.equivalence import Twin, Witness
from tests import branches

H, T, CX = Operation("h", (0,)), Operation("t", (0,)), Operation("cx", (0, 1))
WIRES = st.permutations(range(3)).map(tuple)
GATES = st.one_of(
    st.builds(
        lambda name, w: Operation(name, w[:1]), st.sampled_from(["h", "s", "t", "x", "y"]), WIRES
    ),
    st.builds(lambda name, w: Operation(name, w[:2]), st.sampled_from(["cx", "cz", "swap"]), WIRES),
    st.builds(lambda w, k: Operation("rz", w[:1], (turn(k) / 8,)), WIRES, st.integers(-8, 8)),
)


def unitary(gates: list[Operation]) -> branches.Vector:
    return branches.unitary(Circuit(qubits=(Register("q", 3),), bits=(), operations=tuple(gates)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(GATES, max_size=4), st.lists(GATES, max_size=4))
def test_circuits_are_found_equal_where_their_matrices_are_up_to_phase(
    one: list[Operation], other: list[Operation]
) -> None:
    overlap = abs(np.vdot(unitary(one), unitary(other))) / 8
    assert (Twin(one, 3).witness(other) is not None) == (overlap > 1 - 1e-9)


@pytest.mark.parametrize("width", [3, 12, 14, 40])
@pytest.mark.parametrize("gate", [None, "t", "s"])
def test_each_way_tells_equal_from_different(width: int, gate: str | None) -> None:
    """At 12 qubits by random states, at 40 by rewriting; without T gates by tableaus."""
    chain = [Operation("cx", (q, q + 1)) for q in range(width - 1)]
    middle = [] if gate is None else [Operation(gate, (width - 1,))]
    there = [H, *chain, *middle, *reversed(chain)]
    again = [H, *chain, *middle, *reversed(chain), H, H]
    wrong = [H, *chain, *middle, *reversed(chain), Operation("z", (0,))]
    way = {3: Witness.UNITARY, 12: Witness.STATES, 14: Witness.STATES, 40: Witness.REWRITING}[width]
    twin = Twin(there, width)
    assert twin.witness(again) is (way if gate == "t" else Witness.TABLEAU)
    assert twin.witness(wrong) is None
    assert twin.witness(there) is Witness.SAME


def test_a_phase_that_is_not_global_is_a_difference_and_a_global_one_is_none() -> None:
    turned = [Operation("rz", (0,), (turn(1) / 4,))]
    assert Twin([T], 2).witness(turned) is Witness.UNITARY
    assert Twin([T, CX], 2).witness([*turned, CX, Operation("z", (1,))]) is None


def test_a_rotation_off_by_little_is_different() -> None:
    one, other = (Operation("rz", (0,), (angle(value),)) for value in (0.3, 0.3 + 1e-6))
    assert Twin([H, one], 1).witness([H, other]) is None


def test_what_cannot_be_decided_counts_as_different(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivalence, "WORK_MAX", 0)
    monkeypatch.setattr(equivalence, "_rewritten", lambda one, other, width: False)
    assert Twin([H, T], 1).witness([H, H, H, T]) is None
