"""Exact expectation values: a state vector up to 16 qubits, Stim's tableau for Clifford circuits.

Nothing here knows of noise, and no backend uses it. The tests hold it against Qiskit's state
vectors and against energies known from elsewhere.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import stim
from numpy.typing import NDArray

from harness.em.circuits.paulis import Observable, Pauli
from runtime.jit.backends.stim import export
from runtime.jit.circuit import Circuit, Unsupported
from runtime.jit.gates import GATES

QUBITS_MAX: Final = 16
STATE: Final = "state vector"
TABLEAU: Final = "stabilizer tableau"
_PAULI: Final = {
    letter: np.array(rows, dtype=np.complex128)
    for letter, rows in {
        "X": [[0, 1], [1, 0]], "Y": [[0, -1j], [1j, 0]], "Z": [[1, 0], [0, -1]],
    }.items()
}  # fmt: skip


class TooWide(Exception):
    """No exact value can be had of this circuit; says why."""


def state_of(circuit: Circuit) -> NDArray[np.complex128]:
    """The state that the gates make of |0...0>: shape (2,) * qubits, qubit 0 the last axis."""
    if circuit.width > QUBITS_MAX:
        raise TooWide(f"{circuit.width} qubits; state vectors go to {QUBITS_MAX}.")
    state = np.zeros((2,) * circuit.width, dtype=np.complex128)
    state[(0,) * circuit.width] = 1
    for each in circuit.operations:
        matrix = GATES[each.name].matrix(*(a.radians for a in each.angles))
        state = _applied(state, matrix, each.qubits)
    return state


def _applied(
    state: NDArray[np.complex128], matrix: NDArray[np.complex128], qubits: tuple[int, ...]
) -> NDArray[np.complex128]:
    number = len(qubits)
    # The first operand is the matrix's least significant bit, so the axes come last first.
    axes = [state.ndim - 1 - qubit for qubit in reversed(qubits)]
    tensor = matrix.reshape((2,) * (2 * number))
    moved = np.tensordot(tensor, state, axes=(list(range(number, 2 * number)), axes))
    return np.moveaxis(moved, range(number), axes)


def expectation(state: NDArray[np.complex128], product: Pauli) -> float:
    """Of a product of Paulis in a state."""
    turned = state
    for qubit, letter in product:
        turned = _applied(turned, _PAULI[letter], (qubit,))
    return float(np.vdot(state, turned).real)


def exact(circuit: Circuit, wanted: Observable) -> tuple[float, str]:
    """The observable's value behind the circuit, and how it was reckoned. Raises TooWide."""
    values, how = exact_terms(circuit, [term.product for term in wanted.terms])
    return float(sum(t.weight * v for t, v in zip(wanted.terms, values, strict=True))), how


def exact_terms(circuit: Circuit, products: list[Pauli]) -> tuple[list[float], str]:
    """The values of several products behind one circuit. Raises TooWide."""
    if circuit.width <= QUBITS_MAX:
        state = state_of(circuit)
        return [expectation(state, product) for product in products], STATE
    try:
        made = export(circuit).circuit
    except Unsupported as error:
        why = f"{circuit.width} qubits, and no Clifford circuit ({error})."
        raise TooWide(why) from error
    simulator = stim.TableauSimulator()
    simulator.set_num_qubits(circuit.width)
    simulator.do(made)
    return [
        float(simulator.peek_observable_expectation(stim_pauli(product, circuit.width)))
        for product in products
    ], TABLEAU


def stim_pauli(product: Pauli, width: int) -> stim.PauliString:
    """The product as Stim's."""
    letters = ["I"] * width
    for qubit, letter in product:
        letters[qubit] = letter
    return stim.PauliString("".join(letters))
