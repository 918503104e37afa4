"""Who holds which qubit and opened which channel, kept from answers; and what clients ask of them.

The ledger knows an owner because it saw the answer. Of the kernel's state only names are looked at:
which qubits and channels there are. It is held against what is refused, and against every slice
that goes out: nothing runs on a qubit of another session but over a channel that both brokered.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any

from qmkd.core import effects as fx
from qmkd.core.events import Called
from qmkd.core.state import State
from qvm.program import Summary, VerifiedProgram
from syscalls.capability import Delegate, Revoke, Share
from syscalls.channel import (
    ChanClosed,
    ChanOpened,
    ChanOptions,
    ChanState,
    ChanStatus,
    CloseChan,
    OpenChan,
)
from syscalls.errors import ChannelNotFound, HandleNotFound, NotBrokered
from syscalls.ids import CapabilityId, ChannelId, HandleId, SessionId, TenantId
from syscalls.job import Policy, Submit, Submitted
from syscalls.qubit import Alloc, Allocated, Release, Released
from syscalls.rights import Right
from syscalls.session import NegotiateCaps
from tests.simulation import cast
from tests.simulation.ledger import Ledger

if TYPE_CHECKING:
    from tests.simulation.world import Client

LINK = "CAP_LINK"
IDEAL, SURFACE = "logical:ideal", "logical:Surface(d=3)"
NOBODYS = HandleId("vq_" + 32 * "0")


@dataclasses.dataclass
class Held:
    """A qubit: whose, and as what. given_back: and the session was told."""

    session: str
    tenant: str
    profile: str
    given_back: bool = False


@dataclasses.dataclass
class Opened:
    """A channel: whose, and between which qubits. closed: and the session was told."""

    session: str
    ends: tuple[str, str]
    closed: bool = False


class Borders:
    """`answered` and `ran` as in `ledger.py`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.qubits: dict[str, Held] = {}
        self.channels: dict[str, Opened] = {}

    # --- what is held against the kernel --------------------------------------------------------

    def answered(self, state: State, event: Called, body: Any, now: bool) -> None:
        """now: the call arrived in this step."""
        request = event.request
        match request, body:
            case Alloc(), Allocated():
                assert len({*body.handles}) == len(body.handles) == request.n
                assert not {*body.handles} & self.qubits.keys(), "names are given once"
                tenant = self.ledger.sessions[request.session_id].tenant
                for name in body.handles:
                    self.qubits[name] = Held(request.session_id, tenant, request.profile)
            case Release(), Released():
                assert {*body.handles} == {*request.handles}
                for name in body.handles:
                    assert self.qubits[name].session == request.session_id
                    assert name not in state.handles
                    self.qubits[name].given_back = True
            case Release(), HandleNotFound() if now:
                mine = [self._is(state, name, request.session_id) for name in request.handles]
                assert not all(mine)
            case OpenChan(), ChanOpened():
                self._opened(state, request, body)
            case OpenChan(), NotBrokered() if now:
                assert not self._may_open(state, request)
            case CloseChan(), ChanClosed():
                assert self.channels[body.channel_id].session == request.session_id
                assert body.channel_id not in state.channels
                self.channels[body.channel_id].closed = True
            case ChanStatus(), ChanState():
                seen = self.channels[body.channel_id]
                assert seen.session == request.session_id
                assert {body.vq_a, body.vq_b} == {*seen.ends}
                assert 0 <= body.actual_fidelity <= 1
            case ((CloseChan() | ChanStatus()), ChannelNotFound()) if now:
                found = self.channels.get(request.channel_id)
                theirs = found is None or found.session != request.session_id
                assert theirs or request.channel_id not in state.channels
            case Submit(), Submitted() if now and not body.reused:
                assert self._may_run(state, _summary(request.graph), request.session_id)
            case Submit(), NotBrokered() if now:
                assert not self._may_run(state, _summary(request.graph), request.session_id)

    def ran(self, state: State, effect: fx.RunSegment) -> None:
        """A slice goes out: everything it names is there, and its session's or brokered."""
        session = state.jobs[effect.job_id].session.id  # type: ignore[index]
        if session in self.ledger.sessions:  # else its opener went before the answer
            summary = _summary(effect.graph)
            known = {*self.qubits, *self.channels}
            names = {each.name for each in summary.handles}
            names |= {each.name for each in summary.brokered}
            if names <= known:
                assert self._may_run(state, summary, session), "nothing crosses unbrokered"

    def recovered(self, before: State, state: State) -> None:
        """What was given back stays so; what was not is there, on the same machine."""
        for name, qubit in self.qubits.items():
            assert not (qubit.given_back and name in state.handles)
            was = before.handles.get(HandleId(name))
            if was is None or qubit.session not in state.sessions or was.lent:
                continue
            if before.hardware == state.hardware:
                now = state.handles[HandleId(name)]
                assert now.block.run == was.block.run, "a qubit outlives the daemon where it was"
        for name, channel in self.channels.items():
            assert not (channel.closed and name in state.channels)

    def _is(self, state: State, name: str, session: str) -> bool:
        known = self.qubits.get(name)
        return known is not None and known.session == session and name in state.handles

    def _may_run(self, state: State, summary: Summary, session: str) -> bool:
        """From what is known of owners: whether all that it names may be named so."""
        reached: set[str] = set()
        for each in summary.brokered:
            channel = self.channels.get(each.name)
            if each.name not in state.channels or channel is None or channel.session != session:
                return False
            if each.astray or {*each.ends} != {*channel.ends}:
                return False
            reached |= {*each.ends}
        own = [self._is(state, each.name, session) for each in summary.handles]
        far = [each.name in reached and not each.local for each in summary.handles]
        there = all(each.name in state.handles for each in summary.handles)
        return there and all(a or b for a, b in zip(own, far, strict=True))

    def _consents(self, session: str, tenant: str) -> bool:
        """Whether both sides do: a CAP_LINK of the tenant's own, and another one."""
        holder = self.ledger.sessions[session]
        living = [self.ledger.living[each] for each in holder.lent if each in self.ledger.living]
        links = [each for each in living if LINK in each.rights]
        for each in links:
            theirs = self.ledger.sessions[each.session].tenant == tenant
            if theirs and (LINK in holder.rights or len(links) > 1):
                return True
        return False

    def _may_open(self, state: State, request: OpenChan) -> bool:
        ends = (request.vq_a, request.vq_b)
        if not all(each in self.qubits and each in state.handles for each in ends):
            return False
        sessions = [self.qubits[each].session for each in ends]
        if request.session_id not in sessions:
            return False
        far = ends[1] if sessions[0] == request.session_id else ends[0]
        mine = self.qubits[far].session == request.session_id
        return mine or self._consents(request.session_id, self.qubits[far].tenant)

    def _opened(self, state: State, request: OpenChan, body: ChanOpened) -> None:
        name, ends = body.channel_id, (request.vq_a, request.vq_b)
        assert name not in self.channels, "names are given once"
        if name in state.channels:  # else it closed before this answer was given
            assert self._may_open(state, request), "both sides brokered it"
            assert {*state.channels[name].row.ends} == {*ends}
        assert body.actual_fidelity >= (request.options.fidelity or 0.0)
        self.channels[name] = Opened(request.session_id, ends)

    # --- what clients ask -----------------------------------------------------------------------

    def request(self, rng: random.Random, client: Client, session: SessionId, state: State) -> Any:
        """Hold, give back, link, or run a program there; mostly of what is one's own."""
        known = list(self.qubits.items())[-40:]
        held = [name for name, _ in known if name in state.handles or rng.random() < 0.03]
        own = [name for name in held if self.qubits[name].session in client.sessions]
        if rng.random() < 0.8 and (found := self._unlinked(rng, client, held, state)):
            return self._link(rng, *found)
        if own and rng.random() < 0.9:
            session = SessionId(self.qubits[rng.choice(own)].session)
        mine = [name for name in own if self.qubits[name].session == session]
        if not mine or rng.random() < (0.3 if len(mine) < 3 else 0.1):
            return self._hold(rng, session, [each.name for each in state.hardware.module])
        if rng.random() < 0.1:
            return self._consent(rng, client, session)
        one, other = rng.choice(mine), rng.choice((*held[-12:], *mine, NOBODYS))
        opener, link = self._open_link(rng, client, session, state)
        match rng.choices(range(6), (2, 2, 2, 1, 4, 15 if link in state.channels else 1))[0]:
            case 0:
                some = rng.sample(mine, rng.randint(1, len(mine)))
                names = [HandleId(name) for name in some]
                if rng.random() < 0.1:
                    names.append(HandleId(other))
                return Release(session_id=session, handles=names)
            case 1:
                return self._link(rng, session, one, other)
            case 2:
                return ChanStatus(session_id=opener, channel_id=link)
            case 3:
                return CloseChan(session_id=opener, channel_id=link)
            case 4:
                graph = self._program(rng, [one, *[other] * (rng.random() < 0.5)])
            case _:
                session = opener
                known_ends = link in self.channels and rng.random() < 0.9
                ends = [*self.channels[link].ends] if known_ends else [one, other]
                if rng.random() < 0.9:  # one's own comes first, and is what is measured
                    ends.sort(key=lambda end: not self._is(state, end, session))
                graph = self._program(rng, ends, link)
        policy = Policy(shots=rng.choice((1, 100, 5_000)), seed=rng.randrange(2**64))
        return Submit(session_id=session, graph=cast.raw(graph), policy=policy)

    def _hold(self, rng: random.Random, session: SessionId, modules: list[str]) -> Alloc:
        return Alloc(
            session_id=session,
            n=rng.choice((1, 2, 2, 3)),
            profile=rng.choice((*[IDEAL] * 8, SURFACE, "logical:SHYPS(d=2)", "logical:")),
            module=rng.choice((None, *modules)) if rng.random() < 0.95 else "m2",
        )

    def _link(self, rng: random.Random, session: str, one: str, other: str) -> OpenChan:
        ends = [HandleId(one), HandleId(other)]
        rng.shuffle(ends)
        options = ChanOptions(fidelity=rng.choice((None, None, 0.8, 0.95, 1.0)))
        return OpenChan(session_id=SessionId(session), vq_a=ends[0], vq_b=ends[1], options=options)

    def _consent(self, rng: random.Random, client: Client, session: SessionId) -> Any:
        """Let another tenant link to what the session's tenant holds, take that up, or end it."""
        living = self.ledger.living
        tenant = self.ledger.sessions[session].tenant
        given = [name for name, each in living.items() if each.session in client.sessions]
        offered = [
            name for name, each in living.items() if each.tenant == tenant and LINK in each.rights
        ]
        match rng.randrange(3):
            case 0 if given:
                name = CapabilityId(rng.choice(given))
                giver = SessionId(living[name].session)
                return Revoke(session_id=giver, capability_id=name)
            case 1 if offered:
                rights = [Right.ALLOC, Right.LINK, Right.TELEPORT, Right.DELEGATE]
                return NegotiateCaps(requested=[*rights, *offered[-3:]])
        others = [rule.name for rule in cast.TENANTS if rule.name != tenant]
        return Delegate(
            session_id=session,
            rights=[Right.LINK],
            tenant_id=TenantId(rng.choice(others)),
            share=Share(),
            expires_after_ms=rng.choice((None, None, None, 5_000)),
        )

    def _unlinked(
        self, rng: random.Random, client: Client, held: list[str], state: State
    ) -> tuple[str, str, str] | None:
        """One within reach that a link joins, but no channel yet; rather one of two sessions."""
        joined = {ends for each in state.channels.values() for ends in permutations(each.row.ends)}
        fresh = [
            each
            for each in self._within_reach(client, held)
            if each[1:] not in joined and (self._linked(state, *each[1:]) or rng.random() < 0.03)
        ]
        across = [each for each in fresh if self.qubits[each[2]].session != each[0]]
        chosen = across if across and rng.random() < 0.7 else fresh
        return rng.choice(chosen) if chosen else None

    def _open_link(
        self, rng: random.Random, client: Client, session: SessionId, state: State
    ) -> tuple[SessionId, ChannelId]:
        """A channel that a client has, with the session that opened it; or one that it has not."""
        known = [name for name in self.channels if name in state.channels]
        links = [name for name in known if self.channels[name].session in client.sessions]
        across = [name for name in links if self._crosses(self.channels[name])]
        if not links or rng.random() < 0.1:
            return session, ChannelId(rng.choice([*self.channels][-1:] or ["chan_none"]))
        name = rng.choice(across if across and rng.random() < 0.5 else links)
        return SessionId(self.channels[name].session), ChannelId(name)

    def _crosses(self, channel: Opened) -> bool:
        return len({self.qubits[end].session for end in channel.ends}) > 1

    def _linked(self, state: State, *ends: str) -> bool:
        there = [state.handles.get(HandleId(end)) for end in ends]
        modules = [each.block.run.module for each in there if each is not None]
        return len(state.hardware.module) == 1 or tuple(modules) in state.hardware.links

    def _within_reach(self, client: Client, held: list[str]) -> list[tuple[str, str, str]]:
        """(session, a qubit of it, another) that a client may join, as far as it can know."""
        found = []
        for session in client.sessions:
            if LINK not in self.ledger.rights_of(session, {*self.ledger.living}):
                continue
            near = [name for name in held if self.qubits[name].session == session]
            owners = {self.qubits[name].tenant for name in held} if near else set()
            willing = {tenant for tenant in owners if self._consents(session, tenant)}
            far = [name for name in held if self.qubits[name].tenant in willing]
            found += [(session, a, b) for a in near for b in {*near, *far} if a != b]
        return sorted(found)

    def _program(self, rng: random.Random, names: Sequence[str], channel: str = "") -> bytes:
        """One that names these qubits, each by its profile or another, and perhaps joins them."""
        names = list(dict.fromkeys(names))
        profiles = {
            name: self.qubits[name].profile if name in self.qubits else IDEAL for name in names
        }
        if rng.random() < 0.05:
            profiles[names[0]] = SURFACE
        ops: list[dict[str, Any]] = []
        if channel and len(names) == 2:
            opened = {"vqs": names, "chs": [channel]}
            using = {"args": {"semantic": rng.choice(("teleport_cnot", "teleport_state"))}}
            ops += [{"op": "OPEN_CHAN", "args": {"fidelity": 0.5}, **opened}]
            ops += [{"op": "USE_CHAN", **opened, **using}] * rng.choice((1, 2))
            if rng.random() < 0.1:
                ops.append({"op": "USE_CHAN", "args": {"semantic": "teleport_state"},
                            "vqs": names[:1], "chs": [channel]})  # fmt: skip
        if len(names) == 2 and rng.random() < (0.1 if channel else 0.5):
            ops.append(
                {"op": rng.choice(("APPLY_CNOT", "APPLY_CZ", "TELEPORT_CNOT")), "vqs": names}
            )
        return cast.named(profiles, ops, [channel] if channel else [])


def _summary(graph: Any) -> Summary:
    program = cast.verified(bytes(graph))
    assert isinstance(program, VerifiedProgram)
    return program.summary
