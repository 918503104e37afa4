"""q_restore: a job that goes on from a checkpoint, as a new job whose result is the same.

It is admitted as a submission is, through the same checks. Where there is a store, all that it has
of the checkpoint is read first: what is damaged is refused, not run.
"""

from __future__ import annotations

from msgspec.structs import replace

from qmkd.core import programs
from qmkd.core.admission import Admitted, admit, check_admission
from qmkd.core.checkpoints import find, snapshots
from qmkd.core.effects import VerifyCheckpoint
from qmkd.core.events import Called, CheckpointVerified
from qmkd.core.keeping import refusal, say
from qmkd.core.state import Checkpoint, Job, Parked, Program, Session, State, Submission
from qmkd.core.waiting import answer, check_park, park, unpark
from qmkd.core.wording import changed_versions, noise_given, pairs_used
from syscalls.checkpoint import Restore
from syscalls.errors import AuthFailed, CheckpointIncompatible, KernelError


def q_restore(state: State, session: Session, event: Called) -> Admitted | KernelError | None:
    """q_restore. None: the checkpoint is being read; the answer comes later."""
    request = event.request
    assert isinstance(request, Restore)
    made = find(session, request.checkpoint_id)
    if isinstance(made, KernelError):
        return made
    program = _program(made)
    refused = _check(state, made, event, program)
    if refused is not None:
        return refused
    if not state.machine.durable:
        return _restore(state, made, event, program)
    refused = check_park(session.tenant)
    if refused is not None:
        return refused
    parked = Parked(event.origin, session.tenant, restores=event)
    park(state, parked)
    ticket = state.number()
    state.loads[ticket] = parked
    tickets = tuple(row.ticket for row in snapshots(made.job))
    state.out.append(VerifyCheckpoint(ticket, made.row.id, tickets))
    return None


def verified(state: State, event: CheckpointVerified) -> None:
    """The store has read a checkpoint, and says whether all of it is whole."""
    parked = state.loads.pop(event.ticket)
    called = parked.restores
    if called is None:
        return  # nobody waits for it any more
    request = called.request
    assert isinstance(request, Restore)
    session = state.sessions.get(request.session_id)
    if (behind := refusal(state)) is not None:
        answer(state, parked, behind)
    elif session is None:
        answer(state, parked, AuthFailed())
    elif isinstance(made := find(session, request.checkpoint_id), KernelError):
        answer(state, parked, made)
    elif (refused := _check(state, made, called, program := _program(made))) is not None:
        answer(state, parked, refused)
    elif event.why:
        answer(state, parked, CheckpointIncompatible(reason=f"it is damaged: {event.why}"))
    else:
        unpark(state, parked)
        say(state, parked.origin, _restore(state, made, called, program))


def _submission(made: Checkpoint, event: Called, now_ns: int) -> Submission:
    job = made.job
    policy = replace(job.policy, seed=job.seed, idempotency_key=None)
    return Submission(made.session, policy, made.graph, event.entropy, now_ns, restores=made)


def _program(made: Checkpoint) -> Program:
    """The program as it is known, or from its bytes anew; they were verified once."""
    tenant, program = made.session.tenant, made.job.program
    found = programs.find(tenant, made.graph)
    if found is None and not program.graph:
        found = programs.describe(tenant, made.graph, program.summary, program.warnings)
    return programs.enlarged(found or program, made.job.context.raised)


def _check(state: State, made: Checkpoint, event: Called, program: Program) -> KernelError | None:
    submission = _submission(made, event, state.now_ns)
    verdict = check_admission(state, submission, program)
    if isinstance(verdict, KernelError):
        return verdict
    assert not isinstance(verdict, Job), "it has no key"
    job, machine = made.job, state.machine
    then, now = job.context, noise_given(state, program, submission)
    reason = changed_versions(then, machine)
    if now.applied != then.noise.applied:
        reason = f"its noise was {then.noise.applied}; the machine's would make it {now.applied}"
    elif not reason and verdict.plan.engine != then.engine:
        reason = f"the engine {then.engine} ran it, and {verdict.plan.engine} would"
    elif not reason and then.pairs != pairs_used(program):
        reason = "its Bell pairs were others than the machine makes now"
    return CheckpointIncompatible(reason=reason) if reason else None


def _restore(
    state: State, made: Checkpoint, event: Called, program: Program
) -> Admitted | KernelError:
    return admit(state, _submission(made, event, state.now_ns), program)
