"""pytket circuits against pytket's matrices and, where they measure, its commands run by hand."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.jit.circuit import Circuit, Unsupported, check
from runtime.jit.frontends import load as load_any
from tests import branches

tket = pytest.importorskip("pytket.circuit", reason="pytket reads its own; the extra `jit` has it")
OpType = tket.OpType
Pauli = pytest.importorskip("pytket.pauli").Pauli

GATES = {
    name: (qubits, angles)
    for qubits, angles, names in [
        (1, 0, "X Y Z H S Sdg T Tdg V Vdg SX SXdg noop"),
        (1, 1, "Rx Ry Rz U1 GPI GPI2"),
        (1, 2, "U2 PhasedX"),
        (1, 3, "U3 TK1"),
        (2, 0, "CX CY CZ CH CS CSdg CV CVdg CSX CSXdg SWAP ISWAPMax ZZMax ECR Sycamore"),
        (2, 1, "CRx CRy CRz CU1 XXPhase YYPhase ZZPhase ISWAP ESWAP"),
        (2, 2, "FSim PhasedISWAP"),
        (2, 3, "CU3 TK2 AAMS"),
        (3, 0, "CCX CSWAP BRIDGE CnX CnY CnZ"),
        (3, 1, "CnRy CnRx CnRz XXPhase3"),
    ]
    for name in names.split()
}


def load(source: Any) -> Circuit:
    circuit = load_any(source, "pytket")
    check(circuit)
    return circuit


@pytest.mark.parametrize("name", GATES)
def test_a_gate_of_pytket_has_its_matrix_and_its_global_phase(name: str) -> None:
    qubits, angles = GATES[name]
    source = tket.Circuit(qubits).add_phase(0.3)
    turns = [0.3, 0.7, -0.4][:angles]
    source.add_gate(getattr(OpType, name), turns, list(range(qubits)))
    # pytket's first qubit is the most significant bit of an index, here it is the least.
    order = [int(f"{i:0{qubits}b}"[::-1], 2) for i in range(1 << qubits)]
    wanted = source.get_unitary()[np.ix_(order, order)]
    assert np.abs(branches.unitary(load(source)) - wanted).max() < 1e-7


def test_boxes_are_opened_and_wire_swaps_kept() -> None:
    inner = tket.Circuit(2).H(0).CX(0, 1).T(1)
    source = tket.Circuit(3).add_circbox(tket.CircBox(inner), [2, 0])
    source.add_pauliexpbox(tket.PauliExpBox([Pauli.X, Pauli.Z], 0.3), [0, 1]).SWAP(0, 2)
    order = [int(f"{i:03b}"[::-1], 2) for i in range(8)]
    wanted = source.get_unitary()[np.ix_(order, order)]
    assert np.abs(branches.unitary(load(source)) - wanted).max() < 1e-7


def by_hand(source: Any) -> dict[str, float]:
    """The bits' distribution, from the commands, with each gate's matrix as pytket gives it."""
    width = source.n_qubits
    start = np.zeros(1 << width, dtype=np.complex128)
    start[0] = 1
    stack = [(0, dict.fromkeys(source.bits, 0), start)]
    commands = source.get_commands()
    found: dict[str, float] = defaultdict(float)
    while stack:
        at, bits, state = stack.pop()
        if at == len(commands):
            key = "".join(str(bits[bit]) for bit in source.bits if "tk_" not in str(bit))
            found[key[::-1]] += float(np.vdot(state, state).real)
            continue
        op, args = commands[at].op, commands[at].args
        runs = True
        if op.type == OpType.Conditional:
            value = sum(bits[bit] << i for i, bit in enumerate(args[: op.width]))
            runs, args, op = value == op.value, args[op.width :], op.op
        if not runs:
            stack.append((at + 1, bits, state))
        elif op.type == OpType.Measure:
            place = args[0].index[0]
            for outcome in (0, 1):
                kept = (np.arange(len(state)) >> place) & 1 == outcome
                stack.append((at + 1, bits | {args[1]: outcome}, np.where(kept, state, 0)))
        elif op.type == OpType.RangePredicate:
            value = sum(bits[bit] << i for i, bit in enumerate(args[:-1]))
            stack.append((at + 1, bits | {args[-1]: int(op.lower <= value <= op.upper)}, state))
        elif op.type == OpType.CopyBits:
            stack.append((at + 1, bits | {args[1]: bits[args[0]]}, state))
        elif op.type == OpType.SetBits:
            news = {bit: int(v) for bit, v in zip(args, op.values, strict=True)}
            stack.append((at + 1, bits | news, state))
        elif op.type == OpType.ClExpr:
            a, b, c = (bits[arg] for arg in args[:3])
            stack.append((at + 1, bits | {args[3]: (a & b) ^ c}, state))
        else:
            places = tuple(arg.index[0] for arg in args)
            order = [int(f"{i:0{len(places)}b}"[::-1], 2) for i in range(1 << len(places))]
            matrix = op.get_unitary()[np.ix_(order, order)]
            stack.append((at + 1, bits, branches.applied(matrix, state, places)))
    return found


@st.composite
def circuits(draw: st.DrawFn) -> Any:
    source = tket.Circuit(3)
    c = source.add_c_register("c", 3)
    source.H(0).H(1)
    for _ in range(draw(st.integers(1, 9))):
        a, b = draw(st.permutations(range(3)))[:2]
        condition: dict[str, Any] = draw(st.sampled_from([
            {},
            {},
            {"condition_bits": [c[0], c[1]], "condition_value": draw(st.integers(0, 3))},
            {"condition": tket.if_not_bit(c[2])},
            {"condition": tket.reg_lt(c, draw(st.integers(1, 6)))},
            {"condition": (c[0] & c[1]) ^ c[2]},
        ]))  # fmt: skip
        kind = draw(st.sampled_from(["H", "X", "T", "Ry", "CX", "measure", "measure", "copy"]))
        if kind == "measure":
            source.Measure(tket.Qubit(a), c[b], **condition)
        elif kind == "copy":
            source.add_c_copybits([c[a]], [c[b]], **condition)
            source.add_c_setbits([bool(a % 2)], [c[a]], **condition)
        elif kind == "Ry":
            source.Ry(0.3, a, **condition)
        elif kind == "CX":
            source.CX(a, b, **condition)
        else:
            getattr(source, kind)(a, **condition)
    return source


@settings(max_examples=60, deadline=None, derandomize=True)
@given(circuits())
def test_a_circuit_with_conditions_is_distributed_as_its_commands_say(source: Any) -> None:
    found = {key: p for key, p in branches.by_qvm(load(source)).items() if p > 1e-12}
    wanted = {key: p for key, p in by_hand(source).items() if p > 1e-12}
    assert found == pytest.approx(wanted, abs=1e-9)


def test_expressions_on_registers_are_reckoned() -> None:
    source = tket.Circuit(3)
    a, b = source.add_c_register("a", 2), source.add_c_register("b", 3)
    for qubit, bit in enumerate([a[0], a[1], b[0]]):
        source.H(qubit).Measure(tket.Qubit(qubit), bit)
    source.add_clexpr_from_logicexp(a + b, b.to_list())
    wanted = {f"{i:02b} {i + j:03b}": 0.125 for i in range(4) for j in range(2)}
    assert branches.by_qvm(load(source)) == pytest.approx(wanted)


def test_a_circuit_is_the_same_by_its_json() -> None:
    source = tket.Circuit(2, 2).H(0).CX(0, 1).measure_all()
    assert load(json.dumps(source.to_dict()) + "\n") == load(source)


def test_what_cannot_be_held_is_refused_with_its_place() -> None:
    symbol = pytest.importorskip("sympy").Symbol("t")
    power = tket.Circuit(1)
    c = power.add_c_register("c", 3)
    power.add_clexpr_from_logicexp(c - 1, c.to_list())
    for source, said in [
        (tket.Circuit(1).Rx(symbol, 0), "command 0: .*t has no value"),
        (power, "how wide a result of RegSub is"),
        ("[]\n", "no JSON of pytket"),
    ]:
        with pytest.raises(Unsupported, match=said):
            load(source)


def test_a_box_under_a_condition_is_taken_apart_but_where_it_writes_the_bit_that_is_asked() -> None:
    def nested(inner: Any) -> Any:
        return tket.Circuit(1, 2).add_circbox(tket.CircBox(inner), [0, 0, 1])

    def asking(bit: int, inner: Any) -> Any:
        source = tket.Circuit(1, 2).H(0).Measure(0, bit)
        return source.add_circbox(
            tket.CircBox(inner), [0, 0, 1], condition_bits=[bit], condition_value=1
        )

    measures = tket.Circuit(1, 2).H(0).Measure(0, 0).H(0)
    for inner in (measures, nested(measures)):
        assert [each.name for each in load(asking(1, inner)).operations].count("measure") == 2
        for source in (asking(0, inner), nested(asking(0, inner))):
            with pytest.raises(Unsupported, match="writes a bit that its own condition asks"):
                load(source)
    reads = tket.Circuit(1, 2).X(0, condition_bits=[0], condition_value=1)
    assert "x" in [each.name for each in load(asking(0, reads)).operations]


def test_an_angle_that_is_no_number_is_refused_where_it_stands() -> None:
    with pytest.raises(Unsupported, match=r"command 0: .*nan is no angle"):
        load(tket.Circuit(1).Rx(float("nan"), 0))
