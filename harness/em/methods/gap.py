"""Rescaling by what decoders knew: each shot's chance of being wrong, told by its gap.

Where a decoder's answer was close, its correction is often wrong; the complementary gap says how
close it was (arXiv:2312.04522; for mitigation, arXiv:2512.09863). A product's mean over shots is
the true one times the mean of 1 - 2 p over the same shots, p being the chance of a flip at their
gaps. So dividing by it takes the bias away at no extra shots. How p follows from a gap is fitted
to circuits whose answers are known, by a logistic curve for each number of qubits that matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.em.backends.backend import GAP_BIN, Outcome, Refused
from harness.em.circuits.paulis import Pauli, bases
from harness.em.circuits.tasks import Task
from harness.em.methods import readings
from harness.em.methods.direct import Unmitigated
from harness.em.methods.plan import Estimate, Known, Plan, Unplannable, estimate

LEFT_MIN: Final = 0.02
"""Of a value, below which there is nothing to rescale."""
STEPS: Final = 60


class GapModel(msgspec.Struct, frozen=True, kw_only=True):
    """The chance that a product comes out flipped at gap g: 1 / (1 + exp(slope g - offset)).

    shots: that it was fitted to.
    """

    slope: float
    offset: float
    shots: int

    def wrong(self, gaps: NDArray[np.float64]) -> NDArray[np.float64]:
        """gaps: in nats."""
        return np.asarray(1 / (1 + np.exp(np.clip(self.slope * gaps - self.offset, -50, 50))))


UNCALIBRATED: Final = GapModel(slope=1.0, offset=0.0, shots=0)
"""What matching alone says of one history: 1 / (1 + e^g)."""


def middle(bin_: int) -> float:
    """Of a bin of gaps, in nats."""
    return (bin_ + 0.5) * GAP_BIN


def sign(word: str, product: Pauli) -> int:
    """+1 or -1: the product's outcome, bit 0 on the right."""
    return 1 - 2 * (sum(word[-1 - qubit] == "1" for qubit, _ in product) % 2)


def fitted(seen: Iterable[tuple[Outcome, Pauli, int]]) -> GapModel:
    """The likeliest curve: outcomes of circuits for which the product's value is known, 1 or -1.

    Raises Unplannable where nothing was ever wrong, or no gaps were told.
    """
    wrong: dict[int, list[int]] = {}
    for outcome, product, value in seen:
        for word, by_bin in outcome.gaps.items():
            flipped = sign(word, product) != value
            for bin_, number in by_bin.items():
                pair = wrong.setdefault(bin_, [0, 0])
                pair[0] += number
                pair[1] += number * flipped
    total = sum(number for number, _ in wrong.values())
    if not any(flipped for _, flipped in wrong.values()):
        raise Unplannable(f"Nothing was wrong in {total} shots: there is no curve to fit.")
    gaps = np.array([middle(bin_) for bin_ in wrong])
    shots, flips = np.array(list(wrong.values()), dtype=float).T
    # Newton's method on the likelihood, which is concave; a weak prior keeps the slope finite.
    slope, offset = 1.0, 0.0
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(np.clip(slope * gaps - offset, -50, 50)))
        left, spread = flips - shots * p, shots * p * (1 - p)
        gradient = np.array([-(left @ gaps) - (slope - 1), left.sum() - offset / 25])
        curve = np.array(
            [
                [-(spread @ gaps**2) - 1, spread @ gaps],
                [spread @ gaps, -spread.sum() - 1 / 25],
            ]
        )
        move = np.linalg.solve(curve, gradient)
        slope, offset = slope - move[0], offset - move[1]
        if abs(move).max() < 1e-10:
            break
    return GapModel(slope=float(slope), offset=float(offset), shots=int(total))


class GapRescaling:
    """model: fitted beforehand on the same code and distance."""

    name = "gap"

    def __init__(self, model: GapModel = UNCALIBRATED) -> None:
        self.model = model

    @property
    def parameters(self) -> dict[str, Any]:
        return {"slope": self.model.slope, "offset": self.model.offset}

    def plan(self, task: Task, known: Known, shots: int, seed: int) -> Plan:
        if not known.capabilities.gaps:
            raise Refused("Rescaling by gaps takes a backend that tells them (noise `decoded`).")
        plan = Unmitigated().plan(task, known, shots, seed)
        return msgspec.structs.replace(plan, method=self.name, parameters=self.parameters)

    def reduce(self, plan: Plan, outcomes: Sequence[Outcome]) -> Estimate:
        value, variance, poor = plan.observable.constant, 0.0, False
        for basis, outcome in zip(plan.bases, outcomes, strict=True):
            found = readings.reading(outcome, basis)
            gains = []
            for term in basis.terms:
                left = kept(outcome.gaps, self.model)
                poor = poor or left < LEFT_MIN
                gains.append(term.weight / max(left, LEFT_MIN))
            weights = np.array(gains)
            value += float(weights @ found.means)
            variance += float(weights @ found.covariance @ weights)
        note = "Decoders knew next to nothing; rescaling is bounded." if poor else ""
        return estimate(value, variance, plan.observable, note)


def kept(gaps: Mapping[str, Mapping[int, int]], model: GapModel) -> float:
    """The mean of 1 - 2 p over shots."""
    shots: dict[int, int] = {}
    for by_bin in gaps.values():
        for bin_, number in by_bin.items():
            shots[bin_] = shots.get(bin_, 0) + number
    where = np.array([middle(bin_) for bin_ in shots])
    weights = np.array(list(shots.values()), dtype=float)
    return float(weights @ (1 - 2 * model.wrong(where)) / weights.sum())


def known_products(task: Task) -> list[tuple[int, Pauli, int]]:
    """Of a Clifford task, each product that is certain: the basis it is read in, and its value."""
    from harness.em.circuits.exact import exact_terms

    found = []
    for place, basis in enumerate(bases(task.observable)):
        values, _ = exact_terms(task.circuit, [term.product for term in basis.terms])
        found += [
            (place, term.product, round(v))
            for term, v in zip(basis.terms, values, strict=True)
            if math.isclose(abs(v), 1, abs_tol=1e-9)
        ]
    return found
