"""Attempts to entangle one's qubits with another's, but through a channel both agreed to."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from syscalls.capability import Delegate, Revoke
from syscalls.channel import ChanOpened, ChanStatus, CloseChan, OpenChan
from syscalls.errors import (
    ChannelNotFound,
    HandleNotFound,
    InsufficientCaps,
    NotBrokered,
)
from syscalls.ids import CapabilityId, ChannelId, HandleId, SessionId, TenantId
from syscalls.job import Submitted
from syscalls.qubit import Alloc, Allocated, Release
from syscalls.rights import Right
from syscalls.session import NegotiateCaps
from tests.security.stage import (
    ATTACKER,
    RICH,
    VICTIM,
    Stage,
    attempt,
)


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
