"""Rescaling by what decoders knew: each shot's chance of being wrong, told by its gap.

Where a decoder's answer was close, its correction is often wrong; the complementary gap says how
close it was (arXiv:2312.04522; for mitigation, arXiv:2512.09863). A product's mean over shots is
the true one times the mean of 1 - 2 p over the same shots, p being the chance of a flip at their
gaps. So dividing by it takes the bias away at no extra shots. How p follows from a gap depends on
how many histories a circuit has and which of them matter, so a curve is fitted for each product to
a circuit of the same build whose answers are known; whoever runs one circuit with many angles
needs it once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.em.backends.backend import GAP_BIN, Outcome, Refused
from harness.em.circuits.exact import exact_terms
from harness.em.circuits.paulis import Pauli, bases, pauli, text_of
from harness.em.circuits.tasks import Task, digest
from harness.em.methods import readings
from harness.em.methods.cdr import near_clifford
from harness.em.methods.direct import Unmitigated, instead
from harness.em.methods.plan import Estimate, Known, Plan, Unplannable, estimate
from runtime.jit.circuit import Operation

Real = NDArray[np.float64]

LEFT_MIN: Final = 0.02
"""Of a value, below which there is nothing to rescale."""
STEPS: Final = 60
PRIOR: Final = 1.0
TRAINING_SHARE: Final = 0.5


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """The chance that a product comes out flipped at gap g: 1 / (1 + exp(slope g - offset))."""

    slope: float = 1.0
    offset: float = 0.0

    def wrong(self, gaps: Real) -> Real:
        """gaps: in nats."""
        return np.asarray(1 / (1 + np.exp(np.clip(self.slope * gaps - self.offset, -50, 50))))


class GapModel(msgspec.Struct, frozen=True, kw_only=True):
    """curves: by the text of a product. common: for products that have none.

    shots: that curves were fitted to; the usual curve, of none, is what matching alone says of one
    history.
    """

    curves: dict[str, Curve] = {}
    common: Curve = Curve()
    shots: int = 0

    def curve(self, product: Pauli) -> Curve:
        return self.curves.get(text_of(product), self.common)


class Seen(NamedTuple):
    """An outcome of a circuit for which this product's value is known, 1 or -1."""

    outcome: Outcome
    product: Pauli
    value: int


def middle(bin_: int) -> float:
    """Of a bin of gaps, in nats."""
    return (bin_ + 0.5) * GAP_BIN


def sign(word: str, product: Pauli) -> int:
    """+1 or -1: the product's outcome, bit 0 on the right."""
    return 1 - 2 * (sum(word[-1 - qubit] == "1" for qubit, _ in product) % 2)


def fitted(seen: Sequence[Seen]) -> GapModel:
    """The likeliest curve of each product, and of all together.

    Raises Unplannable where nothing was ever wrong, or no gaps were told.
    """
    by_product: dict[str, list[Seen]] = {}
    for each in seen:
        by_product.setdefault(text_of(each.product), []).append(each)
    shots = sum(each.outcome.shots for each in seen)
    if not seen or not any(each.outcome.gaps for each in seen):
        raise Unplannable("There are no outcomes with gaps whose answers are known.")
    common = _curve(seen, Curve())
    return GapModel(
        curves={name: _curve(part, common) for name, part in by_product.items()},
        common=common,
        shots=shots,
    )


def _curve(seen: Sequence[Seen], prior: Curve) -> Curve:
    wrong: dict[int, list[int]] = {}
    for outcome, product, value in seen:
        for word, by_bin in outcome.gaps.items():
            flipped = sign(word, product) != value
            for bin_, number in by_bin.items():
                pair = wrong.setdefault(bin_, [0, 0])
                pair[0] += number
                pair[1] += number * flipped
    gaps = np.array([middle(bin_) for bin_ in wrong])
    shots, flips = np.array(list(wrong.values()), dtype=float).T
    # Newton's method on the likelihood, which is concave; the prior counts as little and keeps the
    # curve finite where nothing was wrong.
    slope, offset = prior.slope, prior.offset
    for _ in range(STEPS):
        p = Curve(slope=slope, offset=offset).wrong(gaps)
        left, spread = flips - shots * p, shots * p * (1 - p)
        gradient = np.array(
            [
                -(left @ gaps) - (slope - prior.slope) * PRIOR,
                left.sum() - (offset - prior.offset) * PRIOR,
            ]
        )
        across = -(spread @ gaps)
        curve = np.array([[spread @ gaps**2 + PRIOR, across], [across, spread.sum() + PRIOR]])
        move = np.linalg.solve(curve, gradient)
        slope, offset = slope + move[0], offset + move[1]
        if abs(move).max() < 1e-10:
            break
    return Curve(slope=float(slope), offset=float(offset))


class GapRescaling:
    """model: fitted beforehand on circuits of the same build; None fits one on half of the shots.

    The training circuit is the circuit itself with its turns moved to Clifford ones.
    """

    name = "gap"

    def __init__(self, model: GapModel | None = None) -> None:
        self.model = model

    @property
    def parameters(self) -> dict[str, Any]:
        if self.model is None:
            return {"training": TRAINING_SHARE}
        return {"model": digest(msgspec.to_builtins(self.model)), "training": 0}

    def plan(self, task: Task, known: Known, shots: int, seed: int) -> Plan:
        if not known.capabilities.gaps:
            raise Refused("Rescaling by gaps takes a backend that tells them (noise `decoded`).")
        if self.model is not None:
            plan = Unmitigated().plan(task, known, shots, seed)
            model = msgspec.to_builtins(self.model)
            return instead(self, msgspec.structs.replace(plan, data={"model": model}))
        twin = build_twin(task, seed)
        certain = known_products(twin)
        if not certain:
            why = "Of the training circuit no product is certain, so no curve can be fitted."
            return instead(self, Unmitigated(why).plan(task, known, shots, seed))
        first = round(TRAINING_SHARE * shots)
        training = Unmitigated().plan(twin, known, first, seed).runs
        plan = Unmitigated().plan(task, known, shots - first, seed)
        runs = (*(msgspec.structs.replace(r, role="training") for r in training), *plan.runs)
        data = {"certain": [[place, text_of(p), value] for place, p, value in certain]}
        return instead(self, msgspec.structs.replace(plan, runs=runs, data=data))

    def reduce(self, plan: Plan, outcomes: Sequence[Outcome]) -> Estimate:
        if plan.note:
            return Unmitigated().reduce(plan, outcomes)
        if "model" in plan.data:
            model = msgspec.convert(plan.data["model"], GapModel)
        else:
            training, outcomes = outcomes[: len(plan.bases)], outcomes[len(plan.bases) :]
            certain = plan.data["certain"]
            model = fitted([Seen(training[place], pauli(p), value) for place, p, value in certain])
        value, variance, poor = rescaled(plan, outcomes, model)
        note = "Decoders knew next to nothing; rescaling is bounded." if poor else ""
        return estimate(value, variance, plan.observable, note)


def rescaled(plan: Plan, outcomes: Sequence[Outcome], model: GapModel) -> tuple[float, float, bool]:
    """Value and variance, not cut to any interval, and whether a gain met its bound."""
    value, variance, poor = plan.observable.constant, 0.0, False
    for basis, outcome in zip(plan.bases, outcomes, strict=True):
        found = readings.reading(outcome, basis)
        left = np.array([kept(outcome.gaps, model.curve(term.product)) for term in basis.terms])
        poor = poor or bool((left < LEFT_MIN).any())
        gains = np.array([term.weight for term in basis.terms]) / np.maximum(left, LEFT_MIN)
        value += float(gains @ found.means)
        variance += float(gains @ found.covariance @ gains)
    return value, variance, poor


def kept(gaps: Mapping[str, Mapping[int, int]], curve: Curve) -> float:
    """The mean of 1 - 2 p over shots."""
    shots: dict[int, int] = {}
    for by_bin in gaps.values():
        for bin_, number in by_bin.items():
            shots[bin_] = shots.get(bin_, 0) + number
    where = np.array([middle(bin_) for bin_ in shots])
    weights = np.array(list(shots.values()), dtype=float)
    return float(weights @ (1 - 2 * curve.wrong(where)) / weights.sum())


def build_twin(task: Task, seed: int) -> Task:
    """A task of the same build: turns moved to Clifford ones, and a Pauli on each qubit first.

    Paulis on logical qubits are bookkeeping, so errors are the same and answers differ.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 13]))
    circuit = near_clifford(task.circuit, 0, rng)
    flips = [Operation("x", (q,)) for q in range(circuit.width) if rng.integers(2)]
    changed = circuit.with_operations((*flips, *circuit.operations))
    return msgspec.structs.replace(task, circuit=changed)


def known_products(task: Task) -> list[tuple[int, Pauli, int]]:
    """Each product that is certain behind the task's circuit: its basis, itself, and its value."""
    found = []
    for place, basis in enumerate(bases(task.observable)):
        values, _ = exact_terms(task.circuit, [term.product for term in basis.terms])
        found += [
            (place, term.product, round(v))
            for term, v in zip(basis.terms, values, strict=True)
            if math.isclose(abs(v), 1, abs_tol=1e-9)
        ]
    return found
