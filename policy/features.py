"""What a model sees of a question: a row of numbers, of a fixed order and version.

Closed forms of the rules are features too, so that a forest only learns where they are off. A
circuit's family is none: it would be learnt by heart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from policy.api import Asked
from policy.rules import FOLDS, damping, effects

Real = NDArray[np.float64]

VERSION: Final = "features-1"
AGE_UNKNOWN_S: Final = 3.15e7
NAMES: Final = (
    "qubits",
    "log_depth",
    "log_gates_1q",
    "log_gates_2q",
    "gates_2q_per_qubit",
    "measurements",
    "mapping_entropy",
    "signal",
    "reach",
    "log_error_1q",
    "log_error_2q",
    "readout_error",
    "log_t1",
    "log_t2",
    "log_layer",
    "log_age",
    "exponent",
    "readout_kept",
    "log_shots",
    "bias_in_standard_errors",
    *(f"rules_error_{method}" for method in FOLDS),
)


def row(asked: Asked) -> list[float]:
    """The features of a question that `policy.api.check` has taken."""
    circuit, backend = asked.circuit, asked.backend
    exponent, readout = damping(asked)
    found = effects(asked)
    shots = asked.budget.shots_max or asked.budget.shots
    age = AGE_UNKNOWN_S if backend.calibration_age_s is None else backend.calibration_age_s
    return [
        float(circuit.qubits),
        math.log1p(circuit.depth),
        math.log1p(circuit.gates_1q),
        math.log1p(circuit.gates_2q),
        circuit.gates_2q / circuit.qubits,
        float(circuit.measurements),
        circuit.mapping_entropy,
        circuit.signal,
        circuit.reach,
        math.log(backend.error_1q + 1e-6),
        math.log(backend.error_2q + 1e-6),
        backend.readout_error,
        math.log((backend.t1_s or 1.0) + 1e-9),
        math.log((backend.t2_s or 1.0) + 1e-9),
        math.log(backend.layer_s + 1e-9),
        math.log1p(age),
        min(exponent, 50.0),
        readout,
        math.log(shots),
        min(1e4, found["none"].bias * math.sqrt(asked.budget.shots)),
        *(
            math.log(math.hypot(found[method].bias, math.sqrt(found[method].variance / shots)))
            for method in FOLDS
        ),
    ]


def rows(asked: Sequence[Asked]) -> Real:
    """float64, shape (questions, features)."""
    found = np.array([row(each) for each in asked], dtype=np.float64)
    return found.reshape(len(asked), len(NAMES))
