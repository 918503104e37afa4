"""What becomes a job and what does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.conftest import WIDTH_MAX, Desk, bell
from qmkd.core.limits import ATTEMPTS_MAX, INLINE_GRAPH_BYTES_MAX
from qmkd.core.ports import Quota, TenantRule
from syscalls.errors import (
    Busy,
    DeadlineUnreachable,
    IdempotencyConflict,
    InsufficientCaps,
    InternalError,
    InvalidGraph,
    NotAvailable,
    ProgramTooWide,
    QuotaExceeded,
    ResourceExhausted,
)
from syscalls.ids import JobId, SessionId
from syscalls.job import JobState, Noise, Planned, Status, Submitted
from syscalls.plan import JobPlan
from syscalls.results import Results
from syscalls.session import CloseSession

LARGE = INLINE_GRAPH_BYTES_MAX


def wide(qubits: int, profile: str = "logical:ideal") -> bytes:
    names = ",".join(f'"q{i}"' for i in range(qubits))
    alloc = f'{{"n":{qubits},"profile":"{profile}"}}'
    return (
        '{"version":"0.1","program":{"nodes":[{"id":"a","op":"ALLOC_LQ","args":'
        f'{alloc},"vqs":[{names}]}},{{"id":"f","op":"FREE_LQ","vqs":[{names}]}}]}},'
        f'"resources":{{"vqs":[{names}],"chs":[],"events":[]}}}}'
    ).encode()


def test_a_program_needs_the_rights_of_its_operations(desk: Desk) -> None:
    session = desk.open("CAP_ALLOC")
    refused = desk.try_submit(session, bell(extra="APPLY_T"))
    assert refused == InsufficientCaps(required=["CAP_ALLOC", "CAP_MAGIC"], missing=["CAP_MAGIC"])
    desk.submit(desk.open(), bell(extra="APPLY_T"))


def test_what_this_build_lacks_is_refused_by_name(desk: Desk) -> None:
    assert isinstance(desk.try_submit(desk.open(), bell(), debug=True), NotAvailable)


def advice_of(desk: Desk, session: SessionId, job: JobId) -> dict[str, int]:
    reply = desk.call(Status(session_id=session, job_id=job))
    assert reply.execution_context is not None
    advice: dict[str, int] = reply.execution_context.advice
    return advice


def asking(deadline: int) -> bytes:
    graph = msgspec.json.decode(bell(extra="SET_POLICY"))
    graph["program"]["nodes"][2]["args"] = {"priority": 5, "deadline": deadline}
    return msgspec.json.encode(graph)


def test_a_program_sets_its_priority_and_deadline_where_its_submission_leaves_them_open(
    desk: Desk,
) -> None:
    session = desk.open()
    job = desk.submit(session, asking(2), shots=200_000)
    policy = desk.state.jobs[job].policy
    assert (policy.priority, policy.deadline_epochs) == (5, 2)
    assert desk.state.jobs[job].rank < desk.state.jobs[desk.submit(session, shots=9)].rank
    assert advice_of(desk, session, job) == {"priority": 5, "deadline": 2}
    other = desk.submit(session, asking(2), shots=200_000, priority=-1)
    assert desk.state.jobs[other].policy.priority == -1
    assert advice_of(desk, session, other) == {"deadline": 2}
    assert advice_of(desk, session, desk.submit(session)) == {}
    refused = desk.try_submit(session, asking(1))
    assert refused == DeadlineUnreachable(estimated_epochs=2, deadline_epochs=1)
    assert isinstance(desk.try_submit(session, asking(1), deadline_epochs=9), Submitted)


def test_the_same_key_and_advice_stand_for_one_job(desk: Desk) -> None:
    session = desk.open()
    one = desk.try_submit(session, asking(2), idempotency_key="k")
    two = desk.try_submit(session, asking(2), idempotency_key="k")
    assert (one.job_id, one.reused, two.reused) == (two.job_id, False, True)


CALIBRATED = "calibrated uniform 0.001"
PHYSICAL = "physical uniform 0.001"


@pytest.mark.parametrize(
    ("profile", "asked", "requested", "applied", "why"),
    [
        ("logical:Surface(d=3)", {}, "profile", CALIBRATED, True),
        ("logical:Surface(d=3)", {"noise": Noise.IDEAL}, "ideal", "ideal", False),
        ("logical:Surface(d=3)", {"noise": Noise.PROFILE}, "profile", CALIBRATED, True),
        ("logical:Surface(d=3)", {"noise": Noise.CALIBRATED}, "calibrated", CALIBRATED, False),
        ("logical:Surface(d=3)", {"noise": Noise.PHYSICAL}, "physical", PHYSICAL, False),
        ("logical:ideal", {"noise": Noise.PROFILE}, "profile", "ideal", True),
        ("logical:ideal", {}, "profile", "ideal", True),
        ("logical:ideal", {"noise": Noise.IDEAL}, "ideal", "ideal", False),
    ],
)
def test_a_job_says_which_noise_was_asked_and_which_applied(
    desk: Desk, profile: str, asked: dict[str, Any], requested: str, applied: str, why: bool
) -> None:
    session = desk.open()
    job = desk.submit(session, bell(profile=profile), **asked)
    noise = desk.call(Status(session_id=session, job_id=job)).execution_context.noise
    assert (noise.requested, noise.applied, bool(noise.why)) == (requested, applied, why)


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("logical:Surface(d=13)", "d=9, the nearest that is known"),
        ("logical:Surface(d=4)", "d=3, the nearest that is known"),
        ("logical:bacon_shor(d=5)", "logical:BaconShor(d=5) under uniform 0.001"),
        ("logical:SHYPS(d=4)", 'too dear to measure when asked for. Ask for `noise: "ideal"`.'),
    ],
)
def test_a_job_whose_errors_nobody_knows_is_refused_with_a_way_out(
    desk: Desk, profile: str, said: str
) -> None:
    session = desk.open()
    for noise in (Noise.PROFILE, Noise.CALIBRATED):
        refused = desk.try_submit(session, bell(profile=profile), noise=noise)
        assert isinstance(refused, NotAvailable)
        assert said in refused.sentence()
    for noise in (Noise.IDEAL, Noise.DECODED):
        desk.submit(session, bell(profile=profile), noise=noise)


def test_a_program_of_other_codes_is_no_circuit_of_patches(desk: Desk) -> None:
    session = desk.open()
    refused = desk.try_submit(session, bell(profile="logical:SHYPS(d=4)"), noise=Noise.PHYSICAL)
    assert isinstance(refused, NotAvailable)
    assert "`physical` noise of logical:SHYPS(d=4)" in refused.sentence()
    desk.submit(session, bell(profile="logical:BaconShor(d=8)"), noise=Noise.PHYSICAL)


def test_a_job_whose_errors_can_be_measured_is_taken(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(measurable={"BaconShor": 5})
    session = desk.open()
    desk.submit(session, bell(profile="logical:bacon_shor(d=5)"), noise=Noise.CALIBRATED)
    refused = desk.try_submit(session, bell(profile="logical:bacon_shor(d=7)"))
    assert isinstance(refused, NotAvailable)


def test_a_program_too_wide_or_too_long_for_its_deadline_is_refused(desk: Desk) -> None:
    session = desk.open()
    refused = desk.try_submit(session, wide(WIDTH_MAX + 1))
    assert isinstance(refused, ProgramTooWide)
    assert desk.try_submit(session, deadline_epochs=1) == DeadlineUnreachable(
        estimated_epochs=2, deadline_epochs=1
    )
    desk.submit(session, deadline_epochs=2)


@pytest.mark.parametrize(
    ("quota", "policy", "error"),
    [
        ({"logical_qubits": 1}, {}, ("logical qubits", 1, 0, 2, False)),
        ({"physical_qubits": 33}, {}, ("physical qubits", 33, 0, 34, False)),
        ({"queued_bytes": 10}, {}, ("bytes of queued graphs", 10, 0, len(bell()), False)),
        ({"jobs": 0}, {}, ("jobs", 0, 0, 1, False)),
        (
            {"result_bytes": 1999},
            {"shots": 1000},
            ("bytes of results of live jobs", 1999, 0, 2000, False),
        ),
    ],
)
def test_a_quota_that_a_job_alone_exceeds_is_refused_with_its_figures(
    make_desk: Callable[..., Desk], quota: dict[str, int], policy: dict[str, Any], error: Any
) -> None:
    desk = make_desk((TenantRule(name="a", uids=frozenset({1}), quota=Quota(**quota)),))
    refused = desk.try_submit(desk.open(), **policy)
    assert isinstance(refused, QuotaExceeded)
    fields = (refused.what, refused.limit, refused.in_use, refused.asked, refused.waiting_helps)
    assert fields == error


def test_a_quota_in_use_says_that_waiting_helps_and_it_does(desk: Desk) -> None:
    session = desk.open("CAP_ALLOC", uid=2)
    for _ in range(3):
        desk.submit(session, uid=2)
    refused = desk.try_submit(session, uid=2)
    assert refused == QuotaExceeded(what="jobs", limit=3, in_use=3, asked=1, waiting_helps=True)
    assert refused.retryable
    desk.run_all()
    desk.submit(session, uid=2)


def test_what_the_machine_never_has_is_exhausted_and_waiting_does_not_help(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(physical_qubits=33, worker_bytes=10_000)
    refused = desk.try_submit(desk.open())
    assert refused == ResourceExhausted(
        what="physical qubits", limit=33, in_use=0, asked=34, waiting_helps=False
    )
    desk = make_desk(worker_bytes=999)
    assert isinstance(desk.try_submit(desk.open()), ResourceExhausted)


def test_the_same_graph_is_held_once_whatever_the_number_of_jobs(
    make_desk: Callable[..., Desk],
) -> None:
    quota = Quota(queued_bytes=len(bell()) + 1)
    desk = make_desk((TenantRule(name="a", uids=frozenset({1}), quota=quota),))
    session = desk.open()
    for _ in range(5):
        desk.submit(session)
    assert desk.state.tenants["a"].held_bytes == len(bell())
    assert isinstance(desk.try_submit(session, bell(1)), QuotaExceeded)


# --- idempotency --------------------------------------------------------------------------------


def test_a_key_stands_for_one_submission_of_its_tenant(desk: Desk) -> None:
    session = desk.open()
    first = desk.try_submit(session, shots=3, idempotency_key="k")
    again = desk.try_submit(session, shots=3, idempotency_key="k")
    assert (first.reused, again.reused) == (False, True)
    assert again.job_id == first.job_id
    assert len(desk.state.jobs) == 1
    conflict = IdempotencyConflict(job_id=first.job_id)
    assert desk.try_submit(session, shots=4, idempotency_key="k") == conflict
    assert desk.try_submit(session, bell(1), shots=3, idempotency_key="k") == conflict
    # A session is never given a job that it may not ask about.
    assert desk.try_submit(desk.open(), shots=3, idempotency_key="k") == conflict
    other = desk.try_submit(desk.open(uid=2), uid=2, shots=3, idempotency_key="k")
    assert isinstance(other, Submitted)
    assert other.job_id != first.job_id


def test_a_key_does_not_lead_to_a_job_that_its_closed_session_left_stopping(desk: Desk) -> None:
    session = desk.open()
    stopping = desk.submit(session, idempotency_key="k")
    assert desk.state.jobs[stopping].segments
    desk.call(CloseSession(session_id=session))
    again = desk.try_submit(desk.open(), idempotency_key="k")
    assert not again.reused
    assert again.job_id != stopping
    desk.run_all()


def test_a_key_stands_for_its_job_as_long_as_the_job_is_known(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, idempotency_key="k")
    desk.run_all()
    for padding in range(300):  # push the program out of the cache
        desk.submit(session, bell(padding + 1))
        desk.run_all()
    again = desk.try_submit(session, idempotency_key="k")
    assert (again.job_id, again.reused) == (job, True)


def test_two_submissions_under_one_key_at_once_make_one_job(desk: Desk) -> None:
    session = desk.open()
    asked = []
    for _ in range(2):
        assert desk.try_submit(session, bell(LARGE), idempotency_key="k") is None
        asked.append(desk.calls)
    for unit in [one for one in desk.held.values() if isinstance(one, fx.CheckProgram)]:
        desk.checked(unit)
    first, second = (desk.replies[call] for call in asked)
    assert first.job_id == second.job_id
    assert {first.reused, second.reused} == {False, True}


# --- seeds --------------------------------------------------------------------------------------


def test_a_seed_left_out_is_taken_from_the_events_entropy_and_reported(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session)
    (run,) = desk.segments()
    context = desk.call(Status(session_id=session, job_id=job)).execution_context
    assert context.seed == run.seed == 0, "the second half of the desk's entropy is zero"
    job = desk.submit(session, seed=2**64 - 1)
    assert desk.segments(job)[0].seed == 2**64 - 1


# --- large graphs -------------------------------------------------------------------------------


def test_a_large_graph_is_verified_by_a_worker_before_its_submission_is_answered(
    desk: Desk,
) -> None:
    session = desk.open()
    assert desk.try_submit(session, bell(LARGE)) is None
    asked = desk.calls
    (check,) = desk.sent(fx.CheckProgram)
    desk.checked(check)
    assert isinstance(desk.replies[asked], Submitted)
    assert isinstance(desk.try_submit(session, bell(LARGE)), Submitted), "known by its bytes now"


def test_an_invalid_large_graph_leaves_nothing_behind(desk: Desk) -> None:
    session = desk.open()
    assert desk.try_submit(session, bell(LARGE)[1:]) is None
    asked = desk.calls
    desk.run_all()
    refused = desk.replies[asked]
    assert isinstance(refused, InvalidGraph)
    assert refused.findings_total == len(refused.findings) == 1
    tenant = desk.state.tenants["alice"]
    assert (tenant.held_bytes, tenant.checking, tenant.parked) == (0, 0, 0)


def test_admission_looks_again_after_verification(desk: Desk) -> None:
    session = desk.open("CAP_ALLOC", uid=2)
    assert desk.try_submit(session, bell(LARGE, extra="APPLY_T"), uid=2) is None
    asked = desk.calls
    desk.run_all()
    assert isinstance(desk.replies[asked], InsufficientCaps)


def test_a_submission_whose_client_has_gone_makes_no_job(desk: Desk) -> None:
    session = desk.open()
    assert desk.try_submit(session, bell(LARGE)) is None
    desk.step(ev.ClientGone(1))
    desk.run_all()
    assert not desk.state.jobs
    assert desk.state.tenants["alice"].checking == 0


def test_a_check_is_tried_again_when_its_worker_is_lost_but_not_for_ever(desk: Desk) -> None:
    assert desk.try_submit(desk.open(), bell(LARGE)) is None
    asked = desk.calls
    for _ in range(ATTEMPTS_MAX):
        assert asked not in desk.replies
        (check,) = desk.held.values()
        desk.lose(check.worker)
        desk.workers(check.worker)
    reply = desk.replies[asked]
    assert isinstance(reply, InternalError)
    assert reply.reference


def test_a_worker_without_a_verdict_is_an_internal_error(desk: Desk) -> None:
    assert desk.try_submit(desk.open(), bell(LARGE)) is None
    asked = desk.calls
    (ticket,) = desk.held
    desk.step(ev.ProgramChecked(ticket, None))
    assert isinstance(desk.replies[asked], InternalError)
    assert desk.sent(fx.Note)


def test_only_so_many_requests_may_wait(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmkd.core.waiting.PARKED_MAX", 1)
    session = desk.open()
    assert desk.try_submit(session, bell(LARGE)) is None
    assert isinstance(desk.try_submit(session, bell(LARGE + 1)), Busy)


def test_a_valid_graph_of_just_the_bound_is_verified_within_the_step(desk: Desk) -> None:
    padding = INLINE_GRAPH_BYTES_MAX - len(bell())
    assert isinstance(desk.try_submit(desk.open(), bell(padding)), Submitted)
    assert desk.try_submit(desk.open(), bell(padding + 1)) is None


def test_a_plan_is_told_and_leaves_nothing_behind(desk: Desk) -> None:
    session = desk.open()
    before = desk.state.version
    told = desk.plan(session, shots=50, idempotency_key="k")
    assert isinstance(told, Planned)
    assert told.plan == JobPlan(engine="fake", cpu_ns=150_000, bytes=1000, rows=[])
    assert told.estimated_epochs == 2
    assert desk.state.version == before
    assert not desk.state.jobs
    assert not desk.held
    assert not desk.try_submit(session, idempotency_key="k").reused


def test_what_could_not_be_submitted_is_not_planned(desk: Desk) -> None:
    session = desk.open()
    wide_graph = wide(WIDTH_MAX + 1)
    assert desk.plan(session, wide_graph) == desk.try_submit(session, wide_graph)
    assert isinstance(desk.plan(session, wide_graph), ProgramTooWide)
    assert isinstance(desk.plan(session, b"{}"), InvalidGraph)
    assert isinstance(desk.plan(session, debug=True), NotAvailable)


def test_a_large_program_is_planned_once_a_worker_has_verified_it(desk: Desk) -> None:
    session = desk.open()
    desk.workers(0)
    graph = bell(padding=LARGE)
    assert desk.plan(session, graph) is None
    planning = desk.calls
    desk.run_all()
    assert isinstance(desk.replies[planning], Planned)
    assert not desk.state.jobs


def test_nothing_is_planned_during_a_shutdown(desk: Desk) -> None:
    session = desk.open()
    desk.submit(session)
    desk.step(ev.ShutDown(grace_ns=1))
    assert isinstance(desk.plan(session), Busy)


def test_a_job_tells_its_plan_and_what_it_cost_so_far(desk: Desk) -> None:
    session = desk.open()
    desk.workers(0)
    job = desk.submit(session, shots=10)
    desk.run_all()
    figures = desk.call(Status(session_id=session, job_id=job)).telemetry
    assert figures.plan == desk.plan(session, shots=10).plan
    assert figures.cpu_ns == 10_000


def test_exact_probabilities_are_one_slice_and_no_rows(desk: Desk) -> None:
    session = desk.open()
    desk.workers(0)
    job = desk.submit(session, exact=True, shots=5000)
    (run,) = desk.segments(job)
    assert (run.engine, run.shots, run.row_bytes, run.counts) == ("exact", 1, 0, False)
    desk.done(run)
    status = desk.call(Status(session_id=session, job_id=job))
    assert status.state is JobState.COMPLETED
    assert status.probabilities == {"00": 0.25, "11": 0.75}
    assert (status.events, status.counts) == ({}, None)
    assert status.execution_context.results_digest is None
    assert isinstance(desk.call(Results(session_id=session, job_id=job)), NotAvailable)


@pytest.mark.parametrize("probabilities", [None, {}, {"00": 0.5, "11": 0.4}])
def test_probabilities_that_do_not_sum_to_one_are_no_result(
    desk: Desk, probabilities: dict[str, float] | None
) -> None:
    session = desk.open()
    desk.workers(0)
    job = desk.submit(session, exact=True)
    desk.done(desk.segments(job)[0], probabilities=probabilities)
    status = desk.call(Status(session_id=session, job_id=job))
    assert status.state is JobState.FAILED
    assert status.probabilities is None


def test_a_program_too_large_for_exact_probabilities_says_of_what_it_takes_too_much(
    desk: Desk,
) -> None:
    session = desk.open()
    desk.workers(0)
    job = desk.submit(session, exact=True)
    (run,) = desk.segments(job)
    del desk.held[run.ticket]
    what = "amplitudes of exact probabilities"
    desk.step(ev.SegmentFailed(run.worker, run.ticket, "too_large", what, 0, 99, 10))
    error = desk.call(Status(session_id=session, job_id=job)).error
    assert error.type == ResourceExhausted.NAME
    assert (error.data["what"], error.data["asked"], error.data["limit"]) == (what, 99, 10)
