"""Who holds the machine: places, fairness, overtaking, giving way, moving; what is told of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core import mapping
from qmkd.core.channels_test import crossing
from qmkd.core.conftest import Desk, bell
from qmkd.core.limits import EPOCH_CYCLES, OVERTAKEN_MAX
from qmkd.core.ports import Quota, TenantRule
from qmkd.core.records import Recovered
from qmkd.core.state import Job
from qvm.blocks import qubits_of
from qvm.machine import Factory, Hardware, Link, Module
from syscalls.checkpoint import Migrate, Migrated
from syscalls.errors import InsufficientCaps, ResourceExhausted
from syscalls.ids import JobId, SessionId
from syscalls.job import Cancel, JobState, JobStatus, Noise, Status
from syscalls.results import SHOT_BLOCK
from syscalls.session import NegotiateCaps
from syscalls.telemetry import GetMapping, GetTelemetry, Mapping

SHOT = 9  # cycles of a program made by `patches`: three steps (H, measure, free) of three cycles
LONG = 80 * EPOCH_CYCLES // SHOT // SHOT_BLOCK * SHOT_BLOCK


def patches(qubits: int, distance: int = 3, profile: str = "Surface", turns: int = 0) -> bytes:
    """A program of so many patches; each is measured after a Hadamard gate."""
    names = [f"q{at}" for at in range(qubits)]
    args = {"n": qubits, "profile": f"logical:{profile}(d={distance})"}
    nodes: list[dict[str, Any]] = [{"op": "ALLOC_LQ", "args": args, "vqs": names}]
    nodes += [{"op": "APPLY_H", "vqs": [name]} for name in names]
    nodes += [{"op": "APPLY_T", "vqs": names[:1]}] * turns
    nodes += [
        {"op": "MEASURE_Z", "vqs": [name], "produces": [f"m{at}"]}
        for at, name in enumerate(names[:2])
    ]
    nodes.append({"op": "FREE_LQ", "vqs": names})
    nodes = [{"id": f"n{at}", **node} for at, node in enumerate(nodes)]
    resources = {"vqs": names, "events": [f"m{at}" for at in range(min(2, qubits))]}
    text = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    return json.dumps(text).encode()


def rules(*weights: int) -> tuple[TenantRule, ...]:
    return tuple(
        TenantRule(name=f"t{at}", uids=frozenset({at}), weight=weight)
        for at, weight in enumerate(weights, 1)
    )


def modules(*qubits: int, **fields: Any) -> Hardware:
    made = tuple(Module(name=f"m{at}", qubits=each) for at, each in enumerate(qubits))
    return Hardware(name="test", module=made, **fields)


Make = Callable[..., Desk]


def made(make_desk: Make, hardware: Hardware, *weights: int, workers: int = 1) -> Desk:
    desk = make_desk(
        rules(*(weights or (1,))), hardware=hardware, physical_qubits=hardware.qubits,
        workers=workers,
    )  # fmt: skip
    desk.workers(*range(workers))
    return desk


def job_of(desk: Desk, name: JobId) -> Job:
    return desk.state.jobs[name]


def status(desk: Desk, session: SessionId, job: JobId, uid: int = 1) -> JobStatus:
    reply = desk.call(Status(session_id=session, job_id=job), uid=uid)
    assert isinstance(reply, JobStatus), reply
    return reply


def modules_of(desk: Desk, name: JobId) -> list[int]:
    return sorted({run.module for run in job_of(desk, name).place or ()})


def at_rest(make_desk: Make, hardware: Hardware, **options: Any) -> Desk:
    """No worker has anything: jobs only lie somewhere."""
    return make_desk(
        rules(1), hardware=hardware, physical_qubits=hardware.qubits, workers=1, **options
    )


def cancel(desk: Desk, session: SessionId, *jobs: JobId) -> None:
    for job in jobs:
        desk.call(Cancel(session_id=session, job_id=job))


def kept(desk: Desk) -> None:
    for keep in desk.sent(fx.Keep):
        desk.step(ev.Kept(keep.number))


# --- places -------------------------------------------------------------------------------------


def test_a_job_is_placed_from_its_start_to_its_end(make_desk: Make) -> None:
    desk = made(make_desk, modules(50))
    session = desk.open()
    job = desk.submit(session, patches(2), shots=5)
    assert desk.state.inventory.free == [50 - 34]
    desk.run_all()
    assert desk.state.inventory.free == [50]
    assert job_of(desk, job).place is None


def test_a_job_is_split_only_where_no_module_has_room_for_all_of_it(make_desk: Make) -> None:
    link = Link(between=("m0", "m1"), cycles=1.0, fidelity=0.9)
    desk = made(make_desk, modules(40, 60, link=(link,)))
    session = desk.open()
    one = desk.submit(session, patches(3), shots=LONG)
    two = desk.submit(session, patches(2), shots=LONG)
    assert (modules_of(desk, one), modules_of(desk, two)) == ([1], [0])
    desk.call(Cancel(session_id=session, job_id=one))
    desk.call(Cancel(session_id=session, job_id=two))
    for run in desk.segments():
        desk.failed(run, "stopped")
    wide = desk.submit(session, patches(5), shots=LONG)
    assert modules_of(desk, wide) == [0, 1]


def test_what_no_empty_machine_holds_is_refused_with_numbers(make_desk: Make) -> None:
    desk = made(make_desk, modules(60, 60))
    refusal = desk.try_submit(desk.open(), patches(6))
    assert refusal == ResourceExhausted(
        what="physical qubits of linked modules", limit=120, in_use=0, asked=102,
        waiting_helps=False,
    )  # fmt: skip
    refusal = desk.try_submit(desk.open(), patches(8))
    assert isinstance(refusal, ResourceExhausted)
    assert (refusal.what, refusal.asked) == ("physical qubits", 136)


def test_the_qubits_of_factories_are_nobodys(make_desk: Make) -> None:
    factory = Factory(module="m0", qubits=30, cycles=10.0)
    desk = made(make_desk, modules(60, factory=(factory,)))
    session = desk.open()
    assert isinstance(desk.try_submit(session, patches(2)), ResourceExhausted)
    desk.submit(session, patches(1))


def test_jobs_are_moved_where_enough_is_free_but_lies_apart(make_desk: Make) -> None:
    desk = made(make_desk, modules(34, 34))
    session = desk.open()
    jobs = [desk.submit(session, patches(1), shots=LONG) for _ in range(4)]
    alone = [job for job in jobs if modules_of(desk, job) == [0]][:1]
    alone += [job for job in jobs if modules_of(desk, job) == [1]][:1]
    for job in alone:
        desk.call(Cancel(session_id=session, job_id=job))
        for run in desk.segments(job):
            desk.failed(run, "stopped")
    assert desk.state.inventory.free == [17, 17]
    wide = desk.submit(session, patches(2), shots=LONG)
    assert job_of(desk, wide).place is not None
    stayed = [job_of(desk, job) for job in jobs if job not in alone]
    assert sum(job.moves for job in stayed) == 1
    assert job_of(desk, wide).cycle >= max(job.cycle for job in stayed if job.moves)


def test_who_was_moved_on_purpose_stays_in_its_module_and_all_others_make_room(
    make_desk: Make,
) -> None:
    desk = at_rest(make_desk, modules(85, 17))
    session = desk.open()
    jobs = [desk.submit(session, patches(1)) for _ in range(6)]
    assert [modules_of(desk, job) for job in jobs] == [[1]] + 5 * [[0]]
    cancel(desk, session, jobs[1])
    desk.call(Migrate(session_id=session, job_id=jobs[0], target="m0"))
    cancel(desk, session, jobs[2], jobs[4])
    wide = desk.submit(session, patches(1, distance=5))
    assert modules_of(desk, wide) == [0]
    assert modules_of(desk, jobs[0]) == [0]
    assert sum(modules_of(desk, job) == [1] for job in jobs) == 1


def test_who_is_to_lie_in_one_module_is_made_room_for_there(make_desk: Make) -> None:
    desk = at_rest(make_desk, modules(85, 85))
    session = desk.open()
    jobs = [desk.submit(session, patches(1)) for _ in range(10)]
    wide = desk.submit(session, patches(1, distance=5))
    desk.call(Migrate(session_id=session, job_id=wide, target="m1"))
    cancel(desk, session, *jobs[1:5:2], *jobs[6:10:2])
    assert modules_of(desk, wide) == [1]


def test_who_uses_links_stays_where_it_lies_and_all_others_make_room(make_desk: Make) -> None:
    links = tuple(
        Link(between=ends, cycles=10.0, fidelity=0.9) for ends in (("m0", "m1"), ("m1", "m2"))
    )
    desk = at_rest(make_desk, modules(60, 60, 60, link=links))
    session = desk.open()
    apart = desk.submit(session, crossing(fidelity=0.9))
    lies = job_of(desk, apart).place
    (third,) = {0, 1, 2} - {*modules_of(desk, apart)}
    jobs = [desk.submit(session, patches(1)) for _ in range(7)]
    for module in range(3):
        cancel(desk, session, next(job for job in jobs if modules_of(desk, job) == [module]))
    wide = desk.submit(session, patches(1, distance=5))
    assert modules_of(desk, wide) == [third]
    assert job_of(desk, apart).place == lies
    assert all(modules_of(desk, job) != [third] for job in jobs)


def test_who_needs_links_is_made_room_for_beside_them(make_desk: Make) -> None:
    link = Link(between=("m0", "m1"), cycles=10.0, fidelity=0.9)
    desk = at_rest(make_desk, modules(34, 34, link=(link,)))
    session = desk.open()
    jobs = [desk.submit(session, patches(1)) for _ in range(4)]
    cancel(desk, session, *jobs[:2])
    apart = desk.submit(session, crossing(fidelity=0.9))
    assert modules_of(desk, apart) == [0, 1]


def test_a_wish_for_the_module_where_a_job_lies_already_changes_nothing(make_desk: Make) -> None:
    desk = at_rest(make_desk, modules(34, 34), durable=True)
    desk.step(Recovered())
    desk.call(NegotiateCaps(requested=["CAP_ALLOC", "CAP_MIGRATE"]))
    kept(desk)
    session = desk.replies[desk.calls].session_id
    desk.try_submit(session, patches(1))
    kept(desk)
    job = desk.replies[desk.calls].job_id
    (here,) = modules_of(desk, job)
    told = desk.call(Migrate(session_id=session, job_id=job, target=f"m{here}"))
    assert told == Migrated(job_id=job, placement=f"m{here}", epoch=0)
    assert not desk.sent(fx.Keep)
    assert job_of(desk, job).module is None


# --- other resources ----------------------------------------------------------------------------


def test_jobs_that_need_more_t_states_than_are_made_wait_for_one_another(make_desk: Make) -> None:
    factory = Factory(module="m0", qubits=100, cycles=6.0)
    desk = made(make_desk, modules(1000, factory=(factory,)))
    session = desk.open()
    magic = patches(1, turns=1)
    first = desk.submit(session, magic, shots=LONG)
    second = desk.submit(session, magic, shots=LONG)
    assert mapping.demand_of(desk.state, job_of(desk, first)).cycles == SHOT + 3
    assert job_of(desk, second).place is None
    queue = status(desk, session, second).queue
    assert queue is not None
    assert queue.reason == "waiting for T states of the machine"


def test_the_decoder_holds_back_what_it_cannot_keep_up_with(make_desk: Make) -> None:
    desk = made(make_desk, modules(1000, decoder_blocks=3))
    session = desk.open()
    desk.submit(session, patches(2), shots=LONG)
    second = desk.submit(session, patches(2), shots=LONG)
    queue = status(desk, session, second).queue
    assert queue is not None
    assert queue.reason == "waiting for the decoder of the machine"
    assert queue.cycles == LONG * SHOT
    slow = desk.submit(session, patches(6), shots=1)
    assert status(desk, session, slow).telemetry.slowed_by == "decoding"
    desk.run_all()
    assert status(desk, session, slow).state is JobState.COMPLETED


# --- the machine's clock ------------------------------------------------------------------------


def test_time_is_the_machines_and_not_the_hosts(make_desk: Make) -> None:
    ends = []
    for pause_ns in (0, 10**9):
        desk = made(make_desk, modules(34))
        session = desk.open()
        first = desk.submit(session, patches(2), shots=1000)
        second = desk.submit(session, patches(2), shots=500)
        while desk.held:
            desk.later(pause_ns)
            desk.done(desk.segments()[0])
        told = [status(desk, session, job).telemetry for job in (first, second)]
        assert (told[0].queue_cycles, told[0].machine_cycles) == (0, 1000 * SHOT)
        assert (told[1].queue_cycles, told[1].machine_cycles) == (1000 * SHOT, 500 * SHOT)
        assert told[1].machine_time_ms == 500 * SHOT / 1000
        machine = desk.call(GetTelemetry(session_id=session, machine=True)).machine
        assert machine["cycles"] == 1500 * SHOT
        assert machine["cycles_utilization"] == 1.0
        ends.append(told)
    assert [each.queue_cycles for each in ends[0]] == [each.queue_cycles for each in ends[1]]


def test_a_waiting_job_is_told_how_long_from_what_runs_and_stands_before_it(
    make_desk: Make,
) -> None:
    desk = made(make_desk, modules(34))
    session = desk.open()
    desk.submit(session, patches(2), shots=1000)
    second = desk.submit(session, patches(1), shots=300)
    third = desk.submit(session, patches(2), shots=10)
    one, two = (status(desk, session, job).queue for job in (second, third))
    assert one is not None
    assert two is not None
    assert (one.position, one.cycles) == (0, 1000 * SHOT)
    assert (two.position, two.cycles) == (1, 1300 * SHOT)


# --- who goes first -----------------------------------------------------------------------------


def served(desk: Desk) -> list[int]:
    """Cycles of the whole machine that tenants were handed out, from slices, not from shares."""
    return [
        sum(
            job.held_cycles * qubits_of(job.program.summary.blocks)
            for job in desk.state.jobs.values()
            if job.tenant is tenant
        )
        for tenant in desk.state.tenants.values()
    ]


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (5, 2)])
def test_tenants_share_the_machine_by_weight_up_to_two_epochs(
    make_desk: Make, weights: tuple[int, int]
) -> None:
    desk = made(make_desk, modules(34), *weights)
    sessions = [desk.open(uid=uid) for uid in (1, 2)]
    for _ in range(3):
        desk.submit(sessions[0], patches(2), shots=LONG)
    desk.submit(sessions[1], patches(2), uid=2, shots=LONG)
    while desk.state.horizon < 30 * EPOCH_CYCLES:
        desk.done(desk.segments()[0], cpu_ns=100)
    had = served(desk)
    assert abs(had[0] / weights[0] - had[1] / weights[1]) <= 2 * 34 * EPOCH_CYCLES
    first = next(iter(desk.state.jobs.values()))
    assert first.state is JobState.RUNNING
    assert first.shots_done > 0


def test_one_who_was_idle_has_earned_nothing_by_it(make_desk: Make) -> None:
    desk = made(make_desk, modules(34), 1, 1)
    one, two = desk.open(uid=1), desk.open(uid=2)
    desk.submit(one, patches(2), shots=LONG)
    while desk.state.horizon < 10 * EPOCH_CYCLES:
        desk.done(desk.segments()[0], cpu_ns=100)
    before = served(desk)[0]
    for _ in range(2):
        desk.submit(two, patches(2), uid=2, shots=LONG)
    while desk.state.horizon < 20 * EPOCH_CYCLES:
        desk.done(desk.segments()[0], cpu_ns=100)
    had = served(desk)
    assert abs((had[0] - before) - had[1]) <= 2 * 34 * EPOCH_CYCLES


def test_inside_a_tenant_priority_comes_first_then_the_deadline_then_age(make_desk: Make) -> None:
    desk = made(make_desk, modules(34))
    session = desk.open()
    desk.submit(session, patches(2), shots=1)
    submitted = {
        "late": desk.submit(session, patches(2), shots=1),
        "due": desk.submit(session, patches(2), shots=1, deadline_epochs=50),
        "soon": desk.submit(session, patches(2), shots=1, deadline_epochs=5),
        "urgent": desk.submit(session, patches(2), shots=1, priority=1),
    }
    order = []
    while desk.held:
        desk.done(desk.segments()[0])
        order += [name for name, job in submitted.items() if desk.segments(job)]
    assert order == ["urgent", "soon", "due", "late"]


def test_a_more_urgent_job_takes_over_at_an_epochs_end(make_desk: Make) -> None:
    desk = made(make_desk, modules(34))
    session = desk.open()
    long = desk.submit(session, patches(2), shots=LONG)
    urgent = desk.submit(session, patches(2), shots=1, priority=5)
    while not desk.segments(urgent):
        desk.done(desk.segments()[0], cpu_ns=100)
    assert job_of(desk, long).cycle <= 2 * EPOCH_CYCLES + job_of(desk, long).since_cycle
    waits = status(desk, session, long)
    assert waits.state is JobState.RUNNING
    assert waits.queue is not None
    assert waits.queue.reason == "waiting for physical qubits of the machine"
    desk.run_all()
    assert status(desk, session, long).counts == {"00": LONG}


def test_what_fits_overtakes_but_not_for_ever(make_desk: Make) -> None:
    """A job that fits only alone gets the machine although others always have smaller ones."""
    desk = made(make_desk, modules(34), 1, 1)
    one, two = desk.open(uid=1), desk.open(uid=2)
    small = [desk.submit(two, patches(1), uid=2, shots=SHOT_BLOCK) for _ in range(2)]
    alone = desk.submit(one, patches(2), shots=1)
    passed = 0
    while job_of(desk, alone).place is None:
        assert not desk.segments(alone)
        desk.done(desk.segments()[0])
        small.append(desk.submit(two, patches(1), uid=2, shots=SHOT_BLOCK))
        passed += 1
        assert passed <= OVERTAKEN_MAX + 3
    assert passed > 3, "meanwhile the machine was not idle"
    desk.run_all()
    assert status(desk, one, alone).state is JobState.COMPLETED


def test_a_tenant_whose_quota_holds_it_back_holds_back_nobody_else(make_desk: Make) -> None:
    quota = Quota(logical_qubits=2)
    tenants = (
        TenantRule(name="a", uids=frozenset({1}), quota=quota),
        TenantRule(name="b", uids=frozenset({2})),
    )
    desk = make_desk(tenants, physical_qubits=100, workers=1)
    desk.workers(0)
    one, two = desk.open(uid=1), desk.open(uid=2)
    desk.submit(one, patches(2), shots=LONG)
    held_back = desk.submit(one, patches(2), shots=LONG)
    for _ in range(2 * OVERTAKEN_MAX):
        job = desk.submit(two, patches(1), uid=2, shots=1)
        assert job_of(desk, job).place is not None
        while desk.segments():
            run = desk.segments(job)[0] if desk.segments(job) else desk.segments()[0]
            desk.done(run, cpu_ns=10)
            if job_of(desk, job).final is not None:
                break
    assert job_of(desk, held_back).place is None


# --- what is told -------------------------------------------------------------------------------


def test_a_mapping_names_the_physical_qubits_of_every_virtual_one(make_desk: Make) -> None:
    desk = made(make_desk, modules(20, 40))
    session = desk.open()
    job = desk.submit(session, patches(2), shots=LONG)
    told = desk.call(GetMapping(session_id=session, job_id=job))
    assert isinstance(told, Mapping)
    assert told.mapping == {"q0": list(range(20, 37)), "q1": list(range(37, 54))}
    desk.run_all()
    told = desk.call(GetMapping(session_id=session, job_id=job))
    assert isinstance(told, Mapping)
    assert told.mapping == {}


def test_qubits_of_one_block_share_its_physical_qubits(make_desk: Make) -> None:
    desk = made(make_desk, modules(200))
    session = desk.open()
    job = desk.submit(session, patches(9, 4, "SHYPS"), shots=LONG, noise=Noise.IDEAL)
    told = desk.call(GetMapping(session_id=session, job_id=job))
    assert isinstance(told, Mapping)
    assert set(map(tuple, told.mapping.values())) == {tuple(range(147))}


def test_a_mapping_needs_its_right_and_has_a_bound(
    make_desk: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = made(make_desk, modules(200))
    session, plain = desk.open(), desk.open("CAP_ALLOC")
    job = desk.submit(plain, patches(2), shots=LONG)
    refused = desk.call(GetMapping(session_id=plain, job_id=job))
    assert isinstance(refused, InsufficientCaps)
    job = desk.submit(session, patches(2), shots=LONG)
    monkeypatch.setattr("qmkd.core.reading.MAPPING_QUBITS_MAX", 33)
    refused = desk.call(GetMapping(session_id=session, job_id=job))
    assert refused == ResourceExhausted(
        what="physical qubits in a mapping", limit=33, in_use=0, asked=34, waiting_helps=False
    )


def test_the_graphs_of_other_tests_lie_where_they_fit(make_desk: Make) -> None:
    desk = make_desk(physical_qubits=34)
    desk.submit(desk.open(), bell(), shots=1)
    assert desk.state.inventory.free == [0]
