"""A job's life: its moves, its stops, its end, and what is given back."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest

from qmkd.core import effects as fx
from qmkd.core import jobs
from qmkd.core.conftest import Desk, bell
from qmkd.core.jobs import JOB_MOVES, Move
from qmkd.core.limits import JOBS_RETAINED_MAX, MS, STOP_GRACE_NS
from qmkd.core.ports import Quota, TenantRule
from syscalls.errors import (
    AccessDenied,
    AlreadyCompleted,
    JobNotFound,
    NotCompleted,
    ResultsDropped,
    Timeout,
)
from syscalls.job import FINAL_STATES, Cancel, JobError, JobState, Status, Wait
from syscalls.results import Results
from syscalls.session import CloseSession


def cancelled(desk: Desk, **stop: int) -> None:
    """Whatever runs answers its stop."""
    for run in desk.segments():
        desk.failed(run, "stopped", **stop)


@pytest.mark.parametrize("state", JobState)
def test_a_final_state_is_left_by_no_move_and_every_other_seen_one_by_a_cancel(
    state: JobState,
) -> None:
    moves = JOB_MOVES[state]
    if state in FINAL_STATES or state is JobState.VALIDATING:
        assert not moves
    else:
        assert moves[Move.CANCEL] is JobState.CANCELLED


@pytest.mark.parametrize("move", Move)
@pytest.mark.parametrize("state", JobState)
def test_a_move_that_is_not_in_the_table_stops_the_kernel(
    desk: Desk, state: JobState, move: Move
) -> None:
    name = desk.submit(desk.open())
    job = desk.state.jobs[name]
    job.state = state
    job.session.tally[state] += 1
    if move in JOB_MOVES[state]:
        jobs._move(desk.state, job, move)
        assert job.state is JOB_MOVES[state][move]
    else:
        with pytest.raises(AssertionError, match="cannot"):
            jobs._move(desk.state, job, move)


def test_every_state_can_be_reached_but_validating() -> None:
    reached = {after for moves in JOB_MOVES.values() for after in moves.values()}
    assert reached == set(JobState) - {JobState.QUEUED, JobState.VALIDATING}


# --- cancelling ---------------------------------------------------------------------------------


def test_a_queued_job_is_cancelled_at_once(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    session = desk.open()
    job = desk.submit(session)
    reply = desk.call(Cancel(session_id=session, job_id=job))
    assert (reply.state, reply.cancelled_at_epoch, reply.error) == (JobState.CANCELLED, 0, None)
    assert not desk.sent(fx.DropResults), "it never had rows"


def test_a_running_job_is_asked_to_stop_and_everyone_is_answered_when_it_has(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, shots=200_000)
    calls = []
    assert desk.call(Wait(session_id=session, job_id=job)) is None
    calls.append(desk.calls)
    for _ in range(2):
        assert desk.call(Cancel(session_id=session, job_id=job)) is None
        calls.append(desk.calls)
    assert [run.ticket for run in desk.segments()] == list(desk.held)
    cancelled(desk, epoch=1)
    replies = [desk.replies[call] for call in calls]
    assert replies[0] == replies[1] == replies[2]
    assert replies[0].state is JobState.CANCELLED
    assert replies[0].cancelled_at_epoch == 1
    assert desk.sent(fx.DropResults) == [fx.DropResults(job)]
    assert desk.call(Cancel(session_id=session, job_id=job)) == AlreadyCompleted(state="CANCELLED")
    assert desk.call(Results(session_id=session, job_id=job)) == NotCompleted(state="CANCELLED")


def test_a_stop_that_comes_after_the_last_shot_still_cancels(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session)
    assert desk.call(Cancel(session_id=session, job_id=job)) is None
    asked = desk.calls
    desk.run_all()
    assert desk.replies[asked].state is JobState.CANCELLED
    assert not desk.sent(fx.SealResults)


def test_a_worker_that_does_not_stop_is_killed_after_the_grace(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session)
    (run,) = desk.segments()
    assert desk.call(Cancel(session_id=session, job_id=job)) is None
    asked = desk.calls
    assert desk.sent(fx.StopSegment) == [fx.StopSegment(run.worker, run.ticket)]
    desk.later(STOP_GRACE_NS - 1)
    assert not desk.sent(fx.KillWorker)
    desk.later(1)
    assert desk.sent(fx.KillWorker) == [fx.KillWorker(run.worker)]
    assert desk.call(Status(session_id=session, job_id=job)).state is JobState.RUNNING
    desk.lose(run.worker)
    assert desk.replies[asked].state is JobState.CANCELLED


def test_innocent_work_on_a_killed_worker_runs_again_without_blame(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(workers=1)
    desk.workers(0)
    session = desk.open()
    guilty, innocent = desk.submit(session, shots=10), desk.submit(session, shots=20)
    assert [run.job_id for run in desk.segments()] == [guilty, innocent]
    desk.call(Cancel(session_id=session, job_id=guilty))
    desk.later(STOP_GRACE_NS)
    desk.lose(0)
    desk.workers(0)
    (again,) = desk.segments()
    assert (again.job_id, again.shots) == (innocent, 20)
    (segment,) = desk.state.jobs[innocent].segments.values()
    assert segment.slice.attempts == 0
    desk.run_all()
    assert desk.call(Status(session_id=session, job_id=innocent)).counts == {"00": 20}


# --- time limits --------------------------------------------------------------------------------


def test_a_job_that_runs_longer_than_its_policy_allows_has_failed(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, timeout_ms=30)
    desk.later(30 * MS)
    assert desk.sent(fx.StopSegment)
    assert desk.call(Cancel(session_id=session, job_id=job)) is None
    asked = desk.calls
    cancelled(desk)
    reply = desk.call(Status(session_id=session, job_id=job))
    assert reply.state is JobState.FAILED
    assert reply.error == JobError.of(Timeout(timeout_ms=30))
    assert desk.replies[asked] == AlreadyCompleted(state="FAILED")


def test_the_time_limit_counts_from_the_start_and_ends_with_the_job(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk()
    session = desk.open()
    job = desk.submit(session, timeout_ms=30)
    desk.later(100 * MS)
    desk.workers(0)
    desk.later(29 * MS)
    desk.run_all()
    status = desk.call(Status(session_id=session, job_id=job))
    assert status.state is JobState.COMPLETED
    assert status.telemetry.queue_time_ms == 100.0
    assert status.telemetry.execution_time_ms == 29.0
    desk.later(100 * MS)
    assert desk.call(Status(session_id=session, job_id=job)) == status


# --- ends ---------------------------------------------------------------------------------------


def test_a_completed_job_shows_counts_digest_and_where_it_ran(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, shots=1500, seed=7)
    (run,) = desk.segments()
    desk.done(run, counts={"00": 700, "11": 800}, first_row={"m0": 1}, leaves=b"a" * 32 + b"b" * 32)
    assert isinstance(desk.out[0], fx.SealResults)
    status = desk.call(Status(session_id=session, job_id=job))
    assert status.counts == {"00": 700, "11": 800}
    assert status.events == {"m0": 1}
    context = status.execution_context
    assert context.results_digest == sha256(b"a" * 32 + b"b" * 32).hexdigest()
    assert (context.seed, context.workers_used, context.engine) == (7, 1, "fake")
    assert context.profiles[0].applied == "logical:Surface(d=3)"
    assert status.progress.shots_done == status.progress.shots_total == 1500
    assert status.progress.current_epoch == status.progress.total_epochs == 2
    assert status.peak_resources.physical_qubits == 34
    assert status.telemetry.total_gates == 2 * 1500


def test_quotas_and_counters_are_given_back_over_ten_thousand_jobs(desk: Desk) -> None:
    session = desk.open("CAP_ALLOC", uid=2)
    tenant = desk.state.tenants["bob"]
    desk.watched = False
    for turn in range(10_000):
        job = desk.submit(session, uid=2, shots=1 + turn % 3)
        desk.call(Cancel(session_id=session, job_id=job), uid=2)
        cancelled(desk)
    desk.watched = True
    assert (tenant.live, tenant.logical, tenant.physical, tenant.parked) == (0, 0, 0, 0)
    assert (tenant.held_bytes, tenant.rows_live, tenant.kept_bytes) == (0, 0, 0)
    assert desk.state.live == desk.state.physical == desk.state.parked == 0
    assert len(tenant.finished) == JOBS_RETAINED_MAX
    desk.call(CloseSession(session_id=session), uid=2)
    assert not desk.state.jobs
    assert set(desk.state.timers) == {desk.state.sweep}


# --- keeping and forgetting ---------------------------------------------------------------------


def test_the_oldest_finished_jobs_are_forgotten_beyond_their_number(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in ("qmkd.core.jobs", "tests.simulation.invariants"):
        monkeypatch.setattr(f"{room}.JOBS_RETAINED_MAX", 2)
    session = desk.open()
    names = []
    for _ in range(3):
        names.append(desk.submit(session))
        desk.run_all()
    assert desk.sent(fx.DropResults) == [fx.DropResults(names[0])]
    assert desk.call(Status(session_id=session, job_id=names[0])) == JobNotFound()
    assert desk.call(Status(session_id=session, job_id=names[1])).counts == {"00": 1}


def test_results_beyond_their_bytes_are_dropped_oldest_first_but_the_job_is_remembered(
    make_desk: Callable[..., Desk],
) -> None:
    quota = Quota(result_bytes=4500)
    desk = make_desk((TenantRule(name="a", uids=frozenset({1}), quota=quota),))
    desk.workers(0)
    session = desk.open()
    first = desk.submit(session, shots=1000)
    desk.run_all()
    before = desk.call(Status(session_id=session, job_id=first))
    second = desk.submit(session, shots=1000)
    desk.submit(session, shots=1000)
    assert desk.sent(fx.DropResults) == [fx.DropResults(first)], "makes room for what is to come"
    assert desk.call(Results(session_id=session, job_id=first)) == ResultsDropped()
    after = desk.call(Status(session_id=session, job_id=first))
    assert after.counts is None
    assert after.counts_omitted
    assert (after.state, after.completed_at) == (before.state, before.completed_at)
    assert after.execution_context == before.execution_context
    desk.run_all()
    assert desk.call(Status(session_id=session, job_id=second)).counts == {"00": 1000}


# --- whose job ----------------------------------------------------------------------------------


def test_a_job_of_another_session_of_ones_own_tenant_is_denied(desk: Desk) -> None:
    job = desk.submit(desk.open())
    other = desk.open("CAP_ALLOC")
    for request in (
        Status(session_id=other, job_id=job),
        Wait(session_id=other, job_id=job),
        Cancel(session_id=other, job_id=job),
        Results(session_id=other, job_id=job),
    ):
        assert desk.call(request) == AccessDenied()


def test_an_administrator_sees_every_job_and_changes_none(desk: Desk) -> None:
    job = desk.submit(desk.open(uid=2), uid=2)
    admin = desk.open("CAP_ADMIN")
    assert desk.call(Status(session_id=admin, job_id=job)).job_id == job
    assert desk.call(Cancel(session_id=admin, job_id=job)) == AccessDenied()
    assert desk.call(Wait(session_id=admin, job_id=job)) is None
    asked = desk.calls
    desk.run_all()
    assert desk.replies[asked].state is JobState.COMPLETED


def test_many_jobs_of_one_program_hold_it_once(desk: Desk) -> None:
    session = desk.open()
    for _ in range(4):
        desk.submit(session, bell())
    numbers = {run.program for run in desk.segments()}
    assert len(numbers) == 1
