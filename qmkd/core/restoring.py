"""q_restore: a job that goes on from a checkpoint, as a new job whose result is the same.

It is admitted as a submission is, through the same checks. Where there is a store, all that it has
of the checkpoint is read first: what is damaged is refused, not run.
"""

from __future__ import annotations

from msgspec.structs import replace

from qmkd.core import programs
from qmkd.core.admission import Admitted, Allowed, accept, check_admission
from qmkd.core.checkpoints import find, snapshots
from qmkd.core.effects import VerifyCheckpoint
from qmkd.core.events import Called, CheckpointVerified
from qmkd.core.keeping import say
from qmkd.core.replaying import read_first, who_waited
from qmkd.core.state import Checkpoint, Job, Program, Session, State, Submission
from qmkd.core.wording import changed_versions, pairs_used
from syscalls.checkpoint import Restore
from syscalls.errors import CheckpointIncompatible, KernelError


def q_restore(state: State, session: Session, event: Called) -> Admitted | KernelError | None:
    """q_restore. None: the checkpoint is being read; the answer comes later."""
    request = event.request
    assert isinstance(request, Restore)
    made = find(session, request.checkpoint_id)
    if isinstance(made, KernelError):
        return made
    policy = replace(made.job.policy, seed=made.job.seed, idempotency_key=None)
    submission = Submission(session, policy, made.graph, event.entropy, state.now_ns, restores=made)
    program = _program(made)
    allowed = _check(state, submission, made, program)
    if isinstance(allowed, KernelError):
        return allowed
    if not state.machine.durable:
        return accept(state, submission, program, allowed)
    tickets = tuple(row.ticket for row in snapshots(made.job))
    return read_first(
        state,
        submission,
        event.origin,
        lambda ticket: VerifyCheckpoint(ticket, made.row.id, tickets),
    )


def verified(state: State, event: CheckpointVerified) -> None:
    """The store has read a checkpoint, and says whether all of it is whole."""
    if (found := who_waited(state, event.ticket)) is not None:
        submission, origin = found
        say(state, origin, _go_on(state, submission, event.why))


def _go_on(state: State, submission: Submission, why: str) -> Admitted | KernelError:
    """Restore it, if it may be still. why: it is damaged."""
    assert submission.restores is not None
    made = find(submission.session, submission.restores.row.id)
    if isinstance(made, KernelError):
        return made
    program = _program(made)
    allowed = _check(state, submission, made, program)
    if isinstance(allowed, KernelError):
        return allowed
    if why:
        return CheckpointIncompatible(reason=f"it is damaged: {why}")
    return accept(state, submission, program, allowed)


def _program(made: Checkpoint) -> Program:
    """The program as it is known, or from its bytes anew; they were verified once."""
    tenant, program = made.session.tenant, made.job.program
    found = programs.find(tenant, made.graph)
    if found is None and not program.graph:
        found = programs.describe(tenant, made.graph, program.summary, program.warnings)
    return programs.enlarged(found or program, made.job.context.raised)


def _check(
    state: State, submission: Submission, made: Checkpoint, program: Program
) -> Allowed | KernelError:
    verdict = check_admission(state, submission, program)
    if isinstance(verdict, KernelError):
        return verdict
    assert not isinstance(verdict, Job), "it has no key"
    then, now = made.job.context, verdict.noise
    reason = changed_versions(then, state.machine)
    if now.applied != then.noise.applied:
        reason = f"its noise was {then.noise.applied}; the machine's would make it {now.applied}"
    elif not reason and verdict.plan.engine != then.engine:
        reason = f"the engine {then.engine} ran it, and {verdict.plan.engine} would"
    elif not reason and then.pairs != pairs_used(program):
        reason = "its Bell pairs were others than the machine makes now"
    return CheckpointIncompatible(reason=reason) if reason else verdict
