"""The gate table beside Qiskit's matrices, and every definition beside its gate."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from runtime.jit.angles import ZERO, Angle, angle, turn
from runtime.jit.circuit import Circuit, Operation, Register, defined
from runtime.jit.gates import TABLE, Gate, by_eighths, inverted
from tests.branches import unitary

ANGLES = (0.3, -1.7, 2.9, 0.8)
QISKIT = {
    "id": "IGate", "x": "XGate", "y": "YGate", "z": "ZGate", "h": "HGate", "s": "SGate",
    "sdg": "SdgGate", "t": "TGate", "tdg": "TdgGate", "cx": "CXGate", "cz": "CZGate",
    "swap": "SwapGate", "rx": "RXGate", "ry": "RYGate", "rz": "RZGate", "sx": "SXGate",
    "sxdg": "SXdgGate", "p": "PhaseGate", "u": "UGate", "cy": "CYGate", "ch": "CHGate",
    "cs": "CSGate", "csdg": "CSdgGate", "csx": "CSXGate", "cp": "CPhaseGate", "crx": "CRXGate",
    "cry": "CRYGate", "crz": "CRZGate", "cu": "CUGate", "iswap": "iSwapGate", "rzz": "RZZGate",
    "rxx": "RXXGate", "ryy": "RYYGate", "rzx": "RZXGate", "ccx": "CCXGate", "ccz": "CCZGate",
    "cswap": "CSwapGate",
}  # fmt: skip
INVERSE_OF_QISKIT = {"csxdg": "csx", "iswapdg": "iswap"}


def lone(gate: Gate, turned: bool = False) -> Operation:
    angles = tuple(angle(each) for each in ANGLES[: gate.angles])
    name = gate.name
    if turned:
        name, angles = inverted(name, angles)
    return Operation(name, tuple(range(gate.qubits)), angles)


def over(width: int, *operations: Operation, phase: Angle = ZERO) -> Circuit:
    return Circuit(qubits=(Register("q", width),), bits=(), operations=operations, phase=phase)


@pytest.mark.parametrize("gate", TABLE, ids=lambda gate: gate.name)
def test_a_gate_has_the_matrix_that_qiskit_gives_it(gate: Gate) -> None:
    library = pytest.importorskip("qiskit.circuit.library")
    known = QISKIT.get(gate.name)
    if known is None:
        wanted = getattr(library, QISKIT[INVERSE_OF_QISKIT[gate.name]])().to_matrix().conj().T
    else:
        wanted = getattr(library, known)(*ANGLES[: gate.angles]).to_matrix()
    np.testing.assert_allclose(gate.matrix(*ANGLES[: gate.angles]), wanted, atol=1e-14)


@pytest.mark.parametrize(
    "gate", [gate for gate in TABLE if gate.definition], ids=lambda gate: gate.name
)
def test_a_definition_equals_its_gate_with_the_global_phase(gate: Gate) -> None:
    parts, phase = defined(lone(gate))
    np.testing.assert_allclose(
        unitary(over(gate.qubits, *parts, phase=phase)),
        gate.matrix(*ANGLES[: gate.angles]),
        atol=1e-13,
    )


@pytest.mark.parametrize("gate", TABLE, ids=lambda gate: gate.name)
def test_a_gate_and_its_inverse_are_nothing(gate: Gate) -> None:
    both = over(gate.qubits, lone(gate), lone(gate, turned=True))
    np.testing.assert_allclose(unitary(both), np.eye(1 << gate.qubits), atol=1e-14)


@pytest.mark.parametrize("name", ["rx", "ry", "rz"])
def test_a_rotation_by_eighths_is_those_cliffords_and_at_most_one_t(name: str) -> None:
    for eighths in range(-17, 18):
        names, phase = by_eighths(name, eighths)
        assert sum(each in ("t", "tdg") for each in names) == eighths % 2
        short = over(1, *(Operation(each, (0,)) for each in names), phase=phase)
        whole = over(1, Operation(name, (0,), (turn(Fraction(eighths, 4)),)))
        np.testing.assert_allclose(unitary(short), unitary(whole), atol=1e-14)


def test_angles_know_the_multiples_of_pi_that_floats_write() -> None:
    for ratio in (Fraction(1, 4), Fraction(-7, 3), Fraction(1, 65536), Fraction(3, 7), Fraction(0)):
        assert angle(float(ratio) * math.pi).of_pi == ratio
    assert angle(0.3).of_pi is None
    assert angle(math.pi / 4).eighths == 1
    assert (angle(math.pi / 4) + angle(math.pi / 4)) == turn(Fraction(1, 2))
    with pytest.raises(ValueError, match="no angle"):
        angle(math.inf)
