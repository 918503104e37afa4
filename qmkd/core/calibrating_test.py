"""Points that no table knows: who waits for them, who measures them, and how all of it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qmkd.core import calibrating
from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.conftest import Desk, bell
from qmkd.core.limits import ATTEMPTS_MAX, POINT_NS_MAX
from qmkd.core.ports import Point
from syscalls.errors import NotAvailable
from syscalls.ids import JobId, SessionId
from syscalls.job import Cancel, JobState, JobStatus, Noise, Status

POINT = Point("Surface", 3, "si1000", 0.002)
OTHER = Point("Surface", 5, "si1000", 0.002)


@pytest.fixture
def measuring(make_desk: Callable[..., Desk]) -> Desk:
    """Two workers, and tables that know nothing."""
    desk = make_desk(measurable={"Surface": 9}, calibration="sha256:1")
    desk.workers(0, 1)
    return desk


def submitted(desk: Desk, session: SessionId, shots: int = 200_000, **policy: Any) -> JobId:
    return desk.submit(session, bell(), shots=shots, noise=Noise.CALIBRATED, **policy)


def seen(desk: Desk, session: SessionId, job: JobId) -> JobStatus:
    status = desk.call(Status(session_id=session, job_id=job))
    assert isinstance(status, JobStatus)
    return status


def asked(desk: Desk) -> list[fx.Calibrate]:
    """What workers measure."""
    return [unit for unit in desk.held.values() if isinstance(unit, fx.Calibrate)]


def lacks(desk: Desk, run: fx.RunSegment, point: Point = POINT) -> None:
    """The worker cannot run it without the point."""
    del desk.held[run.ticket]
    desk.step(ev.SegmentFailed(run.worker, run.ticket, "uncalibrated", "so", point=point))


def all_lack(desk: Desk, point: Point = POINT) -> None:
    while runs := desk.segments():
        lacks(desk, runs[0], point)


def measured(desk: Desk, table: str, why: str = "") -> None:
    (unit,) = asked(desk)
    del desk.held[unit.ticket]
    desk.step(ev.Calibrated(unit.worker, unit.ticket, table, why))


def test_a_job_waits_for_its_point_and_then_runs_with_the_new_table(measuring: Desk) -> None:
    desk = measuring
    session = desk.open()
    job = submitted(desk, session)
    assert len(desk.segments(job)) == 2
    all_lack(desk)
    (unit,) = asked(desk)
    assert (unit.point, unit.table) == (POINT, "")
    status = seen(desk, session, job)
    assert status.state is JobState.RUNNING
    assert status.waits_for == (
        "the errors of Surface d=3 under si1000 noise of 0.002 are being measured"
    )
    measured(desk, "sha256:2")
    assert {run.setting.table for run in desk.segments(job)} == {"sha256:2"}
    assert seen(desk, session, job).waits_for is None
    desk.run_all()
    status = seen(desk, session, job)
    assert status.state is JobState.COMPLETED
    assert status.execution_context is not None
    assert status.execution_context.calibration == "sha256:1+sha256:2"


def test_others_run_meanwhile_and_points_are_measured_one_at_a_time(measuring: Desk) -> None:
    desk = measuring
    session = desk.open()
    first = submitted(desk, session)
    all_lack(desk)
    second = submitted(desk, session, priority=1)
    lacks(desk, desk.segments(second)[0], OTHER)
    assert [unit.point for unit in asked(desk)] == [POINT]
    third = desk.submit(session, bell(), shots=100, noise=Noise.IDEAL)
    (run,) = desk.segments(third)
    desk.done(run)
    assert seen(desk, session, third).state is JobState.COMPLETED
    measured(desk, "sha256:2")
    assert [unit.point for unit in asked(desk)] == [OTHER]
    assert desk.segments(first)
    measured(desk, "sha256:3")
    desk.run_all()
    for job in (first, second):
        assert seen(desk, session, job).state is JobState.COMPLETED


def test_what_cannot_be_measured_is_refused_with_the_reason_and_not_tried_again(
    measuring: Desk,
) -> None:
    desk = measuring
    session = desk.open()
    for _ in range(2):
        job = submitted(desk, session)
        all_lack(desk)
        if asked(desk):
            measured(desk, "", "too few errors are seen")
            all_lack(desk)
        status = seen(desk, session, job)
        assert status.state is JobState.FAILED
        assert status.error is not None
        assert status.error.type == NotAvailable.NAME
        assert "too few errors are seen" in status.error.message
        assert not asked(desk)


@pytest.mark.parametrize("point", [Point("Surface", 11, "uniform", 0.1), Point("SHYPS", 4, "a", 1)])
def test_what_is_too_dear_to_measure_is_refused_at_once(measuring: Desk, point: Point) -> None:
    desk = measuring
    session = desk.open()
    job = submitted(desk, session)
    all_lack(desk, point)
    assert not asked(desk)
    error = seen(desk, session, job).error
    assert error is not None
    assert "too dear to measure" in error.message


def test_only_so_many_points_are_measured(measuring: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrating, "POINTS_MEASURED_MAX", 1)
    desk = measuring
    session = desk.open()
    submitted(desk, session)
    all_lack(desk)
    measured(desk, "sha256:2")
    desk.run_all()
    job = submitted(desk, session)
    all_lack(desk, OTHER)
    error = seen(desk, session, job).error
    assert error is not None
    assert "no more than 1 points" in error.message


def test_a_job_stops_at_once_while_it_waits_and_the_point_is_still_learnt(measuring: Desk) -> None:
    desk = measuring
    session = desk.open()
    job = submitted(desk, session)
    all_lack(desk)
    stopped = desk.call(Cancel(session_id=session, job_id=job))
    assert isinstance(stopped, JobStatus)
    assert stopped.state is JobState.CANCELLED
    measured(desk, "sha256:2")
    again = submitted(desk, session)
    assert {run.setting.table for run in desk.segments(again)} == {"sha256:2"}


def test_a_point_that_nobody_waits_for_any_more_is_not_begun(measuring: Desk) -> None:
    desk = measuring
    session = desk.open()
    submitted(desk, session)
    all_lack(desk)
    second = submitted(desk, session)
    all_lack(desk, OTHER)
    assert list(desk.state.wanted) == [POINT, OTHER]
    desk.call(Cancel(session_id=session, job_id=second))
    assert list(desk.state.wanted) == [POINT]


def test_a_point_over_which_workers_die_is_given_up(measuring: Desk) -> None:
    desk = measuring
    session = desk.open()
    job = submitted(desk, session)
    all_lack(desk)
    for _ in range(ATTEMPTS_MAX):
        (unit,) = asked(desk)
        desk.lose(unit.worker)
        desk.workers(unit.worker)
    assert not asked(desk)
    all_lack(desk)
    error = seen(desk, session, job).error
    assert error is not None
    assert "workers were lost over it, 3 times" in error.message


def test_a_point_that_takes_too_long_costs_its_worker_and_is_given_up(measuring: Desk) -> None:
    desk = measuring
    session = desk.open()
    job = submitted(desk, session)
    all_lack(desk)
    (unit,) = asked(desk)
    desk.later(POINT_NS_MAX)
    assert [effect.worker for effect in desk.sent(fx.KillWorker)] == [unit.worker]
    desk.lose(unit.worker)
    all_lack(desk)
    error = seen(desk, session, job).error
    assert error is not None
    assert "takes longer than 300 s" in error.message


def test_a_slice_of_before_goes_on_with_the_table_of_now(measuring: Desk) -> None:
    desk = measuring
    session = desk.open()
    job = submitted(desk, session)
    early, late = desk.segments(job)
    lacks(desk, early)
    measured(desk, "sha256:2")
    lacks(desk, late)
    assert not asked(desk)
    assert {run.setting.table for run in desk.segments(job)} == {"sha256:2"}
    desk.run_all()
    assert seen(desk, session, job).state is JobState.COMPLETED


def test_a_worker_that_lacks_what_it_was_given_is_at_fault(measuring: Desk) -> None:
    desk = measuring
    session = desk.open()
    job = submitted(desk, session)
    all_lack(desk)
    measured(desk, "sha256:2")
    all_lack(desk)
    error = seen(desk, session, job).error
    assert error is not None
    assert error.type == "INTERNAL_ERROR"


def test_news_of_a_point_that_nobody_measures_changes_nothing(measuring: Desk) -> None:
    desk = measuring
    desk.step(ev.Calibrated(0, 77, "sha256:9"))
    assert desk.state.table == ""
    assert [note.what for note in desk.sent(fx.Note)] == ["stray answer of a worker"]


def test_a_shutdown_does_not_wait_for_a_point(measuring: Desk) -> None:
    desk = measuring
    session = desk.open()
    submitted(desk, session)
    all_lack(desk)
    desk.step(ev.ShutDown(1_000))
    desk.later(1_000_000)
    assert desk.state.halted
