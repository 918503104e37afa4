"""What stands at a fence, what is kept of it, and what is done with a job between two slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.checkpoints import enter, snapshots
from qmkd.core.conftest import ALL, RULES, Desk, bell
from qmkd.core.limits import (
    CHECKPOINTS_MAX,
    JOB_RETAINED_NS,
    LONG_NS,
    SESSION_IDLE_NS,
    WORKER_LEAD_NS,
)
from qmkd.core.ports import Quota, SegmentReport
from qmkd.core.records import CheckpointRow, CopyRow, Recovered, SliceRow, SnapshotRow
from qvm.machine import Hardware, Link, Module
from syscalls.checkpoint import (
    Checkpoint,
    CheckpointDropped,
    Checkpointed,
    CheckpointsListed,
    DropCheckpoint,
    ListCheckpoints,
    Migrate,
    Migrated,
    Restore,
    Restored,
)
from syscalls.errors import (
    AlreadyCompleted,
    Busy,
    CheckpointIncompatible,
    CheckpointNotFound,
    InvalidParams,
    NoFence,
    QuotaExceeded,
    ResourceExhausted,
)
from syscalls.ids import CheckpointId, JobId, SessionId
from syscalls.job import Cancel, Noise
from syscalls.session import CloseSession, NegotiateCaps

SHOTS = 5000
DIGEST = bytes(32)
NEGOTIATION = NegotiateCaps(requested=list(ALL))


def leaves(first: int, shots: int) -> bytes:
    """One leaf for each block, whatever slices they were run in."""
    return b"".join(bytes([at // 1024]) * 32 for at in range(first, first + shots, 1024))


def finish(desk: Desk) -> None:
    """Workers run all there is."""
    while runs := desk.segments():
        desk.done(runs[0], leaves=leaves(runs[0].shot_first, runs[0].shots))


def park(desk: Desk, run: fx.RunSegment, done: int = 0, epoch: int = 1, size: int = 10) -> None:
    """The worker has run `done` shots of it, and the rest stands at the fence of `epoch`."""
    del desk.held[run.ticket]
    report = SegmentReport(
        shots=done,
        counts={"00": done} if run.counts else None,
        first_row={"m0": 0, "m1": 0},
        leaves=leaves(run.shot_first, done),
        engine=run.engine,
        cpu_ns=1000 * done,
        notes={},
    )
    said = report if done else None
    desk.step(ev.SegmentParked(run.worker, run.ticket, said, epoch, size, DIGEST if size else b""))


def digest_of(desk: Desk, job: JobId) -> Any:
    final = desk.state.jobs[job].final
    assert final is not None
    assert final.execution_context is not None
    return final.counts, final.execution_context.results_digest


def undisturbed(**policy: Any) -> Any:
    """What a job comes to where nothing comes between."""
    desk = Desk()
    desk.workers(0)
    session = desk.open()
    job = desk.submit(session, shots=SHOTS, seed=1, **policy)
    finish(desk)
    return digest_of(desk, job)


# --- parked slices -------------------------------------------------------------------------------


def test_a_parked_slice_goes_on_from_where_it_stood(desk: Desk) -> None:
    job = desk.submit(desk.open(), shots=SHOTS, seed=1)
    (run,) = desk.segments()
    assert (run.resume, run.shots) == (0, SHOTS)
    park(desk, run, done=2048)
    (rest,) = desk.segments()
    assert (rest.resume, rest.shot_first, rest.shots) == (run.ticket, 2048, SHOTS - 2048)
    assert not desk.sent(fx.DropSnapshots)
    finish(desk)
    assert desk.sent(fx.DropSnapshots) == [fx.DropSnapshots((run.ticket,))]
    assert digest_of(desk, job) == undisturbed()


def test_what_is_parked_without_a_snapshot_begins_anew(desk: Desk) -> None:
    desk.submit(desk.open(), shots=SHOTS)
    (run,) = desk.segments()
    park(desk, run, done=1024, epoch=0, size=0)
    (rest,) = desk.segments()
    assert (rest.resume, rest.shot_first) == (0, 1024)


def test_a_snapshot_serves_until_its_slice_is_done_or_stands_elsewhere(desk: Desk) -> None:
    desk.submit(desk.open(), shots=SHOTS)
    (run,) = desk.segments()
    park(desk, run)
    (again,) = desk.segments()
    desk.lose(again.worker)
    assert not desk.sent(fx.DropSnapshots), "whoever comes after a lost worker needs it"
    (again,) = desk.segments()
    assert again.resume == run.ticket
    park(desk, again, size=0)
    assert not desk.sent(fx.DropSnapshots), (
        "it got no further, so the snapshot is as good as before"
    )
    (third,) = desk.segments()
    assert third.resume == run.ticket
    park(desk, third, done=1024)
    assert desk.sent(fx.DropSnapshots) == [fx.DropSnapshots((run.ticket,))]


def test_an_unfit_snapshot_is_dropped_and_the_slice_begins_anew(desk: Desk) -> None:
    job = desk.submit(desk.open(), shots=SHOTS, seed=1)
    (run,) = desk.segments()
    park(desk, run, done=1024)
    (rest,) = desk.segments()
    desk.failed(rest, "unfit")
    assert desk.sent(fx.DropSnapshots) == [fx.DropSnapshots((run.ticket,))]
    (anew,) = desk.segments()
    assert (anew.resume, anew.shot_first) == (0, 1024)
    finish(desk)
    assert digest_of(desk, job) == undisturbed()


@pytest.mark.parametrize("shots", [0, 1000, 1025, 8192], ids="{} shots".format)
def test_a_job_fails_whose_worker_parks_what_is_no_whole_blocks(desk: Desk, shots: int) -> None:
    job = desk.submit(desk.open(), shots=SHOTS)
    (run,) = desk.segments()
    report = SegmentReport(
        shots=shots, counts={"00": shots}, first_row={}, leaves=bytes(32 * -(-shots // 1024)),
        engine=run.engine, cpu_ns=1, notes={},
    )  # fmt: skip
    desk.held.clear()
    desk.step(ev.SegmentParked(run.worker, run.ticket, report, 1, 10, DIGEST))
    final = desk.state.jobs[job].final
    assert final is not None
    assert final.error is not None
    assert final.error.type == "INTERNAL_ERROR"
    assert fx.DropSnapshots((run.ticket,)) in desk.out


def test_a_cancelled_job_leaves_no_snapshot(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, shots=SHOTS)
    (run,) = desk.segments()
    park(desk, run)
    (rest,) = desk.segments()
    desk.call(Cancel(session_id=session, job_id=job))
    park(desk, rest)
    dropped = {each for effect in desk.sent(fx.DropSnapshots) for each in effect.tickets}
    assert dropped == {run.ticket, rest.ticket}
    assert desk.state.jobs[job].final is not None


def test_news_of_a_parked_segment_that_nobody_holds_changes_nothing(desk: Desk) -> None:
    desk.submit(desk.open(), shots=SHOTS)
    (run,) = desk.segments()
    park(desk, run)
    version = desk.state.version
    desk.step(ev.SegmentParked(run.worker, run.ticket, None, 1, 10, DIGEST))
    assert desk.state.version == version
    assert [type(effect) for effect in desk.out] == [fx.Note]


# --- taking checkpoints --------------------------------------------------------------------------


def checkpoint(desk: Desk, session: SessionId, job: JobId, **more: Any) -> Any:
    return desk.call(Checkpoint(session_id=session, job_id=job, **more))


def taken(desk: Desk, session: SessionId, job: JobId) -> Checkpointed:
    """A checkpoint of a job whose one slice has 1024 shots done and stands at its fence."""
    assert checkpoint(desk, session, job) is None
    number = desk.calls
    (stop,) = desk.sent(fx.StopSegment)
    assert stop.keep
    (run,) = desk.segments(job)
    park(desk, run, done=1024)
    made = desk.replies[number]
    assert isinstance(made, Checkpointed), made
    return made


def restored(desk: Desk, session: SessionId, name: CheckpointId) -> Any:
    return desk.call(Restore(session_id=session, checkpoint_id=name))


def test_a_restored_job_has_the_bits_of_one_never_disturbed_and_so_has_the_first(
    desk: Desk,
) -> None:
    session = desk.open()
    job = desk.submit(session, shots=SHOTS, seed=1)
    made = taken(desk, session, job)
    assert (made.epoch, made.shots_done) == (1, 1024)
    new = restored(desk, session, made.checkpoint_id)
    assert isinstance(new, Restored)
    mine = [run for run in desk.segments() if run.job_id == new.job_id]
    assert [(run.shot_first, run.shots) for run in mine] == [(1024, SHOTS - 1024)]
    assert mine[0].resume not in {run.resume for run in desk.segments(job)}, "a snapshot of its own"
    finish(desk)
    assert digest_of(desk, job) == digest_of(desk, new.job_id) == undisturbed()
    context = desk.state.jobs[new.job_id].context
    assert context.restored_from == made.checkpoint_id
    assert context.seed == 1


def test_a_checkpoint_outlives_its_job(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, shots=SHOTS, seed=1)
    made = taken(desk, session, job)
    finish(desk)
    desk.later(JOB_RETAINED_NS // 2)
    for _ in range(2):
        new = restored(desk, session, made.checkpoint_id)
        if not isinstance(new, Restored):  # the session was idle too long
            assert desk.now_ns - desk.state.now_ns <= SESSION_IDLE_NS
            break
        finish(desk)
        assert digest_of(desk, new.job_id) == undisturbed()


def test_no_slice_goes_out_while_a_job_comes_to_rest(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, shots=200_000)
    assert len(desk.segments()) == 2
    assert checkpoint(desk, session, job) is None
    number, first = desk.calls, desk.segments()[0]
    desk.done(first)
    assert len(desk.segments()) == 1, "its other slice has yet to stop"
    park(desk, desk.segments()[0])
    assert isinstance(desk.replies[number], Checkpointed)
    assert len(desk.segments()) == 2, "then it goes on by itself"


def test_a_job_that_nobody_has_begun_is_kept_at_once(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    session = desk.open()
    job = desk.submit(session, shots=SHOTS, seed=1)
    made = checkpoint(desk, session, job)
    assert isinstance(made, Checkpointed)
    assert (made.epoch, made.shots_done) == (0, 0)
    new = restored(desk, session, made.checkpoint_id)
    desk.workers(0, 1)
    finish(desk)
    assert digest_of(desk, new.job_id) == undisturbed()


def test_a_job_that_ends_first_is_not_kept(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, shots=SHOTS)
    assert checkpoint(desk, session, job) is None
    number = desk.calls
    assert isinstance(checkpoint(desk, session, job), Busy), "one wish at a time"
    finish(desk)
    assert desk.replies[number] == AlreadyCompleted(state="COMPLETED")
    assert checkpoint(desk, session, job) == AlreadyCompleted(state="COMPLETED")


def test_a_program_without_a_fence_has_none_ahead(desk: Desk) -> None:
    graph = msgspec.json.decode(bell())
    graph["program"]["nodes"] = [
        node for node in graph["program"]["nodes"] if node["op"] != "FENCE_EPOCH"
    ]
    session = desk.open()
    job = desk.submit(session, msgspec.json.encode(graph), shots=100)
    assert checkpoint(desk, session, job) == NoFence()


def test_a_rollback_is_asked_of_the_worker(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, shots=SHOTS)
    checkpoint(desk, session, job, how="rollback")
    assert [(stop.keep, stop.back) for stop in desk.sent(fx.StopSegment)] == [(True, True)]


def test_checkpoints_are_their_sessions_and_are_dropped_with_it(desk: Desk) -> None:
    session, other = desk.open(), desk.open()
    made = taken(desk, session, desk.submit(session, shots=SHOTS))
    name = made.checkpoint_id
    for call in (Restore, DropCheckpoint):
        assert desk.call(call(session_id=other, checkpoint_id=name)) == CheckpointNotFound()
    listed = desk.call(ListCheckpoints(session_id=other))
    assert isinstance(listed, CheckpointsListed)
    assert listed.checkpoints == []
    (kept,) = desk.call(ListCheckpoints(session_id=session)).checkpoints
    assert (kept.checkpoint_id, kept.size_bytes) == (name, made.size_bytes)
    desk.call(CloseSession(session_id=session))
    assert fx.DropResults(name) in desk.out
    assert not desk.state.tenants["alice"].checkpoints


def test_a_dropped_checkpoint_is_no_more_and_jobs_that_went_on_are_not_touched(desk: Desk) -> None:
    session = desk.open()
    made = taken(desk, session, desk.submit(session, shots=SHOTS, seed=1))
    new = restored(desk, session, made.checkpoint_id)
    dropped = desk.call(DropCheckpoint(session_id=session, checkpoint_id=made.checkpoint_id))
    assert dropped == CheckpointDropped(
        checkpoint_id=made.checkpoint_id, size_bytes=made.size_bytes
    )
    assert len(desk.sent(fx.DropSnapshots)) == 1
    assert restored(desk, session, made.checkpoint_id) == CheckpointNotFound()
    finish(desk)
    assert digest_of(desk, new.job_id) == undisturbed()


def test_checkpoints_count_against_a_quota_in_number_and_bytes(
    make_desk: Callable[..., Desk],
) -> None:
    for quota, what in ((Quota(checkpoints=1), "checkpoints"), (Quota(checkpoint_bytes=2000), "b")):
        rule = msgspec.structs.replace(RULES[0], quota=quota)
        desk = make_desk(rules=(rule,))
        session = desk.open()
        job = desk.submit(session, shots=SHOTS)
        answers = [checkpoint(desk, session, job) for _ in range(4)]
        assert isinstance(answers[0], Checkpointed)
        refused = answers[-1]
        assert isinstance(refused, QuotaExceeded)
        assert what in refused.what
        desk.call(DropCheckpoint(session_id=session, checkpoint_id=answers[0].checkpoint_id))
        assert isinstance(checkpoint(desk, session, job), Checkpointed), "dropping makes room"


def test_a_checkpoint_holds_what_is_done_however_much_there_is_to_do(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk()
    desk.workers(0)
    session = desk.open()
    job = desk.submit(session, shots=1024 * 100_000)
    assert checkpoint(desk, session, job) is None
    number, run = desk.calls, desk.segments()[0]
    park(desk, run, done=2048)
    (made,) = desk.state.tenants["alice"].checkpoints.values()
    assert made.job.leaves == leaves(0, 2048)
    new = restored(desk, session, desk.replies[number].checkpoint_id)
    desk.call(Cancel(session_id=session, job_id=job))
    desk.failed(desk.segments()[0], "stopped")
    assert desk.state.jobs[new.job_id].leaves == leaves(0, 2048).ljust(32 * 100_000, b"\0")


def test_a_checkpoint_grows_too_old_as_a_finished_job_does(desk: Desk) -> None:
    session = desk.open()
    desk.submit(session, shots=SHOTS)
    other = desk.submit(session, shots=SHOTS, noise=Noise.IDEAL)
    assert taken(desk, session, other)
    desk.watched = False
    desk.later(JOB_RETAINED_NS + SESSION_IDLE_NS)
    assert not desk.state.tenants["alice"].checkpoints


def test_a_session_closes_in_one_step_with_as_many_checkpoints_as_may_be(
    make_desk: Callable[..., Desk],
) -> None:
    quota = Quota(checkpoints=CHECKPOINTS_MAX, changes_per_minute=10**6, checkpoint_bytes=1 << 40)
    rule = msgspec.structs.replace(RULES[0], quota=quota)
    desk = make_desk(rules=(rule,), workers=16)
    desk.workers(*range(16))
    desk.watched = False
    session = desk.open()
    job = desk.submit(session, shots=10**6)
    assert len(desk.segments()) == 16
    assert checkpoint(desk, session, job) is None
    while runs := desk.segments():
        if job not in desk.state.jobs or not desk.state.jobs[job].resting:
            break
        park(desk, runs[0])
    (first,) = desk.state.tenants["alice"].checkpoints.values()
    assert len(snapshots(first.job)) == 16
    for at in range(1, CHECKPOINTS_MAX):
        row = msgspec.structs.replace(first.row, id=CheckpointId(f"ckpt_{at:032x}"))
        enter(replace(first, row=row))
    desk.call(CloseSession(session_id=session))
    assert not desk.state.tenants["alice"].checkpoints
    assert len(desk.out) < 3 * CHECKPOINTS_MAX


# --- what is durable -----------------------------------------------------------------------------


def keep_all(desk: Desk) -> None:
    desk.step(ev.Kept(desk.state.keeps))


def test_a_checkpoint_is_told_once_it_is_durable_and_verified_before_it_is_used(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(durable=True)
    desk.step(Recovered())
    desk.workers(0, 1)
    session = desk.call(NEGOTIATION)
    keep_all(desk)
    session = desk.replies[desk.calls].session_id
    desk.try_submit(session, shots=SHOTS, seed=1)
    number = desk.calls
    keep_all(desk)
    job = desk.replies[number].job_id
    assert checkpoint(desk, session, job) is None
    number = desk.calls
    (run,) = desk.segments()
    park(desk, run, done=1024)
    (kept,) = desk.sent(fx.Keep)
    kinds = [type(row) for row in kept.rows]
    for kind in (SliceRow, SnapshotRow, CheckpointRow, CopyRow):
        assert kind in kinds
    assert number not in desk.replies
    keep_all(desk)
    name = desk.replies[number].checkpoint_id
    for why, answer in (("a bit flipped", CheckpointIncompatible), ("", None)):
        assert restored(desk, session, name) is None
        (asked,) = desk.sent(fx.VerifyCheckpoint)
        assert len(asked.snapshots) == 1
        number = desk.calls
        desk.step(ev.CheckpointVerified(asked.ticket, why))
        if answer is not None:
            assert isinstance(desk.replies[number], answer)
            assert why in desk.replies[number].reason
    keep_all(desk)
    assert isinstance(desk.replies[number], Restored)
    assert desk.state.jobs[desk.replies[number].job_id].shots_done == 1024


def test_a_shutdown_parks_what_runs_where_jobs_outlive_the_daemon(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(durable=True)
    desk.step(Recovered())
    desk.workers(0)
    desk.call(NEGOTIATION)
    keep_all(desk)
    session = desk.replies[desk.calls].session_id
    desk.try_submit(session, shots=SHOTS)
    keep_all(desk)
    desk.step(ev.ShutDown(10**9))
    while not desk.sent(fx.StopSegment):
        desk.later(1)
    (stop,) = desk.sent(fx.StopSegment)
    assert stop.keep
    (run,) = desk.segments()
    park(desk, run)
    assert not desk.state.halted, "what stands at a fence is made durable first"
    keep_all(desk)
    assert desk.sent(fx.Halt)


# --- moving --------------------------------------------------------------------------------------

TWO = Hardware(
    name="two",
    module=(Module(name="left", qubits=100), Module(name="right", qubits=60)),
    link=(Link(between=("left", "right"), cycles=10.0, fidelity=0.9),),
)


def migrate(desk: Desk, session: SessionId, job: JobId, target: str) -> Any:
    return desk.call(Migrate(session_id=session, job_id=job, target=target))


def test_a_job_is_moved_at_its_next_fence_and_stays_there(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(hardware=TWO, physical_qubits=160)
    desk.workers(0)
    session = desk.open()
    job = desk.submit(session, shots=SHOTS, seed=1)
    record = desk.state.jobs[job]
    here = {run.module for run in record.place or ()}
    target = "left" if here == {1} else "right"
    assert migrate(desk, session, job, target) is None
    number, cycle = desk.calls, record.cycle
    (run,) = desk.segments()
    park(desk, run)
    assert desk.replies[number] == Migrated(job_id=job, placement=target, epoch=1)
    assert {run.module for run in record.place or ()} == {0 if target == "left" else 1}
    need = record.program.demand
    assert need is not None
    assert record.cycle == cycle + 2 * 2 * -(-need.cycles // need.steps), "two blocks, two steps"
    finish(desk)
    assert digest_of(desk, job) == undisturbed()


def test_a_module_that_is_unknown_or_too_small_is_refused_with_names_and_numbers(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(hardware=TWO, physical_qubits=160)
    session = desk.open()
    job = desk.submit(session, shots=10)
    refused = migrate(desk, session, job, "middle")
    assert isinstance(refused, InvalidParams)
    assert refused.expected == "one of left, right"
    large = desk.submit(session, bell(profile="logical:Surface(d=5)"), shots=10)
    refused = migrate(desk, session, large, "right")
    assert isinstance(refused, ResourceExhausted)
    assert (refused.limit, refused.asked) == (60, 2 * 49)
    assert not refused.waiting_helps


def test_a_state_is_not_moved_where_no_link_leads(make_desk: Callable[..., Desk]) -> None:
    apart = msgspec.structs.replace(TWO, link=())
    desk = make_desk(hardware=apart, physical_qubits=160)
    desk.workers(0)
    session = desk.open()
    job = desk.submit(session, shots=SHOTS)
    here = {run.module for run in desk.state.jobs[job].place or ()}
    target = "left" if here == {1} else "right"
    assert migrate(desk, session, job, target) is None
    number = desk.calls
    park(desk, desk.segments()[0])
    refused = desk.replies[number]
    assert isinstance(refused, ResourceExhausted)
    assert "links" in refused.what
    desk.call(Migrate(session_id=session, job_id=job, target=target))
    number = desk.calls
    park(desk, desk.segments()[0], size=0, done=1024, epoch=0)
    assert isinstance(desk.replies[number], Migrated), "no shot is under way"


def test_a_job_not_begun_is_told_at_once_where_it_will_lie(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(hardware=TWO, physical_qubits=160)
    session = desk.open()
    job = desk.submit(session, shots=SHOTS)
    assert isinstance(migrate(desk, session, job, "right"), Migrated)
    assert {run.module for run in desk.state.jobs[job].place or ()} <= {1}


# --- making way ----------------------------------------------------------------------------------


def test_a_long_slice_makes_way_for_what_is_more_urgent_and_goes_on_after_it(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk()
    desk.workers(0)
    session = desk.open()
    slow = desk.submit(session, shots=SHOTS, seed=1)
    desk.submit(session, shots=SHOTS, priority=1)
    assert not desk.sent(fx.StopSegment), "a short slice is waited for"
    desk.now_ns += 2 * LONG_NS
    urgent = desk.submit(session, shots=SHOTS, priority=2)
    (run,) = desk.segments()
    assert desk.sent(fx.StopSegment) == [fx.StopSegment(run.worker, run.ticket, True)]
    park(desk, run)
    (first,) = desk.segments()
    assert first.job_id == urgent
    finish(desk)
    assert digest_of(desk, slow) == undisturbed()


def test_a_long_slice_does_not_make_way_for_what_comes_after_it(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk()
    desk.workers(0)
    session = desk.open()
    desk.submit(session, shots=SHOTS)
    desk.now_ns += 2 * LONG_NS
    desk.submit(session, shots=SHOTS)
    assert not desk.sent(fx.StopSegment)


def test_a_tenant_that_had_little_of_the_workers_need_not_wait_for_a_long_slice(
    make_desk: Callable[..., Desk],
) -> None:
    rules = (RULES[0], msgspec.structs.replace(RULES[0], name="dora", uids=frozenset({9})))
    desk = make_desk(rules=rules)
    desk.workers(0)
    alice, dora = desk.open(), desk.open(uid=9)
    desk.submit(alice, shots=SHOTS)
    desk.now_ns += 2 * LONG_NS
    desk.state.tenants["alice"].worker_ns += 2 * WORKER_LEAD_NS
    desk.submit(dora, shots=SHOTS, uid=9)
    assert len(desk.sent(fx.StopSegment)) == 0, "who was idle has earned nothing by it"
    desk.state.tenants["alice"].worker_ns += 2 * WORKER_LEAD_NS
    desk.submit(dora, shots=SHOTS, uid=9)
    assert len(desk.sent(fx.StopSegment)) == 1
