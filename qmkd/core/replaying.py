"""q_replay: a job again, from its record, as a new job whose bits are the same.

The record says what was asked, with which seed and noise, and under which versions. Where the bytes
of its program are no longer at hand, the store has them, and the answer comes later, by the same
way as that of q_restore (`restoring.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec

from qmkd.core.admission import Admitted, take_in
from qmkd.core.effects import LoadGraph, VerifyCheckpoint
from qmkd.core.events import Called, GraphLoaded, Origin
from qmkd.core.jobs import find_job
from qmkd.core.keeping import refusal, say
from qmkd.core.state import Job, Parked, Session, State, Submission
from qmkd.core.waiting import answer, check_park, park, unpark
from qmkd.core.wording import changed_versions
from syscalls.checkpoint import Replay
from syscalls.errors import AuthFailed, KernelError, NotAvailable, ResultsDropped


def replay(state: State, session: Session, event: Called) -> Admitted | KernelError | None:
    """q_replay. None: its program is being read or verified; the answer comes later."""
    request = event.request
    assert isinstance(request, Replay)
    job = find_job(state, session, request.job_id, reading=False)
    if isinstance(job, KernelError):
        return job
    changed = changed_versions(job.context, state.machine)
    if changed:
        remedy = f"Versions have changed: {changed}."
        return NotAvailable(feature="Replaying this job", remedy=remedy)
    policy = msgspec.structs.replace(job.policy, seed=job.seed, idempotency_key=None)
    graph = _at_hand(job)
    submission = Submission(
        session, policy, graph or b"", event.entropy, state.now_ns, replay_of=job
    )
    if graph is not None:
        return take_in(state, submission, event.origin)
    if not state.machine.durable:
        return ResultsDropped()
    return read_first(state, submission, event.origin, lambda ticket: LoadGraph(ticket, job.id))


def _at_hand(job: Job) -> bytes | None:
    """The bytes of the job's program, if this process still has them."""
    if job.program.graph:
        return job.program.graph
    held = job.tenant.programs.values()
    found = [one.graph for one in held if one.digest and one.digest == job.digest]
    return found[0] if found else None


def graph_loaded(state: State, event: GraphLoaded) -> None:
    """The store has read a program, or cannot."""
    if (found := who_waited(state, event.ticket)) is not None:
        submission, origin = found
        whole = replace(submission, graph=event.graph)
        body = take_in(state, whole, origin) if event.graph else ResultsDropped()
        if body is not None:
            say(state, origin, body)


# --- what the store reads first -----------------------------------------------------------------


def read_first(
    state: State,
    submission: Submission,
    origin: Origin,
    asking: Callable[[int], LoadGraph | VerifyCheckpoint],
) -> KernelError | None:
    """Have the submission wait until the store has read what it needs. asking: with a ticket."""
    tenant = submission.session.tenant
    full = check_park(tenant)
    if full is not None:
        return full
    ticket, parked = state.number(), Parked(origin, tenant, load=submission)
    park(state, parked)
    state.loads[ticket] = parked
    state.out.append(asking(ticket))
    return None


def who_waited(state: State, ticket: int) -> tuple[Submission, Origin] | None:
    """What waited for this, and whom to answer now; None where nobody does, or may, any more."""
    parked = state.loads.pop(ticket)
    submission = parked.load
    if submission is None:
        return None
    if (behind := refusal(state)) is not None:
        answer(state, parked, behind)
        return None
    if not submission.session.open:
        answer(state, parked, AuthFailed())
        return None
    unpark(state, parked)
    return submission, parked.origin
