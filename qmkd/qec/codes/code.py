"""What every code says of itself: checks, logical operators, footprint, and one round of its cycle.

A code here is a CSS subsystem code (a stabilizer code is one whose gauges commute). It knows
geometry and order, never noise and never a decoder. A round is a few layers; within a layer no
qubit is touched twice. `qmkd/qec/circuits/` turns codes into Stim circuits with detectors;
the codes themselves are in the neighbouring files. The honeycomb code has no fixed checks and so is
no `Code`: see `honeycomb.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

Basis = Literal["X", "Z"]
Coord = tuple[float, float]
Bits = NDArray[np.uint8]

OTHER: Final[dict[Basis, Basis]] = {"X": "Z", "Z": "X"}
RESET: Final[dict[Basis, str]] = {"X": "RX", "Z": "R"}
MEASURE: Final[dict[Basis, str]] = {"X": "MX", "Z": "M"}
MEASURE_PAIR: Final[dict[Basis, str]] = {"X": "MXX", "Z": "MZZ"}


class CodeError(ValueError):
    """A size or an experiment that a code does not have. The message says what it has."""


class Gauge(msgspec.Struct, frozen=True, kw_only=True):
    """A Pauli product that is measured each round: `basis` on every data qubit of `support`.

    at: where it is drawn, and where its ancilla sits if it has one.
    """

    basis: Basis
    support: tuple[int, ...]
    at: Coord


class Stabilizer(msgspec.Struct, frozen=True, kw_only=True):
    """A product of gauges (numbers in `Code.gauges`) that commutes with all of them."""

    basis: Basis
    gauges: tuple[int, ...]
    at: Coord


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A Stim gate on local qubits. For a measurement, `gauges` are what it measures, in order."""

    gate: str
    qubits: tuple[int, ...]
    gauges: tuple[int, ...] = ()


Layer = tuple[Operation, ...]
"""Operations that happen at once; no qubit occurs twice."""


class Native(msgspec.Struct, frozen=True, kw_only=True):
    """How a code does a logical operation without help from another code.

    rounds: rounds of syndrome extraction that it takes, 0 for one layer between two rounds; with
    `per_distance`, that many for each unit of distance. block: it acts on all logical qubits of a
    block alike. how: in one sentence.
    """

    rounds: int
    how: str
    per_distance: bool = False
    block: bool = False

    def rounds_at(self, distance: int) -> int:
        return self.rounds * (distance if self.per_distance else 1)


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """Qubits of one block."""

    data: int
    ancillas: int
    logical: int

    @property
    def physical(self) -> int:
        return self.data + self.ancillas


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """One block of a code.

    profile: its name in qvm/profiles.py, or "" if no program can ask for it.
    variant: what tells it from other codes of that name, for tables of results.
    circuit_distance: the fewest faults of one- and two-qubit depolarizing noise, resets and
    measurements that make an undetected logical error in a memory.
    qubits: coordinates; the first `data` are data qubits, the rest ancillas. No two are alike.
    stabilizers: independent. relations: sets of gauges whose product is the identity, independent.
    generators: gauges that span all gauges. logical_x, logical_z: supports, one pair per logical
    qubit; number i of one anticommutes with number i of the other only, and all commute with every
    gauge (they are bare).
    opening: what precedes the first round. cycle: one round; what it resets after the last
    measurement is for the next round. protects: bases in which a memory has the distance.
    native: logical operations by name, as in qvm/isa.py.
    """

    profile: str
    variant: str
    distance: int
    circuit_distance: int
    qubits: tuple[Coord, ...]
    data: int
    gauges: tuple[Gauge, ...]
    stabilizers: tuple[Stabilizer, ...]
    relations: tuple[tuple[int, ...], ...] = ()
    generators: tuple[int, ...]
    logical_x: tuple[tuple[int, ...], ...]
    logical_z: tuple[tuple[int, ...], ...]
    opening: Layer
    cycle: tuple[Layer, ...]
    protects: tuple[Basis, ...] = ("X", "Z")
    native: dict[str, Native]
    matchable: bool = True

    @property
    def k(self) -> int:
        """Logical qubits of a block."""
        return len(self.logical_x)

    @property
    def footprint(self) -> Footprint:
        return Footprint(data=self.data, ancillas=len(self.qubits) - self.data, logical=self.k)

    def logical(self, basis: Basis) -> tuple[tuple[int, ...], ...]:
        return self.logical_x if basis == "X" else self.logical_z

    def support(self, stabilizer: Stabilizer) -> tuple[int, ...]:
        """The data qubits on which a stabilizer acts, sorted."""
        left: set[int] = set()
        for gauge in stabilizer.gauges:
            left ^= set(self.gauges[gauge].support)
        return tuple(sorted(left))

    def commuting(self) -> bool:
        """Whether all gauges commute: then they are the stabilizers."""
        x, z = self.gauge_matrix("X"), self.gauge_matrix("Z")
        return not (x.astype(np.int64) @ z.T.astype(np.int64) % 2).any()

    def order(self) -> tuple[Basis, ...]:
        """Bases in the order in which a round measures them."""
        measured = [
            self.gauges[gauge].basis
            for layer in self.cycle
            for operation in layer
            for gauge in operation.gauges
        ]
        return tuple(dict.fromkeys(measured))

    def matrix(self, supports: Iterable[tuple[int, ...]]) -> Bits:
        """Supports as rows: uint8, shape (supports, data)."""
        rows = list(supports)
        matrix = np.zeros((len(rows), self.data), dtype=np.uint8)
        for row, support in zip(matrix, rows, strict=True):
            row[list(support)] = 1
        return matrix

    def gauge_matrix(self, basis: Basis) -> Bits:
        """Gauges of one basis: uint8, shape (gauges, data)."""
        return self.matrix(gauge.support for gauge in self.gauges if gauge.basis == basis)

    def stabilizer_matrix(self, basis: Basis) -> Bits:
        """Stabilizers of one basis: uint8, shape (stabilizers, data)."""
        return self.matrix(self.support(one) for one in self.stabilizers if one.basis == basis)

    def logical_matrix(self, basis: Basis) -> Bits:
        """Logical operators of one basis: uint8, shape (k, data)."""
        return self.matrix(self.logical(basis))

    def dual(self) -> Code:
        """The code with X and Z swapped everywhere, on the same qubits."""
        return msgspec.structs.replace(
            self,
            gauges=tuple(
                msgspec.structs.replace(each, basis=OTHER[each.basis]) for each in self.gauges
            ),
            stabilizers=tuple(
                msgspec.structs.replace(each, basis=OTHER[each.basis]) for each in self.stabilizers
            ),
            logical_x=self.logical_z,
            logical_z=self.logical_x,
            opening=_dual_layer(self.opening),
            cycle=tuple(_dual_layer(layer) for layer in self.cycle),
            protects=tuple(OTHER[basis] for basis in self.protects),
        )

    def moved(self, dx: float, dy: float) -> Code:
        """The same code elsewhere."""
        return msgspec.structs.replace(
            self,
            qubits=tuple((x + dx, y + dy) for x, y in self.qubits),
            gauges=tuple(
                msgspec.structs.replace(each, at=(each.at[0] + dx, each.at[1] + dy))
                for each in self.gauges
            ),
            stabilizers=tuple(
                msgspec.structs.replace(each, at=(each.at[0] + dx, each.at[1] + dy))
                for each in self.stabilizers
            ),
        )


_DUAL: Final = {"R": "RX", "RX": "R", "M": "MX", "MX": "M", "MXX": "MZZ", "MZZ": "MXX", "CX": "CX"}


def _dual_layer(layer: Layer) -> Layer:
    """The layer with H before and after it."""
    return tuple(
        msgspec.structs.replace(
            each,
            gate=_DUAL[each.gate],
            # H on both sides of a CX turns it around.
            qubits=_swapped(each.qubits) if each.gate == "CX" else each.qubits,
        )
        for each in layer
    )


def _swapped(pairs: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(qubit for i in range(0, len(pairs), 2) for qubit in (pairs[i + 1], pairs[i]))


def rank(matrix: Bits) -> int:
    """Rank over GF(2)."""
    return len(independent(matrix))


def independent(matrix: Bits) -> tuple[int, ...]:
    """Numbers of the first rows that span all rows over GF(2)."""
    kept: list[int] = []
    pivots: dict[int, int] = {}
    for number, row in enumerate(matrix):
        left = int.from_bytes(np.packbits(row, bitorder="little").tobytes(), "little")
        while left:
            top = left.bit_length()
            if top not in pivots:
                pivots[top] = left
                kept.append(number)
                break
            left ^= pivots[top]
    return tuple(kept)


PAULIS: Final = {
    name: Native(rounds=0, how="Pauli frame: nothing happens to the qubits") for name in "XYZ"
}
STATES: Final = {
    "RESET": Native(rounds=1, how="data reset in Z; the first round fixes the X checks"),
    "PREP_PLUS": Native(rounds=1, how="data reset in X; the first round fixes the Z checks"),
    "MEASURE_Z": Native(rounds=0, how="every data qubit measured in Z"),
    "MEASURE_X": Native(rounds=0, how="every data qubit measured in X"),
}
"""What every CSS code of ours does alike."""


def ancilla_layers(
    gauges: tuple[Gauge, ...], data: int, steps: list[list[tuple[int, int]]], numbers: list[int]
) -> tuple[Layer, list[Layer], Layer]:
    """Reset, CX layers and measurement of the gauges in `numbers`, ancilla i at qubit data + i.

    steps: for each CX layer, (gauge, data qubit) pairs. An ancilla of an X gauge starts in |+> and
    controls; one of a Z gauge starts in |0> and is the target (arXiv:1208.0928, section III).
    """
    by_basis: dict[Basis, tuple[int, ...]] = {"X": (), "Z": ()}
    for number in numbers:
        by_basis[gauges[number].basis] += (number,)

    def layer(gates: dict[Basis, str], measuring: bool) -> Layer:
        return tuple(
            Operation(
                gate=gates[basis],
                qubits=tuple(data + number for number in chosen),
                gauges=chosen if measuring else (),
            )
            for basis, chosen in by_basis.items()
            if chosen
        )

    touched: list[Layer] = []
    for step in steps:
        pairs = [
            (data + number, qubit) if gauges[number].basis == "X" else (qubit, data + number)
            for number, qubit in step
        ]
        qubits = tuple(qubit for pair in pairs for qubit in pair)
        touched.append((Operation(gate="CX", qubits=qubits),))
    return layer(RESET, False), touched, layer(MEASURE, True)


def two_phases(
    gauges: tuple[Gauge, ...], data: int, steps: dict[Basis, list[list[tuple[int, int]]]]
) -> tuple[Layer, tuple[Layer, ...]]:
    """Opening and cycle of a code that measures its X gauges by ancillas, then its Z gauges.

    steps: CX layers of each basis as (gauge, data qubit) pairs. Ancillas are reset and measured
    while the data works with the others; only at the end of a round does the data wait one layer.
    """
    numbers: dict[Basis, list[int]] = {
        basis: [i for i, gauge in enumerate(gauges) if gauge.basis == basis] for basis in ("X", "Z")
    }
    reset_x, touch_x, measure_x = ancilla_layers(gauges, data, steps["X"], numbers["X"])
    reset_z, touch_z, measure_z = ancilla_layers(gauges, data, steps["Z"], numbers["Z"])
    return reset_x, (
        *touch_x[:-1],
        touch_x[-1] + reset_z,
        touch_z[0] + measure_x,
        *touch_z[1:],
        measure_z + reset_x,
    )


def null_space(matrix: Bits) -> Bits:
    """Rows that span all v with matrix @ v = 0 over GF(2), in reduced form.

    Each row has a column where it alone is 1. Returns uint8, shape (nullity, columns).
    """
    left = matrix.copy()
    pivots: list[int] = []
    for column in range(left.shape[1]):
        below = np.flatnonzero(left[len(pivots) :, column])
        if not below.size:
            continue
        top = len(pivots)
        left[[top, top + below[0]]] = left[[top + below[0], top]]
        others = np.flatnonzero(left[:, column])
        left[others[others != top]] ^= left[top]
        pivots.append(column)
    free = [column for column in range(left.shape[1]) if column not in pivots]
    basis = np.zeros((len(free), left.shape[1]), dtype=np.uint8)
    for row, column in zip(basis, free, strict=True):
        row[column] = 1
        row[pivots] = left[: len(pivots), column]
    return basis
