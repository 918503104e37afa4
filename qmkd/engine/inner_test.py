"""Products of Paulis under what inner qubits undergo, against matrices."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from qmkd.engine.inner import Inner, Turn, lowest
from qmkd.engine.pulled import Product

QUBITS = 3
LETTERS = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}

Matrix = NDArray[np.complex128]


def matrix(what: Product) -> Matrix:
    """i^phase X^x Z^z, qubit 0 the last factor."""
    found: Matrix = np.eye(1, dtype=np.complex128)
    for qubit in range(QUBITS):
        x, z = what.bits >> qubit & 1, what.bits >> QUBITS + qubit & 1
        own = np.linalg.matrix_power(LETTERS["X"], x) @ np.linalg.matrix_power(LETTERS["Z"], z)
        found = np.kron(own, found)
    whole: Matrix = 1j**what.phase * found
    return whole


def hermitian(rng: random.Random, inner: Inner) -> Product:
    """A random Pauli product but the identity, with either sign."""
    found = inner.positive(Product(rng.randrange(1, 1 << 2 * QUBITS), 0))
    return Product(found.bits, found.phase + 2 * rng.randrange(2) & 3)


def test_controlled_and_exchanged_products_are_those_of_matrices() -> None:
    rng = random.Random(5)
    one = np.eye(1 << QUBITS)
    for _ in range(300):
        inner = Inner(QUBITS)
        first, second, third = (hermitian(rng, inner) for _ in range(3))
        inner.turns.append(Turn(third, 1.0, None, None))
        a, b = matrix(first), matrix(second)
        before = [matrix(each) for each in (*inner.x, *inner.z, third)]
        if inner.commute(first.bits, second.bits):
            operation = (one + a + b - a @ b) / 2
            inner.control(first, second)
        else:
            operation = (a + b) / np.sqrt(2)
            inner.exchange(first, second)
        for was, found in zip(before, (*inner.x, *inner.z, inner.turns[0].what), strict=True):
            assert np.allclose(operation @ was @ operation.conj().T, matrix(found))


def test_single_letters_are_found_again() -> None:
    inner = Inner(QUBITS)
    for qubit in range(QUBITS):
        for letter in "XYZ":
            what = inner.single(letter, qubit)
            eye = np.eye(1 << qubit)
            wanted = np.kron(np.kron(np.eye(1 << QUBITS - 1 - qubit), LETTERS[letter]), eye)
            assert np.array_equal(matrix(what), wanted)
            assert inner.letter(what, qubit) == letter
            assert what == inner.positive(what)
            assert inner.letter(what, (qubit + 1) % QUBITS) == "I"


def test_needed_turns_are_those_that_cannot_come_after() -> None:
    """Of Z0, X0 Z1, Z2 and X1, a measurement of X1 needs the second, and the first for it; one of
    Z1 needs the last, and those two for it."""
    inner = Inner(QUBITS)
    mixed = inner.times(inner.single("X", 0), inner.single("Z", 1))
    whats = [inner.single("Z", 0), mixed, inner.single("Z", 2), inner.single("X", 1)]
    inner.turns = [Turn(what, 0.3, None, None) for what in whats]
    assert [inner.turns.index(turn) for turn in inner.needed(inner.single("X", 1))] == [0, 1]
    assert [inner.turns.index(turn) for turn in inner.needed(inner.single("Z", 1))] == [0, 1, 3]
    assert [inner.turns.index(turn) for turn in inner.needed(inner.single("Z", 2))] == []


def test_the_lowest_bit_is_found() -> None:
    assert [lowest(mask) for mask in (1, 0b101000, 1 << 200)] == [0, 3, 200]
