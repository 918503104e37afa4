"""Trotter circuits: first-order product formulas (Lloyd, Science 273, 1073 (1996))."""

from __future__ import annotations

from typing import Final

from harness.em.circuits.making import Made, Rng, bricks, rotate_product
from harness.em.circuits.molecules import molecule
from harness.em.circuits.paulis import mean_of, observable
from harness.em.circuits.tasks import Gates

TERMS_EACH: Final = 6
"""Diagonal and other terms of lithium hydride in a step, the largest of each."""


def ising(rng: Rng, qubits: int, depth: int) -> Made:
    """J ZZ + h X on a chain, from |0...0>; the mean magnetisation along Z."""
    coupling, field = rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.6)
    gates = Gates(qubits)
    for _ in range(depth):
        for parity in (0, 1):
            for pair in bricks(qubits, parity):
                gates.add("rzz", *pair, angles=(coupling,))
        for qubit in range(qubits):
            gates.add("rx", qubit, angles=(field,))
    return Made(gates.circuit(), mean_of([((qubit, "Z"),) for qubit in range(qubits)]))


def heisenberg(rng: Rng, qubits: int, depth: int) -> Made:
    """XX + YY + delta ZZ on a chain, from the Neel state; the staggered magnetisation."""
    step, delta = rng.uniform(0.15, 0.4), rng.uniform(0.5, 1.5)
    gates = Gates(qubits)
    for qubit in range(1, qubits, 2):
        gates.add("x", qubit)
    for _ in range(depth):
        for parity in (0, 1):
            for pair in bricks(qubits, parity):
                gates.add("rxx", *pair, angles=(step,))
                gates.add("ryy", *pair, angles=(step,))
                gates.add("rzz", *pair, angles=(step * delta,))
    wanted = observable((((q, "Z"),), (-1) ** q / qubits) for q in range(qubits))
    return Made(gates.circuit(), wanted)


def h2(rng: Rng, qubits: int, depth: int) -> Made:
    """Molecular hydrogen from its Hartree-Fock state; the energy."""
    return _molecular("h2", rng, depth, None)


def lih(rng: Rng, qubits: int, depth: int) -> Made:
    """Lithium hydride likewise, by its largest terms; the energy of the whole Hamiltonian."""
    return _molecular("lih", rng, depth, TERMS_EACH)


def _molecular(name: str, rng: Rng, depth: int, each: int | None) -> Made:
    found = molecule(name)
    gates = Gates(found.qubits)
    for qubit in range(found.electrons):
        gates.add("x", qubit)
    time = rng.uniform(0.4, 1.2)
    terms = sorted(found.hamiltonian.moving, key=lambda term: -abs(term.weight))
    still = [term for term in terms if {letter for _, letter in term.product} == {"Z"}]
    moving = [term for term in terms if term not in still]
    for _ in range(depth):
        for term in (*still[:each], *moving[:each]):
            rotate_product(gates, term.product, 2 * time * term.weight / depth)
    return Made(gates.circuit(), found.hamiltonian)
