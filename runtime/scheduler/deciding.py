"""The decision: pure, so that the same inputs give the same choice, bit for bit.

First what is known of each backend is put together and the policy engine is asked (`offers`). Then
every alternative of every backend is a candidate: refused by what the job demands, or scored
(`decide`). A batch is decided job by job, the nearest deadline first, each seeing what the ones
before it took (`decide_batch`). Numbers are kept to twelve significant digits, so that the last bit
of a library's logarithm changes no decision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

import msgspec

from policy.api import METHODS, Advise, Alternative, Asked, BadFeatures
from policy.api import check as check_asked
from runtime.scheduler.calibrations import Snapshot, features, hazards
from runtime.scheduler.errors import BadInput
from runtime.scheduler.jobs import (
    Backend,
    Job,
    Offer,
    Reservation,
    Scoring,
    State,
    check_job,
    check_reservation,
    check_state,
)
from runtime.scheduler.scoring import SCORERS, Cost, Facts, cost_of

JOBS_MAX: Final = 10_000
UTILISATION_WINDOW_S: Final = 3600.0


class Entry(NamedTuple):
    """A backend as the catalogue and the queues tell of it now. snapshot: None if there is none."""

    backend: Backend
    snapshot: Snapshot | None
    state: State
    reservations: tuple[Reservation, ...] = ()


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """What was thought of one method on one backend; of a backend as a whole where method is "".

    verdict: `possible` ones were scored and lost. reasons: sentences. score: None where there is
    none. starts_s, ends_s: from the decision on, as expected.
    """

    backend_id: str
    method: str
    verdict: Literal["chosen", "possible", "refused"]
    reasons: tuple[str, ...]
    score: float | None = None
    expected_fidelity: float = 0.0
    fidelity_low: float = 0.0
    shots: int = 0
    starts_s: float = 0.0
    ends_s: float = 0.0
    money: float = 0.0
    qpu_seconds: float = 0.0
    congestion: float = 1.0
    effective_cost: float = 0.0


class Choice(NamedTuple):
    """chosen: None where no candidate would do. sla_kept: whether the chosen one keeps it all."""

    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    sla_kept: bool


class _Judged(NamedTuple):
    facts: Facts
    score: float
    ends_s: float
    broken: tuple[str, ...]

    @property
    def advised(self) -> bool:
        return self.facts.alternative.method == self.facts.offer.advised


_Order = Callable[[_Judged], tuple[Any, ...]]


def tidy(value: float) -> float:
    """To twelve significant digits."""
    return float(f"{value:.12g}")


# --- what is known ------------------------------------------------------------------------------


def offers(
    jobs: Sequence[Job],
    entries: Sequence[Entry],
    policy: Advise,
    now: datetime,
    excluded: Mapping[str, str] = {},
) -> list[list[Offer]]:
    """What every backend offers each job. excluded: backends that are not asked again, and why.

    Raises BadInput where a job or a state makes no sense; a backend that makes none is refused in
    its offer, with the reason.
    """
    for job in jobs:
        check_job(job)
    for entry in entries:
        check_state(entry.backend.backend_id, entry.state)
    found = [[_offer(job, entry, now, excluded) for entry in entries] for job in jobs]
    asked = [asked for row in found for _, asked in row if asked is not None]
    advice = iter(policy.recommend(asked))
    answered: list[list[Offer]] = []
    for row in found:
        answered.append([])
        for offer, question in row:
            if question is not None:
                said = next(advice)
                offer = msgspec.structs.replace(
                    offer,
                    advised=said.method,
                    source=said.source,
                    abstained=said.abstained,
                    confidence=tidy(said.confidence),
                    because=said.because,
                    alternatives=tuple(_tidied(each) for each in said.alternatives),
                )
            answered[-1].append(offer)
    return answered


def _tidied(alternative: Alternative) -> Alternative:
    return msgspec.structs.replace(
        alternative,
        shot_multiplier=tidy(alternative.shot_multiplier),
        depth=tidy(alternative.depth),
        expected_fidelity=tidy(alternative.expected_fidelity),
        fidelity_low=tidy(alternative.fidelity_low),
    )


def _offer(
    job: Job, entry: Entry, now: datetime, excluded: Mapping[str, str]
) -> tuple[Offer, Asked | None]:
    backend, snapshot = entry.backend, entry.snapshot
    offer = Offer(backend=backend, state=entry.state, reservations=entry.reservations)
    if backend.backend_id in excluded:
        return _refused(offer, excluded[backend.backend_id])
    if job.crypto_mode not in backend.crypto_modes:
        modes = ", ".join(backend.crypto_modes) or "none"
        return _refused(offer, f"It has no crypto mode {job.crypto_mode}; it has: {modes}.")
    if snapshot is None:
        return _refused(offer, "There is no calibration of it.")
    calibration = snapshot.calibration
    part = snapshot.part(job.circuit.qubits)
    told = tuple(f"Calibration: {each}." for each in hazards(calibration, now))
    offer = msgspec.structs.replace(
        offer,
        calibration=snapshot.digest,
        taken_at=calibration.taken_at,
        notes=told,
        shot_s=tidy(
            job.circuit.depth * (calibration.gate_2q_s + 2 * calibration.gate_1q_s)
            + calibration.readout_s
        ),
    )
    if part is None:
        return _refused(offer, f"No {job.circuit.qubits} of its working qubits hang together.")
    asked = Asked(
        circuit=job.circuit,
        backend=features(snapshot, part, now, gaps=backend.gaps),
        budget=job.budget,
    )
    try:
        check_asked(asked)
    except BadFeatures as error:
        return _refused(offer, f"Its calibration makes no sense: {error}")
    return offer, asked


def _refused(offer: Offer, why: str) -> tuple[Offer, None]:
    return msgspec.structs.replace(offer, refused=why), None


# --- the choice ---------------------------------------------------------------------------------


def decide(job: Job, offered: Sequence[Offer], scoring: Scoring, now: datetime) -> Choice:
    """Choose among all alternatives of all offers. Raises BadInput for a scorer nobody knows."""
    scorer = SCORERS.get(scoring.name)
    if scorer is None:
        raise BadInput(f"No scorer is called {scoring.name!r}; there are {', '.join(SCORERS)}.")
    refused: list[Candidate] = []
    judged: list[_Judged] = []
    for offer in offered:
        if offer.refused:
            refused.append(_whole(offer, offer.refused))
        for alternative in offer.alternatives:
            method = alternative.method
            if scorer.advised_only and method != offer.advised:
                continue
            if job.methods and method not in job.methods:
                refused.append(_without(offer, method, f"The job does not allow {method}."))
                continue
            judged.append(_judge(job, offer, alternative, scoring, now))
    # A scorer that keeps no SLA orders by its score alone, as what it stands for does.
    order: _Order = _best_kept if scorer.keeps_sla else _best_score
    keeping = [each for each in judged if not each.broken] if scorer.keeps_sla else judged
    pool = keeping or (judged if job.best_effort else [])
    best = min(pool, key=order, default=None)
    listed = [_candidate(each, best, scorer.keeps_sla) for each in sorted(judged, key=order)]
    chosen = next((each for each in listed if each.verdict == "chosen"), None)
    return Choice((*listed, *refused), chosen, best is not None and not best.broken)


def _best_kept(judged: _Judged) -> tuple[int, bool, float, str, int]:
    """The least that is broken, then what the policy engine advises, then the best score."""
    return len(judged.broken), not judged.advised, *_best_score(judged)


def _best_score(judged: _Judged) -> tuple[float, str, int]:
    """The best score, then names: nothing is left to chance."""
    method = METHODS.index(judged.facts.alternative.method)
    return -judged.score, judged.facts.offer.backend.backend_id, method


def _judge(
    job: Job, offer: Offer, alternative: Alternative, scoring: Scoring, now: datetime
) -> _Judged:
    cost = cost_of(offer, alternative, scoring)
    starts, high = (
        _begins(offer, job.tenant, cost.qpu_seconds, waiting, now)
        for waiting in (offer.state.waiting_s, offer.state.waiting_high_s)
    )
    facts = Facts(offer, alternative, Cost(*map(tidy, cost)), tidy(starts), tidy(high))
    score = tidy(SCORERS[scoring.name].score(facts, scoring))
    broken = _broken(job, facts)
    return _Judged(facts, score, tidy(starts + cost.qpu_seconds), broken)


def _broken(job: Job, facts: Facts) -> tuple[str, ...]:
    """What of the SLA a candidate does not keep, a sentence each."""
    sla, found = job.sla, []
    low = facts.alternative.fidelity_low
    if low < sla.fidelity_floor:
        found.append(
            f"The fidelity may be as low as {low:.4f}, and {sla.fidelity_floor:.4f} is the floor."
        )
    ends = facts.starts_high_s + facts.cost.qpu_seconds
    if sla.deadline_s is not None and ends > sla.deadline_s:
        found.append(f"It may end after {ends:,.0f} s; the deadline is {sla.deadline_s:,.0f} s.")
    if sla.cost_max is not None and facts.cost.money > sla.cost_max:
        found.append(f"It costs {facts.cost.money:.4g}, and at most {sla.cost_max:.4g} is given.")
    return tuple(found)


def _begins(offer: Offer, tenant: str, seconds: float, waiting: float, now: datetime) -> float:
    """Seconds until it can run without a break, around what others have reserved."""
    taken: list[tuple[float, float]] = []
    own: list[tuple[float, float]] = []
    for each in offer.reservations:
        starts, ends = ((at - now).total_seconds() for at in check_reservation(each))
        if ends > 0:
            (own if each.tenant == tenant else taken).append((max(0.0, starts), ends))
    begins = waiting
    for starts, ends in sorted(taken):
        if begins < ends and begins + seconds > starts:
            begins = ends
    reserved = (starts for starts, ends in sorted(own) if starts + seconds <= ends)
    return min(begins, *reserved, math.inf)


def _candidate(judged: _Judged, best: _Judged | None, keeps_sla: bool) -> Candidate:
    facts = judged.facts
    reasons = list(judged.broken)
    if judged is best:
        verdict: Literal["chosen", "possible", "refused"] = "chosen"
        reasons.append(
            "Nothing keeps the whole SLA; of what breaks the least, it has the best score."
            if keeps_sla and judged.broken
            else "It has the best score."
        )
    elif judged.broken and keeps_sla:
        verdict = "refused"
    else:
        verdict = "possible"
        if keeps_sla and not judged.advised:
            reasons.append(f"On this backend {facts.offer.advised} is advised.")
        if best is not None:
            reasons.append(f"Its score is {judged.score:.6g}, that of the chosen {best.score:.6g}.")
    return Candidate(
        backend_id=facts.offer.backend.backend_id,
        method=facts.alternative.method,
        verdict=verdict,
        reasons=tuple(reasons),
        score=judged.score,
        expected_fidelity=facts.alternative.expected_fidelity,
        fidelity_low=facts.alternative.fidelity_low,
        shots=facts.alternative.shots,
        starts_s=facts.starts_s,
        ends_s=judged.ends_s,
        money=facts.cost.money,
        qpu_seconds=facts.cost.qpu_seconds,
        congestion=facts.cost.congestion,
        effective_cost=facts.cost.effective,
    )


def _whole(offer: Offer, why: str) -> Candidate:
    return _without(offer, "", why)


def _without(offer: Offer, method: str, why: str) -> Candidate:
    return Candidate(
        backend_id=offer.backend.backend_id, method=method, verdict="refused", reasons=(why,)
    )


# --- batches ------------------------------------------------------------------------------------


class Decided(NamedTuple):
    """A job, what was known when its turn came, and the choice."""

    job: Job
    offers: tuple[Offer, ...]
    choice: Choice


def decide_batch(
    jobs: Sequence[Job],
    entries: Sequence[Entry],
    policy: Advise,
    scoring: Scoring,
    now: datetime,
    excluded: Mapping[str, str] = {},
) -> list[Decided]:
    """Decide jobs, the nearest deadline first; a job waits behind those decided before it.

    Raises BadInput.
    """
    if len(jobs) > JOBS_MAX:
        raise BadInput(f"A batch has at most {JOBS_MAX:,} jobs, not {len(jobs):,}.")
    if len({job.job_id for job in jobs}) < len(jobs):
        raise BadInput("A job is named twice in the batch.")
    known = dict(
        zip((job.job_id for job in jobs), offers(jobs, entries, policy, now, excluded), strict=True)
    )
    busy = {entry.backend.backend_id: entry.state for entry in entries}
    done = []
    for job in sorted(jobs, key=_urgency):
        offered = tuple(
            msgspec.structs.replace(each, state=busy[each.backend.backend_id])
            for each in known[job.job_id]
        )
        choice = decide(job, offered, scoring, now)
        if choice.chosen is not None:
            name = choice.chosen.backend_id
            busy[name] = _busier(busy[name], choice.chosen.qpu_seconds)
        done.append(Decided(job, offered, choice))
    return done


def _urgency(job: Job) -> tuple[float, str]:
    return (math.inf if job.sla.deadline_s is None else job.sla.deadline_s), job.job_id


def _busier(state: State, seconds: float) -> State:
    return State(
        waiting_s=tidy(state.waiting_s + seconds),
        waiting_high_s=tidy(state.waiting_high_s + seconds),
        utilisation=tidy(min(1.0, state.utilisation + seconds / UTILISATION_WINDOW_S)),
    )
