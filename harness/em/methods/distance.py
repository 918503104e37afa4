"""Zero-noise extrapolation over code distances, for logical qubits (Wahl et al., arXiv:2304.14985).

The same circuit at two distances errs differently, by a ratio that the machine's own memories tell;
an exponential through both gives the value without errors. A shot costs qubit-time, distance cubed,
so shots are counted in those of the largest distance. It is declined where the bias to be expected
is no larger than twice what shots scatter: all shots then go to the largest distance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from harness.em.backends.backend import Calibration, Outcome, Refused
from harness.em.backends.logical import known as known_rates
from harness.em.circuits.paulis import bases, measured
from harness.em.circuits.tasks import VIRTUAL, Task
from harness.em.methods import readings
from harness.em.methods.direct import Unmitigated, instead
from harness.em.methods.plan import (
    Estimate,
    Known,
    Plan,
    Run,
    Unplannable,
    estimate,
    shares,
    weight_of,
)

BIAS_WORTH: Final = 2.0
"""Standard errors of the unmitigated value that its bias must exceed."""
FIRST_SHARE: Final = 0.6
"""Of the qubit-time, for the larger distance, unless a better share is found."""
SHARES: Final = np.linspace(0.05, 0.95, 19)


def qubit_time(distance: int, largest: int) -> float:
    """Of one shot, in shots of the largest distance: d^2 qubits for d rounds."""
    return float((distance / largest) ** 3)


class DistanceScaled:
    """distances: two that the backend offers, or None for its two largest."""

    name = "ds-zne"

    def __init__(self, distances: Sequence[int] | None = None) -> None:
        if distances is not None and (len(distances) != 2 or len(set(distances)) != 2):
            raise Unplannable(f"Two distances make an exponential, not {list(distances)}.")
        self.distances = None if distances is None else tuple(sorted(distances))

    @property
    def parameters(self) -> dict[str, Any]:
        return {"distances": None if self.distances is None else list(self.distances)}

    def plan(self, task: Task, known: Known, shots: int, seed: int) -> Plan:
        """shots: of the largest distance, whose qubit-time the plan has. Raises Refused."""
        small, large = self._pair(known)
        rates = known_rates(known.calibration)
        expected = decay_at(task, rates[large])
        gain, share = best_share(expected, rates[small] / rates[large], small, large, shots)
        if gain <= 1:
            why = f"The bias to be expected ({expected:.2g} of the value) is within shot noise."
            return instead(self, Unmitigated(why, large).plan(task, known, shots, seed))
        found = bases(task.observable)
        heavy = [weight_of(basis) for basis in found]
        at_large = max(len(found), round(share * shots))
        at_small = math.floor((shots - at_large) / qubit_time(small, large))
        runs = []
        for distance, number in ((large, at_large), (small, at_small)):
            parts = shares(number, heavy)
            runs += [
                Run(circuit=measured(task.circuit, b.letters), shots=n, distance=distance)
                for b, n in zip(found, parts, strict=True)
            ]
        return Plan(
            method=self.name,
            parameters=self.parameters,
            observable=task.observable,
            bases=found,
            runs=tuple(runs),
            data={"ratio": rates[small] / rates[large], "expected": expected},
        )

    def _pair(self, known: Known) -> tuple[int, int]:
        offered = known.capabilities.distances
        if len(offered) < 2:
            raise Refused("Scaling by distance takes a backend that offers two code distances.")
        small, large = self.distances or offered[-2:]
        if small not in offered or large not in offered:
            raise Refused(f"The backend offers the distances {offered}, not {small} and {large}.")
        return small, large

    def reduce(self, plan: Plan, outcomes: Sequence[Outcome]) -> Estimate:
        if plan.note:
            return Unmitigated().reduce(plan, outcomes)
        number, constant = len(plan.bases), plan.observable.constant
        found = []
        for part in (outcomes[:number], outcomes[number:]):
            each = [readings.reading(o, b) for o, b in zip(part, plan.bases, strict=True)]
            found.append(readings.total(plan.observable, plan.bases, each))
        (y1, v1), (y2, v2) = found
        value, variance, note = between(
            y1 - constant, v1, y2 - constant, v2, plan.data["ratio"], plan.data["expected"]
        )
        return estimate(constant + value, variance, plan.observable, note)


def decay_at(task: Task, rate: float) -> float:
    """How much of the value errors take in the exponent: one flip in three gates' worth hides.

    rate: chance of an error in one layer on one qubit.
    """
    layers = sum(len(e.qubits) for e in task.circuit.operations if e.name not in VIRTUAL or
                 e.name in ("t", "tdg", "s", "sdg", "rz"))  # fmt: skip
    return 2 * rate * layers


def between(
    y1: float, v1: float, y2: float, v2: float, ratio: float, expected: float
) -> tuple[float, float, str]:
    """A exp(-s) and A exp(-ratio s): A and its variance.

    s is what both values say, A and s alike; where it is negative or far from what is expected they
    say nothing, and what is expected is taken. That happens where values are near 0.
    """
    decay, note = expected, ""
    told = y1 / y2 if y2 else math.inf
    if told > 0 and math.isfinite(told):
        decay = math.log(told) / (ratio - 1)
    if not 0 <= decay <= 4 * expected + 0.1:
        decay, note = expected, "The two distances contradict the calibration, which is taken."
        return y1 * math.exp(decay), v1 * math.exp(2 * decay), note
    grown = math.exp(decay)
    power = 1 / (ratio - 1)
    # A = y1 (y1 / y2)^power.
    variance = (grown * (1 + power)) ** 2 * v1 + (grown * power * y1 / y2) ** 2 * v2
    return y1 * grown, variance, note


def best_share(
    expected: float, ratio: float, small: int, large: int, shots: int
) -> tuple[float, float]:
    """How much smaller the error gets, and the share of qubit-time at the large distance for it.

    Reckoned for a value of one half, whose shots scatter by sqrt(3)/2.
    """
    value, scatter = 0.5, 0.75
    left = value * math.exp(-expected)
    bias = value - left
    alone = scatter / shots
    if bias < BIAS_WORTH * math.sqrt(alone):
        return 1.0, FIRST_SHARE
    best = (math.inf, FIRST_SHARE)
    for share in SHARES:
        v1 = scatter / (share * shots)
        v2 = scatter * qubit_time(small, large) / ((1 - share) * shots)
        _, variance, _ = between(left, v1, value * math.exp(-ratio * expected), v2, ratio, expected)
        best = min(best, (variance, float(share)))
    return math.sqrt((bias**2 + alone) / best[0]), best[1]


def rates_ratio(calibration: Calibration, small: int, large: int) -> float:
    """How much more often the smaller distance errs."""
    rates = known_rates(calibration)
    return rates[small] / rates[large]
