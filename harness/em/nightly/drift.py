"""Has a machine changed? A control chart over what the calibration did not foresee.

Errors are predicted from the calibration, gate by gate (`methods/decay.py`), and observed with
readout undone. A night's residual is by what share observed errors exceed the predicted ones, all
circuits together. Calibrations themselves are not judged: one that tells of worse gates and is
right about them leaves no residual.

The law of false alarms: a night is beyond the band with a chance of q on either side, and an alert
takes two nights in a row on the same side, so independent nights give 365 * 2 q^2 alerts a year.
With normal residuals and a band known exactly q is 1.35e-3 (3 deviations), which is one alert in
750 years; the band is estimated from 10 to 30 nights, and tails are heavier, so tests measure it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from harness.em.backends.backend import Calibration
from harness.em.circuits.exact import exact_terms
from harness.em.circuits.tasks import Task
from harness.em.methods import decay

WINDOW: Final = 30
NIGHTS_MIN: Final = 10
BAND: Final = 3.0
DEVIATION_MIN: Final = 0.05
"""Of residuals: less is no news of a machine."""
NORMAL: Final = 1.4826
"""From the median absolute deviation to the standard deviation, of a normal variable."""


class Residual(msgspec.Struct, frozen=True, kw_only=True):
    """value: share by which observed errors exceed predicted ones. std_err: by shot noise."""

    value: float
    std_err: float
    circuits: int


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A night on its chart. state: learning, steady, suspect (beyond the band, once) or drift.

    low, high: the band; None while nights are too few.
    """

    state: str
    low: float | None
    high: float | None


def predicted(task: Task, known: Calibration) -> float:
    """The error to expect of the value with readout undone, with its sign, as a share of the
    spread."""
    products = [term.product for term in task.observable.terms]
    values, _ = exact_terms(task.circuit, products)
    lost = 1 - np.exp(-decay.rates(task.circuit, products, known))
    weights = np.array([term.weight for term in task.observable.terms])
    return float((weights * np.array(values)) @ lost) / task.observable.spread


def residual(found: Sequence[tuple[float, float, float]]) -> Residual | None:
    """Of predicted error, observed error and standard error of each circuit; None where no error
    is predicted at all."""
    rows = np.array(found, dtype=np.float64).reshape(-1, 3)
    weight = float(rows[:, 0] @ rows[:, 0])
    if weight == 0:
        return None
    value = float(rows[:, 0] @ (rows[:, 1] - rows[:, 0])) / weight
    std_err = math.sqrt(float(rows[:, 0] ** 2 @ rows[:, 2] ** 2)) / weight
    return Residual(value=value, std_err=std_err, circuits=len(rows))


def judge(values: Sequence[float]) -> list[Judged]:
    """Every night of one machine, each from the nights before it. After a drift the chart begins
    again with the first night beyond the band."""
    found: list[Judged] = []
    begin, before = 0, 0
    for night, value in enumerate(values):
        past = values[max(begin, night - WINDOW) : night]
        if len(past) < NIGHTS_MIN:
            found.append(Judged(state="learning", low=None, high=None))
            before = 0
            continue
        centre = float(np.median(past))
        scatter = NORMAL * float(np.median(np.abs(np.array(past) - centre)))
        half = BAND * max(scatter, DEVIATION_MIN)
        side = int(value > centre + half) - int(value < centre - half)
        drifted = side != 0 and side == before
        state = "drift" if drifted else "suspect" if side else "steady"
        found.append(Judged(state=state, low=centre - half, high=centre + half))
        before = 0 if drifted else side
        if drifted:
            begin = night - 1
    return found
