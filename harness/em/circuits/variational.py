"""Variational circuits: hardware-efficient and coupled-cluster ansatz, and QAOA on graphs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from harness.em.circuits.exact import exact
from harness.em.circuits.making import Made, Rng, rotate_product
from harness.em.circuits.molecules import molecule
from harness.em.circuits.paulis import Observable, Pauli, observable, pauli
from harness.em.circuits.tasks import Gates

Edge = tuple[int, int]

# One string of each double excitation of pairs is enough where it acts on the Hartree-Fock state
# (O'Malley et al., arXiv:1512.06860).
_H2_DOUBLES: Final = (pauli("Y0 X1 X2 X3"),)
_LIH_DOUBLES: Final = (pauli("Y0 X1 X2 X3"), pauli("Y0 X1 X4 X5"))


def hardware_efficient(rng: Rng, qubits: int, depth: int) -> Made:
    """Kandala et al., arXiv:1704.05018: turns and entanglers; the energy of an Ising chain."""
    gates = Gates(qubits)
    for _ in range(depth):
        _turns(gates, rng)
        for qubit in range(qubits - 1):
            gates.add("cx", qubit, qubit + 1)
    _turns(gates, rng)
    terms: list[tuple[Pauli, float]] = [
        (((q, "Z"), (q + 1, "Z")), 1 / (2 * qubits - 1)) for q in range(qubits - 1)
    ]
    terms += [(((q, "X"),), 1 / (2 * qubits - 1)) for q in range(qubits)]
    return Made(gates.circuit(), observable(terms))


def _turns(gates: Gates, rng: Rng) -> None:
    for qubit in range(gates.qubits):
        gates.add("ry", qubit, angles=(rng.uniform(-math.pi / 3, math.pi / 3),))
        gates.add("rz", qubit, angles=(rng.uniform(-math.pi / 3, math.pi / 3),))


def ucc_h2(rng: Rng, qubits: int, depth: int) -> Made:
    """On the way to the lowest energy of molecular hydrogen."""
    return _coupled_cluster("h2", _H2_DOUBLES, rng)


def ucc_lih(rng: Rng, qubits: int, depth: int) -> Made:
    """On the way to the lowest energy of lithium hydride."""
    return _coupled_cluster("lih", _LIH_DOUBLES, rng)


def _coupled_cluster(name: str, doubles: Sequence[Pauli], rng: Rng) -> Made:
    """The best angle of each string in turn, off by a little, as an optimiser would be."""
    found = molecule(name)
    hamiltonian = found.hamiltonian
    angles = [0.0] * len(doubles)

    def gates() -> Gates:
        made = Gates(found.qubits)
        for qubit in range(found.electrons):
            made.add("x", qubit)
        for product, angle in zip(doubles, angles, strict=True):
            rotate_product(made, product, angle)
        return made

    for place in range(len(doubles)):
        angles[place] = _lowest(gates, hamiltonian, angles, place)
    for place in range(len(doubles)):
        angles[place] += rng.uniform(-0.15, 0.15)
    return Made(gates().circuit(), hamiltonian)


def _lowest(
    gates: Callable[[], Gates], hamiltonian: Observable, angles: list[float], place: int
) -> float:
    """Where the energy is lowest along one angle: it is a sine of it (arXiv:1905.09692)."""
    values = []
    for angle in (0.0, math.pi / 2, -math.pi / 2):
        angles[place] = angle
        values.append(exact(gates().circuit(), hamiltonian)[0])
    zero, plus, minus = values
    # E = a + b cos + c sin, so b = zero - a and a = (plus + minus) / 2; the lowest is opposite
    # (b, c).
    return math.atan2(minus - plus, plus + minus - 2 * zero)


def qaoa_ring(rng: Rng, qubits: int, depth: int) -> Made:
    return _qaoa(rng, qubits, depth, [(q, (q + 1) % qubits) for q in range(qubits)], "ring")


def qaoa_star(rng: Rng, qubits: int, depth: int) -> Made:
    return _qaoa(rng, qubits, depth, [(0, q) for q in range(1, qubits)], "star")


def qaoa_random(rng: Rng, qubits: int, depth: int) -> Made:
    pairs = [(a, b) for a in range(qubits) for b in range(a + 1, qubits)]
    edges = [pair for pair in pairs if rng.random() < 0.5] or pairs[:1]
    return _qaoa(rng, qubits, depth, edges, "random")


def qaoa_cubic(rng: Rng, qubits: int, depth: int) -> Made:
    """A random 3-regular graph by the pairing model, tried again until it is simple.

    An odd number of vertices has none; one vertex is then left with two edges.
    """
    while True:
        stubs = [q for q in range(qubits) for _ in range(3)][: 3 * qubits // 2 * 2]
        rng.shuffle(stubs)
        drawn = sorted(tuple(sorted(stubs[i : i + 2])) for i in range(0, len(stubs), 2))
        edges = [(a, b) for a, b in drawn]
        if len(set(edges)) == len(edges) and all(a != b for a, b in edges):
            return _qaoa(rng, qubits, depth, edges, "cubic")


def _qaoa(rng: Rng, qubits: int, depth: int, edges: Sequence[Edge], graph: str) -> Made:
    """Farhi et al., arXiv:1411.4028: the cut in the mean, as a share of all edges.

    Angles lie around those that are good for sparse graphs, shrinking from layer to layer.
    """
    gates = Gates(qubits)
    degree = 2 * len(edges) / qubits
    for qubit in range(qubits):
        gates.add("h", qubit)
    for layer in range(depth):
        share = (layer + 1) / (depth + 1)
        cost = share * rng.uniform(0.9, 1.4) / math.sqrt(degree)
        mix = (1 - share) * rng.uniform(1.2, 1.8)
        for pair in edges:
            gates.add("rzz", *pair, angles=(cost,))
        for qubit in range(qubits):
            gates.add("rx", qubit, angles=(-mix,))
    terms: list[tuple[Pauli, float]] = [((), 0.5)]
    terms += [(((a, "Z"), (b, "Z")), -0.5 / len(edges)) for a, b in sorted(edges)]
    return Made(gates.circuit(), observable(terms), more={"graph": graph})
