"""What is wrong with the machine, and what is done about it: decided in the machine's cycles alone.

A fault begins or ends as soon as the machine's clock, the last cycle handed out, reaches it. That
is a boundary of epochs for every job: what was handed out ends at a fence before it, and who may
not stay gives way there. No slice that is handed out reaches further than to the next boundary,
but for its last SHOT_BLOCK; a machine on which everybody waits idles up to it.

Faults stand in the machine's description, or an operator injects them; those outlive the daemon.
What each kind comes to is in `qvm/machine.py` (`working`), which modes it brings in
`syscalls/fault.py`, what is told of it in `degraded.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from qmkd.core import keeping, quotas
from qmkd.core.degraded import cause, concerned_by, drifted
from qmkd.core.events import Called
from qmkd.core.limits import SERIAL_JOBS_MAX
from qmkd.core.mapping import (
    demand_of,
    fits_better,
    give_way,
    may_lie,
    over_quota,
    overdrawn,
    refit,
    teleports,
)
from qmkd.core.records import FaultRow, Gone
from qmkd.core.state import NEVER, Job, Session, State
from qmkd.core.waiting import announce_degraded
from qvm.machine import failed, working, wrong
from syscalls.errors import FaultNotFound, InvalidParams, KernelError
from syscalls.fault import (
    CYCLES_MAX,
    FAULTS_MAX,
    MODES,
    ClearFault,
    DegradedMode,
    Fault,
    FaultCleared,
    FaultInjected,
    FaultKind,
    InjectFault,
)

INJECTED = "fault_"
DESCRIBED = "machine_"


def enter(state: State, rows: Iterable[FaultRow] = ()) -> None:
    """Take up what the description tells, and what was injected before a restart."""
    state.faults = {f"{DESCRIBED}{at}": each for at, each in enumerate(state.hardware.fault)}
    state.faults |= {row.id: row.fault for row in rows}
    for name in [name for name, each in state.faults.items() if _end(each) <= state.horizon]:
        _forget(state, name)
    if state.faults:
        state.change = state.horizon
    catch_up(state)


def catch_up(state: State) -> None:
    """Pass all boundaries up to the machine's clock."""
    while state.horizon >= state.change:
        _pass(state, state.change)


def idle(state: State) -> bool:
    """Where nobody can be placed before something changes, let the machine's time pass until then.

    Returns whether that has changed anything.
    """
    if state.placed or state.change == NEVER:
        return False
    queued = (job for tenant in state.tenants.values() for *_, job in tenant.queued)
    if all(over_quota(job) is not None for job in queued):
        return False
    state.cycle = state.horizon = max(state.cycle, state.change)
    catch_up(state)
    return True


def _end(fault: Fault) -> int:
    return NEVER if fault.to_cycle is None else fault.to_cycle


def _forget(state: State, name: str) -> None:
    del state.faults[name]
    if name.startswith(INJECTED):
        keeping.let_go(state, Gone(faults=(name,)))


def _pass(state: State, cycle: int) -> None:
    """All that begins and ends in this cycle of the machine."""
    before, faults = state.wrong, state.faults
    state.wrong = {
        name: each for name, each in faults.items() if each.from_cycle <= cycle < _end(each)
    }
    edges = (edge for each in faults.values() for edge in (each.from_cycle, _end(each)))
    state.change = min((edge for edge in edges if edge > cycle), default=NEVER)
    for name in [name for name in before if name not in state.wrong]:
        _note(state, "fault ends", name, before[name], cycle)
    for name in [name for name in faults if _end(faults[name]) <= cycle]:
        _forget(state, name)
    for name in [name for name in state.wrong if name not in before]:
        _note(state, "fault begins", name, state.wrong[name], cycle)
    _answer(state, cycle)
    ended = before.keys() - state.wrong.keys()
    for job in [job for job in state.jobs.values() if not ended.isdisjoint(job.concerned)]:
        job.concerned = {name: None for name in job.concerned if name in state.wrong}
        if job.final is None:
            announce_degraded(state, job)


def _note(state: State, what: str, name: str, fault: Fault, cycle: int) -> None:
    keeping.write_down(
        state,
        what,
        fault=name,
        cause=cause(fault),
        cycle=cycle,
        modes=[mode.value for mode in MODES[fault.kind]],
    )


# --- what is done about them --------------------------------------------------------------------


def _answer(state: State, cycle: int) -> None:
    """Make the machine what is left of it, and have jobs give way that may not go on as they do."""
    faults = state.wrong.values()
    state.modes = frozenset(mode for each in faults for mode in MODES[each.kind])
    state.working = working(state.hardware, faults)
    drift = max(
        (each for each in faults if each.kind is FaultKind.CALIBRATION), key=_strength, default=None
    )
    times = 1.0 if drift is None else _strength(drift)
    noise = drifted(state.machine.physical_noise, times)
    state.noise = (noise, "" if drift is None else cause(drift), times)
    refit(state, failed(state.hardware, faults), cycle)
    for job in [job for job in state.placed if not may_lie(state, job, job.place or ())]:
        job.moves += 1
        job.module = None  # where its owner had moved it
        _give_way(state, job, DegradedMode.MIGRATE, DegradedMode.SERIALISE)
    if DegradedMode.SERIALISE in state.modes:
        for job in [job for job in state.placed if teleports(job)][SERIAL_JOBS_MAX:]:
            _give_way(state, job, DegradedMode.SERIALISE)
    while drawn := next((job for job in state.placed if overdrawn(state, job)), None):
        _give_way(state, drawn, DegradedMode.SERIALISE)
    # What takes the most of what there is too little of gives way first (docs/machine.md).
    blocks, t_rate = state.working.decoder_blocks, state.working.t_rate
    while blocks is not None and state.blocks > blocks:
        heaviest = max(state.placed, key=lambda job: (demand_of(state, job).blocks, job.number))
        _give_way(state, heaviest, DegradedMode.THROTTLE)
    while t_rate is not None and state.t_rate > t_rate:
        heaviest = max(state.placed, key=lambda job: (demand_of(state, job).t_rate, job.number))
        _give_way(state, heaviest, DegradedMode.SCARCE_MAGIC)
    for job in [job for job in state.placed if fits_better(state, job)]:
        give_way(state, job)
    state.stirred = state.contested = True
    state.version += 1


def _strength(fault: Fault) -> float:
    return fault.strength or 1.0


def _give_way(state: State, job: Job, *modes: DegradedMode) -> None:
    concern(state, job, *modes)
    give_way(state, job)


def concern(state: State, job: Job, *modes: DegradedMode) -> None:
    """The job does not run as it would otherwise: whoever follows it is told, once for a fault."""
    new = [name for name in concerned_by(state, modes) if name not in job.concerned]
    if new:
        job.concerned |= dict.fromkeys(new)
        announce_degraded(state, job)


# --- what operators do --------------------------------------------------------------------------


def inject(state: State, session: Session, event: Called) -> FaultInjected | KernelError:
    """q_inject_fault."""
    request = event.request
    assert isinstance(request, InjectFault)
    begins = min(CYCLES_MAX - 1, state.horizon + request.after_cycles)
    ends = None if request.for_cycles is None else min(CYCLES_MAX, begins + request.for_cycles)
    fault = Fault(
        kind=request.kind,
        what=request.what,
        strength=request.strength,
        from_cycle=begins,
        to_cycle=ends,
    )
    refusal = _check_change(state, session) or _check(state, fault)
    if refusal is not None:
        return refusal
    name = f"{INJECTED}{state.number()}"
    quotas.change(session.tenant, state.now_ns)
    _write(state, "fault injected", session, name)
    keeping.keep(state, FaultRow(id=name, fault=fault))
    state.faults[name] = fault
    if begins <= state.horizon:
        _pass(state, state.horizon)
    state.change = min(state.change, begins) if begins > state.horizon else state.change
    state.version += 1
    return FaultInjected(fault_id=name, fault=fault, modes=list(MODES[fault.kind]))


def clear(state: State, session: Session, event: Called) -> FaultCleared | KernelError:
    """q_clear_fault."""
    request = event.request
    assert isinstance(request, ClearFault)
    name = request.fault_id
    if name not in state.faults or not name.startswith(INJECTED):
        return FaultNotFound()
    refusal = _check_change(state, session)
    if refusal is not None:
        return refusal
    quotas.change(session.tenant, state.now_ns)
    _write(state, "fault cleared", session, name)
    _forget(state, name)
    _pass(state, state.horizon)
    return FaultCleared(fault_id=name, cycle=state.horizon)


def _write(state: State, what: str, session: Session, name: str) -> None:
    keeping.write_down(
        state,
        what,
        fault=name,
        tenant=session.tenant.rule.name,
        session=keeping.masked(session.id),
    )


def _check_change(state: State, session: Session) -> KernelError | None:
    return keeping.refusal(state) or quotas.check_change(session.tenant, state.now_ns)


def _check(state: State, fault: Fault) -> KernelError | None:
    for field, sentence in wrong(state.hardware, fault):
        return InvalidParams(path=f"$.{field}", expected=f"a fault of this machine; {sentence}")
    noise = float(state.machine.physical_noise.partition(" ")[2])
    if fault.kind is FaultKind.CALIBRATION and noise * _strength(fault) >= 0.5:
        least = f"less than {0.5 / noise:g}, with which qubits err as often as not"
        return InvalidParams(path="$.strength", expected=least)
    injected = sum(name.startswith(INJECTED) for name in state.faults)
    return quotas.over("injected faults", FAULTS_MAX, injected, 1)
