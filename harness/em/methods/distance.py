"""Zero-noise extrapolation over code distances, for logical qubits (Wahl et al., arXiv:2304.14985).

The same circuit at two distances errs differently, by a ratio that the machine's own memories
tell; an exponential through both gives the value without errors, its rate starting from what the
memories let expect (`zne.calibrated`). A shot costs qubit-time, distance cubed, so shots are
counted in those of the largest distance. It is declined where the bias to be expected is no larger
than twice what shots scatter: all shots then go to the largest distance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from harness.em.backends.backend import Calibration, Outcome, Refused
from harness.em.circuits.paulis import bases, measured
from harness.em.circuits.tasks import Task
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
from harness.em.methods.zne import calibrated
from runtime.jit.gates import PAULIS

PRIOR_SPREAD: Final = 0.6
"""Of what memories let expect: which errors matter is known roughly."""
QUICK: Final = frozenset({"h", "cx", "cz"})
BIAS_WORTH: Final = 2.0
"""Standard errors of the unmitigated value that its bias must exceed."""
SHARES: Final = np.linspace(0.75, 0.95, 9)
"""Of qubit-time at the large distance. Less would cost much where a value is near 0 after all."""


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
        expected = decay_at(task, known.calibration, large)
        ratio = decay_at(task, known.calibration, small) / expected
        gain, share = best_share(expected, ratio, small, large, shots)
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
            data={
                "ratio": ratio,
                "rates": [expected for basis in found for _ in basis.terms],
            },
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
        number = len(plan.bases)
        levels = [
            [readings.reading(o, b) for o, b in zip(part, plan.bases, strict=True)]
            for part in (outcomes[:number], outcomes[number:])
        ]
        value, variance = calibrated(plan, levels, (1.0, plan.data["ratio"]), PRIOR_SPREAD)
        return estimate(value, variance, plan.observable)


def decay_at(task: Task, known: Calibration, distance: int) -> float:
    """How much of a value errors take, in the exponent, if a flip of any qubit at any time counts.

    Whoever waits errs as well. Paulis take no time on a code; CNOT, CZ and H are quick, all other
    gates slow.
    """
    quick = known.by_distance[str(distance)]
    slow = known.slow_by_distance[str(distance)]
    ready = [0.0] * task.circuit.width
    for each in task.circuit.operations:
        if each.name not in PAULIS:
            at = max(ready[q] for q in each.qubits) + (quick if each.name in QUICK else slow)
            for qubit in each.qubits:
                ready[qubit] = at
    return max(2 * task.circuit.width * max(ready), 1e-12)


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
        return 1.0, 1.0
    best = (math.inf, 1.0)
    power = 1 / (ratio - 1)
    for share in SHARES:
        v1 = scatter / (share * shots)
        v2 = scatter * qubit_time(small, large) / ((1 - share) * shots)
        # The exponential through both values y1 and y2 is y1 (y1 / y2)^power at no noise.
        grown = math.exp(expected)
        slope = math.exp((ratio - 1) * expected)
        variance = (grown * (1 + power)) ** 2 * v1 + (grown * power * slope) ** 2 * v2
        best = min(best, (variance, float(share)))
    return math.sqrt((bias**2 + alone) / best[0]), best[1]
