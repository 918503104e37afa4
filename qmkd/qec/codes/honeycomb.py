"""The honeycomb Floquet code on a torus: what is measured changes, and so do its logical operators.

Hastings and Haah, arXiv:2107.02757, with Paulis by colour as in Gidney, Newman, Fowler and
Broughton, arXiv:2108.10457. Hexagons have three colours; an edge has that of the two hexagons that
it connects. Edges are measured colour by colour: XX on red, YY on green, ZZ on blue. The product of
the edges around a hexagon is X, Y or Z on its six qubits and commutes with every edge. There are
two logical qubits, and no fixed logical operators: `qmkd/qec/circuits/honeycomb.py` carries them
along.

Early plans of this project said "Hastings-Haah" and meant SHYPS (`shyps.py`), which is another
family. Programs cannot ask for this code: it has no profile and no logical gates here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from qmkd.qec.codes.code import CodeError, Coord, Footprint

COLOURS: Final = ("X", "Y", "Z")
"""The Pauli of red, green and blue."""
SIZES: Final = (3, 6, 9, 12, 15)


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """Two qubits whose product of Paulis is measured. colour: 0 red, 1 green, 2 blue."""

    colour: int
    qubits: tuple[int, int]


class Hexagon(msgspec.Struct, frozen=True, kw_only=True):
    """qubits: its six corners. edges: those around it, numbers in `Honeycomb.edges`."""

    colour: int
    qubits: tuple[int, ...]
    edges: tuple[int, ...]
    at: Coord


class Honeycomb(msgspec.Struct, frozen=True, kw_only=True):
    """A torus of size x size hexagons. qubits: coordinates.

    circuit_distance: fewest faults of a memory whose pair measurements are followed by two-qubit
    depolarizing noise.
    """

    size: int
    circuit_distance: int
    qubits: tuple[Coord, ...]
    edges: tuple[Edge, ...]
    hexagons: tuple[Hexagon, ...]

    @property
    def k(self) -> int:
        return 2

    @property
    def footprint(self) -> Footprint:
        return Footprint(data=len(self.qubits), ancillas=0, logical=self.k)


@lru_cache(maxsize=8)
def honeycomb(size: int) -> Honeycomb:
    """The torus of `size` x `size` hexagons. Raises CodeError for sizes that are not in SIZES."""
    if size not in SIZES:
        raise CodeError(f"a honeycomb torus has sizes {SIZES}, not {size}: three colours must fit")
    square = [(q, r) for r in range(size) for q in range(size)]

    def corner(down: bool, q: int, r: int) -> int:
        """The qubit between hexagons (q, r), (q + 1, r), (q, r + 1), or below it."""
        return 2 * (r % size * size + q % size) + down

    def colour(q: int, r: int) -> int:
        return (q - r) % 3

    edges = []
    for q, r in square:
        here = corner(False, q, r)
        # Each edge has the colour of the hexagon at its corner which it does not bound.
        edges += [
            Edge(colour=colour(q, r), qubits=(here, corner(True, q, r))),
            Edge(colour=colour(q + 1, r), qubits=(here, corner(True, q - 1, r))),
            Edge(colour=colour(q, r + 1), qubits=(here, corner(True, q, r - 1))),
        ]
    hexagons = []
    for q, r in square:
        qubits = (
            *(corner(False, q + dq, r + dr) for dq, dr in ((0, 0), (-1, 0), (0, -1))),
            *(corner(True, q + dq, r + dr) for dq, dr in ((-1, 0), (0, -1), (-1, -1))),
        )
        around = tuple(i for i, edge in enumerate(edges) if set(edge.qubits) <= set(qubits))
        hexagons.append(Hexagon(colour=colour(q, r), qubits=qubits, edges=around, at=_plane(q, r)))
    return Honeycomb(
        size=size,
        circuit_distance=2 * size // 3,
        qubits=tuple(
            _plane(q + (2 if down else 1) / 3, r + (2 if down else 1) / 3)
            for q, r in square
            for down in (False, True)
        ),
        edges=tuple(edges),
        hexagons=tuple(hexagons),
    )


def _plane(q: float, r: float) -> Coord:
    """Where a point of the slanted lattice is drawn."""
    return (2 * q + r, 3 * r)
