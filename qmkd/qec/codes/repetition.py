"""The repetition code: a line of data qubits that protects one basis only. For teaching and tests.

With basis Z it compares neighbours in Z, so a memory in Z survives (d - 1) // 2 flips and a memory
in X none: `Code.protects` says so, and the other memory is refused.
"""

from __future__ import annotations

from typing import Final

from qmkd.qec.codes.code import (
    PAULIS,
    Basis,
    Code,
    CodeError,
    Gauge,
    Native,
    Stabilizer,
    ancilla_layers,
)

DISTANCE_MIN: Final = 2
DISTANCE_MAX: Final = 999


def repetition(distance: int, basis: Basis = "Z") -> Code:
    """The code that compares neighbours in `basis`. Raises CodeError outside 2..999."""
    if not DISTANCE_MIN <= distance <= DISTANCE_MAX:
        raise CodeError(f"a repetition code has a distance of {DISTANCE_MIN}..{DISTANCE_MAX}")
    gauges = tuple(
        Gauge(basis=basis, support=(i, i + 1), at=(i + 0.5, 0.0)) for i in range(distance - 1)
    )
    numbers = list(range(len(gauges)))
    steps = [[(i, i + side) for i in numbers] for side in (0, 1)]
    reset, touching, measure = ancilla_layers(gauges, distance, steps, numbers)
    one, line = ((0,),), (tuple(range(distance)),)
    return Code(
        profile="",
        variant="repetition" if basis == "Z" else "phase-repetition",
        distance=distance,
        circuit_distance=distance,
        qubits=tuple((float(i), 0.0) for i in range(distance)) + tuple(g.at for g in gauges),
        data=distance,
        gauges=gauges,
        stabilizers=tuple(
            Stabilizer(basis=basis, gauges=(i,), at=gauge.at) for i, gauge in enumerate(gauges)
        ),
        generators=tuple(numbers),
        logical_x=line if basis == "Z" else one,
        logical_z=one if basis == "Z" else line,
        opening=reset,
        cycle=(*touching, measure, reset),
        protects=(basis,),
        native={
            **PAULIS,
            "CNOT": Native(rounds=0, how="CX between equal qubits of two lines"),
        },
    )
