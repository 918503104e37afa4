from __future__ import annotations

import math

import pytest

from qvm.isa import OPERANDS_MAX, OPS, TABLE, ArgType, Kind, Matrix, Op


def product(one: Matrix, two: Matrix) -> list[list[complex]]:
    size = range(len(one))
    return [[sum(one[i][k] * two[k][j] for k in size) for j in size] for i in size]


def is_identity(matrix: list[list[complex]]) -> bool:
    return all(
        math.isclose(abs(entry - (i == j)), 0, abs_tol=1e-12)
        for i, row in enumerate(matrix)
        for j, entry in enumerate(row)
    )


FIXED = [op for op in TABLE if op.matrix is not None]


@pytest.mark.parametrize("op", FIXED, ids=lambda op: op.name)
def test_a_matrix_is_unitary_and_as_large_as_its_operands_ask(op: Op) -> None:
    assert op.matrix is not None
    assert len(op.matrix) == 2**op.vqs.least
    adjoint = tuple(
        tuple(complex(x).conjugate() for x in row) for row in zip(*op.matrix, strict=True)
    )
    assert is_identity(product(op.matrix, adjoint))


@pytest.mark.parametrize("op", FIXED, ids=lambda op: op.name)
def test_a_gate_followed_by_its_inverse_is_nothing(op: Op) -> None:
    if op.inverse is not None:
        inverse = OPS[op.inverse].matrix
        assert op.matrix is not None
        assert inverse is not None
        assert is_identity(product(inverse, op.matrix))


@pytest.mark.parametrize("op", FIXED, ids=lambda op: op.name)
def test_a_gate_is_clifford_where_it_maps_paulis_to_paulis(op: Op) -> None:
    assert op.matrix is not None
    paulis: list[Matrix] = [
        ((1, 0), (0, 1)),
        ((0, 1), (1, 0)),
        ((0, -1j), (1j, 0)),
        ((1, 0), (0, -1)),
    ]
    if op.vqs.least == 2:
        paulis = [kron(one, two) for one in paulis for two in paulis]
    adjoint = tuple(
        tuple(complex(x).conjugate() for x in row) for row in zip(*op.matrix, strict=True)
    )
    images = [product(tuple(map(tuple, product(op.matrix, each))), adjoint) for each in paulis]
    assert op.clifford == all(
        any(same_up_to_sign(image, each) for each in paulis) for image in images
    )


def kron(one: Matrix, two: Matrix) -> Matrix:
    return tuple(tuple(x * y for x in row for y in other) for row in one for other in two)


def same_up_to_sign(one: list[list[complex]], two: Matrix) -> bool:
    cells = [
        (x, y) for row, other in zip(one, two, strict=True) for x, y in zip(row, other, strict=True)
    ]
    return any(all(abs(x - sign * y) < 1e-9 for x, y in cells) for sign in (1, -1))


def test_inverses_go_both_ways_between_gates() -> None:
    for op in TABLE:
        if op.kind is Kind.UNITARY and op.inverse is not None:
            back = OPS[op.inverse]
            assert back.inverse == op.name
            assert (back.vqs, back.args, back.right) == (
                op.vqs, op.args, op.right,
            )  # fmt: skip


def test_only_nodes_that_measure_write_events() -> None:
    assert {op.kind for op in TABLE if op.produces.most} == {Kind.MEASURE}
    assert all(op.produces.least >= 1 for op in TABLE if op.kind is Kind.MEASURE)


def test_exactly_what_is_done_in_every_shot_takes_no_guard() -> None:
    assert {op.name for op in TABLE if not op.guardable} == {
        "ALLOC_LQ", "FREE_LQ", "OPEN_CHAN", "CLOSE_CHAN", "SET_POLICY",
    }  # fmt: skip


def test_arguments_are_described_in_full() -> None:
    for op in TABLE:
        assert len({row.name for row in op.args}) == len(op.args)
        assert op.vqs.most <= OPERANDS_MAX
        for row in op.args:
            assert bool(row.choices) == (row.type is ArgType.CHOICE)
            assert not (row.required and row.group)
