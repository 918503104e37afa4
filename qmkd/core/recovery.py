"""What the store says: what is durable, that it cannot write, and, once, what there was before.

After a restart every job that is not over waits for its turn again, with the slices that are done;
what ran when the daemon ended runs again and gives the same bits. Where versions have changed, its
slices are not kept but run anew, all of them under the new ones.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from qmkd.core import channels, faults, holding, programs, quotas
from qmkd.core.admission import broker_pairs, check_machine
from qmkd.core.capabilities import lenders
from qmkd.core.checkpoints import drop, enter, known_leaves, size_of
from qmkd.core.delegation import restore
from qmkd.core.effects import Note
from qmkd.core.events import KeepFailed, Kept
from qmkd.core.jobs import (
    cancel,
    enlist,
    fail,
    finish,
    free_key,
    keep_finished,
    open_results,
    trim,
    without_results,
)
from qmkd.core.keeping import let_go, masked, refusal, write_down
from qmkd.core.limits import SLICE_SHOTS_UNMEASURED_MAX, SWEEP_EFFECTS_MAX
from qmkd.core.ports import EXACT, Plan
from qmkd.core.records import (
    EndRow,
    Gone,
    GraphRow,
    JobRow,
    Recovered,
    SessionRow,
    SliceRow,
    SnapshotRow,
)
from qmkd.core.schedule import merge
from qmkd.core.sessions import close, plan_sweep
from qmkd.core.state import Checkpoint, Job, Program, Session, Slice, State, Tenant, TimerKind
from qmkd.core.waiting import announce_attested, answer, set_timer
from qmkd.core.wording import (
    calibration,
    changed_versions,
    context,
    pairs_used,
    time_text,
)
from syscalls.checkpoint import Checkpointed, Replayed, Restored
from syscalls.errors import KernelError
from syscalls.job import ExecutionContext, JobState, Submitted
from syscalls.rights import Right
from syscalls.session import Session as Opened


def kept(state: State, event: Kept) -> None:
    """All up to this number is durable: say what waited for it."""
    assert state.kept <= event.number <= state.keeps, "what is durable was asked for"
    state.kept = event.number
    state.keep_failed = ""
    settle_kept(state)


def settle_kept(state: State) -> None:
    """As many answers and endings as fit a step; the rest in another."""
    pending = state.pending
    while pending and pending[0].number <= state.kept:
        if len(state.out) + len(state.notices) > SWEEP_EFFECTS_MAX:
            set_timer(state, TimerKind.KEPT, state.now_ns)
            return
        first = pending.popleft()
        state.epoch_kept = first.epoch
        for job in first.worked:
            announce_attested(state, job, first)
        if first.job is not None:
            finish(state, first.job)
        if first.parked is not None:
            assert first.parked.body is not None
            answer(state, first.parked, first.parked.body)


def keep_failed(state: State, event: KeepFailed) -> None:
    """Nothing new is taken on until the store can write. Who has just brought something new is
    refused, and what it made is undone, as soon as that too can be written."""
    state.keep_failed = event.what
    state.out.append(Note("records cannot be written", {"why": event.what}))
    busy = refusal(state)
    assert busy is not None
    for pending in list(state.pending):
        parked = pending.parked
        if parked is None:
            continue
        if isinstance(parked.body, Submitted | Replayed | Restored):
            answer(state, parked, busy)
            job = state.jobs[parked.body.job_id]
            job.unwanted = True
            free_key(job)
            cancel(state, job)
        elif isinstance(parked.body, Checkpointed):
            answer(state, parked, busy)
            for tenant in state.tenants.values():
                if made := tenant.checkpoints.get(parked.body.checkpoint_id):
                    drop(state, made)
        elif isinstance(parked.body, Opened):
            answer(state, parked, busy)
            session = state.sessions.get(parked.body.session_id)
            if session is not None:
                close(state, session)


# --- after a restart ----------------------------------------------------------------------------


def recover(state: State, event: Recovered) -> None:
    """Make the state of before. The first event of a kernel that keeps anything."""
    assert state.machine.durable, "who keeps nothing has nothing to recover"
    assert not state.keeps, "the first event"
    assert not state.sessions, "the first event"
    state.epoch = state.epoch_kept = event.epoch
    state.numbered = event.numbered
    state.audited, state.audit_head = event.audited, event.audit_head
    state.cycle = state.horizon = state.began = event.cycle
    for vacancy in state.vacant:
        vacancy.spans = [(state.cycle, vacancy.free)]
    faults.enter(state, event.faults)
    for row in event.sessions:
        _session(state, row)
    for capability in sorted(event.capabilities, key=lambda each: each.number):
        restore(state, capability)
    for row in event.sessions:
        _lend(state, row)
    for handle in sorted(event.handles, key=lambda each: each.number):
        holding.restore(state, handle)
    for channel in sorted(event.channels, key=lambda each: each.number):
        channels.restore(state, channel)
    graphs = {row.digest: row for row in event.graphs}
    ends = {row.job: row for row in event.ends}
    slices: dict[str, list[SliceRow]] = defaultdict(list)
    for each in event.slices:
        slices[each.job].append(each)
    parked: dict[str, list[SnapshotRow]] = defaultdict(list)
    for snapshot in event.snapshots:
        parked[snapshot.holder].append(snapshot)
    made: dict[tuple[str, bytes], Program] = {}
    for one in sorted(event.jobs, key=lambda row: _over_ns(ends.get(row.id))):
        session = state.sessions.get(one.session)
        if session is None:
            let_go(state, Gone(jobs=(one.id,)))
            continue
        program = _program(session.tenant, graphs[one.graph], made)
        _job(state, session, one, program, slices[one.id], parked[one.id], ends.get(one.id))
    for taken in event.checkpoints:
        session = state.sessions.get(taken.job.session)
        if session is None:
            let_go(state, Gone(checkpoints=(taken.id,)))
            continue
        graph = graphs[taken.job.graph]
        program = programs.enlarged(_program(session.tenant, graph, made), taken.job.context.raised)
        job = _made(session, taken.job, program, state.table)
        _stand(job, slices[taken.id], parked[taken.id])
        job.leaves = known_leaves(job)
        enter(Checkpoint(taken, session, job, graph.graph, size_of(job, graph.graph)))
    interrupted = str(state.live)
    for tenant in state.tenants.values():
        trim(state, tenant)
        tenant.lowered = _holds_more(tenant)
    write_down(state, "started", jobs_interrupted=interrupted, **state.machine.versions)
    if state.sessions:
        plan_sweep(state, state.now_ns)
    state.version += 1


def _holds_more(tenant: Tenant) -> bool:
    """Whether its quota was lowered meanwhile: it keeps what it has, as after a reload."""
    quota = tenant.quota
    return (
        tenant.sessions > quota.sessions
        or tenant.live > quota.jobs
        or tenant.logical > quota.logical_qubits
        or tenant.physical > quota.physical_qubits
        or tenant.channels > quota.channels
        or tenant.held_bytes > quota.queued_bytes
        or tenant.rows_live + tenant.kept_bytes > quota.result_bytes
        or len(tenant.checkpoints) > quota.checkpoints
        or tenant.checkpoint_bytes > quota.checkpoint_bytes
    )


def _program(tenant: Tenant, graph: GraphRow, made: dict[tuple[str, bytes], Program]) -> Program:
    """One for all of a tenant's jobs and checkpoints that name it."""
    key = (tenant.rule.name, graph.digest)
    if key not in made:
        made[key] = programs.describe(tenant, graph.graph, graph.summary, list(graph.warnings))
        made[key].digest = graph.digest
    return made[key]


def _over_ns(end: EndRow | None) -> float:
    """Finished jobs come first, in the order in which they ended."""
    return math.inf if end is None else end.completed_ns


def _session(state: State, row: SessionRow) -> None:
    """Open again, with what its tenant may still be granted, unless the tenant is no more."""
    tenant = state.tenants.get(row.tenant)
    if tenant is None:
        let_go(state, Gone(sessions=(row.id,)))
        write_down(state, "session lost", session=masked(row.id), why=f"no tenant {row.tenant}")
        return
    granted = frozenset(Right(name) for name in row.granted) & tenant.rule.grantable
    state.sessions[row.id] = Session(row.id, tenant, granted, state.now_ns)
    tenant.sessions += 1


def _lend(state: State, row: SessionRow) -> None:
    """Give a session back the capabilities that it was opened with and that live."""
    session = state.sessions.get(row.id)
    for name in row.lent:
        capability = state.capabilities.get(name)
        if session and capability and capability.row.tenant == session.tenant.rule.name:
            session.lent[capability] = None
            capability.users[session] = None


def _made(session: Session, row: JobRow, program: Program, table: str) -> Job:
    """A job as it was accepted."""
    context = row.context
    plan = Plan(
        engine=context.engine, why=context.why, width=context.width,
        ns_fixed=0, ns_per_shot=0, bytes_peak=0,
    )  # fmt: skip
    return Job(
        id=row.id,
        number=row.number,
        session=session,
        program=program,
        policy=row.policy,
        seed=row.seed,
        plan=plan,
        context=context,
        digest=row.graph,
        created_ns=row.created_ns,
        created_at=time_text(row.created_ns),
        checked_ns=row.checked_ns,
        table=table,
    )


def _job(
    state: State,
    session: Session,
    row: JobRow,
    program: Program,
    slices: Sequence[SliceRow],
    parked: Sequence[SnapshotRow],
    end: EndRow | None,
) -> None:
    """A job of before: over as it was, or waiting with what is done of it."""
    program = programs.enlarged(program, row.context.raised)
    job = _made(session, row, program, state.table)
    refused = None
    if end is None:
        job.lent = lenders(session, program.summary.rights)
        refused = _take_up(state, job)
        if refused is not None:
            job.lent = ()  # it counts against no share that has no room for it
        if not _same(state, row.context, program) or (slices and job.data_total):
            # Decoder data is not kept, and it has to be that of all shots.
            let_go(state, Gone(results=(job.id,)))
            slices = ()
    if parked and not (end is None and _same(state, row.context, program)):
        let_go(state, Gone(snapshots=tuple(each.ticket for each in parked)))
        parked = ()
    _stand(job, slices, parked)
    job.rows = bool(slices)
    if end is None:
        assert job.shots_done < job.policy.shots, "the last slice and the end are kept together"
        enlist(state, job)
        if refused is not None:
            fail(state, job, refused)
        else:
            state.lapsed.append(job)  # some of what it ran by may have ended meanwhile
    else:
        _over(state, job, end)


def _take_up(state: State, job: Job) -> KernelError | None:
    """Plan a job that was not over; the refusal where it would not be accepted today.

    With other versions of what computes, its bits may be others: it gets another context.
    """
    named = broker_pairs(state, job.session, job.program)
    if isinstance(named, KernelError):
        return named  # what it named is no more, or has other links
    job.handles, job.channels = named
    shots = EXACT if job.policy.exact else job.policy.shots
    noise = job.context.noise.applied
    plan = state.planner(job.program.summary, shots, noise, job.policy.decoder_data)
    if isinstance(plan, KernelError):
        return plan
    refused = _over_share(state, job, plan) or check_machine(state, job.program, plan, job.handles)
    if refused is not None:
        return refused
    if not _same(state, job.context, job.program):
        # What it was given, whatever the machine's noise is by now.
        given = job.context.noise
        job.context = context(job.program, job.policy, plan, job.seed, state, given)
    elif job.context.calibration is not None:
        # Points that were measured since serve others: what this job needs is as it was.
        job.context = calibration(job.context, state.machine, state.table)
    job.plan = msgspec.structs.replace(plan, engine=job.context.engine)
    return None


def _over_share(state: State, job: Job, plan: Plan) -> KernelError | None:
    """Where a right has ended it may run by another capability, which has a share of its own."""
    for account in quotas.accounts_of(job.tenant, job.lent)[1:]:
        refused = quotas.check(account, state.now_ns, job.program.summary, plan, 0)
        if refused is not None:
            return refused
    return None


def _same(state: State, context: ExecutionContext, program: Program) -> bool:
    """Whether what computes is what it was, and pairs are."""
    return not changed_versions(context, state.machine) and context.pairs == pairs_used(program)


def _stand(job: Job, slices: Sequence[SliceRow], parked: Sequence[SnapshotRow]) -> None:
    """What is done and what stood at a fence; what neither covers is still to be run."""
    open_results(job)
    for each in slices:
        merge(job, Slice(each.first, each.report.shots), each.report)
    covered: dict[int, Slice] = {row.first: Slice(row.first, row.report.shots) for row in slices}
    standing = {row.first: Slice(row.first, row.shots, parked=row) for row in parked}
    for start, given in sorted((covered | standing).items()):
        assert start >= job.shots_given, "slices do not overlap"
        for first in range(job.shots_given, start, SLICE_SHOTS_UNMEASURED_MAX):
            job.again.append(Slice(first, min(SLICE_SHOTS_UNMEASURED_MAX, start - first)))
        if given.parked is not None:
            job.again.append(given)
        job.shots_given = start + given.shots


def _over(state: State, job: Job, end: EndRow) -> None:
    job.completed_ns = end.completed_ns
    final = end.status
    if final.state is JobState.COMPLETED and job.rows:
        final = msgspec.structs.replace(final, counts=job.counts, probabilities=job.probabilities)
    elif final.state is JobState.COMPLETED:
        final = without_results(final)
    job.data_total = 0
    job.state, job.final, job.shots_done = final.state, final, final.progress.shots_done
    if final.execution_context is not None:
        job.context = final.execution_context
    keep_finished(state, job)
