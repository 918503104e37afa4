"""SHYPS codes: subsystem hypergraph products of two simplex codes, [[(2^r-1)^2, r^2, 2^(r-1)]].

A block is a square of data qubits. With H the parity checks of the simplex code (circulant, rows of
weight three from a primitive trinomial) and G its generators, X gauges are H x I, Z gauges I x H,
stabilizers H x G and G x H, logical operators E x G and G x E with G E^T = 1. So every gauge has
weight three and a block holds r^2 logical qubits. After Malcolm et al., arXiv:2502.07150, and Li
and Yoder, arXiv:2002.06257. Errors are not edges: decoders that match cannot serve these codes.

The distance: let V be a square of X errors that no stabilizer G x H sees but some logical G x E
does. The rows of G V are then words of the simplex code, not all zero, and such a word has 2^(r-1)
ones; so V has errors in at least as many columns.

Early plans of this project called this family "Hastings-Haah"; that name belongs to the honeycomb
Floquet code, in `honeycomb.py`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from qmkd.qec.codes.code import (
    PAULIS,
    STATES,
    Basis,
    Bits,
    Code,
    CodeError,
    Coord,
    Gauge,
    Native,
    Stabilizer,
    independent,
    null_space,
    two_phases,
)

TRINOMIALS: Final = {2: (0, 1, 2), 3: (0, 1, 3), 4: (0, 1, 4), 5: (0, 2, 5)}
"""Exponents of a primitive trinomial of degree r over GF(2)."""
RANKS: Final = {2 ** (r - 1): r for r in TRINOMIALS}
"""Distance -> r."""

NATIVE: Final = {
    **PAULIS,
    **{name: Native(rounds=each.rounds, how=each.how, block=True) for name, each in STATES.items()},
    "H": Native(
        rounds=0,
        block=True,
        how="H on every data qubit; the square is mirrored, also that of the logical qubits",
    ),
    "S": Native(
        rounds=0,
        block=True,
        how="S on the diagonal, CZ across it: S on diagonal logical qubits, CZ on mirrored pairs",
    ),
    "CNOT": Native(rounds=0, block=True, how="CX between equal qubits of two blocks"),
}


@lru_cache(maxsize=8)
def shyps(distance: int) -> Code:
    """The block of a distance: 2, 4, 8 or 16. Raises CodeError for any other.

    Data qubit (i, j) has number i * (2^r - 1) + j; logical qubit (s, t) has number s * r + t.
    """
    if distance not in RANKS:
        raise CodeError(f"SHYPS has distances {sorted(RANKS)}, not {distance}")
    r = RANKS[distance]
    n = 2**r - 1
    checks, every = circulant(r), np.eye(n, dtype=np.uint8)
    words, unions = null_space(checks), null_space(checks.T)
    enough = every[list(independent(checks))]
    # In reduced form each word has a place where it alone is 1: there are the rows of E.
    alone = every[[np.flatnonzero((words.sum(axis=0) == 1) & row)[0] for row in words]]
    gauges = tuple(
        Gauge(basis=basis, support=support, at=_place(basis, *divmod(i % (n * n), n)))
        for i, (basis, support) in enumerate(_product(checks, every))
    )
    opening, cycle = two_phases(gauges, n * n, _steps(r, n))
    logical = _product(alone, words)
    return Code(
        profile="SHYPS",
        variant="shyps",
        distance=distance,
        circuit_distance=distance,
        qubits=tuple((float(j), float(i)) for i in range(n) for j in range(n))
        + tuple(gauge.at for gauge in gauges),
        data=n * n,
        gauges=gauges,
        stabilizers=tuple(
            Stabilizer(basis=basis, gauges=numbers, at=gauges[numbers[0]].at)
            for basis, numbers in _of_gauges(enough, words, n)
        ),
        relations=tuple(numbers for _, numbers in _of_gauges(unions, every, n)),
        generators=tuple(numbers[0] for _, numbers in _of_gauges(enough, every, n)),
        logical_x=tuple(support for basis, support in logical if basis == "X"),
        logical_z=tuple(support for basis, support in logical if basis == "Z"),
        opening=opening,
        cycle=cycle,
        native=NATIVE,
        matchable=False,
    )


def circulant(r: int) -> Bits:
    """Parity checks of the simplex code: uint8, shape (2^r - 1, 2^r - 1), of rank 2^r - 1 - r."""
    n = 2**r - 1
    matrix = np.zeros((n, n), dtype=np.uint8)
    for exponent in TRINOMIALS[r]:
        matrix[np.arange(n), (np.arange(n) + exponent) % n] = 1
    return matrix


def _product(left: Bits, right: Bits) -> list[tuple[Basis, tuple[int, ...]]]:
    """Rows of left x right for X, then those of right x left for Z, as supports."""
    both: dict[Basis, Bits] = {"X": np.kron(left, right), "Z": np.kron(right, left)}
    return [
        (basis, tuple(int(at) for at in np.flatnonzero(row)))
        for basis, matrix in both.items()
        for row in matrix
    ]


def _of_gauges(left: Bits, right: Bits, n: int) -> list[tuple[Basis, tuple[int, ...]]]:
    """As `_product`, for sets of gauges: those of Z are numbered after all those of X."""
    return [
        (basis, support if basis == "X" else tuple(n * n + at for at in support))
        for basis, support in _product(left, right)
    ]


def _place(basis: Basis, i: int, j: int) -> Coord:
    return (float(j), i + 0.5) if basis == "X" else (j + 0.5, float(i))


def _steps(r: int, n: int) -> dict[Basis, list[list[tuple[int, int]]]]:
    """CX layers: in one, every gauge meets the data qubit that one exponent away from it."""
    square = [(i, j) for i in range(n) for j in range(n)]
    steps: dict[Basis, list[list[tuple[int, int]]]] = {"X": [], "Z": []}
    for exponent in TRINOMIALS[r]:
        steps["X"].append([(i * n + j, (i + exponent) % n * n + j) for i, j in square])
        steps["Z"].append([(n * n + i * n + j, i * n + (j + exponent) % n) for i, j in square])
    return steps
