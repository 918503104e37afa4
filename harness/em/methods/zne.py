"""Zero-noise extrapolation: the circuit at several strengths of noise, and a curve through them.

Fits: `linear`, `polynomial`, `richardson` and `exponential` of the observable as a whole, and
`calibrated`, which fits one number. There each product decays as exp(-k rate x), with rates as a
calibration has them (`decay.py`) and one factor k for all, which starts from 1 with a spread of
PRIOR_SPREAD and is pooled from all products at all scales. A value near zero then leaves k to the
others and to the calibration, instead of dividing noise by noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from harness.em.backends.backend import Outcome
from harness.em.circuits.paulis import Basis, bases, measured
from harness.em.circuits.tasks import Task
from harness.em.methods import decay, fits, readings
from harness.em.methods.folding import FOLDINGS, folded
from harness.em.methods.plan import (
    Estimate,
    Known,
    Plan,
    Run,
    Unplannable,
    estimate,
    shares,
    weight_of,
)

Real = NDArray[np.float64]

FITS: Final = ("linear", "polynomial", "richardson", "exponential", "calibrated")
PRIOR_SPREAD: Final = 0.3
"""Of the factor k: calibrations are days old, and turns that go too far are not in them."""
OWN_SPREAD: Final = 0.2
"""Of each product's own factor around the common one."""
FACTOR_MAX: Final = 3.0
GRID: Final = 241
ROOT: Final = math.sqrt(2 * math.pi)
KNOWN: Final = 0.2
"""Standard error below which a product counts as known well."""
INSIDE_MIN: Final = 1e-12
"""Of a normal law, below which what lies within the bounds is at the nearer one."""
FIRST_SHARE: Final = 0.75
"""Of the shots of `calibrated` that go to the circuit as it is: the others tell k alone."""
USUAL_SCALES: Final[dict[str, tuple[float, ...]]] = {
    "linear": (1.0, 3.0),
    "polynomial": (1.0, 3.0, 5.0, 7.0),
    "richardson": (1.0, 3.0, 5.0),
    "exponential": (1.0, 3.0, 5.0),
    "calibrated": (1.0, 3.0),
}
SCALES_MAX: Final = 10


class ZeroNoise:
    """fit, scales, folding: as above and in `folding.py`. degree: of `polynomial`.

    readout: undo readout errors first, calibrated on shots of their own. equal: split shots evenly
    over the scales instead of best.
    """

    name = "zne"

    def __init__(
        self,
        fit: str = "calibrated",
        *,
        scales: Sequence[float] | None = None,
        folding: str = "global",
        degree: int = 2,
        readout: bool = True,
        equal: bool = False,
    ) -> None:
        if fit not in FITS:
            raise Unplannable(f"There are the fits {', '.join(FITS)}, not {fit!r}.")
        if folding not in FOLDINGS:
            raise Unplannable(f"Folding is {' or '.join(FOLDINGS)}, not {folding!r}.")
        self.fit, self.folding, self.readout, self.equal = fit, folding, readout, equal
        self.scales = tuple(float(s) for s in (scales or USUAL_SCALES[fit]))
        if sorted(set(self.scales)) != list(self.scales) or len(self.scales) > SCALES_MAX:
            raise Unplannable(f"Scales rise, and are {SCALES_MAX} at most; not {self.scales}.")
        self.degree = {"linear": 1, "richardson": len(self.scales) - 1}.get(fit, degree)
        needed = {"calibrated": 1, "exponential": 2}.get(fit, self.degree + 1)
        if len(self.scales) < max(needed, 1):
            raise Unplannable(f"{fit} takes {needed} scales at least, not {len(self.scales)}.")

    @property
    def parameters(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "fit": self.fit, "scales": list(self.scales), "folding": self.folding,
            "readout": self.readout, "split": "equal" if self.equal else "optimal",
        }  # fmt: skip
        return found | ({"degree": self.degree} if self.fit == "polynomial" else {})

    def plan(self, task: Task, known: Known, shots: int, seed: int) -> Plan:
        found = bases(task.observable)
        readout = self.readout and readings.errs(known.calibration)
        first = readings.calibration_shots(shots) if readout else 0
        runs = list(readings.readout_runs(task.circuit.width, first)) if readout else []
        weights = [share * weight_of(basis) for share in self._split() for basis in found]
        parts = iter(shares(shots - first, weights))
        for scale in self.scales:
            body = folded(task.circuit, scale, self.folding, seed)
            runs += [Run(circuit=measured(body, b.letters), shots=next(parts)) for b in found]
        return Plan(
            method=self.name,
            parameters=self.parameters,
            observable=task.observable,
            bases=found,
            runs=tuple(runs),
            data={"readout": readout} | self._rates(task, found, known),
        )

    def _rates(self, task: Task, found: tuple[Basis, ...], known: Known) -> dict[str, Any]:
        if self.fit != "calibrated":
            return {}
        products = [term.product for basis in found for term in basis.terms]
        return {"rates": decay.rates(task.circuit, products, known.calibration).tolist()}

    def _split(self) -> list[float]:
        """How shots are shared over the scales."""
        if self.equal or len(self.scales) == 1:
            return [1.0] * len(self.scales)
        if self.fit == "calibrated":
            rest = (1 - FIRST_SHARE) / (len(self.scales) - 1)
            return [FIRST_SHARE, *[rest] * (len(self.scales) - 1)]
        # An exponential that falls little is a line, so the line's split is near its best.
        degree = 1 if self.fit == "exponential" else self.degree
        return [max(0.05, abs(float(c))) for c in fits.coefficients(self.scales, degree)]

    def reduce(self, plan: Plan, outcomes: Sequence[Outcome]) -> Estimate:
        readout, rest = None, list(outcomes)
        if plan.data["readout"]:
            readout, rest = readings.readout_of(rest[0], rest[1]), rest[2:]
        number = len(plan.bases)
        levels = [rest[at : at + number] for at in range(0, len(rest), number)]
        value, variance, note = self._extrapolated(plan, levels, readout)
        if readout is not None:
            # What the uncertain readout adds at the first scale is common to all, and grows as
            # they do.
            values = [total for total, _ in self._totals(plan, levels, readout)]
            moved = readings.variance_of_readout(plan.observable, plan.bases, levels[0], readout)
            base = values[0] - plan.observable.constant
            growth = (value - plan.observable.constant) / base if abs(base) > 1e-9 else 1.0
            variance += moved * min(growth**2, len(levels) ** 2)
        return estimate(value, variance, plan.observable, note)

    def _totals(
        self, plan: Plan, levels: Sequence[Sequence[Outcome]], readout: readings.Readout | None
    ) -> list[tuple[float, float]]:
        return [
            readings.total(
                plan.observable,
                plan.bases,
                [readings.reading(o, b, readout) for o, b in zip(level, plan.bases, strict=True)],
            )
            for level in levels
        ]

    def _extrapolated(
        self, plan: Plan, levels: Sequence[Sequence[Outcome]], readout: readings.Readout | None
    ) -> tuple[float, float, str]:
        if self.fit == "calibrated":
            found = [
                [readings.reading(o, b, readout) for o, b in zip(level, plan.bases, strict=True)]
                for level in levels
            ]
            return (*calibrated(plan, found, self.scales), "")
        values, variances = zip(*self._totals(plan, levels, readout), strict=True)
        if self.fit == "exponential":
            asymptote = plan.observable.constant
            made = fits.exponential(self.scales, values, variances, asymptote)
        else:
            made = fits.polynomial(self.scales, values, variances, self.degree)
        return made.value, made.variance, made.note


def calibrated(
    plan: Plan,
    levels: Sequence[Sequence[readings.Reading]],
    scales: Sequence[float],
    prior_spread: float = PRIOR_SPREAD,
) -> tuple[float, float]:
    """The observable's value and variance over what is believed of k, on a grid.

    levels: of each scale, a reading of each basis. The plan's data hold `rates`, of each term.
    """
    rates = np.array(plan.data["rates"])
    weights = np.array([term.weight for basis in plan.bases for term in basis.terms])
    means = np.array([np.concatenate([r.means for r in level]) for level in levels])
    spreads = np.array([np.concatenate([np.diag(r.covariance) for r in level]) for level in levels])
    spreads = np.maximum(spreads, 1e-12)
    factors = np.linspace(0, FACTOR_MAX, GRID)
    # shape (factors, scales, terms): what is left of each product.
    left = np.exp(-factors[:, None, None] * np.asarray(scales)[None, :, None] * rates)
    precision = (left**2 / spreads).sum(axis=1)
    heights = (left * means / spreads).sum(axis=1) / precision
    misfit = ((means - left * heights[:, None]) ** 2 / spreads).sum(axis=1)
    inside, spread = bounded(heights, precision)
    # By row what all products share, by column what one of them has.
    apart = np.exp(-(((factors[:, None] - factors) / OWN_SPREAD) ** 2) / 2)
    apart /= apart.sum(axis=1, keepdims=True)
    likely = np.exp((misfit.min(axis=0) - misfit) / 2)
    seen = apart @ likely
    belief = np.log(seen).sum(axis=1) - ((factors - 1) / prior_spread) ** 2 / 2
    chances = np.exp(belief - belief.max())
    chances /= chances.sum()
    given = apart @ (likely * inside) / seen
    scatter = np.maximum(apart @ (likely * inside**2) / seen - given**2, 0)
    values = given @ weights
    value = float(chances @ values)
    # A product that may be anything has gains without bound, and a spread that is bounded.
    gains = (left / spreads[None]) / precision[:, None] * np.sqrt(spread * precision)[:, None]
    noise = scatter @ weights**2
    for level, found in enumerate(levels):
        start = 0
        for each in found:
            part = slice(start, start + len(each.means))
            moved = gains[:, level, part] * weights[part]
            noise += np.einsum("fi,ij,fj->f", moved, each.covariance, moved)
            start = part.stop
    variance = float(chances @ ((values - value) ** 2 + noise))
    return plan.observable.constant + value, variance


def bounded(heights: Real, precision: Real) -> tuple[Real, Real]:
    """What is believed of values that lie within -1 and 1, and with which variance.

    heights, precision: of the values as measured. Where they are known well, that is the likeliest
    value; where they are not, the mean of what is left of the normal law within the bounds, so that
    a product of which nothing can be told counts as 0.
    """
    root = np.sqrt(precision)
    likeliest = np.clip(heights, -1, 1)
    low, high = (-1 - heights) * root, (1 - heights) * root
    inside = ndtr(high) - ndtr(low)
    safe = np.maximum(inside, INSIDE_MIN)
    at_low, at_high = np.exp(-(low**2) / 2) / ROOT, np.exp(-(high**2) / 2) / ROOT
    shift = (at_low - at_high) / safe
    variance = (1 + (low * at_low - high * at_high) / safe - shift**2) / precision
    known = 1 / (1 + (1 / (root * KNOWN)) ** 4)
    mean = known * likeliest + (1 - known) * np.clip(heights + shift / root, -1, 1)
    kept = inside > INSIDE_MIN
    return (
        np.where(kept, mean, likeliest),
        np.where(kept, np.clip(variance, 0, 1 / precision), 0.0),
    )
