"""The kernel: one synchronous state machine, `step(now_ns, event) -> effects`.

It holds the tables that lead each event and each call to its handler, and what is looked at on
every path. `sessions` says who calls, `capabilities` what they may, `delegation` how that is handed
on and taken back, `quotas` how much, `admission` what becomes a job, `jobs` how a job lives and
ends, `schedule` where it runs, `faults` what is done where the machine fails, `calibrating` what
is measured for a job first, `waiting` who is answered later, `resting` what is done with a job
between two slices: `checkpoints` and `moving`, `restoring` what goes on from a checkpoint,
`keeping` what is made durable before it is said, `recovery` what is known after a restart,
`configuring` how tenants get other rules, `reading` what only reads. What is true after every
step is `tests/simulation/invariants.py`.

A call is refused before anything is changed: a refusal has no effects but its reply, and the
state's version is the same as before. Both are asserted on every refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from qmkd.core import channels, delegation, faults, holding, keeping, resting
from qmkd.core.admission import refuse_checks, submit
from qmkd.core.calibrating import too_long
from qmkd.core.capabilities import check_call
from qmkd.core.checkpoints import q_drop_checkpoint, q_list_checkpoints
from qmkd.core.configuring import configured
from qmkd.core.effects import Effect, Halt, Note, Reply, SetTimer
from qmkd.core.events import (
    Calibrated,
    Called,
    CheckpointVerified,
    ClientGone,
    Configured,
    Event,
    GraphLoaded,
    KeepFailed,
    Kept,
    ProgramChecked,
    SegmentDone,
    SegmentFailed,
    SegmentParked,
    ShutDown,
    TimerFired,
    WorkerGone,
    WorkerReady,
)
from qmkd.core.jobs import cancel, find_job, fire, pause
from qmkd.core.limits import EFFECTS_PER_STEP_MAX, ENTROPY_BYTES, MS, check_machine
from qmkd.core.ports import Machine, Planner
from qmkd.core.reading import q_get_mapping, q_get_telemetry, q_results, q_status
from qmkd.core.records import Recovered
from qmkd.core.recovery import keep_failed, kept, recover, settle_kept
from qmkd.core.replaying import graph_loaded, replay
from qmkd.core.restoring import q_restore, verified
from qmkd.core.schedule import (
    calibrated,
    dispatch,
    program_checked,
    segment_done,
    segment_failed,
    segment_parked,
    worker_gone,
    worker_ready,
)
from qmkd.core.sessions import check_session, close_session, open_session, sweep
from qmkd.core.state import (
    Measuring,
    Parked,
    Segment,
    Session,
    State,
    Tenant,
    TimerKind,
    Worker,
)
from qmkd.core.waiting import (
    answer,
    check_park,
    check_subscribe,
    drop_connection,
    is_parked,
    park,
    set_timer,
    subscribe,
)
from qmkd.core.wording import status
from syscalls.capability import Delegate, Revoke
from syscalls.channel import ChanStatus, CloseChan, OpenChan
from syscalls.checkpoint import (
    Checkpoint,
    DropCheckpoint,
    ListCheckpoints,
    Migrate,
    Replay,
    Restore,
)
from syscalls.errors import AlreadyCompleted, KernelError, NotAvailable, Timeout
from syscalls.events import Subscribe, Subscribed
from syscalls.fault import ClearFault, InjectFault
from syscalls.job import Cancel, JobStatus, PlanJob, Status, Submit, Wait
from syscalls.qubit import Alloc, Release
from syscalls.registry import CALLS
from syscalls.results import Results
from syscalls.session import CloseSession, NegotiateCaps
from syscalls.syscall import SessionCall, Syscall
from syscalls.telemetry import GetMapping, GetTelemetry

Answer = msgspec.Struct | KernelError | Reply | None
"""What a call's handler returns: the reply's body, a whole reply, or None for a parked request."""


class Kernel:
    """The kernel of one machine. The caller owns the clock; no two steps run at the same time."""

    def __init__(self, machine: Machine, planner: Planner) -> None:
        check_machine(machine)
        self.state = State(
            machine=machine,
            planner=planner,
            tenants={rule.name: Tenant(rule.quota, rule) for rule in machine.tenants},
            workers=[Worker(number) for number in range(machine.workers)],
            table=machine.table,
        )
        if not machine.durable:
            faults.enter(self.state)

    def step(self, now_ns: int, event: Event) -> list[Effect]:
        """Advance by one event. Changes only `self`; never waits.

        now_ns: Unix time in nanoseconds; it never goes back. The effects are to be performed in
        order. A request that is answered has its `Reply` among them or in a later step's.
        """
        state = self.state
        assert now_ns >= state.now_ns, "time does not go back"
        state.now_ns = now_ns
        out: list[Effect] = []
        state.out = out
        delegation.expire(state)
        _EVENTS[type(event)](state, event)
        resting.settle(state)
        delegation.settle(state)
        if state.stirred and not state.stopping:
            dispatch(state)
        keeping.flush(state)
        if state.notices:
            out.extend(state.notices)
            state.notices = []
        if state.stopping and not state.halted:
            _halt_if_done(state)
        assert len(out) <= EFFECTS_PER_STEP_MAX, "a step has a bounded number of effects"
        return out


# --- calls --------------------------------------------------------------------------------------


def _called(state: State, event: Called) -> None:
    version, effects, rows = state.version, len(state.out), keeping.gathered(state)
    body = _answer(state, event)
    if body is None:
        assert is_parked(state, event.origin), "a request is answered or parked"
        return
    if isinstance(body, KernelError):
        assert state.version == version, "a refused request changes nothing"
        assert len(state.out) == effects, "a refused request asks for nothing"
        assert keeping.gathered(state) == rows, "a refused request leaves no trace"
    elif keeping.gathered(state) != rows:
        assert type(body) is not Reply, "what only reads changes nothing"
        keeping.answer_later(state, event.origin, body)
        return
    state.out.append(body if type(body) is Reply else Reply(to=event.origin, body=body))


def _answer(state: State, event: Called) -> Answer:
    request = event.request
    if request.CHANCE:
        assert len(event.entropy) == ENTROPY_BYTES, "the shell brings fresh random bytes"
        if (behind := keeping.refusal(state)) is not None:
            return behind
    if not isinstance(request, SessionCall):
        # rpc.discover reads a file and is answered by the shell.
        assert type(request) is NegotiateCaps, f"{request.METHOD} is not the kernel's to answer"
        return open_session(state, event)
    session = check_session(state, event.peer, request.session_id)
    if isinstance(session, KernelError):
        return session
    session.touched_ns = state.now_ns
    handler = _CALLS.get(type(request))
    if handler is None:
        return NotAvailable(feature=request.METHOD)
    refusal = check_call(session, request)
    return handler(state, session, event) if refusal is None else refusal


def _q_wait(state: State, session: Session, event: Called) -> JobStatus | KernelError | None:
    request = event.request
    assert isinstance(request, Wait)
    job = find_job(state, session, request.job_id)
    if isinstance(job, KernelError):
        return job
    if job.final is not None:
        return job.final
    ending = state.stopping and state.machine.durable
    refusal = keeping.shutting_down() if ending else check_park(job.tenant)
    if refusal is not None:
        return refusal
    parked = Parked(event.origin, job.tenant, job=job)
    park(state, parked)
    if request.timeout_ms:
        parked.timeout_ms = request.timeout_ms
        at_ns = state.now_ns + request.timeout_ms * MS
        parked.timer = set_timer(state, TimerKind.WAIT, at_ns, parked)
    return None


def _q_cancel(state: State, session: Session, event: Called) -> JobStatus | KernelError | None:
    request = event.request
    assert isinstance(request, Cancel)
    job = find_job(state, session, request.job_id, reading=False)
    if isinstance(job, KernelError):
        return job
    if job.final is not None:
        return AlreadyCompleted(state=job.state.value)
    refusal = check_park(job.tenant)
    if refusal is not None:
        return refusal
    cancel(state, job)
    if job.final is not None:
        return status(state, job)
    park(state, Parked(event.origin, job.tenant, job=job, cancels=True))
    return None


def _q_subscribe(state: State, session: Session, event: Called) -> Subscribed | KernelError:
    request = event.request
    assert isinstance(request, Subscribe)
    job = None if request.job_id is None else find_job(state, session, request.job_id)
    if isinstance(job, KernelError):
        return job
    refusal = check_subscribe(session, job)
    if refusal is not None:
        return refusal
    return Subscribed(subscription=subscribe(state, session, job, event.origin.conn).name)


_CALLS: Final[dict[type[Syscall], Callable[[State, Session, Called], Answer]]] = {
    CloseSession: close_session,
    Submit: submit,
    PlanJob: submit,
    Status: q_status,
    Wait: _q_wait,
    Cancel: _q_cancel,
    Results: q_results,
    Subscribe: _q_subscribe,
    Delegate: delegation.hand_on,
    Revoke: delegation.take_back,
    GetTelemetry: q_get_telemetry,
    Checkpoint: resting.q_checkpoint,
    Restore: q_restore,
    ListCheckpoints: q_list_checkpoints,
    DropCheckpoint: q_drop_checkpoint,
    Migrate: resting.q_migrate,
    Replay: replay,
    GetMapping: q_get_mapping,
    Alloc: holding.alloc,
    Release: holding.release,
    InjectFault: faults.inject,
    ClearFault: faults.clear,
    OpenChan: channels.open_chan,
    CloseChan: channels.close_chan,
    ChanStatus: channels.chan_status,
}

assert set(_CALLS) == {
    call for call in CALLS if call.AVAILABLE and issubclass(call, SessionCall)
}, "every call that this build performs has its handler, and no other"


# --- other events -------------------------------------------------------------------------------


def _client_gone(state: State, event: ClientGone) -> None:
    drop_connection(state, event.conn)
    state.stirred = True


def _timer_fired(state: State, event: TimerFired) -> None:
    timer = state.timers.get(event.token)
    if timer is None:
        return  # cancelled while it was on its way
    if state.now_ns < timer.at_ns:
        state.out.append(SetTimer(event.token, timer.at_ns))
        return
    del state.timers[event.token]
    if timer.kind is TimerKind.SWEEP:
        sweep(state)
    elif timer.kind is TimerKind.DRAIN:
        _drain(state)
    elif timer.kind is TimerKind.KEPT:
        settle_kept(state)
    elif timer.kind is TimerKind.LAPSE:
        state.lapse = 0
    elif timer.kind is TimerKind.MEASURED:
        assert isinstance(timer.about, Measuring)
        too_long(state, timer.about)
    elif timer.kind is TimerKind.WAIT:
        parked = timer.about
        assert isinstance(parked, Parked)
        parked.timer = 0
        answer(state, parked, Timeout(timeout_ms=parked.timeout_ms))
    else:
        fire(state, timer)


# --- shutting down ------------------------------------------------------------------------------


def _shut_down(state: State, event: ShutDown) -> None:
    """Stop all jobs, a tenant in a step, so that each step stays bounded.

    Jobs that are durable are not over: they go on in the next daemon.
    """
    if state.stopping:
        return
    state.stopping = True
    state.grace_ns = event.grace_ns
    state.draining = list(state.tenants.values())
    durable = state.machine.durable
    fate = "jobs_interrupted" if durable else "jobs_cancelled"
    state.out.append(Note("shutting down", {fate: state.live}))
    keeping.record_epochs(state)
    keeping.write_down(state, "shutting down")
    state.version += 1
    _drain(state)


def _drain(state: State) -> None:
    if not state.draining:
        return
    tenant = state.draining.pop()
    sessions = [one for one in state.sessions.values() if one.tenant is tenant]
    refuse_checks(state, tenant, sessions)
    for session in sessions:
        for job in list(session.live):
            (pause if state.machine.durable else cancel)(state, job)
    if state.draining:
        set_timer(state, TimerKind.DRAIN, state.now_ns)


def _halt_if_done(state: State) -> None:
    held = (unit for worker in state.workers for unit in worker.held.values())
    over = not state.pending and not any(isinstance(unit, Segment) for unit in held)
    done = over if state.machine.durable else not state.live
    if done and not state.draining and not state.parked:
        state.halted = True
        state.out.append(Halt())


_EVENTS: Final[dict[type, Callable[[State, Any], None]]] = {
    Called: _called,
    ClientGone: _client_gone,
    ProgramChecked: program_checked,
    SegmentDone: segment_done,
    SegmentFailed: segment_failed,
    SegmentParked: segment_parked,
    Calibrated: calibrated,
    WorkerReady: worker_ready,
    WorkerGone: worker_gone,
    TimerFired: _timer_fired,
    Recovered: recover,
    Kept: kept,
    KeepFailed: keep_failed,
    GraphLoaded: graph_loaded,
    CheckpointVerified: verified,
    Configured: configured,
    ShutDown: _shut_down,
}
