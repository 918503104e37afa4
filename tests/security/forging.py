"""Attempts to forge names, to guess them, and to use again what is over."""

from __future__ import annotations

from typing import Any

import msgspec

from qmkd.core.conftest import ALL
from qmkd.core.limits import (
    SESSION_IDLE_NS,
)
from syscalls.capability import Delegated, Revoke, Share
from syscalls.errors import (
    AuthFailed,
    IdempotencyConflict,
    InsufficientCaps,
    JobNotFound,
    QuotaExceeded,
    SessionExpired,
)
from syscalls.ids import JobId, SessionId, TenantId
from syscalls.job import Status
from syscalls.rights import Right
from syscalls.session import CloseSession, NegotiateCaps
from syscalls.telemetry import GetTelemetry
from tests.security.stage import (
    ATTACKER,
    MAGIC,
    STRANGER,
    VICTIM,
    Stage,
    attempt,
)


@attempt("forge", "a session of the right shape that nobody was given", AuthFailed)
def _(stage: Stage) -> Any:
    name = SessionId("sess_" + "0123456789abcdef" * 2)
    return stage.attack(Status(session_id=name, job_id=stage.job))


@attempt("forge", "things that are no session names: empty, another kind's, too long", AuthFailed)
def _(stage: Stage) -> Any:
    names = ("", stage.job, stage.capability, stage.victim[:-1], stage.victim + "0", "sess_" * 25)
    return [stage.attack(Status(session_id=SessionId(n), job_id=stage.job)) for n in names]


@attempt("forge", "a tenant that is not the caller's", AuthFailed)
def _(stage: Stage) -> Any:
    return [
        stage.attack(NegotiateCaps(requested=[], tenant_id=TenantId(name)))
        for name in ("victim", "nobody", "")
    ]


@attempt("forge", "a call by a user who is in no tenant", AuthFailed)
def _(stage: Stage) -> Any:
    opening = NegotiateCaps(requested=list(ALL))
    stolen = Status(session_id=stage.victim, job_id=stage.job)
    return [stage.attack(opening, uid=STRANGER), stage.attack(stolen, uid=STRANGER)]


@attempt("forge", "rights that policy withholds, asked for by every spelling", InsufficientCaps)
def _(stage: Stage) -> Any:
    asked = ["CAP_MAGIC", "cap_magic", "MAGIC", "*", "CAP_ROOT", "CAP_MAGIC\0", " CAP_MAGIC"]
    reply = stage.attack(NegotiateCaps(requested=[*asked, "CAP_ALLOC"]))
    assert reply.granted == ["CAP_ALLOC"]
    return stage.try_submit(reply.session_id, MAGIC, uid=ATTACKER)


@attempt("forge", "a capability of the right shape that nobody was given", InsufficientCaps)
def _(stage: Stage) -> Any:
    forged = ["cap_" + 32 * digit for digit in "0af"]
    reply = stage.attack(NegotiateCaps(requested=["CAP_ALLOC", *forged]))
    assert reply.denied == forged
    return stage.try_submit(reply.session_id, MAGIC, uid=ATTACKER)


@attempt("guess", "job names; a real one of another's and none are answered alike", JobNotFound)
def _(stage: Stage) -> Any:
    names = (stage.job, stage.done_job, JobId("job_" + 32 * "0"), JobId(""))
    answers = [stage.attack(Status(session_id=stage.session, job_id=name)) for name in names]
    assert len({msgspec.json.encode(answer) for answer in answers}) == 1
    return answers


@attempt("guess", "whether another's session exists", AuthFailed)
def _(stage: Stage) -> Any:
    names = (stage.victim, SessionId("sess_" + 32 * "0"))
    answers = [stage.attack(CloseSession(session_id=name)) for name in names]
    assert len({msgspec.json.encode(answer) for answer in answers}) == 1
    return answers


@attempt("guess", "whether a tenant exists, by delegating to it", QuotaExceeded)
def _(stage: Stage) -> Any:
    known, unknown = (stage.delegate(Right.ALLOC, tenant_id=TenantId(n)) for n in ("victim", "x"))
    assert type(known) is type(unknown) is Delegated
    return [
        stage.delegate(Right.ALLOC, tenant_id=TenantId(name), share=Share(jobs=9))
        for name in ("victim", "x")
    ]


@attempt("guess", "how much the victim does, from the machine's figures", InsufficientCaps)
def _(stage: Stage) -> Any:
    return stage.attack(GetTelemetry(session_id=stage.session, machine=True))


@attempt("replay", "a call through a session that is closed", AuthFailed)
def _(stage: Stage) -> Any:
    stage.attack(CloseSession(session_id=stage.session))
    return [stage.attack(CloseSession(session_id=stage.session)), stage.attack_submit()]


@attempt("replay", "a call through a session that expired", SessionExpired)
def _(stage: Stage) -> Any:
    stage.submit(stage.victim, MAGIC, uid=VICTIM)  # keeps the victim's session alive
    stage.later(SESSION_IDLE_NS + 2_000_000_000)
    return stage.attack_submit()


@attempt("replay", "a capability that was revoked, and one that expired", InsufficientCaps)
def _(stage: Stage) -> Any:
    names = [stage.lent(Right.MAGIC), stage.lent(Right.MAGIC, expires_after_ms=1)]
    opened = stage.attack(NegotiateCaps(requested=["CAP_ALLOC", *names]))
    assert opened.denied == []
    stage.call(Revoke(session_id=stage.victim, capability_id=names[0]), uid=VICTIM)
    stage.later(1_000_000)
    again = stage.attack(NegotiateCaps(requested=["CAP_ALLOC", *names]))
    assert again.denied == names
    sessions = (opened.session_id, again.session_id)
    return [stage.try_submit(each, MAGIC, uid=ATTACKER) for each in sessions]


@attempt("replay", "one's own submission from another session, by its key", IdempotencyConflict)
def _(stage: Stage) -> Any:
    first = stage.attack_submit(idempotency_key="k")
    assert stage.attack_submit(idempotency_key="k").job_id == first.job_id
    return stage.try_submit(stage.open(uid=ATTACKER), uid=ATTACKER, idempotency_key="k")
