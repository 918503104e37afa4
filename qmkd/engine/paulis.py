"""State vectors that only ever undergo turns about Pauli products and measurements of them.

Used by `magic.py`; each is one pass over the vectors, in `native/_magic.c`. The vectors are those
of `vectors.py`, which has what else there is to do with them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmkd.engine import vectors
from qmkd.engine.native import _magic
from qmkd.engine.vectors import DROP, Floats, Vectors

Sources = NDArray[np.int32]


class Letters(NamedTuple):
    """A product of X, Y and Z on qubits by their places, sign +: masks of those with X or Y, and
    of those with Z or Y."""

    x: int
    z: int


class Measured(NamedTuple):
    """How a product becomes the Z of a single qubit, the pivot, by a Clifford operation.

    minus: whether the product has the sign -. pivot: a place where it has X or Y, or Z if it has
    none of these. after: what the vector of the other qubits undergoes for the outcome 1; places
    are counted without the pivot.
    """

    product: Letters
    minus: bool
    pivot: int
    after: Letters


def angles(angle: float, factors: NDArray[np.float64]) -> Floats:
    """shape (branches, 2): cos and sin of half the angle times the factor of each branch, which is
    1, 0 or -1."""
    cos, sin = math.cos(angle / 2), math.sin(angle / 2)
    return np.stack([np.where(factors == 0, 1, cos), sin * factors], axis=1)


class PauliVectors(Vectors):
    """One vector per branch."""

    def turn(self, what: Letters, turns: Floats) -> None:
        """exp(-i angle/2 P), by `angles`."""
        _magic.turn(self.psi, self.width, *what, turns)

    def grow(self, letter: str, sources: Sources, turns: Floats) -> None:
        """For each of `sources` that branch with one more qubit behind the others, turned about X
        or Y out of |0>."""
        psi = vectors.aligned(len(sources), vectors.doubles(self.width + 1))
        _magic.grow(self.psi, self.width, int(letter == "Y"), sources, turns, psi)
        self.psi = psi
        self.width += 1

    def weigh(self, what: Letters) -> Floats:
        """shape (branches, 2): of each branch, of its parts with P = 1 and P = -1."""
        found: Floats = np.empty((len(self.psi), 2))
        _magic.weigh(self.psi, self.width, *what, found)
        return found

    def fold(
        self,
        what: Measured,
        mode: int,
        sources: Sources,
        outcomes: NDArray[np.uint8],
        factors: Floats,
    ) -> None:
        """For each of `sources`, what its outcome leaves of that branch, times a factor. By mode,
        the pivot leaves the vectors, or goes behind the others, or goes there and is put to 0."""
        psi = vectors.aligned(len(sources), vectors.doubles(self.width - (mode == DROP)))
        _magic.fold(
            self.psi, self.width, *what.product, what.minus, what.pivot, mode, *what.after,
            sources, outcomes, factors, psi,
        )  # fmt: skip
        self.psi = psi
        self.width -= mode == DROP
