"""Faults: schedules before, during and after each; what is told of them; operators' rehearsals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.conftest import ALL, START_NS, Desk
from qmkd.core.keeping import job_rows, session_row
from qmkd.core.limits import EPOCH_CYCLES
from qmkd.core.mapping_test import LONG, SHOT, job_of, modules, modules_of, patches, rules, status
from qmkd.core.records import AuditRow, FaultRow, GraphRow, JobRow, Recovered
from qvm.machine import Factory, Hardware, Link
from syscalls.audit import AuditBody
from syscalls.checkpoint import Replay, Replayed
from syscalls.errors import (
    Busy,
    FaultNotFound,
    InsufficientCaps,
    InvalidParams,
    NotAvailable,
    QuotaExceeded,
)
from syscalls.events import JobEvent, Subscribe
from syscalls.fault import (
    FAULTS_MAX,
    ClearFault,
    Degraded,
    DegradedMode,
    Fault,
    FaultCleared,
    FaultInjected,
    FaultKind,
    InjectFault,
)
from syscalls.ids import JobId, SessionId
from syscalls.job import JobState, Noise, RaisedCode
from syscalls.results import SHOT_BLOCK
from syscalls.rights import Right
from syscalls.session import NegotiateCaps, Session
from syscalls.telemetry import GetTelemetry, Telemetry

Make = Callable[..., Desk]
BLOCK = SHOT_BLOCK * SHOT
"""Cycles of the shortest slice of a program made by `patches`."""
LINK = Link(between=("m0", "m1"), cycles=1.0, fidelity=0.9)


def made(make_desk: Make, hardware: Hardware, *weights: int, **machine: Any) -> Desk:
    before = machine.pop("recovered", None)
    options: dict[str, Any] = {"workers": 1, "physical_qubits": hardware.qubits, **machine}
    desk = make_desk(rules(*(weights or (1,))), hardware=hardware, **options)
    if options.get("durable"):
        desk.step(before or Recovered())
    desk.workers(*range(options["workers"]))
    return desk


def run_to(desk: Desk, cycle: int) -> None:
    """Workers run what there is until the machine's clock is there."""
    while desk.state.horizon < cycle:
        desk.done(desk.segments()[0])


def fault(kind: FaultKind, *what: str, **fields: Any) -> Fault:
    return Fault(kind=kind, what=list(what), **fields)


def inject(desk: Desk, session: SessionId, kind: FaultKind, *what: str, **fields: Any) -> Any:
    return desk.call(InjectFault(session_id=session, kind=kind, what=list(what), **fields))


def injected(desk: Desk, session: SessionId, kind: FaultKind, *what: str, **fields: Any) -> str:
    reply = inject(desk, session, kind, *what, **fields)
    assert isinstance(reply, FaultInjected), reply
    return reply.fault_id


def telemetry(desk: Desk, session: SessionId, uid: int = 1, **asked: Any) -> Telemetry:
    reply = desk.call(GetTelemetry(session_id=session, **asked), uid=uid)
    assert isinstance(reply, Telemetry), reply
    return reply


def waits_for(desk: Desk, session: SessionId, job: JobId) -> str:
    place = status(desk, session, job).queue
    return "" if place is None else place.reason


# --- a module -----------------------------------------------------------------------------------


def test_jobs_leave_a_failed_module_at_their_fence_and_come_back_to_it_later(
    make_desk: Make,
) -> None:
    begins, ends = 100 * BLOCK, 200 * BLOCK
    broken = fault(FaultKind.MODULE, "m0", from_cycle=begins, to_cycle=ends)
    desk = made(make_desk, modules(40, 60, fault=(broken,)))
    session = desk.open()
    one = desk.submit(session, patches(2), shots=LONG)
    assert modules_of(desk, one) == [0]
    run_to(desk, begins)
    assert desk.state.horizon < begins + BLOCK, "no slice reaches further than it must"
    assert (modules_of(desk, one), job_of(desk, one).moves) == ([1], 1)
    two = desk.submit(session, patches(2), shots=LONG)
    assert desk.state.inventory.free == [0, 60 - 34]
    assert waits_for(desk, session, two) == "waiting for physical qubits of the machine"
    place = status(desk, session, two).queue
    assert place is not None
    assert place.cycles is not None
    assert 0 < place.cycles <= ends - desk.state.cycle
    run_to(desk, ends)
    assert modules_of(desk, two) == [0]
    assert modules_of(desk, one) == [1], "who lies well stays"
    assert job_of(desk, two).cycle - job_of(desk, two).held_cycles >= ends, "none ran there before"


def test_nobody_has_run_on_a_module_before_it_came_back(make_desk: Make) -> None:
    """Even where as many qubits as it needs were free elsewhere all the time, but apart."""
    ends = 200 * BLOCK
    broken = fault(FaultKind.MODULE, "m0", to_cycle=ends)
    desk = made(make_desk, modules(40, 54, 54, fault=(broken,)))
    session = desk.open()
    for _ in range(2):
        desk.submit(session, patches(2), shots=LONG)
    late = desk.submit(session, patches(2), shots=SHOT_BLOCK)
    assert desk.state.inventory.free == [0, 20, 20]
    run_to(desk, ends)
    assert modules_of(desk, late) == [0]
    assert job_of(desk, late).cycle - job_of(desk, late).held_cycles >= ends


def test_what_fits_nowhere_else_waits_with_a_reason_and_starves_nobody(make_desk: Make) -> None:
    broken = fault(FaultKind.MODULE, "m1", from_cycle=100 * BLOCK)
    desk = made(make_desk, modules(40, 60, fault=(broken,)), 1, 1)
    session, others = desk.open(), desk.open(uid=2)
    wide = desk.submit(session, patches(3), shots=LONG)
    assert modules_of(desk, wide) == [1]
    run_to(desk, 100 * BLOCK)
    assert job_of(desk, wide).place is None
    assert status(desk, session, wide).state is JobState.RUNNING
    for _ in range(100):  # more than may overtake a job that waits for its turn
        desk.submit(others, patches(1), uid=2, shots=SHOT_BLOCK)
        desk.run_all()
    place = status(desk, session, wide).queue
    assert place is not None
    assert place.reason == "waiting for what has failed: m1"
    assert place.cycles is None, "nobody knows when"
    assert desk.state.live == 1
    assert desk.state.inventory.free == [40, 0]


def test_a_machine_on_which_everybody_waits_idles_until_a_module_is_back(make_desk: Make) -> None:
    begins, ends = BLOCK, 100 * EPOCH_CYCLES
    broken = fault(FaultKind.MODULE, "m0", from_cycle=begins, to_cycle=ends)
    desk = made(make_desk, modules(60, fault=(broken,)))
    session = desk.open()
    job = desk.submit(session, patches(2), shots=5 * SHOT_BLOCK)
    desk.run_all()
    assert status(desk, session, job).state is JobState.COMPLETED
    end = status(desk, session, job).telemetry
    assert (end.queue_cycles, end.machine_cycles) == (ends - begins, 5 * BLOCK)
    assert desk.state.horizon == ends + 4 * BLOCK


def test_the_same_schedule_comes_of_the_same_faults(make_desk: Make) -> None:
    """Whoever asks first and whatever the host's clock says."""
    faults = (
        fault(FaultKind.MODULE, "m0", from_cycle=3 * BLOCK, to_cycle=30 * BLOCK),
        fault(FaultKind.DECODER, strength=3, from_cycle=8 * BLOCK, to_cycle=50 * BLOCK),
    )
    seen = []
    for pause in (0, 10**10):
        desk = made(make_desk, modules(60, 60, fault=faults, decoder_blocks=6), 1, 1)
        sessions = [desk.open(uid=1), desk.open(uid=2)]
        jobs = [
            desk.submit(
                sessions[at % 2], patches(2 + at % 2), uid=1 + at % 2, shots=40 * SHOT_BLOCK
            )
            for at in range(6)
        ]
        while desk.held:
            desk.now_ns += pause
            desk.done(desk.segments()[0])
        found = [job_of(desk, job) for job in jobs]
        seen.append([(job.cycle, job.waited_cycles, job.held_cycles, job.moves) for job in found])
    assert seen[0] == seen[1]
    assert sum(moves for *_, moves in seen[0]) > 0


def test_results_are_those_of_a_run_without_faults(make_desk: Make) -> None:
    broken = fault(FaultKind.MODULE, "m0", from_cycle=3 * BLOCK, to_cycle=9 * BLOCK)
    digests = []
    for faults in ((), (broken,)):
        desk = made(make_desk, modules(60, fault=faults))
        session = desk.open()
        job = desk.submit(session, patches(2), shots=20 * SHOT_BLOCK, seed=1)
        while desk.held:
            run = desk.segments()[0]
            blocks = range(run.shot_first // SHOT_BLOCK, (run.shot_first + run.shots) // SHOT_BLOCK)
            desk.done(run, leaves=b"".join(bytes([at]) * 32 for at in blocks))
        context = status(desk, session, job).execution_context
        assert context is not None
        digests.append(context.results_digest)
    assert digests[0] == digests[1]


# --- links --------------------------------------------------------------------------------------


def test_no_job_is_split_over_a_lost_link(make_desk: Make) -> None:
    lost = fault(FaultKind.LINK, "m1", "m0", from_cycle=100 * BLOCK, to_cycle=300 * BLOCK)
    desk = made(make_desk, modules(40, 40, link=(LINK,), fault=(lost,)))
    session = desk.open()
    wide = desk.submit(session, patches(4), shots=LONG)
    small = desk.submit(session, patches(1), shots=LONG)
    assert modules_of(desk, wide) == [0, 1]
    run_to(desk, 100 * BLOCK)
    assert waits_for(desk, session, wide) == "waiting for what has failed: links"
    assert job_of(desk, small).place is not None
    run_to(desk, 300 * BLOCK)
    assert waits_for(desk, session, wide) == "waiting for physical qubits of the machine"


def teleporting(qubits: int) -> bytes:
    graph = msgspec.json.decode(patches(qubits))
    node = {"id": "t", "op": "TELEPORT_CNOT", "vqs": ["q0", "q1"]}
    graph["program"]["nodes"].insert(1, node)
    return msgspec.json.encode(graph)


def test_jobs_that_teleport_run_one_after_another_while_a_link_is_down(make_desk: Make) -> None:
    slow = fault(
        FaultKind.LINK, "m0", "m1", strength=3.0, from_cycle=100 * BLOCK, to_cycle=400 * BLOCK
    )
    desk = made(make_desk, modules(70, 70, link=(LINK,), fault=(slow,)))
    session = desk.open()
    jobs = [desk.submit(session, teleporting(2), shots=LONG // 50) for _ in range(3)]
    assert len(desk.state.placed) == 3
    run_to(desk, 100 * BLOCK)
    assert len(desk.state.placed) == 1
    waiting = [job for job in jobs if job_of(desk, job).place is None]
    assert {waits_for(desk, session, job) for job in waiting} == {
        "waiting for its turn at the links"
    }
    plain = desk.submit(session, patches(2), shots=SHOT_BLOCK)
    assert job_of(desk, plain).place is not None
    desk.run_all()
    assert desk.state.live == 0


# --- decoder and factories ----------------------------------------------------------------------


def test_an_overloaded_decoder_throttles_jobs_with_most_to_decode_first(make_desk: Make) -> None:
    begins, ends = 100 * BLOCK, 300 * BLOCK
    slow = fault(FaultKind.DECODER, strength=2.0, from_cycle=begins, to_cycle=ends)
    desk = made(make_desk, modules(300, decoder_blocks=6, fault=(slow,)))
    session = desk.open()
    light = desk.submit(session, patches(2), shots=LONG)
    heavy = desk.submit(session, patches(4), shots=LONG)
    assert desk.state.blocks == 6
    run_to(desk, begins)
    assert (job_of(desk, light).place is None, job_of(desk, heavy).place is None) == (False, True)
    assert waits_for(desk, session, heavy) == "waiting for the decoder of the machine"
    assert not job_of(desk, light).concerned, "the heaviest is enough"
    (mode,) = telemetry(desk, session).degraded
    assert mode.mode is DegradedMode.THROTTLE
    assert mode.since_cycle == begins
    assert mode.cause == "the decoder keeps up with 2 times fewer blocks"
    assert mode.fault_id is None, "a tenant is not told which fault it is"
    run_to(desk, ends)
    assert (job_of(desk, light).place is None, job_of(desk, heavy).place is None) == (False, False)
    assert not telemetry(desk, session).degraded


def test_a_job_that_alone_is_too_much_for_the_decoder_is_slowed_and_never_wrong(
    make_desk: Make,
) -> None:
    begins, ends = 5 * BLOCK, 30 * BLOCK
    slow = fault(FaultKind.DECODER, strength=2.0, from_cycle=begins, to_cycle=ends)
    desk = made(make_desk, modules(300, decoder_blocks=4, fault=(slow,)))
    session = desk.open()
    job = desk.submit(session, patches(4), shots=40 * SHOT_BLOCK)
    run_to(desk, begins)
    shots = job_of(desk, job).shots_given
    held = job_of(desk, job).held_cycles
    assert status(desk, session, job).telemetry.slowed_by == "decoding"
    desk.done(desk.segments()[0])
    more = job_of(desk, job).shots_given - shots
    assert more > 0
    assert job_of(desk, job).held_cycles - held == 2 * SHOT * more
    run_to(desk, ends)
    assert status(desk, session, job).telemetry.slowed_by == ""
    desk.run_all()
    assert status(desk, session, job).counts == {"00": 40 * SHOT_BLOCK}


def test_jobs_wait_for_lost_factories_and_others_go_on(make_desk: Make) -> None:
    lost = fault(FaultKind.FACTORY, "m0", from_cycle=100 * BLOCK, to_cycle=300 * BLOCK)
    factory = Factory(module="m0", qubits=10, cycles=2.0)
    desk = made(make_desk, modules(300, factory=(factory,), fault=(lost,)))
    session = desk.open()
    magic = desk.submit(session, patches(2, turns=1), shots=LONG)
    plain = desk.submit(session, patches(2), shots=LONG)
    run_to(desk, 100 * BLOCK)
    assert waits_for(desk, session, magic) == "waiting for T factories, all of which are lost"
    assert job_of(desk, plain).place is not None
    run_to(desk, 300 * BLOCK)
    assert job_of(desk, magic).place is not None


# --- calibration --------------------------------------------------------------------------------


def noises(noise: str) -> dict[str, frozenset[int]]:
    return {"Surface": frozenset({3})} if noise == "uniform 0.002" else {}


def noise_of(desk: Desk, session: SessionId, job: JobId) -> tuple[str, str]:
    context = status(desk, session, job).execution_context
    assert context is not None
    return context.noise.applied, context.noise.why


def test_jobs_accepted_after_a_drift_have_its_noise_and_others_keep_theirs(
    make_desk: Make,
) -> None:
    desk = made(make_desk, modules(400), calibrated_at=noises)
    session = desk.open()
    before = desk.submit(session, patches(2), shots=LONG)
    drift = injected(desk, session, FaultKind.CALIBRATION, strength=2.0)
    during = desk.submit(session, patches(2), shots=LONG)
    refused = desk.try_submit(session, patches(2, distance=5))
    assert isinstance(refused, NotAvailable), "nobody knows its errors under that noise"
    assert "uniform 0.002" in refused.feature
    ideal = desk.submit(session, patches(2, distance=5), noise=Noise.IDEAL)
    assert isinstance(desk.call(ClearFault(session_id=session, fault_id=drift)), FaultCleared)
    after = desk.submit(session, patches(2), shots=LONG)
    usual = "calibrated uniform 0.001"
    why = "profile is calibrated; physical qubits err 2 times as often"
    assert noise_of(desk, session, before)[0] == noise_of(desk, session, after)[0] == usual
    assert noise_of(desk, session, during) == ("calibrated uniform 0.002", why)
    assert noise_of(desk, session, ideal)[0] == "ideal"
    noise = {job: {run.noise for run in desk.segments(job)} for job in (before, during)}
    assert noise[before] <= {usual}
    assert noise[during] <= {"calibrated uniform 0.002"}


def test_a_job_is_repeated_under_the_noise_it_had_also_after_a_drift(make_desk: Make) -> None:
    desk = made(make_desk, modules(400), calibrated_at=noises)
    session = desk.open()
    usual = desk.submit(session, patches(2), shots=9, seed=1)
    drift = injected(desk, session, FaultKind.CALIBRATION, strength=2.0)
    drifted = desk.submit(session, patches(2), shots=9, seed=1)
    desk.run_all()
    for name in (usual, drifted):
        again = desk.call(Replay(session_id=session, job_id=name))
        assert isinstance(again, Replayed), again
        assert noise_of(desk, session, again.job_id) == noise_of(desk, session, name)
    desk.call(ClearFault(session_id=session, fault_id=drift))
    for name in (usual, drifted):
        again = desk.call(Replay(session_id=session, job_id=name))
        assert isinstance(again, Replayed), again
        assert noise_of(desk, session, again.job_id) == noise_of(desk, session, name)
    assert noise_of(desk, session, usual) != noise_of(desk, session, drifted)


def raised_of(desk: Desk, session: SessionId, job: JobId) -> tuple[list[RaisedCode], list[str]]:
    context = status(desk, session, job).execution_context
    assert context is not None
    return context.raised, [each.applied for each in context.profiles]


def test_codes_are_raised_where_the_policy_allows_it_and_the_distance_is_known(
    make_desk: Make,
) -> None:
    known = {"uniform 0.002": {"Surface": frozenset({3, 7})}}
    desk = made(make_desk, modules(900), calibrated_at=lambda noise: known.get(noise, {}))
    session = desk.open()
    before = desk.submit(session, patches(2), shots=LONG, raise_distance=True)
    drift = injected(desk, session, FaultKind.CALIBRATION, strength=2.0)
    asked = desk.submit(session, patches(2), shots=LONG, raise_distance=True)
    plain = desk.submit(session, patches(2), shots=LONG)
    ideal = desk.submit(session, patches(2), shots=9, raise_distance=True, noise=Noise.IDEAL)
    desk.call(ClearFault(session_id=session, fault_id=drift))
    after = desk.submit(session, patches(2), shots=LONG, raise_distance=True)
    larger = [RaisedCode(code="Surface", distance=3, to=7)]
    assert raised_of(desk, session, asked) == (larger, ["logical:Surface(d=7)"])
    for job in (before, plain, ideal, after):
        assert raised_of(desk, session, job) == ([], ["logical:Surface(d=3)"])
    assert [run.size for run in job_of(desk, asked).place or ()] == [97]
    assert status(desk, session, asked).peak_resources.physical_qubits in (0, 2 * 97)
    while not desk.segments(asked):
        desk.done(desk.segments()[0])
    (run, *_) = desk.segments(asked)
    assert run.setting.raised == tuple(larger)
    assert run.graph == patches(2), "the program is as it was written"
    assert not desk.segments(plain) or not desk.segments(plain)[0].setting.raised


def test_a_raised_job_is_repeated_as_it_was_and_comes_back_after_a_restart(
    make_desk: Make,
) -> None:
    known = {"uniform 0.002": {"Surface": frozenset({5})}}
    desk = made(make_desk, modules(900), calibrated_at=lambda noise: known.get(noise, {}))
    session = desk.open()
    drift = injected(desk, session, FaultKind.CALIBRATION, strength=2.0)
    job = desk.submit(session, patches(2), shots=9, raise_distance=True, idempotency_key="k")
    desk.run_all()
    desk.call(ClearFault(session_id=session, fault_id=drift))
    same = desk.submit(session, patches(2), shots=9, raise_distance=True, idempotency_key="k")
    assert same == job
    again = desk.call(Replay(session_id=session, job_id=job))
    assert isinstance(again, Replayed)
    assert raised_of(desk, session, again.job_id) == raised_of(desk, session, job)
    graph, row = job_rows(desk.state.jobs[job])
    assert graph.summary == desk.state.jobs[job].program.base.summary  # type: ignore[union-attr]
    later = made(
        make_desk,
        modules(900),
        durable=True,
        versions={"x": "another"},
        recovered=recovered(desk, graph, row),
    )
    back = later.state.jobs[job]
    assert back.program.raised == tuple(back.context.raised) == tuple(row.context.raised)
    assert back.context.versions == {"x": "another"}
    assert back.context.noise == row.context.noise, "it is the record's, not the machine's of now"
    assert back.program.summary.peak_physical == 2 * 49


def recovered(desk: Desk, graph: GraphRow, row: JobRow) -> Recovered:
    """What a store would hold of this job, not yet run."""
    graph = msgspec.structs.replace(graph, digest=b"d" * 32)
    row = msgspec.structs.replace(row, graph=graph.digest)
    (session,) = desk.state.sessions.values()
    kept = session_row(session, START_NS)
    return Recovered(numbered=99, sessions=(kept,), graphs=(graph,), jobs=(row,))


def test_fences_are_close_while_the_calibration_drifts(make_desk: Make) -> None:
    desk = made(make_desk, modules(400), calibrated_at=noises, park_ns=8_000)
    session = desk.open()
    desk.submit(session, patches(2), shots=10_000_000, noise=Noise.IDEAL)
    for run in desk.segments() * 3:
        desk.done(desk.segments()[0], cpu_ns=run.shots)
    before = desk.segments()[0]
    drift = injected(desk, session, FaultKind.CALIBRATION, strength=2.0)
    desk.done(before)
    during = desk.segments()[-1]
    desk.call(ClearFault(session_id=session, fault_id=drift))
    assert during.shots * SHOT <= EPOCH_CYCLES // 16 < before.shots * SHOT
    assert (before.park_ns, during.park_ns) == (8_000, 2_000)


# --- what callers are told ----------------------------------------------------------------------


def test_followers_are_told_once_when_it_begins_and_when_it_ends(make_desk: Make) -> None:
    broken = fault(FaultKind.MODULE, "m0", from_cycle=100 * BLOCK, to_cycle=200 * BLOCK)
    desk = made(make_desk, modules(40, 60, fault=(broken,)))
    session = desk.open()
    job = desk.submit(session, patches(2), shots=LONG)
    desk.call(Subscribe(session_id=session, job_id=job))
    run_to(desk, 300 * BLOCK)
    events = [note.body for note in desk.notices if isinstance(note.body, JobEvent)]
    told = [event.degraded for event in events if event.kind == "degraded"]
    assert told == [
        [
            Degraded(
                mode=DegradedMode.MIGRATE, since_cycle=100 * BLOCK, cause="module m0 has failed"
            )
        ],
        [],
    ]
    assert [event.seq for event in events] == sorted({event.seq for event in events})


def test_tenants_hear_of_what_concerns_their_jobs_and_operators_of_all(make_desk: Make) -> None:
    desk = made(make_desk, modules(40, 60), 1, 1)
    one, two = desk.open(), desk.open(*(set(ALL) - {Right.ADMIN.value}), uid=2)
    desk.submit(one, patches(2), shots=LONG)
    other = desk.submit(two, patches(2), uid=2, shots=LONG)
    assert modules_of(desk, other) == [1]
    name = injected(desk, one, FaultKind.MODULE, "m0")
    assert len(telemetry(desk, one).degraded) == 1
    assert telemetry(desk, two, uid=2).degraded == []
    machine = telemetry(desk, one, machine=True).machine
    assert machine is not None
    assert machine["degraded"] == [
        {
            "mode": "migrate",
            "since_cycle": desk.state.faults[name].from_cycle,
            "cause": "module m0 has failed",
            "fault_id": name,
        }
    ]
    assert list(machine["faults"]) == [name]
    assert machine["modules"][0]["free"] == 0


# --- operators ----------------------------------------------------------------------------------


def test_only_an_operator_breaks_or_mends_the_machine(make_desk: Make) -> None:
    desk = made(make_desk, modules(40, 60))
    session, plain = desk.open(), desk.open(*(set(ALL) - {Right.ADMIN.value}))
    assert isinstance(inject(desk, plain, FaultKind.MODULE, "m0"), InsufficientCaps)
    name = injected(desk, session, FaultKind.MODULE, "m0")
    refused = desk.call(ClearFault(session_id=plain, fault_id=name))
    assert isinstance(refused, InsufficientCaps)
    assert desk.state.inventory.free == [0, 60]
    assert desk.call(ClearFault(session_id=session, fault_id=name)) == FaultCleared(
        fault_id=name, cycle=desk.state.horizon
    )
    assert desk.state.inventory.free == [40, 60]
    assert desk.call(ClearFault(session_id=session, fault_id=name)) == FaultNotFound()


def test_a_fault_of_the_description_is_not_cleared_by_a_call(make_desk: Make) -> None:
    desk = made(make_desk, modules(40, 60, fault=(fault(FaultKind.MODULE, "m0"),)))
    session = desk.open()
    assert desk.state.inventory.free == [0, 60], "it begins with the machine"
    (name,) = desk.state.faults
    assert desk.call(ClearFault(session_id=session, fault_id=name)) == FaultNotFound()


@pytest.mark.parametrize(
    ("kind", "what", "fields", "path"),
    [
        (FaultKind.MODULE, ["nowhere"], {}, "$.what"),
        (FaultKind.MODULE, [], {}, "$.what"),
        (FaultKind.MODULE, ["m0"], {"strength": 2.0}, "$.strength"),
        (FaultKind.LINK, ["m0", "m1"], {}, "$.what"),
        (FaultKind.FACTORY, ["m0"], {}, "$.what"),
        (FaultKind.DECODER, [], {"strength": 2.0}, "$.kind"),
        (FaultKind.CALIBRATION, [], {}, "$.strength"),
        (FaultKind.CALIBRATION, [], {"strength": 500.0}, "$.strength"),
    ],
)
def test_what_the_machine_cannot_suffer_is_refused_in_a_sentence(
    make_desk: Make, kind: FaultKind, what: list[str], fields: dict[str, Any], path: str
) -> None:
    desk = made(make_desk, modules(40, 60))
    refused = inject(desk, desk.open(), kind, *what, **fields)
    assert isinstance(refused, InvalidParams), refused
    assert refused.path == path
    assert len(refused.sentence()) > len(path) + 40
    assert not desk.state.faults


def test_no_more_faults_are_injected_than_are_counted(make_desk: Make) -> None:
    desk = made(make_desk, modules(40, 60))
    session = desk.open()
    for _ in range(FAULTS_MAX):
        injected(desk, session, FaultKind.MODULE, "m0", after_cycles=9)
    assert isinstance(inject(desk, session, FaultKind.MODULE, "m0"), QuotaExceeded)


def test_a_rehearsal_begins_and_ends_in_cycles_after_now(make_desk: Make) -> None:
    desk = made(make_desk, modules(40, 60))
    session = desk.open()
    job = desk.submit(session, patches(2), shots=LONG)
    now = desk.state.horizon
    reply = inject(
        desk, session, FaultKind.MODULE, "m0", after_cycles=100 * BLOCK, for_cycles=100 * BLOCK
    )
    assert isinstance(reply, FaultInjected)
    assert reply.modes == [DegradedMode.MIGRATE]
    assert (reply.fault.from_cycle, reply.fault.to_cycle) == (now + 100 * BLOCK, now + 200 * BLOCK)
    assert modules_of(desk, job) == [0]
    run_to(desk, now + 100 * BLOCK)
    assert modules_of(desk, job) == [1]
    run_to(desk, now + 200 * BLOCK)
    assert not desk.state.faults, "it is forgotten when it is over"


# --- what outlives the daemon -------------------------------------------------------------------


def opened(desk: Desk) -> SessionId:
    """A session, kept."""
    desk.call(NegotiateCaps(requested=list(ALL)))
    desk.step(ev.Kept(desk.state.keeps))
    reply = desk.replies[desk.calls]
    assert isinstance(reply, Session)
    return reply.session_id


def audited(desk: Desk) -> list[AuditBody]:
    rows = [row for keep in desk.sent(fx.Keep) for row in keep.rows]
    bodies = [row.body for row in rows if isinstance(row, AuditRow)]
    return [msgspec.json.decode(body, type=AuditBody) for body in bodies]


def test_faults_and_modes_are_in_the_audit_chain(make_desk: Make) -> None:
    desk = made(make_desk, modules(40, 60), durable=True)
    session = opened(desk)
    inject(desk, session, FaultKind.MODULE, "m0", for_cycles=10**9)
    (keep,) = desk.sent(fx.Keep)
    (row,) = (each for each in keep.rows if isinstance(each, FaultRow))
    kinds = [(body.kind, body.fields.get("modes")) for body in audited(desk)]
    assert kinds == [("fault injected", None), ("fault begins", ["migrate"])]
    desk.step(ev.Kept(desk.state.keeps))
    desk.call(ClearFault(session_id=session, fault_id=row.id))
    assert [body.kind for body in audited(desk)] == ["fault cleared", "fault ends"]
    (keep,) = desk.sent(fx.Keep)
    assert keep.gone.faults == (row.id,)


def test_an_injected_fault_and_the_machines_clock_outlive_the_daemon(make_desk: Make) -> None:
    broken = fault(FaultKind.MODULE, "m0", from_cycle=5_000, to_cycle=9_000)
    row = FaultRow(id="fault_7", fault=broken)
    over = fault(FaultKind.MODULE, "m1", from_cycle=10, to_cycle=6_000)
    hardware = modules(40, 60, fault=(over,))
    desk = make_desk(rules(1), hardware=hardware, physical_qubits=100, durable=True)
    desk.step(Recovered(cycle=7_000, numbered=7, faults=(row,)))
    assert desk.state.horizon == desk.state.cycle == 7_000
    assert desk.state.inventory.free == [0, 60], "what was over before is over"
    assert desk.state.faults == {"fault_7": broken}
    assert desk.state.change == 9_000


def test_nothing_is_injected_that_cannot_be_written_down(make_desk: Make) -> None:
    desk = made(make_desk, modules(40, 60), durable=True)
    session = opened(desk)
    desk.step(ev.KeepFailed("disk full"))
    assert isinstance(inject(desk, session, FaultKind.MODULE, "m0"), Busy)
    assert not desk.state.faults
