"""Laws through measured logical error rates: how they go on, suppression, thresholds.

For codes with a threshold, ln(rate per round) is linear in d, ln p and their product. That holds
the usual `A (p / p*)^((d+1)/2)` as a special case and fits better, for the slope as measured is not
exactly (d+1)/2. Codes without one (Bacon-Shor) follow no law in d, so there each distance has its
own power of p. Pure functions; the points come from `calibration.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, float, float, int]
"""Distance, physical strength, rate per round, errors counted."""

P_MIN: Final = 1e-5
P_BEYOND: Final = 1.2
"""By what factor above the largest measured strength a law is still asked."""
DISTANCE_MAX: Final = 49
ERRORS_LEAST: Final = 10
SPREAD: Final = 2.0
"""Half-width of a law's band, in units of the scatter of the points around it."""
WITH_THRESHOLD: Final = frozenset({"Surface"})
LAW_DISTANCE_LEAST: Final = 4
"""Distances below behave otherwise: at 3, one fault of a certain kind and one more are enough."""


class Law(NamedTuple):
    """text: the law in words. predict: (ln rate, standard deviation) for (d, p).

    measured: the (d, p) it was fitted to. by_distance: whether it holds only at those distances.
    """

    text: str
    predict: Callable[[int, float], tuple[float, float]]
    measured: frozenset[tuple[int, float]]
    by_distance: bool

    def __str__(self) -> str:
        return self.text

    def reaches(self, distance: int, p: float) -> bool:
        strengths = [each for _, each in self.measured]
        if not P_MIN <= p <= P_BEYOND * max(strengths):
            return False
        if self.by_distance:
            return distance in {each for each, _ in self.measured}
        return LAW_DISTANCE_LEAST <= distance <= DISTANCE_MAX

    def rate(self, distance: int, p: float) -> tuple[float, float, float, bool]:
        """Rate per round, its band, and whether it lies between measured points."""
        log, deviation = self.predict(distance, p)
        ends = (math.exp(log + sign * SPREAD * deviation) for sign in (-1, 1))
        low, high = (min(0.5, end) for end in ends)
        at_least = [d for d, strength in self.measured if strength <= p]
        inside = bool(at_least) and max(at_least) >= distance
        inside &= any(d >= distance and strength >= p for d, strength in self.measured)
        return min(0.5, math.exp(log)), low, high, inside


def fit_law(code: str, points: Sequence[Point]) -> Law | None:
    """The law of a code's family through its points, or None where there are too few."""
    kept = [each for each in points if each[3] >= ERRORS_LEAST and each[2] > 0]
    return _fit_plane(kept) if code in WITH_THRESHOLD else _fit_powers(kept)


def _fit_plane(points: Sequence[Point]) -> Law | None:
    chosen = [each for each in points if each[0] >= LAW_DISTANCE_LEAST]
    if len(chosen) < 6 or len({each[0] for each in chosen}) < 2:
        return None
    rows = np.array([_plane(d, p) for d, p, _, _ in chosen])
    logs = np.log([rate for _, _, rate, _ in chosen])
    solution, covariance, scatter = _weighted(rows, logs, [each[3] for each in chosen])

    def predict(distance: int, p: float) -> tuple[float, float]:
        row = np.array(_plane(distance, p))
        deviation = math.sqrt(float(row @ covariance @ row) + scatter**2)
        return float(row @ solution), deviation

    a, b, c, e = solution
    text = f"law ln(rate) = {a:.3f} {b:+.3f} d {c:+.3f} ln p {e:+.3f} d ln p"
    measured = frozenset((d, p) for d, p, _, _ in chosen)
    return Law(f"{text}, scatter {math.exp(scatter) - 1:.0%}", predict, measured, False)


def _plane(distance: int, p: float) -> tuple[float, float, float, float]:
    return (1.0, distance, math.log(p), distance * math.log(p))


def _fit_powers(points: Sequence[Point]) -> Law | None:
    """At each distance the power of p through its two weakest strengths.

    The true slope grows towards (d+1)/2 as p falls, so the rate is overestimated rather than under.
    """
    lines: dict[int, tuple[float, float, float]] = {}
    for distance in {each[0] for each in points}:
        mine = sorted((p, rate, errors) for d, p, rate, errors in points if d == distance)
        if len(mine) >= 2:
            (p1, rate1, errors1), (p2, rate2, _) = mine[:2]
            slope = math.log(rate2 / rate1) / math.log(p2 / p1)
            lines[distance] = (math.log(rate1) - slope * math.log(p1), slope, 1 / errors1)
    if not lines:
        return None

    def predict(distance: int, p: float) -> tuple[float, float]:
        offset, slope, variance = lines[distance]
        weakest = min(p for d, p, _, _ in points if d == distance)
        beyond = abs(math.log(p / weakest))
        return offset + slope * math.log(p), math.sqrt(variance + (0.5 * beyond) ** 2)

    measured = frozenset((d, p) for d, p, _, _ in points if d in lines)
    return Law("power of p through the weakest two strengths", predict, measured, True)


def _weighted(
    rows: NDArray[np.float64], logs: NDArray[np.float64], errors: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Least squares with variance 1/errors + scatter^2, the scatter such that chi^2 fits."""
    counts = np.array(errors, dtype=np.float64)
    solution = np.zeros(rows.shape[1])
    normal = np.eye(rows.shape[1])
    scatter = 0.0
    for _ in range(20):
        weights = 1 / (1 / counts + scatter**2)
        normal = np.asarray(rows.T @ (rows * weights[:, None]))
        solution = np.asarray(np.linalg.solve(normal, rows.T @ (weights * logs)), dtype=np.float64)
        left = logs - rows @ solution
        freedom = len(rows) - rows.shape[1]
        excess = float(np.mean(left**2) * len(rows) / freedom - np.mean(1 / counts))
        scatter = math.sqrt(max(0.0, excess))
    return solution, np.asarray(np.linalg.inv(normal), dtype=np.float64), scatter


class Threshold(NamedTuple):
    """Fit of `a (p / p*)^((d+1)/2)` to rates per d rounds.

    p_star_low, p_star_high: two standard deviations. spread: smallest and largest rate / fit.
    """

    a: float
    p_star: float
    p_star_low: float
    p_star_high: float
    spread: tuple[float, float]


def fit_threshold(points: Sequence[Point]) -> Threshold:
    """The usual two-parameter fit; the rates of the points are per d rounds."""
    halves = np.array([(d + 1) / 2 for d, _, _, _ in points])
    rows = np.column_stack([np.ones(len(points)), -halves])
    logs = np.array(
        [
            math.log(rate) - half * math.log(p)
            for (_, p, rate, _), half in zip(points, halves, strict=True)
        ]
    )
    solution, covariance, _ = _weighted(rows, logs, [each[3] for each in points])
    left = logs - rows @ solution
    deviation = math.sqrt(covariance[1, 1])
    p_star, p_low, p_high = (math.exp(solution[1] + sign * 2 * deviation) for sign in (0, -1, 1))
    spread = (math.exp(left.min()), math.exp(left.max()))
    return Threshold(math.exp(solution[0]), p_star, p_low, p_high, spread)


def suppression(points: Sequence[Point]) -> tuple[float, float]:
    """Lambda, the factor between d and d + 2 at one strength, and its standard deviation.

    points: of one p, rates per d rounds (or all per round).
    """
    assert len({p for _, p, _, _ in points}) == 1
    rows = np.array([(1.0, -d / 2) for d, _, _, _ in points])
    logs = np.log([rate for _, _, rate, _ in points])
    solution, covariance, _ = _weighted(rows, logs, [each[3] for each in points])
    value = math.exp(solution[1])
    return value, value * math.sqrt(covariance[1, 1])


def crossing(points: Sequence[tuple[float, float]]) -> float:
    """Where rate(p) = p, by ln-ln interpolation between neighbours. Points (p, rate) ascending.

    Raises ValueError where the rates do not cross.
    """
    for (p1, rate1), (p2, rate2) in pairwise(points):
        below, above = math.log(rate1 / p1), math.log(rate2 / p2)
        if below <= 0 <= above and above > below:
            share = -below / (above - below)
            return math.exp(math.log(p1) + share * math.log(p2 / p1))
    raise ValueError(f"the rates do not cross the line rate = p: {points}")
