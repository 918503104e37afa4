"""Cirq circuits against Cirq: matrices with their phase, and branches followed by its simulator."""

from __future__ import annotations

from copy import deepcopy
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.jit.circuit import Circuit, Unsupported, check
from runtime.jit.frontends import load as load_any
from tests import branches

cirq = pytest.importorskip("cirq", reason="cirq-core reads Cirq; the extra `jit` holds it")
sympy = pytest.importorskip("sympy", reason="cirq-core brings it")

Q = cirq.LineQubit.range(4)


def load(source: Any) -> Circuit:
    circuit = load_any(source, "cirq")
    check(circuit)
    return circuit


def gates() -> list[Any]:
    return [
        *(kind(exponent=t, global_shift=s) for kind, t, s in product(
            (cirq.XPowGate, cirq.YPowGate, cirq.ZPowGate, cirq.HPowGate, cirq.CXPowGate,
             cirq.CZPowGate, cirq.SwapPowGate, cirq.ISwapPowGate, cirq.XXPowGate, cirq.YYPowGate,
             cirq.ZZPowGate, cirq.CCXPowGate, cirq.CCZPowGate),
            (1, 0.5, -0.25, 0.3), (0, -0.5),
        )),
        cirq.rx(0.3), cirq.CSWAP, cirq.I, cirq.IdentityGate(3), cirq.FSimGate(0.3, 0.4),
        cirq.PhasedXPowGate(phase_exponent=0.3, exponent=0.7), cirq.QuantumFourierTransformGate(3),
        cirq.PhasedXZGate(x_exponent=0.1, z_exponent=0.2, axis_phase_exponent=0.3),
        cirq.MatrixGate(cirq.testing.random_unitary(2, random_state=1)),
        cirq.MatrixGate(cirq.testing.random_unitary(4, random_state=2)),
        cirq.MatrixGate(cirq.testing.random_unitary(8, random_state=3)),
        cirq.T.controlled(1, control_values=[0]), cirq.X.controlled(3), cirq.ry(0.7).controlled(2),
        cirq.GlobalPhaseGate(1j).controlled(1), cirq.TwoQubitDiagonalGate([0.1, 0.2, 0.3, 0.4]),
        cirq.DensePauliString("XYZ"), cirq.PhasedISwapPowGate(phase_exponent=0.2, exponent=0.4),
        cirq.PauliStringPhasorGate(cirq.DensePauliString("XYZ"), exponent_neg=0.3),
        cirq.SingleQubitCliffordGate.X_sqrt, cirq.givens(0.4), cirq.ParallelGate(cirq.T, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("gate", gates(), ids=lambda gate: type(gate).__name__)
def test_a_gate_of_cirq_has_its_matrix_and_its_global_phase(gate: Any) -> None:
    qubits = Q[: cirq.num_qubits(gate)]
    circuit = load(cirq.Circuit(gate.on(*qubits)))
    # Cirq's first qubit is the most significant bit of an index, here it is the least.
    wanted = cirq.Circuit(gate.on(*qubits)).unitary(qubit_order=qubits[::-1])
    assert np.abs(branches.unitary(circuit) - wanted).max() < 1e-7


def branches_of_cirq(circuit: Any) -> dict[str, float]:
    """The distribution of the keys' records by Cirq's simulator, every outcome forced in turn.

    Each measured qubit is projected by a Kraus operator of our choice instead of by chance.
    """
    found: dict[str, float] = {}
    qubits = sorted(circuit.all_qubits())
    start = np.zeros((2,) * len(qubits), dtype=np.complex128)
    start[(0,) * len(qubits)] = 1
    stack = [(list(circuit.all_operations()), start, cirq.ClassicalDataDictionaryStore())]
    while stack:
        left, state, data = stack.pop()
        while left and not cirq.is_measurement(left[0]):
            each = left.pop(0)
            if all(test.resolve(data) for test in each.classical_controls):
                each = each.without_classical_controls()
                axes = [qubits.index(qubit) for qubit in each.qubits]
                state = cirq.apply_unitary(
                    each, cirq.ApplyUnitaryArgs(state.copy(), np.empty_like(state), axes)
                )
        if not left:
            words = [
                "".join(map(str, digits[::-1])) for records in data.records.values()
                for digits in records
            ]  # fmt: skip
            key = " ".join(words)
            found[key] = found.get(key, 0.0) + float(np.vdot(state, state).real)
            continue
        each = left.pop(0)
        axes = [qubits.index(qubit) for qubit in each.qubits]
        for outcome in product((0, 1), repeat=len(axes)):
            index: list[Any] = [slice(None)] * len(qubits)
            for axis, value in zip(axes, outcome, strict=True):
                index[axis] = value
            projected = np.zeros_like(state)
            projected[tuple(index)] = state[tuple(index)]
            if np.abs(projected).max() < 1e-9:
                continue
            seen = tuple(
                value ^ flip
                for value, flip in zip(outcome, each.gate.full_invert_mask(), strict=True)
            )
            after = deepcopy(data)  # Its own `copy` shares the lists of records.
            after.record_measurement(each.gate.mkey, seen, each.qubits)
            stack.append((list(left), projected, after))
    return found


@st.composite
def circuits(draw: st.DrawFn) -> Any:
    listed: list[Any] = [cirq.H(Q[0]), cirq.H(Q[1])]
    sizes: dict[str, int] = {}
    for number in range(draw(st.integers(1, 9))):
        a, b = draw(st.permutations(Q[:3]))[:2]
        kind = draw(st.sampled_from(["gate", "gate", "measure", "control"]))
        gate = draw(st.sampled_from([cirq.H, cirq.X, cirq.S, cirq.T**-1, cirq.ry(0.7), cirq.CX]))
        each = gate.on(*(a, b)[: cirq.num_qubits(gate)])
        if kind == "measure":
            # A key measured twice has its records side by side in Cirq, but the keys one by one.
            key = draw(st.sampled_from([f"k{number}", *list(sizes)[-1:]]))
            sizes.setdefault(key, draw(st.integers(1, 2)))
            mask = draw(st.tuples(st.booleans(), st.booleans()))[: sizes[key]]
            each = cirq.measure((a, b)[: sizes[key]], key=key, invert_mask=mask)
        elif kind == "control" and sizes:
            key, other = (draw(st.sampled_from(list(sizes))) for _ in range(2))
            one, two = sympy.symbols([key, other])
            name = cirq.MeasurementKey(key)
            tests = [
                cirq.KeyCondition(name), cirq.KeyCondition(name, 0), sympy.Eq(one, two), one > 1,
                cirq.BitMaskKeyCondition(key=name, bitmask=2, target_value=2),
                sympy.Xor(one > 0, two > 0),
            ]  # fmt: skip
            each = each.with_classical_controls(
                *draw(st.lists(st.sampled_from(tests), min_size=1, max_size=2))
            )
        listed.append(each)
    return cirq.Circuit(listed, strategy=cirq.InsertStrategy.NEW)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(circuits())
def test_a_circuit_with_conditions_is_distributed_as_cirq_says(source: Any) -> None:
    if not any(cirq.is_measurement(each) for each in source.all_operations()):
        return
    circuit = load(source)
    # Cirq lists a key's records together; here they stand in the order of the program.
    names = [register.name for register in circuit.bits if not register.hidden]
    order = sorted(range(len(names)), key=lambda i: names.index(names[i].partition("_")[0]))
    found = {
        " ".join(key.split(" ")[i] for i in order): p
        for key, p in branches.by_qvm(circuit).items()
        if p > 1e-12
    }
    wanted = {key: p for key, p in branches_of_cirq(source).items() if p > 1e-12}
    assert found == pytest.approx(wanted, abs=1e-6)


def test_a_circuit_is_the_same_by_its_json_and_nested_circuits_are_unrolled() -> None:
    inner = cirq.FrozenCircuit(cirq.H(Q[0]), cirq.measure(Q[0], key="m"), cirq.X(Q[0]))
    source = cirq.Circuit(cirq.CircuitOperation(inner).repeat(3, use_repetition_ids=False))
    circuit = load(source)
    assert [each.name for each in circuit.bits] == ["m", "m_1", "m_2"]
    assert load(cirq.to_json(source)).operations == circuit.operations
    assert len(circuit.operations) == 9


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (cirq.Circuit(cirq.depolarize(0.1).on(Q[0])), "moment 0: .*the machine has its own noise"),
        (cirq.Circuit(cirq.X(Q[0]), cirq.X(Q[0]) ** sympy.Symbol("t")),
         "moment 1: .*the parameters t have no value"),
        (cirq.Circuit(cirq.IdentityGate(qid_shape=(3,)).on(cirq.LineQid(0, 3))), "3 levels"),
        (cirq.Circuit(cirq.wait(Q[0], nanos=3)), "a program says no times"),
        (cirq.Circuit(cirq.X(Q[0]).with_classical_controls("a")), "a is not measured before"),
        (cirq.Circuit(cirq.measure(Q[0], key="a", confusion_map={(0,): np.eye(2)})), "confusion"),
        ("[1, 2]\n", "not a circuit"),
        ("not JSON\n", "no JSON of Cirq"),
        (cirq.to_json(cirq.Circuit(cirq.X(Q[0]))).replace("1.0", "2.0"), "no JSON of Cirq"),
    ],
)  # fmt: skip
def test_what_cannot_be_held_is_refused_with_its_place(source: Any, said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        load(source)


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["m_1", "m", "m"], ["m_1", "m", "m_2"]),
        (["m", "m", "m_1"], ["m", "m_2", "m_1"]),
        (["m", "m", "m", "m_1", "m_1"], ["m", "m_2", "m_3", "m_1", "m_1_1"]),
    ],
)
def test_keys_measured_again_have_registers_that_no_other_key_has(
    keys: list[str], names: list[str]
) -> None:
    source = cirq.Circuit([cirq.Moment(cirq.measure(Q[0], key=key)) for key in keys])
    assert [each.name for each in load(source).bits] == names
