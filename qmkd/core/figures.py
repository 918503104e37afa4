"""What an operator may know of the whole machine, as numbers: a pure reading of the state.

Its time grows with tenants and workers, never with jobs or sessions, so that it may be read while
calls are served. What has happened so far is counted outside, from events and effects
(`qmkd/shell/metrics`).
"""

from __future__ import annotations

import msgspec

from qmkd.core.state import State
from syscalls.fault import DegradedMode
from syscalls.job import JobState


class TenantFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant holds now. waiting: its jobs that wait for the machine. parked: requests."""

    name: str
    sessions: int
    live: int
    waiting: int
    checking: int
    parked: int
    logical: int
    physical: int
    result_bytes: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The machine now. jobs: those that are known, by state. used: qubits times cycles handed out,
    of `offered`. pending: what waits to be durable. sandboxed: workers by part of their sandbox."""

    tenants: list[TenantFigures]
    jobs: dict[JobState, int]
    sessions: int
    epoch: int
    cycle_ns: int
    cycles: int
    used: int
    offered: int
    physical: int
    physical_total: int
    placed: int
    segments: int
    workers: int
    workers_ready: int
    sandboxed: dict[str, int]
    pending: int
    keep_failed: bool
    audited: int
    faults: int
    modes: frozenset[DegradedMode]


def figures(state: State) -> Figures:
    """The figures as of the last step."""
    sandboxed: dict[str, int] = {}
    for worker in state.workers:
        if worker.ready and worker.sandbox is not None:
            for part in worker.sandbox.in_force:
                sandboxed[part] = sandboxed.get(part, 0) + 1
            for part in worker.sandbox.lacking:
                sandboxed.setdefault(part, 0)
    return Figures(
        tenants=[
            TenantFigures(
                name=name,
                sessions=tenant.sessions,
                live=tenant.live,
                waiting=len(tenant.queued),
                checking=tenant.checking,
                parked=tenant.parked,
                logical=tenant.logical,
                physical=tenant.physical,
                result_bytes=tenant.kept_bytes,
            )
            for name, tenant in state.tenants.items()
        ],
        jobs=dict(state.tally),
        sessions=len(state.sessions),
        epoch=state.epoch_told,
        cycle_ns=state.hardware.cycle_ns,
        cycles=state.horizon,
        used=state.used,
        offered=state.inventory.total * (state.horizon - state.began),
        physical=state.physical,
        physical_total=state.hardware.qubits,
        placed=len(state.placed),
        segments=sum(len(worker.held) for worker in state.workers),
        workers=len(state.workers),
        workers_ready=sum(worker.ready for worker in state.workers),
        sandboxed=sandboxed,
        pending=len(state.pending),
        keep_failed=bool(state.keep_failed),
        audited=state.audited,
        faults=len(state.wrong),
        modes=state.modes,
    )
