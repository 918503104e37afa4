"""Rules that change under a running kernel: what stays, what ends, and who is asked again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.conftest import ALL, RULES, Desk, bell
from qmkd.core.limits import MS
from qmkd.core.mapping import over_quota
from qmkd.core.ports import Quota, TenantRule
from qmkd.core.records import AuditRow, Recovered, SessionRow
from syscalls.capability import Delegate, Delegated, Share
from syscalls.errors import (
    AuthFailed,
    InsufficientCaps,
    KernelError,
    QuotaExceeded,
    TenantSuspended,
)
from syscalls.ids import SessionId, TenantId
from syscalls.job import JobState, JobStatus, Status, Wait
from syscalls.rights import Right
from syscalls.session import NegotiateCaps
from syscalls.telemetry import GetTelemetry

ALICE, BOB, MALLORY = RULES


def changed(rule: TenantRule, quota: dict[str, int] | None = None, **fields: Any) -> TenantRule:
    """A rule that is otherwise the same."""
    fields["quota"] = msgspec.structs.replace(rule.quota, **(quota or {}))
    return msgspec.structs.replace(rule, **fields)


def give(desk: Desk, session: SessionId, *rights: Right, **share: int) -> Delegated:
    """Hand rights of alice's on to bob."""
    asked = Delegate(
        session_id=session, tenant_id=TenantId("bob"), rights=[*rights], share=Share(**share)
    )
    answer = desk.call(asked)
    assert isinstance(answer, Delegated), answer
    return answer


def final(desk: Desk, session: SessionId, job: Any) -> JobStatus:
    """How a job ended."""
    status = desk.call(Status(session_id=session, job_id=job))
    assert isinstance(status, JobStatus)
    return status


def test_a_new_tenant_is_let_in_and_an_old_session_goes_on(desk: Desk) -> None:
    session = desk.open()
    carol = TenantRule(name="carol", uids=frozenset({3}))
    assert isinstance(desk.call(NegotiateCaps(requested=[]), uid=3), AuthFailed)
    desk.step(ev.Configured((*RULES, carol)))
    desk.open(uid=3)
    job = desk.submit(session, shots=10)
    desk.run_all()
    assert final(desk, session, job).state is JobState.COMPLETED


@pytest.mark.parametrize("removed", [False, True])
def test_a_suspended_or_removed_tenant_is_told_so_while_its_job_runs_and_gets_all_back(
    desk: Desk, removed: bool
) -> None:
    session = desk.open()
    job = desk.submit(session, shots=10)
    others = (changed(ALICE, suspended=True), BOB) if not removed else (BOB,)
    desk.step(ev.Configured(others))
    for call in (
        GetTelemetry(session_id=session),
        Status(session_id=session, job_id=job),
        NegotiateCaps(requested=[]),
    ):
        assert isinstance(desk.call(call), TenantSuspended)
    desk.run_all()
    desk.step(ev.Configured(RULES))
    assert final(desk, session, job).state is JobState.COMPLETED


def test_of_a_removed_tenant_that_holds_nothing_nothing_is_left(desk: Desk) -> None:
    desk.step(ev.Configured((BOB,)))
    assert list(desk.state.tenants) == ["bob"]
    assert isinstance(desk.call(NegotiateCaps(requested=[])), AuthFailed)


def test_a_user_who_moved_to_another_tenant_leaves_the_session_behind(desk: Desk) -> None:
    session = desk.open()
    moved = changed(ALICE, uids=frozenset({11}))
    desk.step(ev.Configured((moved, changed(BOB, uids=frozenset({1, 2})))))
    assert isinstance(desk.call(GetTelemetry(session_id=session)), AuthFailed)
    desk.open("CAP_ALLOC", uid=1)
    assert not isinstance(desk.call(GetTelemetry(session_id=session), uid=11), KernelError)


def test_a_smaller_quota_keeps_what_is_held_and_refuses_more() -> None:
    desk = Desk()
    session = desk.open()
    jobs = [desk.submit(session, shots=10) for _ in range(3)]
    desk.step(ev.Configured((changed(ALICE, {"jobs": 1, "sessions": 0}), BOB)))
    refused = desk.try_submit(session, shots=10)
    assert isinstance(refused, QuotaExceeded)
    assert (refused.what, refused.limit, refused.in_use) == ("jobs", 1, 3)
    assert isinstance(desk.call(NegotiateCaps(requested=[])), QuotaExceeded)
    desk.workers(0)
    desk.run_all()
    assert [final(desk, session, job).state for job in jobs] == [JobState.COMPLETED] * 3
    desk.submit(session, shots=10)


def test_a_larger_quota_lets_waiting_jobs_start(make_desk: Any) -> None:
    small = changed(ALICE, {"physical_qubits": 1000, "logical_qubits": 2})
    desk: Desk = make_desk((small, BOB))
    desk.workers(0, 1)
    session = desk.open()
    jobs = [desk.submit(session, shots=10) for _ in range(2)]
    assert {run.job_id for run in desk.segments()} == {jobs[0]}
    desk.step(ev.Configured((changed(small, {"logical_qubits": 4}), BOB)))
    assert {run.job_id for run in desk.segments()} == {*jobs}


def test_a_job_larger_than_the_whole_quota_ends_with_its_numbers() -> None:
    desk = Desk()
    session = desk.open()
    job = desk.submit(session, shots=10)
    desk.step(ev.Configured((changed(ALICE, {"logical_qubits": 1}), BOB)))
    error = final(desk, session, job).error
    assert error is not None
    assert error.type == "QUOTA_EXCEEDED"
    assert error.data["limit"] == 1


def test_a_job_gives_way_to_one_of_its_tenant_only_where_the_quota_has_room_for_it_then() -> None:
    """Else it would be placed again at once, and could give way again, for ever."""
    desk = Desk()
    session = desk.open()
    large = bell(profile="logical:Surface(d=5)")
    names = [desk.submit(session, graph, shots=300_000) for graph in (bell(), large)]
    desk.workers(0, 1)
    used = desk.state.tenants["alice"].physical
    desk.step(ev.Configured((changed(ALICE, {"physical_qubits": used}), BOB)))
    names.append(desk.submit(session, large, shots=10, priority=1))
    smaller, other, urgent = (desk.state.jobs[name] for name in names)
    assert over_quota(urgent) is not None
    assert over_quota(urgent, smaller) is not None
    assert over_quota(urgent, other) is None
    desk.run_all()
    assert final(desk, session, names[2]).state is JobState.COMPLETED


def test_results_beyond_a_smaller_quota_go_oldest_first(desk: Desk) -> None:
    session = desk.open()
    jobs = [desk.submit(session, shots=4_000) for _ in range(2)]
    desk.run_all()
    most = desk.state.tenants["alice"].kept_bytes
    desk.step(ev.Configured((changed(ALICE, {"result_bytes": most - 1}), BOB)))
    assert final(desk, session, jobs[0]).counts is None
    assert final(desk, session, jobs[1]).counts == {"00": 4_000}


def test_rights_that_are_withdrawn_end_jobs_and_what_was_handed_on_and_come_with_new_sessions(
    desk: Desk,
) -> None:
    session = desk.open()
    given = give(desk, session, Right.MAGIC)
    other = desk.call(NegotiateCaps(requested=["CAP_ALLOC", given.capability_id]), uid=2).session_id
    lent = desk.submit(other, bell(extra="APPLY_T"), uid=2, shots=10)
    own = desk.submit(session, bell(extra="APPLY_T"), shots=10)
    plain = desk.submit(session, shots=10)
    without = frozenset(Right) - {Right.MAGIC}
    desk.step(ev.Configured((changed(ALICE, grantable=without), BOB)))
    while stops := desk.sent(fx.StopSegment):
        for stop in stops:
            desk.failed(desk.held[stop.ticket], "stopped")  # type: ignore[arg-type]
    assert given.capability_id not in desk.state.capabilities
    refused = desk.try_submit(session, bell(extra="APPLY_T"), shots=10)
    assert isinstance(refused, InsufficientCaps)
    desk.later(10_000 * MS)
    desk.run_all()
    assert final(desk, session, plain).state is JobState.COMPLETED
    assert final(desk, session, own).error.type == "INSUFFICIENT_CAPS"  # type: ignore[union-attr]
    ended = desk.call(Status(session_id=other, job_id=lent), uid=2)
    assert ended.error.type == "INSUFFICIENT_CAPS"
    desk.step(ev.Configured(RULES))
    again = desk.try_submit(session, bell(extra="APPLY_T"), shots=10)
    assert isinstance(again, InsufficientCaps), "what shrank does not grow"
    desk.submit(desk.open(), bell(extra="APPLY_T"), shots=10)


def test_shares_beyond_a_smaller_quota_are_taken_back_newest_first(desk: Desk) -> None:
    session = desk.open()
    first = give(desk, session, Right.MAGIC, jobs=10)
    second = give(desk, session, Right.MAGIC, jobs=10)
    plain = give(desk, session, Right.MAGIC)
    desk.step(ev.Configured((changed(ALICE, {"jobs": 15}), BOB)))
    assert {*desk.state.capabilities} == {first.capability_id, plain.capability_id}
    assert second.capability_id not in desk.state.capabilities
    assert desk.state.tenants["alice"].quota.jobs == 5


def test_who_waits_for_a_job_of_a_suspended_tenant_is_still_answered(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, shots=10)
    assert desk.call(Wait(session_id=session, job_id=job)) is None
    asked = desk.calls
    desk.step(ev.Configured((BOB,)))
    desk.run_all()
    assert desk.replies[asked].state is JobState.COMPLETED


def test_meters_go_at_the_new_rate(desk: Desk) -> None:
    desk.step(ev.Configured((changed(ALICE, {"changes_per_minute": 1}), BOB)))
    desk.open()
    refused = desk.call(NegotiateCaps(requested=[]))
    assert isinstance(refused, QuotaExceeded)
    assert refused.what == "changes per minute"


def test_rules_that_come_while_shutting_down_are_left_to_the_next_daemon(desk: Desk) -> None:
    desk.step(ev.ShutDown(50 * MS))
    desk.step(ev.Configured((BOB,)))
    assert set(desk.state.tenants) == {rule.name for rule in RULES}


def test_the_chain_tells_that_rules_changed() -> None:
    desk = Desk(durable=True)
    desk.step(Recovered())
    out = desk.step(ev.Configured((BOB, MALLORY)))
    (keep,) = (effect for effect in out if isinstance(effect, fx.Keep))
    (entry,) = (row for row in keep.rows if isinstance(row, AuditRow))
    body = msgspec.json.decode(entry.body)
    assert body["kind"] == "configured"
    assert body["fields"] == {"tenants": 2, "suspended": 1, "removed": 0}


def test_after_a_restart_a_session_has_what_may_still_be_granted_and_a_suspended_one_stays() -> (
    None
):
    rows = tuple(
        SessionRow(id=SessionId(f"sess_{name}"), tenant=name, granted=ALL, opened_ns=1)
        for name in ("alice", "bob", "mallory", "nobody")
    )
    desk = Desk(durable=True)
    desk.step(Recovered(sessions=rows))
    granted = {name: session.granted for name, session in desk.state.sessions.items()}
    assert granted == {
        "sess_alice": frozenset(Right),
        "sess_bob": {Right.ALLOC},
        "sess_mallory": frozenset(Right),
    }
    answer = desk.call(GetTelemetry(session_id=rows[2].id), uid=4)
    assert isinstance(answer, TenantSuspended)


def test_a_quota_is_never_less_than_nothing_left(desk: Desk) -> None:
    session = desk.open()
    give(desk, session, Right.MAGIC, jobs=10, logical_qubits=7)
    desk.step(ev.Configured((changed(ALICE, dict.fromkeys(Quota.__struct_fields__, 0)), BOB)))
    assert desk.state.tenants["alice"].quota == Quota(**dict.fromkeys(Quota.__struct_fields__, 0))
