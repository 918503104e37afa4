"""Classical values that depend on a few measured bits, as tables over those bits.

A front end that meets a comparison of registers or an LLVM integer built from results keeps the
value as a `Table` and asks for the `condition` of its being true. Knows nothing of any format; its
users are `qir.py` and `cirq.py`. What guards make of a condition is decided in `emit.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from runtime.jit.circuit import FALSE, TRUE, Condition

BITS_MAX: Final = 12
"""A table of more bits is refused: it has 2^bits rows, and as many guards in the worst case."""

Cube = tuple[tuple[int, int], ...]
"""A conjunction: pairs (bit, value), sorted by bit. The empty cube always holds."""


class TooManyBits(Exception):
    """A value depends on more than `BITS_MAX` measured bits."""

    def __init__(self, bits: int) -> None:
        super().__init__(f"it depends on {bits} measured bits at once; at most {BITS_MAX} can")


class Table(msgspec.Struct, frozen=True):
    """A value for each assignment of `bits`.

    bits: sorted, distinct; all of them matter. rows: 2^len(bits) values; bits[i] is bit i of the
    index of a row.
    """

    bits: tuple[int, ...]
    rows: tuple[Any, ...]

    @property
    def constant(self) -> bool:
        """Whether the value is known before anything is measured."""
        return not self.bits

    @property
    def value(self) -> Any:
        """The value of a constant."""
        assert self.constant
        return self.rows[0]


def constant(value: Any) -> Table:
    return Table((), (value,))


def of_bit(bit: int) -> Table:
    """The integer 0 or 1 that the bit holds."""
    return Table((bit,), (0, 1))


def combine(function: Callable[..., Any], *tables: Table) -> Table:
    """The table of `function` of the values of `tables`. Raises `TooManyBits`."""
    bits = tuple(sorted({bit for table in tables for bit in table.bits}))
    if len(bits) > BITS_MAX:
        raise TooManyBits(len(bits))
    place = {bit: i for i, bit in enumerate(bits)}
    rows = []
    for index in range(1 << len(bits)):
        inner = [
            sum(((index >> place[bit]) & 1) << i for i, bit in enumerate(table.bits))
            for table in tables
        ]
        rows.append(function(*(t.rows[i] for t, i in zip(tables, inner, strict=True))))
    return _reduced(bits, rows)


def _reduced(bits: Sequence[int], rows: Sequence[Any]) -> Table:
    """Without the bits on which nothing depends."""
    kept, values = list(bits), list(rows)
    for place in range(len(kept) - 1, -1, -1):
        low = [value for i, value in enumerate(values) if not (i >> place) & 1]
        high = [value for i, value in enumerate(values) if (i >> place) & 1]
        if low == high:
            del kept[place]
            values = low
    return Table(tuple(kept), tuple(values))


def restrict(table: Table, bit: int, value: int) -> Table:
    """The table where `bit` is known to hold `value`."""
    if bit not in table.bits:
        return table
    place = table.bits.index(bit)
    rows = [row for i, row in enumerate(table.rows) if (i >> place) & 1 == value]
    return _reduced([each for each in table.bits if each != bit], rows)


def parity(table: Table) -> tuple[tuple[int, ...], int] | None:
    """(bits, c) where the table is true exactly where c XOR all `bits` is 1, else None."""
    bits = table.bits
    offset = int(bool(table.rows[0]))
    for index, row in enumerate(table.rows):
        if int(bool(row)) != (offset + index.bit_count()) % 2:
            return None
    return bits, offset


def cubes(table: Table) -> list[Cube]:
    """Disjoint conjunctions that together hold exactly where the table is true.

    The paths to true of a decision tree that asks first for the bit that leaves the fewest rows
    undecided.
    """
    table = combine(bool, table)
    if table.constant:
        return [()] if table.value else []
    halves = [(restrict(table, bit, 0), restrict(table, bit, 1), bit) for bit in table.bits]
    low, high, bit = min(halves, key=lambda half: (len(half[0].rows) + len(half[1].rows), half[2]))
    return sorted(
        tuple(sorted((*cube, (bit, value))))
        for value, half in ((0, low), (1, high))
        for cube in cubes(half)
    )


def condition(table: Table, helper: Callable[[Condition], int]) -> Condition:
    """The condition of being true.

    helper: makes a hidden bit that is assigned the truth of a condition, and returns its number; it
    is called only where one condition cannot say it.
    """
    table = combine(bool, table)
    if table.constant:
        return TRUE if table.value else FALSE
    odd = parity(table)
    if odd is not None and len(odd[0]) > 1:
        (first, *rest), offset = odd
        return Condition("xor", ((first, 1 - offset), *((bit, 1) for bit in rest)))
    true, false = cubes(table), cubes(combine(lambda value: not value, table))
    if len(true) == 1:
        return Condition("and", true[0])
    if len(false) == 1:
        return Condition("or", tuple((bit, 1 - value) for bit, value in false[0]))
    return Condition("or", tuple((helper(Condition("and", cube)), 1) for cube in true))
