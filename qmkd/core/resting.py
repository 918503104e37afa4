"""What is done with a job while no worker holds anything of it: it is kept, or moved.

Such a wish stops the job's slices at their next fence; until all have stopped, no other is handed
out. What comes of it then is `checkpoints.py`'s and `moving.py`'s business. Afterwards the job goes
on by itself. A job that nobody has begun, or that waits for its turn, is at rest already.
"""

from __future__ import annotations

from qmkd.core.capabilities import check_call
from qmkd.core.checkpoints import check_more, stands_at, take
from qmkd.core.events import Called
from qmkd.core.jobs import find_job, has_shots, set_ready, stop_at_fence, want_turn
from qmkd.core.keeping import refusal
from qmkd.core.limits import BUSY_RETRY_MS
from qmkd.core.mapping import has_more
from qmkd.core.moving import find_module, lies_there, move
from qmkd.core.quotas import check_change
from qmkd.core.state import Job, Parked, Session, State
from qmkd.core.waiting import answer, check_park, park
from syscalls.checkpoint import Checkpoint, Migrate, Migrated
from syscalls.errors import AlreadyCompleted, Busy, KernelError, NoFence


def q_checkpoint(state: State, session: Session, event: Called) -> KernelError | None:
    """q_checkpoint. None: the answer comes once the job is at rest, and what is kept is durable."""
    request = event.request
    assert isinstance(request, Checkpoint)
    job = _find(state, session, request)
    if isinstance(job, KernelError):
        return job
    refused = check_more(state, job.tenant)
    if refused is None:
        _wish(state, job, event, back=request.how == "rollback")
    return refused


def q_migrate(state: State, session: Session, event: Called) -> Migrated | KernelError | None:
    """q_migrate. None: the answer comes once the job is at rest."""
    request = event.request
    assert isinstance(request, Migrate)
    job = _find(state, session, request)
    if isinstance(job, KernelError):
        return job
    module = find_module(state, job, request.target)
    if isinstance(module, KernelError):
        return module
    if lies_there(job, module):  # nothing is to be done, so nothing is written down
        return Migrated(job_id=job.id, placement=request.target, epoch=stands_at(job))
    refused = refusal(state) or check_change(job.tenant, state.now_ns)
    if refused is None:
        _wish(state, job, event)
    return refused


def _find(state: State, session: Session, request: Checkpoint | Migrate) -> Job | KernelError:
    job = find_job(state, session, request.job_id, reading=False)
    if isinstance(job, KernelError):
        return job
    if job.final is not None:
        return AlreadyCompleted(state=job.state.value)
    if any(parked.wish is not None for parked in job.waiting):
        why = "something else is to be done with this job at its next fence"
        return Busy(what=why, retry_after_ms=BUSY_RETRY_MS)
    full = check_park(job.tenant)
    if full is not None:
        return full
    fences = job.program.summary.epochs > 1 and not job.policy.exact
    return job if fences or has_more(job) or not job.segments else NoFence()


def _wish(state: State, job: Job, event: Called, *, back: bool = False) -> None:
    park(state, Parked(event.origin, job.tenant, job=job, wish=event))
    if job.stop is not None or job.ending is not None:
        return  # it is answered when the job is over
    if has_shots(job):
        set_ready(state, job, False)
    job.resting = True
    state.resting[job] = None
    for segment in job.segments.values():
        stop_at_fence(state, segment, back=back)


def settle(state: State) -> None:
    """Do with jobs what is wanted, as they come to rest, and let them go on."""
    for job in list(state.resting):
        wishes = [parked for parked in job.waiting if parked.wish is not None]
        over = job.stop is not None or job.ending is not None
        if wishes and job.segments and not over:
            continue
        del state.resting[job]
        for parked in wishes:
            if not over:
                _perform(state, job, parked)
        job.resting = False
        if not over and has_shots(job):
            set_ready(state, job, True)
            want_turn(state, job.tenant)


def _perform(state: State, job: Job, parked: Parked) -> None:
    """Do it, unless it may not be done any more."""
    assert parked.wish is not None
    request = parked.wish.request
    assert isinstance(request, Checkpoint | Migrate)
    refused = refusal(state) or check_call(job.session, request)
    if refused is not None:
        answer(state, parked, refused)
    else:
        (move if isinstance(request, Migrate) else take)(state, job, parked)
