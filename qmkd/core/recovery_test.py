"""A kernel that keeps things: what a shutdown leaves for the next, and what a full disk undoes."""

from __future__ import annotations

from typing import Any

import msgspec

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.conftest import ALL, Desk, bell
from qmkd.core.limits import MS
from qmkd.core.records import EndRow, Recovered
from syscalls.errors import Busy
from syscalls.job import JobState, Noise, Policy, Submit
from syscalls.session import NegotiateCaps


def kept(desk: Desk, request: Any) -> Any:
    """Make a call, let what it changed become durable, and return its answer."""
    assert desk.call(request) is None, "nothing is acknowledged before it is durable"
    number = desk.calls
    desk.step(ev.Kept(desk.state.keeps))
    return desk.replies[number]


def begun() -> tuple[Desk, str, fx.RunSegment]:
    """A desk with one job, of which a slice is in a worker's hands."""
    desk = Desk(durable=True)
    desk.step(Recovered())
    desk.workers(0)
    session = kept(desk, NegotiateCaps(requested=list(ALL))).session_id
    policy = Policy(shots=5_000, noise=Noise.IDEAL)
    job = kept(desk, Submit(session_id=session, graph=msgspec.Raw(bell()), policy=policy)).job_id
    ((_, segment),) = desk.held.items()
    assert isinstance(segment, fx.RunSegment)
    return desk, job, segment


def test_a_slice_that_a_shutdown_stops_is_left_for_the_next_daemon() -> None:
    desk, job, segment = begun()
    desk.step(ev.ShutDown(50 * MS))
    while due := [token for token, at_ns in desk.timers.items() if at_ns <= desk.now_ns]:
        del desk.timers[due[0]]
        desk.step(ev.TimerFired(due[0]))  # tenants are stopped one after the other
    out = desk.step(ev.SegmentFailed(segment.worker, segment.ticket, "stopped", "", 1))
    keeps = [effect for effect in out if isinstance(effect, fx.Keep)]
    assert not any(isinstance(row, EndRow) for keep in keeps for row in keep.rows)
    desk.step(ev.Kept(desk.state.keeps))
    record = desk.state.jobs[job]  # type: ignore[index]
    assert record.final is None
    assert record.state is JobState.RUNNING
    assert desk.state.halted


def test_a_job_that_cannot_be_kept_is_refused_and_forgotten() -> None:
    desk, _, _ = begun()
    session = next(iter(desk.state.sessions))
    policy = Policy(shots=10, noise=Noise.IDEAL)
    assert desk.call(Submit(session_id=session, graph=msgspec.Raw(bell()), policy=policy)) is None
    number = desk.calls
    before = set(desk.state.jobs)
    desk.step(ev.KeepFailed("disk full"))
    assert isinstance(desk.replies[number], Busy)
    again = desk.call(Submit(session_id=session, graph=msgspec.Raw(bell()), policy=policy))
    assert isinstance(again, Busy), "nothing new is taken on until the disk is well"
    desk.step(ev.Kept(desk.state.keeps))
    assert len(desk.state.jobs) == len(before) - 1, "a refused job leaves nothing behind"
    assert not desk.state.keep_failed
