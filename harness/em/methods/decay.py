"""How fast a calibration lets each Pauli product decay: its errors, met on the way back.

A product is followed from the end of a circuit to its beginning. Clifford gates turn it into
another product; other turns into a mixture, of which only each qubit's chances of I, X, Y, Z are
kept, as if qubits were independent. For Clifford circuits under Pauli errors the rate is exact;
otherwise it is a guess that needs no simulation and takes time in proportion to gates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.em.backends.backend import Calibration, Refused
from harness.em.backends.device import Gate, Wait, steps
from harness.em.backends.superoperators import transfer
from harness.em.circuits.paulis import Pauli
from runtime.jit.circuit import Circuit
from runtime.jit.gates import GATES

Real = NDArray[np.float64]

RATE_MAX: Final = 20.0
"""Per error; an edge that is dead has an infinite one."""


@lru_cache(maxsize=4096)
def _back(name: str, radians: tuple[float, ...]) -> Real:
    """Row i: the chances of the letters that letter i becomes, going back through the gate."""
    return np.asarray(transfer(GATES[name].matrix(*radians)) ** 2)


def rates(body: Circuit, products: Sequence[Pauli], known: Calibration) -> Real:
    """Of each product: its value shrinks as exp(-rate), readout left out. Shape (products,)."""
    chances = np.zeros((len(products), body.width, 4))
    chances[:, :, 0] = 1
    for row, product in enumerate(products):
        for qubit, letter in product:
            chances[row, qubit] = np.eye(4)["IXYZ".index(letter)]
    found = np.zeros(len(products))
    for step in reversed(list(steps(body, known))):
        if isinstance(step, Wait):
            found += _relaxed(chances[:, step.qubit], known, step.qubit, step.seconds)
            continue
        each = step.operation
        back = _back(each.name, tuple(angle.radians for angle in each.angles))
        if len(each.qubits) == 1:
            (qubit,) = each.qubits
            if step.seconds:
                found += _gate_errors(chances, known, step)
            chances[:, qubit] = chances[:, qubit] @ back
            continue
        found += _gate_errors(chances, known, step)
        first, second = each.qubits
        both = np.einsum("ti,tj->tij", chances[:, second], chances[:, first]).reshape(-1, 16)
        both = (both @ back).reshape(-1, 4, 4)
        chances[:, second], chances[:, first] = both.sum(axis=2), both.sum(axis=1)
    return found


def _relaxed(letters: Real, known: Calibration, qubit: int, seconds: float) -> Real:
    figures = known.qubits[qubit]
    across = seconds / figures.t2_s if figures.t2_s else 0.0
    along = seconds / figures.t1_s if figures.t1_s else 0.0
    return np.asarray((letters[:, 1] + letters[:, 2]) * across + letters[:, 3] * along)


def _gate_errors(chances: Real, known: Calibration, step: Gate) -> Real:
    qubits = step.operation.qubits
    if len(qubits) == 1:
        error, touched = known.qubits[qubits[0]].error, 1 - chances[:, qubits[0], 0]
        shrink = 1 - 4 * error / 3
    else:
        error = known.pair_error(*qubits)
        touched = 1 - chances[:, qubits[0], 0] * chances[:, qubits[1], 0]
        shrink = 1 - 16 * error / 15
    found = touched * (min(RATE_MAX, -math.log(shrink)) if shrink > 0 else RATE_MAX)
    for qubit in qubits:
        found = found + _relaxed(chances[:, qubit], known, qubit, step.seconds)
    return np.asarray(found)


def readout_factors(products: Sequence[Pauli], known: Calibration) -> Real:
    """By how much readout as calibrated shrinks each product. Shape (products,)."""
    if not known.qubits:
        raise Refused(f"The calibration of {known.backend} holds no qubits.")
    apart = [1 - q.read_1_for_0 - q.read_0_for_1 for q in known.qubits]
    return np.array([math.prod(apart[qubit] for qubit, _ in product) for product in products])
