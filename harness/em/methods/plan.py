"""The forms of every method: what is known beforehand, a plan, an estimate.

A plan holds all runs with all their shots: calibration, training and the circuit itself. The
reducer gets their outcomes in order and nothing else, so any number can be reckoned again from the
histograms. Intervals are normal ones of 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec
import numpy as np

from harness.em.backends.backend import Calibration, Capabilities, Outcome
from harness.em.circuits.paulis import Basis, Observable
from harness.em.circuits.tasks import Task, digest, plain
from runtime.jit.circuit import Circuit

Z_95: Final = 1.959963984540054


class Unplannable(Exception):
    """A method cannot be planned with what it was given; says why."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan may build on: no more than a backend says of itself."""

    capabilities: Capabilities
    calibration: Calibration


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One circuit for so many shots. role: what it is for, `target`, `readout` or `training`."""

    circuit: Circuit
    shots: int
    role: str = "target"
    distance: int | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a method wants run. data: what its reducer needs beside outcomes, plain.

    note: why the method does less than its name says, or "".
    """

    method: str
    parameters: dict[str, Any]
    observable: Observable
    bases: tuple[Basis, ...]
    runs: tuple[Run, ...]
    data: dict[str, Any] = {}
    note: str = ""

    @property
    def shots(self) -> int:
        """All of them."""
        return sum(run.shots for run in self.runs)

    @property
    def shots_beside(self) -> int:
        """Of calibration and training, which other circuits of the same backend could share."""
        return sum(run.shots for run in self.runs if run.role != "target")

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of every circuit, number of shots, and datum."""
        runs = [[plain(r.circuit), r.shots, r.role, r.distance] for r in self.runs]
        return digest([self.method, self.parameters, runs, self.data, self.note])


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What came out. clipped: the value was outside of what the observable can have; it is cut."""

    value: float
    std_err: float
    low: float
    high: float
    clipped: bool
    note: str = ""


class Method(Protocol):
    """One way to mitigate."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> dict[str, Any]: ...

    def plan(self, task: Task, known: Known, shots: int, seed: int) -> Plan:
        """Use exactly so many shots. Raises Unplannable, or Refused for what a backend lacks."""
        ...

    def reduce(self, plan: Plan, outcomes: Sequence[Outcome]) -> Estimate:
        """From the outcomes of the plan's runs, in their order."""
        ...


def shares(total: int, weights: Sequence[float]) -> list[int]:
    """`total` whole shots in proportion to the weights, one at least each, by largest remainders.

    Raises Unplannable where there are fewer shots than runs.
    """
    if total < len(weights):
        raise Unplannable(f"{total} shots are too few for {len(weights)} runs.")
    parts = np.asarray(weights, dtype=float)
    assert (parts >= 0).all(), weights
    assert parts.sum() > 0, weights
    left = total - len(parts)
    ideal = left * parts / parts.sum()
    whole = np.floor(ideal).astype(int)
    order = np.argsort(whole - ideal, kind="stable")
    whole[order[: left - int(whole.sum())]] += 1
    return [int(each) + 1 for each in whole]


def weight_of(basis: Basis) -> float:
    """How much of the shots it deserves: the spread of one shot, its terms taken as independent."""
    return float(np.sqrt(sum(term.weight**2 for term in basis.terms)))


def estimate(value: float, variance: float, whole: Observable, note: str = "") -> Estimate:
    """The estimate, cut to the interval that the observable's values lie in; so is its error."""
    low, high = whole.constant - whole.spread, whole.constant + whole.spread
    inside = min(max(value, low), high)
    error = min(float(np.sqrt(max(variance, 0.0))), whole.spread)
    return Estimate(
        value=float(inside),
        std_err=error,
        low=float(max(inside - Z_95 * error, low)),
        high=float(min(inside + Z_95 * error, high)),
        clipped=bool(inside != value),
        note=note,
    )
