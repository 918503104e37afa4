"""Memories of the honeycomb code: three layers a round, logical operators carried along.

Before each layer a logical operator is multiplied by edges that were just measured, so that it
commutes with those that are measured next; their results become part of its value
(arXiv:2107.02757, section 3). After one round a product of Z has become one of X, after two it is
one of Z again.

Coordinates of detectors are (x, y, layer, colour of the hexagon).
"""

from __future__ import annotations

from itertools import combinations
from typing import Final

import numpy as np
import stim
from numpy.typing import NDArray

from qmkd.qec.circuits.writer import NOTHING, Records
from qmkd.qec.codes.code import Bits, CodeError, independent, null_space
from qmkd.qec.codes.honeycomb import COLOURS, Honeycomb

BLUE: Final = 2
X_PART: Final = (1, 1, 0)
Z_PART: Final = (0, 1, 1)
"""Of the Paulis of red, green and blue."""


def honeycomb_memory(code: Honeycomb, rounds: int) -> stim.Circuit:
    """Prepare in Z, `rounds` times red, green and blue, measure; two observables.

    Data is measured in Z after an even number of rounds and in X after an odd one, where the
    logical operators then are. When the data is measured every hexagon is compared, although on a
    torus the last follows from the others. In exchange the product of all blue edges of the first
    round, which preparation determines, is no detector: it would see errors anywhere.
    Raises CodeError below one round.
    """
    if rounds < 1:
        raise CodeError(f"an experiment needs at least one round, not {rounds}")
    memory = _Memory(code)
    for layer in range(3 * rounds):
        memory.layer(layer)
    memory.measure(3 * rounds, "X" if rounds % 2 else "Z")
    return memory.circuit


class _Logical:
    """A logical operator: X and Z parts, uint8, shape (qubits,), and results in its value."""

    def __init__(self, z: Bits) -> None:
        self.x = np.zeros_like(z)
        self.z = z.copy()
        self.results: Records = NOTHING


class _Memory:
    """A circuit under construction. results: the last result of each edge, in parity form."""

    def __init__(self, code: Honeycomb) -> None:
        self.code = code
        self.circuit = stim.Circuit()
        self.measured = 0
        # Preparation in Z is as if all blue edges had just been found even.
        self.results: list[Records] = [NOTHING] * len(code.edges)
        self.values = {
            i: NOTHING for i, hexagon in enumerate(code.hexagons) if hexagon.colour == BLUE
        }
        self.logicals = [_Logical(row) for row in _first_logicals(code)]
        for number, place in enumerate(code.qubits):
            self.circuit.append("QUBIT_COORDS", [number], place)
        self.circuit.append("R", range(len(code.qubits)))
        self.circuit.append("TICK")

    def layer(self, number: int) -> None:
        """Measure the edges of the next colour; compare the hexagons that this completes."""
        code, colour = self.code, number % 3
        for logical in self.logicals:
            self._commute(logical, (colour - 1) % 3, colour)
        chosen = [i for i, edge in enumerate(code.edges) if edge.colour == colour]
        qubits = [qubit for i in chosen for qubit in code.edges[i].qubits]
        self.circuit.append("M" + 2 * COLOURS[colour], qubits)
        self.circuit.append("TICK")
        for i in chosen:
            self.results[i] = frozenset((self.measured,))
            self.measured += 1
        for i, hexagon in enumerate(code.hexagons):
            if hexagon.colour == (colour + 1) % 3:
                now = NOTHING
                for at in hexagon.edges:
                    now ^= self.results[at]
                if i in self.values:
                    self._detector(self.values[i] ^ now, i, number)
                self.values[i] = now

    def _commute(self, logical: _Logical, last: int, following: int) -> None:
        """Multiply by edges of colour `last` so that all of colour `following` commute."""
        for hexagon in self.code.hexagons:
            if hexagon.colour in (last, following):
                continue
            ours = [i for i in hexagon.edges if self.code.edges[i].colour == last]
            theirs = [i for i in hexagon.edges if self.code.edges[i].colour == following]
            apart = {i for i in theirs if _anticommutes(logical, self.code, i)}
            chosen = next(
                subset
                for size in (0, 1)
                for subset in combinations(ours, size)
                if _touched(self.code, subset, theirs) == apart
            )
            for i in chosen:
                self._multiply(logical, i)

    def _multiply(self, logical: _Logical, edge: int) -> None:
        colour, qubits = self.code.edges[edge].colour, list(self.code.edges[edge].qubits)
        logical.x[qubits] ^= X_PART[colour]
        logical.z[qubits] ^= Z_PART[colour]
        logical.results ^= self.results[edge]

    def measure(self, number: int, basis: str) -> None:
        """Measure all qubits in one basis, compare what is known in it, end the observables."""
        code = self.code
        first = self.measured
        self.circuit.append("M" if basis == "Z" else "MX", range(len(code.qubits)))
        self.circuit.append("TICK")
        self.measured += len(code.qubits)
        for i, edge in enumerate(code.edges):
            if edge.colour != BLUE:
                continue
            if basis == "Z":
                ends = frozenset(first + qubit for qubit in edge.qubits)
                beside = next(h for h, other in enumerate(code.hexagons) if i in other.edges)
                self._detector(self.results[i] ^ ends, beside, number)
            else:
                # YY is as good as XX where ZZ is known.
                for logical in self.logicals:
                    if logical.z[list(edge.qubits)].all():
                        self._multiply(logical, i)
        for i, hexagon in enumerate(code.hexagons):
            if (hexagon.colour == BLUE) == (basis == "Z"):
                value = self.values[i] ^ frozenset(first + qubit for qubit in hexagon.qubits)
                if hexagon.colour == 1:  # Y on six qubits is X on them times three blue edges.
                    for at in hexagon.edges:
                        value ^= self.results[at] if code.edges[at].colour == BLUE else NOTHING
                self._detector(value, i, number)
        for index, logical in enumerate(self.logicals):
            here, absent = (logical.z, logical.x) if basis == "Z" else (logical.x, logical.z)
            assert not absent.any(), "after whole rounds a logical operator is of one kind"
            ends = frozenset(first + int(qubit) for qubit in np.flatnonzero(here))
            targets = self._targets(logical.results ^ ends)
            self.circuit.append("OBSERVABLE_INCLUDE", targets, index)

    def _detector(self, results: Records, hexagon: int, layer: int) -> None:
        place = self.code.hexagons[hexagon]
        self.circuit.append("DETECTOR", self._targets(results), (*place.at, layer, place.colour))

    def _targets(self, results: Records) -> list[stim.GateTarget]:
        return [stim.target_rec(result - self.measured) for result in sorted(results)]


def _first_logicals(code: Honeycomb) -> NDArray[np.uint8]:
    """Two products of Z that commute with all hexagons and differ by more than edges and those."""
    blue_hexagons = _rows(code, [h.qubits for h in code.hexagons if h.colour == BLUE])
    others = _rows(code, [h.qubits for h in code.hexagons if h.colour != BLUE])
    edges = _rows(code, [edge.qubits for edge in code.edges if edge.colour == BLUE])
    trivial = np.concatenate([edges, blue_hexagons])
    rows = np.concatenate([trivial, null_space(others)])
    chosen = [i for i in independent(rows) if i >= len(trivial)]
    assert len(chosen) == code.k, "a torus holds two logical qubits"
    return rows[chosen]


def _rows(code: Honeycomb, supports: list[tuple[int, ...]]) -> Bits:
    rows = np.zeros((len(supports), len(code.qubits)), dtype=np.uint8)
    for row, support in zip(rows, supports, strict=True):
        row[list(support)] = 1
    return rows


def _anticommutes(logical: _Logical, code: Honeycomb, edge: int) -> bool:
    colour, qubits = code.edges[edge].colour, list(code.edges[edge].qubits)
    apart = logical.x[qubits] * Z_PART[colour] ^ logical.z[qubits] * X_PART[colour]
    return bool(apart.sum() % 2)


def _touched(code: Honeycomb, chosen: tuple[int, ...], others: list[int]) -> set[int]:
    """Which of the others share an odd number of qubits with the chosen edges."""
    qubits = {qubit for i in chosen for qubit in code.edges[i].qubits}
    return {i for i in others if len(qubits & set(code.edges[i].qubits)) % 2}
