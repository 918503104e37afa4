"""Random Clifford circuits, whose values are known exactly at any width."""

from __future__ import annotations

from typing import Final

import stim

from harness.em.circuits.exact import TABLEAU
from harness.em.circuits.making import Made, Rng, bricks
from harness.em.circuits.paulis import Pauli, observable
from harness.em.circuits.scrambled import CLIFFORDS
from harness.em.circuits.tasks import Gates
from runtime.jit.backends.stim import export

OBSERVABLES: Final = 4


def brick_wall(rng: Rng, qubits: int, depth: int) -> Made:
    """Random Cliffords and CZ in a brick wall; the mean of a few stabilizers of the outcome."""
    gates = Gates(qubits)
    for layer in range(depth):
        for qubit in range(qubits):
            for name in CLIFFORDS[int(rng.integers(len(CLIFFORDS)))]:
                gates.add(name, qubit)
        for pair in bricks(qubits, layer):
            gates.add("cz", *pair)
    circuit = gates.circuit()
    made = export(circuit).circuit
    made.append("I", [qubits - 1])
    tableau = stim.Tableau.from_circuit(made)
    chosen = rng.choice(qubits, size=min(OBSERVABLES, qubits), replace=False)
    wanted = observable(_stabilizer(tableau.z_output(int(q)), len(chosen)) for q in chosen)
    return Made(circuit, wanted, (1.0, TABLEAU))


def _stabilizer(found: stim.PauliString, number: int) -> tuple[Pauli, float]:
    """What Z of one qubit becomes, as a product and its weight with its sign."""
    letters = ((qubit, "_XYZ"[found[qubit]]) for qubit in range(len(found)))
    product: Pauli = tuple((qubit, letter) for qubit, letter in letters if letter != "_")
    return product, float(found.sign.real) / number
