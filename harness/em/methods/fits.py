"""Extrapolations to no noise: what is linear in the data as coefficients, and the exponential.

Linear ones are least squares by a polynomial (Richardson: of the highest degree), whose value at 0
is a sum of the values with coefficients that depend on the scales alone. So variances are exact,
and so is the best split of shots, in proportion to the coefficients' sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]

SMALLEST: Final = 1e-6
"""Below it a value has no logarithm worth fitting."""


class Extrapolated(NamedTuple):
    """At no noise. note: what was done instead where the fit makes no sense."""

    value: float
    variance: float
    note: str = ""


def coefficients(scales: Sequence[float], degree: int) -> Real:
    """Of the values at these scales, in the value at 0 of the polynomial of least squares."""
    powers = np.vander(np.asarray(scales, dtype=float), degree + 1, increasing=True)
    assert len(scales) > degree, "as many scales as parameters, or more"
    return np.asarray(np.linalg.pinv(powers)[0])


def polynomial(
    scales: Sequence[float], values: Sequence[float], variances: Sequence[float], degree: int
) -> Extrapolated:
    """By a polynomial of this degree; of the highest one it is Richardson's."""
    found = coefficients(scales, degree)
    return Extrapolated(float(found @ np.asarray(values)), float(found**2 @ np.asarray(variances)))


def exponential(
    scales: Sequence[float],
    values: Sequence[float],
    variances: Sequence[float],
    asymptote: float,
) -> Extrapolated:
    """By asymptote + b exp(-c x): least squares of the logarithms, weighted by the root of the
    values.

    The weights are those that mitiq's `ExpFactory` documents for a known asymptote, so that both
    give the same number. Where a value lies on the other side of the asymptote than most do, or
    within its error of it, logarithms tell nothing, and a line is drawn instead.
    """
    above = np.asarray(values, dtype=float) - asymptote
    sign = 1.0 if float(coefficients(scales, 1) @ above) >= 0 else -1.0
    sizes = sign * above
    if (sizes <= np.maximum(SMALLEST, np.sqrt(np.asarray(variances)))).any():
        line = polynomial(scales, values, variances, 1)
        return line._replace(note="Values too near the asymptote for an exponential: a line.")
    weights = np.sqrt(sizes)
    lines = np.vander(np.asarray(scales, dtype=float), 2, increasing=True) * weights[:, None]
    inverse = np.linalg.pinv(lines)[0] * weights
    height = float(np.exp(inverse @ np.log(sizes)))
    # First order in the logarithms' errors; that the weights depend on the values is left out.
    variance = height**2 * float(inverse**2 @ (np.asarray(variances) / sizes**2))
    return Extrapolated(asymptote + sign * height, variance)
