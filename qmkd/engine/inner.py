"""A Clifford operation between a part's qubits and as many *inner* ones, known while compiling.

Used by `magic.py`, which says what for. Holds nothing of any shot but the numbers of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from qmkd.engine.pulled import ONE, Product, Pulled

MINUS: Final = Product(0, 2)


class Turn:
    """exp(-i angle/2 P), on inner qubits, that waits.

    what: P. against: the row of the shots in which it is the other way round. where: the row of
    those in which it happens at all. Both are its own, None for none and for all.
    """

    def __init__(self, what: Product, angle: float, against: int | None, where: int | None) -> None:
        self.what = what
        self.angle = angle
        self.against = against
        self.where = where


class Inner(Pulled):
    """W, by what the X and the Z of each qubit are on inner qubits; and the turns that wait."""

    def __init__(self, qubits: int) -> None:
        super().__init__(qubits)
        self.x_bits = (1 << qubits) - 1
        self.turns: list[Turn] = []

    def control(self, one: Product, two: Product) -> None:
        """Inner qubits undergo (1 + A + B - AB) / 2, of Paulis that commute: B under control of A.
        Where C commutes with B and not with A, this exchanges C and C B."""
        self._change(one, two, (ONE, two, one, self.times(MINUS, self.times(one, two))))

    def exchange(self, one: Product, two: Product) -> None:
        """Inner qubits undergo (A + B) / sqrt(2), of Paulis that do not commute, which exchanges
        them."""
        self._change(one, two, (ONE, self.times(two, one), self.times(one, two), MINUS))

    def _change(self, one: Product, two: Product, factors: tuple[Product, ...]) -> None:
        """Multiply every product by a factor, from the right. factors: for those that commute with
        both Paulis, with the second only, with the first only, and with neither."""
        first, second = self._across(one.bits), self._across(two.bits)

        def changed(found: Product) -> Product:
            crossed = (found.bits & first).bit_count() & 1
            crossed |= ((found.bits & second).bit_count() & 1) << 1
            return self.times(found, factors[crossed]) if crossed else found

        self.x = [changed(found) for found in self.x]
        self.z = [changed(found) for found in self.z]
        for turn in self.turns:
            turn.what = changed(turn.what)

    def _across(self, bits: int) -> int:
        """The bits that meet these where Paulis do not commute."""
        return bits >> self.qubits | (bits & self.x_bits) << self.qubits

    def kept(self, what: Product, qubits: int) -> Product:
        """Of a product that has no X or Y elsewhere its factors on these, a mask."""
        return Product(what.bits & (qubits | qubits << self.qubits), what.phase)

    def letter(self, what: Product, qubit: int) -> str:
        return "IXZY"[what.bits >> qubit & 1 | (what.bits >> self.qubits + qubit & 1) << 1]

    def single(self, letter: str, qubit: int) -> Product:
        """X, Y or Z of an inner qubit."""
        bits = (letter in "XY") << qubit | (letter in "YZ") << self.qubits + qubit
        return Product(bits, int(letter == "Y"))

    def positive(self, what: Product) -> Product:
        """The same letters with the sign +."""
        return Product(what.bits, (what.bits >> self.qubits & what.bits).bit_count() & 3)

    def needed(self, *measured: Product) -> Iterator[Turn]:
        """The turns that must come before these are measured, in order. Those left out commute with
        them and with all needed ones that come later."""
        found: list[Turn] = []
        bits = [each.bits for each in measured]
        for turn in reversed(self.turns):
            if not all(self.commute(turn.what.bits, each) for each in bits):
                bits.append(turn.what.bits)
                found.append(turn)
        return reversed(found)


def lowest(mask: int) -> int:
    """The number of the lowest bit that is set."""
    return (mask & -mask).bit_length() - 1
