"""A desk for the core's tests: one kernel, calls made by name, every invariant after every step."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core import ports
from qmkd.core.kernel import Kernel
from qmkd.core.limits import ENTROPY_BYTES, SECOND
from qmkd.core.ports import Machine, Plan, Quota, SegmentReport, TenantRule
from qvm.program import Summary, VerifiedProgram
from qvm.verify import verify_bytes
from syscalls.errors import ProgramTooWide
from syscalls.ids import JobId, SessionId
from syscalls.job import PlanJob, Policy, Submit, Submitted
from syscalls.rights import Right
from syscalls.session import NegotiateCaps, Session
from tests.simulation import invariants

START_NS = 1_700_000_000 * SECOND
WIDTH_MAX = 30
EXACT = "exact"
ALL = tuple(right.value for right in Right)
CALIBRATED = {"Surface": frozenset({3, 5, 7, 9}), "BaconShor": frozenset({3})}


def bell(padding: int = 0, profile: str = "logical:Surface(d=3)", extra: str = "") -> bytes:
    """A Bell pair, `padding` bytes longer, with one more op where `extra` names one."""
    nodes: list[dict[str, Any]] = [
        {"id": "a", "op": "ALLOC_LQ", "args": {"n": 2, "profile": profile}, "vqs": ["p", "q"]},
        {"id": "h", "op": "APPLY_H", "vqs": ["p"]},
        {"id": "c", "op": "APPLY_CNOT", "vqs": ["p", "q"]},
        {"id": "e", "op": "FENCE_EPOCH"},
        {"id": "m", "op": "MEASURE_Z", "vqs": ["p"], "produces": ["m0"]},
        {"id": "n", "op": "MEASURE_Z", "vqs": ["q"], "produces": ["m1"]},
        {"id": "f", "op": "FREE_LQ", "vqs": ["p", "q"]},
    ]
    if extra == "APPLY_T":
        nodes.insert(2, {"id": "t", "op": "APPLY_T", "vqs": ["p"]})
    elif extra == "SET_POLICY":
        nodes.insert(2, {"id": "t", "op": "SET_POLICY", "args": {"priority": 1}})
    resources = {"vqs": ["p", "q"], "chs": [], "events": ["m0", "m1"]}
    document = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    return json.dumps(document).encode() + b" " * padding


def planner(
    summary: Summary, shots: int, noise: str = "ideal", keeps: bool = False
) -> Plan | ProgramTooWide:
    """A thousand nanoseconds a shot, and a bound on width."""
    width = summary.peak_logical
    if width > WIDTH_MAX:
        return ProgramTooWide(width=width, width_max=WIDTH_MAX, why="it is so here")
    return Plan(
        engine=EXACT if shots == ports.EXACT else "fake",
        why="test",
        width=width,
        ns_fixed=100_000,
        ns_per_shot=1000,
        bytes_peak=1000,
    )


RULES = (
    TenantRule(name="alice", uids=frozenset({1}), gids=frozenset({100})),
    TenantRule(
        name="bob", uids=frozenset({2}), grantable=frozenset({Right.ALLOC}), quota=Quota(jobs=3)
    ),
    TenantRule(name="mallory", uids=frozenset({4}), suspended=True),
)


class Desk:
    """One kernel. `call` makes a request and returns its answer, or None while it is parked."""

    def __init__(self, rules: tuple[TenantRule, ...] = RULES, **machine: Any) -> None:
        options = {"workers": 2, "physical_qubits": 1000, "calibrated": CALIBRATED, **machine}
        self.kernel = Kernel(Machine(tenants=rules, **options), planner)
        self.state = self.kernel.state
        self.now_ns = START_NS
        self.calls = 0
        self.watched = True  # looking at everything takes time that grows with what there is
        self.out: list[fx.Effect] = []
        self.held: dict[int, fx.RunSegment | fx.CheckProgram | fx.Calibrate] = {}
        self.timers: dict[int, int] = {}
        self.replies: dict[int, Any] = {}
        self.notices: list[fx.Notify] = []

    def step(self, event: ev.Event) -> list[fx.Effect]:
        """One step; its effects are kept by kind as well."""
        self.out = self.kernel.step(self.now_ns, event)
        if self.watched:
            invariants.check(self.state)
        for effect in self.out:
            match effect:
                case fx.Reply():
                    assert effect.to.call not in self.replies, "answered once"
                    self.replies[effect.to.call] = effect.body
                case fx.Notify():
                    self.notices.append(effect)
                case fx.RunSegment() | fx.CheckProgram() | fx.Calibrate():
                    self.held[effect.ticket] = effect
                case fx.SetTimer():
                    self.timers[effect.token] = effect.at_ns
                case fx.CancelTimer():
                    del self.timers[effect.token]
        return self.out

    def workers(self, *numbers: int) -> None:
        """These workers are ready."""
        for number in numbers:
            self.step(ev.WorkerReady(number))

    def call(self, request: Any, uid: int = 1, gid: int = 0, conn: int = 1) -> Any:
        """Make a request. Its number is `calls` afterwards."""
        self.calls += 1
        entropy = self.calls.to_bytes(ENTROPY_BYTES // 2, "big") + bytes(ENTROPY_BYTES // 2)
        origin = ev.Origin(conn, self.calls)
        self.step(ev.Called(origin, ev.Peer(uid, gid, 7), request, entropy))
        return self.replies.get(self.calls)

    def open(self, *rights: str, uid: int = 1) -> SessionId:
        """A session; with all rights unless some are named."""
        reply = self.call(NegotiateCaps(requested=list(rights or ALL)), uid=uid)
        assert isinstance(reply, Session), reply
        return reply.session_id

    def try_submit(
        self, session: SessionId, graph: bytes | None = None, uid: int = 1, **policy: Any
    ) -> Any:
        """q_submit, whatever comes of it."""
        raw = msgspec.Raw(bell() if graph is None else graph)
        return self.call(Submit(session_id=session, graph=raw, policy=Policy(**policy)), uid=uid)

    def submit(
        self, session: SessionId, graph: bytes | None = None, uid: int = 1, **policy: Any
    ) -> JobId:
        """q_submit that is accepted."""
        reply = self.try_submit(session, graph, uid, **policy)
        assert isinstance(reply, Submitted), reply
        return reply.job_id

    def plan(self, session: SessionId, graph: bytes | None = None, **policy: Any) -> Any:
        """q_plan, whatever comes of it."""
        raw = msgspec.Raw(bell() if graph is None else graph)
        return self.call(PlanJob(session_id=session, graph=raw, policy=Policy(**policy)))

    def segments(self, job: JobId | None = None) -> list[fx.RunSegment]:
        """What workers hold, oldest first."""
        runs = [unit for unit in self.held.values() if isinstance(unit, fx.RunSegment)]
        return [run for run in runs if job in (None, run.job_id)]

    def done(self, run: fx.RunSegment, **report: Any) -> list[fx.Effect]:
        """The worker has run it: every shot gave 00."""
        del self.held[run.ticket]
        fields: dict[str, Any] = {
            "shots": run.shots,
            "counts": {"00": run.shots} if run.counts else None,
            "first_row": {} if run.engine == EXACT else {"m0": 0, "m1": 0},
            "leaves": bytes([run.shot_first // 1024 % 256]) * 32 * -(-run.shots // 1024),
            "engine": run.engine,
            "cpu_ns": 1000 * run.shots,
            "notes": {},
            "decoder_leaves": bytes(32 * -(-run.shots // 1024) if run.setting.decoder_data else 0),
            "probabilities": {"00": 0.25, "11": 0.75} if run.engine == EXACT else None,
        } | report
        return self.step(ev.SegmentDone(run.worker, run.ticket, SegmentReport(**fields)))

    def failed(self, run: fx.RunSegment, reason: str, epoch: int = 0) -> list[fx.Effect]:
        """The worker could not run it."""
        del self.held[run.ticket]
        return self.step(ev.SegmentFailed(run.worker, run.ticket, reason, "so it is", epoch))

    def lose(self, worker: int) -> list[fx.Effect]:
        """The worker dies."""
        self.held = {t: unit for t, unit in self.held.items() if unit.worker != worker}
        return self.step(ev.WorkerGone(worker))

    def checked(self, unit: fx.CheckProgram) -> list[fx.Effect]:
        """The worker has verified a graph."""
        del self.held[unit.ticket]
        found = verify_bytes(unit.graph)
        if isinstance(found, VerifiedProgram):
            return self.step(ev.ProgramChecked(unit.ticket, found.summary, (), 0, found.warnings))
        return self.step(ev.ProgramChecked(unit.ticket, None, tuple(found), len(found)))

    def run_all(self) -> None:
        """Workers run all there is."""
        while self.held:
            unit = next(iter(self.held.values()))
            if isinstance(unit, fx.RunSegment):
                self.done(unit)
            elif isinstance(unit, fx.CheckProgram):
                self.checked(unit)
            else:
                raise AssertionError("tests of measured points say how they end")

    def later(self, ns: int) -> None:
        """Let time pass, and fire the timers that come due, in their order."""
        end_ns = self.now_ns + ns
        while due := [(at, token) for token, at in self.timers.items() if at <= end_ns]:
            at_ns, token = min(due)
            del self.timers[token]
            self.now_ns = max(self.now_ns, at_ns)
            self.step(ev.TimerFired(token))
        self.now_ns = end_ns

    def sent(self, kind: type[Any]) -> list[Any]:
        """Effects of one kind in the last step."""
        return [effect for effect in self.out if isinstance(effect, kind)]


@pytest.fixture
def desk() -> Desk:
    """A desk with three tenants and two workers that are ready."""
    made = Desk()
    made.workers(0, 1)
    return made


@pytest.fixture
def make_desk() -> Callable[..., Desk]:
    """For desks of another making; their workers are not ready yet."""
    return Desk


@pytest.fixture
def bell_graph() -> Callable[..., bytes]:
    """Makes Bell programs."""
    return bell
