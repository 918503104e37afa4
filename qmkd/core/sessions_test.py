"""Who calls, through which session, and how sessions open, end and grow old."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core import sessions
from qmkd.core.conftest import Desk, bell
from qmkd.core.limits import JOB_RETAINED_NS, MS, SECOND, SESSION_IDLE_NS
from qmkd.core.ports import Quota, TenantRule
from syscalls.errors import (
    AccessDenied,
    AuthFailed,
    JobNotFound,
    QuotaExceeded,
    SessionExpired,
    TenantSuspended,
)
from syscalls.ids import TenantId
from syscalls.job import JobState, JobStatus, Status, Wait
from syscalls.session import CloseSession, NegotiateCaps, Session, SessionClosed
from syscalls.telemetry import GetTelemetry


def test_a_tenant_comes_from_the_callers_uid_or_gid(desk: Desk) -> None:
    assert desk.call(NegotiateCaps(requested=[]), uid=1).tenant_id == "alice"
    assert desk.call(NegotiateCaps(requested=[]), uid=77, gid=100).tenant_id == "alice"
    assert desk.call(NegotiateCaps(requested=[]), uid=77) == AuthFailed()
    assert desk.call(NegotiateCaps(requested=[]), uid=4) == TenantSuspended()


def test_a_named_tenant_is_checked_and_never_trusted(desk: Desk) -> None:
    def named(tenant: str) -> Any:
        return desk.call(NegotiateCaps(requested=[], tenant_id=TenantId(tenant)))

    assert isinstance(named("alice"), Session)
    for other in ("bob", "mallory", "", "nobody"):
        assert named(other) == AuthFailed()


def test_a_caller_of_two_tenants_chooses_by_name(make_desk: Callable[..., Desk]) -> None:
    both = (
        TenantRule(name="one", uids=frozenset({1})),
        TenantRule(name="two", uids=frozenset({1, 2})),
    )
    desk = make_desk(both)
    assert desk.call(NegotiateCaps(requested=[])).tenant_id == "one"
    second = desk.call(NegotiateCaps(requested=[], tenant_id=TenantId("two")))
    assert second.tenant_id == "two"
    for uid in (1, 2):
        reply = desk.call(GetTelemetry(session_id=second.session_id), uid=uid)
        assert not isinstance(reply, AuthFailed)


def test_sessions_of_a_tenant_are_bounded_and_come_back(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk((TenantRule(name="a", uids=frozenset({1}), quota=Quota(sessions=2)),))
    first = desk.open()
    desk.open()
    refused = desk.call(NegotiateCaps(requested=[]))
    assert refused == QuotaExceeded(what="sessions", limit=2, in_use=2, asked=1, waiting_helps=True)
    desk.call(CloseSession(session_id=first))
    desk.open()


def test_session_names_differ_and_come_from_the_entropy_of_the_event(desk: Desk) -> None:
    names = {desk.open() for _ in range(20)}
    assert len(names) == 20
    assert f"sess_{desk.calls.to_bytes(16, 'big').hex()}" in names


def test_closing_a_session_cancels_what_lives_and_forgets_what_is_over(desk: Desk) -> None:
    session, other = desk.open(), desk.open("CAP_ALLOC")
    over = desk.submit(session)
    desk.run_all()
    running = desk.submit(session, shots=5000)
    (run,) = desk.segments()
    assert desk.call(Wait(session_id=session, job_id=running)) is None
    waiting = desk.calls
    closed = desk.call(CloseSession(session_id=session))
    assert closed == SessionClosed(
        jobs_cancelled=1,
        jobs_forgotten=1,
        logical_qubits_released=2,
        channels_closed=0,
        subscriptions_ended=0,
    )
    assert desk.sent(fx.DropResults) == [fx.DropResults(over)]
    assert desk.call(CloseSession(session_id=session)) == AuthFailed()
    assert desk.call(Status(session_id=other, job_id=over)) == JobNotFound()
    assert desk.call(Status(session_id=other, job_id=running)) == AccessDenied()
    desk.failed(run, "stopped")
    ended = desk.replies[waiting]
    assert isinstance(ended, JobStatus)
    assert ended.state is JobState.CANCELLED
    assert desk.call(Status(session_id=other, job_id=running)) == JobNotFound()
    assert not desk.state.jobs


def test_closing_a_session_answers_a_submission_that_is_being_verified(desk: Desk) -> None:
    session = desk.open()
    assert desk.try_submit(session, bell(10_000)) is None
    asked = desk.calls
    desk.call(CloseSession(session_id=session))
    assert desk.replies[asked] == AuthFailed()
    desk.run_all()
    assert desk.state.tenants["alice"].held_bytes == 0


def test_an_idle_session_expires_and_its_name_is_remembered_for_its_tenant(desk: Desk) -> None:
    session = desk.open()
    desk.later(SESSION_IDLE_NS - MS)
    request = GetTelemetry(session_id=session)
    assert not isinstance(desk.call(request), SessionExpired)
    desk.later(SESSION_IDLE_NS + 2 * SECOND)
    assert not desk.state.sessions
    assert desk.call(request) == SessionExpired()
    assert desk.call(request, uid=2) == AuthFailed()


def test_a_session_with_a_live_job_does_not_expire(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session)
    desk.later(5 * SESSION_IDLE_NS)
    desk.run_all()
    desk.later(SESSION_IDLE_NS - MS)
    assert desk.call(Status(session_id=session, job_id=job)).state is JobState.COMPLETED


def test_only_so_many_expired_names_are_remembered(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_EXPIRED_MAX", 2)
    names = [desk.open() for _ in range(3)]
    desk.later(SESSION_IDLE_NS + 2 * SECOND)
    replies = [desk.call(GetTelemetry(session_id=name)) for name in names]
    assert replies == [AuthFailed(), SessionExpired(), SessionExpired()]


def test_a_sweep_that_would_have_too_many_effects_goes_on_in_another_step(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SWEEP_EFFECTS_MAX", 0)
    for _ in range(3):
        desk.submit(desk.open())
    desk.run_all()
    desk.now_ns += SESSION_IDLE_NS + 2 * SECOND
    lefts = set()
    while desk.state.sessions:
        desk.later(SECOND // 2)
        lefts.add(len(desk.state.sessions))
    assert lefts == {2, 1, 0}, "one in each sweep"


def test_finished_jobs_are_forgotten_after_a_day(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session)
    desk.run_all()
    end_ns = desk.now_ns + JOB_RETAINED_NS
    while desk.now_ns < end_ns:
        assert desk.call(Status(session_id=session, job_id=job)).state is JobState.COMPLETED
        desk.later(min(SESSION_IDLE_NS - MS, end_ns - desk.now_ns))
    desk.later(2 * SECOND)
    assert desk.call(Status(session_id=session, job_id=job)) == JobNotFound()


def test_a_job_of_another_tenant_is_as_one_that_does_not_exist(desk: Desk) -> None:
    job = desk.submit(desk.open())
    stranger = desk.open(uid=2)
    for name in (job, "job_none"):
        desk.call(Status(session_id=stranger, job_id=name), uid=2)  # type: ignore[arg-type]
        assert desk.out == [fx.Reply(to=ev.Origin(1, desk.calls), body=JobNotFound())]
