"""Tables against the functions they were made of, by brute force."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.jit.circuit import Condition
from runtime.jit.frontends.tables import (
    BITS_MAX,
    Cube,
    Table,
    TooManyBits,
    combine,
    condition,
    constant,
    cubes,
    of_bit,
    parity,
    restrict,
)  # fmt: skip


def assignments(bits: Sequence[int]) -> list[dict[int, int]]:
    """Every way to give `bits` values."""
    return [dict(zip(bits, row, strict=True)) for row in product((0, 1), repeat=len(bits))]


def holds(cube: Cube, values: dict[int, int]) -> bool:
    return all(values[bit] == value for bit, value in cube)


truth = st.lists(st.booleans(), min_size=16, max_size=16)


def table_of(rows: list[bool]) -> Table:
    return combine(
        lambda *bits: rows[sum(bit << i for i, bit in enumerate(bits))],
        *(of_bit(bit) for bit in (3, 5, 8, 9)),
    )


def truth_of(rows: list[bool], values: dict[int, int]) -> bool:
    return rows[sum(values[bit] << i for i, bit in enumerate((3, 5, 8, 9)))]


@given(truth)
def test_exactly_one_cube_holds_where_the_function_is_true_and_none_elsewhere(
    rows: list[bool],
) -> None:
    found = cubes(table_of(rows))
    for values in assignments((3, 5, 8, 9)):
        assert sum(holds(cube, values) for cube in found) == truth_of(rows, values)


@given(truth)
def test_a_table_names_only_bits_that_matter(rows: list[bool]) -> None:
    table = table_of(rows)
    for bit in (3, 5, 8, 9):
        matters = any(
            truth_of(rows, values) != truth_of(rows, {**values, bit: 1 - values[bit]})
            for values in assignments((3, 5, 8, 9))
        )
        assert (bit in table.bits) == matters
        assert restrict(table, bit, 0) == restrict(table, bit, 1) or matters


def test_a_conjunction_is_one_cube_and_a_disjunction_of_two_is_two() -> None:
    both = combine(lambda a, b: a and b, of_bit(1), of_bit(2))
    either = combine(lambda a, b: a or b, of_bit(1), of_bit(2))
    assert cubes(both) == [((1, 1), (2, 1))]
    assert len(cubes(either)) == 2
    assert cubes(constant(7)) == [()]
    assert cubes(constant(0)) == []


@given(st.sets(st.integers(0, 9), max_size=5), st.integers(0, 1))
def test_a_parity_is_recognised(bits: set[int], offset: int) -> None:
    table = combine(lambda *values: (sum(values) + offset) % 2, *map(of_bit, bits))
    assert parity(table) == (tuple(sorted(bits)), offset)


def test_what_is_no_parity_is_not_taken_for_one() -> None:
    assert parity(combine(lambda a, b: a and b, of_bit(1), of_bit(2))) is None


def test_a_value_of_too_many_bits_is_refused() -> None:
    with pytest.raises(TooManyBits, match=str(BITS_MAX)):
        combine(lambda *values: sum(values), *map(of_bit, range(BITS_MAX + 1)))


def truth_of_condition(condition: Condition, values: dict[int, int]) -> bool:
    tests = [values[bit] == value for bit, value in condition.tests]
    return {"and": all(tests), "or": any(tests), "xor": sum(tests) % 2 == 1}[condition.join]


@given(truth)
def test_a_condition_is_true_where_the_table_is_whatever_helpers_it_takes(rows: list[bool]) -> None:
    helpers: list[Condition] = []

    def helper(made: Condition) -> int:
        helpers.append(made)
        return 99 + len(helpers)

    found = condition(table_of(rows), helper)
    for values in assignments((3, 5, 8, 9)):
        hidden = {100 + i: int(truth_of_condition(c, values)) for i, c in enumerate(helpers)}
        assert truth_of_condition(found, values | hidden) == truth_of(rows, values)
