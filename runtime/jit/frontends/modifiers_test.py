"""Modifiers beside the matrices they stand for."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power

from runtime.jit.angles import angle
from runtime.jit.circuit import Circuit, Operation, Register
from runtime.jit.frontends import modifiers
from runtime.jit.frontends.modifiers import Applied, Gates
from runtime.jit.gates import GATES, TABLE, Gate
from tests.branches import unitary

ANGLES = (0.3, -1.7, 2.9, 0.8)


def lone(gate: Gate, first: int = 0) -> Gates:
    wires = tuple(range(first, first + gate.qubits))
    return Gates([Applied(gate.name, wires, tuple(angle(a) for a in ANGLES[: gate.angles]))])


def matrix(what: Gates, width: int) -> np.ndarray:
    found = modifiers.settled(what)
    assert all(not each.controls for each in found.gates)
    return unitary(
        Circuit(
            qubits=(Register("q", width),),
            bits=(),
            operations=tuple(Operation(e.name, e.wires, e.angles) for e in found.gates),
            phase=found.phase,
        )
    )


@pytest.mark.parametrize(
    ("gate", "controls"),
    [(row, number) for row in TABLE for number in (1, 2, 3) if number + row.qubits <= 4],
    ids=lambda each: each.name if isinstance(each, Gate) else str(each),
)
def test_controls_act_where_all_of_them_are_one(gate: Gate, controls: int) -> None:
    width = controls + gate.qubits
    what = lone(gate, controls)._replace(phase=angle(0.4))
    for wire in range(controls):
        what = modifiers.controlled(what, wire, on=wire != 1)
    wanted = np.eye(1 << width, dtype=np.complex128)
    rows = [
        i
        for i in range(1 << width)
        if i % (1 << controls) == (1 << controls) - 1 - 2 * (controls > 1)
    ]
    wanted[np.ix_(rows, rows)] = np.exp(0.4j) * GATES[gate.name].matrix(*ANGLES[: gate.angles])
    np.testing.assert_allclose(matrix(what, width), wanted, atol=1e-12)


@pytest.mark.parametrize(
    "gate", [gate for gate in TABLE if gate.qubits == 1], ids=lambda gate: gate.name
)
@pytest.mark.parametrize("exponent", [Fraction(1, 2), 0.3, -1.25, 3, -2, 0])
def test_a_power_of_a_gate_is_the_power_of_its_matrix(gate: Gate, exponent: float) -> None:
    try:
        found = matrix(modifiers.power(lone(gate), exponent), 1)
    except modifiers.NoModifier as refused:
        pytest.skip(str(refused))
    whole = GATES[gate.name].matrix(*ANGLES[: gate.angles])
    np.testing.assert_allclose(found, fractional_matrix_power(whole, float(exponent)), atol=1e-9)


@pytest.mark.parametrize("name", ["cx", "ccz", "cp", "crz", "ch"])
def test_the_root_of_a_controlled_gate_is_the_controlled_root(name: str) -> None:
    gate = GATES[name]
    half = modifiers.power(lone(gate), Fraction(1, 2))
    twice = modifiers.power(half, 2) if len(half.gates) == 1 else Gates(half.gates * 2)
    np.testing.assert_allclose(
        matrix(twice, gate.qubits), gate.matrix(*ANGLES[: gate.angles]), atol=1e-12
    )


def test_a_broken_power_of_several_gates_is_refused() -> None:
    two = Gates([Applied("x", (0,)), Applied("h", (0,))])
    with pytest.raises(modifiers.NoModifier, match="more than one gate"):
        modifiers.power(two, 0.5)


def test_the_inverse_of_a_sequence_undoes_it_with_its_phase() -> None:
    what = Gates([*lone(GATES["u"]).gates, *lone(GATES["cu"]).gates], angle(0.9))
    both = Gates(
        [*what.gates, *modifiers.inverse(what).gates],
        what.phase + modifiers.inverse(what).phase,
    )
    np.testing.assert_allclose(matrix(both, 2), np.eye(4), atol=1e-12)
