"""Requests that wait, connections that end, subscriptions."""

from __future__ import annotations

from itertools import pairwise

import pytest

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.conftest import Desk
from qmkd.core.limits import MS, PROGRESS_NS_MIN, SUBSCRIPTIONS_MAX
from syscalls.errors import Busy, QuotaExceeded, Timeout
from syscalls.events import JobEvent, Subscribe, Subscribed
from syscalls.job import Cancel, JobState, Wait
from syscalls.session import CloseSession


def events(desk: Desk, conn: int = 1) -> list[JobEvent]:
    bodies = [notice.body for notice in desk.notices if notice.conn == conn]
    assert all(isinstance(body, JobEvent) for body in bodies)
    return bodies  # type: ignore[return-value]


# --- waits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout_ms", [None, 0])
def test_a_wait_without_bound_is_answered_when_the_job_ends(
    desk: Desk, timeout_ms: int | None
) -> None:
    session = desk.open()
    job = desk.submit(session)
    timers = dict(desk.timers)
    assert desk.call(Wait(session_id=session, job_id=job, timeout_ms=timeout_ms)) is None
    assert desk.timers == timers
    asked = desk.calls
    desk.run_all()
    assert desk.replies[asked].state is JobState.COMPLETED
    assert desk.call(Wait(session_id=session, job_id=job)) == desk.replies[asked]


def test_a_bounded_wait_ends_in_time_and_may_be_asked_again(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session)
    assert desk.call(Wait(session_id=session, job_id=job, timeout_ms=5)) is None
    asked = desk.calls
    desk.later(5 * MS - 1)
    assert asked not in desk.replies
    desk.later(1)
    assert desk.replies[asked] == Timeout(timeout_ms=5)
    assert desk.call(Wait(session_id=session, job_id=job, timeout_ms=5)) is None
    again = desk.calls
    desk.run_all()
    assert desk.replies[again].state is JobState.COMPLETED
    assert set(desk.timers) == {desk.state.sweep}, "the timer of an answered wait is cancelled"


def test_a_timer_that_fires_too_early_is_set_again_and_a_cancelled_one_is_ignored(
    desk: Desk,
) -> None:
    session = desk.open()
    job = desk.submit(session)
    desk.call(Wait(session_id=session, job_id=job, timeout_ms=5))
    (timer,) = desk.sent(fx.SetTimer)
    assert desk.step(ev.TimerFired(timer.token)) == [timer]
    assert desk.step(ev.TimerFired(987654)) == []


def test_nothing_is_answered_on_a_connection_that_has_ended(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session)
    for number in range(3):
        desk.call(Wait(session_id=session, job_id=job, timeout_ms=number), conn=2)
    desk.call(Cancel(session_id=session, job_id=job), conn=2)
    desk.step(ev.ClientGone(2))
    assert not desk.state.connections
    for run in desk.segments():
        desk.failed(run, "stopped")
    assert not desk.sent(fx.Reply)
    assert not desk.state.jobs[job].waiting


def test_only_so_many_requests_wait_for_one_tenants_jobs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qmkd.core.waiting.PARKED_MAX", 2)
    session = desk.open()
    job = desk.submit(session)
    for _ in range(2):
        assert desk.call(Wait(session_id=session, job_id=job)) is None
    refused = desk.call(Wait(session_id=session, job_id=job))
    assert isinstance(refused, Busy)
    assert refused.retryable
    assert isinstance(desk.call(Cancel(session_id=session, job_id=job)), Busy)
    desk.run_all()
    assert desk.state.tenants["alice"].parked == 0


# --- subscriptions ------------------------------------------------------------------------------


def test_a_subscriber_hears_where_the_job_is_then_how_it_goes_on_then_its_end(
    desk: Desk,
) -> None:
    session = desk.open()
    job = desk.submit(session, shots=40_000)
    assert isinstance(desk.call(Subscribe(session_id=session, job_id=job)), Subscribed)
    kinds = [type(effect) for effect in desk.out]
    assert kinds == [fx.Reply, fx.Notify], "the answer comes before the first notification"
    desk.later(PROGRESS_NS_MIN)
    desk.run_all()
    told = events(desk)
    assert told[0].state is JobState.RUNNING
    assert told[-1].state is JobState.COMPLETED
    assert told[-1].progress.shots_done == 40_000
    assert any(event.kind == "progress" for event in told)
    seqs = [event.seq for event in told]
    assert seqs == sorted(set(seqs))
    assert not desk.state.connections, "the subscription has ended with its job"


def test_a_whole_session_is_followed_from_each_jobs_submission(desk: Desk) -> None:
    session = desk.open()
    desk.call(Subscribe(session_id=session))
    job = desk.submit(session)
    desk.run_all()
    states = [event.state for event in events(desk) if event.job_id == job]
    assert states == [JobState.QUEUED, JobState.RUNNING, JobState.COMPLETED]
    desk.submit(desk.open())
    assert len(events(desk)) == 3, "another session's jobs are not told"


def test_progress_is_told_at_most_ten_times_a_second_and_gaps_show_in_seq(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, shots=2_000_000)
    desk.call(Subscribe(session_id=session, job_id=job))
    while desk.held:
        desk.later(10 * MS)
        desk.done(desk.segments()[0])
    told = [event for event in events(desk) if event.kind == "progress"]
    seconds = (desk.now_ns - 1_700_000_000 * 10**9) / 1e9
    assert 2 < len(told) <= 10 * seconds + 1
    gaps = [b.seq - a.seq for a, b in pairwise(told)]
    assert max(gaps) > 1


def test_a_job_that_is_over_is_told_once(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session)
    desk.run_all()
    desk.call(Subscribe(session_id=session, job_id=job))
    (told,) = events(desk)
    assert told.state is JobState.COMPLETED
    assert not desk.state.connections


def test_subscriptions_are_bounded_and_end_with_their_session_or_connection(desk: Desk) -> None:
    session = desk.open()
    for conn in range(SUBSCRIPTIONS_MAX):
        assert isinstance(desk.call(Subscribe(session_id=session), conn=conn + 1), Subscribed)
    assert isinstance(desk.call(Subscribe(session_id=session)), QuotaExceeded)
    desk.step(ev.ClientGone(1))
    desk.call(Subscribe(session_id=session), conn=50)
    closed = desk.call(CloseSession(session_id=session))
    assert closed.subscriptions_ended == SUBSCRIPTIONS_MAX
    assert not desk.state.connections
