"""Handing rights on and taking them back, step by step, with every invariant after every step."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from qmkd.core import delegation
from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.conftest import ALL, Desk, bell
from qmkd.core.limits import CAPABILITIES_MAX, DELEGATIONS_MAX, MS, SECOND
from qmkd.core.ports import Quota, TenantRule
from qmkd.core.records import (
    AuditRow,
    CapabilityRow,
    ChannelRow,
    GraphRow,
    HandleRow,
    JobRow,
    Recovered,
    SessionRow,
)
from syscalls.capability import Delegate, Delegated, Revoke, Revoked, Share
from syscalls.errors import (
    CapabilityNotFound,
    InsufficientCaps,
    KernelError,
    QuotaExceeded,
)
from syscalls.ids import CapabilityId, JobId, SessionId, TenantId
from syscalls.job import JobState, JobStatus, Status, Wait
from syscalls.rights import Right
from syscalls.session import CloseSession, NegotiateCaps, Session
from syscalls.telemetry import GetTelemetry

MAGIC = bell(extra="APPLY_T")
NOTHING: frozenset[Right] = frozenset()
RULES = (
    TenantRule(name="alice", uids=frozenset({1}), quota=Quota(jobs=8, logical_qubits=20)),
    TenantRule(name="bob", uids=frozenset({2}), grantable=frozenset({Right.ALLOC, Right.DELEGATE})),
    TenantRule(name="carol", uids=frozenset({3}), grantable=NOTHING),
)
UIDS = {"alice": 1, "bob": 2, "carol": 3}


class Court(Desk):
    """A desk of three tenants: one with every right, one with few, one with none."""

    def delegate(
        self, session: SessionId, *rights: Right, to: str = "bob", uid: int = 1, **terms: Any
    ) -> Any:
        request = Delegate(session_id=session, rights=list(rights), tenant_id=TenantId(to), **terms)
        return self.call(request, uid=uid)

    def given(self, *args: Any, **terms: Any) -> CapabilityId:
        reply = self.delegate(*args, **terms)
        assert isinstance(reply, Delegated), reply
        return reply.capability_id

    def revoke(self, session: SessionId, name: str, uid: int = 1) -> Any:
        return self.call(Revoke(session_id=session, capability_id=CapabilityId(name)), uid=uid)

    def opened(self, *names: str, uid: int = 2) -> Session:
        reply = self.call(NegotiateCaps(requested=list(names)), uid=uid)
        assert isinstance(reply, Session), reply
        return reply

    def status(self, session: SessionId, job: JobId, uid: int = 2) -> JobStatus:
        reply = self.call(Status(session_id=session, job_id=job), uid=uid)
        assert isinstance(reply, JobStatus), reply
        return reply

    def failed_for_want_of(self, session: SessionId, job: JobId, *missing: str) -> bool:
        status = self.status(session, job)
        assert status.state is JobState.FAILED, status.state
        assert status.error is not None
        assert status.error.type == "INSUFFICIENT_CAPS"
        return bool(status.error.data["missing"] == list(missing))


@pytest.fixture
def court() -> Court:
    made = Court(RULES)
    made.workers(0, 1)
    return made


# --- handing on ---------------------------------------------------------------------------------


def test_a_delegated_right_is_used_by_a_session_that_names_the_capability(court: Court) -> None:
    name = court.given(court.open(), Right.MAGIC)
    without, named = court.opened(*ALL), court.opened("CAP_ALLOC", "CAP_MAGIC", name)
    assert isinstance(court.try_submit(without.session_id, MAGIC, uid=2), InsufficientCaps)
    assert named.granted == ["CAP_ALLOC", "CAP_MAGIC", name]
    assert named.denied == []
    job = court.submit(named.session_id, MAGIC, uid=2)
    court.run_all()
    assert court.status(named.session_id, job).state is JobState.COMPLETED


def test_rights_that_were_not_asked_for_by_name_follow_the_capability(court: Court) -> None:
    name = court.given(court.open(), Right.TELEPORT, Right.MAGIC)
    opened = court.opened("CAP_LINK", name)
    assert opened.granted == [name, "CAP_MAGIC", "CAP_TELEPORT"]
    assert opened.denied == ["CAP_LINK"]


def test_a_capability_is_of_use_to_its_tenant_alone(court: Court) -> None:
    name = court.given(court.open(), Right.MAGIC)
    stranger = court.opened(name, uid=3)
    assert (stranger.granted, stranger.denied) == ([], [name])
    assert court.opened("cap_" + 32 * "0", uid=3).denied == ["cap_" + 32 * "0"]


def test_nobody_hands_on_what_they_do_not_hold(court: Court) -> None:
    reply = court.delegate(court.open("CAP_DELEGATE", "CAP_ALLOC"), Right.ALLOC, Right.ADMIN)
    assert reply == InsufficientCaps(
        required=["CAP_ADMIN", "CAP_ALLOC", "CAP_DELEGATE"], missing=["CAP_ADMIN"]
    )


def test_a_right_lent_without_leave_to_hand_it_on_is_not_handed_on(court: Court) -> None:
    """Bob may hand on what is his, and holds CAP_MAGIC, but only for himself."""
    name = court.given(court.open(), Right.MAGIC)
    bobs = court.opened("CAP_ALLOC", "CAP_DELEGATE", name).session_id
    reply = court.delegate(bobs, Right.MAGIC, to="carol", uid=2)
    assert isinstance(reply, InsufficientCaps)
    assert reply.missing == ["CAP_MAGIC"]
    assert isinstance(court.delegate(bobs, Right.ALLOC, to="carol", uid=2), Delegated)


def test_one_capability_has_one_origin(court: Court) -> None:
    """ALLOC is bob's by the rule and MAGIC by a capability: no one capability may carry both."""
    name = court.given(court.open(), Right.MAGIC, Right.DELEGATE)
    bobs = court.opened("CAP_ALLOC", "CAP_DELEGATE", name).session_id
    assert isinstance(court.delegate(bobs, Right.ALLOC, Right.MAGIC, uid=2), InsufficientCaps)
    assert isinstance(court.delegate(bobs, Right.MAGIC, uid=2), Delegated)


def test_whether_a_tenant_exists_is_not_told(court: Court) -> None:
    alices = court.open()
    known, unknown = (court.delegate(alices, Right.MAGIC, to=to) for to in ("carol", "nobody"))
    assert type(known) is type(unknown) is Delegated


def test_a_session_hands_on_only_so_many_and_chains_are_only_so_long(court: Court) -> None:
    alices = court.open()
    for _ in range(CAPABILITIES_MAX):
        last = court.given(alices, Right.MAGIC, Right.DELEGATE, to="alice")
    refusal = court.delegate(alices, Right.MAGIC)
    assert isinstance(refusal, QuotaExceeded)
    assert (refusal.limit, refusal.in_use, refusal.asked) == (CAPABILITIES_MAX,) * 2 + (1,)
    for _ in range(DELEGATIONS_MAX - 1):
        link = court.opened(last, uid=1).session_id
        last = court.given(link, Right.MAGIC, Right.DELEGATE, to="alice")
    refusal = court.delegate(court.opened(last, uid=1).session_id, Right.MAGIC)
    assert isinstance(refusal, QuotaExceeded)
    assert not refusal.waiting_helps


# --- taking back --------------------------------------------------------------------------------


def test_revoking_a_capability_revokes_all_derived_from_it(court: Court) -> None:
    alices = court.open()
    first = court.given(alices, Right.MAGIC, Right.ALLOC, Right.DELEGATE)
    other = court.given(alices, Right.MAGIC)
    bobs = court.opened("CAP_ALLOC", first, other).session_id
    second = court.given(bobs, Right.MAGIC, Right.ALLOC, to="carol", uid=2)
    carols = court.opened(second, uid=3).session_id
    job = court.submit(carols, MAGIC, uid=3)
    assert court.revoke(alices, first) == Revoked(capability_id=first, revoked=2)
    assert isinstance(court.try_submit(carols, uid=3), InsufficientCaps)
    assert court.opened(second, uid=3).denied == [second]
    assert set(court.state.capabilities) == {other}
    court.failed(court.segments(job)[0], "stopped")
    assert court.status(carols, job, uid=3).state is JobState.FAILED
    # Bob holds MAGIC still, by the other capability, and what the rule gives him.
    assert not isinstance(court.try_submit(bobs, MAGIC, uid=2), KernelError)


def test_a_running_job_stops_at_its_next_fence_and_says_what_was_missing(court: Court) -> None:
    alices = court.open()
    name = court.given(alices, Right.MAGIC)
    bobs = court.opened("CAP_ALLOC", name).session_id
    job = court.submit(bobs, MAGIC, uid=2, shots=2_000_000)
    queued = [court.submit(bobs, MAGIC, uid=2) for _ in range(9)]
    court.revoke(alices, name)
    stopped = court.out
    assert sum(type(effect).__name__ == "StopSegment" for effect in stopped) == len(
        court.segments(job)
    )
    for run in court.segments():
        court.failed(run, "stopped")
    for each in (job, *queued):
        assert court.failed_for_want_of(bobs, each, "CAP_MAGIC")
    assert not court.segments()


def test_a_job_that_did_not_use_the_capability_runs_on(court: Court) -> None:
    alices = court.open()
    name = court.given(alices, Right.MAGIC)
    bobs = court.opened("CAP_ALLOC", name).session_id
    job = court.submit(bobs, uid=2)
    court.revoke(alices, name)
    court.run_all()
    assert court.status(bobs, job).state is JobState.COMPLETED


def test_results_of_a_slice_that_ended_after_the_revocation_do_not_count(court: Court) -> None:
    alices = court.open()
    name = court.given(alices, Right.MAGIC)
    bobs = court.opened("CAP_ALLOC", name).session_id
    job = court.submit(bobs, MAGIC, uid=2)
    (run,) = court.segments(job)
    court.revoke(alices, name)
    court.done(run)
    assert court.failed_for_want_of(bobs, job, "CAP_MAGIC")


def test_only_the_giver_and_those_above_revoke(court: Court) -> None:
    alices, alices_other = court.open(), court.open()
    first = court.given(alices, Right.MAGIC, Right.DELEGATE)
    bobs = court.opened("CAP_DELEGATE", first).session_id
    second = court.given(bobs, Right.MAGIC, to="carol", uid=2)
    assert court.revoke(bobs, first, uid=2) == CapabilityNotFound()
    assert court.revoke(alices_other, first) == CapabilityNotFound()
    assert court.revoke(alices, "cap_none") == CapabilityNotFound()
    assert court.revoke(alices, second) == Revoked(capability_id=second, revoked=1)
    assert court.revoke(bobs, second, uid=2) == CapabilityNotFound()


def test_closing_a_session_revokes_what_came_from_it(court: Court) -> None:
    alices = court.open()
    name = court.given(alices, Right.MAGIC)
    bobs = court.opened("CAP_ALLOC", name).session_id
    job = court.submit(bobs, MAGIC, uid=2)
    court.call(CloseSession(session_id=alices))
    court.failed(court.segments(job)[0], "stopped")
    assert court.failed_for_want_of(bobs, job, "CAP_MAGIC")
    assert not court.state.capabilities


def test_closing_the_receivers_session_leaves_the_capability(court: Court) -> None:
    name = court.given(court.open(), Right.MAGIC)
    court.call(CloseSession(session_id=court.opened(name).session_id), uid=2)
    assert court.opened(name).granted == [name, "CAP_MAGIC"]


# --- expiring -----------------------------------------------------------------------------------


def test_a_capability_ends_when_it_expires_whether_or_not_anybody_calls(court: Court) -> None:
    name = court.given(court.open(), Right.MAGIC, expires_after_ms=1000)
    bobs = court.opened("CAP_ALLOC", name).session_id
    job = court.submit(bobs, MAGIC, uid=2)
    court.later(SECOND)
    assert not court.state.capabilities
    court.failed(court.segments(job)[0], "stopped")
    assert court.failed_for_want_of(bobs, job, "CAP_MAGIC")


def test_expiry_is_by_the_kernels_clock_even_before_its_timer_fires(court: Court) -> None:
    name = court.given(court.open(), Right.MAGIC, expires_after_ms=1000)
    bobs = court.opened("CAP_ALLOC", name).session_id
    court.now_ns += SECOND - 1
    assert not isinstance(court.try_submit(bobs, MAGIC, uid=2), KernelError)
    court.now_ns += 1
    assert isinstance(court.try_submit(bobs, MAGIC, uid=2), InsufficientCaps)
    assert court.opened(name).denied == [name]


def test_a_slice_that_comes_back_when_the_capability_has_expired_does_not_count(
    court: Court,
) -> None:
    name = court.given(court.open(), Right.MAGIC, expires_after_ms=1000)
    bobs = court.opened("CAP_ALLOC", name).session_id
    job = court.submit(bobs, MAGIC, uid=2)
    court.now_ns += SECOND
    court.done(court.segments(job)[0])
    assert court.failed_for_want_of(bobs, job, "CAP_MAGIC")


def test_what_is_derived_expires_no_later_than_what_it_came_from(court: Court) -> None:
    alices = court.open()
    first = court.given(alices, Right.MAGIC, Right.DELEGATE, expires_after_ms=1000)
    bobs = court.opened(first).session_id
    longer = court.delegate(bobs, Right.MAGIC, to="carol", uid=2, expires_after_ms=60_000)
    endless = court.delegate(bobs, Right.MAGIC, to="carol", uid=2)
    sooner = court.delegate(bobs, Right.MAGIC, to="carol", uid=2, expires_after_ms=10)
    assert longer.expires_at == endless.expires_at == "2023-11-14T22:13:21.000Z"
    assert sooner.expires_at == "2023-11-14T22:13:20.010Z"
    court.later(10 * MS)
    assert sooner.capability_id not in court.state.capabilities
    court.later(SECOND)
    assert not court.state.capabilities


def test_more_jobs_than_fit_a_step_are_stopped_one_step_after_another(
    court: Court, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delegation, "SWEEP_EFFECTS_MAX", 3)
    alices = court.open()
    name = court.given(alices, Right.MAGIC)
    bobs = court.opened("CAP_ALLOC", name).session_id
    jobs = [court.submit(bobs, MAGIC, uid=2, shots=100_000) for _ in range(20)]
    for job in jobs:
        court.call(Wait(session_id=bobs, job_id=job), uid=2)
    court.revoke(alices, name)
    assert court.state.lapsed
    for run in court.segments():
        out = court.done(run)
        assert court.state.lapsed
        assert not [each for each in out if isinstance(each, fx.RunSegment)], "nor is one begun"
    court.later(0)
    assert not court.state.lapsed
    assert not court.held
    assert all(court.failed_for_want_of(bobs, job, "CAP_MAGIC") for job in jobs)


# --- shares -------------------------------------------------------------------------------------


def test_a_share_is_set_aside_while_its_capability_lives(court: Court) -> None:
    alices = court.open()
    name = court.given(alices, Right.MAGIC, share=Share(jobs=5, logical_qubits=15))
    quota = court.state.tenants["alice"].quota
    assert (quota.jobs, quota.logical_qubits) == (3, 5)
    for _ in range(3):
        court.submit(alices)
    refusal = court.try_submit(alices)
    assert refusal == QuotaExceeded(what="jobs", limit=3, in_use=3, asked=1, waiting_helps=True)
    court.revoke(alices, name)
    assert court.state.tenants["alice"].quota == RULES[0].quota
    court.submit(alices)


def test_no_more_is_set_aside_than_is_free(court: Court) -> None:
    alices = court.open()
    court.submit(alices)
    refusal = court.delegate(alices, Right.MAGIC, share=Share(jobs=8))
    assert refusal == QuotaExceeded(what="jobs", limit=8, in_use=1, asked=8, waiting_helps=True)
    refusal = court.delegate(alices, Right.MAGIC, share=Share(logical_qubits=21))
    assert isinstance(refusal, QuotaExceeded)
    assert not refusal.waiting_helps


def test_a_share_is_no_larger_than_the_share_it_comes_from(court: Court) -> None:
    first = court.given(court.open(), Right.MAGIC, Right.DELEGATE, share=Share(jobs=4))
    bobs = court.opened(first).session_id
    refusal = court.delegate(bobs, Right.MAGIC, uid=2, share=Share(jobs=5))
    assert isinstance(refusal, QuotaExceeded)
    assert (refusal.limit, refusal.asked) == (4, 5)
    assert isinstance(court.delegate(bobs, Right.MAGIC, uid=2, share=Share(jobs=4)), Delegated)


def test_jobs_count_against_the_share_and_all_it_came_from(court: Court) -> None:
    """Two capabilities under one: each could hold two jobs, both together no more than three."""
    lent = (Right.MAGIC, Right.ALLOC, Right.DELEGATE)
    first = court.given(court.open(), *lent, share=Share(jobs=3))
    bobs = court.opened(first).session_id
    sessions = []
    for _ in range(2):
        name = court.given(bobs, *lent, to="carol", uid=2, share=Share(jobs=2))
        sessions.append(court.opened(name, uid=3).session_id)
    for _ in range(2):
        court.submit(sessions[0], MAGIC, uid=3)
    assert isinstance(court.try_submit(sessions[0], MAGIC, uid=3), QuotaExceeded)
    court.submit(sessions[1], MAGIC, uid=3)
    refusal = court.try_submit(sessions[1], MAGIC, uid=3)
    assert isinstance(refusal, QuotaExceeded)
    assert (refusal.limit, refusal.in_use) == (3, 3)
    court.run_all()
    court.submit(sessions[1], MAGIC, uid=3)


def test_jobs_wait_for_qubits_of_the_share(court: Court) -> None:
    name = court.given(court.open(), Right.MAGIC, share=Share(logical_qubits=3))
    bobs = court.opened("CAP_ALLOC", name).session_id
    first, second = (court.submit(bobs, MAGIC, uid=2) for _ in range(2))
    place = court.status(bobs, second).queue
    assert place is not None
    why = "waiting for logical qubits of the capability's share: 2 asked, 2 of 3 in use"
    assert place.reason == why
    court.done(court.segments(first)[0])
    assert court.status(bobs, second).state is JobState.RUNNING


# --- a restart ----------------------------------------------------------------------------------


class Lasting(Court):
    """A court that keeps its rows, whatever goes, and is told at once that they are durable."""

    def __init__(
        self,
        before: list[Any] | None = None,
        rules: tuple[TenantRule, ...] = RULES,
        **machine: Any,
    ) -> None:
        super().__init__(rules, durable=True, **machine)
        self.rows: list[Any] = []
        kinds = {"sessions": SessionRow, "capabilities": CapabilityRow, "graphs": GraphRow}
        kinds |= {"jobs": JobRow, "handles": HandleRow, "channels": ChannelRow}
        of: dict[str, Any] = {
            name: tuple(r for r in before or () if isinstance(r, k)) for name, k in kinds.items()
        }
        audit = [row for row in before or () if isinstance(row, AuditRow)]
        self.step(
            Recovered(
                numbered=1000 if before else 0,
                audited=len(audit),
                audit_head=audit[-1].hash if audit else b"",
                **of,
            )
        )
        self.calls = 1000 if before else 0
        self.workers(0, 1)

    def step(self, event: ev.Event) -> list[fx.Effect]:
        out = super().step(event)
        for effect in out:  # it grows meanwhile
            if isinstance(effect, fx.Keep):
                self.rows += effect.rows
                out += super().step(ev.Kept(effect.number))
        return out


@pytest.mark.parametrize("revoked", [False, True])
def test_a_job_goes_on_after_a_restart_as_long_as_its_rights_do(revoked: bool) -> None:
    court = Lasting()
    alices = court.open()
    name = court.given(alices, Right.MAGIC, share=Share(jobs=2))
    bobs = court.opened("CAP_ALLOC", name).session_id
    job = court.submit(bobs, MAGIC, uid=2)
    rows = court.rows
    if revoked:
        rows = [row for row in rows if not isinstance(row, CapabilityRow)]
    again = Lasting(rows)
    if revoked:
        assert again.failed_for_want_of(bobs, job, "CAP_MAGIC")
        return
    assert again.state.jobs[job].accounts[1:] == (again.state.capabilities[name],)
    assert again.state.tenants["alice"].quota.jobs == RULES[0].quota.jobs - 2
    again.run_all()
    assert again.status(bobs, job).state is JobState.COMPLETED
    assert again.revoke(alices, name) == Revoked(capability_id=name, revoked=1)


# --- listing ------------------------------------------------------------------------------------


def test_each_side_lists_what_it_gave_and_what_it_may_use(court: Court) -> None:
    alices = court.open()
    share = Share(jobs=2)
    name = court.given(alices, Right.MAGIC, share=share, expires_after_ms=1000)
    bobs = court.opened(name).session_id

    def listed(session: SessionId, uid: int) -> list[dict[str, Any]]:
        reply = court.call(GetTelemetry(session_id=session, list_capabilities=True), uid=uid)
        return [msgspec.structs.asdict(each) for each in reply.capabilities]

    common = {
        "capability_id": name,
        "rights": ["CAP_MAGIC"],
        "tenant_id": "bob",
        "share": share,
        "expires_at": "2023-11-14T22:13:21.000Z",
    }
    assert listed(alices, 1) == [{**common, "given": True, "in_use": False}]
    assert listed(bobs, 2) == [{**common, "given": False, "in_use": True}]
    assert listed(court.opened(uid=3).session_id, 3) == []
    assert listed(court.open(), 1) == []


# --- at random ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_forest_grown_at_random_has_just_the_rights_of_a_model(
    seed: int, make_desk: Callable[..., Desk]
) -> None:
    """Held against sets of rights kept by hand; the invariants look at the rest in every step."""
    rng = random.Random(seed)
    court = Court(RULES)
    uid_of: dict[SessionId, int] = {}
    lent_to: dict[SessionId, list[CapabilityId]] = {}
    tree: dict[CapabilityId, tuple[SessionId, CapabilityId | None, frozenset[Right], str]] = {}

    def alive(name: CapabilityId | None) -> bool:
        return name is None or (name in tree and alive(tree[name][1]))

    for _ in range(400):
        move = rng.random()
        sessions = list(uid_of)
        if not sessions or move < 0.2:
            tenant = rng.choice(list(UIDS))
            mine = [name for name, row in tree.items() if row[3] == tenant]
            named = rng.sample(mine, min(len(mine), 2))
            opened = court.opened(*named, *ALL, uid=UIDS[tenant])
            uid_of[opened.session_id] = UIDS[tenant]
            lent_to[opened.session_id] = named
            grantable = RULES[UIDS[tenant] - 1].grantable
            rights = grantable.union(*(tree[name][2] for name in named))
            assert {Right(name) for name in opened.granted if name not in named} == rights
        elif move < 0.7:
            session = rng.choice(sessions)
            uid = uid_of[session]
            tenant = rng.choice(list(UIDS))
            wanted = frozenset(rng.sample(list(Right), rng.randint(1, 4)))
            reply = court.delegate(session, *wanted, to=tenant, uid=uid)
            sources: list[tuple[CapabilityId | None, frozenset[Right]]] = []
            sources.append((None, RULES[uid - 1].grantable))
            sources += [(name, tree[name][2]) for name in lent_to[session] if name in tree]
            covers = [name for name, r in sources if wanted | {Right.DELEGATE} <= r]
            if covers and not isinstance(reply, QuotaExceeded):
                tree[reply.capability_id] = (session, covers[0], wanted, tenant)
            else:
                assert isinstance(reply, KernelError)
        elif tree and move < 0.9:
            name = rng.choice(list(tree))
            session = tree[name][0] if rng.random() < 0.8 else rng.choice(sessions)
            reply = court.revoke(session, name, uid=uid_of[session])
            if isinstance(reply, Revoked):
                before = len(tree)
                del tree[name]
                tree = {each: row for each, row in tree.items() if alive(row[1])}
                assert reply.revoked == before - len(tree)
        elif len(sessions) > 20:
            session = rng.choice(sessions)
            court.call(CloseSession(session_id=session), uid=uid_of.pop(session))
            tree = {each: row for each, row in tree.items() if row[0] != session}
            while len(kept := {k: row for k, row in tree.items() if alive(row[1])}) < len(tree):
                tree = kept
        assert set(court.state.capabilities) == set(tree)
