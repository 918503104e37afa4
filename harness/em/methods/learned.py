"""ML-QEM: a forest that has learned what the calibrated extrapolation leaves (arXiv:2309.17368).

It predicts a residual and no value, so what it knows nothing of stays as the extrapolation has it:
where a feature lies farther outside of training than OUTSIDE_MAX, nothing is added, and the note
says so. Features are of circuit, observable, calibration and the values at both scales; the family
is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.em.backends.backend import Calibration, Outcome
from harness.em.circuits.tasks import Task, figures
from harness.em.learning.forest import Forest, ModelDamaged, load
from harness.em.methods import readings
from harness.em.methods.direct import Unmitigated, instead
from harness.em.methods.plan import Estimate, Known, Plan, Unplannable, estimate
from harness.em.methods.zne import ZeroNoise

Real = NDArray[np.float64]

OUTSIDE_MAX: Final = 1.0
BEFORE: Final = (
    "rate", "rate_max", "rate_min", "rate_spread", "qubits", "depth", "gates_1q", "gates_2q",
    "terms", "error_2q", "readout",
)  # fmt: skip
AFTER: Final = ("extrapolated", "std_err", "at_1", "at_3", "raw", "fall")
FEATURES: Final = (*BEFORE, *AFTER)


def before(task: Task, known: Calibration, plan: Plan) -> list[float]:
    """What is known before anything runs, as BEFORE names it."""
    weights = np.array([abs(term.weight) for basis in plan.bases for term in basis.terms])
    rates = np.array(plan.data["rates"])
    mean = float(weights @ rates / weights.sum())
    spread = float(np.sqrt(weights @ (rates - mean) ** 2 / weights.sum()))
    counted = figures(task.circuit)
    pairs = [*known.edges.values()] or [known.any_pair or 0.0]
    used = known.qubits[: task.circuit.width]
    return [
        mean, float(rates.max()), float(rates.min()), spread, counted.qubits, counted.depth,
        counted.gates_1q, counted.gates_2q, len(weights), float(np.mean(pairs)),
        float(np.mean([q.read_1_for_0 + q.read_0_for_1 for q in used])),
    ]  # fmt: skip


def features(plan: Plan, outcomes: Sequence[Outcome], base: Estimate) -> Real:
    """All of FEATURES. Values are shares of the spread, from the constant on."""
    constant, spread = plan.observable.constant, plan.observable.spread
    readout, rest = None, list(outcomes)
    if plan.data["readout"]:
        readout, rest = readings.readout_of(rest[0], rest[1]), rest[2:]
    number = len(plan.bases)

    def at(level: int, undone: readings.Readout | None) -> float:
        part = rest[level * number : (level + 1) * number]
        each = [readings.reading(o, b, undone) for o, b in zip(part, plan.bases, strict=True)]
        value, _ = readings.total(plan.observable, plan.bases, each)
        return (value - constant) / spread

    first, third = at(0, readout), at(1, readout)
    found = (base.value - constant) / spread
    after = [found, base.std_err / spread, first, third, at(0, None), found - first]
    return np.array([*plan.data["features"], *after])


class Learned:
    """forest: trained by `harness/em/learning/training.py`."""

    name = "ml-qem"

    def __init__(self, forest: Forest) -> None:
        if forest.about.get("features") != list(FEATURES):
            raise Unplannable("The model was trained on other features than these are.")
        self.forest, self.base = forest, ZeroNoise()

    @property
    def parameters(self) -> dict[str, Any]:
        return {"model": self.forest.digest}

    def plan(self, task: Task, known: Known, shots: int, seed: int) -> Plan:
        if not readings.errs(known.calibration):
            why = (
                "Models are trained on physical qubits, and this calibration has no readout errors."
            )
            return instead(self, Unmitigated(why).plan(task, known, shots, seed))
        plan = self.base.plan(task, known, shots, seed)
        data = plan.data | {"features": before(task, known.calibration, plan)}
        return instead(self, msgspec.structs.replace(plan, data=data))

    def reduce(self, plan: Plan, outcomes: Sequence[Outcome]) -> Estimate:
        if plan.note:
            return Unmitigated().reduce(plan, outcomes)
        base = self.base.reduce(plan, outcomes)
        row = features(plan, outcomes, base)
        if not np.isfinite(row).all() or self.forest.outside(row) > OUTSIDE_MAX:
            note = (
                "Outside of what the model was trained on: nothing is added to the extrapolation."
            )
            return msgspec.structs.replace(base, note=note)
        correction, scatter = corrections(self.forest, row[None])
        spread = plan.observable.spread
        variance = base.std_err**2 + (float(scatter[0]) * spread) ** 2
        return estimate(base.value + float(correction[0]) * spread, variance, plan.observable)


def corrections(forest: Forest, rows: Real) -> tuple[Real, Real]:
    """What to add, and how much trees differ. Shares of the spread, shape (rows,) each.

    What trees disagree about is shrunk (James and Stein's positive part): to nothing where they
    scatter by as much as they say.
    """
    mean, scatter = forest.predict(rows)
    trusted = 1 - (scatter / np.maximum(np.abs(mean), 1e-12)) ** 2
    return mean * np.maximum(trusted, 0), scatter


def learned(path: str) -> Learned:
    """With the model in a file. Raises Unplannable."""
    try:
        return Learned(load(Path(path)))
    except (OSError, ModelDamaged) as error:
        raise Unplannable(f"No model: {error}") from error
