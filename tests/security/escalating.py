"""Attempts to get more rights than one has: by programs, by handing on, by what was lent."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from qmkd.core import events as ev
from qmkd.core.conftest import bell
from qmkd.core.programs import key_of
from syscalls.capability import Revoke, Share
from syscalls.checkpoint import Checkpoint
from syscalls.errors import (
    InsufficientCaps,
    InvalidGraph,
    KernelError,
    QuotaExceeded,
)
from syscalls.fault import ClearFault, FaultKind, InjectFault
from syscalls.ids import TenantId
from syscalls.job import Submitted
from syscalls.rights import Right
from syscalls.session import NegotiateCaps
from tests.security.stage import (
    ATTACKER,
    MAGIC,
    VICTIM,
    Stage,
    attempt,
)


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
