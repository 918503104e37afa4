"""What runs next, where, and what becomes of it.

A job's shots go out in slices; several may be in different workers at once, and none of that
changes bits (docs/decisions/0004). Tenants take turns. Within a tenant, graphs to verify come
first, then jobs by priority, deadline and age. Only jobs that hold a place on the machine are
handed out; who holds one, and for how long, is decided in `mapping.py`.
"""

from __future__ import annotations

from dataclasses import replace

from qmkd.core.admission import end_check, give_up_check, settle_check
from qmkd.core.calibrating import lack, lost, over
from qmkd.core.capabilities import check_job
from qmkd.core.decoding import decoders_together
from qmkd.core.effects import Calibrate, CheckProgram, DropSnapshots, KillWorker, Note, RunSegment
from qmkd.core.events import (
    Calibrated,
    ProgramChecked,
    SegmentDone,
    SegmentFailed,
    SegmentParked,
    WorkerGone,
    WorkerReady,
)
from qmkd.core.faults import catch_up, concern, idle
from qmkd.core.jobs import (
    complete,
    fail,
    has_shots,
    let_go_of,
    set_ready,
    settle,
    start,
    stop_at_fence,
    want_turn,
)
from qmkd.core.keeping import keep
from qmkd.core.limits import (
    ATTEMPTS_MAX,
    LEAF_BYTES,
    LONG_NS,
    PARKED_MORE,
    POINT_NS_MAX,
    SEGMENT_NS_TARGET,
    SEGMENTS_PER_WORKER_MAX,
    SEGMENTS_SMALL_NS_MAX,
    SLICE_CYCLES_CROWDED,
    SLICE_CYCLES_DRIFTED,
    SLICE_SHOTS_MAX,
    SLICE_SHOTS_UNMEASURED_MAX,
    WORKER_LEAD_NS,
)
from qmkd.core.mapping import (
    demand_of,
    give_places,
    give_way,
    goes_on,
    has_more,
    is_slowed,
    spend,
    would_give_way,
)
from qmkd.core.ports import SegmentReport, Setting
from qmkd.core.quotas import lacking
from qmkd.core.records import SliceRow, SnapshotRow
from qmkd.core.state import (
    Check,
    Job,
    Measuring,
    Segment,
    Slice,
    State,
    Tenant,
    TimerKind,
    Unit,
    Worker,
)
from qmkd.core.waiting import announce_progress, set_timer
from syscalls.errors import (
    InternalError,
    KernelError,
    NotAvailable,
    WorkerLost,
)
from syscalls.fault import DegradedMode
from syscalls.job import JobState
from syscalls.results import COUNTS_CHARS_MAX, COUNTS_KEYS_MAX, SHOT_BLOCK

OURS = ""  # for whom points are measured: all tenants
SLOWING = (DegradedMode.THROTTLE, DegradedMode.SCARCE_MAGIC, DegradedMode.SERIALISE)
TOTAL_TOLERANCE = 1e-6  # how far probabilities may be from 1 together


def dispatch(state: State) -> None:
    """Hand out work until no worker has room or no tenant has work that may start now."""
    _give_places(state)
    for segment in _long(state) if state.crowded else ():
        if not has_more(segment.job) and would_give_way(state, segment.job):
            stop_at_fence(state, segment)
    if not _send_measuring(state):
        return  # it takes a worker for itself: the next that is idle
    turns, passed = state.turns, 0
    while turns and passed < len(turns):
        tenant = _whose_turn(state)
        unit = _next_unit(state, tenant)
        if isinstance(unit, Job) and check_job(unit) is not None:
            # Its rights ended, and `delegation.settle` stops it in the next step.
            turns.rotate(-1)
            passed += 1
            continue
        if unit is None:
            assert not tenant.ready
            turns.popleft()
            tenant.in_turns = False
            continue
        if isinstance(unit, Job) and not goes_on(state, unit):
            _give_places(state)
            continue
        sent = _send_check(state, unit) if isinstance(unit, Check) else _send_slice(state, unit)
        if not sent:
            _make_way(state, unit)
            return  # it keeps its turn: smaller work may not overtake it for ever
        turns.rotate(-1)
        if state.horizon >= state.change:
            catch_up(state)
            _give_places(state)
        passed = 0


def _long(state: State) -> list[Segment]:
    """Slices that take long, by what was predicted or by now, and could stop at a fence."""
    held = [unit for worker in state.workers for unit in worker.held.values()]
    since_ns = state.now_ns - LONG_NS
    return [
        unit
        for unit in held
        if isinstance(unit, Segment)
        and not unit.asked
        and not unit.job.policy.exact
        and (unit.ns > LONG_NS or unit.since_ns < since_ns)
    ]


def _make_way(state: State, unit: Check | Job) -> None:
    """What waits for a worker need not wait for a long slice of what is less urgent: of the same
    tenant's job that comes after it, or of a tenant that had much more of the workers."""
    tenant = unit.tenant if isinstance(unit, Job) else unit.submission.session.tenant
    for segment in _long(state):
        other = segment.job
        if other.tenant is tenant:
            after = not isinstance(unit, Job) or unit.rank < other.rank
        else:
            after = tenant.worker_ns + WORKER_LEAD_NS < other.tenant.worker_ns
        if after:
            stop_at_fence(state, segment)
            return


def _next_unit(state: State, tenant: Tenant) -> Check | Job | None:
    while tenant.checks:
        check = tenant.checks[0]
        if check.parked is not None:
            return check
        tenant.checks.popleft()
        end_check(state, check)
    if not tenant.ready:
        return None
    return _furthest_behind(tenant) if state.crowded else tenant.ready[0][-1]


def _whose_turn(state: State) -> Tenant:
    """Who has waited longest; but where jobs wait for the machine, whose job is furthest behind on
    its clock, among those who had little more of the workers than any other, so that what runs
    side by side is simulated in step. That tenant is put first."""
    turns = state.turns
    if state.crowded:
        most = min(tenant.worker_ns for tenant in turns) + WORKER_LEAD_NS
        ahead = (tenant for tenant in turns if tenant.worker_ns <= most and tenant.ready)
        first = min(ahead, key=lambda one: _furthest_behind(one).cycle, default=turns[0])
        if first is not turns[0] and not turns[0].checks:
            turns.remove(first)
            turns.appendleft(first)
    return turns[0]


def _furthest_behind(tenant: Tenant) -> Job:
    return min((entry[-1] for entry in tenant.ready), key=lambda job: job.cycle)


def _give_places(state: State) -> None:
    catch_up(state)
    goes_on = True
    while goes_on:
        for job in give_places(state):
            want_turn(state, job.tenant)
            if is_slowed(state, job):
                concern(state, job, *SLOWING)
        goes_on = idle(state)
    state.stirred = False


# --- slices -------------------------------------------------------------------------------------


def _next_slice(state: State, job: Job) -> Slice:
    if job.again:
        return job.again[-1]
    return Slice(job.shots_given, min(_slice_shots(state, job), job.policy.shots - job.shots_given))


def _slice_shots(state: State, job: Job) -> int:
    """How many shots to run at a time: a multiple of SHOT_BLOCK, near SEGMENT_NS_TARGET long.

    Longer where the plan says that shorter slices would be waste, but not than `_cycles_most`.
    """
    measured = job.program.ns_per_shot
    most = SLICE_SHOTS_MAX if measured else SLICE_SHOTS_UNMEASURED_MAX
    shots = SEGMENT_NS_TARGET // (measured or max(1, job.plan.ns_per_shot))
    most = max(SHOT_BLOCK, min(most, _cycles_most(state, job) // demand_of(state, job).cycles))
    return min(most, max(SHOT_BLOCK, job.plan.shots_least, shots)) // SHOT_BLOCK * SHOT_BLOCK


def _cycles_most(state: State, job: Job) -> int:
    """How many cycles of the machine a slice may take: up to where a fault begins or ends; where
    somebody waits, or fences are to be close, a small part of an epoch."""
    most = max(0, state.change - job.cycle)
    if state.crowded:
        most = min(most, SLICE_CYCLES_CROWDED)
    if DegradedMode.ADD_FENCES in state.modes:
        most = min(most, SLICE_CYCLES_DRIFTED)
    return most


def _park_ns(state: State) -> int:
    """After how long a slice stands at its next fence."""
    return state.machine.park_ns // (PARKED_MORE if DegradedMode.ADD_FENCES in state.modes else 1)


def _predict_ns(job: Job, given: Slice) -> int:
    measured = 0 if job.policy.exact else job.program.ns_per_shot
    fixed = 0 if measured else job.plan.ns_fixed
    return fixed + given.shots * (measured or job.plan.ns_per_shot)


# --- workers ------------------------------------------------------------------------------------


def whose(unit: Unit) -> str:
    """The tenant that it is for."""
    match unit:
        case Segment():
            return unit.job.tenant.rule.name
        case Check():
            return unit.submission.session.tenant.rule.name
        case Measuring():
            return OURS


def _worker_for(state: State, tenant: str, ns: int, *, alone: bool) -> Worker | None:
    """The least loaded worker with room. What a worker was once lost over runs alone.

    Where tenants are kept apart and each idle worker has worked for another, one of these makes
    room for a fresh one, unless one is on its way.
    """
    best: Worker | None = None
    used: Worker | None = None
    for worker in state.workers:
        if not worker.ready:
            continue
        if state.machine.workers_apart and worker.tenant not in (None, tenant):
            used = used if worker.held else worker
            continue
        if not worker.held:
            return worker
        if alone or len(worker.held) >= SEGMENTS_PER_WORKER_MAX or _holds_suspect(worker):
            continue
        if worker.ns + ns <= SEGMENTS_SMALL_NS_MAX and (best is None or worker.ns < best.ns):
            best = worker
    if best is None and used is not None and all(worker.ready for worker in state.workers):
        used.ready, used.killed = False, True
        state.out.append(KillWorker(used.number))
    return best


def _holds_suspect(worker: Worker) -> bool:
    return any(_is_suspect(unit) for unit in worker.held.values())


def _is_suspect(unit: Unit) -> bool:
    """Whether nothing else may run beside it."""
    match unit:
        case Segment():
            return unit.slice.attempts > 0
        case Check():
            return unit.attempts > 0
        case Measuring():
            return True


def _send_measuring(state: State) -> bool:
    """Have the next point measured, unless one is. False: it waits for a worker."""
    measuring = next(iter(state.wanted.values()), None)
    if measuring is None or any(each.worker is not None for each in state.wanted.values()):
        return True
    worker = _worker_for(state, whose(measuring), measuring.ns, alone=True)
    if worker is None:
        return False
    measuring.worker, measuring.ticket = worker, state.number()
    at_ns = state.now_ns + POINT_NS_MAX
    measuring.timer = set_timer(state, TimerKind.MEASURED, at_ns, measuring)
    _hold(worker, measuring.ticket, measuring)
    state.out.append(Calibrate(measuring.ticket, worker.number, measuring.point, state.table))
    return True


def _send_check(state: State, check: Check) -> bool:
    worker = _worker_for(state, whose(check), check.ns, alone=check.attempts > 0)
    if worker is None:
        return False
    check.submission.session.tenant.checks.popleft()
    check.ticket = state.number()
    state.checks[check.ticket] = (check, worker)
    _hold(worker, check.ticket, check)
    check.submission.session.tenant.worker_ns += check.ns
    state.out.append(CheckProgram(check.ticket, worker.number, check.submission.graph))
    return True


def _send_slice(state: State, job: Job) -> bool:
    given = _next_slice(state, job)
    ns = _predict_ns(job, given)
    worker = _worker_for(state, job.tenant.rule.name, ns, alone=given.attempts > 0)
    if worker is None:
        return False
    if job.state is JobState.QUEUED:
        start(state, job)
        spend(state, job, job.owed)
    if job.again:
        job.again.pop()
    else:
        spend(state, job, given.shots)
        job.shots_given += given.shots
    if not has_shots(job):
        set_ready(state, job, False)
    concern(state, job, DegradedMode.ADD_FENCES)
    ticket, parked = state.number(), given.parked
    segment = Segment(ticket, worker, job, given, ns, job.table, job.cycle, state.now_ns)
    job.segments[segment.ticket] = segment
    job.workers.add(worker.number)
    job.rows = job.program.sent = True
    _hold(worker, segment.ticket, segment)
    job.tenant.worker_ns += ns
    state.out.append(
        RunSegment(
            ticket=segment.ticket,
            worker=worker.number,
            job_id=job.id,
            program=job.program.number,
            graph=job.program.graph,
            engine=job.plan.engine,
            seed=job.seed,
            noise=job.context.noise.applied,
            shot_first=given.first,
            shots=given.shots,
            shots_total=job.policy.shots,
            row_bytes=job.row_bytes,
            counts=job.counts is not None,
            setting=Setting(
                decoder=state.machine.decoder,
                decoder_data=job.policy.decoder_data,
                table=job.table,
                raised=job.program.raised,
                pairs=job.pairs,
            ),
            resume=0 if parked is None else parked.ticket,
            park_ns=0 if job.policy.exact else _park_ns(state),
        )
    )
    return True


def _hold(worker: Worker, ticket: int, unit: Unit) -> None:
    worker.tenant = whose(unit)
    worker.held[ticket] = unit
    worker.ns += unit.ns


def _let_go(state: State, worker: Worker, ticket: int) -> Unit | None:
    unit = worker.held.pop(ticket, None)
    if unit is None:
        return None
    worker.ns -= unit.ns
    assert worker.ns >= 0, "predictions are taken back once"
    state.stirred = True
    if isinstance(unit, Check):
        del state.checks[ticket]
    elif isinstance(unit, Segment):
        del unit.job.segments[ticket]
    return unit


# --- what workers say ---------------------------------------------------------------------------


def worker_ready(state: State, event: WorkerReady) -> None:
    """A worker may be given work."""
    worker = state.workers[event.worker]
    if not worker.killed:
        worker.ready = True
        worker.sandbox = event.sandbox
        state.stirred = True


def worker_gone(state: State, event: WorkerGone) -> None:
    """What the worker held runs again, elsewhere, but not for ever.

    Where we ended the worker ourselves, over one job, the others are not blamed.
    """
    worker = state.workers[event.worker]
    blame = 0 if worker.killed else 1
    worker.ready = worker.killed = False
    worker.tenant = None
    for ticket in list(worker.held):
        unit = _let_go(state, worker, ticket)
        if isinstance(unit, Check):
            _check_lost(state, unit, blame)
        elif isinstance(unit, Measuring):
            lost(state, unit, blame)
        elif unit is not None:
            _slice_lost(state, unit.job, unit.slice, blame)


def _check_lost(state: State, check: Check, blame: int) -> None:
    check.attempts += blame
    tenant = check.submission.session.tenant
    if check.parked is not None and check.attempts < ATTEMPTS_MAX and not state.stopping:
        tenant.checks.appendleft(check)
        want_turn(state, tenant)
        return
    parked = end_check(state, check)
    if parked is not None:
        give_up_check(state, parked, "the worker was lost")


def _slice_lost(state: State, job: Job, given: Slice, blame: int) -> None:
    attempts = given.attempts + blame
    if job.stop is not None:
        let_go_of(state, given)
        settle(state, job)
    elif attempts >= ATTEMPTS_MAX:
        let_go_of(state, given)
        fail(state, job, WorkerLost(attempts=attempts))
    else:
        _go_on_with(state, job, replace(given, attempts=attempts))


def _go_on_with(state: State, job: Job, given: Slice) -> None:
    """The slice is to be handed out again."""
    job.again.append(given)
    if has_shots(job):
        set_ready(state, job, True)
        want_turn(state, job.tenant)


def program_checked(state: State, event: ProgramChecked) -> None:
    """A worker has verified a graph."""
    row = state.checks.get(event.ticket)
    if row is None:
        _stray(state, event.ticket)
        return
    check, worker = row
    _let_go(state, worker, event.ticket)
    settle_check(state, check, event)


def segment_done(state: State, event: SegmentDone) -> None:
    """A slice was run."""
    segment = _segment(state, event.worker, event.ticket)
    if segment is None:
        return
    job = segment.job
    let_go_of(state, segment.slice)
    if job.stop is not None:
        state.epoch += job.program.summary.epochs
        job.epoch = job.program.summary.epochs
        settle(state, job)
    elif _take_in(state, job, segment.slice, event.report):
        if job.shots_done == job.policy.shots:
            complete(state, job)
        else:
            announce_progress(state, job)


def _take_in(state: State, job: Job, given: Slice, report: SegmentReport) -> bool:
    """Make a slice's results the job's; or fail it, where that may not be."""
    state.epoch += job.program.summary.epochs
    wrong = check_report(job, given, report)
    error = check_job(job) if wrong is None else _internal(state, job, wrong)
    if error is not None:
        fail(state, job, error)
        return False
    merge(job, given, report)
    keep(
        state,
        SliceRow(
            job=job.id,
            first=given.first,
            shots_total=job.policy.shots,
            row_bytes=job.row_bytes,
            report=report,
        ),
    )
    _measure(job, report)
    state.version += 1
    return True


def _segment(state: State, number: int, ticket: int) -> Segment | None:
    unit = state.workers[number].held.get(ticket)
    if not isinstance(unit, Segment):
        _stray(state, ticket)
        return None
    _let_go(state, unit.worker, ticket)
    return unit


def _stray(state: State, ticket: int) -> None:
    """News of something that no worker holds any more: told twice, or too late."""
    state.out.append(Note("stray answer of a worker", {"ticket": ticket}))


def check_report(job: Job, given: Slice, report: SegmentReport) -> str | None:
    """What a report gets wrong about its slice, in words; None where it is sound."""
    if not 0 < report.shots == given.shots:
        return f"{report.shots} shots reported of {given.shots}"
    if len(report.leaves) != LEAF_BYTES * -(-given.shots // SHOT_BLOCK):
        return f"{len(report.leaves)} bytes of leaves for {given.shots} shots"
    data = len(report.leaves) if job.data_total else 0
    if len(report.decoder_leaves) != data:
        return f"{len(report.decoder_leaves)} bytes of leaves of decoder data"
    if report.counts is not None and sum(report.counts.values()) != given.shots:
        return f"counts do not sum to {given.shots} shots"
    if report.decoder is not None and sum(report.decoder.syndrome_weights) != report.decoder.calls:
        return f"syndrome weights do not sum to {report.decoder.calls} calls"
    if job.policy.exact:
        total = sum(report.probabilities.values()) if report.probabilities else 0.0
        if abs(total - 1) > TOTAL_TOLERANCE:
            return f"probabilities sum to {total}"
    return None


def merge(job: Job, given: Slice, report: SegmentReport) -> None:
    """Add a slice's results to the job's; in any order they come to the same."""
    at = given.first // SHOT_BLOCK * LEAF_BYTES
    job.leaves[at : at + len(report.leaves)] = report.leaves
    job.data_leaves[at : at + len(report.decoder_leaves)] = report.decoder_leaves
    job.shots_done += given.shots
    job.cpu_ns += report.cpu_ns
    for what, ns in report.spent.items():
        job.spent[what] = job.spent.get(what, 0) + ns
    job.decoder = decoders_together(job.decoder, report.decoder)
    assert job.shots_done <= job.policy.shots, "no shot is run twice"
    if given.first == 0:
        job.first_row = report.first_row
        job.probabilities = report.probabilities
    if job.counts is None:
        return
    if report.counts is not None:
        counts = job.counts
        for outcome, shots in report.counts.items():
            counts[outcome] = counts.get(outcome, 0) + shots
    keys_max = min(COUNTS_KEYS_MAX, COUNTS_CHARS_MAX // max(1, len(job.program.order)))
    if report.counts is None or len(job.counts) > keys_max:
        job.counts = None
        job.counts_omitted = f"more than {keys_max} outcomes differ; read the packed rows"


def _measure(job: Job, report: SegmentReport) -> None:
    """Learn from a slice long enough that fixed costs do not drown it."""
    if report.shots >= SHOT_BLOCK:
        once = sum(report.spent.get(what, 0) for what in ("read", "compile"))
        measured = max(1, (report.cpu_ns - once) // report.shots)
        before = job.program.ns_per_shot or measured
        job.program.ns_per_shot = (before + measured + 1) // 2


def segment_failed(state: State, event: SegmentFailed) -> None:
    """A slice ended without results."""
    segment = _segment(state, event.worker, event.ticket)
    if segment is None:
        return
    job = segment.job
    if job.stop is not None:
        job.epoch = max(job.epoch, min(event.epoch, job.program.summary.epochs))
    if job.stop is not None or (event.reason == "stopped" and segment.asked):
        _slice_lost(state, job, segment.slice, 0)
        return
    if event.reason == "unfit" and segment.slice.parked is not None:
        state.out.append(Note("a parked slice begins anew", {"why": event.message}))
        let_go_of(state, segment.slice)
        _go_on_with(state, job, replace(segment.slice, parked=None))
        return
    if event.reason == "uncalibrated" and event.point is not None:
        refusal = lack(state, segment, event.point)
        if refusal is None:
            return
        error = _internal(state, job, refusal) if isinstance(refusal, str) else refusal
    else:
        error = _failure(state, job, event)
    let_go_of(state, segment.slice)
    fail(state, job, error)


def segment_parked(state: State, event: SegmentParked) -> None:
    """A slice stands at a fence: some of its shots are done, the rest goes on from there."""
    segment = _segment(state, event.worker, event.ticket)
    if segment is None:
        return
    job, given, report = segment.job, segment.slice, event.report
    if job.stop is not None:
        job.epoch = max(job.epoch, min(event.epoch, job.program.summary.epochs))
        _forget_parked(state, event)
        _slice_lost(state, job, given, 0)
        return
    done = 0 if report is None else report.shots // SHOT_BLOCK * SHOT_BLOCK
    done = min(done, (given.shots - 1) // SHOT_BLOCK * SHOT_BLOCK)  # some is left
    if report is not None:
        if not _take_in(state, job, Slice(given.first, done), report):
            _forget_parked(state, event)
            let_go_of(state, given)
            return
        announce_progress(state, job)
    rest = replace(given, first=given.first + done, shots=given.shots - done)
    parked = given.parked if report is None else None
    if event.size:
        parked = _snapshot(job, rest, event)
        keep(state, parked)
    if parked is not given.parked:
        let_go_of(state, given)
    _go_on_with(state, job, replace(rest, parked=parked))
    if job.place is not None and has_shots(job) and would_give_way(state, job):
        give_way(state, job)


def _snapshot(job: Job, rest: Slice, event: SegmentParked) -> SnapshotRow:
    return SnapshotRow(
        ticket=event.ticket,
        holder=job.id,
        first=rest.first,
        shots=rest.shots,
        epoch=event.epoch,
        size=event.size,
        digest=event.digest,
    )


def _forget_parked(state: State, event: SegmentParked) -> None:
    if event.size:
        state.out.append(DropSnapshots((event.ticket,)))


def calibrated(state: State, event: Calibrated) -> None:
    """A worker has measured a point, or could not."""
    unit = state.workers[event.worker].held.get(event.ticket)
    if not isinstance(unit, Measuring):
        _stray(state, event.ticket)
        return
    _let_go(state, state.workers[event.worker], event.ticket)
    over(state, unit, event.table, event.why)


def _failure(state: State, job: Job, event: SegmentFailed) -> KernelError:
    if event.reason == "refused":
        return NotAvailable(feature="What the job asks for", remedy=f"Why: {event.message}.")
    if event.reason == "memory":
        most = state.machine.worker_bytes
        # Whatever was planned, it was not enough.
        return lacking("bytes of a worker's memory", most, max(job.plan.bytes_peak, most + 1))
    if event.reason == "too_large":
        return lacking(event.message, event.limit, event.asked)
    if event.reason == "results":
        held = sum(each.kept_bytes + each.rows_live for each in state.tenants.values())
        held -= job.total_bytes
        state.out.append(Note("no place for results", {"job_id": job.id, "why": event.message}))
        what = "room for results, in bytes"
        return lacking(what, held, job.total_bytes, held, waiting_helps=True)
    return _internal(state, job, f"{event.reason}: {event.message}")


def _internal(state: State, job: Job, why: str) -> InternalError:
    """What happened goes to the operator's log; the caller gets a reference to it."""
    reference = f"run-{state.number()}"
    state.out.append(Note("segment failed", {"reference": reference, "job_id": job.id, "why": why}))
    return InternalError(reference=reference)
