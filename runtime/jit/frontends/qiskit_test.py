"""Qiskit circuits, OpenQASM 2 and the exports of Qiskit beside `qiskit.quantum_info`."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, qasm2, qasm3, qpy
from qiskit.circuit import (
    AnnotatedOperation,
    ControlModifier,
    Gate,
    Parameter,
    PowerModifier,
)
from qiskit.circuit.classical import expr
from qiskit.circuit.library import (
    PauliEvolutionGate,
    PauliGate,
    PermutationGate,
    QFTGate,
    SXGate,
    standard_gates,
)
from qiskit.circuit.random import random_circuit
from qiskit.quantum_info import Operator, SparsePauliOp
from qiskit.synthesis import MatrixExponential

from runtime.jit.circuit import Unsupported, check
from runtime.jit.emit_test import assert_same, measured
from runtime.jit.frontends import load
from tests import branches


def assert_same_matrix(circuit: Any, found: Any, *, phase: bool = True) -> None:
    check(found)
    wanted, got = Operator(circuit).data, branches.unitary(found)
    if not phase:
        turned = np.vdot(got, wanted)
        got = got * (turned / abs(turned))
    np.testing.assert_allclose(got, wanted, atol=1e-10)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_a_random_circuit_has_the_matrix_that_qiskit_says_by_every_way_in(
    seed: int, width: int
) -> None:
    circuit = random_circuit(width, 4, max_operands=3, seed=seed)
    assert_same_matrix(circuit, load(circuit))
    # The exports spell some gates by U, whose phase Qiskit counts otherwise than the language.
    assert_same_matrix(circuit, load(qasm3.dumps(circuit)), phase=False)
    assert_same_matrix(circuit, load(qasm2.dumps(circuit)), phase=False)


def test_every_standard_gate_of_qiskit_is_read_exactly() -> None:
    names = sorted(standard_gates.get_standard_gate_name_mapping())
    for name in names:
        gate = standard_gates.get_standard_gate_name_mapping()[name]
        if not isinstance(gate, Gate):
            continue
        bound = gate.__class__(*[0.3 + 0.4 * at for at in range(len(gate.params))])
        circuit = QuantumCircuit(bound.num_qubits)
        circuit.append(bound, range(bound.num_qubits))
        assert_same_matrix(circuit, load(circuit))


def test_gates_made_of_gates_are_taken_apart_with_their_phases() -> None:
    circuit = QuantumCircuit(4, global_phase=0.2)
    circuit.append(QFTGate(3), [0, 2, 1])
    circuit.append(PauliGate("XYZ"), [1, 2, 3])
    circuit.mcx([0, 1, 2], 3, ctrl_state="010")
    circuit.append(QFTGate(2).control(1), [3, 0, 1])
    circuit.append(PermutationGate([2, 0, 1]), [1, 3, 0])
    circuit.append(AnnotatedOperation(SXGate(), [ControlModifier(2), PowerModifier(3)]), [2, 0, 1])
    assert_same_matrix(circuit, load(circuit))


def test_control_flow_measures_what_its_branches_say() -> None:
    q, c, out = QuantumRegister(3, "q"), ClassicalRegister(2, "c"), ClassicalRegister(1, "out")
    circuit = QuantumCircuit(q, c, out)
    circuit.h([0, 1])
    circuit.measure([0, 1], c)
    with circuit.if_test((c, 2)) as otherwise:
        circuit.x(2)
    with otherwise, circuit.if_test((c[0], 1)):
        circuit.h(2)
    with circuit.for_loop(range(3)):
        circuit.t(2)
    with circuit.switch(c) as case:
        with case(0, 3):
            circuit.z(2)
        with case(case.DEFAULT):
            circuit.s(2)
    with circuit.if_test(expr.less(c, 2)):
        circuit.x(2)
    circuit.measure(2, out)
    found = load(circuit)
    check(found)
    wanted = {
        "00 1": 0.25,
        "10 1": 0.25,
        "01 0": 0.125,
        "01 1": 0.125,
        "11 0": 0.125,
        "11 1": 0.125,
    }
    assert_same(branches.distribution(found), wanted)
    assert_same(measured(found), wanted)
    assert_same(measured(load(qasm3.dumps(circuit))), wanted)


def test_an_else_sees_the_condition_as_it_was_before_the_other_branch() -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)) as otherwise:
        circuit.x(0)
        circuit.measure(0, 0)
    with otherwise:
        circuit.x(1)
    circuit.measure(1, 0)
    assert_same(measured(load(circuit)), {"0": 0.5, "1": 0.5})


def test_an_old_conditional_gate_of_openqasm_2_compares_the_whole_register() -> None:
    text = (
        'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\nh q[0];\n'
        "measure q[0] -> c[0];\nif(c==1) x q[1];\nmeasure q[1] -> c[1];\n"
    )
    assert_same(measured(load(text)), {"00": 0.5, "11": 0.5})


def test_qpy_is_read_as_the_circuit_it_holds(tmp_path: Any) -> None:
    circuit = random_circuit(3, 3, seed=7)
    raw = io.BytesIO()
    qpy.dump(circuit, raw)
    path = tmp_path / "one.qpy"
    path.write_bytes(raw.getvalue())
    assert_same_matrix(circuit, load(path))
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(Unsupported, match="no QPY file"):
        load(path)


def test_what_qiskit_cannot_say_now_is_refused() -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.rx(Parameter("theta"), 0)
    with pytest.raises(Unsupported, match="theta: parameters must be bound"):
        load(circuit)
    circuit = QuantumCircuit(1, 1)
    circuit.delay(100, 0)
    with pytest.raises(Unsupported, match="delay: QVM has no time"):
        load(circuit)
    circuit = QuantumCircuit(1, 1)
    with circuit.while_loop((circuit.clbits[0], 0)):
        circuit.measure(0, 0)
    with pytest.raises(Unsupported, match="while_loop: how often"):
        load(circuit)


REFUSED = {
    "OPENQASM 2.0;\nqreg q[1];\nnosuch q[0];\n": (3, 1),
    "OPENQASM 2.0;\nqreg q[1];\nqreg q[1];\n": (3, 6),
    'OPENQASM 2.0;\ninclude "qelib1.inc";\nopaque magic a;\nqreg q[1];\nx q[0];\n  magic q[0];\n':
        (6, 3),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_openqasm_2_is_refused_with_line_and_column(text: str) -> None:
    with pytest.raises(Unsupported) as refused:
        load(text)
    assert (refused.value.line, refused.value.column) == REFUSED[text], str(refused.value)


@pytest.mark.parametrize(
    "name", ["reset", "barrier", "measure", "for_loop", "delay", "if_else", "box"]
)
def test_a_gate_of_ones_own_is_that_gate_whatever_its_name(name: str) -> None:
    inner = QuantumCircuit(2)
    inner.h(0)
    inner.cx(0, 1)
    gate = inner.to_gate()
    gate.name = name
    circuit = QuantumCircuit(2)
    circuit.append(gate, [1, 0])
    assert_same_matrix(circuit, load(circuit))


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")
def test_an_evolution_is_read_where_its_terms_commute_and_refused_where_they_do_not() -> None:
    for terms, exact in ((["XX", "ZZ"], True), (["XX", "ZI"], False), (["ZI", "XX", "ZZ"], False)):
        gate = PauliEvolutionGate(SparsePauliOp(terms), 0.3)
        for each in (gate, gate.control(1)):
            circuit = QuantumCircuit(each.num_qubits)
            circuit.append(each, range(each.num_qubits))
            if exact:
                assert_same_matrix(circuit, load(circuit))
                continue
            with pytest.raises(Unsupported, match="its terms do not commute"):
                load(circuit)


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")
def test_an_evolution_by_its_matrix_is_exact_also_where_its_terms_do_not_commute() -> None:
    gate = PauliEvolutionGate(SparsePauliOp(["XX", "ZI"]), 0.3, synthesis=MatrixExponential())
    circuit = QuantumCircuit(2)
    circuit.append(gate, [0, 1])
    assert_same_matrix(circuit, load(circuit))


@pytest.mark.parametrize("comment", ["/* old\n */", "/*;*/ // ;\n", "/* a */ /* b\n*/"])
def test_a_version_is_found_behind_any_comment(comment: str) -> None:
    text = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncu1(0.3) q[0],q[1];\n'
    # Only version 2 has `cu1` in its library.
    assert [each.name for each in load(comment + text).operations] == ["cp"]


@pytest.mark.parametrize(
    "statement",
    [
        "qreg r[99999999999999999999999];",
        "qreg r[1000000];",
        "creg c[9999999999];",
        "x q[99999999999999999999999];",
    ],
)
def test_a_size_or_an_index_without_measure_is_refused_with_its_line(statement: str) -> None:
    with pytest.raises(Unsupported, match=r"^3:.*at most"):
        load(f"OPENQASM 2.0;\nqreg q[2]; /*\n*/ {statement}\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gate store a { U(0, 0, pi) a; } store q[0];", "importer fails on it"),
        ('include "qelib1.inc";\nrx(1e400) q[0];', "4:1: rx: inf is no angle"),
    ],
)
def test_what_the_importer_of_version_2_trips_over_is_refused(text: str, said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        load(f"OPENQASM 2.0;\nqreg q[2];\n{text}\n")


@pytest.mark.parametrize(
    ("defined", "applied"),
    [
        ("gate rzz(t) a, b { U(0,0,t) a; }", "rzz(0.5) q[0], q[1];"),
        ("gate h a { U(0,0,0.5) a; }", "h q[0];"),
        ("// gate h a\ngate u3(a,b,c) q { U(0,0,c) q; }", "u3(1,2,0.5) q[0];"),
    ],
)
def test_a_gate_that_openqasm_2_defines_is_what_it_says(
    defined: str, applied: str, tmp_path: Any
) -> None:
    """Not what Qiskit knows under the name, also where the definition is in a file beside."""
    wanted = np.diag([1, np.exp(0.5j)] * 2)
    path = tmp_path / "a.qasm"
    path.write_text(f'OPENQASM 2.0;\ninclude "gates.inc";\nqreg q[2];\n{applied}\n')
    (tmp_path / "gates.inc").write_text(f"{defined}\n")
    for source in (f"OPENQASM 2.0;\n{defined}\nqreg q[2];\n{applied}\n", path):
        np.testing.assert_allclose(branches.unitary(load(source)), wanted, atol=1e-12)


def test_what_stands_behind_an_included_file_keeps_its_line(tmp_path: Any) -> None:
    (tmp_path / "gates.inc").write_text("// two\ngate g(t) a {\n  U(0,0,t/2) a;\n}\n")
    (tmp_path / "own.inc").write_text('include "gates.inc";\nopaque magic a;\n')
    path = tmp_path / "a.qasm"
    head = 'OPENQASM 2.0;\ninclude "own.inc";\nqreg q[1];\ng(1) q[0];\n'
    path.write_text(head)
    assert np.allclose(branches.unitary(load(path)), np.diag([1, np.exp(0.5j)]))
    path.write_text(f"{head}  magic q[0];\n")
    with pytest.raises(Unsupported, match=r"a\.qasm:5:3: magic"):
        load(path)
    (tmp_path / "own.inc").write_text('include "own.inc";\n')
    with pytest.raises(Unsupported):
        load(path)
    path.write_text('OPENQASM 2.0;\n\ninclude "none.inc";\n')
    with pytest.raises(Unsupported, match=r"a\.qasm:3:"):
        load(path)
