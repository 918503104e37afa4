"""q_replay: a job again, from its record, as a new job whose bits are the same.

The record says what was asked, with which seed and noise, and under which versions. Where the bytes
of its program are no longer at hand, the store has them, and the answer comes later.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from qmkd.core.admission import Admitted, take_in
from qmkd.core.effects import LoadGraph
from qmkd.core.events import Called, GraphLoaded
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
    full = check_park(session.tenant)
    if full is not None:
        return full
    parked = Parked(event.origin, session.tenant, load=submission)
    park(state, parked)
    ticket = state.number()
    state.loads[ticket] = parked
    state.out.append(LoadGraph(ticket, job.id))
    return None


def _at_hand(job: Job) -> bytes | None:
    """The bytes of the job's program, if this process still has them."""
    if job.program.graph:
        return job.program.graph
    held = job.tenant.programs.values()
    found = [one.graph for one in held if one.digest and one.digest == job.digest]
    return found[0] if found else None


def graph_loaded(state: State, event: GraphLoaded) -> None:
    """The store has read a program, or cannot."""
    parked = state.loads.pop(event.ticket)
    submission = parked.load
    if submission is None:
        return  # nobody waits for it any more
    if (behind := refusal(state)) is not None:
        answer(state, parked, behind)
    elif not submission.session.open:
        answer(state, parked, AuthFailed())
    elif not event.graph:
        answer(state, parked, ResultsDropped())
    else:
        unpark(state, parked)
        whole = replace(submission, graph=event.graph)
        body = take_in(state, whole, parked.origin)
        if body is not None:
            say(state, parked.origin, body)
