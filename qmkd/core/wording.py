"""What callers are told about a job: its status, made from the record and the time, nothing else.

A job that is over has one status, made once; the rest are made when asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from qmkd.core.degraded import drifted
from qmkd.core.limits import MS, SECOND
from qmkd.core.mapping import cycles_to_wait, demand_of, why_waiting
from qmkd.core.ports import Machine, PairError, Plan
from qmkd.core.state import Job, Program, State, Submission
from qvm.channels import NOTHING, Brokered, pairs_shown, terms_shown
from qvm.profiles import Profile
from syscalls.errors import KernelError
from syscalls.job import (
    ExecutionContext,
    JobError,
    JobState,
    JobStatus,
    JobTelemetry,
    Noise,
    NoiseApplied,
    PairsUsed,
    PeakResources,
    Policy,
    ProfileApplied,
    Progress,
    QueuePlace,
)
from syscalls.plan import FIGURE_MAX, JobPlan

_NO_PEAK = PeakResources()
DECODING = (Noise.DECODED.value, Noise.PHYSICAL.value)
"""Noise under which decoders take part while shots run."""


ADVICE = {"priority": "priority", "deadline": "deadline_epochs"}
"""What SET_POLICY may ask for of a whole job, and what a policy calls it."""


def time_text(now_ns: int) -> str:
    """RFC 3339 with milliseconds, UTC, of Unix nanoseconds."""
    return f"{_second_text(now_ns // SECOND)}.{now_ns // MS % 1000:03d}Z"


# Pure; nearly every call in a second asks for the same one.
@lru_cache(maxsize=16)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


def progress(job: Job) -> Progress:
    """How far a job is; epochs and nodes are the mean over its shots, rounded down."""
    summary = job.program.summary
    done, total = job.shots_done, job.policy.shots
    return Progress(
        current_epoch=summary.epochs * done // total,
        total_epochs=summary.epochs,
        nodes_executed=summary.nodes * done // total,
        nodes_total=summary.nodes,
        shots_done=done,
        shots_total=total,
    )


def telemetry(state: State, job: Job) -> JobTelemetry:
    """What a job has cost so far, over all its shots."""
    now = job.completed_ns or state.now_ns
    started = job.started_ns or now
    done = job.shots_done
    waiting = max(0, state.cycle - job.since_cycle) if job.place is None and waits(job) else 0
    return JobTelemetry(
        total_epochs=job.program.summary.epochs * done,
        total_gates=job.program.gates * done,
        physical_qubits_used=job.program.summary.peak_physical if job.started_ns else 0,
        queue_time_ms=(started - job.created_ns) / MS,
        validation_time_ms=job.checked_ns / MS,
        execution_time_ms=(now - started) / MS,
        decoder_cycles=0 if job.decoder is None else job.decoder.cycles,
        decoder=job.decoder,
        cpu_ns=job.cpu_ns,
        spent_ns=dict(job.spent),
        queue_cycles=job.waited_cycles + waiting,
        machine_cycles=job.held_cycles,
        machine_time_ms=job.held_cycles * state.hardware.cycle_ns / MS,
        slowed_by=demand_of(state, job).slowed,
        moves=job.moves,
        pairs=done * sum(len(one.nodes) for one in job.context.pairs),
        raw_pairs=done * sum(len(one.nodes) * one.terms.raw_pairs for one in job.context.pairs),
        plan=plan_shown(job.plan, job.policy.shots, brokered_of(job.program)),
    )


def plan_shown(plan: Plan, shots: int, brokered: Brokered = NOTHING) -> JobPlan:
    """A plan as callers are told of it. brokered: the pairs of the program."""
    return JobPlan(
        engine=plan.engine,
        cpu_ns=min(plan.ns_fixed + shots * plan.ns_per_shot, FIGURE_MAX),
        bytes=plan.bytes_peak,
        rows=list(plan.rows),
        pairs=pairs_shown(brokered),
        raw_pairs=brokered.raw_pairs,
    )


def status(state: State, job: Job) -> JobStatus:
    """All that a caller may know of a job, as of now."""
    if job.final is not None:
        return job.final
    return JobStatus(
        job_id=job.id,
        session_id=job.session.id,
        state=job.state,
        created_at=job.created_at,
        started_at=job.started_at,
        progress=progress(job),
        events=job.first_row,
        telemetry=telemetry(state, job),
        peak_resources=job.program.peak if job.started_ns else _NO_PEAK,
        execution_context=job.context,
        queue=_place(state, job) if waits(job) else None,
        waits_for=None if job.lacks is None else f"the errors of {job.lacks} are being measured",
    )


def final_status(state: State, job: Job, ended: JobState, error: KernelError | None) -> JobStatus:
    """The status, for ever, of a job that ends now in the state `ended`."""
    completed = ended is JobState.COMPLETED
    return JobStatus(
        job_id=job.id,
        session_id=job.session.id,
        state=ended,
        created_at=job.created_at,
        started_at=job.started_at,
        completed_at=time_text(job.completed_ns),
        progress=progress(job),
        events=job.first_row if completed else {},
        counts=job.counts if completed else None,
        counts_omitted=job.counts_omitted if completed else None,
        probabilities=job.probabilities if completed else None,
        telemetry=telemetry(state, job),
        peak_resources=job.program.peak if job.started_ns else _NO_PEAK,
        execution_context=job.context,
        error=None if error is None else JobError.of(error),
        cancelled_at_epoch=job.epoch if ended is JobState.CANCELLED else None,
    )


def waits(job: Job) -> bool:
    """Whether a job waits: for its start, or for a place to go on."""
    if job.ending is not None or job.stop is not None:
        return False
    left = bool(job.again) or job.shots_given < job.policy.shots
    return job.state is JobState.QUEUED or (job.place is None and left)


def _place(state: State, job: Job) -> QueuePlace:
    """How many of the tenant's jobs stand before this one, and what it waits for."""
    tenant = job.tenant
    before = bisect_left(tenant.queued, job.rank) if job.place is None else 0
    started = sum(each.state is JobState.RUNNING for *_, each in tenant.queued[:before])
    unstarted = sum(
        each.state is JobState.QUEUED and each.rank < job.rank for *_, each in tenant.ready
    )
    reason = "waiting for a worker" if job.place is not None else why_waiting(state, job)
    cycles = 0 if job.place is not None else cycles_to_wait(state, job)
    return QueuePlace(position=before - started + unstarted, reason=reason, cycles=cycles)


def context(
    program: Program,
    policy: Policy,
    plan: Plan,
    seed: int,
    state: State,
    noise: NoiseApplied,
    submission: Submission | None = None,
) -> ExecutionContext:
    """All that is needed to get the same bits again. submission: what it comes from, at first."""
    machine = state.machine
    replay_of, restores = (submission.replay_of, submission.restores) if submission else (None,) * 2
    why = plan.why
    if "TELEPORT_CNOT" in program.summary.ops and not brokered_of(program).terms:
        why += "; TELEPORT_CNOT runs as a local CNOT"
    mode = noise.applied.partition(" ")[0]
    made = ExecutionContext(
        engine=plan.engine,
        why=why,
        width=plan.width,
        seed=seed,
        program_digest=program.summary.digest,
        profiles=program.profiles,
        noise=noise,
        raised=list(program.raised),
        advice={
            name: getattr(policy, field)
            for name, field in ADVICE.items()
            if getattr(program.summary, name) == getattr(policy, field) is not None
        },
        decoder=machine.decoder if mode in DECODING else None,
        versions=machine.versions,
        pairs=pairs_used(program),
        replay_of=None if replay_of is None else replay_of.id,
        restored_from=None if restores is None else restores.row.id,
        crypto_mode=policy.crypto_mode,
    )
    return made if mode == Noise.IDEAL.value else calibration(made, machine, state.table)


def calibration(context: ExecutionContext, machine: Machine, table: str) -> ExecutionContext:
    """The same with the name of the table that ships, and of points measured here, if any."""
    names = (machine.calibration, table)
    return msgspec.structs.replace(context, calibration="+".join(filter(None, names)))


def changed_versions(then: ExecutionContext, machine: Machine) -> str:
    """What computes otherwise than it did, in words; empty where nothing does."""
    was, now = dict(then.versions), dict(machine.versions)
    if then.calibration is not None:
        was["the calibration"] = then.calibration.partition("+")[0]
        now["the calibration"] = machine.calibration
    names = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    return ", ".join(f"{name} was {was.get(name)} and is {now.get(name)}" for name in names)


def noise_given(state: State, program: Program, submission: Submission) -> NoiseApplied:
    """The noise of a new job: the machine's as it is now; of one that goes on from another, or
    repeats it, what that had, unless the machine is not the one that it had run on."""
    earlier = submission.earlier
    now = noise_applied(program, submission.policy, *state.noise)
    if earlier is None:
        return now
    then = earlier.context.noise
    same = drifted(state.machine.physical_noise, then.times)
    again = noise_applied(program, submission.policy, same).applied == then.applied
    return then if again else now


def noise_applied(
    program: Program, policy: Policy, physical: str, drift: str = "", times: float = 1.0
) -> NoiseApplied:
    """What a job asks for and what it gets, and why; `applied` is as engines know it."""
    ideal = Noise.IDEAL.value
    if policy.noise is Noise.IDEAL:
        return NoiseApplied(requested=ideal, applied=ideal)
    asked = policy.noise.value
    if program.summary.ideal and not brokered_of(program).terms:
        return NoiseApplied(requested=asked, applied=ideal, why="every profile is ideal")
    if program.summary.ideal:
        applied = f"{Noise.CALIBRATED.value} {physical}"
        return NoiseApplied(requested=asked, applied=applied, why="Bell pairs alone err")
    mode = Noise.CALIBRATED if policy.noise is Noise.PROFILE else policy.noise
    why = "; ".join(
        filter(None, ("" if policy.noise is mode else f"{asked} is {mode.value}", drift))
    )
    return NoiseApplied(requested=asked, applied=f"{mode.value} {physical}", why=why, times=times)


def brokered_of(program: Program) -> Brokered:
    """What its pairs come to, once that is known."""
    return NOTHING if program.brokered is None else program.brokered


def pairs_used(program: Program) -> list[PairsUsed]:
    """The Bell pairs of a program, as callers are told of them."""
    made, named = brokered_of(program), {use.node: use for use in program.summary.uses}
    found = []
    for each in made.terms:
        channels = sorted({named[node].channel for node in each.nodes} - {""})
        found.append(
            PairsUsed(nodes=list(each.nodes), channels=channels, terms=terms_shown(made, each))
        )
    return found


def pair_errors(context: ExecutionContext) -> tuple[PairError, ...]:
    """The errors of the pairs that nodes consume, for engines; nothing errs without noise."""
    if context.noise.applied == Noise.IDEAL.value:
        return ()
    each = [(node, one.terms) for one in context.pairs for node in one.nodes]
    return tuple(
        PairError(node, terms.x, terms.y, terms.z)
        for node, terms in sorted(each, key=lambda pair: pair[0])
    )


def pairs_audited(context: ExecutionContext) -> list[str]:
    """What the audit chain has of them."""
    return [
        f"{len(one.nodes)} of fidelity {one.terms.fidelity:.9g} after {one.terms.age} cycles, "
        f"{one.terms.protocol} in {one.terms.rounds} rounds of {one.terms.raw_pairs:.6g} raw pairs"
        for one in context.pairs
    ]


def profile_applied(profile: Profile) -> ProfileApplied:
    """A profile as asked for and as realised; a distance that the code lacks is rounded up."""
    if not profile.distance:
        return ProfileApplied(requested=profile.asked, applied=f"logical:{profile.code}")
    note = ""
    if profile.distance != profile.asked_distance:
        note = f"{profile.code} has no distance {profile.asked_distance}"
    applied = f"logical:{profile.code}(d={profile.distance})"
    return ProfileApplied(requested=profile.asked, applied=applied, note=note)
