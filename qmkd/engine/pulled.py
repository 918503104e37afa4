"""Pauli products as they were before the gates that all shots share.

Unguarded gates make one Clifford operation V, known while compiling. A Pauli P after them is the
Pauli V^-1 P V before them; whoever only ever asks for that has no gates to do at all. Holds nothing
of any shot. Used by `groups.py`.

Paulis on n qubits are i^phase X^x Z^z: `bits` has x of qubit q as bit q and z as bit n + q.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple


class Product(NamedTuple):
    """A Pauli product; phase modulo 4."""

    bits: int
    phase: int


ONE: Final = Product(0, 0)


class Pulled:
    """x, z: of each qubit what its X and its Z were before the gates so far."""

    def __init__(self, qubits: int) -> None:
        self.qubits = qubits
        self.x = [Product(1 << qubit, 0) for qubit in range(qubits)]
        self.z = [Product(1 << qubits + qubit, 0) for qubit in range(qubits)]
        self._x_bits = (1 << qubits) - 1

    def gate(self, name: str, qubits: tuple[int, ...]) -> None:
        """One more gate, by the names of `primitives.CLIFFORDS`: Q after it is U^-1 Q U before."""
        x, z, one, two = self.x, self.z, qubits[0], qubits[-1]
        match name:
            case "H":
                x[one], z[one] = z[one], x[one]
            case "S":
                x[one] = self.times(x[one], z[one], 3)
            case "S_DAG":
                x[one] = self.times(x[one], z[one], 1)
            case "H_YZ":
                x[one], z[one] = _minus(x[one]), self.times(x[one], z[one], 1)
            case "X":
                z[one] = _minus(z[one])
            case "Y":
                x[one], z[one] = _minus(x[one]), _minus(z[one])
            case "Z":
                x[one] = _minus(x[one])
            case "CX":
                x[one], z[two] = self.times(x[one], x[two]), self.times(z[one], z[two])
            case "CZ":
                x[one], x[two] = self.times(x[one], z[two]), self.times(x[two], z[one])
            case "SWAP":
                x[one], x[two] = x[two], x[one]
                z[one], z[two] = z[two], z[one]
            case _:
                raise AssertionError(f"{name} is no Clifford gate")

    def times(self, one: Product, two: Product, phase: int = 0) -> Product:
        """The product in this order, times i^phase."""
        passed = (one.bits >> self.qubits & two.bits).bit_count()
        return Product(one.bits ^ two.bits, one.phase + two.phase + phase + 2 * passed & 3)

    def pauli(self, letters: str, qubits: Iterable[int]) -> Product:
        """A product of I, X, Y and Z on these qubits."""
        found = ONE
        for letter, qubit in zip(letters, qubits, strict=True):
            if letter in "XY":
                found = self.times(found, self.x[qubit], letter == "Y")
            if letter in "YZ":
                found = self.times(found, self.z[qubit])
        return found

    def bits(self, xs: Iterable[int], zs: Iterable[int]) -> int:
        """The bits of a product of X and of Z."""
        found = 0
        for qubit in xs:
            found ^= self.x[qubit].bits
        for qubit in zs:
            found ^= self.z[qubit].bits
        return found

    def commute(self, one: int, two: int) -> bool:
        """Whether Paulis with these bits commute."""
        crossed = (one >> self.qubits & two).bit_count() + (two >> self.qubits & one).bit_count()
        return not crossed & 1


def _minus(one: Product) -> Product:
    return Product(one.bits, one.phase ^ 2)
