"""What comes back from the store is judged as of then, and a restored job costs what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core import programs
from qmkd.core.channels_test import TRIANGLE, crossing, open_chan, two_ends
from qmkd.core.checkpoints_test import (
    NEGOTIATION,
    SHOTS,
    checkpoint,
    finish,
    keep_all,
    park,
    restored,
)
from qmkd.core.conftest import RULES, Desk, bell
from qmkd.core.ports import Quota
from qmkd.core.quotas import level
from qmkd.core.resting_test import durable_desk, durable_job, told
from syscalls.capability import Delegate, Revoke
from syscalls.channel import ChanStatus
from syscalls.checkpoint import Checkpoint, Replay, Restore, Restored
from syscalls.errors import Busy, InsufficientCaps, TenantSuspended
from syscalls.ids import TenantId
from syscalls.job import Cancel
from syscalls.rights import Right
from syscalls.session import NegotiateCaps


@pytest.mark.parametrize("how", ["revoked", "suspended", "cannot write", "stops"])
def test_a_restore_is_refused_where_it_would_be_by_the_time_the_store_has_answered(
    make_desk: Callable[..., Desk], how: str
) -> None:
    desk = durable_desk(make_desk)
    giver = told(desk, NEGOTIATION).session_id
    lend = Delegate(session_id=giver, rights=[Right.CHECKPOINT], tenant_id=TenantId("bob"))
    given = told(desk, lend).capability_id
    asked = NegotiateCaps(requested=["CAP_ALLOC", given])
    taker = told(desk, asked, uid=2).session_id
    job = durable_job(desk, taker, uid=2, shots=SHOTS)
    assert desk.call(Checkpoint(session_id=taker, job_id=job), uid=2) is None
    number = desk.calls
    park(desk, desk.segments()[0], done=1024)
    keep_all(desk)
    made = desk.replies[number]
    restore = Restore(session_id=taker, checkpoint_id=made.checkpoint_id)
    assert desk.call(restore, uid=2) is None
    number, (asked_for,) = desk.calls, desk.sent(fx.VerifyCheckpoint)
    refused: type[Any] = Busy
    if how == "revoked":
        told(desk, Revoke(session_id=giver, capability_id=given))
        refused = InsufficientCaps
    elif how == "suspended":
        suspended = msgspec.structs.replace(RULES[1], suspended=True)
        desk.step(ev.Configured((RULES[0], suspended, RULES[2])))
        refused = TenantSuspended
    else:
        desk.step(ev.KeepFailed("disk full") if how == "cannot write" else ev.ShutDown(10**9))
    desk.step(ev.CheckpointVerified(asked_for.ticket, ""))
    assert isinstance(desk.replies[number], refused)
    assert len(desk.state.jobs) == 1


@pytest.mark.parametrize("how", ["suspended", "cannot write"])
def test_a_replay_is_refused_where_it_would_be_by_the_time_its_program_is_read(
    make_desk: Callable[..., Desk], how: str
) -> None:
    desk = durable_desk(make_desk)
    session = told(desk, NEGOTIATION).session_id
    job = durable_job(desk, session, shots=10)
    finish(desk)
    keep_all(desk)
    programs.drop_unused(desk.state, desk.state.tenants["alice"])
    assert desk.call(Replay(session_id=session, job_id=job)) is None
    number, (load,) = desk.calls, desk.sent(fx.LoadGraph)
    refused: type[Any] = Busy
    if how == "suspended":
        suspended = msgspec.structs.replace(RULES[0], suspended=True)
        desk.step(ev.Configured((suspended, *RULES[1:])))
        refused = TenantSuspended
    else:
        desk.step(ev.KeepFailed("disk full"))
    desk.step(ev.GraphLoaded(load.ticket, bell()))
    assert isinstance(desk.replies[number], refused)


def test_a_checkpoint_of_pairs_is_good_when_its_program_is_no_longer_at_hand() -> None:
    desk = Desk(hardware=TRIANGLE, physical_qubits=180)
    session = desk.open()
    job = desk.submit(session, crossing(uses=2), shots=SHOTS)
    made = checkpoint(desk, session, job)
    desk.call(Cancel(session_id=session, job_id=job))
    programs.drop_unused(desk.state, desk.state.tenants["alice"])
    new = restored(desk, session, made.checkpoint_id)
    assert isinstance(new, Restored), new
    assert desk.state.jobs[new.job_id].context.pairs == desk.state.jobs[job].context.pairs


def test_uses_of_a_channel_are_counted_once_whoever_goes_on() -> None:
    desk = Desk(hardware=TRIANGLE, physical_qubits=180)
    desk.workers(0)
    session = desk.open()
    left, right = two_ends(desk, session)
    channel = open_chan(desk, session, left, right).channel_id
    shots = 100_000
    job = desk.submit(session, crossing(left, right, channel), shots=shots)
    assert checkpoint(desk, session, job) is None
    number = desk.calls
    park(desk, desk.segments()[0], done=4096, size=0, epoch=0)
    new = restored(desk, session, desk.replies[number].checkpoint_id)
    assert isinstance(new, Restored), new
    finish(desk)
    told = desk.call(ChanStatus(session_id=session, channel_id=channel))
    assert told.uses == shots + shots - 4096


# --- what a restored job costs -------------------------------------------------------------------


def test_a_restored_job_counts_for_the_shots_that_are_left(make_desk: Callable[..., Desk]) -> None:
    """Of 5,000 shots with a T state each, 4,096 are done in the checkpoint."""
    rule = msgspec.structs.replace(RULES[0], quota=Quota(t_states_per_minute=SHOTS + 904))
    desk = make_desk(rules=(rule,))
    desk.workers(0)
    session, account = desk.open(), desk.state.tenants["alice"].t_states
    job = desk.submit(session, bell(extra="APPLY_T"), shots=SHOTS)
    assert checkpoint(desk, session, job) is None
    number = desk.calls
    park(desk, desk.segments()[0], done=4096)
    name = desk.replies[number].checkpoint_id
    desk.call(Cancel(session_id=session, job_id=job))
    desk.failed(desk.segments()[0], "stopped")
    assert level(account, desk.now_ns) == SHOTS
    new = restored(desk, session, name)
    assert isinstance(new, Restored), "what was done is not counted again"
    assert level(account, desk.now_ns) == SHOTS + 904
    finish(desk)
    assert level(account, desk.now_ns) == SHOTS + 904, "all of it was run"


def test_a_restored_job_gives_back_what_no_worker_was_given(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk()
    desk.workers(0)
    session, account = desk.open(), desk.state.tenants["alice"].t_states
    job = desk.submit(session, bell(extra="APPLY_T"), shots=200_000)
    (run,) = desk.segments()
    left = 200_000 - run.shots
    assert left > 0
    assert checkpoint(desk, session, job) is None
    number = desk.calls
    park(desk, run, done=1024)
    name = desk.replies[number].checkpoint_id
    before = level(account, desk.now_ns)
    waiting = restored(desk, session, name).job_id
    assert level(account, desk.now_ns) == before + 200_000 - 1024
    desk.call(Cancel(session_id=session, job_id=waiting))
    assert level(account, desk.now_ns) == before, "it was never begun"
    desk.call(Cancel(session_id=session, job_id=job))
    desk.failed(desk.segments()[0], "stopped")
    before = level(account, desk.now_ns)
    begun = restored(desk, session, name).job_id
    desk.call(Cancel(session_id=session, job_id=begun))
    desk.failed(desk.segments()[0], "stopped")
    assert level(account, desk.now_ns) == before + run.shots - 1024


def test_a_cancelled_job_lets_all_go_at_once_that_stood_at_a_fence(
    make_desk: Callable[..., Desk],
) -> None:
    desk = durable_desk(make_desk, workers=3)
    desk.workers(2)
    session = told(desk, NEGOTIATION).session_id
    job = durable_job(desk, session, shots=200_000)
    *stand, _ = runs = desk.segments(job)
    assert len(runs) == 3
    assert checkpoint(desk, session, job) is None
    for run in stand:
        park(desk, run)
    keep_all(desk)
    desk.call(Cancel(session_id=session, job_id=job))
    tickets = tuple(run.ticket for run in stand)
    assert desk.sent(fx.DropSnapshots) == [fx.DropSnapshots(tickets)]
    (kept,) = desk.sent(fx.Keep)
    assert kept.gone.snapshots == tickets
