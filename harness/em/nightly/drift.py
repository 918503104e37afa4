"""Has a machine changed? A control chart over what the calibration did not foresee.

Errors are predicted from the calibration, gate by gate (`methods/decay.py`), and observed with
readout undone. A night's residual is by what share error rates would have to be above the
calibrated ones to explain the difference, all circuits together. Calibrations themselves are not
judged: one that tells of worse gates and is right about them leaves no residual.

The law of false alarms: a night is beyond the band with a chance of q on either side, and an alert
takes two nights in a row on the same side, so independent nights give 365 * 2 q^2 alerts a year.
With normal residuals and a band known exactly q is 0.023 (2 deviations), which is 0.4 alerts a
year; the band is estimated from 10 to 30 nights, and tails are heavier, so tests measure it.
"""

from __future__ import annotations

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
BAND: Final = 2.0
DEVIATION_MIN: Final = 0.05
"""Of residuals: less is no news of a machine."""
NORMAL: Final = 1.4826
"""From the median absolute deviation to the standard deviation, of a normal variable."""


class Residual(msgspec.Struct, frozen=True, kw_only=True):
    """value: share by which error rates are above calibrated ones. std_err: by shot noise."""

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


def predicted(task: Task, known: Calibration) -> tuple[float, float]:
    """The error to expect of the value with readout undone, with its sign, as a share of the
    spread; and by how much more it would be for each share that all error rates were above."""
    products = [term.product for term in task.observable.terms]
    values, _ = exact_terms(task.circuit, products)
    rates = decay.rates(task.circuit, products, known)
    kept = np.exp(-rates)
    weights = np.array([term.weight for term in task.observable.terms])
    shares = weights * np.array(values) / task.observable.spread
    return float(shares @ (1 - kept)), float(shares @ (rates * kept))


def residual(found: Sequence[tuple[tuple[float, float], float, float]]) -> Residual | None:
    """Of what was predicted, the error observed and its standard error for each circuit, by least
    squares; None where no circuit would show a change."""
    slopes = np.array([slope for (_, slope), _, _ in found])
    off = np.array([observed - error for (error, _), observed, _ in found])
    noise = np.array([std_err for _, _, std_err in found])
    weight = float(slopes @ slopes)
    if weight == 0:
        return None
    value = float(slopes @ off) / weight
    std_err = float(np.sqrt(slopes**2 @ noise**2)) / weight
    return Residual(value=value, std_err=std_err, circuits=len(found))


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
