"""Clifford-data regression (Czarnik et al., arXiv:2005.10189): learn from circuits that are easy.

Training circuits are the circuit itself with most of its turns moved to Clifford ones; their exact
values are reckoned. A line from noisy to exact values is fitted and applied. It goes through the
observable's constant, where errors that depolarise lead, unless an intercept is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.em.backends.backend import Outcome
from harness.em.circuits.exact import QUBITS_MAX, exact
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
from runtime.jit.angles import angle
from runtime.jit.circuit import Circuit, Operation

Real = NDArray[np.float64]

CIRCUITS: Final = 12
KEPT: Final = 4
"""Turns of a training circuit that stay as they are."""
TARGET_SHARE: Final = 0.5
SPREAD_MIN: Final = 1e-9
_TURNS: Final = ("rx", "ry", "rz")
_QUARTER: Final = math.pi / 2


class CliffordRegression:
    """circuits: for training. kept: turns in each that are not moved. intercept: fit one too."""

    name = "cdr"

    def __init__(
        self, circuits: int = CIRCUITS, *, kept: int = KEPT, intercept: bool = False
    ) -> None:
        if circuits < 3:
            raise Unplannable(f"A line takes three training circuits at least, not {circuits}.")
        self.circuits, self.kept, self.intercept = circuits, kept, intercept

    @property
    def parameters(self) -> dict[str, Any]:
        return {"circuits": self.circuits, "kept": self.kept, "intercept": self.intercept}

    def plan(self, task: Task, known: Known, shots: int, seed: int) -> Plan:
        if not any(_free(each) for each in task.circuit.operations):
            why = "All gates are Clifford gates: there is nothing to move, and the value is known."
            return instead(self, Unmitigated(why).plan(task, known, shots, seed))
        if task.circuit.width > QUBITS_MAX:
            why = f"Exact values of training circuits go to {QUBITS_MAX} qubits."
            return instead(self, Unmitigated(why).plan(task, known, shots, seed))
        found = bases(task.observable)
        rng = np.random.Generator(np.random.PCG64([seed, 11]))
        training = [near_clifford(task.circuit, self.kept, rng) for _ in range(self.circuits)]
        heavy = [weight_of(basis) for basis in found]
        each = (1 - TARGET_SHARE) / self.circuits
        scale = [TARGET_SHARE] * len(found) + [each] * (len(found) * self.circuits)
        weights = [w * s for w, s in zip(heavy * (1 + self.circuits), scale, strict=True)]
        parts = iter(shares(shots, weights))
        runs = [Run(circuit=measured(task.circuit, b.letters), shots=next(parts)) for b in found]
        for circuit in training:
            runs += [
                Run(circuit=measured(circuit, b.letters), shots=next(parts), role="training")
                for b in found
            ]
        exact_values = [exact(circuit, task.observable)[0] for circuit in training]
        return Plan(
            method=self.name,
            parameters=self.parameters,
            observable=task.observable,
            bases=found,
            runs=tuple(runs),
            data={"exact": exact_values},
        )

    def reduce(self, plan: Plan, outcomes: Sequence[Outcome]) -> Estimate:
        if plan.note:
            return Unmitigated().reduce(plan, outcomes)
        number = len(plan.bases)
        found = []
        for at in range(0, len(outcomes), number):
            part = outcomes[at : at + number]
            each = [readings.reading(o, b) for o, b in zip(part, plan.bases, strict=True)]
            found.append(readings.total(plan.observable, plan.bases, each))
        constant = plan.observable.constant
        (target, variance), *training = found
        x = np.array([value for value, _ in training]) - constant
        y = np.array(plan.data["exact"]) - constant
        slope, shift, covariance = line(x, y, self.intercept)
        moved = target - constant
        basis = np.array([moved, 1.0])
        spread = float(basis @ covariance @ basis) + slope**2 * variance
        return estimate(constant + slope * moved + shift, spread, plan.observable)


def line(x: Real, y: Real, intercept: bool) -> tuple[float, float, Real]:
    """Least squares: slope, intercept, and their covariance; a slope of 1 where x says nothing."""
    columns = np.stack([x, np.ones_like(x) * intercept], axis=1)
    if float(np.var(x) if intercept else x @ x) < SPREAD_MIN:
        return 1.0, 0.0, np.zeros((2, 2))
    found, *_ = np.linalg.lstsq(columns, y, rcond=None)
    left = y - columns @ found
    scatter = float(left @ left) / max(len(x) - 1 - intercept, 1)
    return float(found[0]), float(found[1]), scatter * np.linalg.pinv(columns.T @ columns)


def _free(each: Operation) -> bool:
    """Whether it is a turn by no multiple of a quarter."""
    if each.name in ("t", "tdg"):
        return True
    if each.name not in _TURNS:
        return False
    quarters = each.angles[0].radians / _QUARTER
    return abs(quarters - round(quarters)) > 1e-9


def near_clifford(circuit: Circuit, kept: int, rng: np.random.Generator) -> Circuit:
    """Turns moved to near multiples of a quarter, all but `kept` of them, drawn at random.

    The nearer of the two neighbours is likelier, in proportion to how near it is.
    """
    places = [at for at, each in enumerate(circuit.operations) if _free(each)]
    few = min(kept, max(0, len(places) - 1))
    stay = set(rng.choice(places, size=few, replace=False).tolist()) if few else set()
    made = list(circuit.operations)
    for at in places:
        if at in stay:
            continue
        each = made[at]
        name = each.name if each.name in _TURNS else "rz"
        eighth = {"t": math.pi / 4, "tdg": -math.pi / 4}
        radians = each.angles[0].radians if each.angles else eighth[each.name]
        low = math.floor(radians / _QUARTER)
        up = rng.random() < radians / _QUARTER - low
        made[at] = Operation(name, each.qubits, (angle((low + up) * _QUARTER),))
    return circuit.with_operations(made)
