"""Probabilistic error cancellation: inverse errors, drawn with signs (arXiv:1612.02058).

Each gate's errors, and each wait's, are taken as the Pauli channel that the calibration says; its
inverse is a sum of Paulis with weights of both signs. Circuits are drawn with Paulis put in, and
their values averaged with their signs, times gamma. The price is gamma squared in shots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.em.backends.backend import Calibration, Outcome
from harness.em.backends.device import Gate, steps
from harness.em.circuits.paulis import bases, measured
from harness.em.circuits.tasks import Task
from harness.em.methods import readings
from harness.em.methods.direct import Unmitigated, instead
from harness.em.methods.plan import Estimate, Known, Plan, Run, estimate, shares, weight_of
from runtime.jit.circuit import Circuit, Operation

Real = NDArray[np.float64]

SAMPLES: Final = 200
GAMMA_MAX: Final = 10.0
"""Beyond, a hundred times the shots would be needed, and the plan does without."""
_LETTERS: Final = ("", "x", "y", "z")
_SIGNS: Final = np.array(
    [[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]], dtype=np.float64
)
"""Whether Paulis I, X, Y, Z commute."""


class Slot(NamedTuple):
    """Where Paulis may be put in: behind operation `at`, or before all for -1.

    quasi: weight of each product, the first operand's letter the lowest, shape (4^qubits,).
    """

    at: int
    qubits: tuple[int, ...]
    quasi: Real

    @property
    def gamma(self) -> float:
        return float(np.abs(self.quasi).sum())


class Sampled(NamedTuple):
    """Circuits with Paulis put in, their signs, and the norm of all weights together."""

    circuits: list[Circuit]
    signs: NDArray[np.int64]
    gamma: float


def slots(body: Circuit, known: Calibration) -> list[Slot]:
    """Of every error of the circuit, in order."""
    found, at = [], -1
    for step in steps(body, known):
        if not isinstance(step, Gate):
            kept = _relaxation(known, step.qubit, step.seconds)
            found.append(Slot(at, (step.qubit,), _inverse(kept)))
            continue
        at += 1
        if not step.seconds:
            continue
        qubits = step.operation.qubits
        kept = _relaxation(known, qubits[0], step.seconds)
        if len(qubits) == 1:
            error = 4 * known.qubits[qubits[0]].error / 3
        else:
            kept = np.asarray(np.kron(_relaxation(known, qubits[1], step.seconds), kept))
            error = 16 * known.pair_error(*qubits) / 15
        kept[1:] *= max(1 - error, 1e-6)
        found.append(Slot(at, qubits, _inverse(kept)))
    return found


def _relaxation(known: Calibration, qubit: int, seconds: float) -> Real:
    figures = known.qubits[qubit]
    across = math.exp(-seconds / figures.t2_s) if figures.t2_s else 1.0
    along = math.exp(-seconds / figures.t1_s) if figures.t1_s else 1.0
    return np.array([1.0, across, across, along])


def _inverse(kept: Real) -> Real:
    """Weights of the channel that undoes what keeps this share of each product."""
    signs = _SIGNS if len(kept) == 4 else np.kron(_SIGNS, _SIGNS)
    return np.asarray(signs @ (1 / kept) / len(kept))


def sampled(body: Circuit, known: Calibration, samples: int, seed: int) -> Sampled:
    """Draw circuits. All choices are drawn at once, and only Paulis that are put in cost time."""
    places = slots(body, known)
    rng = np.random.Generator(np.random.PCG64([seed, 7]))
    gamma = math.prod(slot.gamma for slot in places)
    chosen = np.zeros((samples, len(places)), dtype=np.int8)
    signs = np.ones(samples, dtype=np.int64)
    uniform = rng.random((len(places), samples))
    for number, slot in enumerate(places):
        sizes = np.abs(slot.quasi) / slot.gamma
        picked = np.searchsorted(np.cumsum(sizes)[:-1], uniform[number], side="right")
        chosen[:, number] = picked
        signs *= np.where(slot.quasi[picked] < 0, -1, 1)
    circuits = [_with(body, places, row) for row in chosen]
    return Sampled(circuits, signs, gamma)


def _with(body: Circuit, places: Sequence[Slot], row: NDArray[np.int8]) -> Circuit:
    made: list[Operation] = []
    done = 0
    gates = body.operations
    for number in np.flatnonzero(row):
        slot, picked = places[int(number)], int(row[number])
        made += gates[done : slot.at + 1]
        done = max(done, slot.at + 1)
        for qubit in slot.qubits:
            picked, letter = divmod(picked, 4)
            if letter:
                made.append(Operation(_LETTERS[letter], (qubit,)))
    made += gates[done:]
    return body.with_operations(made)


class ErrorCancellation:
    """samples: circuits to draw, each for each basis. readout: as of `zne`."""

    name = "pec"

    def __init__(self, samples: int = SAMPLES, *, readout: bool = True) -> None:
        self.samples, self.readout = samples, readout

    @property
    def parameters(self) -> dict[str, Any]:
        return {"samples": self.samples, "readout": self.readout}

    def plan(self, task: Task, known: Known, shots: int, seed: int) -> Plan:
        gamma = math.prod(slot.gamma for slot in slots(task.circuit, known.calibration))
        if gamma > GAMMA_MAX:
            why = f"gamma is {gamma:.3g}, so shots would have to be {gamma**2:.3g} times as many."
            return instead(self, Unmitigated(why).plan(task, known, shots, seed))
        found = bases(task.observable)
        readout = self.readout and readings.errs(known.calibration)
        first = readings.calibration_shots(shots) if readout else 0
        runs = list(readings.readout_runs(task.circuit.width, first)) if readout else []
        samples = max(2, min(self.samples, (shots - first) // (2 * len(found))))
        drawn = sampled(task.circuit, known.calibration, samples, seed)
        parts = iter(shares(shots - first, [weight_of(b) for b in found] * samples))
        for circuit in drawn.circuits:
            runs += [Run(circuit=measured(circuit, b.letters), shots=next(parts)) for b in found]
        return Plan(
            method=self.name,
            parameters=self.parameters,
            observable=task.observable,
            bases=found,
            runs=tuple(runs),
            data={"readout": readout, "gamma": drawn.gamma, "signs": drawn.signs.tolist()},
        )

    def reduce(self, plan: Plan, outcomes: Sequence[Outcome]) -> Estimate:
        if plan.note:
            return Unmitigated().reduce(plan, outcomes)
        readout, rest = None, list(outcomes)
        if plan.data["readout"]:
            readout, rest = readings.readout_of(rest[0], rest[1]), rest[2:]
        signs, number = plan.data["signs"], len(plan.bases)
        constant = plan.observable.constant
        values = []
        for at, sign in enumerate(signs):
            part = rest[at * number : (at + 1) * number]
            found = [readings.reading(o, b, readout) for o, b in zip(part, plan.bases, strict=True)]
            value, _ = readings.total(plan.observable, plan.bases, found)
            values.append(sign * (value - constant))
        found_value, variance = averaged(np.array(values), np.array(signs), plan.data["gamma"])
        return estimate(constant + found_value, variance, plan.observable)


def averaged(values: Real, signs: NDArray[np.int64], gamma: float) -> tuple[float, float]:
    """The mean of gamma times signed values, and its variance.

    Signs times gamma are 1 in the mean, as all weights sum to 1. What they happen to be off by is
    taken off the values in proportion (a control variate), which removes most of the scatter where
    circuits agree. What is left of it holds drawing and shots alike.
    """
    off = gamma * signs - 1.0
    signed = gamma * values
    spread = float(np.var(off))
    share = float(np.cov(signed, off, bias=True)[0, 1]) / spread if spread > 0 else 0.0
    left = signed - share * off
    return float(left.mean()), float(np.var(left, ddof=1)) / len(left)
