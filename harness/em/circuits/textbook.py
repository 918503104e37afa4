"""Cat states and the quantum Fourier transform."""

from __future__ import annotations

import math

from harness.em.circuits.making import Made, Rng
from harness.em.circuits.paulis import Pauli, observable
from harness.em.circuits.tasks import Gates


def ghz(rng: Rng, qubits: int, depth: int) -> Made:
    """|0...0> + |1...1> by a ladder; the mean of neighbours' ZZ, and X of all with equal weight."""
    gates = Gates(qubits)
    gates.add("h", 0)
    for qubit in range(qubits - 1):
        gates.add("cx", qubit, qubit + 1)
    terms: list[tuple[Pauli, float]] = [
        (((q, "Z"), (q + 1, "Z")), 0.5 / (qubits - 1)) for q in range(qubits - 1)
    ]
    terms.append((tuple((q, "X") for q in range(qubits)), 0.5))
    return Made(gates.circuit(), observable(terms))


def qft(rng: Rng, qubits: int, depth: int) -> Made:
    """The state that the QFT makes of a random number, and the inverse QFT behind it.

    The outcome is that number; the observable is the mean of Z with the signs of its bits.
    """
    number = int(rng.integers(1 << qubits))
    gates = Gates(qubits)
    for qubit in range(qubits):
        gates.add("h", qubit)
        gates.add("rz", qubit, angles=(2 * math.pi * number * 2**qubit / 2**qubits,))
    # Qubit k holds the phase of number / 2^(qubits - k): the last one tells the lowest bit alone.
    for qubit in reversed(range(qubits)):
        for other in range(qubit + 1, qubits):
            gates.add("cp", other, qubit, angles=(-math.pi / 2 ** (other - qubit),))
        gates.add("h", qubit)
    signs = (1 - 2 * (number >> (qubits - 1 - qubit) & 1) for qubit in range(qubits))
    wanted = observable((((q, "Z"),), sign / qubits) for q, sign in enumerate(signs))
    return Made(gates.circuit(), wanted, more={"number": number})
