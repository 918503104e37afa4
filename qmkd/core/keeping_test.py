"""What the audit chain says of epochs, and what those who follow a job are told of the chain."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import pytest

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.conftest import ALL, Desk
from qmkd.core.limits import EPOCH_RECORD_NS_MIN, PROGRESS_NS_MIN
from qmkd.core.records import AuditRow, Recovered
from syscalls import audit
from syscalls.audit import AuditBody
from syscalls.events import JobEvent, Subscribe
from syscalls.ids import SessionId
from syscalls.job import JobState
from syscalls.session import NegotiateCaps, Session


@pytest.fixture
def kept(make_desk: Callable[..., Desk]) -> Desk:
    """A desk whose kernel keeps everything, with one worker."""
    desk = make_desk(workers=1, durable=True)
    desk.step(Recovered())
    desk.workers(0)
    return desk


def settle(desk: Desk) -> None:
    """All that was asked for is durable now."""
    desk.step(ev.Kept(desk.state.keeps))


def begin(desk: Desk, shots: int) -> SessionId:
    """A session that follows all of its jobs, and has one."""
    desk.call(NegotiateCaps(requested=list(ALL)))
    settle(desk)
    opened = desk.replies[desk.calls]
    assert isinstance(opened, Session)
    desk.call(Subscribe(session_id=opened.session_id))
    desk.try_submit(opened.session_id, shots=shots)
    settle(desk)
    return opened.session_id


def attested(desk: Desk) -> list[JobEvent]:
    told = [note.body for note in desk.notices if isinstance(note.body, JobEvent)]
    return [event for event in told if event.kind == "attestation"]


def test_followers_are_told_the_head_of_the_chain_as_epochs_become_durable(kept: Desk) -> None:
    begin(kept, 200_000)
    rows: dict[int, AuditRow] = {}
    heads = []
    while kept.held:
        kept.now_ns += PROGRESS_NS_MIN
        before = len(attested(kept))
        kept.done(kept.segments()[0])
        for keep in kept.sent(fx.Keep):
            rows |= {row.number: row for row in keep.rows if isinstance(row, AuditRow)}
        assert len(attested(kept)) == before, "nothing is attested before it is durable"
        settle(kept)
        heads += attested(kept)[before:]
    assert len(heads) > 3
    for event in heads:
        made = event.attestation
        assert made is not None
        assert bytes.fromhex(made.hash) == (
            rows[made.number].hash if made.number in rows else kept.state.audit_head
        )
        assert 0 < made.epoch <= kept.state.epoch_kept
    numbers = [event.attestation.number for event in heads if event.attestation]
    assert numbers == sorted(numbers)
    states = [n.body.state for n in kept.notices if isinstance(n.body, JobEvent)]
    assert heads[-1].state is JobState.RUNNING, "the last comes before the end is told"
    assert states[-1] is JobState.COMPLETED


def test_attestations_come_no_more_often_than_progress_but_for_the_last(kept: Desk) -> None:
    begin(kept, 200_000)
    while kept.held:
        kept.done(kept.segments()[0])
        settle(kept)
    assert len(attested(kept)) == 2


def test_a_record_of_epochs_says_whose_they_were_and_who_lies_where(kept: Desk) -> None:
    begin(kept, 10_000_000)
    entries = []
    for _ in range(30):
        kept.now_ns += EPOCH_RECORD_NS_MIN // 4
        kept.done(kept.segments()[0])
        entries += [row for keep in kept.sent(fx.Keep) for row in keep.rows]
        settle(kept)
    (job,) = kept.state.placed
    found = [msgspec.json.decode(row.body, type=AuditBody)
             for row in entries if isinstance(row, AuditRow)]  # fmt: skip
    assert {body.kind for body in found} == {"epochs"}
    assert 6 <= len(found) <= 8, "once a second, however many slices there are"
    last = found[-1].fields
    assert last["jobs"] == [job.id]
    assert last["placed"] == [f"{job.id} 0+34"]
    assert (last["qubits"], last["jobs_all"], last["placed_all"]) == (34, 1, 1)
    assert isinstance(last["cycle"], int)
    assert 0 < last["cycle"] <= kept.state.horizon
    assert all(before.epoch < after.epoch for before, after in itertools.pairwise(found))


def test_what_ran_last_is_recorded_when_the_daemon_stops(kept: Desk) -> None:
    begin(kept, 200_000)
    kept.now_ns += EPOCH_RECORD_NS_MIN
    for _ in range(2):
        kept.done(kept.segments()[0])
    chain = []
    kept.step(ev.ShutDown(0))
    for keep in kept.sent(fx.Keep):
        chain += [row for row in keep.rows if isinstance(row, AuditRow)]
    kinds = [msgspec.json.decode(row.body, type=AuditBody).kind for row in chain]
    assert kinds == ["epochs", "shutting down"]
    assert chain[-1].hash == audit.hash_of(chain[-2].hash, chain[-1].body)
