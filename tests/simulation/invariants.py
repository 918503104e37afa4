"""What is true after every step, as code: `check(state)` looks at everything, in time O(state).

Each counter is held against a walk over the records that it counts, each reference against the
one that leads back, each bound against what it bounds. The simulation calls this after every step,
and so do the tests of the core; the cheap assertions on the way are in the core and always on.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec

from qmkd.core.capabilities import check_job, check_rights
from qmkd.core.checkpoints import size_of, stands_at
from qmkd.core.jobs import JOB_MOVES, has_shots
from qmkd.core.limits import (
    ATTEMPTS_MAX,
    CAPABILITIES_MAX,
    DELEGATIONS_MAX,
    JOBS_RETAINED_MAX,
    OVERTAKEN_MAX,
    PARKED_MAX,
    PEERS_CACHED_MAX,
    POINTS_MEASURED_MAX,
    PROGRAM_BYTES_CACHED_MAX,
    PROGRAMS_CACHED_MAX,
    SEGMENTS_PER_WORKER_MAX,
    SERIAL_JOBS_MAX,
    SESSIONS_EXPIRED_MAX,
    SUBSCRIPTIONS_MAX,
)
from qmkd.core.mapping import (
    blocked,
    demand_of,
    free,
    lies_apart,
    may_lie,
    modules_of,
    pairs_free,
    teleports,
)
from qmkd.core.ports import Quota
from qmkd.core.quotas import MINUTE
from qmkd.core.schedule import whose
from qmkd.core.state import (
    NEVER,
    Account,
    Capability,
    Channel,
    Check,
    Handle,
    Job,
    Measuring,
    Parked,
    Program,
    Session,
    Slice,
    State,
    Tenant,
    TimerKind,
    Worker,
)
from qvm.machine import failed, working
from qvm.places import Pair, pair
from qvm.program import HELD
from syscalls.fault import MODES, DegradedMode
from syscalls.job import FINAL_STATES, JobState
from syscalls.results import SHOT_BLOCK
from syscalls.rights import Right


def check(state: State) -> None:
    """Assert every invariant. Changes nothing."""
    jobs, checks = _live_jobs(state), _live_checks(state)
    for tenant in state.tenants.values():
        _check_tenant(state, tenant, jobs[tenant], checks[tenant])
    tallies: dict[Session, dict[JobState, int]] = defaultdict(dict)
    for job in state.jobs.values():
        _check_job(job)
        tally = tallies[job.session]
        tally[job.state] = tally.get(job.state, 0) + 1
    for session in state.sessions.values():
        _check_session(session, tallies[session])
    _check_capabilities(state)
    _check_handles(state)
    _check_accounts(state)
    _check_machine(state)
    _check_workers(state)
    _check_connections(state)
    _check_timers(state)
    _check_turns(state)
    _check_places(state)
    _check_pending(state)
    _check_points(state)
    _check_resting(state)
    _check_checkpoints(state)
    _check_faults(state)


def _live_jobs(state: State) -> dict[Tenant, list[Job]]:
    found: dict[Tenant, list[Job]] = defaultdict(list)
    for name, job in state.jobs.items():
        assert name == job.id
        if job.state not in FINAL_STATES:
            found[job.tenant].append(job)
    return found


def _live_checks(state: State) -> dict[Tenant, list[Check]]:
    found: dict[Tenant, list[Check]] = defaultdict(list)
    for check, _ in state.checks.values():
        found[check.submission.session.tenant].append(check)
    for tenant in state.tenants.values():
        found[tenant].extend(tenant.checks)
    return found


# --- tenants ------------------------------------------------------------------------------------


def _check_tenant(state: State, tenant: Tenant, live: list[Job], checks: list[Check]) -> None:
    quota = tenant.quota
    sessions = [one for one in state.sessions.values() if one.tenant is tenant]
    uses = Counter(job.program for job in live)
    assert tenant.sessions == len(sessions)
    assert tenant.checking == len(checks) == len(set(checks))
    assert tenant.rows_live == sum(job.total_bytes for job in live)
    assert tenant.kept_bytes == sum(job.result_bytes for job in tenant.finished)
    graphs = sum(len(program.graph) for program in uses)
    assert tenant.held_bytes == graphs + sum(len(one.submission.graph) for one in checks)
    if not tenant.lowered:
        assert tenant.sessions <= quota.sessions
        assert tenant.live + tenant.checking <= quota.jobs
        assert tenant.rows_live + tenant.kept_bytes <= quota.result_bytes
        assert tenant.held_bytes <= quota.queued_bytes
    assert len(tenant.finished) <= JOBS_RETAINED_MAX
    assert all(state.jobs[job.id] is job for job in tenant.finished)
    assert len(tenant.expired) <= SESSIONS_EXPIRED_MAX
    assert not any(name in state.sessions for name in tenant.expired)
    left = [job for job in live if has_shots(job) and job.ending is None]
    assert tenant.queued == sorted((*j.rank, j) for j in left if j.place is None)
    assert tenant.ready == sorted((*j.rank, j) for j in left if j.place is not None)
    for key, job in tenant.keys.items():
        assert state.jobs[job.id] is job
        assert job.tenant is tenant
        assert job.session.open
        assert job.policy.idempotency_key == key
    _check_programs(tenant, uses)


def _check_programs(tenant: Tenant, uses: Counter[Program]) -> None:
    for program in {*uses, *tenant.programs.values()}:
        assert program.tenant is tenant
        assert program.graph, "a program in use has its bytes"
        assert program.uses == uses[program]
        assert program.cached == (tenant.programs.get(program.key) is program)
    size = sum(len(program.graph) for program in tenant.programs.values())
    assert tenant.program_bytes == size
    if not all(program.uses for program in tenant.programs.values()):
        assert len(tenant.programs) <= PROGRAMS_CACHED_MAX
        assert size <= PROGRAM_BYTES_CACHED_MAX


# --- sessions and jobs --------------------------------------------------------------------------


def _check_session(session: Session, tally: dict[JobState, int]) -> None:
    """tally: of those of the kernel's jobs that are this session's, each in `session.jobs`."""
    assert session.open
    assert session.granted <= session.tenant.rule.grantable, "authority only shrinks"
    assert len(session.subscriptions) <= SUBSCRIPTIONS_MAX
    if session.subscriptions or session.wide:
        assert session.wide.keys() == {one for one in session.subscriptions if one.job is None}
    assert {each: n for each, n in session.tally.items() if n} == tally
    assert len(session.jobs) == sum(tally.values())


def _check_job(job: Job) -> None:
    assert job.tenant is job.session.tenant
    assert job.session.jobs[job.id] is job
    assert job.session.open or job.final is None, "a closed session keeps no finished job"
    assert job.state in JOB_MOVES
    assert job.state is not JobState.VALIDATING
    assert (job in job.session.live) == (job.state not in FINAL_STATES) == (job.final is None)
    assert len(job.subscriptions) <= SUBSCRIPTIONS_MAX
    if job.state is JobState.QUEUED:
        assert not job.started_ns
        assert not job.segments
        assert job.stop is None
        assert job.rows == bool(job.shots_done), "only what was done before a restart"
        _check_shots(job)
    elif job.state is JobState.RUNNING:
        assert job.started_ns >= job.created_ns
        _check_shots(job)
    else:
        assert job.final is not None
        assert job.final.state is job.state
        assert job in job.tenant.finished
        assert not job.segments
        assert not job.waiting
        assert not job.subscriptions
        assert job.time_limit == job.grace == 0
        assert not job.rows or job.state is JobState.COMPLETED
        assert job.ending is None or job.ending.status.state is job.state
        assert job.state is not JobState.COMPLETED or job.shots_done == job.policy.shots


def _check_shots(job: Job) -> None:
    """Every shot is done, in one worker's hands, to be run again, or not yet handed out."""
    slices = [segment.slice for segment in job.segments.values()] + job.again
    assert all(one.first % SHOT_BLOCK == 0 for one in slices)
    assert job.shots_given <= job.policy.shots
    if job.stop is None and job.ending is None:
        assert job.shots_given == job.shots_done + sum(one.shots for one in slices)
        end = 0
        for one in sorted(slices, key=lambda each: each.first):
            assert end <= one.first, "no shot is in two slices"
            end = one.first + one.shots
        assert end <= job.shots_given
        assert job.counts is None or sum(job.counts.values()) == job.shots_done
    else:
        assert job.segments or job.ending, "a stopped job that nobody holds has ended"
        assert not job.again
    assert not (job.ending and job.segments), "what ends has nothing under way"


# --- capabilities and quotas ---------------------------------------------------------------------


def _check_capabilities(state: State) -> None:
    for name, each in state.capabilities.items():
        row, giver, above = each.row, each.giver, each.parent
        assert name == row.id
        assert each in giver.given
        assert state.sessions[giver.id] is giver, "it ends with the session that it came from"
        source = above.row.rights if above else giver.granted
        assert row.rights <= source, "authority only shrinks"
        assert Right.DELEGATE in source
        assert row.depth == (above.row.depth + 1 if above else 1) <= DELEGATIONS_MAX
        assert not row.expires_ns or row.expires_ns > state.now_ns
        if above:
            assert each in above.children
            assert giver in above.users, "a capability ends with the one that it came from"
            assert not above.row.expires_ns or 0 < row.expires_ns <= above.row.expires_ns
            for amount in msgspec.structs.asdict(row.share):
                if getattr(row.share, amount) is not None:
                    assert getattr(each.quota, amount) <= getattr(above.quota, amount)
        for user in each.users:
            assert each in user.lent
            assert user.tenant.rule.name == row.tenant
    for session in state.sessions.values():
        assert len(session.given) <= CAPABILITIES_MAX
        assert all(state.capabilities[each.row.id] is each for each in session.given)
        assert all(session in each.users for each in session.lent)
    assert state.expiries == sorted(
        (each.row.expires_ns, each.row.number, each)
        for each in state.capabilities.values()
        if each.row.expires_ns
    )
    if state.expiries or state.lapsed:
        due_ns = state.now_ns if state.lapsed else state.expiries[0][0]
        assert state.timers[state.lapse].at_ns <= due_ns


def _check_handles(state: State) -> None:
    """What sessions hold is held once, by one session, and by its right."""
    found: dict[Handle, None] = {}
    for first, block in state.held.items():
        assert block.run.first == first
        assert block.handles, "what nobody holds is given back"
        assert len(block.handles) <= block.profile.block
        assert len({handle.session for handle in block.handles}) == 1, "no block is two sessions'"
        found |= block.handles
    assert {name: handle for handle in found if handle.open for name in [handle.row.id]} == (
        state.handles
    )
    named: dict[Handle, list[Job]] = defaultdict(list)
    for job in state.jobs.values():
        for handle in job.handles if job.final is None else ():
            named[handle].append(job)
    assert named.keys() <= found.keys(), "no job runs where nobody holds"
    for handle in found:
        session = handle.session
        assert handle.open == (handle in session.handles)
        assert handle.open or handle.jobs, "what is closed is kept for those who still use it"
        assert list(handle.jobs) == named[handle]
        assert handle.user == next((job for job in named[handle] if job.place is not None), None)
        assert not handle.open or state.sessions[session.id] is session
        assert not handle.open or check_rights(session, [Right.ALLOC.value], handle.lent) is None
    for session in state.sessions.values():
        assert all(state.handles[handle.row.id] is handle for handle in session.handles)
    _check_channels(state, found)
    for job in state.placed:
        assert all(handle.user is job for handle in job.handles), "one job at a time for each"


def _check_channels(state: State, handles: dict[Handle, None]) -> None:
    """No entanglement crosses sessions but through a channel that both sides brokered."""
    named: dict[Channel, list[Job]] = defaultdict(list)
    for job in state.jobs.values():
        for channel in job.channels if job.final is None else ():
            named[channel].append(job)
    for name, channel in state.channels.items():
        row, session, (near, far) = channel.row, channel.session, channel.ends
        assert channel.open
        assert name == row.id
        assert row.ends == (near.row.id, far.row.id)
        assert all(state.handles[end.row.id] is end for end in channel.ends)
        assert near is not far
        assert near.session is session
        assert (channel.consent is None) == (far.session is session), "both sides consent"
        assert {*channel.lent} <= session.lent.keys()
        if channel.consent is not None:
            assert Right.LINK in channel.consent.row.rights
            assert channel.consent.giver.tenant is far.session.tenant, "it is the far side's own"
        others = [each for each in channel.lent if each is not channel.consent]
        assert check_rights(session, [Right.LINK.value], others) is None, "it may link by itself"
        assert list(channel.jobs) == named[channel]
        modules = near.block.run.module, far.block.run.module
        assert modules in state.hardware.links or len(state.hardware.module) == 1
    for handle in handles:
        assert all(handle in each.ends and each.open for each in handle.channels)
    for job in state.jobs.values():
        ends = {end for channel in job.channels for end in channel.ends}
        for handle in job.handles if job.final is None else ():
            assert handle.session is job.session or handle in ends, "nobody is reached otherwise"


def _check_accounts(state: State) -> None:
    """Every job counts where it should, and nowhere else, and what is lent out is set aside."""
    live: Counter[Account] = Counter()
    logical: Counter[Account] = Counter()
    physical: Counter[Account] = Counter()
    links: Counter[Account] = Counter()
    for job in state.jobs.values():
        if job.final is None:
            assert job.accounts[0] is job.tenant
            assert len({*job.accounts}) == len(job.accounts)
            shares = [each for each in job.accounts if isinstance(each, Capability)]
            assert {*job.lent} <= {*shares}
            assert all(each.parent is None or each.parent in shares for each in shares)
            held_on = job.stop or job.ending or job in state.lapsed
            assert held_on or check_job(job) is None, "a job has its rights"
            need = job.program.summary
            for account in job.accounts:
                live[account] += 1
                if job.place is not None:
                    logical[account] += need.asked_logical
                    physical[account] += need.peak_physical
                    links[account] += need.peak_channels
    for block in state.held.values():
        for account in block.accounts:
            logical[account] += len(block.handles)
            physical[account] += block.run.size
    for channel in state.channels.values():
        links.update(channel.accounts)
    for account in (*state.tenants.values(), *state.capabilities.values()):
        counted = account.live, account.logical, account.physical, account.channels
        assert counted == (live[account], logical[account], physical[account], links[account])
        if not (isinstance(account, Tenant) and account.lowered):
            assert account.live <= account.quota.jobs
            assert account.logical <= account.quota.logical_qubits
            assert account.physical <= account.quota.physical_qubits
        assert account.t_states.rate == account.quota.t_states_per_minute
        assert account.cpu.rate == account.quota.cpu_ms_per_minute
        assert 0 <= account.t_states.at_ns <= state.now_ns
    for tenant in state.tenants.values():
        left = {name: getattr(tenant.rule.quota, name) for name in Quota.__struct_fields__}
        for each in state.capabilities.values():
            if each.parent is None and each.giver.tenant is tenant:
                for name, amount in msgspec.structs.asdict(each.row.share).items():
                    left[name] -= amount or 0
        assert tenant.quota == Quota(**left)
        if tenant.lowered:
            continue
        assert tenant.t_states.level <= tenant.rule.quota.t_states_per_minute * MINUTE
        assert tenant.changes.level <= tenant.rule.quota.changes_per_minute * MINUTE
        assert tenant.cpu.level <= tenant.rule.quota.cpu_ms_per_minute * MINUTE


# --- the machine --------------------------------------------------------------------------------


def _check_machine(state: State) -> None:
    tenants = state.tenants.values()
    assert state.live == sum(tenant.live for tenant in tenants)
    answers = sum(pending.parked is not None for pending in state.pending)
    assert state.parked == answers + sum(tenant.parked for tenant in tenants)
    assert state.physical == sum(tenant.physical for tenant in tenants)
    assert state.physical <= state.machine.physical_qubits
    tally = Counter(job.state for job in state.jobs.values())
    assert {each: n for each, n in state.tally.items() if n} == tally
    assert len(state.peers) <= PEERS_CACHED_MAX
    assert not state.halted or not (state.parked or state.pending)
    durable = state.machine.durable
    assert not state.halted or durable or not state.live
    if state.stopping and not state.draining and not durable:
        live = [job for job in state.jobs.values() if job.final is None]
        assert all(job.stop is not None for job in live), "a shutdown reaches every job"


def _check_workers(state: State) -> None:
    checks = 0
    for worker in state.workers:
        assert not (worker.ready and worker.killed)
        assert not worker.held or worker.ready or worker.killed
        assert len(worker.held) <= SEGMENTS_PER_WORKER_MAX
        assert worker.ns == sum(unit.ns for unit in worker.held.values())
        if state.machine.workers_apart:
            assert {whose(unit) for unit in worker.held.values()} <= {worker.tenant}
        for ticket, unit in worker.held.items():
            assert unit.ticket == ticket
            if isinstance(unit, Check):
                checks += 1
                assert state.checks[ticket] == (unit, worker)
            elif isinstance(unit, Measuring):
                assert state.wanted[unit.point] is unit
                assert unit.worker is worker
                assert len(worker.held) == 1, "a point is measured alone"
            else:
                assert unit.worker is worker
                assert unit.job.segments[ticket] is unit
                assert unit.job.state is JobState.RUNNING
                assert len(worker.held) == 1 or not unit.slice.attempts, "a suspect runs alone"
    assert checks == len(state.checks)
    held = sum(len(worker.held) for worker in state.workers) - checks
    held -= sum(each.worker is not None for each in state.wanted.values())
    assert held == sum(len(job.segments) for job in state.jobs.values())


def _check_connections(state: State) -> None:
    parked: Counter[Tenant] = Counter()
    waiting: Counter[Job] = Counter()
    subscriptions: Counter[Session] = Counter()
    for number, connection in state.connections.items():
        assert connection.parked or connection.subscriptions
        for call, one in connection.parked.items():
            assert (one.origin.conn, one.origin.call) == (number, call)
            causes = (one.job, one.check, one.body, one.load)
            assert sum(cause is not None for cause in causes) == 1
            assert (one.body is None) == (one.pending is None) == (one.tenant is not None)
            if one.tenant is not None:
                parked[one.tenant] += 1
            if one.pending is not None:
                assert one.pending.parked is one
                assert one.pending in state.pending
            assert bool(one.timer) == bool(one.timeout_ms), "a bounded wait has a timer"
            assert not one.timer or one.timer in state.timers
            if one.job is not None:
                waiting[one.job] += 1
                assert one in one.job.waiting
                assert one.tenant is one.job.tenant
                assert not one.cancels or one.job.stop is not None or one.job.ending is not None
            assert one.wish is None or (one.job is not None and not one.cancels)
            if one.check is not None:
                assert one.check.parked is one
                assert one.check.submission.session.open
        for each in connection.subscriptions:
            subscriptions[each.session] += 1
            assert each.conn == number
            assert each in each.session.subscriptions
            assert each.job is None or each in each.job.subscriptions
    for tenant in state.tenants.values():
        assert tenant.parked == parked[tenant] <= PARKED_MAX
    for job in state.jobs.values():
        assert len(job.waiting) == waiting[job]
    for session in state.sessions.values():
        assert len(session.subscriptions) == subscriptions[session]
    assert all(session.open for session in subscriptions)


def _check_timers(state: State) -> None:
    for token, timer in state.timers.items():
        about = timer.about
        if timer.kind is TimerKind.SWEEP:
            assert state.sweep == token
        elif timer.kind is TimerKind.WAIT:
            assert isinstance(about, Parked)
            assert about.timer == token
            assert state.connections[about.origin.conn].parked[about.origin.call] is about
        elif timer.kind is TimerKind.LAPSE:
            assert state.lapse == token
        elif timer.kind is TimerKind.MEASURED:
            assert isinstance(about, Measuring)
            assert about.timer == token
            assert about.worker is not None
            assert state.wanted[about.point] is about
        elif timer.kind not in (TimerKind.DRAIN, TimerKind.KEPT):
            assert isinstance(about, Job)
            assert token == (about.time_limit if timer.kind is TimerKind.LIMIT else about.grace)
            assert about.state is JobState.RUNNING
    drains = sum(timer.kind is TimerKind.DRAIN for timer in state.timers.values())
    assert drains == bool(state.draining), "a shutdown goes on until it has reached everybody"
    assert not state.sweep or state.sweep in state.timers
    assert state.sweep or not state.sessions, "sessions do not stay for ever"
    for job in state.jobs.values():
        if job.state is JobState.RUNNING:
            limited = job.policy.timeout_ms is not None
            over = job.stop is not None or job.ending is not None
            assert not limited or job.time_limit in state.timers or over
            assert job.stop is None or job.grace in state.timers or _ending(job)


def _ending(job: Job) -> bool:
    """Whether its grace is over and all who still hold a part of it are being ended."""
    return not job.grace and all(segment.worker.killed for segment in job.segments.values())


def _check_turns(state: State) -> None:
    assert len(state.turns) == len(set(state.turns))
    for tenant in state.tenants.values():
        assert tenant.in_turns == (tenant in state.turns)
        waits = bool(tenant.checks or tenant.ready)
        assert tenant.in_turns or not waits, "whoever has work gets turns"
    apart = state.machine.workers_apart and not all(worker.ready for worker in state.workers)
    if not (state.stopping or state.lapsed or apart) and any(map(_idle, state.workers)):
        assert not any(_could_run(state, tenant) for tenant in state.turns), "no worker is idle"
        assert not state.wanted or any(each.worker for each in state.wanted.values())


def _idle(worker: Worker) -> bool:
    return worker.ready and not worker.held


def _could_run(state: State, tenant: Tenant) -> bool:
    return bool(tenant.ready) or any(check.parked is not None for check in tenant.checks)


def _check_places(state: State) -> None:
    """No physical qubit is two jobs', or a factory's; nothing is left that somebody waits for."""
    inventory, end = state.inventory, 0
    held = [block.run for block in state.held.values()]
    every = [run for job in state.placed for run in job.place or ()] + held
    for number, (module, spare) in enumerate(
        zip(state.hardware.module, state.hardware.spare, strict=True)
    ):
        apart = inventory.closed.get(number, []) + inventory.holes[number]
        holes = [(first, first + size) for first, size in apart]
        runs = [run for run in every if run.module == number]
        outside = spare - sum(run.qubits for run in held if run.module == number)
        closed = number in inventory.closed
        assert state.fixed.free[number] == (0 if closed else outside)
        end += module.qubits
        at = end - spare
        for first, after in sorted(holes + [(run.first, run.first + run.qubits) for run in runs]):
            assert first == at, (
                "every qubit that no factory has is free, one job's or one session's"
            )
            at = after
        assert at == end
        assert inventory.free[number] == (0 if closed else spare - sum(run.qubits for run in runs))
    assert set(state.placed) == {job for job in state.jobs.values() if job.place is not None}
    wants = [demand_of(state, job) for job in state.placed]
    assert state.t_rate == sum(each.t_rate for each in wants) <= (state.working.t_rate or 0)
    assert state.blocks == sum(each.blocks for each in wants)
    assert state.working.decoder_blocks is None or state.blocks <= state.working.decoder_blocks
    assert tuple(each.free for each in state.vacant) == free(state)
    linked, spare_pairs = Counter[Pair](), pairs_free(state)
    for job in state.placed:
        for ends, rate in job.links:
            linked[ends] += rate
    for ends, taken in state.linked.items():
        assert taken == linked[ends]
        link = state.working.links.get(ends)
        assert taken <= (0 if link is None else link.rate), "links make no more than they do"
        assert state.links[ends].free == spare_pairs.get(ends, 0)
    offered = inventory.total * (state.horizon - state.began)
    assert state.used <= offered, "no qubit works twice in a cycle"
    for job in state.placed:
        assert job.final is None
        assert job.cycle <= job.paid_cycle
        for kind, blocks in enumerate(job.program.summary.blocks):
            mine = [run for run in job.place or () if run.kind == kind]
            assert sum(run.number for run in mine) == blocks.number
            assert all(run.size == blocks.physical for run in mine), "blocks stay whole"
        modules = {run.module for run in job.place or ()} | modules_of(job)
        assert lies_apart(job) or inventory.joined(modules), "it lies in linked modules, or in one"
        _check_apart(state, job)
    for job in state.jobs.values():
        assert job.overtaken <= OVERTAKEN_MAX, "nobody is passed for ever"
        assert job.waited_cycles >= 0, "nobody starts before it came"
        assert job.waited_cycles + job.held_cycles <= max(job.cycle, job.since_cycle)
        assert (job.demand is None) == (job.place is None)
        if job.module is not None and job.place is not None:
            assert {run.module for run in job.place} <= {job.module}, "who was moved stays"
    heads = [tenant.queued[0][-1] for tenant in state.tenants.values() if tenant.queued]
    if not state.stopping and not state.contested:
        assert state.crowded == bool(heads)
        starved = any(head.overtaken >= OVERTAKEN_MAX for head in heads)
        assert starved or all(blocked(state, head) for head in heads), "no room is left unused"


def _check_apart(state: State, job: Job) -> None:
    """Blocks of a group lie in one module, and pairs cross links as good as was settled."""
    made = job.program.brokered
    if made is None or not made.groups:
        assert not job.links
        return
    held = [handle.block.run.module for handle in job.handles]
    lies = {
        kind: [run.module for run in job.place or () for _ in range(run.number) if run.kind == kind]
        for kind in range(len(job.program.summary.blocks))
    } | {HELD: held}
    modules: list[set[int]] = [set() for _ in made.groups]
    for kind, first, number, group in made.spans:
        modules[group].update(lies[kind][first : first + number])
    assert all(len(each) == 1 for each in modules), "a group lies in one module"
    between = [pair(*(min(modules[group]) for group in each.groups)) for each in made.crossings]
    assert [ends for ends, _ in job.links] == between
    for crossing, ends in zip(made.crossings, between, strict=True):
        assert crossing.link.served_by(state.hardware.links[ends]), "a link no worse than settled"
    assert [rate for _, rate in job.links] == [each.rate for each in demand_of(state, job).links]


def _check_pending(state: State) -> None:
    assert not any((state.unkept, state.gone, state.unsaid)), "a step leaves nothing behind"
    assert state.machine.durable or not (state.keeps or state.pending)
    numbers = [pending.number for pending in state.pending]
    assert numbers == sorted(numbers)
    assert not numbers or numbers[-1] <= state.keeps
    told = [timer for timer in state.timers.values() if timer.kind is TimerKind.KEPT]
    assert not numbers or numbers[0] > state.kept or told, "what is durable is told"
    ending = {pending.job for pending in state.pending if pending.job is not None}
    unsaid = {job for job in state.jobs.values() if job.ending and job.final is None}
    assert ending == unsaid, "a job that ends waits for that to be durable"
    assert state.epoch_kept <= state.epoch


# --- checkpoints and what stands at a fence ------------------------------------------------------


def _check_resting(state: State) -> None:
    for job in state.resting:
        over = job.stop is not None or job.ending is not None
        assert over or job.segments, "what is at rest is done with at once"
        assert over or any(parked.wish for parked in job.waiting)
        assert all(segment.asked for segment in job.segments.values())
    for job in state.jobs.values():
        assert job.resting == (job in state.resting)


def _check_checkpoints(state: State) -> None:
    held: list[tuple[str, Slice]] = []
    for job in state.jobs.values():
        assert job.final is None or not job.again, "who is over goes on from nothing"
        slices = [*job.again, *(segment.slice for segment in job.segments.values())]
        held += [(job.id, given) for given in slices]
    for tenant in state.tenants.values():
        mine = tenant.checkpoints.values()
        assert tenant.checkpoint_bytes == sum(made.size for made in mine)
        if not tenant.lowered:
            assert len(mine) <= tenant.rule.quota.checkpoints
            assert tenant.checkpoint_bytes <= tenant.rule.quota.checkpoint_bytes
        for name, made in tenant.checkpoints.items():
            assert name == made.row.id
            assert made.session.tenant is tenant
            assert made.session.open, "a checkpoint ends with its session"
            assert made.size == size_of(made.job, made.graph)
            assert made.row.epoch == stands_at(made.job)
            assert made.graph, "what is to go on has its program"
            _check_shots(made.job)
            held += [(name, given) for given in made.job.again]
    rows = [(holder, given, given.parked) for holder, given in held if given.parked is not None]
    for holder, given, row in rows:
        assert row.holder == holder, "each has snapshots of its own"
        assert (row.first, row.shots) == (given.first, given.shots)
        assert row.size
    assert len({row.ticket for _, _, row in rows}) == len(rows)


# --- what has failed ------------------------------------------------------------------------------


def _check_faults(state: State) -> None:
    """What is in force is what is to be in this cycle of the machine, and is acted upon."""
    now = state.horizon
    for name, fault in state.faults.items():
        end = NEVER if fault.to_cycle is None else fault.to_cycle
        assert now < end, "what is over is forgotten"
        assert (fault.from_cycle <= now) == (name in state.wrong)
        assert now < fault.from_cycle or now < state.change <= end
        assert now >= fault.from_cycle or state.change <= fault.from_cycle
    for job in state.placed:
        assert may_lie(state, job, job.place or ()), "no job lies on what has failed"
    assert state.wrong.keys() <= state.faults.keys()
    assert state.faults or state.change == NEVER
    faults = state.wrong.values()
    assert state.inventory.closed.keys() == failed(state.hardware, faults)
    left = working(state.hardware, faults) if faults else state.hardware
    assert state.working == left
    assert state.inventory.neighbours == state.working.neighbours
    assert state.modes == {mode for each in faults for mode in MODES[each.kind]}
    together = sum(teleports(job) for job in state.placed)
    assert DegradedMode.SERIALISE not in state.modes or together <= SERIAL_JOBS_MAX
    for job in state.jobs.values():
        assert job.concerned.keys() <= state.wrong.keys(), "what is over concerns nobody"


# --- points -------------------------------------------------------------------------------------


def _check_points(state: State) -> None:
    """A job that lacks a point waits for it, and a point that somebody waits for is measured."""
    assert sum(each.worker is not None for each in state.wanted.values()) <= 1, "one at a time"
    known = len(state.measured) + len(state.unmeasurable) + len(state.wanted)
    assert known <= POINTS_MEASURED_MAX
    assert not state.measured & state.unmeasurable.keys()
    for point, measuring in state.wanted.items():
        assert measuring.point == point
        assert measuring.jobs or measuring.worker is not None
        assert point not in state.measured
        assert point not in state.unmeasurable
        assert measuring.attempts < ATTEMPTS_MAX
        held = measuring.worker is not None
        assert bool(measuring.timer) == (held and not measuring.late)
        for job in measuring.jobs:
            assert job.lacks == point
    for job in state.jobs.values():
        if job.lacks is not None:
            assert job in state.wanted[job.lacks].jobs
            assert job.state is JobState.RUNNING
            assert job.stop is None
            assert not job.shots_done
            assert not has_shots(job)
