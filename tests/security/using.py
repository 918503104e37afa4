"""Attempts to use what is another's: sessions, jobs, checkpoints, capabilities, keys."""

from __future__ import annotations

from typing import Any

import msgspec

from qmkd.core import effects as fx
from qmkd.core import events as ev
from syscalls.checkpoint import Checkpoint, Checkpointed, Migrate
from syscalls.derive.samples import sample_value
from syscalls.errors import (
    AccessDenied,
    AuthFailed,
    CapabilityNotFound,
    ChannelNotFound,
    CheckpointNotFound,
    IdempotencyConflict,
    InsufficientCaps,
    JobNotFound,
    KernelError,
)
from syscalls.events import Subscribe
from syscalls.job import Cancel, Status, Wait
from syscalls.rights import Right
from syscalls.session import NegotiateCaps
from tests.security.stage import (
    ATTACKER,
    MAGIC,
    VICTIM,
    Stage,
    attempt,
    calls_naming,
    everywhere,
)


@attempt("use another's", "session, in every call there is", AuthFailed)
def _(stage: Stage) -> Any:
    answers = []
    for call in calls_naming("session_id"):
        stolen = msgspec.structs.replace(sample_value(call), session_id=stage.victim)
        answers.append(stage.attack(stolen))
    return answers


@attempt("use another's", "job, in every call there is", JobNotFound)
def _(stage: Stage) -> Any:
    return everywhere(stage, "job_id", stage.job, JobNotFound)


@attempt("use another's", "checkpoint, in every call there is", CheckpointNotFound)
def _(stage: Stage) -> Any:
    job = stage.submit(stage.victim, uid=VICTIM)
    stage.call(Checkpoint(session_id=stage.victim, job_id=job), uid=VICTIM)
    number = stage.calls
    for run in stage.segments(job):
        del stage.held[run.ticket]
        stage.step(ev.SegmentParked(run.worker, run.ticket, None, 1, 10, bytes(32)))
    taken = stage.replies[number]
    assert isinstance(taken, Checkpointed), taken
    odd = everywhere(stage, "checkpoint_id", taken.checkpoint_id, CheckpointNotFound)
    return odd + everywhere(stage, "checkpoint_id", "ckpt_" + 32 * "0", CheckpointNotFound)


@attempt("use another's", "job, to keep it or to move it", JobNotFound)
def _(stage: Stage) -> Any:
    keep = stage.attack(Checkpoint(session_id=stage.session, job_id=stage.job))
    move = stage.attack(Migrate(session_id=stage.session, job_id=stage.job, target="main"))
    assert not stage.sent(fx.StopSegment)
    return [keep, move]


@attempt("use another's", "channel, in every call there is", ChannelNotFound)
def _(stage: Stage) -> Any:
    return everywhere(stage, "channel_id", "chan_" + 32 * "0", ChannelNotFound)


@attempt("use another's", "capability: revoke it, in every call there is", CapabilityNotFound)
def _(stage: Stage) -> Any:
    return everywhere(stage, "capability_id", stage.capability, CapabilityNotFound)


@attempt("use another's", "capability: open a session with it", InsufficientCaps)
def _(stage: Stage) -> Any:
    opened = stage.attack(NegotiateCaps(requested=["CAP_ALLOC", stage.capability]))
    assert opened.denied == [stage.capability]
    return stage.try_submit(opened.session_id, MAGIC, uid=ATTACKER)


@attempt("use another's", "job of one's own tenant, but of another session", AccessDenied)
def _(stage: Stage) -> Any:
    job = stage.attack_submit().job_id
    other = stage.open(uid=ATTACKER)
    return [
        stage.attack(call(session_id=other, job_id=job))
        for call in (Status, Wait, Cancel, Subscribe)
    ]


@attempt("use another's", "job, as somebody who may see every job: changing it", AccessDenied)
def _(stage: Stage) -> Any:
    name = stage.lent(Right.ADMIN)
    admin = stage.attack(NegotiateCaps(requested=[name])).session_id
    assert not isinstance(stage.attack(Status(session_id=admin, job_id=stage.job)), KernelError)
    return stage.attack(Cancel(session_id=admin, job_id=stage.job))


@attempt("use another's", "subscription: hear of jobs that are not one's own", JobNotFound)
def _(stage: Stage) -> Any:
    wide = stage.call(Subscribe(session_id=stage.session), uid=ATTACKER, conn=66)
    assert not isinstance(wide, KernelError)
    refusal = stage.call(
        Subscribe(session_id=stage.session, job_id=stage.job), uid=ATTACKER, conn=66
    )
    extra = stage.submit(stage.victim, uid=VICTIM)
    stage.call(Cancel(session_id=stage.victim, job_id=extra), uid=VICTIM)
    assert not [notice for notice in stage.notices if notice.conn == 66]
    return refusal


@attempt("use another's", "idempotency key: it names nothing of the victim's", IdempotencyConflict)
def _(stage: Stage) -> Any:
    own = stage.attack_submit(idempotency_key="mine")
    assert not own.reused
    assert own.job_id != stage.done_job
    conflict = stage.attack_submit(idempotency_key="mine", shots=2)
    assert conflict.job_id == own.job_id
    return conflict
