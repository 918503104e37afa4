"""What is wanted of the scheduler, what it knows of backends, and what they cost: plain types.

Times are seconds unless they are written as ISO 8601 with an offset. Money is in the one currency
of the catalogue.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final, Literal, get_args
from uuid import UUID

import msgspec

from policy.api import METHODS, Alternative, BadFeatures, Budget, CircuitFeatures
from policy.api import check_circuit as check_features
from runtime.scheduler.calibrations import parse_time
from runtime.scheduler.errors import BadInput

CryptoMode = Literal["classical", "hybrid", "pqc-required"]
MODES: Final[tuple[CryptoMode, ...]] = get_args(CryptoMode)


class Sla(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """fidelity_floor: to be kept by the lower bound. deadline_s: from the decision to the end of
    the run. cost_max: money. None: no bound."""

    fidelity_floor: float = 0.0
    deadline_s: float | None = None
    cost_max: float | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """job_id: UUID. shots: without mitigation; they set the standard error that is wanted.

    shots_max: in all, at most. methods: the only ones allowed; empty for all. best_effort: where no
    candidate keeps the SLA, take the best that there is, and say so, instead of none.
    """

    job_id: str
    tenant: str
    circuit: CircuitFeatures
    shots: int
    shots_max: int | None = None
    sla: Sla = Sla()
    crypto_mode: CryptoMode = "classical"
    methods: tuple[str, ...] = ()
    best_effort: bool = False

    @property
    def budget(self) -> Budget:
        return Budget(shots=self.shots, shots_max=self.shots_max)


class Backend(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of the catalogue. cost_per_shot, cost_per_second: money.

    seconds_per_circuit: overhead beside its shots; seconds_per_shot: between two shots.
    availability: the share of time in which it takes jobs. gaps: it tells how sure decoders were.
    """

    backend_id: str
    vendor: str = ""
    region: str = ""
    cost_per_shot: float = 0.0
    cost_per_second: float = 0.0
    seconds_per_circuit: float = 0.0
    seconds_per_shot: float = 250e-6
    availability: float = 1.0
    crypto_modes: tuple[CryptoMode, ...] = ("classical",)
    gaps: bool = False


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How busy a backend is now. waiting_s: until a new job begins, as expected; waiting_high_s:
    not longer than this in nineteen of twenty cases. utilisation: of its recent time, 0 to 1."""

    waiting_s: float = 0.0
    waiting_high_s: float = 0.0
    utilisation: float = 0.0


class Reservation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A backend is a tenant's from one time up to another."""

    reservation_id: str
    backend_id: str
    tenant: str
    starts_at: str
    ends_at: str


class Scoring(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which plug-in scores (`scoring.SCORERS`), and with what.

    waiting_tau_s: a score falls to 1/e in this time of waiting, so that a minute costs the same
    share of fidelity whatever the queues are like. availability_min: below it, availability counts.
    cost_floor: of a run, so that what costs nothing does not win by that alone.
    """

    name: str = "spec-001"
    waiting_tau_s: float = 1800.0
    availability_min: float = 0.9
    cost_floor: float = 1e-3


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one backend for one job. alternatives: what the policy engine answered.

    calibration: digest of the snapshot, taken_at its time. refused: why the backend is no candidate
    at all, a sentence; then there are no alternatives. notes: what a reader should know of it.
    """

    backend: Backend
    state: State
    calibration: str = ""
    taken_at: str = ""
    shot_s: float = 0.0
    refused: str = ""
    notes: tuple[str, ...] = ()
    advised: str = ""
    source: str = ""
    abstained: bool = False
    confidence: float = 0.0
    because: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    reservations: tuple[Reservation, ...] = ()


def check_job(job: Job) -> None:
    """Raises BadInput."""
    try:
        UUID(job.job_id)
    except ValueError:
        raise BadInput(f"job_id is a UUID, not {job.job_id[:80]!r}.") from None
    try:
        check_features(job.circuit)
    except BadFeatures as error:
        raise BadInput(f"{job.job_id}: {error}") from error
    if job.shots < 1:
        raise BadInput(f"{job.job_id}: the budget is zero: a job has at least one shot.")
    if job.shots_max is not None and job.shots_max < job.shots:
        raise BadInput(f"{job.job_id}: shots_max is at least shots, {job.shots:,}.")
    _within(f"{job.job_id}: fidelity_floor", job.sla.fidelity_floor, 0, 1)
    for field in ("deadline_s", "cost_max"):
        if (value := getattr(job.sla, field)) is not None:
            _within(f"{job.job_id}: {field}", value, 0, 1e12)
    unknown = set(job.methods) - set(METHODS)
    if unknown:
        raise BadInput(f"{job.job_id}: no method is called {', '.join(sorted(unknown))}.")


def check_backend(backend: Backend) -> None:
    """Raises BadInput."""
    if not backend.backend_id:
        raise BadInput("A backend has a name.")
    for field in ("cost_per_shot", "cost_per_second", "seconds_per_circuit", "seconds_per_shot"):
        _within(f"{backend.backend_id}: {field}", getattr(backend, field), 0, 1e9)
    _within(f"{backend.backend_id}: availability", backend.availability, 0, 1)


def check_state(backend_id: str, state: State) -> None:
    """Raises BadInput."""
    _within(f"{backend_id}: waiting_s", state.waiting_s, 0, 1e12)
    _within(f"{backend_id}: waiting_high_s", state.waiting_high_s, state.waiting_s, 1e12)
    _within(f"{backend_id}: utilisation", state.utilisation, 0, 1)


def check_reservation(reservation: Reservation) -> tuple[datetime, datetime]:
    """Its times. Raises BadInput."""
    starts, ends = parse_time(reservation.starts_at), parse_time(reservation.ends_at)
    if not starts < ends:
        raise BadInput("A reservation ends after it starts.")
    return starts, ends


def _within(what: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise BadInput(f"{what} is {low:g} to {high:g}, not {value:g}.")
