"""Wishes for a job at rest: judged again at its fence, metered, refused while nothing is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.checkpoints_test import (
    NEGOTIATION,
    SHOTS,
    TWO,
    checkpoint,
    keep_all,
    migrate,
    park,
)
from qmkd.core.conftest import RULES, Desk, bell
from qmkd.core.ports import Quota
from qmkd.core.records import Recovered
from syscalls.capability import Delegate, Revoke
from syscalls.checkpoint import Checkpoint, Migrate, Migrated
from syscalls.errors import Busy, InsufficientCaps, QuotaExceeded, TenantSuspended
from syscalls.ids import CapabilityId, JobId, SessionId, TenantId
from syscalls.job import Policy, Submit
from syscalls.rights import Right
from syscalls.session import NegotiateCaps

LENT = (Right.CHECKPOINT, Right.MIGRATE)


def lent(desk: Desk, *rights: Right) -> tuple[SessionId, CapabilityId, SessionId]:
    """A session of alice, what it lends to bob, and a session of bob that holds it."""
    giver = desk.open()
    given = desk.call(
        Delegate(session_id=giver, rights=list(rights), tenant_id=TenantId("bob"))
    ).capability_id
    taker = desk.call(NegotiateCaps(requested=["CAP_ALLOC", given]), uid=2).session_id
    return giver, given, taker


def elsewhere(desk: Desk, job: JobId) -> str:
    """The one of two modules where a placed job does not lie."""
    here = {run.module for run in desk.state.jobs[job].place or ()}
    return "right" if here == {0} else "left"


@pytest.mark.parametrize("what", ["checkpoint", "migrate"])
@pytest.mark.parametrize("how", ["revoked", "suspended"])
def test_a_wish_is_refused_at_its_fence_where_the_right_to_it_ended_meanwhile(
    make_desk: Callable[..., Desk], what: str, how: str
) -> None:
    desk = make_desk(hardware=TWO, physical_qubits=160)
    desk.workers(0)
    giver, given, taker = lent(desk, *LENT)
    job = desk.submit(taker, shots=SHOTS, uid=2)
    target = elsewhere(desk, job)
    asked: dict[str, Any] = {
        "checkpoint": Checkpoint(session_id=taker, job_id=job),
        "migrate": Migrate(session_id=taker, job_id=job, target=target),
    }
    assert desk.call(asked[what], uid=2) is None
    number = desk.calls
    if how == "revoked":
        desk.call(Revoke(session_id=giver, capability_id=given))
        refused: type[Any] = InsufficientCaps
    else:
        suspended = msgspec.structs.replace(RULES[1], suspended=True)
        desk.step(ev.Configured((RULES[0], suspended, RULES[2])))
        refused = TenantSuspended
    park(desk, desk.segments()[0], done=1024)
    assert isinstance(desk.replies[number], refused)
    assert not desk.state.tenants["bob"].checkpoints
    assert desk.state.jobs[job].module is None
    assert desk.segments(job), "it goes on by itself"


def durable_desk(make_desk: Callable[..., Desk], **more: Any) -> Desk:
    desk = make_desk(durable=True, **more)
    desk.step(Recovered())
    desk.workers(0, 1)
    return desk


def told(desk: Desk, request: Any, uid: int = 1) -> Any:
    """The answer, once all that it waits for is durable."""
    desk.call(request, uid=uid)
    keep_all(desk)
    return desk.replies[desk.calls]


def durable_job(desk: Desk, session: SessionId, uid: int = 1, **policy: Any) -> JobId:
    graph = msgspec.Raw(bell())
    request = Submit(session_id=session, graph=graph, policy=Policy(**policy))
    job = told(desk, request, uid).job_id
    assert isinstance(job, str)
    return JobId(job)


def test_nothing_is_done_at_a_fence_that_could_not_be_written_down(
    make_desk: Callable[..., Desk],
) -> None:
    desk = durable_desk(make_desk, hardware=TWO, physical_qubits=160)
    session = told(desk, NEGOTIATION).session_id
    job = durable_job(desk, session, shots=SHOTS)
    assert checkpoint(desk, session, job) is None
    number = desk.calls
    desk.step(ev.KeepFailed("disk full"))
    park(desk, desk.segments()[0], done=1024)
    assert isinstance(desk.replies[number], Busy), "it does not wait for a disk without end"
    assert desk.segments(job), "it goes on by itself"
    assert isinstance(migrate(desk, session, job, elsewhere(desk, job)), Busy)
    assert not desk.sent(fx.StopSegment)


def test_a_job_is_not_moved_once_the_daemon_stops(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(hardware=TWO, physical_qubits=160)
    session = desk.open()
    job = desk.submit(session, shots=SHOTS)
    desk.step(ev.ShutDown(10**9))
    assert isinstance(migrate(desk, session, job, elsewhere(desk, job)), Busy)


def test_moves_are_metered_and_one_that_changes_nothing_writes_nothing(
    make_desk: Callable[..., Desk],
) -> None:
    rule = msgspec.structs.replace(RULES[0], quota=Quota(changes_per_minute=3))
    desk = make_desk(rules=(rule,), durable=True, hardware=TWO, physical_qubits=160)
    desk.step(Recovered())
    session = told(desk, NEGOTIATION).session_id
    job = durable_job(desk, session, shots=10)
    there = elsewhere(desk, job)
    assert isinstance(told(desk, Migrate(session_id=session, job_id=job, target=there)), Migrated)
    audited = desk.state.audited
    for _ in range(3):
        assert isinstance(migrate(desk, session, job, there), Migrated), "answered at once"
    assert desk.state.audited == audited
    refused = migrate(desk, session, job, elsewhere(desk, job))
    assert isinstance(refused, QuotaExceeded)
    assert (refused.what, refused.limit, refused.in_use) == ("changes per minute", 3, 3)


def test_a_move_is_refused_at_its_fence_where_changes_were_used_up_meanwhile(
    make_desk: Callable[..., Desk],
) -> None:
    rule = msgspec.structs.replace(RULES[0], quota=Quota(changes_per_minute=3))
    desk = make_desk(rules=(rule,), hardware=TWO, physical_qubits=160)
    desk.workers(0)
    session = desk.open()
    job = desk.submit(session, shots=SHOTS)
    assert migrate(desk, session, job, elsewhere(desk, job)) is None
    number = desk.calls
    desk.open()
    park(desk, desk.segments()[0])
    assert isinstance(desk.replies[number], QuotaExceeded)
    assert desk.state.jobs[job].module is None
