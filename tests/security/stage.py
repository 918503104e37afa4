"""The stage of the security list: a victim, an attacker, and what one needs to try something.

An attempt is entered by `attempt`, in the module of its kind; `attempts_test.py` makes them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from qmkd.core import effects as fx
from qmkd.core import events as ev
from qmkd.core.conftest import Desk, bell, planner
from qmkd.core.kernel import Kernel
from qmkd.core.ports import Quota, TenantRule
from qmkd.core.records import Recovered
from syscalls.capability import Delegate, Delegated
from syscalls.derive.samples import sample_value
from syscalls.errors import (
    KernelError,
    NotAvailable,
)
from syscalls.ids import CapabilityId, TenantId
from syscalls.job import Status
from syscalls.registry import CALLS
from syscalls.rights import Right
from syscalls.syscall import SessionCall
from syscalls.telemetry import GetTelemetry

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


def until_refused(act: Callable[[int], Any], most: int) -> Any:
    """Do it again and again; the refusal it meets, which must come within `most` times."""
    for number in range(most + 1):
        answer = act(number)
        if isinstance(answer, KernelError):
            return answer
    raise AssertionError(f"not refused within {most} times")
