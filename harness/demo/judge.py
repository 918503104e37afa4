"""Whether counts agree with an exact distribution, and by which bounds. No I/O, no chance.

Two bounds, each broken by a right machine at most once in a million runs:

- G-test: with cells whose expected count is below EXPECTED_MIN pooled, p > P_MIN.
- Total variation distance: one shot moves it by at most 1/n, so by McDiarmid's inequality it
  exceeds its mean by t with probability at most exp(-2 n t^2); its mean is at most
  sum(sqrt(p (1 - p) / n)) / 2, because the mean of |X| is at most the root of that of X^2.

An outcome whose probability is zero must not occur at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct
from scipy.stats import chi2

P_MIN = 1e-6
EXPECTED_MIN = 5.0


class Verdict(Struct, frozen=True, kw_only=True):
    """distance: total variation distance. p: of the G-test, 1 where there is nothing to test.

    impossible: outcomes seen that cannot occur.
    """

    shots: int
    distance: float
    distance_max: float
    g: float
    degrees: int
    p: float
    impossible: list[str]

    @property
    def inside(self) -> bool:
        """Whether the counts are inside every bound."""
        return not self.impossible and self.distance <= self.distance_max and self.p > P_MIN


def judge(counts: Mapping[str, int], exact: Mapping[str, float]) -> Verdict:
    """Hold shots per outcome against probabilities per outcome."""
    shots = sum(counts.values())
    assert shots > 0, "there is something to judge"
    g, degrees = g_statistic(counts, exact)
    return Verdict(
        shots=shots,
        distance=distance(counts, exact),
        distance_max=distance_max(exact, shots),
        g=g,
        degrees=degrees,
        p=float(chi2.sf(g, degrees)) if degrees else 1.0,
        impossible=sorted(key for key, seen in counts.items() if seen and not exact.get(key)),
    )


def distance(counts: Mapping[str, int], exact: Mapping[str, float]) -> float:
    """Total variation distance between shares of shots and probabilities."""
    shots = sum(counts.values())
    outcomes = counts.keys() | exact.keys()
    return sum(abs(counts.get(key, 0) / shots - exact.get(key, 0.0)) for key in outcomes) / 2


def distance_max(exact: Mapping[str, float], shots: int) -> float:
    """The bound on the distance that holds but for one run in 1 / P_MIN."""
    mean = sum(math.sqrt(max(0.0, p * (1 - p)) / shots) for p in exact.values()) / 2
    return mean + math.sqrt(math.log(1 / P_MIN) / (2 * shots))


def g_statistic(counts: Mapping[str, int], exact: Mapping[str, float]) -> tuple[float, int]:
    """The likelihood-ratio statistic over pooled cells, and its degrees of freedom."""
    shots = sum(counts.values())
    cells = pooled([(p * shots, counts.get(key, 0)) for key, p in exact.items() if p > 0])
    g = 2 * sum(seen * math.log(seen / expected) for expected, seen in cells if seen)
    return max(0.0, g), len(cells) - 1


def pooled(cells: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """(expected, seen) cells with the smallest put together until each expects EXPECTED_MIN."""
    ranked = sorted(cells, reverse=True)
    while len(ranked) > 1 and ranked[-1][0] < EXPECTED_MIN:
        (expected, seen), (more, more_seen) = ranked.pop(), ranked.pop()
        ranked.append((expected + more, seen + more_seen))
    return ranked
