"""What runs next and where; lost, failed and nonsensical segments; merging."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.conftest import Desk, bell
from qmkd.core.limits import (
    ATTEMPTS_MAX,
    INLINE_GRAPH_BYTES_MAX,
    SEGMENTS_PER_WORKER_MAX,
    SLICE_SHOTS_MAX,
    SLICE_SHOTS_UNMEASURED_MAX,
)
from qmkd.core.ports import Plan, Quota, TenantRule
from qvm.program import Summary
from syscalls.errors import InternalError, NotAvailable, ResourceExhausted, WorkerLost
from syscalls.ids import JobId
from syscalls.job import SHOTS_MAX, Cancel, JobState, JobStatus, Status
from syscalls.registry import JOB_FAILURES
from syscalls.results import SHOT_BLOCK
from syscalls.session import CloseSession
from tests.simulation import invariants


def one_worker(make_desk: Callable[..., Desk]) -> Desk:
    desk = make_desk(workers=1)
    desk.workers(0)
    return desk


def status(desk: Desk, session: str, job: str, uid: int = 1) -> JobStatus:
    reply = desk.call(Status(session_id=session, job_id=job), uid=uid)  # type: ignore[arg-type]
    assert isinstance(reply, JobStatus), reply
    return reply


# --- tenants apart ------------------------------------------------------------------------------


def test_where_tenants_are_apart_a_worker_ends_before_its_place_works_for_another(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(workers=1, workers_apart=True)
    desk.workers(0)
    alice, bob = desk.open(uid=1), desk.open("CAP_ALLOC", uid=2)
    for _ in range(2):
        desk.submit(alice, shots=10)
        desk.done(desk.segments()[0])
    assert not desk.sent(fx.KillWorker), "for the same tenant it goes on"
    desk.submit(bob, uid=2, shots=10)
    assert desk.sent(fx.KillWorker) == [fx.KillWorker(0)]
    assert not desk.segments()
    desk.step(ev.WorkerGone(0))
    desk.workers(0)
    (run,) = desk.segments()
    desk.done(run)
    assert not desk.sent(fx.KillWorker)


def test_where_tenants_are_apart_a_busy_worker_is_left_to_end_its_work(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(workers=1, workers_apart=True)
    desk.workers(0)
    alice, bob = desk.open(uid=1), desk.open("CAP_ALLOC", uid=2)
    desk.submit(alice, shots=10)
    (first,) = desk.segments()
    theirs = desk.submit(bob, uid=2, shots=10)
    later = desk.submit(alice, shots=10)
    assert not desk.sent(fx.KillWorker)
    assert desk.segments() == [first], "nobody overtakes who waits for a fresh worker"
    desk.done(first)
    assert desk.sent(fx.KillWorker) == [fx.KillWorker(0)]
    ran = []
    for _ in range(2):
        desk.step(ev.WorkerGone(0))
        desk.workers(0)
        (run,) = desk.segments()
        ran.append(run.job_id)
        desk.done(run)
    assert ran == [theirs, later]


def test_where_tenants_share_workers_none_is_ended(make_desk: Callable[..., Desk]) -> None:
    desk = one_worker(make_desk)
    for uid in (1, 2, 1, 2):
        session = desk.open("CAP_ALLOC", uid=uid)
        desk.submit(session, uid=uid, shots=10)
        desk.done(desk.segments()[0])
        assert not desk.sent(fx.KillWorker)


# --- slices -------------------------------------------------------------------------------------


def test_a_job_is_cut_into_slices_of_whole_blocks_that_cover_it_once(desk: Desk) -> None:
    session = desk.open()
    shots = 200_001
    job = desk.submit(session, shots=shots)
    seen = []
    while desk.held:
        run = next(iter(desk.segments()))
        seen.append((run.shot_first, run.shots))
        desk.done(run)
    seen.sort()
    assert seen[0][0] == 0
    assert all(first + size == then for (first, size), (then, _) in itertools.pairwise(seen))
    assert all(size % SHOT_BLOCK == 0 for _, size in seen[:-1])
    assert sum(size for _, size in seen) == shots
    assert len(seen) > 3
    assert status(desk, session, job).counts == {"00": shots}


def test_several_slices_of_a_job_run_at_once(desk: Desk) -> None:
    desk.submit(desk.open(), shots=200_000)
    assert {run.worker for run in desk.segments()} == {0, 1}


def test_slices_are_no_shorter_than_planned(make_desk: Callable[..., Desk]) -> None:
    desk = one_worker(make_desk)

    def planner(summary: Summary, shots: int, noise: str, keeps: bool) -> Plan:
        return Plan(
            engine="fake",
            why="test",
            width=summary.peak_logical,
            ns_fixed=100_000,
            ns_per_shot=1_000,
            bytes_peak=1000,
            shots_least=50 * SHOT_BLOCK,
        )

    desk.kernel.state.planner = planner
    desk.submit(desk.open(), shots=10_000_000)
    (run,) = desk.segments()
    assert run.shots == 50 * SHOT_BLOCK
    desk.done(run, cpu_ns=run.shots * 10_000)
    (run,) = desk.segments()
    assert run.shots == 50 * SHOT_BLOCK


def test_slices_take_about_thirty_milliseconds_as_planned_and_then_as_measured(
    make_desk: Callable[..., Desk],
) -> None:
    desk = one_worker(make_desk)
    desk.submit(desk.open(), shots=10_000_000)
    (run,) = desk.segments()
    assert run.shots == 30_000 // SHOT_BLOCK * SHOT_BLOCK
    desk.done(run, cpu_ns=run.shots * 10_000)
    (run,) = desk.segments()
    assert run.shots == 3_000 // SHOT_BLOCK * SHOT_BLOCK
    while run.shots <= SLICE_SHOTS_UNMEASURED_MAX:
        desk.done(run, cpu_ns=run.shots * 10)
        before, (run,) = run.shots, desk.segments()
        assert run.shots >= before
    assert run.shots > SLICE_SHOTS_UNMEASURED_MAX


def test_results_do_not_depend_on_the_order_in_which_slices_come_back(
    make_desk: Callable[..., Desk],
) -> None:
    ends = []
    for backwards in (False, True):
        desk = make_desk()
        desk.workers(0, 1)
        session = desk.open()
        job = desk.submit(session, shots=60_000)
        while desk.held:
            runs = desk.segments()
            run = runs[-1] if backwards else runs[0]
            leaves = b"".join(
                sha256(bytes([at % 251])).digest()
                for at in range(run.shot_first // 1024, -(-(run.shot_first + run.shots) // 1024))
            )
            row = {"m0": 1} if run.shot_first == 0 else {"m0": 0}
            desk.done(run, leaves=leaves, first_row=row)
        ends.append(status(desk, session, job))
    first, second = ends
    assert first.execution_context is not None
    assert second.execution_context is not None
    every = b"".join(sha256(bytes([at % 251])).digest() for at in range(-(-60_000 // 1024)))
    assert first.execution_context.results_digest == sha256(every).hexdigest()
    assert second.execution_context.results_digest == sha256(every).hexdigest()
    assert first.counts == second.counts == {"00": 60_000}
    assert first.events == second.events == {"m0": 1}


def test_counts_are_given_up_where_too_many_outcomes_differ(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qmkd.core.schedule.COUNTS_KEYS_MAX", 2)
    session = desk.open()
    job = desk.submit(session, shots=3)
    desk.done(desk.segments()[0], counts={"00": 1, "01": 1, "11": 1})
    ended = status(desk, session, job)
    assert ended.counts is None
    assert ended.counts_omitted == "more than 2 outcomes differ; read the packed rows"


def test_a_job_that_asked_for_no_counts_says_so(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, counts=False)
    (run,) = desk.segments()
    assert not run.counts
    desk.done(run)
    assert status(desk, session, job).counts_omitted == "the policy asked for none"


# --- order --------------------------------------------------------------------------------------


def test_within_a_tenant_priority_goes_first_and_then_age(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(workers=1)
    session = desk.open()
    jobs = [desk.submit(session, shots=30_000, priority=p) for p in (0, 1, 0, -1, 1)]
    desk.workers(0)
    order = []
    while desk.held:
        (run,) = desk.segments()
        if run.job_id not in order:
            order.append(run.job_id)
        desk.done(run)
    assert order == [jobs[i] for i in (1, 4, 0, 2, 3)]


def test_tenants_take_turns_whatever_their_priorities(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(workers=1)
    alice, bob = desk.open(), desk.open(uid=2)
    for _ in range(3):
        desk.submit(alice, shots=20_000, priority=100)
        desk.submit(bob, shots=20_000, uid=2)
    desk.workers(0)
    order = []
    while desk.held:
        (run,) = desk.segments()
        order.append(desk.state.jobs[JobId(run.job_id)].tenant.rule.name)
        desk.done(run)
    assert order == ["alice", "bob"] * 3


def test_small_segments_share_a_worker_and_large_ones_do_not(
    make_desk: Callable[..., Desk],
) -> None:
    desk = one_worker(make_desk)
    session = desk.open()
    for _ in range(20):
        desk.submit(session, shots=10)
    assert len(desk.segments()) == SEGMENTS_PER_WORKER_MAX
    desk.run_all()
    for _ in range(2):
        desk.submit(session, shots=20_000)
    assert len(desk.segments()) == 1


def test_jobs_whose_qubits_do_not_fit_together_wait_and_say_why(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(physical_qubits=70)
    desk.workers(0, 1)
    session = desk.open()
    jobs = [desk.submit(session) for _ in range(3)]
    states = [status(desk, session, job).state for job in jobs]
    assert states == [JobState.RUNNING, JobState.RUNNING, JobState.QUEUED]
    place = status(desk, session, jobs[2]).queue
    assert place is not None
    assert (place.position, place.reason) == (0, "waiting for physical qubits of the machine")
    desk.done(desk.segments()[0])
    assert status(desk, session, jobs[2]).state is JobState.RUNNING


def test_a_tenants_quota_holds_back_its_own_jobs_only(make_desk: Callable[..., Desk]) -> None:
    rules = (
        TenantRule(name="a", uids=frozenset({1}), quota=Quota(logical_qubits=2)),
        TenantRule(name="b", uids=frozenset({2})),
    )
    desk = make_desk(rules)
    desk.workers(0, 1)
    first, second = desk.open(), desk.open(uid=2)
    desk.submit(first)
    waits = desk.submit(first)
    runs = desk.submit(second, uid=2)
    place = status(desk, first, waits).queue
    assert place is not None
    why = "waiting for logical qubits of the tenant's quota: 2 asked, 2 of 2 in use"
    assert place.reason == why
    assert status(desk, second, runs, uid=2).state is JobState.RUNNING


def test_a_job_that_runs_goes_on_while_a_more_urgent_one_waits_for_its_qubits(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(physical_qubits=40, workers=1)
    desk.workers(0)
    session = desk.open()
    long = desk.submit(session, shots=90_000)
    urgent = desk.submit(session, priority=5)
    order = []
    while desk.held:
        (run,) = desk.segments()
        order.append(run.job_id)
        desk.done(run)
    assert order[-1] == urgent
    assert set(order[:-1]) == {long}


# --- losses and failures ------------------------------------------------------------------------


def test_a_lost_slice_runs_again_alone_and_the_result_is_whole(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, shots=2000)
    (run,) = desk.segments()
    desk.lose(run.worker)
    (again,) = desk.segments()
    assert (again.shot_first, again.shots) == (run.shot_first, run.shots)
    assert again.worker != run.worker
    desk.submit(session, shots=1)
    assert len(desk.segments()) == 1, "nothing shares a worker with a suspect"
    desk.workers(run.worker)
    desk.run_all()
    assert status(desk, session, job).counts == {"00": 2000}


def test_a_job_over_which_workers_die_again_and_again_has_failed(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session)
    for _ in range(ATTEMPTS_MAX):
        (run,) = desk.segments()
        desk.lose(run.worker)
        desk.workers(run.worker)
    ended = status(desk, session, job)
    assert ended.state is JobState.FAILED
    assert ended.error is not None
    assert ended.error.type == WorkerLost.NAME
    assert ended.error.data["attempts"] == ATTEMPTS_MAX


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("refused", NotAvailable),
        ("memory", ResourceExhausted),
        ("results", ResourceExhausted),
        ("internal", InternalError),
        ("stopped", InternalError),  # nobody asked it to
    ],
)
def test_a_failed_segment_fails_its_job_with_a_typed_error(
    desk: Desk, reason: str, error: type
) -> None:
    session = desk.open()
    job = desk.submit(session, shots=50_000)
    first, second = desk.segments()
    desk.failed(first, reason)
    assert fx.StopSegment(second.worker, second.ticket) in desk.out
    desk.failed(second, "stopped")
    ended = status(desk, session, job)
    assert ended.state is JobState.FAILED
    assert ended.error is not None
    assert ended.error.type == error.NAME  # type: ignore[attr-defined]
    assert error in JOB_FAILURES
    assert ("worker" in ended.error.message) == (reason == "memory")
    if error is InternalError:
        assert "so it is" not in ended.error.message, "a worker's words stay in the log"
    if reason == "refused":
        assert ended.error.message.endswith("is not available in this build. Why: so it is.")
    if reason == "memory":
        assert ended.error.data["asked"] > ended.error.data["limit"], "or it would have sufficed"


@pytest.mark.parametrize(
    "nonsense",
    [{"shots": 9}, {"leaves": b""}, {"counts": {"00": 3}}, {"counts": {"00": 11}}],
)
def test_a_report_that_cannot_be_true_fails_the_job(desk: Desk, nonsense: dict[str, int]) -> None:
    session = desk.open()
    job = desk.submit(session, shots=10)
    desk.done(desk.segments()[0], **nonsense)
    ended = status(desk, session, job)
    assert ended.error is not None
    assert ended.error.type == InternalError.NAME
    assert ended.counts is None


def test_an_answer_that_comes_twice_or_too_late_changes_nothing(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session)
    (run,) = desk.segments()
    desk.done(run)
    before = status(desk, session, job)
    desk.held[run.ticket] = run
    desk.done(run)
    assert [type(effect) for effect in desk.out] == [fx.Note]
    desk.held[run.ticket] = run
    desk.failed(run, "internal")
    desk.step(ev.ProgramChecked(12345, None))
    assert [type(effect) for effect in desk.out] == [fx.Note]
    assert status(desk, session, job) == before


def test_the_machines_epoch_never_goes_back(desk: Desk) -> None:
    session = desk.open()
    epochs = [desk.state.epoch]
    for _ in range(3):
        desk.submit(session)
        desk.run_all()
        epochs.append(desk.state.epoch)
    assert epochs == [0, 2, 4, 6]


def test_work_that_nobody_waits_for_any_more_is_not_begun(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    session = desk.open()
    job = desk.submit(session)
    assert desk.try_submit(session, bell(INLINE_GRAPH_BYTES_MAX)) is None
    desk.call(Cancel(session_id=session, job_id=job))
    desk.call(CloseSession(session_id=session))
    desk.workers(0, 1)
    assert not desk.held
    assert desk.state.tenants["alice"].checking == 0


def test_a_program_is_forgotten_by_workers_once_it_is_neither_used_nor_cached(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in ("qmkd.core.programs", "tests.simulation.invariants"):
        monkeypatch.setattr(f"{room}.PROGRAMS_CACHED_MAX", 1)
    session = desk.open()
    desk.submit(session, bell())
    (run,) = desk.segments()
    desk.submit(session, bell(1))
    assert not desk.sent(fx.ForgetProgram), "it is in use"
    desk.done(run)
    assert desk.sent(fx.ForgetProgram) == [fx.ForgetProgram(run.program)]


# --- slices by chance ---------------------------------------------------------------------------

BLOCKS = st.integers(1, 5 * SHOT_BLOCK) | st.integers(1, 20 * SLICE_SHOTS_UNMEASURED_MAX)
FATES = st.lists(st.tuples(st.integers(0, 7), st.sampled_from("ddddlks")), max_size=60)


@settings(max_examples=150, deadline=None)
@given(
    shots=BLOCKS,
    least=st.sampled_from((1, SHOT_BLOCK, 5_000, SLICE_SHOTS_MAX + 7, 1 << 40)),
    ns=st.sampled_from((0, 1, 900, 10**6, 10**12)),
    workers=st.integers(1, 4),
    crowd=st.booleans(),
    fates=FATES,
)
def test_slices_cover_every_shot_exactly_once_whatever_is_lost(
    shots: int, least: int, ns: int, workers: int, crowd: bool, fates: list[tuple[int, str]]
) -> None:
    """d: a slice is done. l: its worker is lost. k: killed by us. s: done, and measured as slow."""
    shots = min(shots, SHOTS_MAX)
    desk = Desk(workers=workers, physical_qubits=34)
    desk.watched = False
    desk.state.planner = lambda summary, shots, noise, keeps: Plan(
        engine="fake", why="test", width=2, ns_fixed=0, ns_per_shot=ns, bytes_peak=0,
        shots_least=least,
    )  # fmt: skip
    session = desk.open()
    job = desk.submit(session, shots=shots)
    if crowd:
        desk.submit(session, shots=1)
    desk.workers(*range(workers))
    done = [0] * -(-shots // SHOT_BLOCK)
    fate = iter(fates)
    while mine := desk.segments(job):
        at, what = next(fate, (0, "d"))
        run = mine[at % len(mine)]
        assert run.shot_first % SHOT_BLOCK == 0
        end = run.shot_first + run.shots
        assert 0 < run.shots <= SLICE_SHOTS_MAX
        assert end == shots or (end < shots and end % SHOT_BLOCK == 0)
        worker = desk.state.workers[run.worker]
        if what in "ds" or desk.state.jobs[job].stop is not None:
            for block in range(run.shot_first // SHOT_BLOCK, -(-end // SHOT_BLOCK)):
                done[block] += 1
            desk.done(run, cpu_ns=run.shots * (1 if what == "d" else 10**6))
            continue
        worker.killed = what == "k"  # nobody is to blame: as after another job's grace
        desk.lose(run.worker)
        desk.workers(run.worker)
        if desk.state.jobs[job].final is not None:
            return  # lost too often, as other tests have it
    found = desk.state.jobs[job]
    invariants.check(desk.state)
    if found.state is JobState.COMPLETED:
        assert set(done) == {1}
        assert found.shots_done == shots
    else:
        assert found.state is JobState.FAILED
        assert any(what == "l" for _, what in fates)
