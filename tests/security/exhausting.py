"""Attempts to leave nothing for others: of memory, the machine, CPU time, the disk, the journal."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from qmkd.core.conftest import bell
from qmkd.core.limits import (
    CAPABILITIES_MAX,
    PARKED_MAX,
    PEERS_CACHED_MAX,
    SESSION_IDLE_NS,
    SESSIONS_EXPIRED_MAX,
    SUBSCRIPTIONS_MAX,
)
from qmkd.core.ports import Quota
from qvm.channels import KINDS_MAX
from qvm.machine import Hardware, Link, Module
from syscalls.capability import Revoke
from syscalls.channel import CloseChan
from syscalls.checkpoint import Checkpoint, DropCheckpoint, Migrate
from syscalls.errors import (
    AuthFailed,
    Busy,
    KernelError,
    ProgramTooWide,
    QuotaExceeded,
    ResourceExhausted,
)
from syscalls.events import Subscribe
from syscalls.fault import FAULTS_MAX, FaultKind, InjectFault
from syscalls.ids import CapabilityId, SessionId
from syscalls.job import Cancel, Status, Wait
from syscalls.qubit import Alloc
from syscalls.rights import Right
from syscalls.session import CloseSession, NegotiateCaps, Session
from tests.security.borders import Border
from tests.security.stage import (
    ATTACKER,
    MAGIC,
    RICH,
    SMALL,
    STRANGER,
    VICTIM,
    Stage,
    attempt,
    until_refused,
)


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


@attempt("exhaust memory", "faults, one more than are counted", QuotaExceeded)
def _(stage: Stage) -> Any:
    operator = stage.attack(NegotiateCaps(requested=[stage.lent(Right.ADMIN)])).session_id
    later = InjectFault(
        session_id=operator, kind=FaultKind.CALIBRATION, strength=2.0, after_cycles=10**12
    )
    return [stage.attack(later) for _ in range(FAULTS_MAX + 1)][-1]


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
