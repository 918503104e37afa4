"""A job's life: the table of its moves, how it starts, stops and ends, and when it is forgotten.

Every change of a job's state goes through `_move`, every end through `_end`, which decides it, and
`finish`, which gives back all that the job held and answers all who wait for it; between the two
the end becomes durable. Slices are `schedule.py`'s business.
A graph is verified before its submission is answered, so no job is ever seen VALIDATING.
"""

from __future__ import annotations

from bisect import insort
from enum import Enum, auto
from hashlib import sha256
from typing import Final

import msgspec

from qmkd.core import holding, programs, quotas
from qmkd.core.capabilities import rights_of
from qmkd.core.effects import DropResults, DropSnapshots, KillWorker, SealResults, StopSegment
from qmkd.core.keeping import (
    end_later,
    job_rows,
    keep,
    let_go,
    masked,
    shutting_down,
    write_down,
)
from qmkd.core.limits import (
    COUNTS_KEY_BYTES,
    EVENT_BYTES,
    EVENTS_FREE_MAX,
    JOBS_RETAINED_MAX,
    LEAF_BYTES,
    MS,
    STOP_GRACE_NS,
)
from qmkd.core.mapping import has_more, let_place_go, want_place
from qmkd.core.records import EndRow, Gone, SnapshotRow
from qmkd.core.state import (
    Ending,
    Job,
    Segment,
    Session,
    Slice,
    State,
    Stop,
    Tenant,
    Timer,
    TimerKind,
)
from qmkd.core.waiting import announce, answer, cancel_timer, end_subscription, set_timer
from qmkd.core.wording import final_status, pair_errors, pairs_audited, time_text
from syscalls.errors import (
    AccessDenied,
    AlreadyCompleted,
    JobNotFound,
    KernelError,
    Timeout,
)
from syscalls.ids import JobId
from syscalls.job import JobState, JobStatus
from syscalls.results import SHOT_BLOCK
from syscalls.rights import Right


class Move(Enum):
    """What can happen to a job."""

    START = auto()
    COMPLETE = auto()
    FAIL = auto()
    CANCEL = auto()


JOB_MOVES: Final[dict[JobState, dict[Move, JobState]]] = {
    JobState.QUEUED: {
        Move.START: JobState.RUNNING,
        Move.FAIL: JobState.FAILED,
        Move.CANCEL: JobState.CANCELLED,
    },
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

_MOVES_TO: Final = {
    JobState.COMPLETED: Move.COMPLETE,
    JobState.FAILED: Move.FAIL,
    JobState.CANCELLED: Move.CANCEL,
}


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
        admin = Right.ADMIN in rights_of(session)
        if admin and reading:
            return job
        if admin or job.tenant is session.tenant:
            return AccessDenied()
    return JobNotFound()


# --- starting -----------------------------------------------------------------------------------


def enqueue(state: State, job: Job) -> None:
    """Take up a job that admission has allowed: it waits for its turn."""
    enlist(state, job)
    quotas.meter(job, state.now_ns, job.policy.shots - job.inherited)
    quotas.change(job.tenant, state.now_ns)
    if state.machine.durable:
        keep(state, *job_rows(job))
        made = job.context.restored_from
        write_down(
            state,
            "job accepted" if made is None else "job restored",
            job=job.id,
            **({} if made is None else {"checkpoint": made}),
            tenant=job.tenant.rule.name,
            session=masked(job.session.id),
            program=job.context.program_digest,
            seed=job.seed,
            shots=job.policy.shots,
            engine=job.context.engine,
            noise=job.context.noise.applied,
            **_held(job),
        )
    announce(state, job)
    trim(state, job.tenant)


def _held(job: Job) -> dict[str, list[str]]:
    """What the audit chain has of its pairs, and of what it names of sessions."""
    found = {
        "pairs": pairs_audited(job.context),
        "handles": [masked(each.row.id) for each in job.handles],
        "channels": [masked(each.row.id) for each in job.channels],
    }
    return {name: each for name, each in found.items() if each}


def enlist(state: State, job: Job) -> None:
    """Enter a job that waits for its turn into every table."""
    tenant, session = job.tenant, job.session
    programs.pin(state, job.program)
    _register(state, job)
    session.live[job] = None
    state.live += 1
    quotas.hold(job)
    holding.join(job)
    job.pairs = pair_errors(job.context)
    tenant.rows_live += job.total_bytes
    want_place(state, job)


def keep_finished(state: State, job: Job) -> None:
    """Enter a job that was over before a restart into every table."""
    _register(state, job)
    _keep(job)
    job.leaves = job.data_leaves = bytearray()
    job.tenant.finished[job] = None


def _register(state: State, job: Job) -> None:
    state.jobs[job.id] = job
    job.session.jobs[job.id] = job
    job.session.tally[job.state] += 1
    state.tally[job.state] += 1
    if job.policy.idempotency_key is not None:
        job.tenant.keys[job.policy.idempotency_key] = job
    state.version += 1


def want_turn(state: State, tenant: Tenant) -> None:
    """The tenant has work to hand out."""
    if not tenant.in_turns:
        tenant.in_turns = True
        state.turns.append(tenant)
    state.stirred = True


def start(state: State, job: Job) -> None:
    """Move a placed job to RUNNING, as its first slice goes out."""
    assert job.place is not None
    job.started_ns = state.now_ns
    job.started_at = time_text(state.now_ns)
    if job.shots_done:
        whole = LEAF_BYTES * -(-job.policy.shots // SHOT_BLOCK)
        job.leaves = job.leaves.ljust(whole, b"\0")  # a checkpoint has but those of shots done
    else:
        open_results(job)
    _move(state, job, Move.START)
    if job.policy.timeout_ms is not None:
        at_ns = state.now_ns + job.policy.timeout_ms * MS
        job.time_limit = set_timer(state, TimerKind.LIMIT, at_ns, job)
    announce(state, job)


def open_results(job: Job) -> None:
    """Make room for what slices will bring."""
    job.leaves = bytearray(LEAF_BYTES * -(-job.policy.shots // SHOT_BLOCK))
    if job.data_total:
        job.data_leaves = bytearray(len(job.leaves))
    job.counts = {} if job.policy.counts and not job.policy.exact else None
    if job.policy.exact:
        job.counts_omitted = "the policy asked for probabilities instead"
    elif not job.policy.counts:
        job.counts_omitted = "the policy asked for none"


def set_ready(state: State, job: Job, ready: bool) -> None:
    """Whether the job has shots to hand out; without a place they wait for one."""
    entry = (*job.rank, job)
    entries = job.tenant.queued if job.place is None else job.tenant.ready
    if not ready:
        entries.remove(entry)
    elif entry in entries:
        return
    else:
        insort(entries, entry)
    if job.place is None:
        state.stirred = state.contested = True  # it, or who waited behind it, may fit


def has_shots(job: Job) -> bool:
    """Whether a job has shots to hand out now: in nobody's hands, not done, lacking nothing."""
    if job.stop is not None or job.lacks is not None or job.resting:
        return False
    return has_more(job)


# --- stopping -----------------------------------------------------------------------------------


def cancel(state: State, job: Job) -> None:
    """Stop a live job on the caller's wish. One that is stopping already goes on stopping."""
    if job.ending is not None:
        return
    if job.state is JobState.QUEUED:
        set_ready(state, job, False)
        state.stirred = state.contested = True  # the next may fit where it did not
        _end(state, job, Move.CANCEL)
    elif job.stop is None:
        _stop(state, job, Stop())


def fail(state: State, job: Job, error: KernelError) -> None:
    """Stop a live job because of an error."""
    if job.state is JobState.QUEUED:
        set_ready(state, job, False)
        state.stirred = state.contested = True
        _end(state, job, Move.FAIL, error)
    elif job.stop is None:
        _stop(state, job, Stop(error))
    else:
        settle(state, job)


def time_out(state: State, job: Job) -> None:
    """The job has run for as long as its policy allows."""
    job.time_limit = 0
    if job.stop is None and job.ending is None:
        assert job.policy.timeout_ms is not None
        _stop(state, job, Stop(Timeout(timeout_ms=job.policy.timeout_ms)))


def _stop(state: State, job: Job, stop: Stop) -> None:
    if has_shots(job):
        set_ready(state, job, False)
        state.stirred = state.contested = True
    if job.lacks is not None:
        lack_no_more(state, job)
    job.stop = stop
    leave(state, job)
    state.version += 1
    _stop_segments(state, job)
    settle(state, job)


def pause(state: State, job: Job) -> None:
    """The daemon stops, and the job is to go on in the next one: its slices stop at a fence."""
    for parked in list(job.waiting):
        answer(state, parked, shutting_down())
    for segment in job.segments.values():
        stop_at_fence(state, segment)
    _give_grace(state, job)


def stop_at_fence(state: State, segment: Segment, *, back: bool = False) -> None:
    """Have a slice parked, unless it is to stop already."""
    if not segment.asked:
        segment.asked = True
        state.out.append(StopSegment(segment.worker.number, segment.ticket, True, back))


def let_go_of(state: State, *given: Slice) -> None:
    """Nothing of the job goes on from where these slices stood."""
    tickets = tuple(each.parked.ticket for each in given if each.parked is not None)
    if not tickets:
        return
    state.out.append(DropSnapshots(tickets))
    rows = [row for row in state.unkept if isinstance(row, SnapshotRow) and row.ticket in tickets]
    for row in rows:
        state.unkept.remove(row)  # it came in this very step
    known = {*tickets} - {row.ticket for row in rows}
    if known:
        let_go(state, Gone(snapshots=tuple(sorted(known))))


def leave(state: State, job: Job) -> None:
    """What was to be run again is not."""
    let_go_of(state, *job.again)
    job.again.clear()


def _stop_segments(state: State, job: Job) -> None:
    for segment in job.segments.values():
        segment.asked = True
        state.out.append(StopSegment(segment.worker.number, segment.ticket))
    _give_grace(state, job)


def _give_grace(state: State, job: Job) -> None:
    if job.segments and not job.grace:
        grace_ns = state.grace_ns if state.stopping else STOP_GRACE_NS
        job.grace = set_timer(state, TimerKind.GRACE, state.now_ns + grace_ns, job)


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
    if not job.segments and job.ending is None:
        error = job.stop.error
        _end(state, job, Move.CANCEL if error is None else Move.FAIL, error)


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
    """All shots are in."""
    # With no events a row is empty, and so is the text that the digest names.
    named = sha256(job.leaves if job.row_bytes else b"").hexdigest()
    if job.data_total:
        job.data_digest = sha256(job.data_leaves).hexdigest()
    job.context = msgspec.structs.replace(
        job.context,
        workers_used=len(job.workers),
        results_digest=None if job.policy.exact else named,
    )
    _end(state, job, Move.COMPLETE)


def _end(state: State, job: Job, move: Move, error: KernelError | None = None) -> None:
    """Decide how the job ends. It is over at once, or when that is durable."""
    ended = JOB_MOVES[job.state].get(move)
    assert ended is not None, f"a {job.state} job cannot {move.name}"
    leave(state, job)
    job.completed_ns = state.now_ns
    job.ending = Ending(final_status(state, job, ended, error))
    cancel_timer(state, job.time_limit)
    cancel_timer(state, job.grace)
    job.time_limit = job.grace = 0
    state.version += 1
    if not state.machine.durable:
        finish(state, job)
        return
    kept = msgspec.structs.replace(job.ending.status, counts=None, probabilities=None)
    keep(state, EndRow(job=job.id, status=kept, completed_ns=job.completed_ns))
    if ended is not JobState.COMPLETED:
        let_go(state, Gone(results=(job.id,)))
    digest = job.context.results_digest
    write_down(state, f"job {move.name.lower()}", job=job.id, results=digest or "")
    end_later(state, job)


def finish(state: State, job: Job) -> None:
    """The job is over, and that is as durable as it will be: give back, answer, keep or forget."""
    assert job.ending is not None
    ended = job.ending.status
    if ended.state is JobState.COMPLETED:
        state.out.append(SealResults(job.id))
    _move(state, job, _MOVES_TO[ended.state])
    _give_back(state, job)
    job.final = ended
    cancelled = job.state is JobState.CANCELLED
    for parked in list(job.waiting):
        if parked.wish is not None or (parked.cancels and not cancelled):
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
    if job.session.open and not job.unwanted:
        trim(state, job.tenant)
    else:
        forget(state, job)


def _give_back(state: State, job: Job) -> None:
    """Everything that a live job holds."""
    tenant, session = job.tenant, job.session
    if job.place is not None:
        let_place_go(state, job)
    state.live -= 1
    quotas.give_back(job, state.now_ns)
    holding.leave(state, job)
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


def trim(state: State, tenant: Tenant) -> None:
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
        job.final = without_results(job.final)
    let_go(state, Gone(results=(job.id,)))
    if job.rows:
        _drop_rows(state, job)


def without_results(status: JobStatus) -> JobStatus:
    """The status of a completed job whose results are no longer kept."""
    return msgspec.structs.replace(
        status,
        events={},
        counts=None,
        counts_omitted="the results are no longer kept",
        probabilities=None,
    )


def _drop_rows(state: State, job: Job) -> None:
    job.rows = False
    state.out.append(DropResults(job.id))


def forget(state: State, job: Job) -> None:
    """Know nothing of a finished job any more."""
    assert job.final is not None
    if job.result_bytes or job.rows:
        _drop_results(state, job)
    let_go(state, Gone(jobs=(job.id,)))
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
