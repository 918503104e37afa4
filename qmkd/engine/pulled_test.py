from __future__ import annotations

import random
from typing import Final

import stim

from qmkd.engine.primitives import CLIFFORDS
from qmkd.engine.pulled import Product, Pulled

QUBITS: Final = 5
PAIRS: Final = {"CX", "CZ", "SWAP"}


def as_stim(product: Product, qubits: int) -> stim.PauliString:
    """The product as Stim has it, sign and all: i^phase X^x Z^z."""
    found = stim.PauliString(qubits)
    for qubit in range(qubits):
        x, z = product.bits >> qubit & 1, product.bits >> qubits + qubit & 1
        found *= stim.PauliString([0] * qubit + [x] + [0] * (qubits - qubit - 1))
        found *= stim.PauliString([0] * qubit + [3 * z] + [0] * (qubits - qubit - 1))
    return found * 1j**product.phase


def random_gates(rng: random.Random, count: int) -> list[tuple[str, tuple[int, ...]]]:
    names = sorted(CLIFFORDS)
    chosen = [rng.choice(names) for _ in range(count)]
    return [(name, tuple(rng.sample(range(QUBITS), 1 + (name in PAIRS)))) for name in chosen]


def test_every_pauli_is_carried_back_as_stim_carries_it() -> None:
    for seed in range(20):
        pulled, circuit = Pulled(QUBITS), stim.Circuit()
        for name, qubits in random_gates(random.Random(seed), 60):
            pulled.gate(name, qubits)
            circuit.append(name, qubits)
        back = stim.Tableau.from_circuit(circuit).inverse() if len(circuit) else None
        assert back is not None
        for qubit in range(QUBITS):
            for letter in "XYZ":
                pauli = stim.PauliString("_" * qubit + letter + "_" * (QUBITS - qubit - 1))
                assert as_stim(pulled.pauli(letter, (qubit,)), QUBITS) == back(pauli), (seed, name)
        pair = pulled.pauli("XY", (0, 3))
        assert as_stim(pair, QUBITS) == back(stim.PauliString("X__Y_")), seed


def test_paulis_commute_where_stim_says_so() -> None:
    rng = random.Random(1)
    pulled = Pulled(QUBITS)
    for _ in range(200):
        one, two = rng.getrandbits(2 * QUBITS), rng.getrandbits(2 * QUBITS)
        expected = as_stim(Product(one, 0), QUBITS).commutes(as_stim(Product(two, 0), QUBITS))
        assert pulled.commute(one, two) == expected
