"""Who holds which right, kept from requests and answers and held against what the kernel does.

Of the kernel's state only names are looked at: which sessions and capabilities there are. That a
capability is there although it must have ended is found as well as that it is gone without reason.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from qmkd.core import effects as fx
from qmkd.core.events import Called, Origin
from qmkd.core.limits import MS
from qmkd.core.state import State
from qvm.program import VerifiedProgram
from syscalls.capability import Delegate, Delegated, Revoke, Revoked
from syscalls.errors import CapabilityNotFound, InsufficientCaps
from syscalls.job import JobStatus, Submit, Submitted
from syscalls.session import NegotiateCaps, Session
from tests.simulation.cast import tenant_of, verified

DELEGATE = "CAP_DELEGATE"


@dataclasses.dataclass
class Holder:
    """A session: rights by its tenant's rule, and the capabilities that it was opened with."""

    tenant: str
    rights: set[str]
    lent: list[str]


@dataclasses.dataclass
class Given:
    """A capability. asked_back: somebody who may revoke it, or what it came from, has asked to."""

    session: str
    tenant: str
    rights: set[str]
    parent: str | None
    expires_ns: int | None
    number: int
    asked_back: bool = False


def needed(graph: bytes) -> set[str]:
    """The rights that a valid program needs."""
    program = verified(graph)
    assert isinstance(program, VerifiedProgram)
    return set(program.summary.rights)


class Ledger:
    """`asked` before a step; after it `arrived`, `check`, then `ran` and `answered` by effect."""

    def __init__(self) -> None:
        self.sessions: dict[str, Holder] = {}
        self.living: dict[str, Given] = {}
        self.ended: dict[str, Given] = {}
        self.taken_back: set[str] = set()  # and the asker was told
        self.tables: dict[Origin, set[str]] = {}
        self.naming: set[str] = set()  # jobs that also need what sessions hold

    def crashed(self) -> None:
        """No call is under way any more."""
        self.tables = {}

    def recovered(self, state: State) -> None:
        """What had ended, but not durably and with nobody told, may be there again."""
        for name in [str(name) for name in state.capabilities if name in self.ended]:
            assert name not in self.taken_back, "what is taken back stays so"
            self.living[name] = self.ended.pop(name)
        self.living = dict(sorted(self.living.items(), key=lambda item: item[1].number))

    def rights_of(self, session: str, table: set[str]) -> set[str]:
        """What a session held when these capabilities were there."""
        holder = self.sessions[session]
        lent = [name for name in holder.lent if name in table and name in self.living]
        return holder.rights.union(*(self.living[name].rights for name in lent))

    # --- each step ------------------------------------------------------------------------------

    def arrived(self, state: State, event: Called) -> None:
        """A call was made in this step; its answer may come in another."""
        self.tables[event.origin] = {str(name) for name in state.capabilities}

    def asked(self, event: Called) -> None:
        """A call is about to be made."""
        request = event.request
        if isinstance(request, Revoke) and request.session_id in self._above(request.capability_id):
            self.living[request.capability_id].asked_back = True

    def _above(self, name: str | None) -> list[str]:
        """The sessions that may revoke a capability."""
        sessions = []
        while name is not None and name in self.living:
            sessions.append(self.living[name].session)
            name = self.living[name].parent
        return sessions

    def check(self, state: State, now_ns: int) -> None:
        """What must have ended has, and nothing else."""
        for name, each in list(self.living.items()):  # what came first, first
            orphan = each.parent is not None and each.parent not in self.living
            expired = each.expires_ns is not None and each.expires_ns <= now_ns
            over = orphan or expired or each.session not in state.sessions
            if name in state.capabilities:
                assert not over, "it ends with its time, its giver and what it came from"
            else:
                assert over or each.asked_back, "it ends for a reason"
                self.ended[name] = self.living.pop(name)

    def ran(self, state: State, effect: fx.RunSegment) -> None:
        """A slice goes out: now is when the rights must be there."""
        session = state.jobs[effect.job_id].session.id  # type: ignore[index]
        if session in self.sessions:  # else its opener went before the answer
            held = self.rights_of(session, {str(name) for name in state.capabilities})
            assert needed(effect.graph) <= held, "no slice runs without a right"

    # --- answers --------------------------------------------------------------------------------

    def answered(self, state: State, event: Called, body: Any, asked_ns: int, now: bool) -> None:
        """now: the call arrived in this step."""
        request, table = (
            event.request,
            self.tables.pop(event.origin, {*map(str, state.capabilities)}),
        )
        match request, body:
            case NegotiateCaps(), Session():
                self._opened(event, body, table)
            case Delegate(), Delegated():
                self._given(
                    request, body, table, asked_ns, body.capability_id in state.capabilities
                )
            case Delegate(), InsufficientCaps() if now:
                assert self._source(request, table) is None
            case Revoke(), Revoked():
                assert request.capability_id not in state.capabilities
                self.taken_back.add(request.capability_id)
                assert body.revoked >= 1
            case Revoke(), CapabilityNotFound() if now:
                assert request.session_id not in self._above(request.capability_id)
            case Submit(), InsufficientCaps() if now:
                held = self.rights_of(request.session_id, table)
                assert set(body.missing) == needed(bytes(request.graph)) - held
            case Submit(), Submitted() if now:
                held = self.rights_of(request.session_id, table)
                assert needed(bytes(request.graph)) <= held
            case _, JobStatus() if body.error is not None and body.job_id not in self.naming:
                missing = body.error.data.get("missing", [])
                if body.session_id in self.sessions:
                    assert self.sessions[body.session_id].rights.isdisjoint(missing)

    def _opened(self, event: Called, body: Session, table: set[str]) -> None:
        request, rule = event.request, tenant_of(event.peer)
        assert isinstance(request, NegotiateCaps)
        assert rule is not None
        own = set(request.requested) & {right.value for right in rule.grantable}
        lent = [name for name in body.granted if name.startswith("cap_")]
        for name in {*request.requested} & self.living.keys() & table:
            assert (name in lent) == (self.living[name].tenant == rule.name)
        assert {*lent} <= {*request.requested} & table
        rights = [self.living[name].rights for name in lent if name in self.living]
        if len(rights) == len(lent):  # else one ended before this answer was given
            assert set(body.granted) - {*lent} == own.union(*rights)
        assert set(body.granted).isdisjoint(body.denied)
        assert set(request.requested) == set(request.requested) & {*body.granted, *body.denied}
        self.sessions[body.session_id] = Holder(rule.name, own, lent)

    def _source(self, request: Delegate, table: set[str]) -> tuple[str | None] | None:
        """(the capability or None,) by which the session may hand all this on, if there is one."""
        holder, wanted = self.sessions[request.session_id], {*map(str, request.rights), DELEGATE}
        if wanted <= holder.rights:
            return (None,)
        for name in holder.lent:
            if name in table and name in self.living and wanted <= self.living[name].rights:
                return (name,)
        return None

    def _given(
        self, request: Delegate, body: Delegated, table: set[str], asked_ns: int, lives: bool
    ) -> None:
        assert set(body.rights) == {right.value for right in request.rights}
        source = self._source(request, table)
        if not lives:
            return  # it ended before this answer was given
        assert source is not None, "authority only shrinks"
        after = request.expires_after_ms
        ends = [asked_ns + after * MS] if after is not None else []
        if source[0] is not None and (above := self.living[source[0]].expires_ns) is not None:
            ends.append(above)
        self.living[body.capability_id] = Given(
            request.session_id,
            request.tenant_id,
            set(body.rights),
            source[0],
            min(ends, default=None),
            len(self.living) + len(self.ended),
        )
