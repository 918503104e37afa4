"""Quotas: refused with numbers before anything is done, and all of it given back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qmkd.core.conftest import ALL, Desk, bell
from qmkd.core.limits import INLINE_GRAPH_BYTES_MAX, SECOND
from qmkd.core.ports import Quota, TenantRule
from qmkd.core.quotas import MINUTE, _add, level
from qmkd.core.state import Account, Meter
from syscalls.capability import Delegate, Delegated, Revoke, Share
from syscalls.errors import QuotaExceeded
from syscalls.ids import SessionId, TenantId
from syscalls.job import Cancel
from syscalls.rights import Right
from syscalls.session import CloseSession, NegotiateCaps

MAGIC = bell(extra="APPLY_T")
CYCLES = 10_000


def desk_with(make_desk: Callable[..., Desk], **quota: int) -> tuple[Desk, SessionId]:
    rule = TenantRule(name="alice", uids=frozenset({1}), quota=Quota(**quota))
    desk = make_desk((rule, TenantRule(name="bob", uids=frozenset({2}))))
    desk.workers(0, 1)
    return desk, desk.open()


def test_t_states_are_counted_by_the_minute(make_desk: Callable[..., Desk]) -> None:
    desk, session = desk_with(make_desk, t_states_per_minute=600)
    desk.submit(session, MAGIC, shots=400)
    refusal = desk.try_submit(session, MAGIC, shots=300)
    assert refusal == QuotaExceeded(
        what="T states per minute", limit=600, in_use=400, asked=300, waiting_helps=True
    )
    desk.later(10 * SECOND - 1)
    assert isinstance(desk.try_submit(session, MAGIC, shots=300), QuotaExceeded)
    desk.later(1)
    desk.submit(session, MAGIC, shots=300)
    refusal = desk.try_submit(session, MAGIC, shots=601)
    assert isinstance(refusal, QuotaExceeded)
    assert not refusal.waiting_helps
    desk.submit(session, bell(), shots=1_000_000)


def test_cpu_time_is_counted_by_the_minute_as_predicted(make_desk: Callable[..., Desk]) -> None:
    """The desk's plan: 0.1 ms and a microsecond a shot, and whole milliseconds are counted."""
    desk, session = desk_with(make_desk, cpu_ms_per_minute=100)
    desk.submit(session, shots=90_000)
    refusal = desk.try_submit(session, shots=9_901)
    assert refusal == QuotaExceeded(
        what="ms of CPU time per minute", limit=100, in_use=91, asked=11, waiting_helps=True
    )
    assert not isinstance(desk.try_submit(session, shots=8_900), QuotaExceeded)


def test_what_the_audit_chain_tells_for_ever_is_counted(make_desk: Callable[..., Desk]) -> None:
    desk, session = desk_with(make_desk, changes_per_minute=3)
    desk.submit(session)
    given = desk.call(Delegate(session_id=session, rights=[Right.MAGIC], tenant_id=TenantId("bob")))
    assert isinstance(given, Delegated)
    refusal = desk.call(NegotiateCaps(requested=[]))
    assert refusal == QuotaExceeded(
        what="changes per minute", limit=3, in_use=3, asked=1, waiting_helps=True
    )
    assert desk.try_submit(session) == refusal
    assert (
        desk.call(Delegate(session_id=session, rights=[Right.MAGIC], tenant_id=TenantId("bob")))
        == refusal
    )
    desk.later(20 * SECOND)
    desk.submit(session)


def test_shots_that_were_never_handed_out_do_not_count(make_desk: Callable[..., Desk]) -> None:
    desk, session = desk_with(make_desk, t_states_per_minute=10_000_000, logical_qubits=2)
    tenant = desk.state.tenants["alice"]
    running = desk.submit(session, MAGIC, shots=5_000_000)
    queued = desk.submit(session, MAGIC, shots=4_000_000)
    assert level(tenant.t_states, desk.now_ns) == 9_000_000
    desk.call(Cancel(session_id=session, job_id=queued))
    assert level(tenant.t_states, desk.now_ns) == 5_000_000
    given_out = sum(run.shots for run in desk.segments(running))
    assert 0 < given_out < 5_000_000
    desk.call(Cancel(session_id=session, job_id=running))
    for run in desk.segments(running):
        desk.failed(run, "stopped")
    assert level(tenant.t_states, desk.now_ns) == given_out


def test_a_share_of_a_rate_is_set_aside_too(make_desk: Callable[..., Desk]) -> None:
    desk, session = desk_with(make_desk, t_states_per_minute=600)
    reply = desk.call(
        Delegate(
            session_id=session,
            rights=[Right.MAGIC],
            tenant_id=TenantId("bob"),
            share=Share(t_states_per_minute=200),
        )
    )
    assert isinstance(reply, Delegated)
    refusal = desk.try_submit(session, MAGIC, shots=401)
    assert isinstance(refusal, QuotaExceeded)
    assert refusal.limit == 400
    desk.submit(session, MAGIC, shots=400)
    desk.later(30 * SECOND)
    assert level(desk.state.tenants["alice"].t_states, desk.now_ns) == 200
    desk.call(Revoke(session_id=session, capability_id=reply.capability_id))
    desk.submit(session, MAGIC, shots=400)


@given(
    rate=st.integers(0, 1000),
    moves=st.lists(st.tuples(st.integers(0, 90 * SECOND), st.integers(0, 2000)), max_size=20),
)
def test_never_more_than_a_minutes_worth_beside_what_leaked(
    rate: int, moves: list[tuple[int, int]]
) -> None:
    """A meter that admits whatever fits lets through `rate` per minute and one burst of `rate`."""
    meter, now_ns, taken = Meter(rate), 0, 0
    for wait_ns, units in moves:
        now_ns += wait_ns
        if level(meter, now_ns) + units <= rate:
            _add(meter, now_ns, units)
            taken += units
        assert taken * MINUTE <= rate * (now_ns + MINUTE)


@given(
    rate=st.integers(1, 1000),
    before=st.integers(0, 1000),
    units=st.integers(0, 1000),
    wait_ns=st.integers(0, 200 * SECOND),
)
def test_what_is_given_back_never_counted(rate: int, before: int, units: int, wait_ns: int) -> None:
    plain, other = Meter(rate), Meter(rate)
    for meter in (plain, other):
        _add(meter, 0, before)
    _add(other, 0, units)
    _add(other, wait_ns, -units)
    assert level(other, wait_ns) == level(plain, wait_ns)


# --- everything comes back ----------------------------------------------------------------------


def counters(desk: Desk) -> dict[str, Any]:
    """Every number that the kernel keeps, but those that only ever grow, and times."""
    grows = {
        "numbered", "version", "now_ns", "epoch", "sweep", "sweep_ns", "at_ns", "lapse",
        "cycle", "horizon", "used", "served", "worker_ns",
    }  # fmt: skip
    found: dict[str, Any] = {}

    def look(record: Any, name: str) -> None:
        for field in dataclasses.fields(record):
            value = getattr(record, field.name)
            if isinstance(value, Meter):
                found[f"{name}.{field.name}"] = level(value, desk.now_ns)
            elif isinstance(value, Quota) or (isinstance(value, int) and field.name not in grows):
                found[f"{name}.{field.name}"] = value
            elif isinstance(value, dict | list) and field.name not in {"peers", "expired"}:
                found[f"{name}.{field.name}"] = len(value)

    look(desk.state, "state")
    for tenant in desk.state.tenants.values():
        assert isinstance(tenant, Account)
        look(tenant, tenant.rule.name)
        # Verified programs are kept beyond their jobs, within a bound of their own.
        del found[f"{tenant.rule.name}.programs"], found[f"{tenant.rule.name}.program_bytes"]
    del found["state.workers"], found["state.out"], found["state.tenants"], found["state.timers"]
    return found


def test_ten_thousand_submissions_cancelled_leave_every_counter_at_its_start(
    make_desk: Callable[..., Desk],
) -> None:
    desk, session = desk_with(
        make_desk, jobs=2, logical_qubits=4, t_states_per_minute=10**6, cpu_ms_per_minute=10**5
    )
    desk.watched = False
    outside = counters(desk)
    for cycle in range(CYCLES):
        desk.later(SECOND)
        runs, graph = cycle % 7 == 0, MAGIC if cycle % 2 else bell()
        job = desk.submit(session, graph, shots=1 if runs else 10_000)
        if not runs:
            held = desk.segments(job)
            desk.call(Cancel(session_id=session, job_id=job))
            for run in held:
                desk.failed(run, "stopped")
        else:
            desk.run_all()
        desk.replies.clear()
    desk.watched = True
    desk.call(CloseSession(session_id=session))
    desk.later(60 * SECOND)
    desk.open()
    assert counters(desk) == outside


def test_closing_gives_back_whatever_was_under_way(make_desk: Callable[..., Desk]) -> None:
    desk, session = desk_with(
        make_desk, jobs=6, logical_qubits=4, t_states_per_minute=10**7, cpu_ms_per_minute=10**6
    )
    desk.later(60 * SECOND)
    outside = counters(desk)
    large = bell() + b" " * INLINE_GRAPH_BYTES_MAX
    for _ in range(50):
        session = desk.open()
        other = desk.call(NegotiateCaps(requested=list(ALL)), uid=2).session_id
        share = Share(jobs=1, logical_qubits=1, t_states_per_minute=7)
        for giver, to, uid in ((session, "bob", 1), (other, "alice", 2)):
            reply = desk.call(
                Delegate(
                    session_id=giver,
                    rights=[Right.MAGIC],
                    tenant_id=TenantId(to),
                    share=share,
                    expires_after_ms=1000,
                ),
                uid=uid,
            )
            assert isinstance(reply, Delegated)
        for shots in (1, 100_000, 100_000):
            desk.submit(session, MAGIC, shots=shots)
        desk.try_submit(session, large)
        desk.call(CloseSession(session_id=session))
        desk.call(CloseSession(session_id=other), uid=2)
        for run in desk.segments():
            desk.failed(run, "stopped")
        desk.run_all()
    desk.later(60 * SECOND)
    assert counters(desk) == outside
