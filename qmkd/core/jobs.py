"""A job's life: the table of its moves, how it starts, stops and ends, and when it is forgotten.

Every change of a job's state goes through `_move`, and every end through `_finish`, which gives
back all that the job held and answers all who wait for it. Slices are `schedule.py`'s business.
A graph is verified before its submission is answered, so no job is ever seen VALIDATING.
"""

from __future__ import annotations

from bisect import insort
from enum import Enum, auto
from hashlib import sha256
from typing import Final

import msgspec

from qmkd.core import programs
from qmkd.core.effects import DropResults, KillWorker, SealResults, StopSegment
from qmkd.core.limits import (
    COUNTS_KEY_BYTES,
    EVENT_BYTES,
    EVENTS_FREE_MAX,
    JOBS_RETAINED_MAX,
    LEAF_BYTES,
    MS,
    STOP_GRACE_NS,
)
from qmkd.core.state import Job, Session, State, Stop, Tenant, Timer, TimerKind
from qmkd.core.waiting import announce, answer, cancel_timer, end_subscription, set_timer
from qmkd.core.wording import final_status, time_text
from syscalls.errors import AccessDenied, AlreadyCompleted, JobNotFound, KernelError, Timeout
from syscalls.ids import JobId
from syscalls.job import JobState
from syscalls.results import SHOT_BLOCK
from syscalls.rights import Right


class Move(Enum):
    """What can happen to a job."""

    START = auto()
    COMPLETE = auto()
    FAIL = auto()
    CANCEL = auto()


JOB_MOVES: Final[dict[JobState, dict[Move, JobState]]] = {
    JobState.QUEUED: {Move.START: JobState.RUNNING, Move.CANCEL: JobState.CANCELLED},
    JobState.VALIDATING: {},
    JobState.RUNNING: {
        Move.COMPLETE: JobState.COMPLETED,
        Move.FAIL: JobState.FAILED,
        Move.CANCEL: JobState.CANCELLED,
    },
    JobState.COMPLETED: {},
    JobState.FAILED: {},
    JobState.CANCELLED: {},
}
"""State -> move -> next state. A missing entry is an illegal move: our mistake, no caller's."""

assert set(JOB_MOVES) == set(JobState)


def _move(state: State, job: Job, move: Move) -> None:
    after = JOB_MOVES[job.state].get(move)
    assert after is not None, f"a {job.state} job cannot {move.name}"
    tally, everyone = job.session.tally, state.tally
    tally[job.state] -= 1
    everyone[job.state] -= 1
    job.state = after
    tally[after] += 1
    everyone[after] += 1
    state.version += 1


# --- finding ------------------------------------------------------------------------------------


def find_job(
    state: State, session: Session, name: JobId, *, reading: bool = True
) -> Job | KernelError:
    """The job of that name as this session may see it.

    Another tenant's job is no job, by the same path. CAP_ADMIN reads every job and changes none
    but its own session's.
    """
    job = state.jobs.get(name)
    if job is not None:
        if job.session is session:
            return job
        admin = Right.ADMIN in session.granted
        if admin and reading:
            return job
        if admin or job.tenant is session.tenant:
            return AccessDenied()
    return JobNotFound()


# --- starting -----------------------------------------------------------------------------------


def enqueue(state: State, job: Job) -> None:
    """Take up a job that admission has allowed: it waits for its turn."""
    tenant, session = job.tenant, job.session
    programs.pin(state, job.program)
    state.jobs[job.id] = job
    session.jobs[job.id] = job
    session.live[job] = None
    session.tally[JobState.QUEUED] += 1
    state.tally[JobState.QUEUED] += 1
    state.live += 1
    tenant.live += 1
    tenant.rows_live += job.total_bytes
    if job.policy.idempotency_key is not None:
        tenant.keys[job.policy.idempotency_key] = job
    insort(tenant.queued, (*job.rank, job))
    want_turn(state, tenant)
    state.version += 1
    announce(state, job)
    _trim(state, tenant)


def want_turn(state: State, tenant: Tenant) -> None:
    """The tenant has work to hand out."""
    if not tenant.in_turns:
        tenant.in_turns = True
        state.turns.append(tenant)
    state.stirred = True


def start(state: State, job: Job) -> None:
    """Move a queued job to RUNNING: from now on it holds its qubits."""
    tenant, need = job.tenant, job.program.summary
    tenant.queued.remove((*job.rank, job))
    insort(tenant.ready, (*job.rank, job))
    tenant.logical += need.peak_logical
    tenant.physical += need.peak_physical
    state.physical += need.peak_physical
    job.started_ns = state.now_ns
    job.started_at = time_text(state.now_ns)
    job.leaves = bytearray(LEAF_BYTES * -(-job.policy.shots // SHOT_BLOCK))
    if job.data_total:
        job.data_leaves = bytearray(len(job.leaves))
    job.counts = {} if job.policy.counts and not job.policy.exact else None
    if job.policy.exact:
        job.counts_omitted = "the policy asked for probabilities instead"
    elif not job.policy.counts:
        job.counts_omitted = "the policy asked for none"
    _move(state, job, Move.START)
    if job.policy.timeout_ms is not None:
        at_ns = state.now_ns + job.policy.timeout_ms * MS
        job.time_limit = set_timer(state, TimerKind.LIMIT, at_ns, job)
    announce(state, job)


def set_ready(job: Job, ready: bool) -> None:
    """Whether the running job has shots to hand out."""
    entry = (*job.rank, job)
    if not ready:
        job.tenant.ready.remove(entry)
    elif entry not in job.tenant.ready:
        insort(job.tenant.ready, entry)


def has_shots(job: Job) -> bool:
    """Whether a running job has shots to hand out: in nobody's hands, not done, lacking nothing."""
    if job.stop is not None or job.lacks is not None:
        return False
    return bool(job.again) or job.shots_given < job.policy.shots


# --- stopping -----------------------------------------------------------------------------------


def cancel(state: State, job: Job) -> None:
    """Stop a live job on the caller's wish. One that is stopping already goes on stopping."""
    if job.state is JobState.QUEUED:
        job.tenant.queued.remove((*job.rank, job))
        _finish(state, job, Move.CANCEL)
    elif job.stop is None:
        _stop(state, job, Stop())


def fail(state: State, job: Job, error: KernelError) -> None:
    """Stop a running job because of an error."""
    assert job.state is JobState.RUNNING
    if job.stop is None:
        _stop(state, job, Stop(error))
    else:
        settle(state, job)


def time_out(state: State, job: Job) -> None:
    """The job has run for as long as its policy allows."""
    job.time_limit = 0
    if job.stop is None:
        assert job.policy.timeout_ms is not None
        _stop(state, job, Stop(Timeout(timeout_ms=job.policy.timeout_ms)))


def _stop(state: State, job: Job, stop: Stop) -> None:
    if has_shots(job):
        set_ready(job, False)
    if job.lacks is not None:
        lack_no_more(state, job)
    job.stop = stop
    job.again.clear()
    state.version += 1
    for segment in job.segments.values():
        state.out.append(StopSegment(segment.worker.number, segment.ticket))
    if job.segments:
        grace_ns = state.grace_ns if state.stopping else STOP_GRACE_NS
        job.grace = set_timer(state, TimerKind.GRACE, state.now_ns + grace_ns, job)
    settle(state, job)


def lack_no_more(state: State, job: Job) -> None:
    """The job does not wait for its point any more. What nobody waits for is not begun."""
    assert job.lacks is not None
    measuring = state.wanted[job.lacks]
    del measuring.jobs[job]
    if not measuring.jobs and measuring.worker is None:
        del state.wanted[job.lacks]
    job.lacks = None


def settle(state: State, job: Job) -> None:
    """End a stopping job once no worker holds anything of it."""
    assert job.stop is not None
    if not job.segments:
        error = job.stop.error
        _finish(state, job, Move.CANCEL if error is None else Move.FAIL, error)


def grace_over(state: State, job: Job) -> None:
    """Workers that still hold a part of the stopping job are ended."""
    job.grace = 0
    for segment in job.segments.values():
        worker = segment.worker
        if not worker.killed:
            worker.killed = True
            worker.ready = False
            state.out.append(KillWorker(worker.number))


# --- ending -------------------------------------------------------------------------------------


def complete(state: State, job: Job) -> None:
    """All shots are in: seal the results."""
    # With no events a row is empty, and so is the text that the digest names.
    named = sha256(job.leaves if job.row_bytes else b"").hexdigest()
    if job.data_total:
        job.data_digest = sha256(job.data_leaves).hexdigest()
    job.context = msgspec.structs.replace(
        job.context,
        workers_used=len(job.workers),
        results_digest=None if job.policy.exact else named,
    )
    state.out.append(SealResults(job.id))
    _finish(state, job, Move.COMPLETE)


def _finish(state: State, job: Job, move: Move, error: KernelError | None = None) -> None:
    _move(state, job, move)
    job.completed_ns = state.now_ns
    _give_back(state, job)
    cancel_timer(state, job.time_limit)
    cancel_timer(state, job.grace)
    job.time_limit = job.grace = 0
    job.final = final_status(state, job, error)
    cancelled = job.state is JobState.CANCELLED
    for parked in list(job.waiting):
        if parked.cancels and not cancelled:
            answer(state, parked, AlreadyCompleted(state=job.state.value))
        else:
            answer(state, parked, job.final)
    announce(state, job)
    for subscription in list(job.subscriptions):
        end_subscription(state, subscription)
    programs.unpin(state, job.program)
    if job.rows and job.state is not JobState.COMPLETED:
        _drop_rows(state, job)
    _keep(job)
    job.leaves = job.data_leaves = bytearray()
    job.tenant.finished[job] = None
    if job.session.open:
        _trim(state, job.tenant)
    else:
        forget(state, job)


def _give_back(state: State, job: Job) -> None:
    """Everything that a live job holds."""
    tenant, session, need = job.tenant, job.session, job.program.summary
    if job.started_ns:
        tenant.logical -= need.peak_logical
        tenant.physical -= need.peak_physical
        state.physical -= need.peak_physical
    assert min(tenant.logical, tenant.physical, state.physical) >= 0, "qubits were given back twice"
    state.live -= 1
    tenant.live -= 1
    tenant.rows_live -= job.total_bytes
    del session.live[job]
    session.touched_ns = state.now_ns
    state.stirred = True


# --- keeping and forgetting ---------------------------------------------------------------------


def _keep(job: Job) -> None:
    """Count what a finished job's record and results take."""
    events = len(job.program.order)
    size = events * EVENT_BYTES if events > EVENTS_FREE_MAX else 0
    if job.state is JobState.COMPLETED:
        outcomes = len(job.counts or ()) + len(job.probabilities or ())
        size += job.total_bytes + outcomes * (COUNTS_KEY_BYTES + events)
    else:
        job.counts = job.probabilities = None
        job.first_row = {}
    job.result_bytes = size
    job.tenant.kept_bytes += size


def _trim(state: State, tenant: Tenant) -> None:
    """Forget finished jobs, oldest first, beyond their number; results beyond their bytes."""
    while len(tenant.finished) > JOBS_RETAINED_MAX:
        forget(state, next(iter(tenant.finished)))
    limit = tenant.rule.quota.result_bytes
    if tenant.rows_live + tenant.kept_bytes <= limit:
        return
    for job in tenant.finished:
        if job.result_bytes:
            _drop_results(state, job)
            if tenant.rows_live + tenant.kept_bytes <= limit:
                return


def _drop_results(state: State, job: Job) -> None:
    """Keep the record of a finished job without rows, counts and names of events."""
    assert job.final is not None
    job.tenant.kept_bytes -= job.result_bytes
    job.result_bytes = 0
    job.counts = job.probabilities = None
    job.first_row = {}
    job.program = programs.slim(job.program)
    if job.state is JobState.COMPLETED:
        job.final = msgspec.structs.replace(
            job.final,
            events={},
            counts=None,
            counts_omitted="the results are no longer kept",
            probabilities=None,
        )
    if job.rows:
        _drop_rows(state, job)


def _drop_rows(state: State, job: Job) -> None:
    job.rows = False
    state.out.append(DropResults(job.id))


def forget(state: State, job: Job) -> None:
    """Know nothing of a finished job any more."""
    assert job.final is not None
    if job.result_bytes or job.rows:
        _drop_results(state, job)
    tenant, session = job.tenant, job.session
    del tenant.finished[job]
    del state.jobs[job.id]
    del session.jobs[job.id]
    session.tally[job.state] -= 1
    state.tally[job.state] -= 1
    free_key(job)
    state.version += 1


def free_key(job: Job) -> None:
    """Nobody may ask about the job any more, so its key may name another."""
    key, keys = job.policy.idempotency_key, job.tenant.keys
    if key is not None and keys.get(key) is job:
        del keys[key]


def fire(state: State, timer: Timer) -> None:
    """A timer about a job has fired."""
    job = timer.about
    assert isinstance(job, Job)
    if timer.kind is TimerKind.LIMIT:
        time_out(state, job)
    else:
        assert timer.kind is TimerKind.GRACE
        grace_over(state, job)
