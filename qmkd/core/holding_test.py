"""Qubits that sessions hold: given, named, waited for, given back; with what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.conftest import RULES, Desk
from qmkd.core.ports import Quota, TenantRule
from qmkd.core.records import HandleRow, Recovered, SessionRow
from qvm.machine import Hardware, Link, Module
from syscalls.capability import Delegate, Delegated, Revoke, Share
from syscalls.errors import (
    Busy,
    HandleNotFound,
    InsufficientCaps,
    InvalidGraph,
    InvalidParams,
    NotBrokered,
    QuotaExceeded,
    ResourceExhausted,
)
from syscalls.ids import HandleId, JobId, SessionId, TenantId, is_handle
from syscalls.job import Cancel, JobState, Noise, Status
from syscalls.qubit import Alloc, Allocated, Release, Released
from syscalls.rights import Right
from syscalls.session import CloseSession, NegotiateCaps, SessionClosed
from syscalls.telemetry import GetMapping, GetTelemetry

SURFACE = "logical:Surface(d=3)"  # of 17 physical qubits
SMALL = (*RULES[:1], TenantRule(name="bob", uids=frozenset({2}), quota=Quota(logical_qubits=3)))
APART = Hardware(
    name="apart",
    module=tuple(Module(name=name, qubits=40) for name in ("left", "right", "far")),
    link=(Link(between=("left", "right"), cycles=10.0, fidelity=0.9),),
)


def naming(*names: str, profile: str = SURFACE, more: int = 0) -> bytes:
    """A program whose first qubits have these names, in a chain of CNOTs."""
    vqs = [*names, *(f"q{at}" for at in range(more))]
    nodes: list[dict[str, Any]] = [
        {"id": "a", "op": "ALLOC_LQ", "args": {"n": len(vqs), "profile": profile}, "vqs": vqs},
        *(
            {"id": f"c{at}", "op": "APPLY_CNOT", "vqs": [vqs[at], vqs[at + 1]]}
            for at in range(len(vqs) - 1)
        ),
        {"id": "m", "op": "MEASURE_Z", "vqs": [vqs[0]], "produces": ["m0"]},
        {"id": "f", "op": "FREE_LQ", "vqs": vqs},
    ]
    resources = {"vqs": vqs, "chs": [], "events": ["m0"]}
    return json.dumps(
        {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    ).encode()


def alloc(
    desk: Desk, session: SessionId, n: int = 1, profile: str = SURFACE, uid: int = 1, **more: Any
) -> list[HandleId]:
    reply = desk.call(Alloc(session_id=session, n=n, profile=profile, **more), uid=uid)
    assert isinstance(reply, Allocated), reply
    return reply.handles


def release(desk: Desk, session: SessionId, *handles: HandleId, uid: int = 1) -> Any:
    return desk.call(Release(session_id=session, handles=list(handles)), uid=uid)


def status(desk: Desk, session: SessionId, job: JobId, uid: int = 1) -> Any:
    return desk.call(Status(session_id=session, job_id=job), uid=uid)


def held(desk: Desk) -> tuple[int, int, int]:
    """Physical qubits of the machine, and both kinds that count for alice."""
    alice = desk.state.tenants["alice"]
    return desk.state.physical, alice.logical, alice.physical


@pytest.fixture
def apart() -> Desk:
    made = Desk(SMALL, physical_qubits=120, hardware=APART)
    made.workers(0, 1)
    return made


def test_handles_are_given_at_once_counted_shown_and_given_back_once(desk: Desk) -> None:
    session = desk.open()
    handles = alloc(desk, session, 3)
    assert len({*handles}) == 3
    assert all(map(is_handle, handles))
    assert held(desk) == (51, 3, 51)
    shown = desk.call(GetTelemetry(session_id=session))
    assert [each.handle for each in shown.qubits] == handles
    assert shown.resource_usage.logical_qubits_allocated == 3
    assert shown.resource_usage.physical_qubits_used == 51
    assert shown.resource_usage.physical_qubits_available == Quota().physical_qubits - 51
    assert isinstance(release(desk, session, handles[0], handles[0]), Released)
    assert held(desk) == (34, 2, 34)
    assert isinstance(release(desk, session, handles[0]), HandleNotFound)
    closed = desk.call(CloseSession(session_id=session))
    assert isinstance(closed, SessionClosed)
    assert closed.logical_qubits_released == 2
    assert held(desk) == (0, 0, 0)


def test_qubits_of_a_block_are_given_back_with_the_last_of_them(desk: Desk) -> None:
    session = desk.open()
    handles = alloc(desk, session, 5, "logical:SHYPS(d=2)")  # four to a block
    block = 27
    assert held(desk) == (2 * block, 5, 2 * block)
    release(desk, session, *handles[:3])
    assert held(desk) == (2 * block, 2, 2 * block)
    release(desk, session, handles[3])
    assert held(desk) == (block, 1, block)


def test_a_qubit_given_back_lets_who_waited_for_quota_run_though_its_block_stays_held() -> None:
    quota = Quota(logical_qubits=6, physical_qubits=1000)
    desk = Desk((TenantRule(name="bob", uids=frozenset({2}), quota=quota),))
    desk.workers(0, 1)
    session = desk.open(uid=2)
    handles = alloc(desk, session, 5, "logical:SHYPS(d=2)", uid=2)  # four to a block
    job = desk.submit(session, uid=2)  # of two qubits
    assert not desk.segments()
    release(desk, session, handles[0], uid=2)
    assert [run.job_id for run in desk.segments()] == [job]


def test_a_program_that_names_handles_runs_there_and_takes_no_others(desk: Desk) -> None:
    session = desk.open()
    handles = alloc(desk, session, 2)
    job = desk.submit(session, naming(*handles, more=1))
    assert held(desk) == (51, 3, 51)
    mapping = desk.call(GetMapping(session_id=session, job_id=job)).mapping
    runs = {each: set(qubits) for each, qubits in mapping.items()}
    assert set(runs) == {*handles, "q0"}
    assert sum(map(len, runs.values())) == len(set.union(*runs.values())) == 51
    (run,) = desk.segments(job)
    desk.done(run, first_row={"m0": 0}, counts={"0": run.shots})
    assert status(desk, session, job).state is JobState.COMPLETED
    assert held(desk) == (34, 2, 34)


def test_jobs_that_name_one_qubit_go_there_one_after_another(desk: Desk) -> None:
    session = desk.open()
    (handle,) = alloc(desk, session)
    first, second = (desk.submit(session, naming(handle)) for _ in range(2))
    assert [run.job_id for run in desk.segments()] == [first]
    assert status(desk, session, second).queue.reason == (
        "waiting for a qubit that another job uses"
    )
    assert desk.call(GetTelemetry(session_id=session)).qubits[0].in_use
    (run,) = desk.segments(first)
    desk.done(run, first_row={"m0": 0}, counts={"0": run.shots})
    assert [run.job_id for run in desk.segments()] == [second]


def test_who_waits_for_its_own_qubit_holds_nobody_up(desk: Desk) -> None:
    """However often it is passed: it is not the machine that it waits for."""
    session = desk.open()
    (handle,) = alloc(desk, session)
    desk.submit(session, naming(handle), shots=50_000)
    waits = desk.submit(session, naming(handle))
    for _ in range(100):
        job = desk.submit(session)
        assert desk.state.jobs[job].place is not None
        desk.call(Cancel(session_id=session, job_id=job))
    assert status(desk, session, waits).state is JobState.QUEUED


def test_a_qubit_is_not_released_under_a_job_that_names_it(desk: Desk) -> None:
    session = desk.open()
    (handle,) = alloc(desk, session)
    job = desk.submit(session, naming(handle))
    assert isinstance(release(desk, session, handle), Busy)
    desk.call(Cancel(session_id=session, job_id=job))
    for run in desk.segments(job):
        desk.failed(run, "stopped")
    assert isinstance(release(desk, session, handle), Released)
    assert isinstance(desk.try_submit(session, naming(handle)), NotBrokered)


@pytest.mark.parametrize("kind", ["unknown", "another session's", "another tenant's", "released"])
def test_a_name_that_is_no_qubit_of_the_session_is_refused_alike(desk: Desk, kind: str) -> None:
    session, other, theirs = desk.open(), desk.open(), desk.open(uid=2)
    name = HandleId("vq_" + 32 * "0")
    if kind == "another session's":
        (name,) = alloc(desk, other)
    elif kind == "another tenant's":
        (name,) = alloc(desk, theirs, uid=2)
    elif kind == "released":
        (name,) = alloc(desk, session)
        release(desk, session, name)
    assert desk.try_submit(session, naming(name)) == NotBrokered()
    assert release(desk, session, name) == HandleNotFound()


def test_the_profile_is_the_one_it_was_allocated_with(desk: Desk) -> None:
    session = desk.open()
    (handle,) = alloc(desk, session)
    refusal = desk.try_submit(session, naming(handle, profile="logical:Surface(d=5)"))
    assert isinstance(refusal, InvalidGraph)
    assert refusal.findings[0].rule == "handle.profile"
    desk.submit(session, naming(handle, profile="surface(d=3)"))


def test_what_does_not_fit_is_refused_with_numbers_and_whether_waiting_helps(desk: Desk) -> None:
    session = desk.open()
    profile = "logical:Surface(d=15)"  # of 449
    alloc(desk, session, 2, profile)
    refusal = desk.call(Alloc(session_id=session, n=1, profile=profile))
    assert isinstance(refusal, ResourceExhausted)
    assert (refusal.limit, refusal.in_use, refusal.asked) == (1000, 898, 449)
    assert refusal.waiting_helps
    refusal = desk.call(Alloc(session_id=session, n=3, profile=profile))
    assert isinstance(refusal, ResourceExhausted)
    assert not refusal.waiting_helps
    refusal = desk.call(Alloc(session_id=session, n=1, profile="logical:Steane(d=3)"))
    assert isinstance(refusal, InvalidParams)
    assert refusal.path == "$.profile"


def test_what_sessions_hold_is_waited_for_by_name_and_holds_nobody_else_up(desk: Desk) -> None:
    session = desk.open()
    handles = alloc(desk, session, 58)  # 986 of 1,000
    waits = desk.submit(session)
    assert status(desk, session, waits).queue.reason == (
        "waiting for physical qubits that sessions hold"
    )
    for _ in range(100):
        desk.submit(session, naming(handles[0]))
        (run,) = desk.segments()
        desk.done(run, first_row={"m0": 0}, counts={"0": run.shots})
    release(desk, session, *handles[:2])
    assert [run.job_id for run in desk.segments()] == [waits]


def test_sessions_take_no_qubits_before_a_job_that_was_passed_too_often(desk: Desk) -> None:
    session = desk.open()
    large, single = naming("a", profile="logical:Surface(d=15)"), "logical:ideal"
    for _ in range(2):
        desk.submit(session, large, shots=10_000_000, noise=Noise.IDEAL)
    desk.submit(session, large, shots=1000, noise=Noise.IDEAL)
    for _ in range(64):
        release(desk, session, *alloc(desk, session, 1, single))
    refusal = desk.call(Alloc(session_id=session, n=1, profile=single))
    assert isinstance(refusal, ResourceExhausted)
    assert refusal.waiting_helps


def test_quotas_count_what_sessions_hold_beside_what_jobs_do() -> None:
    desk = Desk(SMALL)
    desk.workers(0, 1)
    session = desk.open(uid=2)
    handles = alloc(desk, session, 2, uid=2)
    assert isinstance(
        desk.call(Alloc(session_id=session, n=2, profile=SURFACE), uid=2), QuotaExceeded
    )
    job = desk.submit(session, uid=2)
    assert status(desk, session, job, uid=2).queue.reason == (
        "waiting for logical qubits of the tenant's quota: 2 asked, 2 of 3 in use, "
        "2 of these held by its session"
    )
    desk.submit(session, naming(*handles, more=1), uid=2)
    assert desk.state.tenants["bob"].logical == 3


def test_a_right_that_ends_takes_the_qubits_along_and_stops_who_names_them(desk: Desk) -> None:
    rights = [Right.ALLOC]
    giver = desk.open()
    lend = Delegate(
        session_id=giver,
        rights=rights,
        tenant_id=TenantId("bob"),
        share=Share(logical_qubits=2, physical_qubits=40),
    )
    given = desk.call(lend)
    assert isinstance(given, Delegated)
    taker = desk.call(NegotiateCaps(requested=[given.capability_id]), uid=2).session_id
    capability = desk.state.capabilities[given.capability_id]
    (first,) = alloc(desk, taker, uid=2)
    release(desk, taker, first, uid=2)
    assert (capability.logical, capability.physical) == (0, 0)
    (handle,) = alloc(desk, taker, uid=2)
    job = desk.submit(taker, naming(handle), uid=2)
    assert (capability.logical, capability.physical) == (1, 17)
    desk.call(Revoke(session_id=giver, capability_id=given.capability_id))
    assert desk.state.physical == 17, "until the job has stopped"
    for run in desk.segments(job):
        desk.failed(run, "stopped")
    assert desk.state.physical == 0
    ended = status(desk, taker, job, uid=2)
    assert (ended.state, ended.error.type) == (JobState.FAILED, InsufficientCaps.NAME)


def test_qubits_lie_in_the_module_asked_and_new_ones_beside_them(apart: Desk) -> None:
    session = apart.open()
    (left,) = alloc(apart, session, module="left")
    (right,) = alloc(apart, session, module="right")
    (far,) = alloc(apart, session, module="far")
    shown = apart.call(GetTelemetry(session_id=session)).qubits
    assert [each.module for each in shown] == ["left", "right", "far"]
    assert isinstance(
        apart.call(Alloc(session_id=session, n=1, profile=SURFACE, module="up")), InvalidParams
    )
    full = apart.call(Alloc(session_id=session, n=2, profile=SURFACE, module="left"))
    assert isinstance(full, ResourceExhausted)
    job = apart.submit(session, naming(left, more=2))
    modules = {run.module for run in apart.state.jobs[job].place or ()}
    assert modules == {0, 1}
    assert isinstance(apart.try_submit(session, naming(far, more=2)), ResourceExhausted)
    assert isinstance(apart.try_submit(session, naming(left, far)), ResourceExhausted)
    apart.submit(session, naming(left, right))


def test_jobs_move_to_make_room_and_what_sessions_hold_stays(desk: Desk) -> None:
    session = desk.open()
    first = alloc(desk, session, 1, "logical:Surface(d=11)")  # 241 of 1,000
    middle = naming("a", profile="logical:Surface(d=9)")  # 161
    jobs = [desk.submit(session, middle) for _ in range(2)]
    second = alloc(desk, session, 1, "logical:Surface(d=9)")
    for run in desk.segments(jobs[0]):
        desk.done(run, first_row={"m0": 0}, counts={"0": run.shots})
    places = {name: desk.state.handles[name].block.run for name in (*first, *second)}
    large = naming("a", profile="logical:Surface(d=12)")  # 287, of 161 and 276 free
    wide = desk.submit(session, large, noise=Noise.IDEAL)
    assert desk.state.jobs[wide].place is not None
    assert desk.state.jobs[jobs[1]].moves == 1
    assert places == {name: desk.state.handles[name].block.run for name in (*first, *second)}


# --- restarts -----------------------------------------------------------------------------------


def kept(desk: Desk, out: list[fx.Effect]) -> list[fx.Keep]:
    keeps = [effect for effect in out if isinstance(effect, fx.Keep)]
    for keep in keeps:
        desk.step(ev.Kept(keep.number))
    return keeps


def test_handles_outlive_the_daemon_where_they_were(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(durable=True)
    desk.step(Recovered())
    calls: list[fx.Keep] = []
    desk.call(NegotiateCaps(requested=["CAP_ALLOC"]))
    calls += kept(desk, desk.out)
    session = desk.replies[1].session_id
    desk.call(Alloc(session_id=session, n=3, profile=SURFACE))
    calls += kept(desk, desk.out)
    handles = desk.replies[2].handles
    desk.call(Release(session_id=session, handles=handles[:1]))
    calls += kept(desk, desk.out)
    assert calls[-1].gone.handles == (handles[0],)
    rows = [row for keep in calls for row in keep.rows]
    handle_rows = tuple(row for row in rows if isinstance(row, HandleRow) and row.id != handles[0])
    sessions = tuple(row for row in rows if isinstance(row, SessionRow))
    again = make_desk(durable=True)
    again.step(Recovered(numbered=100, sessions=sessions, handles=handle_rows))
    places = {name: each.block.run for name, each in again.state.handles.items()}
    assert places == {name: each.block.run for name, each in desk.state.handles.items()}
    assert held(again) == held(desk) == (34, 2, 34)
    smaller = make_desk(durable=True, physical_qubits=40)
    smaller.step(Recovered(numbered=100, sessions=sessions, handles=handle_rows))
    assert held(smaller) == (17, 1, 17), "where the place is no more, the handle is gone"
    (keep,) = smaller.sent(fx.Keep)
    assert keep.gone.handles == (handles[2],)
