"""What grew during a soak, with what error, and whether that is within bounds.

A quantity is averaged over BLOCKS equal stretches of the time after the warm-up, and a line is
fitted to these averages by least squares. Its rise from the beginning to the end, as a share of
its mean, is the growth; its error is the 95 % interval of the slope (Student, BLOCKS - 2
degrees of freedom). Neighbouring samples are alike, averages of long stretches hardly; so the error
is that of independent ones.

Three verdicts are possible. FLAT: even the upper end is within the bound. GROWS: even the lower end
is beyond it. UNDECIDED: the run was too short or too noisy to tell.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from enum import StrEnum

import msgspec
from scipy.stats import t

BLOCKS = 12
CONFIDENCE = 0.95


class Verdict(StrEnum):
    FLAT = "flat"
    GROWS = "grows"
    UNDECIDED = "undecided"


class Judged(msgspec.Struct, frozen=True):
    """first, last: of the fitted line. growth, error: shares of the mean. bound: of the growth."""

    name: str
    unit: str
    first: float
    last: float
    growth: float
    error: float
    bound: float
    verdict: Verdict


def judge(
    name: str, unit: str, at_s: Sequence[float], values: Sequence[float], bound: float
) -> Judged:
    """Whether a quantity grows by at most `bound`. at_s: in ascending order."""
    first, last, error = rise(at_s, values)
    mean = (first + last) / 2
    assert mean > 0, f"{name}: what is judged is positive"
    growth, error = (last - first) / mean, error / mean
    return Judged(name, unit, first, last, growth, error, bound, said(growth, error, bound))


def judge_factor(
    name: str, unit: str, at_s: Sequence[float], values: Sequence[float], bound: float
) -> Judged:
    """As `judge`, of what is now and then many times as large: the line is one of its logarithm.

    Undecided where there are fewer values than BLOCKS.
    """
    if len(values) < BLOCKS:
        nothing = math.nan
        return Judged(name, unit, nothing, nothing, nothing, nothing, bound, Verdict.UNDECIDED)
    first, last, error = rise(at_s, [math.log(value) for value in values])
    growth = math.expm1(last - first)
    error *= 1 + growth
    ends = math.exp(first), math.exp(last)
    return Judged(name, unit, *ends, growth, error, bound, said(growth, error, bound))


def rise(at_s: Sequence[float], values: Sequence[float]) -> tuple[float, float, float]:
    """The fitted line at its beginning and at its end, and the error of the difference."""
    begin, end = at_s[0], at_s[-1]
    centres, means = blocks(at_s, values)
    intercept, slope, slope_error = line(centres, means)
    quantile = float(t.ppf(0.5 + CONFIDENCE / 2, len(means) - 2))
    first, last = intercept + slope * begin, intercept + slope * end
    return first, last, quantile * slope_error * (end - begin)


def said(growth: float, error: float, bound: float) -> Verdict:
    """What can be said of a growth that is known up to an error."""
    if growth - error <= bound < growth + error:
        return Verdict.UNDECIDED
    return Verdict.FLAT if growth + error <= bound else Verdict.GROWS


def line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float, float]:
    """Intercept and slope of least squares, and the standard error of the slope."""
    x, y = statistics.fmean(xs), statistics.fmean(ys)
    spread = sum((each - x) ** 2 for each in xs)
    slope = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / spread
    intercept = y - slope * x
    left = sum((b - intercept - slope * a) ** 2 for a, b in zip(xs, ys, strict=True))
    return intercept, slope, math.sqrt(left / (len(xs) - 2) / spread)


def blocks(at_s: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Centres and means of BLOCKS stretches of equal length; empty ones are left out."""
    begin, end = at_s[0], at_s[-1]
    length = (end - begin) / BLOCKS
    filled: dict[int, list[tuple[float, float]]] = {}
    for when, value in zip(at_s, values, strict=True):
        filled.setdefault(min(BLOCKS - 1, int((when - begin) / length)), []).append((when, value))
    assert len(filled) > 2, "there are enough samples for a line with an error"
    centres = [statistics.fmean(when for when, _ in each) for _, each in sorted(filled.items())]
    means = [statistics.fmean(value for _, value in each) for _, each in sorted(filled.items())]
    return centres, means
