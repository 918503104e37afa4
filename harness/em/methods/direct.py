"""No mitigation, and readout errors undone and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from harness.em.backends.backend import Outcome
from harness.em.circuits.paulis import bases, measured
from harness.em.circuits.tasks import Task
from harness.em.methods import readings
from harness.em.methods.plan import (
    Estimate,
    Known,
    Method,
    Plan,
    Run,
    estimate,
    shares,
    weight_of,
)


class Unmitigated:
    """All shots for the circuit as it is, the heavier bases getting more."""

    name = "none"
    parameters: dict[str, Any] = {}

    def __init__(self, note: str = "", distance: int | None = None) -> None:
        self._note, self._distance = note, distance

    def plan(self, task: Task, known: Known, shots: int, seed: int) -> Plan:
        found = bases(task.observable)
        parts = shares(shots, [weight_of(basis) for basis in found])
        return Plan(
            method=self.name,
            parameters=self.parameters,
            observable=task.observable,
            bases=found,
            runs=tuple(
                Run(circuit=measured(task.circuit, b.letters), shots=n, distance=self._distance)
                for b, n in zip(found, parts, strict=True)
            ),
            note=self._note,
        )

    def reduce(self, plan: Plan, outcomes: Sequence[Outcome]) -> Estimate:
        found = [readings.reading(o, b) for o, b in zip(outcomes, plan.bases, strict=True)]
        value, variance = readings.total(plan.observable, plan.bases, found)
        return estimate(value, variance, plan.observable, plan.note)


class ReadoutMitigation:
    """Two circuits calibrate the readout of all qubits, the other shots run the circuit."""

    name = "readout"
    parameters: dict[str, Any] = {}

    def plan(self, task: Task, known: Known, shots: int, seed: int) -> Plan:
        if not readings.errs(known.calibration):
            why = "The calibration says that readout does not err; nothing is undone."
            return instead(self, Unmitigated(why).plan(task, known, shots, seed))
        first = readings.calibration_shots(shots)
        rest = Unmitigated().plan(task, known, shots - first, seed)
        return Plan(
            method=self.name,
            parameters=self.parameters,
            observable=task.observable,
            bases=rest.bases,
            runs=(*readings.readout_runs(task.circuit.width, first), *rest.runs),
        )

    def reduce(self, plan: Plan, outcomes: Sequence[Outcome]) -> Estimate:
        if plan.note:
            return Unmitigated().reduce(plan, outcomes)
        readout = readings.readout_of(outcomes[0], outcomes[1])
        runs = outcomes[2:]
        found = [readings.reading(o, b, readout) for o, b in zip(runs, plan.bases, strict=True)]
        value, variance = readings.total(plan.observable, plan.bases, found)
        variance += readings.variance_of_readout(plan.observable, plan.bases, runs, readout)
        return estimate(value, variance, plan.observable)


def instead(method: Method, plan: Plan) -> Plan:
    """A plan that does without, under the name of the method that declined."""
    return msgspec.structs.replace(plan, method=method.name, parameters=method.parameters)
