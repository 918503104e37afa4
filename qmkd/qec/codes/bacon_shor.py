"""Bacon-Shor codes: a square of data qubits, XX between neighbours in a row, ZZ in a column.

The product of all XX between two columns is a stabilizer, as is that of all ZZ between two rows
(Bacon, arXiv:quant-ph/0506023). Logical Z is a row, logical X a column, as for the surface code.
There is no threshold: past some distance the code gets worse again.

Two ways to measure a gauge. By an ancilla: a fault there costs one step of distance, so circuits
have the distance of the code. By a pair measurement (MXX, MZZ), as in Gidney and Bacon,
arXiv:2305.12046: no ancillas, but a fault that leaves Z on both qubits of an XX pair is two steps
at once, so under two-qubit depolarizing the distance of the circuit is (d + 1) // 2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from qmkd.qec.codes.code import (
    MEASURE_PAIR,
    PAULIS,
    STATES,
    Basis,
    Code,
    CodeError,
    Gauge,
    Layer,
    Native,
    Operation,
    Stabilizer,
    two_phases,
)

DISTANCE_MIN: Final = 2
DISTANCE_MAX: Final = 99

NATIVE: Final = {
    **PAULIS,
    **STATES,
    "H": Native(rounds=0, how="H on every data qubit; rows and columns change places"),
    "S": Native(rounds=0, how="S on the diagonal, CZ between qubits that mirror each other in it"),
    "CNOT": Native(rounds=0, how="CX between equal qubits of two patches"),
}


@lru_cache(maxsize=64)
def bacon_shor(distance: int, pairs: bool = False) -> Code:
    """The d x d code, gauges measured by ancillas or as pairs. Raises CodeError outside 2..99."""
    if not DISTANCE_MIN <= distance <= DISTANCE_MAX:
        raise CodeError(f"a Bacon-Shor code has a distance of {DISTANCE_MIN}..{DISTANCE_MAX}")
    d, short = distance, distance - 1
    rows = [Gauge(basis="X", support=(y * d + x, y * d + x + 1), at=(x + 0.5, float(y)))
            for x in range(short) for y in range(d)]  # fmt: skip
    columns = [Gauge(basis="Z", support=(y * d + x, y * d + d + x), at=(float(x), y + 0.5))
               for y in range(short) for x in range(d)]  # fmt: skip
    gauges = (*rows, *columns)
    # Gauges of the same pair of columns, or of rows, are neighbours in the list.
    stabilizers = tuple(
        Stabilizer(
            basis=gauges[first].basis, gauges=tuple(range(first, first + d)), at=gauges[first].at
        )
        for first in range(0, len(gauges), d)
    )
    opening, cycle = _paired(gauges, d) if pairs else _by_ancillas(gauges, d)
    data = tuple((float(x), float(y)) for y in range(d) for x in range(d))
    return Code(
        profile="BaconShor",
        variant="bacon-shor-pairs" if pairs else "bacon-shor",
        distance=d,
        circuit_distance=(d + 1) // 2 if pairs else d,
        qubits=data if pairs else data + tuple(gauge.at for gauge in gauges),
        data=d * d,
        gauges=gauges,
        stabilizers=stabilizers,
        generators=tuple(range(len(gauges))),
        logical_x=(tuple(range(0, d * d, d)),),
        logical_z=(tuple(range(d)),),
        opening=opening,
        cycle=cycle,
        native=NATIVE,
    )


def _by_ancillas(gauges: tuple[Gauge, ...], distance: int) -> tuple[Layer, tuple[Layer, ...]]:
    steps: dict[Basis, list[list[tuple[int, int]]]] = {
        basis: [
            [(i, gauge.support[side]) for i, gauge in enumerate(gauges) if gauge.basis == basis]
            for side in (0, 1)
        ]
        for basis in ("X", "Z")
    }
    return two_phases(gauges, distance * distance, steps)


def _paired(gauges: tuple[Gauge, ...], distance: int) -> tuple[Layer, tuple[Layer, ...]]:
    """Every other pair, then the rest: four layers a round."""
    layers: list[Layer] = []
    for basis in ("X", "Z"):
        numbers = [i for i, gauge in enumerate(gauges) if gauge.basis == basis]
        for parity in (0, 1):
            chosen = tuple(i for i in numbers if (i - numbers[0]) // distance % 2 == parity)
            if chosen:
                qubits = tuple(qubit for i in chosen for qubit in gauges[i].support)
                layers.append((Operation(gate=MEASURE_PAIR[basis], qubits=qubits, gauges=chosen),))
    return (), tuple(layers)
