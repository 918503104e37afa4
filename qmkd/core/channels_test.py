"""Channels of programs and of sessions: settled, placed, counted, closed; with what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qmkd.core.conftest import RULES, Desk
from qmkd.core.holding_test import alloc, naming, release, status
from qmkd.core.ports import PairError, Quota, TenantRule
from qvm.machine import Hardware, Link, Module
from qvm.pairs import dejmps, werner
from syscalls.capability import Delegate, Delegated, Revoke, Share
from syscalls.channel import (
    ChanClosed,
    ChannelTerms,
    ChanOpened,
    ChanOptions,
    ChanStatus,
    CloseChan,
    OpenChan,
)
from syscalls.errors import (
    Busy,
    ChannelNotFound,
    FidelityUnavailable,
    InsufficientCaps,
    InvalidParams,
    NotBrokered,
    QuotaExceeded,
    ResourceExhausted,
)
from syscalls.ids import ChannelId, HandleId, SessionId, TenantId, is_channel
from syscalls.job import JobState, Noise
from syscalls.rights import Right
from syscalls.session import CloseSession, NegotiateCaps
from syscalls.telemetry import GetTelemetry

SURFACE = "logical:Surface(d=3)"  # of 17 physical qubits
RAW = 0.9
TRIANGLE = Hardware(
    name="triangle",
    module=tuple(Module(name=name, qubits=60) for name in ("left", "right", "far")),
    link=(
        Link(between=("left", "right"), cycles=10.0, fidelity=RAW, lifetime=1_000.0),
        Link(between=("right", "far"), cycles=40.0, fidelity=0.4),
    ),
)
TWO = (RULES[0], TenantRule(name="bob", uids=frozenset({2}), quota=Quota(channels=3)))


@pytest.fixture
def desk() -> Desk:
    made = Desk(TWO, physical_qubits=180, hardware=TRIANGLE)
    made.workers(0, 1)
    return made


def crossing(
    one: str = "a", two: str = "b", channel: str = "c", uses: int = 1, waits: int = 0, **opened: Any
) -> bytes:
    """A program that teleports a CNOT from one qubit to the other so many times."""
    opened = {"fidelity": 0.5} | opened
    nodes: list[dict[str, Any]] = [
        {"id": "a", "op": "ALLOC_LQ", "args": {"n": 2, "profile": SURFACE}, "vqs": [one, two]},
        {"id": "o", "op": "OPEN_CHAN", "vqs": [one, two], "chs": [channel], "args": opened},
        *({"id": f"w{at}", "op": "APPLY_X", "vqs": [one]} for at in range(waits)),
        *(
            {"id": f"u{at}", "op": "USE_CHAN", "vqs": [one, two], "chs": [channel],
             "args": {"semantic": "teleport_cnot"}}
            for at in range(uses)
        ),
        {"id": "m", "op": "MEASURE_Z", "vqs": [two], "produces": ["m0"]},
        {"id": "x", "op": "CLOSE_CHAN", "chs": [channel]},
        {"id": "f", "op": "FREE_LQ", "vqs": [one, two]},
    ]  # fmt: skip
    resources = {"vqs": [one, two], "chs": [channel], "events": ["m0"]}
    document = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    return json.dumps(document).encode()


def finish(desk: Desk, job: Any) -> None:
    for run in desk.segments(job):
        desk.done(run, first_row={"m0": 0}, counts={"0": run.shots})


def two_ends(desk: Desk, session: SessionId, uid: int = 1) -> tuple[HandleId, HandleId]:
    (left,) = alloc(desk, session, module="left", uid=uid)
    (right,) = alloc(desk, session, module="right", uid=uid)
    return left, right


def open_chan(
    desk: Desk, session: SessionId, one: HandleId, two: HandleId, uid: int = 1, **options: Any
) -> Any:
    request = OpenChan(session_id=session, vq_a=one, vq_b=two, options=ChanOptions(**options))
    return desk.call(request, uid=uid)


# --- programs that open their own ---------------------------------------------------------------


def test_the_ends_lie_in_linked_modules_and_pairs_err_as_is_told(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, crossing(uses=2))
    lies = desk.state.jobs[job].place
    assert lies is not None
    assert {run.module for run in lies} in ({0, 1}, {1, 2})
    (run,) = desk.segments(job)
    third = (1 - RAW) / 3
    assert [each.node for each in run.setting.pairs] == [2, 3]
    first = run.setting.pairs[0]
    assert (first.x, first.y, first.z) == pytest.approx((third, third, third))
    finish(desk, job)
    told = status(desk, session, job)
    (used,) = [each for each in told.execution_context.pairs if 2 in each.nodes]
    assert used.channels == ["c"]
    assert (used.terms.protocol, used.terms.rounds, used.terms.raw_pairs) == ("raw", 0, 1.0)
    assert used.terms.fidelity == pytest.approx(RAW)
    assert used.terms.link.fidelity == RAW
    assert told.telemetry.pairs == 2
    assert told.telemetry.raw_pairs == pytest.approx(2.0)


def test_a_pair_is_purified_until_it_is_as_good_as_asked_when_it_is_used(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, crossing(fidelity=0.93, type="DEJMPS", waits=4))
    (used,) = status(desk, session, job).execution_context.pairs
    terms = used.terms
    assert (terms.protocol, terms.age) == ("DEJMPS", 4 * 3)
    once = dejmps(werner(RAW), werner(RAW)).pair
    assert terms.rounds == 2 or once.fidelity >= 0.93
    assert terms.made > terms.fidelity >= 0.93
    assert 1 - terms.x - terms.y - terms.z == pytest.approx(terms.fidelity)


def test_nothing_errs_without_noise_and_the_pairs_are_told_all_the_same(desk: Desk) -> None:
    session = desk.open()
    job = desk.submit(session, crossing(), noise=Noise.IDEAL)
    (run,) = desk.segments(job)
    assert run.setting.pairs == ()
    assert len(status(desk, session, job).execution_context.pairs) == 1


def test_a_program_of_ideal_qubits_suffers_what_its_pairs_do(desk: Desk) -> None:
    session = desk.open()
    graph = crossing().replace(SURFACE.encode(), b"logical:ideal")
    job = desk.submit(session, graph)
    (run,) = desk.segments(job)
    assert run.noise.startswith("calibrated ")
    assert len(run.setting.pairs) == 1
    assert status(desk, session, job).execution_context.noise.why == "Bell pairs alone err"


def test_what_no_link_reaches_is_refused_with_what_is_reachable(desk: Desk) -> None:
    session = desk.open()
    refusal = desk.try_submit(session, crossing(fidelity=0.9, waits=100))
    assert isinstance(refusal, FidelityUnavailable)
    kept = 2.718281828459045 ** (-300 / 1_000.0)
    assert refusal.reachable == pytest.approx(0.25 + 0.75 * kept, abs=1e-3)
    desk.submit(session, crossing(fidelity=round(refusal.reachable - 1e-3, 6), waits=100))


def test_where_no_two_modules_are_linked_there_are_no_channels() -> None:
    apart = Hardware(name="apart", module=TRIANGLE.module)
    desk = Desk(TWO, physical_qubits=180, hardware=apart)
    session = desk.open()
    assert isinstance(desk.try_submit(session, crossing()), ResourceExhausted)


def test_a_program_whose_pairs_take_all_of_a_link_waits_for_it() -> None:
    pair = Hardware(name="pair", module=TRIANGLE.module[:2], link=TRIANGLE.link[:1])
    desk = Desk(TWO, physical_qubits=120, hardware=pair)
    desk.workers(0, 1)
    session = desk.open()
    first, second = (desk.submit(session, crossing(uses=20), shots=5000) for _ in range(2))
    assert status(desk, session, second).queue.reason == "waiting for Bell pairs of the links"
    assert status(desk, session, first).telemetry.slowed_by == "links"
    finish(desk, first)
    while desk.segments(first):
        finish(desk, first)
    assert desk.state.jobs[second].place is not None


def test_channels_of_programs_count_while_they_run(desk: Desk) -> None:
    session = desk.open(uid=2)
    for _ in range(3):
        desk.submit(session, crossing(waits=40), uid=2)
    assert desk.state.tenants["bob"].channels == 3
    waits = desk.submit(session, crossing(), uid=2)
    assert status(desk, session, waits, uid=2).queue.reason == (
        "waiting for channels of the tenant's quota: 1 asked, 3 of 3 in use"
    )


def test_a_channel_that_is_closed_lets_who_waited_for_quota_run(desk: Desk) -> None:
    session = desk.open(uid=2)
    left, right = two_ends(desk, session, uid=2)
    for _ in range(3):
        last = open_chan(desk, session, left, right, uid=2).channel_id
    waits = desk.submit(session, crossing(), uid=2)
    assert not desk.segments()
    desk.call(CloseChan(session_id=session, channel_id=last), uid=2)
    assert [run.job_id for run in desk.segments()] == [waits]


# --- channels that sessions open ----------------------------------------------------------------


def test_a_channel_is_opened_used_told_and_closed(desk: Desk) -> None:
    session = desk.open()
    left, right = two_ends(desk, session)
    opened = open_chan(desk, session, left, right, fidelity=0.95)
    assert isinstance(opened, ChanOpened)
    assert is_channel(opened.channel_id)
    assert opened.actual_fidelity >= 0.95
    assert opened.purification_rounds == opened.terms.rounds > 0
    assert desk.state.tenants["alice"].channels == 1
    usage = desk.call(GetTelemetry(session_id=session))
    assert usage.resource_usage.channels_open == 1
    assert [each.channels for each in usage.qubits] == [1, 1]
    name = opened.channel_id
    job = desk.submit(session, crossing(left, right, name, uses=3), shots=1024)
    (run,) = desk.segments(job)
    assert len(run.setting.pairs) == 3
    pair = run.setting.pairs[0]
    assert 1 - pair.x - pair.y - pair.z >= 0.95, "the program asks less; the channel is as opened"
    assert isinstance(desk.call(CloseChan(session_id=session, channel_id=name)), Busy)
    finish(desk, job)
    told = desk.call(ChanStatus(session_id=session, channel_id=name))
    assert told.uses == 3 * 1024
    assert (told.vq_a, told.vq_b) == (left, right)
    closed = desk.call(CloseChan(session_id=session, channel_id=name))
    assert isinstance(closed, ChanClosed)
    assert desk.state.tenants["alice"].channels == 0
    assert isinstance(desk.call(ChanStatus(session_id=session, channel_id=name)), ChannelNotFound)
    assert isinstance(desk.try_submit(session, crossing(left, right, name)), NotBrokered)


def test_the_pair_that_waits_decays_with_the_machines_clock(desk: Desk) -> None:
    session = desk.open()
    left, right = two_ends(desk, session)
    name = open_chan(desk, session, left, right).channel_id
    before = desk.call(ChanStatus(session_id=session, channel_id=name))
    assert before.age_cycles == 0
    job = desk.submit(session, shots=50)
    for run in desk.segments(job):
        desk.done(run)
    after = desk.call(ChanStatus(session_id=session, channel_id=name))
    assert after.age_cycles == desk.state.cycle > 0
    kept = 2.718281828459045 ** (-after.age_cycles / 1_000.0)
    expected = 0.25 + (before.actual_fidelity - 0.25) * kept
    assert after.actual_fidelity == pytest.approx(expected)
    finish(desk, job)
    again = desk.submit(session, crossing(left, right, name))
    finish(desk, again)
    renewed = desk.call(ChanStatus(session_id=session, channel_id=name))
    assert renewed.actual_fidelity == before.actual_fidelity, "it was used, and the next made"


def test_on_one_module_a_channel_is_local() -> None:
    desk = Desk(TWO)
    session = desk.open()
    one, two = alloc(desk, session, 2)
    opened = open_chan(desk, session, one, two, fidelity=1.0)
    assert opened.terms == ChannelTerms()
    desk.submit(session, crossing(one, two, opened.channel_id))


def test_a_channel_needs_a_link_and_a_fidelity_that_can_be_had(desk: Desk) -> None:
    session = desk.open()
    left, right = two_ends(desk, session)
    (far,) = alloc(desk, session, module="far")
    (mate,) = alloc(desk, session, module="left")
    assert isinstance(open_chan(desk, session, left, far), ResourceExhausted)
    assert isinstance(open_chan(desk, session, left, mate), ResourceExhausted)
    refusal = open_chan(desk, session, right, far, fidelity=0.5)
    assert isinstance(refusal, FidelityUnavailable)
    assert refusal.reachable == pytest.approx(0.4)
    assert isinstance(open_chan(desk, session, left, left), InvalidParams)


def test_a_named_channel_is_used_between_its_ends_and_nowhere_else(desk: Desk) -> None:
    session = desk.open()
    left, right = two_ends(desk, session)
    (far,) = alloc(desk, session, module="far")
    name = open_chan(desk, session, left, right).channel_id
    for ends in ((left, far), ("a", "b"), (left, "b")):
        assert isinstance(desk.try_submit(session, crossing(*ends, name)), NotBrokered)
    astray = crossing(left, right, name).replace(
        f'"USE_CHAN", "vqs": ["{left}", "{right}"]'.encode(),
        f'"USE_CHAN", "vqs": ["{left}", "q"]'.encode(),
    )
    document = json.loads(astray)
    document["program"]["nodes"][0]["vqs"].append("q")
    document["program"]["nodes"][0]["args"]["n"] = 3
    document["resources"]["vqs"].append("q")
    assert isinstance(desk.try_submit(session, json.dumps(document).encode()), NotBrokered)
    desk.submit(session, crossing(right, left, name))


def test_a_channel_closes_with_either_of_its_qubits(desk: Desk) -> None:
    session = desk.open()
    for gone in (0, 1):
        ends = two_ends(desk, session)
        name = open_chan(desk, session, *ends).channel_id
        release(desk, session, ends[gone])
        assert isinstance(
            desk.call(ChanStatus(session_id=session, channel_id=name)), ChannelNotFound
        )
    assert desk.state.tenants["alice"].channels == 0


def test_what_is_over_the_quota_of_channels_is_refused(desk: Desk) -> None:
    session = desk.open(uid=2)
    left, right = two_ends(desk, session, uid=2)
    for _ in range(3):
        assert isinstance(open_chan(desk, session, left, right, uid=2), ChanOpened)
    assert isinstance(open_chan(desk, session, left, right, uid=2), QuotaExceeded)


# --- between tenants ----------------------------------------------------------------------------


class Border:
    """Alice holds a qubit on the left, Bob one on the right; she delegated CAP_LINK to him."""

    def __init__(self, desk: Desk, **share: Any) -> None:
        self.desk = desk
        self.alice = desk.open()
        (self.hers,) = alloc(desk, self.alice, module="left")
        lend = Delegate(
            session_id=self.alice,
            rights=[Right.LINK],
            tenant_id=TenantId("bob"),
            share=Share(**share),
        )
        given = desk.call(lend)
        assert isinstance(given, Delegated)
        self.consent = given.capability_id
        self.bob = self.session("CAP_ALLOC", "CAP_LINK", self.consent)
        (self.his,) = alloc(desk, self.bob, module="right", uid=2)

    def session(self, *rights: str) -> SessionId:
        reply = self.desk.call(NegotiateCaps(requested=list(rights)), uid=2)
        return SessionId(reply.session_id)

    def open(self, session: SessionId | None = None, **options: Any) -> Any:
        return open_chan(self.desk, session or self.bob, self.his, self.hers, uid=2, **options)

    def submit(self, graph: bytes) -> Any:
        return self.desk.try_submit(self.bob, graph, uid=2)

    def running(self) -> tuple[Any, ChannelId]:
        name = self.open().channel_id
        return self.submit(crossing(self.his, self.hers, name)).job_id, name

    def stopped(self, job: Any) -> Any:
        """The job's end, once its worker has stopped."""
        for run in self.desk.segments(job):
            self.desk.failed(run, "stopped")
        return status(self.desk, self.bob, job, uid=2)


@pytest.fixture
def border(desk: Desk) -> Border:
    return Border(desk)


def test_with_both_sides_consent_a_program_reaches_across(border: Border) -> None:
    job, _ = border.running()
    (run,) = border.desk.segments(job)
    assert isinstance(run.setting.pairs[0], PairError)
    shown = border.desk.call(GetTelemetry(session_id=border.alice)).qubits
    assert (shown[0].in_use, shown[0].channels) == (True, 1)
    finish(border.desk, job)
    assert status(border.desk, border.bob, job, uid=2).state is JobState.COMPLETED


def test_consent_is_the_far_sides_own_and_not_enough_alone(border: Border) -> None:
    desk = border.desk
    without = border.session("CAP_ALLOC", "CAP_LINK")
    (his,) = alloc(desk, without, module="right", uid=2)
    assert open_chan(desk, without, his, border.hers, uid=2) == NotBrokered()
    alone = border.session("CAP_ALLOC", border.consent)
    (his,) = alloc(desk, alone, module="right", uid=2)
    assert open_chan(desk, alone, his, border.hers, uid=2) == NotBrokered()
    unknown = HandleId("vq_" + 32 * "0")
    assert open_chan(desk, border.bob, border.his, unknown, uid=2) == NotBrokered()
    assert open_chan(desk, border.bob, border.hers, unknown, uid=2) == NotBrokered()
    assert open_chan(desk, border.alice, border.hers, border.his) == NotBrokered()


@pytest.mark.parametrize("how", ["revoked", "her session", "her qubit", "his right"])
def test_what_ends_the_consent_closes_the_channel_and_stops_who_uses_it(
    border: Border, how: str
) -> None:
    desk = border.desk
    job, name = border.running()
    if how == "revoked":
        desk.call(Revoke(session_id=border.alice, capability_id=border.consent))
    elif how == "her session":
        desk.call(CloseSession(session_id=border.alice))
    elif how == "her qubit":
        release(desk, border.alice, border.hers)
    else:
        desk.call(CloseSession(session_id=border.bob), uid=2)
        for run in desk.segments(job):
            desk.failed(run, "stopped")
        assert not desk.state.channels
        assert desk.call(GetTelemetry(session_id=border.alice)).qubits[0].channels == 0
        return
    told = desk.call(ChanStatus(session_id=border.bob, channel_id=name), uid=2)
    assert isinstance(told, ChannelNotFound)
    ended = border.stopped(job)
    lacking = InsufficientCaps(required=["CAP_LINK"], missing=["CAP_LINK"])
    why = NotBrokered() if how == "her qubit" else lacking
    assert (ended.state, ended.error.type) == (JobState.FAILED, why.NAME)
    assert ended.error.message == why.sentence()
    assert border.submit(crossing(border.his, border.hers, name)) == NotBrokered()
    assert desk.state.physical == (34 if how == "revoked" else 17)


def test_a_share_of_channels_bounds_those_to_the_giver(desk: Desk) -> None:
    border = Border(desk, channels=1)
    assert isinstance(border.open(), ChanOpened)
    assert isinstance(border.open(), QuotaExceeded)
    assert desk.state.tenants["alice"].quota.channels == Quota().channels - 1


def test_her_own_jobs_wait_while_his_has_her_qubit(border: Border) -> None:
    job, _ = border.running()
    hers = border.desk.submit(border.alice, naming(border.hers))
    told = status(border.desk, border.alice, hers)
    assert told.queue.reason == "waiting for a qubit that another job uses"
    finish(border.desk, job)
    assert border.desk.segments(hers)
