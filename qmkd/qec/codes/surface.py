"""The rotated surface code on a rectangle, any width and height from 2, odd or even.

Data qubits sit at whole coordinates, plaquettes between them, coloured like a chessboard. X checks
of two qubits line the top and bottom edges, Z checks the left and right. So a logical Z is a row, a
logical X a column, and patches side by side merge into a joint XX, patches one above the other into
a joint ZZ (Horsman et al., arXiv:1111.4022). `turned` swaps all of that, as transversal H does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from qmkd.qec.codes.code import (
    OTHER,
    PAULIS,
    STATES,
    Basis,
    Code,
    CodeError,
    Coord,
    Gauge,
    Native,
    Stabilizer,
    ancilla_layers,
)

DISTANCE_MIN: Final = 2
DISTANCE_MAX: Final = 99

# The four data qubits of a plaquette, from its middle. A fault of the ancilla half-way leaves an
# error on the last two: a row for the check whose logical operator is a column and the other way
# round, so that it never costs two steps of distance at once (arXiv:1404.3747).
_ROWS: Final = ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5))
_COLUMNS: Final = ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))

NATIVE: Final = {
    **PAULIS,
    **STATES,
    "H": Native(rounds=0, how="H on every data qubit; the patch is turned afterwards"),
    "CNOT": Native(rounds=0, how="CX between equal qubits of two patches"),
    "MERGE": Native(rounds=1, per_distance=True, how="lattice surgery: one joint XX or ZZ"),
    "CNOT_SURGERY": Native(
        rounds=2,
        per_distance=True,
        how="joint XX, then joint ZZ with a third patch",
    ),
}


def surface(distance: int) -> Code:
    """The square patch. Raises CodeError outside 2..99."""
    return rectangle(distance, distance)


@lru_cache(maxsize=64)
def rectangle(width: int, height: int, left: int = 0, top: int = 0, turned: bool = False) -> Code:
    """A patch of `width` x `height` data qubits whose first is at (left, top).

    Colours depend on coordinates alone, so patches that touch can merge. turned: X and Z swapped.
    The distance is the smaller side; logical Z is a row and logical X a column, or turned the other
    way round. Raises CodeError outside 2..99.
    """
    for side in (width, height):
        if not DISTANCE_MIN <= side <= DISTANCE_MAX:
            raise CodeError(f"a surface patch has sides of {DISTANCE_MIN}..{DISTANCE_MAX}")
    data = [(float(left + x), float(top + y)) for y in range(height) for x in range(width)]
    number = {at: i for i, at in enumerate(data)}
    gauges, steps = [], [[], [], [], []]  # type: tuple[list[Gauge], list[list[tuple[int, int]]]]
    for at, basis in _plaquettes(width, height, left, top, turned):
        corners = _ROWS if (basis == "X") != turned else _COLUMNS
        touched = [number.get((at[0] + dx, at[1] + dy)) for dx, dy in corners]
        for step, qubit in zip(steps, touched, strict=True):
            if qubit is not None:
                step.append((len(gauges), qubit))
        support = tuple(sorted(qubit for qubit in touched if qubit is not None))
        gauges.append(Gauge(basis=basis, support=support, at=at))
    assert len(gauges) == len(data) - 1, "one logical qubit is left"
    checks = tuple(gauges)
    reset, touching, measure = ancilla_layers(checks, len(data), steps, list(range(len(checks))))
    row = tuple(range(width))
    column = tuple(range(0, width * height, width))
    return Code(
        profile="Surface",
        variant="rotated",
        distance=min(width, height),
        circuit_distance=min(width, height),
        qubits=(*data, *(gauge.at for gauge in checks)),
        data=len(data),
        gauges=checks,
        stabilizers=tuple(
            Stabilizer(basis=gauge.basis, gauges=(i,), at=gauge.at)
            for i, gauge in enumerate(checks)
        ),
        generators=tuple(range(len(checks))),
        logical_x=(row if turned else column,),
        logical_z=(column if turned else row,),
        opening=reset,
        cycle=(*touching, measure, reset),
        native=NATIVE,
    )


def _plaquettes(
    width: int, height: int, left: int, top: int, turned: bool
) -> list[tuple[Coord, Basis]]:
    """Middle and basis of every check of a rectangle."""
    found: list[tuple[Coord, Basis]] = []
    for y in range(top - 1, top + height):
        for x in range(left - 1, left + width):
            colour: Basis = "X" if (x + y) % 2 else "Z"
            on_side = x in (left - 1, left + width - 1)
            on_end = y in (top - 1, top + height - 1)
            if (on_side and on_end) or (on_side and colour == "X") or (on_end and colour == "Z"):
                continue
            found.append(((x + 0.5, y + 0.5), OTHER[colour] if turned else colour))
    return found
