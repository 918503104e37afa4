"""A kernel that keeps things: what a shutdown leaves for the next, and what a full disk undoes."""

from __future__ import annotations

from typing import Any

import msgspec

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.channels_test import TRIANGLE, TWO, crossing, open_chan, two_ends
from qmkd.core.conftest import ALL, Desk, bell
from qmkd.core.delegation_test import Lasting
from qmkd.core.holding_test import alloc
from qmkd.core.keeping import masked
from qmkd.core.limits import MS
from qmkd.core.ports import Quota, TenantRule
from qmkd.core.records import AuditRow, EndRow, Recovered
from qvm.machine import Hardware
from syscalls.capability import Share
from syscalls.errors import Busy, QuotaExceeded
from syscalls.job import JobState, Noise, Policy, Submit
from syscalls.rights import Right
from syscalls.session import NegotiateCaps


def kept(desk: Desk, request: Any) -> Any:
    """Make a call, let what it changed become durable, and return its answer."""
    assert desk.call(request) is None, "nothing is acknowledged before it is durable"
    number = desk.calls
    desk.step(ev.Kept(desk.state.keeps))
    return desk.replies[number]


def begun() -> tuple[Desk, str, fx.RunSegment]:
    """A desk with one job, of which a slice is in a worker's hands."""
    desk = Desk(durable=True)
    desk.step(Recovered())
    desk.workers(0)
    session = kept(desk, NegotiateCaps(requested=list(ALL))).session_id
    policy = Policy(shots=5_000, noise=Noise.IDEAL)
    job = kept(desk, Submit(session_id=session, graph=msgspec.Raw(bell()), policy=policy)).job_id
    ((_, segment),) = desk.held.items()
    assert isinstance(segment, fx.RunSegment)
    return desk, job, segment


def test_a_slice_that_a_shutdown_stops_is_left_for_the_next_daemon() -> None:
    desk, job, segment = begun()
    desk.step(ev.ShutDown(50 * MS))
    while due := [token for token, at_ns in desk.timers.items() if at_ns <= desk.now_ns]:
        del desk.timers[due[0]]
        desk.step(ev.TimerFired(due[0]))  # tenants are stopped one after the other
    out = desk.step(ev.SegmentFailed(segment.worker, segment.ticket, "stopped", "", 1))
    keeps = [effect for effect in out if isinstance(effect, fx.Keep)]
    assert not any(isinstance(row, EndRow) for keep in keeps for row in keep.rows)
    desk.step(ev.Kept(desk.state.keeps))
    record = desk.state.jobs[job]  # type: ignore[index]
    assert record.final is None
    assert record.state is JobState.RUNNING
    assert desk.state.halted


def test_a_job_that_cannot_be_kept_is_refused_and_forgotten() -> None:
    desk, _, _ = begun()
    session = next(iter(desk.state.sessions))
    policy = Policy(shots=10, noise=Noise.IDEAL)
    assert desk.call(Submit(session_id=session, graph=msgspec.Raw(bell()), policy=policy)) is None
    number = desk.calls
    before = set(desk.state.jobs)
    desk.step(ev.KeepFailed("disk full"))
    assert isinstance(desk.replies[number], Busy)
    again = desk.call(Submit(session_id=session, graph=msgspec.Raw(bell()), policy=policy))
    assert isinstance(again, Busy), "nothing new is taken on until the disk is well"
    desk.step(ev.Kept(desk.state.keeps))
    assert len(desk.state.jobs) == len(before) - 1, "a refused job leaves nothing behind"
    assert not desk.state.keep_failed


# --- other rules after a restart ------------------------------------------------------------------


class Held:
    """What alice has: a session, two qubits with a channel between them, a job that uses both and
    one that does not; and what she gave bob, who holds a qubit by it."""

    def __init__(self) -> None:
        self.desk = desk = Lasting(rules=TWO, physical_qubits=180, hardware=TRIANGLE)
        self.session = desk.open()
        self.ends = two_ends(desk, self.session)
        self.channel = open_chan(desk, self.session, *self.ends).channel_id
        self.jobs = [
            desk.submit(self.session, crossing(*self.ends, self.channel)),
            desk.submit(self.session, bell()),
        ]
        self.given = desk.given(self.session, Right.ALLOC, share=Share(logical_qubits=1))
        self.bobs = desk.opened(self.given).session_id
        (self.his,) = alloc(desk, self.bobs, uid=2)

    def restarted(self, *rules: TenantRule, hardware: Hardware = TRIANGLE) -> Lasting:
        return Lasting(self.desk.rows, rules, physical_qubits=180, hardware=hardware)


def lost(desk: Lasting) -> dict[str, set[str]]:
    """Of each kind of entry that tells of an end: the names in it."""
    found: dict[str, set[str]] = {}
    for row in desk.rows:
        if isinstance(row, AuditRow):
            entry = msgspec.json.decode(row.body)
            kind, fields = entry["kind"], entry["fields"]
            if kind.endswith(" lost"):
                assert fields["why"]
                one = fields.get("channel") or fields.get("capability") or fields["session"]
                found.setdefault(kind, set()).update(fields.get("handles") or [one])
    return found


def test_a_smaller_quota_takes_nothing_away_over_a_restart() -> None:
    held = Held()
    less = dict.fromkeys(("sessions", "channels", "jobs", "queued_bytes", "result_bytes"), 0)
    quota = msgspec.structs.replace(Quota(logical_qubits=3, physical_qubits=34), **less)
    desk = held.restarted(msgspec.structs.replace(TWO[0], quota=quota), TWO[1])
    assert {*desk.state.sessions} == {held.session, held.bobs}
    assert {*desk.state.handles} == {*held.ends, held.his}
    assert {*desk.state.channels} == {held.channel}
    assert {*desk.state.capabilities} == {held.given}
    assert lost(desk) == {}
    desk.run_all()
    assert {desk.state.jobs[job].state for job in held.jobs} == {JobState.QUEUED}
    assert isinstance(open_chan(desk, held.session, *held.ends), QuotaExceeded)


def test_the_chain_tells_what_a_restart_ends_for_want_of_a_tenant_a_right_or_a_place() -> None:
    held = Held()
    mine = {masked(name) for name in held.ends}
    ended = {
        "session lost": {masked(held.session)},
        "qubits lost": {*mine, masked(held.his)},
        "channel lost": {masked(held.channel)},
        "capability lost": {held.given},
    }
    assert lost(held.restarted(TWO[1])) == ended
    without = msgspec.structs.replace(TWO[0], grantable=frozenset(Right) - {Right.ALLOC})
    del ended["session lost"]
    assert lost(held.restarted(without, TWO[1])) == ended
    without = msgspec.structs.replace(TWO[0], grantable=frozenset(Right) - {Right.LINK})
    assert lost(held.restarted(without, TWO[1])) == {"channel lost": {masked(held.channel)}}
    worse = msgspec.structs.replace(TRIANGLE.link[0], fidelity=0.7)
    other = msgspec.structs.replace(TRIANGLE, link=(worse,))
    assert lost(held.restarted(*TWO, hardware=other)) == {"channel lost": {masked(held.channel)}}


def test_the_chain_tells_of_a_job_that_the_machine_holds_no_more() -> None:
    before = Lasting()
    job = before.submit(before.open(), bell())
    desk = Lasting(before.rows, physical_qubits=20)
    assert desk.state.jobs[job].state is JobState.FAILED
    entries = [msgspec.json.decode(row.body) for row in desk.rows if isinstance(row, AuditRow)]
    assert {"job": job, "results": ""} in [each["fields"] for each in entries]
