"""The security list: what a hostile tenant might try, each by name, with the refusal it must meet.

The kernel's part is tried on the pure kernel, beside a victim who must notice nothing; what depends
on sockets, users and descriptors, on a real daemon. `tests/conformance` has more bad manners on the
wire, `tests/simulation` hostile clients by the thousand.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import msgspec
import pytest

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.conftest import ALL, Desk, bell, planner
from qmkd.core.kernel import Kernel
from qmkd.core.limits import (
    CAPABILITIES_MAX,
    PARKED_MAX,
    PEERS_CACHED_MAX,
    SESSION_IDLE_NS,
    SESSIONS_EXPIRED_MAX,
    SUBSCRIPTIONS_MAX,
)
from qmkd.core.ports import Quota, TenantRule
from qmkd.core.programs import key_of
from qmkd.core.records import ChannelRow, HandleRow, Recovered, SessionRow
from qvm.channels import KINDS_MAX
from qvm.machine import Hardware, Link, Module
from syscalls.capability import Delegate, Delegated, Revoke, Share
from syscalls.channel import ChanOpened, ChanStatus, CloseChan, OpenChan
from syscalls.checkpoint import Checkpoint, Checkpointed, DropCheckpoint, Migrate
from syscalls.derive.samples import sample_value
from syscalls.errors import (
    AccessDenied,
    AuthFailed,
    Busy,
    CapabilityNotFound,
    ChannelNotFound,
    CheckpointNotFound,
    HandleNotFound,
    IdempotencyConflict,
    InsufficientCaps,
    InvalidGraph,
    JobNotFound,
    KernelError,
    NotAvailable,
    NotBrokered,
    ProgramTooWide,
    QuotaExceeded,
    ResourceExhausted,
    SessionExpired,
)
from syscalls.events import Subscribe
from syscalls.fault import FAULTS_MAX, ClearFault, FaultKind, InjectFault
from syscalls.ids import CapabilityId, ChannelId, HandleId, JobId, SessionId, TenantId
from syscalls.job import Cancel, Status, Submit, Submitted, Wait
from syscalls.qubit import Alloc, Allocated, Release
from syscalls.registry import CALLS
from syscalls.rights import Right
from syscalls.session import CloseSession, NegotiateCaps, Session
from syscalls.syscall import SessionCall
from syscalls.telemetry import GetTelemetry
from tests.daemon import Daemon, Line, example, running_daemon

VICTIM, ATTACKER, STRANGER, RICH = 1, 2, 3, 4
MAGIC = bell(extra="APPLY_T")
PLAIN_RIGHTS = frozenset(Right) - {Right.ADMIN, Right.MAGIC}
SMALL = Quota(
    jobs=4,
    sessions=6,
    queued_bytes=4_000,
    result_bytes=20_000,
    logical_qubits=6,
    t_states_per_minute=100,
    cpu_ms_per_minute=1_000,
    changes_per_minute=40,
    checkpoints=4,
)
RULES = (
    TenantRule(name="victim", uids=frozenset({VICTIM})),
    TenantRule(name="attacker", uids=frozenset({ATTACKER}), grantable=PLAIN_RIGHTS, quota=SMALL),
    TenantRule(name="rich", uids=frozenset({RICH})),
)


class Stage(Desk):
    """A victim with a job that is over, one that runs and a delegated capability; an attacker."""

    def __init__(self, **machine: Any) -> None:
        super().__init__(RULES, physical_qubits=100, **machine)
        self.kept: list[fx.Keep] = []
        if self.state.machine.durable:
            self.step(Recovered())
        self.workers(0, 1)
        self.victim = self.open(uid=VICTIM)
        self.done_job = self.submit(self.victim, uid=VICTIM, idempotency_key="mine")
        self.run_all()
        self.job = self.submit(self.victim, MAGIC, uid=VICTIM, shots=50_000)
        given = self.call(
            Delegate(session_id=self.victim, rights=[Right.MAGIC], tenant_id=TenantId("another")),
            uid=VICTIM,
        )
        assert isinstance(given, Delegated)
        self.capability = given.capability_id
        self.session = self.open(uid=ATTACKER)

    def step(self, event: ev.Event) -> list[fx.Effect]:
        """As ever; whatever is to be kept is kept at once."""
        out = super().step(event)
        for effect in out:  # it grows meanwhile: what was kept may let something go
            if isinstance(effect, fx.Keep):
                self.kept.append(effect)
                out += super().step(ev.Kept(effect.number))
        return out

    def restart(self, event: Recovered) -> None:
        """The daemon starts again, with this on its disk."""
        self.kernel = Kernel(self.state.machine, planner)
        self.state, self.timers, self.held = self.kernel.state, {}, {}
        self.step(event)

    def attack(self, request: Any, uid: int = ATTACKER) -> Any:
        return self.call(request, uid=uid)

    def attack_submit(self, graph: bytes | None = None, **policy: Any) -> Any:
        return self.try_submit(self.session, graph, uid=ATTACKER, **policy)

    def delegate(self, *rights: Right, **terms: Any) -> Any:
        """The attacker hands on, to itself unless somebody else is named."""
        terms = {"session_id": self.session, "tenant_id": TenantId("attacker")} | terms
        return self.attack(Delegate(rights=list(rights), **terms))

    def lent(self, right: Right, **terms: Any) -> CapabilityId:
        """The victim, trusting, hands a right on to the attacker."""
        lend = Delegate(
            session_id=self.victim, rights=[right], tenant_id=TenantId("attacker"), **terms
        )
        reply = self.call(lend, uid=VICTIM)
        assert isinstance(reply, Delegated)
        return reply.capability_id

    def seen_by_victim(self) -> tuple[Any, ...]:
        """All that the victim can look at."""
        jobs = [
            self.call(Status(session_id=self.victim, job_id=job), uid=VICTIM)
            for job in (self.done_job, self.job)
        ]
        listed = GetTelemetry(session_id=self.victim, list_jobs=True, list_capabilities=True)
        return *jobs, self.call(listed, uid=VICTIM)


@dataclass
class Attempt:
    aim: str
    name: str
    meets: tuple[type[KernelError], ...]
    run: Callable[[Stage], Any]


ATTEMPTS: list[Attempt] = []


def attempt(
    aim: str, name: str, *meets: type[KernelError]
) -> Callable[[Callable[[Stage], Any]], None]:
    """Enter an attempt. It returns an answer or several; each must be one of these refusals."""
    return lambda run: ATTEMPTS.append(Attempt(aim, name, meets, run))


def calls_naming(field: str) -> list[type[SessionCall]]:
    """Every call with such a parameter, those to come included."""
    with_session = [call for call in CALLS if issubclass(call, SessionCall)]
    return [call for call in with_session if field in call.__struct_fields__]


def everywhere(stage: Stage, field: str, value: Any, refusal: type[KernelError]) -> list[Any]:
    """The attacker names something in every call that takes it; odd answers only."""
    odd = []
    for call in calls_naming(field):
        named = {field: value, "session_id": stage.session}
        answer = stage.attack(msgspec.structs.replace(sample_value(call, full=False), **named))
        if type(answer) is not (refusal if call.AVAILABLE else NotAvailable):
            odd.append((call.METHOD, answer))
    assert not odd
    return [refusal()] if not odd else []


# --- forge --------------------------------------------------------------------------------------


@attempt("forge", "a session of the right shape that nobody was given", AuthFailed)
def _(stage: Stage) -> Any:
    name = SessionId("sess_" + "0123456789abcdef" * 2)
    return stage.attack(Status(session_id=name, job_id=stage.job))


@attempt("forge", "things that are no session names: empty, another kind's, too long", AuthFailed)
def _(stage: Stage) -> Any:
    names = ("", stage.job, stage.capability, stage.victim[:-1], stage.victim + "0", "sess_" * 25)
    return [stage.attack(Status(session_id=SessionId(n), job_id=stage.job)) for n in names]


@attempt("forge", "a tenant that is not the caller's", AuthFailed)
def _(stage: Stage) -> Any:
    return [
        stage.attack(NegotiateCaps(requested=[], tenant_id=TenantId(name)))
        for name in ("victim", "nobody", "")
    ]


@attempt("forge", "a call by a user who is in no tenant", AuthFailed)
def _(stage: Stage) -> Any:
    opening = NegotiateCaps(requested=list(ALL))
    stolen = Status(session_id=stage.victim, job_id=stage.job)
    return [stage.attack(opening, uid=STRANGER), stage.attack(stolen, uid=STRANGER)]


@attempt("forge", "rights that policy withholds, asked for by every spelling", InsufficientCaps)
def _(stage: Stage) -> Any:
    asked = ["CAP_MAGIC", "cap_magic", "MAGIC", "*", "CAP_ROOT", "CAP_MAGIC\0", " CAP_MAGIC"]
    reply = stage.attack(NegotiateCaps(requested=[*asked, "CAP_ALLOC"]))
    assert reply.granted == ["CAP_ALLOC"]
    return stage.try_submit(reply.session_id, MAGIC, uid=ATTACKER)


@attempt("forge", "a capability of the right shape that nobody was given", InsufficientCaps)
def _(stage: Stage) -> Any:
    forged = ["cap_" + 32 * digit for digit in "0af"]
    reply = stage.attack(NegotiateCaps(requested=["CAP_ALLOC", *forged]))
    assert reply.denied == forged
    return stage.try_submit(reply.session_id, MAGIC, uid=ATTACKER)


# --- guess --------------------------------------------------------------------------------------


@attempt("guess", "job names; a real one of another's and none are answered alike", JobNotFound)
def _(stage: Stage) -> Any:
    names = (stage.job, stage.done_job, JobId("job_" + 32 * "0"), JobId(""))
    answers = [stage.attack(Status(session_id=stage.session, job_id=name)) for name in names]
    assert len({msgspec.json.encode(answer) for answer in answers}) == 1
    return answers


@attempt("guess", "whether another's session exists", AuthFailed)
def _(stage: Stage) -> Any:
    names = (stage.victim, SessionId("sess_" + 32 * "0"))
    answers = [stage.attack(CloseSession(session_id=name)) for name in names]
    assert len({msgspec.json.encode(answer) for answer in answers}) == 1
    return answers


@attempt("guess", "whether a tenant exists, by delegating to it", QuotaExceeded)
def _(stage: Stage) -> Any:
    known, unknown = (stage.delegate(Right.ALLOC, tenant_id=TenantId(n)) for n in ("victim", "x"))
    assert type(known) is type(unknown) is Delegated
    return [
        stage.delegate(Right.ALLOC, tenant_id=TenantId(name), share=Share(jobs=9))
        for name in ("victim", "x")
    ]


@attempt("guess", "how much the victim does, from the machine's figures", InsufficientCaps)
def _(stage: Stage) -> Any:
    return stage.attack(GetTelemetry(session_id=stage.session, machine=True))


# --- replay -------------------------------------------------------------------------------------


@attempt("replay", "a call through a session that is closed", AuthFailed)
def _(stage: Stage) -> Any:
    stage.attack(CloseSession(session_id=stage.session))
    return [stage.attack(CloseSession(session_id=stage.session)), stage.attack_submit()]


@attempt("replay", "a call through a session that expired", SessionExpired)
def _(stage: Stage) -> Any:
    stage.submit(stage.victim, MAGIC, uid=VICTIM)  # keeps the victim's session alive
    stage.later(SESSION_IDLE_NS + 2_000_000_000)
    return stage.attack_submit()


@attempt("replay", "a capability that was revoked, and one that expired", InsufficientCaps)
def _(stage: Stage) -> Any:
    names = [stage.lent(Right.MAGIC), stage.lent(Right.MAGIC, expires_after_ms=1)]
    opened = stage.attack(NegotiateCaps(requested=["CAP_ALLOC", *names]))
    assert opened.denied == []
    stage.call(Revoke(session_id=stage.victim, capability_id=names[0]), uid=VICTIM)
    stage.later(1_000_000)
    again = stage.attack(NegotiateCaps(requested=["CAP_ALLOC", *names]))
    assert again.denied == names
    sessions = (opened.session_id, again.session_id)
    return [stage.try_submit(each, MAGIC, uid=ATTACKER) for each in sessions]


@attempt("replay", "one's own submission from another session, by its key", IdempotencyConflict)
def _(stage: Stage) -> Any:
    first = stage.attack_submit(idempotency_key="k")
    assert stage.attack_submit(idempotency_key="k").job_id == first.job_id
    return stage.try_submit(stage.open(uid=ATTACKER), uid=ATTACKER, idempotency_key="k")


# --- escalate -----------------------------------------------------------------------------------


def state_caps(caps: list[str], graph: dict[str, Any]) -> None:
    graph["caps"] = caps


def changed(graph: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads(graph)
    change(document)
    return json.dumps(document).encode()


@attempt("escalate", "a program that needs a right which the session lacks", InsufficientCaps)
def _(stage: Stage) -> Any:
    return stage.attack_submit(MAGIC)


@attempt("escalate", "a program that states fewer capabilities than it needs", InvalidGraph)
def _(stage: Stage) -> Any:
    return [
        stage.attack_submit(changed(MAGIC, partial(state_caps, caps)))
        for caps in ([], ["CAP_ALLOC"], ["CAP_ALLOC", "CAP_FLY"])
    ]


@attempt("escalate", "a program that states capabilities as if that gave them", InsufficientCaps)
def _(stage: Stage) -> Any:
    every = [right.value for right in Right]
    stated = changed(MAGIC, partial(state_caps, every))
    on_node = changed(MAGIC, lambda graph: graph["program"]["nodes"][2].update(caps=["CAP_MAGIC"]))
    return [stage.attack_submit(stated), stage.attack_submit(on_node)]


@attempt("escalate", "a gated operation behind a guard that may never hold", InsufficientCaps)
def _(stage: Stage) -> Any:
    def hide(graph: dict[str, Any]) -> None:
        nodes = graph["program"]["nodes"]
        (gated,) = [node for node in nodes if node["op"] == "APPLY_T"]
        nodes.remove(gated)
        gated |= {"vqs": ["q"], "guard": {"event": "m0", "equals": 1}}
        nodes.insert([node["id"] for node in nodes].index("n"), gated)

    return stage.attack_submit(changed(MAGIC, hide))


@attempt("escalate", "an operation named twice in one object, the harmless name first or last",
         InsufficientCaps)  # fmt: skip
def _(stage: Stage) -> Any:
    """Whoever reads it takes the last one; the point is that all read the same bytes alike."""
    twice = MAGIC.replace(b'"op": "APPLY_T"', b'"op": "APPLY_H", "op": "APPLY_T"')
    assert twice != MAGIC
    harmless = MAGIC.replace(b'"op": "APPLY_T"', b'"op": "APPLY_T", "op": "APPLY_H"')
    accepted = stage.attack_submit(harmless)
    assert isinstance(accepted, Submitted)
    assert stage.state.jobs[accepted.job_id].program.summary.ops["APPLY_H"] == 2
    return stage.attack_submit(twice)


@attempt("escalate", "a program that is looked up like a harmless one seen before",
         InsufficientCaps)  # fmt: skip
def _(stage: Stage) -> Any:
    harmless = bell().replace(b"APPLY_H", b"APPLY_X")
    gated = harmless.replace(b"APPLY_X", b"APPLY_T")
    assert key_of(gated) == key_of(harmless)
    assert isinstance(stage.attack_submit(harmless), Submitted)
    return stage.attack_submit(gated)


@attempt("escalate", "handing on what one does not hold", InsufficientCaps)
def _(stage: Stage) -> Any:
    return [stage.delegate(Right.MAGIC), stage.delegate(Right.ALLOC, Right.ADMIN)]


@attempt("escalate", "handing on a right that was lent for one's own use", InsufficientCaps)
def _(stage: Stage) -> Any:
    name = stage.lent(Right.MAGIC)
    holds = stage.attack(NegotiateCaps(requested=["CAP_DELEGATE", name])).session_id
    return [
        stage.delegate(Right.MAGIC, session_id=holds),
        stage.delegate(Right.MAGIC, session_id=holds, tenant_id=TenantId("victim")),
    ]


@attempt("escalate", "more in a share than one has, or than the share it comes from", QuotaExceeded)
def _(stage: Stage) -> Any:
    name = stage.delegate(Right.ALLOC, Right.DELEGATE, share=Share(jobs=2)).capability_id
    narrow = stage.attack(NegotiateCaps(requested=[name])).session_id
    return [
        stage.delegate(Right.ALLOC, share=Share(jobs=3)),
        stage.delegate(Right.ALLOC, session_id=narrow, share=Share(jobs=3)),
        stage.delegate(Right.ALLOC, share=Share(physical_qubits=2**53 - 1)),
    ]


@attempt("escalate", "a longer life than what it comes from", InsufficientCaps)
def _(stage: Stage) -> Any:
    name = stage.delegate(Right.ALLOC, Right.DELEGATE, expires_after_ms=5).capability_id
    narrow = stage.attack(NegotiateCaps(requested=[name])).session_id
    longer = stage.delegate(Right.ALLOC, session_id=narrow, expires_after_ms=10**9).capability_id
    outlives = stage.attack(NegotiateCaps(requested=[longer])).session_id
    stage.later(5_000_000)
    return stage.try_submit(outlives, uid=ATTACKER)


@attempt("escalate", "running on by a right that is taken back", InsufficientCaps)
def _(stage: Stage) -> Any:
    name = stage.lent(Right.MAGIC)
    holds = stage.attack(NegotiateCaps(requested=["CAP_ALLOC", name])).session_id
    jobs = [stage.submit(holds, MAGIC, uid=ATTACKER, shots=10) for _ in range(3)]
    stage.call(Revoke(session_id=stage.victim, capability_id=name), uid=VICTIM)
    for run in stage.segments():
        if run.job_id in jobs:
            stage.failed(run, "stopped")
    ends = [stage.state.jobs[job].final for job in jobs]
    assert all(end is not None and end.error is not None for end in ends)
    assert {end.error.type for end in ends if end and end.error} == {InsufficientCaps.NAME}
    return stage.try_submit(holds, MAGIC, uid=ATTACKER)


# --- cross a border -----------------------------------------------------------------------------


class Border:
    """The victim holds a qubit. The attacker holds one, and is handed CAP_LINK if that is said."""

    def __init__(self, stage: Stage, *, consent: bool = False) -> None:
        self.stage = stage
        (self.theirs,) = self.alloc(stage.victim, VICTIM)
        self.consent = stage.lent(Right.LINK) if consent else CapabilityId("cap_none")
        rights = ["CAP_ALLOC", "CAP_LINK", "CAP_TELEPORT", self.consent]
        self.session = stage.attack(NegotiateCaps(requested=rights)).session_id
        (self.mine,) = self.alloc(self.session, ATTACKER)

    def alloc(self, session: SessionId, uid: int) -> list[HandleId]:
        call = Alloc(session_id=session, n=1, profile="logical:ideal")
        reply = self.stage.call(call, uid=uid)
        assert isinstance(reply, Allocated), reply
        return reply.handles

    def open(self, **ends: Any) -> Any:
        ends = {"session_id": self.session, "vq_a": self.mine, "vq_b": self.theirs} | ends
        return self.stage.attack(OpenChan(**ends))

    def run(
        self, *ops: dict[str, Any], names: tuple[str, ...] = (), chs: tuple[str, ...] = ()
    ) -> Any:
        """A program of these qubits and operations, all of them allocated, through the session."""
        vqs = list(names or (self.mine, self.theirs))
        start = {"op": "ALLOC_LQ", "args": {"n": len(vqs), "profile": "logical:ideal"}, "vqs": vqs}
        nodes = [start, *ops, {"op": "FREE_LQ", "vqs": vqs}]
        nodes = [{"id": f"n{at}", **node} for at, node in enumerate(nodes)]
        resources = {"vqs": vqs, "chs": list(chs), "events": ["m"]}
        document = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
        return self.stage.try_submit(self.session, json.dumps(document).encode(), uid=ATTACKER)

    def over(self, channel: str, *more: dict[str, Any], ends: tuple[str, ...] = ()) -> Any:
        """A program that opens this channel and teleports a CNOT over it, and more."""
        both = {"vqs": [self.mine, self.theirs], "chs": [channel]}
        use = {"op": "USE_CHAN", "args": {"semantic": "teleport_cnot"}, **both}
        opened = {"op": "OPEN_CHAN", "args": {"fidelity": 0.5}, **both}
        return self.run(opened, use, *more, names=ends, chs=(channel,))


JOINING = ("APPLY_CNOT", "APPLY_CZ", "APPLY_SWAP", "TELEPORT_CNOT", "MEASURE_BELL")


@attempt("cross a border", "by every operation on two qubits, between one's own and another's",
         NotBrokered)  # fmt: skip
def _(stage: Stage) -> Any:
    border = Border(stage)
    ops = [{"op": op, "vqs": [border.mine, border.theirs]} for op in JOINING]
    ops[-1]["produces"] = ["m"]
    return [border.run(op) for op in ops]


@attempt("cross a border", "by the same, beside or instead of a channel that is brokered",
         NotBrokered)  # fmt: skip
def _(stage: Stage) -> Any:
    border = Border(stage, consent=True)
    channel = border.open().channel_id
    assert isinstance(border.over(channel), Submitted)
    beside = [{"op": op, "vqs": [border.theirs, border.mine]} for op in JOINING[:-1]]
    plain = {"op": "OPEN_CHAN", "vqs": [border.mine, border.theirs], "chs": ["c"],
             "args": {"fidelity": 0.5}}  # fmt: skip
    own = (border.mine, border.theirs, "q")
    cnot = {"op": "APPLY_CNOT", "vqs": ["q", border.theirs]}
    return [
        *(border.over(channel, each) for each in beside),
        border.run(plain, chs=("c",)),
        border.over(channel, cnot, ends=own),
    ]


@attempt("cross a border", "by a brokered channel used on other qubits than its ends", NotBrokered)
def _(stage: Stage) -> Any:
    border = Border(stage, consent=True)
    channel = border.open().channel_id
    ends = (border.mine, border.theirs, "q")
    astray = [["q", border.theirs], [border.mine, "q"], [border.theirs], [border.mine]]
    uses = [
        {"op": "USE_CHAN", "args": {"semantic": "teleport_state"}, "vqs": vqs, "chs": [channel]}
        for vqs in astray
    ]
    again = {"op": "OPEN_CHAN", "vqs": ["q", border.theirs], "chs": [channel],
             "args": {"fidelity": 0.5}}  # fmt: skip
    close = {"op": "CLOSE_CHAN", "chs": [channel]}
    return [
        *(border.over(channel, use, ends=ends) for use in uses),
        border.over(channel, close, again, ends=ends),
    ]


@attempt("cross a border", "by opening a channel without the other side's consent", NotBrokered)
def _(stage: Stage) -> Any:
    border = Border(stage)
    itself = stage.delegate(Right.LINK).capability_id
    rights = ["CAP_ALLOC", "CAP_LINK", itself]
    session = stage.attack(NegotiateCaps(requested=rights)).session_id
    (mine,) = border.alloc(session, ATTACKER)
    return [
        border.open(),
        border.open(vq_a=border.theirs, vq_b=border.mine),
        border.open(vq_a=border.theirs),
        border.open(session_id=session, vq_a=mine),
    ]


@attempt("cross a border", "by the consent that somebody else was given, handed on", NotBrokered)
def _(stage: Stage) -> Any:
    """A delegate of a delegate: the victim trusts the rich, and the rich the attacker."""
    border = Border(stage)
    lend = Delegate(
        session_id=stage.victim,
        rights=[Right.LINK, Right.DELEGATE],
        tenant_id=TenantId("rich"),
    )
    trusted = stage.call(lend, uid=VICTIM).capability_id
    rich = stage.call(NegotiateCaps(requested=[trusted]), uid=RICH).session_id
    lend = Delegate(session_id=rich, rights=[Right.LINK], tenant_id=TenantId("attacker"))
    handed_on = stage.call(lend, uid=RICH).capability_id
    rights = ["CAP_ALLOC", "CAP_LINK", handed_on]
    session = stage.attack(NegotiateCaps(requested=rights))
    assert handed_on in session.granted
    (mine,) = border.alloc(session.session_id, ATTACKER)
    return border.open(session_id=session.session_id, vq_a=mine)


@attempt("cross a border", "by the other side's consent without a right of one's own", NotBrokered)
def _(stage: Stage) -> Any:
    border = Border(stage, consent=True)
    rights = ["CAP_ALLOC", border.consent]
    session = stage.attack(NegotiateCaps(requested=rights)).session_id
    (mine,) = border.alloc(session, ATTACKER)
    return border.open(session_id=session, vq_a=mine)


@attempt("cross a border", "by guessing qubits; another's and nobody's are answered alike",
         NotBrokered, HandleNotFound)  # fmt: skip
def _(stage: Stage) -> Any:
    border = Border(stage)
    names = (border.theirs, HandleId("vq_" + 32 * "0"))
    measured = [{"op": "MEASURE_Z", "vqs": [name], "produces": ["m"]} for name in names]
    answers = [
        [border.run(op, names=(name,)) for op, name in zip(measured, names, strict=True)],
        [border.open(vq_b=name) for name in names],
        [stage.attack(Release(session_id=border.session, handles=[name])) for name in names],
    ]
    for pair in answers:
        assert len({msgspec.json.encode(answer) for answer in pair}) == 1
    return [answer for pair in answers for answer in pair]


@attempt("cross a border", "by guessing channels; another's and nobody's are answered alike",
         NotBrokered, ChannelNotFound)  # fmt: skip
def _(stage: Stage) -> Any:
    border = Border(stage, consent=True)
    (other,) = border.alloc(stage.victim, VICTIM)
    request = OpenChan(session_id=stage.victim, vq_a=border.theirs, vq_b=other)
    theirs = stage.call(request, uid=VICTIM)
    assert isinstance(theirs, ChanOpened)
    names = (theirs.channel_id, ChannelId("chan_" + 32 * "0"))
    answers = [
        [border.over(name) for name in names],
        [stage.attack(ChanStatus(session_id=border.session, channel_id=name)) for name in names],
        [stage.attack(CloseChan(session_id=border.session, channel_id=name)) for name in names],
    ]
    for pair in answers:
        assert len({msgspec.json.encode(answer) for answer in pair}) == 1
    return [answer for pair in answers for answer in pair]


@attempt("cross a border", "by a channel that is closed", NotBrokered, ChannelNotFound)
def _(stage: Stage) -> Any:
    border = Border(stage, consent=True)
    channel = border.open().channel_id
    stage.attack(CloseChan(session_id=border.session, channel_id=channel))
    told = stage.attack(ChanStatus(session_id=border.session, channel_id=channel))
    return [border.over(channel), told]


@attempt("cross a border", "by a channel whose consent is taken back, on a job that runs too",
         NotBrokered, ChannelNotFound)  # fmt: skip
def _(stage: Stage) -> Any:
    border = Border(stage, consent=True)
    channel = border.open().channel_id
    job = border.over(channel).job_id
    stage.call(Revoke(session_id=stage.victim, capability_id=border.consent), uid=VICTIM)
    for run in stage.segments(job):
        stage.failed(run, "stopped")
    end = stage.state.jobs[job].final
    assert end is not None
    assert end.error is not None
    assert end.error.type == InsufficientCaps.NAME
    told = stage.attack(ChanStatus(session_id=border.session, channel_id=channel))
    return [border.over(channel), border.open(), told]


@attempt("cross a border", "by a name that looks like another's qubit and is a plain one",
         NotBrokered)  # fmt: skip
def _(stage: Stage) -> Any:
    border = Border(stage)
    loud = border.theirs.upper()
    cnot = {"op": "APPLY_CNOT", "vqs": [border.mine, loud]}
    made = border.run(cnot, names=(border.mine, loud))
    assert isinstance(made, Submitted)
    assert not stage.state.handles[border.theirs].jobs, "it is a qubit of the attacker's own"
    return border.run({"op": "APPLY_CNOT", "vqs": [border.mine, border.theirs]})


@attempt("exhaust the machine", "by channels, also to oneself", QuotaExceeded)
def _(stage: Stage) -> Any:
    border = Border(stage, consent=True)
    (other,) = border.alloc(border.session, ATTACKER)
    across = until_refused(lambda _: border.open(), SMALL.channels)
    closing = [*stage.state.channels]
    for name in closing:
        stage.attack(CloseChan(session_id=border.session, channel_id=name))
    stage.later(60 * 10**9)
    return [across, until_refused(lambda _: border.open(vq_b=other), SMALL.channels)]


@attempt("exhaust the machine", "by qubits that no job needs", QuotaExceeded, ResourceExhausted)
def _(stage: Stage) -> Any:
    def take(session: SessionId, uid: int) -> Any:
        call = Alloc(session_id=session, n=4, profile="logical:ideal")
        return until_refused(lambda _: stage.call(call, uid=uid), 40)

    return [take(stage.session, ATTACKER), take(stage.open(uid=RICH), RICH)]


# --- use another's ------------------------------------------------------------------------------


@attempt("use another's", "session, in every call there is", AuthFailed)
def _(stage: Stage) -> Any:
    answers = []
    for call in calls_naming("session_id"):
        stolen = msgspec.structs.replace(sample_value(call), session_id=stage.victim)
        answers.append(stage.attack(stolen))
    return answers


@attempt("use another's", "job, in every call there is", JobNotFound)
def _(stage: Stage) -> Any:
    return everywhere(stage, "job_id", stage.job, JobNotFound)


@attempt("use another's", "checkpoint, in every call there is", CheckpointNotFound)
def _(stage: Stage) -> Any:
    job = stage.submit(stage.victim, uid=VICTIM)
    stage.call(Checkpoint(session_id=stage.victim, job_id=job), uid=VICTIM)
    number = stage.calls
    for run in stage.segments(job):
        del stage.held[run.ticket]
        stage.step(ev.SegmentParked(run.worker, run.ticket, None, 1, 10, bytes(32)))
    taken = stage.replies[number]
    assert isinstance(taken, Checkpointed), taken
    odd = everywhere(stage, "checkpoint_id", taken.checkpoint_id, CheckpointNotFound)
    return odd + everywhere(stage, "checkpoint_id", "ckpt_" + 32 * "0", CheckpointNotFound)


@attempt("use another's", "job, to keep it or to move it", JobNotFound)
def _(stage: Stage) -> Any:
    keep = stage.attack(Checkpoint(session_id=stage.session, job_id=stage.job))
    move = stage.attack(Migrate(session_id=stage.session, job_id=stage.job, target="main"))
    assert not stage.sent(fx.StopSegment)
    return [keep, move]


@attempt("escalate", "have a job kept by a right that ends before its fence", InsufficientCaps)
def _(stage: Stage) -> Any:
    roomy = Stage(durable=stage.state.machine.durable, workers=3)
    roomy.workers(2)  # the victim keeps the others busy
    lent = roomy.lent(Right.CHECKPOINT)
    session = roomy.attack(NegotiateCaps(requested=["CAP_ALLOC", lent])).session_id
    job = roomy.submit(session, uid=ATTACKER, shots=900)
    assert roomy.attack(Checkpoint(session_id=session, job_id=job)) is None
    asked = roomy.calls
    roomy.call(Revoke(session_id=roomy.victim, capability_id=lent), uid=VICTIM)
    (run,) = roomy.segments(job)
    del roomy.held[run.ticket]
    roomy.step(ev.SegmentParked(run.worker, run.ticket, None, 1, 10, bytes(32)))
    assert not roomy.state.tenants["attacker"].checkpoints
    return roomy.replies[asked]


@attempt("exhaust disk", "by checkpoints", QuotaExceeded)
def _(stage: Stage) -> Any:
    stage.lose(0)
    stage.lose(1)
    job = stage.submit(stage.session, uid=ATTACKER)
    call = Checkpoint(session_id=stage.session, job_id=job)
    by_number = until_refused(lambda _: stage.attack(call), SMALL.checkpoints)
    for name in list(stage.state.tenants["attacker"].checkpoints):
        stage.attack(DropCheckpoint(session_id=stage.session, checkpoint_id=name))
    assert not stage.state.tenants["attacker"].checkpoint_bytes
    return [by_number, until_refused(lambda _: stage.attack(call), SMALL.changes_per_minute)]


@attempt("use another's", "channel, in every call there is", ChannelNotFound)
def _(stage: Stage) -> Any:
    return everywhere(stage, "channel_id", "chan_" + 32 * "0", ChannelNotFound)


@attempt("escalate", "break the machine, or mend it, as no operator", InsufficientCaps)
def _(stage: Stage) -> Any:
    break_it = InjectFault(session_id=stage.session, kind=FaultKind.CALIBRATION, strength=2.0)
    operator = stage.attack(NegotiateCaps(requested=[stage.lent(Right.ADMIN)])).session_id
    made = stage.attack(msgspec.structs.replace(break_it, session_id=operator))
    mend_it = ClearFault(session_id=stage.session, fault_id=made.fault_id)
    answers = [stage.attack(call) for call in (break_it, mend_it)]
    mended = stage.attack(ClearFault(session_id=operator, fault_id=made.fault_id))
    assert not isinstance(mended, KernelError)
    return answers


@attempt("exhaust memory", "faults, one more than are counted", QuotaExceeded)
def _(stage: Stage) -> Any:
    operator = stage.attack(NegotiateCaps(requested=[stage.lent(Right.ADMIN)])).session_id
    later = InjectFault(
        session_id=operator, kind=FaultKind.CALIBRATION, strength=2.0, after_cycles=10**12
    )
    return [stage.attack(later) for _ in range(FAULTS_MAX + 1)][-1]


@attempt("escalate", "by a graph: too much priority, or priority by an outcome", InvalidGraph)
def _(stage: Stage) -> Any:
    high = {"id": "p", "op": "SET_POLICY", "args": {"priority": 101}}
    guarded = {**high, "args": {"priority": 1}, "guard": {"event": "m0", "equals": 1}}
    answers = []
    for node in (high, guarded):
        graph = json.loads(bell())
        graph["program"]["nodes"].append(node)
        answers.append(stage.attack_submit(json.dumps(graph).encode()))
    return answers


@attempt("use another's", "capability: revoke it, in every call there is", CapabilityNotFound)
def _(stage: Stage) -> Any:
    return everywhere(stage, "capability_id", stage.capability, CapabilityNotFound)


@attempt("use another's", "capability: open a session with it", InsufficientCaps)
def _(stage: Stage) -> Any:
    opened = stage.attack(NegotiateCaps(requested=["CAP_ALLOC", stage.capability]))
    assert opened.denied == [stage.capability]
    return stage.try_submit(opened.session_id, MAGIC, uid=ATTACKER)


@attempt("use another's", "job of one's own tenant, but of another session", AccessDenied)
def _(stage: Stage) -> Any:
    job = stage.attack_submit().job_id
    other = stage.open(uid=ATTACKER)
    return [
        stage.attack(call(session_id=other, job_id=job))
        for call in (Status, Wait, Cancel, Subscribe)
    ]


@attempt("use another's", "job, as somebody who may see every job: changing it", AccessDenied)
def _(stage: Stage) -> Any:
    name = stage.lent(Right.ADMIN)
    admin = stage.attack(NegotiateCaps(requested=[name])).session_id
    assert not isinstance(stage.attack(Status(session_id=admin, job_id=stage.job)), KernelError)
    return stage.attack(Cancel(session_id=admin, job_id=stage.job))


@attempt("use another's", "subscription: hear of jobs that are not one's own", JobNotFound)
def _(stage: Stage) -> Any:
    wide = stage.call(Subscribe(session_id=stage.session), uid=ATTACKER, conn=66)
    assert not isinstance(wide, KernelError)
    refusal = stage.call(
        Subscribe(session_id=stage.session, job_id=stage.job), uid=ATTACKER, conn=66
    )
    extra = stage.submit(stage.victim, uid=VICTIM)
    stage.call(Cancel(session_id=stage.victim, job_id=extra), uid=VICTIM)
    assert not [notice for notice in stage.notices if notice.conn == 66]
    return refusal


@attempt("use another's", "idempotency key: it names nothing of the victim's", IdempotencyConflict)
def _(stage: Stage) -> Any:
    own = stage.attack_submit(idempotency_key="mine")
    assert not own.reused
    assert own.job_id != stage.done_job
    conflict = stage.attack_submit(idempotency_key="mine", shots=2)
    assert conflict.job_id == own.job_id
    return conflict


# --- exhaust ------------------------------------------------------------------------------------


def until_refused(act: Callable[[int], Any], most: int) -> Any:
    """Do it again and again; the refusal it meets, which must come within `most` times."""
    for number in range(most + 1):
        answer = act(number)
        if isinstance(answer, KernelError):
            return answer
    raise AssertionError(f"not refused within {most} times")


@attempt("exhaust memory", "by sessions", QuotaExceeded)
def _(stage: Stage) -> Any:
    return until_refused(lambda _: stage.attack(NegotiateCaps(requested=[])), SMALL.sessions)


@attempt("exhaust memory", "by jobs", QuotaExceeded)
def _(stage: Stage) -> Any:
    return until_refused(lambda _: stage.attack_submit(), SMALL.jobs)


@attempt("exhaust memory", "by graphs, a different one each time", QuotaExceeded)
def _(stage: Stage) -> Any:
    return until_refused(lambda n: stage.attack_submit(bell(600 + n)), SMALL.jobs - 1)


@attempt("exhaust memory", "by one large graph that waits to be verified", QuotaExceeded)
def _(stage: Stage) -> Any:
    return stage.attack_submit(bell(1 << 20))


@attempt("exhaust memory", "by waits for one job", Busy)
def _(stage: Stage) -> Any:
    stage.watched = False
    wait = Wait(session_id=stage.session, job_id=stage.attack_submit(shots=1000).job_id)
    refusal = until_refused(lambda _: stage.attack(wait), PARKED_MAX)
    stage.watched = True
    return refusal


@attempt("exhaust memory", "by subscriptions", QuotaExceeded)
def _(stage: Stage) -> Any:
    return until_refused(lambda _: stage.attack(Subscribe(session_id=stage.session)),
                         SUBSCRIPTIONS_MAX)  # fmt: skip


@attempt("exhaust memory", "by capabilities, wide and deep", QuotaExceeded)
def _(stage: Stage) -> Any:
    last = CapabilityId("")

    def deeper(_: int) -> Any:
        nonlocal last
        opened = stage.attack(NegotiateCaps(requested=[last or "CAP_ALLOC", "CAP_DELEGATE"]))
        if isinstance(opened, Session):
            given = stage.delegate(Right.ALLOC, Right.DELEGATE, session_id=opened.session_id)
            if isinstance(given, KernelError):
                return given
            last = given.capability_id
        return opened

    wide = until_refused(lambda _: stage.delegate(Right.ALLOC), CAPABILITIES_MAX)
    return [wide, until_refused(deeper, SMALL.sessions)]


@attempt("exhaust memory", "by callers nobody knows, and by sessions that expired", AuthFailed)
def _(stage: Stage) -> Any:
    stage.watched = False
    opening = NegotiateCaps(requested=[])
    answers = {type(stage.attack(opening, uid=10_000 + n)) for n in range(PEERS_CACHED_MAX + 9)}
    assert answers == {AuthFailed}
    assert len(stage.state.peers) <= PEERS_CACHED_MAX
    sessions = Quota().sessions
    for _ in range(SESSIONS_EXPIRED_MAX // sessions + 1):
        until_refused(lambda _: stage.attack(opening, uid=RICH), sessions)
        stage.later(SESSION_IDLE_NS + 2_000_000_000)
        stage.call(Status(session_id=stage.victim, job_id=stage.job), uid=VICTIM)
    assert len(stage.state.tenants["rich"].expired) == SESSIONS_EXPIRED_MAX
    stage.watched = True
    return stage.attack(opening, uid=STRANGER)


@attempt("exhaust memory", "by a program too wide for any engine", ProgramTooWide)
def _(stage: Stage) -> Any:
    return stage.try_submit(stage.open(uid=RICH), ideal(40), uid=RICH)


def ideal(qubits: int) -> bytes:
    return wide_graph(qubits, "logical:ideal")


def wide_graph(qubits: int, profile: str) -> bytes:
    names = [f"q{n}" for n in range(qubits)]
    nodes = [
        {"id": "a", "op": "ALLOC_LQ", "args": {"n": qubits, "profile": profile}, "vqs": names},
        {"id": "f", "op": "FREE_LQ", "vqs": names},
    ]
    resources = {"vqs": names, "chs": [], "events": []}
    document = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    return json.dumps(document).encode()


@attempt("exhaust the machine", "by a program larger than it", ResourceExhausted)
def _(stage: Stage) -> Any:
    return stage.try_submit(stage.open(uid=RICH), wide_graph(2, "logical:Surface(d=9)"), uid=RICH)


@attempt("exhaust the machine", "by more qubits than the quota has", QuotaExceeded)
def _(stage: Stage) -> Any:
    return stage.attack_submit(ideal(SMALL.logical_qubits + 1))


@attempt("exhaust the machine", "by T states", QuotaExceeded)
def _(stage: Stage) -> Any:
    name = stage.lent(Right.MAGIC)
    holds = stage.attack(NegotiateCaps(requested=["CAP_ALLOC", name])).session_id
    return until_refused(lambda _: stage.try_submit(holds, MAGIC, uid=ATTACKER, shots=40), 3)


@attempt("exhaust CPU", "by shots", QuotaExceeded)
def _(stage: Stage) -> Any:
    return stage.attack_submit(ideal(1), shots=1_000_001)


@attempt("exhaust CPU", "by one job after another", QuotaExceeded)
def _(stage: Stage) -> Any:
    def run(_: int) -> Any:
        answer = stage.attack_submit(ideal(1), shots=300_000)
        for each in [one for one in stage.segments() if one.job_id != stage.job]:
            stage.done(each, first_row={}, counts={"": each.shots})
        return answer

    return until_refused(run, 4)


@attempt("exhaust CPU", "by Bell pairs of which no two are alike", ResourceExhausted)
def _(stage: Stage) -> Any:
    """Each is looked up on each link; so many ways of asking are not even begun with."""
    modules = tuple(Module(name=name, qubits=100) for name in "mn")
    link = Link(between=("m", "n"), cycles=1.0, fidelity=0.97)
    linked = Stage(hardware=Hardware(name="two", module=modules, link=(link,)))
    linked.try_submit(linked.open(uid=RICH), unlike_pairs(KINDS_MAX + 1), uid=RICH)
    linked.run_all()  # a worker verifies it first
    return linked.replies[linked.calls]


def unlike_pairs(kinds: int) -> bytes:
    pair, channel = ["a", "b"], ["c"]
    nodes: list[dict[str, Any]] = [
        {"op": "ALLOC_LQ", "vqs": pair, "args": {"n": 2, "profile": "logical:ideal"}}
    ]
    for at in range(kinds):
        nodes += [
            {"op": "OPEN_CHAN", "vqs": pair, "chs": channel, "args": {"fidelity": 0.9 + at / 9999}},
            {"op": "USE_CHAN", "vqs": pair, "chs": channel, "args": {"semantic": "teleport_cnot"}},
            {"op": "CLOSE_CHAN", "chs": channel},
        ]
    nodes = [{"id": str(at), **node} for at, node in enumerate(nodes)]
    resources = {"vqs": pair, "chs": channel, "events": []}
    document = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    return msgspec.json.encode(document)


@attempt("exhaust disk", "by results of live jobs", QuotaExceeded)
def _(stage: Stage) -> Any:
    return stage.attack_submit(shots=20_000)


@attempt("exhaust disk", "by results that are kept: the oldest of one's own go", QuotaExceeded)
def _(stage: Stage) -> Any:
    for _ in range(30):
        stage.attack_submit(shots=900)
        for run in [one for one in stage.segments() if one.job_id != stage.job]:
            stage.done(run)
        tenant = stage.state.tenants["attacker"]
        assert tenant.kept_bytes + tenant.rows_live <= SMALL.result_bytes
    return stage.attack_submit(shots=20_000)


@attempt("exhaust the journal", "by opening and closing sessions", QuotaExceeded)
def _(stage: Stage) -> Any:
    def once(_: int) -> Any:
        opened = stage.attack(NegotiateCaps(requested=["x" * 128] * 64))
        if not isinstance(opened, KernelError):
            stage.attack(CloseSession(session_id=opened.session_id))
        return opened

    return until_refused(once, SMALL.changes_per_minute)


@attempt("exhaust the journal", "by submitting and cancelling, giving and taking", QuotaExceeded)
def _(stage: Stage) -> Any:
    def job(_: int) -> Any:
        made = stage.attack_submit()
        if not isinstance(made, KernelError):
            stage.attack(Cancel(session_id=stage.session, job_id=made.job_id))
            for run in [one for one in stage.segments() if one.job_id == made.job_id]:
                stage.failed(run, "stopped")
        return made

    def capability(_: int) -> Any:
        made = stage.delegate(Right.ALLOC)
        if not isinstance(made, KernelError):
            stage.attack(Revoke(session_id=stage.session, capability_id=made.capability_id))
        return made

    by_jobs = until_refused(job, SMALL.changes_per_minute)
    stage.later(60 * 10**9)
    return [by_jobs, until_refused(capability, SMALL.changes_per_minute)]


@attempt("exhaust the journal", "by moving a job to and fro", QuotaExceeded)
def _(stage: Stage) -> Any:
    modules = Module(name="left", qubits=100), Module(name="right", qubits=100)
    link = Link(between=("left", "right"), cycles=10.0, fidelity=0.9)
    machine = Hardware(name="two", module=modules, link=(link,))
    linked = Stage(hardware=machine, durable=stage.state.machine.durable)
    linked.lose(0)
    linked.lose(1)
    job = linked.submit(linked.session, uid=ATTACKER)

    def move(at: int) -> Any:
        target = modules[at % 2].name
        return linked.attack(Migrate(session_id=linked.session, job_id=job, target=target))

    audited = linked.state.audited
    refused = until_refused(move, SMALL.changes_per_minute)
    most = SMALL.changes_per_minute if linked.state.machine.durable else 0
    assert linked.state.audited - audited <= most
    return refused


@pytest.mark.parametrize("durable", [False, True], ids=["memory", "durable"])
@pytest.mark.parametrize(
    "tried", ATTEMPTS, ids=[f"{each.aim}: {each.name}".replace(" ", "-") for each in ATTEMPTS]
)
def test_the_attempt_meets_its_refusal_and_the_victim_notices_nothing(
    tried: Attempt, durable: bool
) -> None:
    stage = Stage(durable=durable)
    before = stage.seen_by_victim()
    answers = tried.run(stage)
    for answer in answers if isinstance(answers, list) else [answers]:
        assert isinstance(answer, tried.meets), answer
    after = stage.seen_by_victim()
    lent = {"exhaust", "escalate", "replay", "use"}
    if tried.aim.split()[0] not in lent:
        assert msgspec.json.encode(after[0]) == msgspec.json.encode(before[0])
    assert after[0] == before[0], "what is over stays as it was"
    assert after[1].state == before[1].state
    assert after[1].progress == before[1].progress


def test_the_list_covers_all_that_the_mission_names() -> None:
    aims = {each.aim for each in ATTEMPTS}
    assert aims == {
        "forge", "guess", "replay", "escalate", "use another's", "exhaust memory",
        "exhaust the machine", "exhaust CPU", "exhaust disk", "exhaust the journal",
        "cross a border",
    }  # fmt: skip
    assert len({(each.aim, each.name) for each in ATTEMPTS}) == len(ATTEMPTS)


def test_whether_another_submitted_a_program_cannot_be_told_from_the_time_it_takes() -> None:
    """A large graph is verified for each tenant anew, so nobody is answered the sooner for it."""
    stage = Stage()
    large = bell() + b" " * 10_000
    assert stage.try_submit(stage.victim, large, uid=VICTIM) is None, "it waits for a worker"
    stage.run_all()
    assert isinstance(stage.try_submit(stage.victim, large, uid=VICTIM), Submitted)
    assert stage.try_submit(stage.open(uid=RICH), large, uid=RICH) is None


def test_a_channel_that_comes_back_without_its_consent_reaches_nobody() -> None:
    """After a restart, as if the row of the channel alone had stayed when its consent went."""
    stage = Stage(durable=True)
    border = Border(stage, consent=True)
    channel = border.open().channel_id
    stage.call(Revoke(session_id=stage.victim, capability_id=border.consent), uid=VICTIM)
    assert channel in {name for keep in stage.kept for name in keep.gone.channels}
    rows = [row for keep in stage.kept for row in keep.rows]
    stage.restart(
        Recovered(
            numbered=stage.state.numbered,
            sessions=tuple(row for row in rows if isinstance(row, SessionRow)),
            handles=tuple(row for row in rows if isinstance(row, HandleRow)),
            channels=tuple(row for row in rows if isinstance(row, ChannelRow)),
        )
    )
    assert {border.mine, border.theirs} <= stage.state.handles.keys()
    told = stage.attack(ChanStatus(session_id=border.session, channel_id=channel))
    assert (told, border.over(channel)) == (ChannelNotFound(), NotBrokered())


# --- the journal --------------------------------------------------------------------------------


def test_refused_calls_write_nothing_to_the_journal() -> None:
    """However many: they cannot fill the disk, nor make the store fall behind."""
    stage = Stage(durable=True)
    refused = [
        CloseSession(session_id=stage.victim),
        Status(session_id=stage.session, job_id=stage.job),
        Revoke(session_id=stage.session, capability_id=stage.capability),
        Submit(session_id=stage.session, graph=msgspec.Raw(MAGIC)),
        Submit(session_id=stage.session, graph=msgspec.Raw(b"{}")),
        NegotiateCaps(requested=[], tenant_id=TenantId("victim")),
        Delegate(session_id=stage.session, rights=[Right.ADMIN], tenant_id=TenantId("x")),
    ]
    keeps = stage.state.keeps
    for request in refused:
        assert isinstance(stage.attack(request), KernelError)
    assert stage.state.keeps == keeps


def test_what_a_closed_session_left_in_the_journal_goes() -> None:
    """Rows come back with the session; only the audit chain, a line for each, is for ever."""
    stage = Stage(durable=True)
    for _ in range(10):
        stage.kept.clear()
        opened = stage.open(uid=ATTACKER)
        job = stage.submit(opened, uid=ATTACKER)
        for run in stage.segments(job):
            stage.done(run)
        stage.attack(CloseSession(session_id=opened))
        gone = [keep.gone for keep in stage.kept]
        assert [name for each in gone for name in each.sessions] == [opened]
        assert [name for each in gone for name in each.jobs] == [job]


# --- on a real daemon ---------------------------------------------------------------------------

STRICT = """
[limits]
connections_per_uid = 12
message_bytes = 65536
calls_in_flight = 256
"""


@pytest.fixture(scope="module")
def strict() -> Iterator[Daemon]:
    with running_daemon(config=STRICT) as one:
        yield one


@contextlib.contextmanager
def served(daemon: Daemon) -> Iterator[Line]:
    """A line that is answered; those of an earlier test may take a moment to be gone."""
    deadline = time.monotonic() + 10
    while True:
        with Line(daemon.socket) as line:
            answer = {}
            with contextlib.suppress(EOFError, ConnectionError):
                answer = line.ask_any("q_negotiate_caps", requested=[])
            if "result" in answer:
                line.call("q_close_session", session_id=answer["result"]["session_id"])
                yield line
                return
        assert time.monotonic() < deadline, "nobody is served any more"
        time.sleep(0.02)


def test_exhaust_descriptors_by_connections(strict: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        refused = 0
        for _ in range(20):
            line = stack.enter_context(Line(strict.socket))
            try:
                answer = line.ask_any("q_negotiate_caps", requested=[])
            except (EOFError, ConnectionError):
                answer = {"error": {"data": {"type": Busy.NAME}}}
            if "error" in answer:
                assert answer["error"]["data"]["type"] in (Busy.NAME, QuotaExceeded.NAME)
                refused += 1
        assert refused >= 8


def test_exhaust_descriptors_by_sending_some_along(strict: Daemon) -> None:
    """Nobody asked for them, so the host's kernel closes them with the message."""
    with served(strict) as line:
        before = len(os.listdir(f"/proc/{strict.process.pid}/fd"))
        null = os.open("/dev/null", os.O_RDONLY)
        request = (
            b'{"jsonrpc":"2.0","id":1,"method":"q_negotiate_caps","params":{"requested":[]}}\n'
        )
        for _ in range(8):
            socket.send_fds(line.sock, [request], [null] * 32)
            line.answer()
        os.close(null)
        assert len(os.listdir(f"/proc/{strict.process.pid}/fd")) <= before


def test_exhaust_memory_by_one_message(strict: Daemon) -> None:
    with served(strict) as line:
        line.send(b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 70_000)
        assert line.answer()["error"]["code"] == -32700
        assert line.ended()


def test_session_names_are_random_and_never_the_same(strict: Daemon) -> None:
    """128 bits each; the ones among all bits are within five standard errors of a half."""
    with served(strict) as line:
        names = []
        for _ in range(500):
            name = line.call("q_negotiate_caps", requested=[])["session_id"]
            line.call("q_close_session", session_id=name)
            names.append(name.removeprefix("sess_"))
    assert {len(name) for name in names} == {32}
    assert len(set(names)) == len(names)
    ones, bits = sum(int(name, 16).bit_count() for name in names), 128 * len(names)
    assert abs(ones - bits / 2) <= 5 * (bits / 4) ** 0.5


TWO = """
[[tenant]]
name = "victim"
uids = [{victim}]
[[tenant]]
name = "attacker"
uids = [{attacker}]
"""


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Connect as another user: the host's kernel tells the daemon who connected."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as two users")
def test_a_session_overheard_is_of_no_use_to_another_user() -> None:
    victim, attacker = 61_001, 61_002
    with running_daemon(config=TWO.format(victim=victim, attacker=attacker)) as daemon:
        daemon.socket.parent.chmod(0o711)
        numbers = count(1)
        with contextlib.ExitStack() as stack:
            with acting_as(victim):
                own = stack.enter_context(Line(daemon.socket))
            with acting_as(attacker):
                other = stack.enter_context(Line(daemon.socket))
            with acting_as(61_003):
                nobody = stack.enter_context(Line(daemon.socket))
            session = own.session()
            job = own.call("q_submit", session_id=session, graph=example("bell"))["job_id"]
            done = own.call("q_wait", session_id=session, job_id=job)
            theirs = other.session()
            for line, name, refusal in (
                (other, session, AuthFailed),
                (nobody, session, AuthFailed),
                (other, theirs, JobNotFound),
            ):
                for method in ("q_status", "q_wait", "q_cancel", "q_results", "q_subscribe"):
                    answer = line.ask(method, session_id=name, job_id=job)
                    assert answer["error"]["data"]["type"] == refusal.NAME, (method, answer)
                    next(numbers)
            assert "error" in nobody.ask("q_negotiate_caps", requested=[])
            assert "error" in other.ask("q_negotiate_caps", requested=[], tenant_id="victim")
            assert own.call("q_status", session_id=session, job_id=job) == done
            assert next(numbers) == 16
