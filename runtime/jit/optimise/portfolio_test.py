from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.jit.angles import angle, turn
from runtime.jit.circuit import Circuit, Operation, Register, bit_is, check
from runtime.jit.costs import counts
from runtime.jit.gates import GATES
from runtime.jit.optimise.engines import ALL, PYZX, QISKIT, QUICK, TKET, WIDE, to_zx, zx_read
from runtime.jit.optimise.equivalence import Twin
from runtime.jit.optimise.portfolio import optimised
from tests import branches

pytest.importorskip("qiskit", reason="an engine of the optimiser")
pytest.importorskip("pyzx", reason="an engine of the optimiser")
pytest.importorskip("pytket", reason="an engine of the optimiser")

WITHOUT_TKET = {**QISKIT, **PYZX}
WIRES = st.permutations(range(3)).map(tuple)
PLAIN = ["h", "s", "sdg", "t", "tdg", "x", "y", "z"]
PARTS = st.one_of(
    st.builds(lambda name, w: Operation(name, w[:1]), st.sampled_from(PLAIN), WIRES),
    st.builds(lambda name, w: Operation(name, w[:2]), st.sampled_from(["cx", "cz", "swap"]), WIRES),
    st.builds(lambda w: Operation("rz", w[:1], (angle(0.3),)), WIRES),
    st.builds(lambda w, k: Operation("rz", w[:1], (turn(k) / 8,)), WIRES, st.integers(1, 7)),
)


def circuit(operations: Sequence[Operation], qubits: int = 3) -> Circuit:
    made = Circuit(
        qubits=(Register("q", qubits),), bits=(Register("c", 2),), operations=tuple(operations)
    )
    check(made)
    return made


def same(one: Circuit, other: Circuit) -> bool:
    """Up to the global phase."""
    left, right = branches.unitary(one), branches.unitary(other)
    return bool(abs(abs(np.vdot(left, right)) / len(left) - 1) <= 1e-9)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(PARTS, min_size=1, max_size=20))
def test_an_optimised_circuit_does_the_same_and_costs_no_more(listed: list[Operation]) -> None:
    source = circuit(listed)
    made = optimised(source, engines=WITHOUT_TKET)
    check(made.circuit)
    assert same(source, made.circuit)
    assert made.report.after == counts(made.circuit.operations)
    assert made.report.after.key(1e-6) <= made.report.before.key(1e-6)


def test_two_toffolis_that_undo_each_other_vanish() -> None:
    made = optimised(circuit([Operation("ccx", (0, 1, 2))] * 2))
    assert made.circuit.operations == ()
    assert made.report.before.t == 14


def test_a_chain_of_toffolis_takes_no_more_than_any_engine_alone_would_take() -> None:
    toffolis = [Operation("ccx", wires) for wires in ((0, 1, 2), (1, 2, 3), (0, 1, 2))]
    source = circuit(toffolis, 4)
    alone = [optimised(source, engines={name: one}).report.after for name, one in ALL.items()]
    made = optimised(source)
    assert same(source, made.circuit)
    assert made.report.after.key(1e-6) <= min(each.key(1e-6) for each in alone)
    # Tof_3 of the published tables: 21 T gates, and 15 by Kissinger and van de Wetering.
    assert made.report.before.t == 21
    assert made.report.after.t <= 15


@pytest.mark.parametrize("name", sorted(ALL))
def test_each_engine_answers_what_is_equal(name: str) -> None:
    # With swaps, which some engines undo by renaming, and floats, which some engines round.
    gates = [
        Operation("h", (0,)), Operation("t", (0,)), Operation("cx", (0, 1)),
        Operation("swap", (1, 2)), Operation("tdg", (2,)), Operation("h", (2,)),
        Operation("y", (1,)), Operation("cz", (0, 2)), Operation("sdg", (1,)),
    ]  # fmt: skip
    if name != "pyzx todd":
        gates += [Operation("rz", (0,), (angle(0.3),)), Operation("cx", (2, 0))]
    answer = ALL[name](gates, 3)
    assert {each.name for each in answer} <= set(GATES)
    assert Twin(gates, 3).witness(answer) is not None


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(PARTS, max_size=8))
def test_what_pyzx_is_told_is_what_it_is_asked_back(gates: list[Operation]) -> None:
    assert Twin(gates, 3).witness(zx_read(to_zx(gates, 3))) is not None


def test_an_engine_that_fails_lies_or_is_missing_changes_nothing_and_is_named() -> None:
    source = circuit([Operation("h", (0,)), Operation("h", (0,)), Operation("t", (1,))])

    def fails(gates: Sequence[Operation], width: int) -> list[Operation]:
        raise RuntimeError("no")

    def lies(gates: Sequence[Operation], width: int) -> list[Operation]:
        return []

    def missing(gates: Sequence[Operation], width: int) -> list[Operation]:
        raise ModuleNotFoundError("No module named 'x'", name="x")

    engines = {"one": fails, "two": lies, "three": missing}
    made = optimised(source, engines=engines)
    assert made.circuit == source
    assert made.report.refused == {
        "one: RuntimeError": 1,
        "two: not shown to be equal": 1,
        "three: x is not installed": 1,
    }
    assert optimised(source, engines={}).circuit == source


def test_measurements_conditions_and_fences_stay_and_mean_the_same() -> None:
    source = circuit([
        Operation("h", (0,)), Operation("t", (0,)), Operation("tdg", (0,)), Operation("h", (1,)),
        Operation("measure", (0,), (), (0,)), Operation("fence"),
        Operation("t", (1,), (), (), bit_is(0)), Operation("t", (2,)), Operation("t", (2,)),
        Operation("h", (1,)), Operation("measure", (1,), (), (1,)),
    ])  # fmt: skip
    made = optimised(source, engines=QISKIT).circuit

    def kept(what: Circuit) -> list[Operation]:
        return [each for each in what.operations if each.condition or each.name not in GATES]

    assert kept(made) == kept(source)
    assert (counts(source.operations).t, counts(made.operations).t) == (5, 1)
    before, after = branches.distribution(source), branches.distribution(made)
    assert before == pytest.approx(after)


def test_a_circuit_wider_than_a_state_can_be_is_optimised_across_its_whole_width() -> None:
    width = 24
    chain = [Operation("cx", (q, q + 1)) for q in range(width - 1)]
    last = Operation("t", (width - 1,))
    source = circuit([*chain, last, *reversed(chain), *chain, last, *reversed(chain)], width)
    made = optimised(source, engines={name: ALL[name] for name in WIDE})
    assert (made.report.before.t, made.report.after.t) == (2, 0)
    assert "rewriting" in made.report.checked


def test_the_lists_of_engines_name_engines() -> None:
    assert {*QUICK, *WIDE} <= set(ALL) == {*QISKIT, *TKET, *PYZX}
