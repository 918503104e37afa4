"""How candidates are compared. A scorer is a function in a table; a decision names the one it used.

The default is SPEC-001's formula: (expected fidelity / effective cost) x availability penalty x
crypto compatibility. Crypto compatibility is 0 or 1 and has been applied as a filter by then. The
others are what people do today, to compare with, and look at no SLA.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from policy.api import Alternative
from runtime.scheduler.jobs import Offer, Scoring, State

UTILISATION_MAX: Final = 0.5


class Cost(NamedTuple):
    """money: to be paid. qpu_seconds: of the backend. congestion: how much dearer a second is
    because others wait for it. effective: money with the seconds at that price."""

    money: float
    qpu_seconds: float
    congestion: float
    effective: float


class Facts(NamedTuple):
    """One candidate. starts_s: until it begins, as expected; starts_high_s: the bound of that."""

    offer: Offer
    alternative: Alternative
    cost: Cost
    starts_s: float
    starts_high_s: float


class Scorer(NamedTuple):
    """score: higher is better. keeps_sla: whether the filter on the SLA comes first, and then what
    the policy engine advises; other methods are for what those cannot keep.

    advised_only: whether of each backend the advised method alone is a candidate.
    """

    score: Callable[[Facts, Scoring], float]
    keeps_sla: bool
    advised_only: bool


def congestion(state: State) -> float:
    """How much longer a second keeps everyone than an idle machine's would: 1 / (1 - utilisation),
    the stretch of time in a queue served in turn (M/G/1 processor sharing)."""
    return 1 / (1 - min(state.utilisation, UTILISATION_MAX))


def seconds_of(offer: Offer, alternative: Alternative) -> float:
    """Of the backend's time, from the first circuit to the last shot."""
    each = offer.backend.seconds_per_shot + offer.shot_s * alternative.depth
    return alternative.circuits * offer.backend.seconds_per_circuit + alternative.shots * each


def cost_of(offer: Offer, alternative: Alternative, scoring: Scoring) -> Cost:
    """What a run costs its owner, and what it costs with the price of congestion."""
    backend = offer.backend
    seconds = seconds_of(offer, alternative)
    by_shots, by_time = backend.cost_per_shot * alternative.shots, backend.cost_per_second * seconds
    dearer = congestion(offer.state)
    return Cost(
        money=by_shots + by_time,
        qpu_seconds=seconds,
        congestion=dearer,
        effective=max(scoring.cost_floor, by_shots + by_time * dearer),
    )


def availability_penalty(facts: Facts, scoring: Scoring) -> float:
    """1 for a backend that is there and free; less for one often away, or long waited for."""
    availability = facts.offer.backend.availability
    there = min(1.0, availability / scoring.availability_min)
    return there * math.exp(-facts.starts_s / scoring.waiting_tau_s)


def spec_001(facts: Facts, scoring: Scoring) -> float:
    worth = facts.alternative.expected_fidelity / facts.cost.effective
    return worth * availability_penalty(facts, scoring)


def least_busy(facts: Facts, scoring: Scoring) -> float:
    return -facts.starts_s


def best_fidelity(facts: Facts, scoring: Scoring) -> float:
    return facts.alternative.expected_fidelity


SCORERS: Final[dict[str, Scorer]] = {
    "spec-001": Scorer(spec_001, keeps_sla=True, advised_only=False),
    "least-busy": Scorer(least_busy, keeps_sla=False, advised_only=True),
    "best-fidelity": Scorer(best_fidelity, keeps_sla=False, advised_only=True),
}
