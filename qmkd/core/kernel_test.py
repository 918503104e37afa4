"""The way of a call: what is looked at, in which order, and what every path keeps."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.conftest import Desk, bell
from qmkd.core.limits import MS, SESSION_IDLE_NS, STOP_GRACE_NS
from syscalls.derive.samples import sample_value
from syscalls.discover import Discover
from syscalls.errors import (
    PRECEDENCE,
    AlreadyCompleted,
    AuthFailed,
    Busy,
    IdempotencyConflict,
    InsufficientCaps,
    InvalidGraph,
    JobNotFound,
    KernelError,
    NotAvailable,
    QuotaExceeded,
    SessionExpired,
    TenantSuspended,
)
from syscalls.ids import JobId, SessionId
from syscalls.job import Cancel, JobState, JobStatus, Policy, Status, Submit, Wait
from syscalls.registry import CALLS
from syscalls.session import CloseSession, NegotiateCaps
from syscalls.syscall import SessionCall

SESSION_CALLS = [call for call in CALLS if issubclass(call, SessionCall)]
ABSENT = [call for call in SESSION_CALLS if not call.AVAILABLE]


def sample(call: type[Any], session: SessionId) -> Any:
    made = msgspec.structs.replace(sample_value(call, full=False), session_id=session)
    if call is Submit:
        made = msgspec.structs.replace(made, graph=msgspec.Raw(bell()))
    return made


@pytest.mark.parametrize("call", ABSENT, ids=lambda call: call.METHOD)
def test_a_call_that_this_build_lacks_says_so_even_to_those_without_its_right(
    desk: Desk, call: Any
) -> None:
    reply = desk.call(sample(call, desk.open("CAP_ALLOC")))
    assert isinstance(reply, NotAvailable)
    assert reply.feature == call.METHOD


@pytest.mark.parametrize("call", SESSION_CALLS, ids=lambda call: call.METHOD)
def test_every_call_answers_a_stranger_with_the_same_refusal(desk: Desk, call: Any) -> None:
    session = desk.open()
    for request, uid in (
        (sample(call, session), 2),  # another tenant's
        (sample(call, session), 99),  # nobody's
        (sample(call, SessionId("sess_x")), 1),  # no session
    ):
        assert desk.call(request, uid=uid) == AuthFailed()
    assert desk.call(sample(call, session), uid=4) == TenantSuspended()


@pytest.mark.parametrize("call", SESSION_CALLS, ids=lambda call: call.METHOD)
def test_every_call_tells_of_an_expired_session_before_all_else(desk: Desk, call: Any) -> None:
    session = desk.open("CAP_ALLOC")
    desk.later(SESSION_IDLE_NS + MS)
    assert desk.call(sample(call, session)) == SessionExpired()
    desk.later(10**10)
    assert desk.call(sample(call, session)) == SessionExpired()


def test_submissions_are_refused_in_the_order_of_precedence(desk: Desk) -> None:
    """From a submission that every check refuses, mend one fault after the other."""
    session = desk.open("CAP_ALLOC", uid=2)
    first = desk.submit(session, uid=2, idempotency_key="k")
    desk.submit(session, uid=2)
    desk.submit(session, uid=2)  # bob may hold three jobs

    def refusal(graph: bytes, key: str = "k", **policy: Any) -> Any:
        made = Policy(idempotency_key=key, **policy)
        request = Submit(session_id=session, graph=msgspec.Raw(graph), policy=made)
        return desk.call(request, uid=2)

    seen = [
        refusal(bell(extra="APPLY_T"), debug=True),
        refusal(bell(extra="APPLY_T")),
        refusal(bell()[:-1] + b", }"),
        refusal(bell(), shots=2),
        refusal(bell(), key="other"),
    ]
    kinds = [type(error) for error in seen]
    assert kinds == [
        NotAvailable,
        InsufficientCaps,
        InvalidGraph,  # rights of a program that does not verify are unknown
        IdempotencyConflict,
        QuotaExceeded,
    ]
    assert seen[3] == IdempotencyConflict(job_id=first)
    ranks = [PRECEDENCE[kind] for kind in kinds if kind is not InvalidGraph]
    assert ranks == sorted(ranks)


def test_a_refused_request_has_no_effect_but_its_reply(desk: Desk) -> None:
    session = desk.open("CAP_ALLOC")
    job = desk.submit(session)
    desk.run_all()
    for request, error in (
        (Status(session_id=session, job_id=JobId("job_x")), JobNotFound),
        (Cancel(session_id=session, job_id=job), AlreadyCompleted),
        (Submit(session_id=session, graph=msgspec.Raw(b"{}")), InvalidGraph),
        (NegotiateCaps(requested=[], tenant_id="bob"), AuthFailed),  # type: ignore[arg-type]
    ):
        version = desk.state.version
        assert isinstance(desk.call(request), error)
        assert desk.state.version == version
        assert len(desk.out) == 1


def test_time_does_not_go_back(desk: Desk) -> None:
    desk.kernel.step(desk.now_ns + 1, ev.WorkerReady(0))
    with pytest.raises(AssertionError, match="time"):
        desk.kernel.step(desk.now_ns, ev.WorkerReady(0))


def test_discovery_is_not_the_kernels_to_answer(desk: Desk) -> None:
    with pytest.raises(AssertionError, match="not the kernel's"):
        desk.call(Discover())


def test_sessions_outlive_connections(desk: Desk) -> None:
    session = desk.open()
    desk.step(ev.ClientGone(1))
    assert desk.call(CloseSession(session_id=session), conn=2).jobs_cancelled == 0


# --- shutting down ------------------------------------------------------------------------------


def test_a_shutdown_stops_and_answers_everything_then_halts(desk: Desk) -> None:
    session, other = desk.open(), desk.open(uid=2)
    running = desk.submit(session, shots=500_000)
    queued = desk.submit(other, shots=1, uid=2)
    assert desk.call(Wait(session_id=session, job_id=running)) is None
    asked = desk.calls
    assert desk.call(Wait(session_id=other, job_id=queued), uid=2) is None
    assert desk.try_submit(session, bell(10_000)) is None
    checking = desk.calls
    desk.step(ev.ShutDown(STOP_GRACE_NS))
    desk.later(0)
    assert isinstance(desk.replies[checking], Busy)
    assert isinstance(desk.try_submit(session), Busy)
    assert isinstance(desk.call(NegotiateCaps(requested=[])), Busy)
    for run in desk.segments():
        assert not desk.sent(fx.Halt)
        desk.failed(run, "stopped", epoch=1)
    assert isinstance(desk.out[-1], fx.Halt)
    ended = desk.replies[asked]
    assert isinstance(ended, JobStatus)
    assert ended.state is JobState.CANCELLED
    assert ended.error is None
    assert ended.cancelled_at_epoch == 1
    assert desk.replies[asked + 1].state is JobState.CANCELLED


def test_a_shutdown_with_nothing_to_stop_halts_as_soon_as_all_tenants_were_looked_at(
    desk: Desk,
) -> None:
    desk.step(ev.ShutDown(0))
    desk.later(0)  # a tenant in a step; the last of them halts
    assert desk.out == [fx.Halt()]
    assert not desk.step(ev.ShutDown(0))


def test_a_shutdown_kills_workers_that_do_not_stop_within_its_grace(desk: Desk) -> None:
    desk.submit(desk.open(), shots=1)
    (run,) = desk.segments()
    desk.step(ev.ShutDown(5 * MS))
    desk.later(5 * MS)
    assert desk.sent(fx.KillWorker) == [fx.KillWorker(run.worker)]
    desk.lose(run.worker)
    assert isinstance(desk.out[-1], fx.Halt)


def test_every_refusal_is_one_that_its_call_declares(desk: Desk) -> None:
    session = desk.open()
    for call in SESSION_CALLS:
        reply = desk.call(sample(call, session))
        if isinstance(reply, KernelError):
            assert type(reply) in call.ERRORS, call.METHOD
        if call is CloseSession:
            session = desk.open()
