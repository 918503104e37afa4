"""Where the curves of all distances cross: the threshold, from counts around it.

Near the threshold the rate depends on distance and strength through one variable only,
x = d^(1/nu) ln(p / p_th), because the threshold is a phase transition with a diverging length
(Wang, Harrington and Preskill, arXiv:quant-ph/0207088). Here ln L = a + b x + c x^2, L being
-ln(1 - 2 chance) / 2 per d rounds, X and Z added. `laws.py` has the other threshold, where the
power law fitted far below would reach its prefactor; that one is larger. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from qmkd.qec.data import Count
from qmkd.qec.sampling import to_log

PARAMETERS: Final = 5
START: Final = (math.log(8e-3), 0.9, -1.7, 0.6, 0.0)
"""ln p_th, 1 / nu, a, b, c of a search that ends where it must from far around."""


class Near(NamedTuple):
    """A point. log: ln L; deviation: its standard deviation."""

    distance: int
    p: float
    log: float
    deviation: float


class Crossing(NamedTuple):
    """low, high: two standard deviations, widened where excess, chi^2 per freedom, is above 1.

    power: 1 / nu. shape: a, b, c.
    """

    p: float
    low: float
    high: float
    power: float
    shape: tuple[float, float, float]
    excess: float

    def log(self, distance: float, p: float) -> float:
        """ln L of the fit."""
        x = math.log(p / self.p) * math.pow(distance, self.power)
        a, b, c = self.shape
        return a + b * x + c * x * x


def near(counts: Sequence[Count]) -> list[Near]:
    """Points of X and Z together, where both were counted, per d rounds."""
    found = []
    pairs: dict[tuple[int, float], list[Count]] = {}
    for count in counts:
        pairs.setdefault((count.distance, count.p), []).append(count)
    for (distance, p), both in sorted(pairs.items()):
        if len(both) != 2:
            continue
        assert {count.basis for count in both} == {"X", "Z"}
        value = variance = 0.0
        for count in both:
            chance, cycles = count.errors / count.shots, count.rounds / distance
            value += to_log(chance) / cycles
            # Of a binomial share, carried over to L by its derivative 1 / (1 - 2 chance).
            variance += chance * (1 - chance) / count.shots / ((1 - 2 * chance) * cycles) ** 2
        found.append(Near(distance, p, math.log(value), math.sqrt(variance) / value))
    return found


def fit_crossing(points: Sequence[Near]) -> Crossing:
    """The least squares of all points, weighed by their counts. Six points are the least."""
    assert len(points) > PARAMETERS
    distances = np.array([each.distance for each in points], dtype=np.float64)
    logs_p = np.log([each.p for each in points])
    logs = np.array([each.log for each in points])
    deviations = np.array([each.deviation for each in points])

    def left(found: NDArray[np.float64]) -> NDArray[np.float64]:
        x = (logs_p - found[0]) * distances ** found[1]
        fitted = found[2] + found[3] * x + found[4] * x * x
        return np.asarray((logs - fitted) / deviations)

    best = least_squares(left, START)
    assert best.success
    excess = 2 * float(best.cost) / (len(points) - PARAMETERS)
    covariance = np.linalg.inv(best.jac.T @ best.jac) * max(1.0, excess)
    log_p, power, a, b, c = (float(each) for each in best.x)
    margin = 2 * math.sqrt(covariance[0, 0])
    p, low, high = (math.exp(log_p + each) for each in (0.0, -margin, margin))
    return Crossing(p, low, high, power, (a, b, c), excess)
