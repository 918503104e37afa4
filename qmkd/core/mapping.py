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
from collections.abc import Mapping

from qmkd.core import quotas
from qmkd.core.limits import (
    BACKFILL_MAX,
    EPOCH_CYCLES,
    OVERTAKEN_MAX,
    PACKED_JOBS_MAX,
    SERIAL_JOBS_MAX,
    WAITING_MAX,
)
from qmkd.core.state import NEVER, Account, Job, Session, State, Tenant
from qvm.blocks import Inventory, Place, qubits_of
from qvm.cycles import Demand, demand, earliest
from qvm.machine import Hardware
from qvm.places import Pair, crossed, find_apart
from syscalls.fault import DegradedMode

QUOTA = "waiting for what others of its tenant have"
QUBITS = "waiting for physical qubits of the machine"
HELD = "waiting for physical qubits that sessions hold"
IN_USE = "waiting for a qubit that another job uses"
LINKS = "waiting for its turn at the links"
PAIRS = "waiting for Bell pairs of the links"
TELEPORTS = frozenset({"TELEPORT_CNOT", "USE_CHAN"})
UNIT = 1 << 20  # what is served is counted in cycles of the whole machine, times this


class Lost(str):
    """What a job waits for that has failed: nobody can make room."""


def demand_of(state: State, job: Job) -> Demand:
    """What the job takes of this machine while it runs; as long as it waits, what it would take of
    what works now."""
    return job.demand or _demand_now(state, job)


def _demand_now(state: State, job: Job) -> Demand:
    program = job.program
    if program.demand is None or program.demand_of is not state.working:
        program.demand = _demand_on(job, state.working, _slowest(state))
        program.demand_of = state.working
    return program.demand


def _demand_on(job: Job, hardware: Hardware, slower: float) -> Demand:
    """slower: how many times as long as described links take for a pair."""
    brokered = job.program.brokered
    loads = () if brokered is None else brokered.loads
    loads = tuple(each._replace(cycles=each.cycles * slower) for each in loads)
    return demand(job.program.summary, hardware, loads)


def is_slowed(state: State, job: Job) -> bool:
    """Whether its shots take longer than if all of the machine worked."""
    return bool(state.wrong) and (
        demand_of(state, job).cycles > _demand_on(job, state.hardware, 1.0).cycles
    )


def _slowest(state: State) -> float:
    """How many times as long as described a link takes for a pair, at the most."""
    links = state.hardware.links
    times = (link.cycles / links[ends].cycles for ends, link in state.working.links.items())
    return max(times, default=1.0)


def want_place(state: State, job: Job) -> None:
    """A job begins to wait for the machine. A tenant that was idle has earned nothing by it."""
    tenant, need = job.tenant, demand_of(state, job)
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


def over_quota(job: Job, without: Job | None = None) -> tuple[Account, int] | None:
    """Where others of its tenant, or of its capability, have what it waits for; the second says
    what, in the order of `held_by`. without: a job that might give its place to it."""
    need = job.program.summary
    for account in job.accounts:
        quota = account.quota
        back = without.program.summary if without and account in without.accounts else None
        logical, physical, channels = (
            (back.asked_logical, back.peak_physical, back.peak_channels) if back else (0, 0, 0)
        )
        if account.logical - logical + need.asked_logical > quota.logical_qubits:
            return account, 0
        if account.physical - physical + need.peak_physical > quota.physical_qubits:
            return account, 1
        if account.channels - channels + need.peak_channels > quota.channels:
            return account, 2
    return None


def held_by(state: State, account: Account, session: Session | None = None) -> tuple[int, int, int]:
    """Logical qubits, physical ones, channels that sessions hold against a quota; or one does."""
    blocks = [
        each
        for each in state.held.values()
        if account in each.accounts and session in (None, next(iter(each.handles)).session)
    ]
    channels = [
        each
        for each in state.channels.values()
        if account in each.accounts and session in (None, each.session)
    ]
    qubits = sum(len(each.handles) for each in blocks)
    return qubits, sum(each.run.size for each in blocks), len(channels)


def modules_of(job: Job) -> frozenset[int]:
    """The modules in which it names qubits."""
    return frozenset(handle.block.run.module for handle in job.handles)


def _owed(job: Job, reason: Place | str) -> bool:
    """Whether what it waits for is the machine's to give, not a session's or its tenant's, and not
    what has failed."""
    given = reason not in (HELD, IN_USE) and not isinstance(reason, Lost)
    return given and over_quota(job) is None


def room(state: State, job: Job) -> Place | str:
    """Where the job may lie now, or what it waits for."""
    if over_quota(job) is not None:
        return QUOTA
    if any(handle.user is not None for handle in job.handles):
        return IN_USE
    need = job.program.summary
    _, t_states, decoding = _amounts(state, job)
    _, t_free, decoding_free = free(state)
    if need.t_states and state.working.t_rate == 0:
        return Lost("waiting for T factories, all of which are lost")
    if not may_lie(state, job, ()):
        return _lost(state)
    if t_states > t_free:
        return "waiting for T states of the machine"
    if decoding > decoding_free:
        return "waiting for the decoder of the machine"
    serial = DegradedMode.SERIALISE in state.modes and teleports(job)
    if serial and sum(teleports(one) for one in state.placed) >= SERIAL_JOBS_MAX:
        return LINKS
    found = _find(state, state.inventory, job, pairs_free(state))
    return _no_room(state, job) if found is None else found


def _find(state: State, inventory: Inventory, job: Job, spare: Mapping[Pair, int]) -> Place | None:
    """Room for its blocks, with its pairs. spare: that links still make."""
    need, brokered = job.program.summary.blocks, job.program.brokered
    if brokered is not None and brokered.groups:
        held = [handle.block.run.module for handle in job.handles]
        rates = demand_of(state, job).links
        return find_apart(inventory, need, brokered, held, state.hardware.links, spare, rates)
    return inventory.find(need, modules_of(job), job.module) if need else ()


def _no_room(state: State, job: Job) -> str:
    """Why it finds no qubits, or no pairs."""
    whole = {ends: link.rate for ends, link in state.working.links.items()}
    if lies_apart(job) and _find(state, state.inventory, job, whole) is not None:
        return PAIRS
    weak = bool(state.inventory.closed) or DegradedMode.SERIALISE in state.modes
    if not (state.held or weak) or _find(state, state.fixed, job, whole) is not None:
        return QUBITS
    return _lost(state) if weak else HELD


def _lost(state: State) -> Lost:
    names = [state.hardware.module[each].name for each in state.inventory.closed] or ["links"]
    return Lost(f"waiting for what has failed: {', '.join(names)}")


def may_lie(state: State, job: Job, place: Place) -> bool:
    """Whether the job may run there, and beside the qubits that it names."""
    modules = {run.module for run in place} | modules_of(job)
    if not modules.isdisjoint(state.inventory.closed):
        return False
    if lies_apart(job):
        return all(ends in state.working.links for ends, _ in job.links)
    return state.inventory.joined(modules)


def lies_apart(job: Job) -> bool:
    """Whether its pairs say which of its blocks lie in one module."""
    return job.program.brokered is not None and bool(job.program.brokered.groups)


def teleports(job: Job) -> bool:
    """Whether it may use Bell pairs."""
    return not TELEPORTS.isdisjoint(job.program.summary.ops)


def blocked(state: State, job: Job) -> str | None:
    """Why a job that holds nothing may not be placed now, or None if there is room."""
    found = room(state, job)
    return found if isinstance(found, str) else None


def held_up(state: State, job: Job) -> bool:
    """Whether it waits for what sessions hold: it could not be placed if it were the only job."""
    if job.place is not None:
        return False
    need = job.program.summary
    for account in job.accounts:
        quota, (logical, physical, channels) = account.quota, held_by(state, account)
        if (
            logical + need.asked_logical > quota.logical_qubits
            or physical + need.peak_physical > quota.physical_qubits
            or channels + need.peak_channels > quota.channels
        ):
            return True
    return blocked(state, job) == HELD


def hold(state: State, job: Job, place: Place, not_before: int = 0) -> None:
    """From now on these qubits are the job's, and its clock runs."""
    tenant, need = job.tenant, job.program.summary
    job.demand = wants = demand_of(state, job)
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
    if job.program.brokered is not None:
        held = [handle.block.run.module for handle in job.handles]
        between = crossed(job.program.brokered, place, held)
        job.links = tuple(zip(between, (each.rate for each in wants.links), strict=True))
    for ends, rate in job.links:
        state.linked[ends] += rate
    opened = (state.opened.get(run.module, 0) for run in place)
    start = max(job.since_cycle, not_before, settle_vacancies(state, 0), *opened)
    job.place, job.overtaken = place, 0
    job.waited_cycles += start - job.since_cycle
    job.cycle = job.paid_cycle = start
    _pay(state, job)


def let_place_go(state: State, job: Job) -> None:
    """The job ends, or gives way at its fence: what it held is free from its own clock on."""
    assert job.place is not None
    need, wants = job.program.summary, demand_of(state, job)
    quotas.hold_qubits(job, -1)
    state.physical -= need.peak_physical
    state.t_rate -= wants.t_rate
    state.blocks -= wants.blocks
    state.inventory.give(job.place)
    del state.placed[job]
    for handle in job.handles:
        handle.user = None
    for ends, rate in job.links:
        state.linked[ends] -= rate
    job.links = ()
    job.place = job.demand = None
    job.since_cycle = job.cycle
    state.cycle = max(state.cycle, job.cycle)
    settle_vacancies(state, job.cycle)
    state.stirred = state.contested = True


def refit(state: State, lost: frozenset[int], cycle: int) -> None:
    """From this cycle on there is what `state.working` says, without the modules `lost`."""
    for inventory in (state.inventory, state.fixed):
        inventory.neighbours = state.working.neighbours
        for module in lost - inventory.closed.keys():
            inventory.close(module)
        for module in inventory.closed.keys() - lost:
            inventory.open(module)
            state.opened[module] = cycle
    settle_vacancies(state, cycle)


def fits_better(state: State, job: Job) -> bool:
    """Whether a placed job would be faster if it were placed now."""
    return _demand_now(state, job).cycles < demand_of(state, job).cycles


def give_way(state: State, job: Job) -> None:
    """A placed job waits for another place, if it has shots to hand out."""
    entry = (*job.rank, job)
    goes_on = entry in job.tenant.ready
    if goes_on:
        job.tenant.ready.remove(entry)
    let_place_go(state, job)
    if goes_on:
        insort(job.tenant.queued, entry)


def _amounts(state: State, job: Job) -> tuple[int, int, int]:
    """What the job holds of qubits, T states and decoding, where these are limited."""
    wants, hardware = demand_of(state, job), state.hardware
    return (
        wants.qubits,
        wants.t_rate if hardware.t_rate else 0,
        wants.blocks if hardware.decoder_blocks else 0,
    )


def free(state: State) -> tuple[int, int, int]:
    """What nobody holds of what works, in the same order."""
    t_rate, blocks = state.working.t_rate or 0, state.working.decoder_blocks or 0
    return (
        sum(state.inventory.free),
        max(0, t_rate - state.t_rate),
        max(0, blocks - state.blocks),
    )


def pairs_free(state: State) -> dict[Pair, int]:
    """What links that work make and nobody takes, in pairs per million cycles."""
    links = state.working.links
    return {
        ends: max(0, links[ends].rate - taken)
        for ends, taken in state.linked.items()
        if ends in links
    }


def overdrawn(state: State, job: Job) -> bool:
    """Whether it takes of a link that does not make as much any more as jobs take."""
    links = state.working.links
    return any(ends in links and links[ends].rate < state.linked[ends] for ends, _ in job.links)


def settle_vacancies(state: State, cycle: int) -> int:
    """Let vacancies be what is free, from `cycle` on where that is more. Returns the cycle since
    which all that is taken of them was free."""
    since = 0
    pairs = pairs_free(state)
    vacant = [*zip(state.vacant, free(state), strict=True)]
    vacant += [(vacancy, pairs.get(ends, 0)) for ends, vacancy in state.links.items()]
    for vacancy, amount in vacant:
        more = amount - vacancy.free
        vacancy.give(cycle, max(0, more))
        since = max(since, vacancy.take(max(0, -more)))
        if not state.placed:
            vacancy.spans = [(max(state.cycle, cycle), amount)]
    return since


# --- what tenants are served --------------------------------------------------------------------


def dominant(state: State, job: Job) -> int:
    """The largest part that the job takes of anything the machine has, in UNITs."""
    parts = [*zip(_amounts(state, job), state.limits, strict=True)]
    parts += [(rate, state.hardware.links[ends].rate) for ends, rate in job.links]
    return max(1, *(amount * UNIT // max(1, limit) for amount, limit in parts))


def left_cycles(state: State, job: Job) -> int:
    """What the job has yet to be handed out."""
    return (job.policy.shots - job.shots_given) * demand_of(state, job).cycles


def _pay(state: State, job: Job) -> None:
    """For an epoch, or for what is left."""
    ahead = min(EPOCH_CYCLES, left_cycles(state, job))
    job.tenant.served += ahead * dominant(state, job) // job.tenant.rule.weight
    job.paid_cycle = job.cycle + ahead


def spend(state: State, job: Job, shots: int) -> None:
    """Shots are handed out for the first time: the job's clock moves on."""
    advance(state, job, shots * demand_of(state, job).cycles)


def advance(state: State, job: Job, cycles: int) -> None:
    """The job's clock moves on, with all that it holds."""
    job.cycle += cycles
    job.held_cycles += cycles
    state.used += cycles * demand_of(state, job).qubits
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
    qubits = sum(state.inventory.free)
    for tenant in _fairest(state):
        head = tenant.queued[0][-1]
        looked = 0
        for _, _, _, job in tenant.queued[:WAITING_MAX]:
            if looked == BACKFILL_MAX:
                break
            if demand_of(state, job).qubits > qubits:
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
            looked += _owed(job, place)
    return False


def _make_room(state: State, job: Job) -> bool:
    """Place a job by moving others, where enough is free but lies apart.

    Who was moved on purpose stays in its module, and who uses links stays where it lies.
    """
    qubits = sum(state.inventory.free)
    if qubits_of(job.program.summary.blocks) > qubits or len(state.placed) >= PACKED_JOBS_MAX:
        return False
    inventory, moving = state.fixed.copy(), [job]
    for one in state.placed:
        if lies_apart(one):
            inventory.take(one.place or ())
        else:
            moving.append(one)
    places: dict[Job, Place] = {}
    for one in sorted(moving, key=_to_pack):
        place = _find(state, inventory, one, pairs_free(state))
        if place is None:
            return False
        inventory.take(place)
        places[one] = place
    own = places.pop(job)
    inventory.give(own)  # `hold` takes it
    state.inventory = inventory
    fence = 0
    for one, place in places.items():
        if place != one.place:
            one.place = place
            one.moves += 1
            fence = max(fence, one.cycle)  # it moves at the fence after what it was handed out
    hold(state, job, own, fence)
    return True


def _to_pack(job: Job) -> tuple[bool, bool, int]:
    """Who may lie in fewer places goes first, then the largest."""
    return not lies_apart(job), job.module is None, -qubits_of(job.program.summary.blocks)


def goes_on(state: State, job: Job) -> bool:
    """Whether a job at its fence keeps its place; otherwise it has given way to another's."""
    if job.cycle < job.paid_cycle or job.shots_given == job.policy.shots:
        return True
    if would_give_way(state, job, counts=True):
        give_way(state, job)
        return False
    _pay(state, job)
    return True


def has_more(job: Job) -> bool:
    """Whether anything of it is in nobody's hands and not done."""
    return bool(job.again) or job.shots_given < job.policy.shots


def would_give_way(state: State, job: Job, *, counts: bool = False) -> bool:
    """Whether a job gives its place to another's at its next fence. counts: it is there now."""
    if not state.crowded or job.cycle < job.paid_cycle:
        return False
    tenants = [*_fairest(state)[:1], *[job.tenant] * bool(job.tenant.queued)]
    return any(_yields(state, job, tenant.queued[0][-1], counts) for tenant in tenants)


def _yields(state: State, job: Job, head: Job, counts: bool) -> bool:
    """Whether the job has to give way: to one of its own tenant that is more urgent, or to a
    tenant that has used less, once that helps or the other was overtaken often enough."""
    mine = head.tenant is job.tenant
    if not (head.rank < job.rank if mine else head.tenant.served < job.tenant.served):
        return False
    reason = blocked(state, head)
    if reason == IN_USE:
        return any(handle.user is job for handle in head.handles)
    lost = isinstance(reason, Lost)
    # A quota that was lowered, or given away, may be too little even then.
    if lost or reason in (None, HELD) or over_quota(head, job if mine else None) is not None:
        return False
    freed = demand_of(state, job).qubits + sum(state.inventory.free)
    helps = reason != QUBITS or freed >= demand_of(state, head).qubits
    if head.module is not None:
        helps = helps and any(run.module == head.module for run in job.place or ())
    if helps or head.overtaken >= OVERTAKEN_MAX:
        return True
    head.overtaken += counts
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


def why_waiting(state: State, job: Job) -> str:
    """What a job that holds nothing waits for; of a quota, with numbers."""
    over = over_quota(job)
    if over is None:
        return blocked(state, job) or "waiting for its turn on the machine"
    (account, kind), need, quota = over, job.program.summary, over[0].quota
    what, asked, in_use, limit = (
        ("logical qubits", need.asked_logical, account.logical, quota.logical_qubits),
        ("physical qubits", need.peak_physical, account.physical, quota.physical_qubits),
        ("channels", need.peak_channels, account.channels, quota.channels),
    )[kind]
    whose = "tenant's quota" if account is job.tenant else "capability's share"
    own, held = (held_by(state, account, one)[kind] for one in (job.session, None))
    by = f", {own} of these held by its session" if own else ""
    by = by or (f", {held} of these held by sessions" if held else "")
    return f"waiting for {what} of the {whose}: {asked} asked, {in_use} of {limit} in use{by}"


def cycles_to_wait(state: State, job: Job) -> int | None:
    """Cycles until a waiting job may be placed, if what runs goes on to its end, what has failed
    comes back when it is said to, and nobody but its own tenant's more urgent jobs comes first; of
    what the machine has, not of quotas. None where nobody knows."""
    ahead = job.tenant.queued[: bisect(job.tenant.queued, (*job.rank, job))]
    holds = [(one.cycle + left_cycles(state, one), _amounts(state, one)) for one in state.placed]
    wants = [(_amounts(state, one), left_cycles(state, one)) for *_, one in ahead]
    back = max((each.to_cycle or NEVER for each in state.wrong.values()), default=NEVER)
    start = back if state.wrong and isinstance(blocked(state, job), Lost) else state.cycle
    for kind, (vacancy, limit) in enumerate(zip(state.vacant, state.limits, strict=True)):
        ends = [(end, amounts[kind]) for end, amounts in holds]
        lost = limit - vacancy.free - sum(amount for _, amount in ends)
        asked = [(amounts[kind], cycles) for amounts, cycles in wants]
        ends += [(back, lost)] if state.wrong else []
        start = max(start, earliest(state.cycle, vacancy.free, ends, asked))
    return max(0, start - state.cycle) if start < NEVER else None
