"""Who holds the machine: places for jobs, in the order of fairness, for an epoch at a time.

A job holds whole code blocks, a part of the T factories and of the decoder from the cycle in which
it is placed to the one in which it ends or gives way. Time is the machine's, in cycles: what a job
is handed out moves its own clock on, and who comes after it starts where it left. The host's clock
plays no part, nor do workers, who only compute what runs here (docs/machine.md).

Tenants: weighted dominant-resource fairness over time, as in Ghodsi et al., "Multi-Resource Fair
Queueing for Packet Processing", SIGCOMM 2012: who has used least of what it uses most goes first,
and idling earns nothing. Inside a tenant: priority, deadline, age. What fits may overtake what does
not, a bounded number of times; then nothing is placed or prolonged before that has its turn.
Nothing here chooses what a worker computes next; that is `schedule.py`.
"""

from __future__ import annotations

from bisect import bisect, insort

from qmkd.core import quotas
from qmkd.core.limits import BACKFILL_MAX, EPOCH_CYCLES, OVERTAKEN_MAX, PACKED_JOBS_MAX
from qmkd.core.state import Job, Program, State, Tenant
from qvm.blocks import Place, packed, qubits_of
from qvm.cycles import Demand, demand, earliest

QUBITS = "waiting for physical qubits of the machine"
HELD = "waiting for physical qubits that sessions hold"
IN_USE = "waiting for a qubit that another job uses"
UNIT = 1 << 20  # what is served is counted in cycles of the whole machine, times this


def demand_of(state: State, program: Program) -> Demand:
    """What the program takes of this machine while it runs."""
    if program.demand is None:
        program.demand = demand(program.summary, state.hardware)
    return program.demand


def want_place(state: State, job: Job) -> None:
    """A job begins to wait for the machine. A tenant that was idle has earned nothing by it."""
    tenant, need = job.tenant, demand_of(state, job.program)
    busy = [one for one in state.tenants.values() if one.live and one is not tenant]
    if busy and tenant.live <= 1:
        tenant.served = max(tenant.served, min(one.served for one in busy))
        tenant.worker_ns = max(tenant.worker_ns, min(one.worker_ns for one in busy))
    job.since_cycle = state.cycle
    if job.policy.deadline_epochs is not None:
        job.due_cycle = state.cycle + job.policy.deadline_epochs * need.cycles // need.steps
    insort(tenant.queued, (*job.rank, job))
    state.stirred = state.contested = True


# --- room ---------------------------------------------------------------------------------------


def over_quota(job: Job) -> str | None:
    """What it waits for that others of its tenant, or of its capability, have."""
    need = job.program.summary
    for account in job.accounts:
        quota = account.quota
        whose = "tenant's quota" if account is job.tenant else "capability's share"
        if account.logical + need.asked_logical > quota.logical_qubits:
            return f"waiting for logical qubits of the {whose}"
        if account.physical + need.peak_physical > quota.physical_qubits:
            return f"waiting for physical qubits of the {whose}"
    return None


def modules_of(job: Job) -> frozenset[int]:
    """The modules in which it names qubits."""
    return frozenset(handle.block.run.module for handle in job.handles)


def _owed(job: Job, reason: Place | str) -> bool:
    """Whether what it waits for is the machine's to give, not a session's or its tenant's."""
    return reason not in (HELD, IN_USE) and over_quota(job) is None


def room(state: State, job: Job) -> Place | str:
    """Where the job may lie now, or what it waits for."""
    reason = over_quota(job)
    if reason is not None:
        return reason
    if any(handle.user is not None for handle in job.handles):
        return IN_USE
    need = job.program.summary
    wants, hardware = demand_of(state, job.program), state.hardware
    if hardware.t_rate is not None and state.t_rate + wants.t_rate > hardware.t_rate:
        return "waiting for T states of the machine"
    if (
        hardware.decoder_blocks is not None
        and state.blocks + wants.blocks > hardware.decoder_blocks
    ):
        return "waiting for the decoder of the machine"
    if not need.blocks:
        return ()
    found = state.inventory.find(need.blocks, modules_of(job), job.module)
    return found or _no_room(state, job)


def _no_room(state: State, job: Job) -> str:
    """Why it finds no qubits."""
    asked = (job.program.summary.blocks, modules_of(job), job.module)
    return HELD if state.held and state.fixed.find(*asked) is None else QUBITS


def blocked(state: State, job: Job) -> str | None:
    """Why a job that holds nothing may not be placed now, or None if there is room."""
    found = room(state, job)
    return found if isinstance(found, str) else None


def hold(state: State, job: Job, place: Place, not_before: int = 0) -> None:
    """From now on these qubits are the job's, and its clock runs."""
    tenant, need, wants = job.tenant, job.program.summary, demand_of(state, job.program)
    tenant.queued.remove((*job.rank, job))
    insort(tenant.ready, (*job.rank, job))
    quotas.hold_qubits(job)
    state.physical += need.peak_physical
    state.t_rate += wants.t_rate
    state.blocks += wants.blocks
    state.inventory.take(place)
    state.placed[job] = None
    for handle in job.handles:
        handle.user = job
    amounts = zip(state.vacant, _amounts(state, job), strict=True)
    start = max(job.since_cycle, not_before, *(each.take(amount) for each, amount in amounts))
    job.place, job.overtaken = place, 0
    job.waited_cycles += start - job.since_cycle
    job.cycle = job.paid_cycle = start
    _pay(state, job)


def let_place_go(state: State, job: Job) -> None:
    """The job ends, or gives way at its fence: what it held is free from its own clock on."""
    assert job.place is not None
    need, wants = job.program.summary, demand_of(state, job.program)
    quotas.hold_qubits(job, -1)
    state.physical -= need.peak_physical
    state.t_rate -= wants.t_rate
    state.blocks -= wants.blocks
    state.inventory.give(job.place)
    del state.placed[job]
    for handle in job.handles:
        handle.user = None
    job.place = None
    job.since_cycle = job.cycle
    state.cycle = max(state.cycle, job.cycle)
    for vacancy, amount in zip(state.vacant, _amounts(state, job), strict=True):
        vacancy.give(job.cycle, amount)
        if not state.placed:
            vacancy.spans = [(state.cycle, vacancy.free)]
    state.stirred = state.contested = True


def _amounts(state: State, job: Job) -> tuple[int, int, int]:
    """What the job holds of qubits, T states and decoding, where these are limited."""
    wants, hardware = demand_of(state, job.program), state.hardware
    return (
        wants.qubits,
        wants.t_rate if hardware.t_rate else 0,
        wants.blocks if hardware.decoder_blocks else 0,
    )


# --- what tenants are served --------------------------------------------------------------------


def dominant(state: State, job: Job) -> int:
    """The largest part that the job takes of anything the machine has, in UNITs."""
    hardware = state.hardware
    limits = (state.inventory.total, hardware.t_rate or 1, hardware.decoder_blocks or 1)
    parts = zip(_amounts(state, job), limits, strict=True)
    return max(1, *(amount * UNIT // limit for amount, limit in parts))


def left_cycles(state: State, job: Job) -> int:
    """What the job has yet to be handed out."""
    return (job.policy.shots - job.shots_given) * demand_of(state, job.program).cycles


def _pay(state: State, job: Job) -> None:
    """For an epoch, or for what is left."""
    ahead = min(EPOCH_CYCLES, left_cycles(state, job))
    job.tenant.served += ahead * dominant(state, job) // job.tenant.rule.weight
    job.paid_cycle = job.cycle + ahead


def spend(state: State, job: Job, shots: int) -> None:
    """Shots are handed out for the first time: the job's clock moves on."""
    advance(state, job, shots * demand_of(state, job.program).cycles)


def advance(state: State, job: Job, cycles: int) -> None:
    """The job's clock moves on, with all that it holds."""
    job.cycle += cycles
    job.held_cycles += cycles
    state.used += cycles * demand_of(state, job.program).qubits
    state.horizon = max(state.horizon, job.cycle)
    if job.cycle > job.paid_cycle:
        more = job.cycle - job.paid_cycle
        job.tenant.served += more * dominant(state, job) // job.tenant.rule.weight
        job.paid_cycle = job.cycle


# --- who goes next ------------------------------------------------------------------------------


def _fairest(state: State) -> list[Tenant]:
    return sorted((one for one in state.tenants.values() if one.queued), key=lambda one: one.served)


def give_places(state: State) -> list[Job]:
    """Place whoever may be placed now, fairest first. Returns the jobs placed."""
    placed: list[Job] = []
    while state.contested:
        state.contested = _place_next(state, placed)
    state.crowded = any(tenant.queued for tenant in state.tenants.values())
    return placed


def _place_next(state: State, placed: list[Job]) -> bool:
    """Place one job, if any may be; those that it overtakes remember."""
    passed: list[Job] = []
    free = sum(state.inventory.free)
    for tenant in _fairest(state):
        head = tenant.queued[0][-1]
        for _, _, _, job in tenant.queued[:BACKFILL_MAX]:
            if demand_of(state, job.program).qubits > free:
                place: Place | str = _no_room(state, job)
            else:
                place = room(state, job)
            if not passed and job is head and place == QUBITS and _make_room(state, job):
                placed.append(job)
                return True
            if not isinstance(place, str):
                for one in {*passed} - {job}:
                    one.overtaken += 1
                hold(state, job, place)
                placed.append(job)
                return True
            if job is head and _owed(job, place):
                passed.append(job)
            if head in passed and head.overtaken >= OVERTAKEN_MAX:
                return False
    return False


def _make_room(state: State, job: Job) -> bool:
    """Place a job by moving others, where enough is free but lies apart."""
    free = sum(state.inventory.free)
    if qubits_of(job.program.summary.blocks) > free or len(state.placed) >= PACKED_JOBS_MAX:
        return False
    there, inventory = list(state.placed), state.fixed.copy()
    if any(one.module is not None for one in (*there, job)):
        return False  # who was moved on purpose stays where it is
    asked = [(one.program.summary.blocks, modules_of(one)) for one in (*there, job)]
    places = packed(inventory, asked)
    if places is None:
        return False
    inventory.give(places[-1])  # `hold` takes it
    state.inventory = inventory
    fence = 0
    for one, place in zip(there, places, strict=False):
        if place != one.place:
            one.place = place
            one.moves += 1
            fence = max(fence, one.cycle)  # it moves at the fence after what it was handed out
    hold(state, job, places[-1], fence)
    return True


def goes_on(state: State, job: Job) -> bool:
    """Whether a job at its fence keeps its place; otherwise it has given way to another's."""
    if job.cycle < job.paid_cycle or job.shots_given == job.policy.shots:
        return True
    if state.crowded:
        for tenant in [*_fairest(state)[:1], *[job.tenant] * bool(job.tenant.queued)]:
            if _yields(state, job, tenant.queued[0][-1]):
                job.tenant.ready.remove((*job.rank, job))
                let_place_go(state, job)
                insort(job.tenant.queued, (*job.rank, job))
                return False
    _pay(state, job)
    return True


def _yields(state: State, job: Job, head: Job) -> bool:
    """Whether the job has to give way: to one of its own tenant that is more urgent, or to a
    tenant that has used less, once that helps or the other was overtaken often enough."""
    mine = head.tenant is job.tenant
    if not (head.rank < job.rank if mine else head.tenant.served < job.tenant.served):
        return False
    reason = blocked(state, head)
    if reason == IN_USE:
        return any(handle.user is job for handle in head.handles)
    if reason in (None, HELD) or (over_quota(head) is not None and not mine):
        return False
    freed = demand_of(state, job.program).qubits + sum(state.inventory.free)
    helps = reason != QUBITS or freed >= demand_of(state, head.program).qubits
    if head.module is not None:
        helps = helps and any(run.module == head.module for run in job.place or ())
    if helps or head.overtaken >= OVERTAKEN_MAX:
        return True
    head.overtaken += 1
    return False


def starved(state: State) -> bool:
    """Whether somebody was overtaken so often that nothing may be taken before it has its turn."""
    return any(each.overtaken >= OVERTAKEN_MAX for each in _passed(state))


def overtake(state: State) -> None:
    """A session takes qubits that jobs wait for."""
    for job in _passed(state):
        job.overtaken += 1


def _passed(state: State) -> list[Job]:
    heads = [tenant.queued[0][-1] for tenant in state.tenants.values() if tenant.queued]
    return [job for job in heads if (reason := blocked(state, job)) and _owed(job, reason)]


# --- what callers are told ----------------------------------------------------------------------


def cycles_to_wait(state: State, job: Job) -> int:
    """Cycles until a waiting job may be placed, if what runs goes on to its end and nobody but its
    own tenant's more urgent jobs comes first; of what the machine has, not of quotas."""
    ahead = job.tenant.queued[: bisect(job.tenant.queued, (*job.rank, job))]
    holds = [(one.cycle + left_cycles(state, one), _amounts(state, one)) for one in state.placed]
    wants = [(_amounts(state, one), left_cycles(state, one)) for *_, one in ahead]
    start = state.cycle
    for kind, vacancy in enumerate(state.vacant):
        ends = [(end, amounts[kind]) for end, amounts in holds]
        asked = [(amounts[kind], cycles) for amounts, cycles in wants]
        start = max(start, earliest(state.cycle, vacancy.free, ends, asked))
    return start - state.cycle
