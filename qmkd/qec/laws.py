"""Laws through measured logical error rates: how they go on, suppression, thresholds.

For codes with a threshold, ln(rate per round) is linear in d and in h ln p, h = (d+1)/2 being the
faults that it takes, and in ln p alone. The usual `A (p / p*)^h` is the special case of slope 1 in
h ln p and none in ln p. The last term is there because correlated matching sometimes needs fewer
faults than h: the counts of McEwen, Bacon and Gidney (arXiv:2302.02192; d = 5 to 15, p = 1e-4 to
3e-3) scatter by 25 to 29 % around the best law without it and by 5 to 7 % with it. It takes three
distances to tell the two apart; where there are fewer the term is left out.

Even distances take no more faults than the odd ones below them, so the law is fitted to odd
distances and answers for an even one with that below it, which overestimates. Codes without a
threshold (Bacon-Shor) follow no law in d: there each distance has powers of its own. Pure
functions; the points come from `calibration.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
SCATTER_LEAST: Final = 0.1
"""Of ln(rate): no law is better than this, however few points it went through."""
SPREAD: Final = 2.0
"""Half-width of a law's band, in units of the scatter of the points around it."""
POINTS_OF_FOUR: Final = 8
"""Fewer points than that do not carry a law of four terms."""
LAW_P_LEAST: Final = 3e-4
"""Weaker noise is measurable at distance 5 only, where correlated matching then needs fewer faults
than at larger ones; a law through that would promise too much of these."""
WITH_THRESHOLD: Final = frozenset({"Surface"})
LAW_DISTANCE_LEAST: Final = 5
"""Distances below behave otherwise: at 3, one fault of a certain kind and one more are enough."""


class Law:
    """What is known of a code's memory between and beyond its points. Built by `fit_law`.

    At a distance with two points or more the rate is a power of p between neighbours, and goes on
    as the power of the last two. Where the code has a threshold, other distances and weaker noise
    follow the plane through all points.
    """

    def __init__(self, points: Sequence[Point], plane: Plane | None) -> None:
        self.lines: dict[int, list[Point]] = {}
        for point in sorted(points):
            self.lines.setdefault(point[0], []).append(point)
        self.plane = plane
        self.p_most = P_BEYOND * max(p for _, p, _, _ in points)

    def __str__(self) -> str:
        return "powers of p at each distance" if self.plane is None else self.plane.text

    def reaches(self, distance: int, p: float) -> bool:
        if not P_MIN <= p <= self.p_most:
            return False
        if len(self.lines.get(distance, ())) >= 2:
            return True
        return self.plane is not None and LAW_DISTANCE_LEAST <= distance <= DISTANCE_MAX

    def rate(self, distance: int, p: float) -> tuple[float, float, float, bool]:
        """Rate per round, its band, and whether it lies between measured points."""
        line = self.lines.get(distance, [])
        inside = len(line) >= 2 and line[0][1] <= p <= line[-1][1]
        if self.plane is None or inside or distance < LAW_DISTANCE_LEAST:
            log, deviation = _along(line, p)
        else:
            log, deviation = self.plane.predict(distance, p)
        ends = (math.exp(log + sign * SPREAD * deviation) for sign in (-1, 1))
        low, high = (min(0.5, end) for end in ends)
        return min(0.5, math.exp(log)), low, high, inside


class Plane(NamedTuple):
    """ln(rate) = solution . (1, d, (d+1)/2 ln p[, ln p]), fitted to odd distances."""

    text: str
    solution: NDArray[np.float64]
    covariance: NDArray[np.float64]
    scatter: float

    def predict(self, distance: int, p: float) -> tuple[float, float]:
        """ln(rate) and its standard deviation."""
        row = np.array(_plane(distance - 1 + distance % 2, p)[: len(self.solution)])
        deviation = math.sqrt(float(row @ self.covariance @ row) + self.scatter**2)
        return float(row @ self.solution), deviation


def fit_law(code: str, points: Sequence[Point]) -> Law | None:
    """The law of a code's family through its points, or None where there are none to use."""
    kept = [each for each in points if each[3] >= ERRORS_LEAST and each[2] > 0]
    if not kept:
        return None
    return Law(kept, _fit_plane(kept) if code in WITH_THRESHOLD else None)


def _fit_plane(points: Sequence[Point]) -> Plane | None:
    chosen = [
        each
        for each in points
        if each[0] >= LAW_DISTANCE_LEAST and each[0] % 2 and each[1] >= LAW_P_LEAST
    ]
    if len(chosen) < 6 or len({each[0] for each in chosen}) < 2:
        return None
    terms = 4 if len({each[0] for each in chosen}) > 2 and len(chosen) >= POINTS_OF_FOUR else 3
    rows = np.array([_plane(d, p)[:terms] for d, p, _, _ in chosen])
    logs = np.log([rate for _, _, rate, _ in chosen])
    solution, covariance, scatter = _weighted(rows, logs, [each[3] for each in chosen])
    scatter = max(scatter, SCATTER_LEAST)
    a, b, c, *more = solution
    power = "".join([f"{c:.3f} (d+1)/2", *(f" {each:+.3f}" for each in more)])
    text = f"law e^({a:.2f} {b:+.3f} d) p^({power}) per round"
    return Plane(text, solution, covariance, scatter)


def _along(line: Sequence[Point], p: float) -> tuple[float, float]:
    """Between two neighbours of a distance, or beyond the last two: ln(rate) and its deviation.

    Towards weaker noise the true slope grows up to the number of faults that it takes, so the rate
    is overestimated rather than under.
    """
    after = next((at for at, each in enumerate(line) if each[1] >= p), len(line) - 1)
    (_, p1, rate1, errors1), (_, p2, rate2, errors2) = line[max(after, 1) - 1 : max(after, 1) + 1]
    slope = math.log(rate2 / rate1) / math.log(p2 / p1)
    beyond = max(0.0, math.log(p1 / p), math.log(p / p2))
    deviation = math.sqrt(1 / min(errors1, errors2) + SCATTER_LEAST**2 / 4 + (0.5 * beyond) ** 2)
    return math.log(rate1) + slope * math.log(p / p1), deviation


def _plane(distance: int, p: float) -> tuple[float, float, float, float]:
    return (1.0, distance, (distance + 1) / 2 * math.log(p), math.log(p))


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
        if not freedom:
            break  # the law goes through every point, which says nothing of scatter
        excess = float(np.sum(left**2) / freedom - np.mean(1 / counts))
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
