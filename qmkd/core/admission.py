"""Whether a submission becomes a job. What is refused here leaves nothing behind.

The order of refusals is that of `syscalls.errors`. A graph small enough is verified within the
step, one seen before not at all; a large one goes to a worker (`schedule.py`) and comes back to
`settle_check`, where everything is looked at again: the world has moved on meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

import msgspec

from qmkd.core import holding, keeping, programs, quotas
from qmkd.core.calibrating import why_unmeasurable
from qmkd.core.capabilities import check_call, check_rights, lenders
from qmkd.core.checkpoints import carry_on
from qmkd.core.effects import Note
from qmkd.core.events import Called, Origin, ProgramChecked
from qmkd.core.faults import concern
from qmkd.core.holding import Named
from qmkd.core.jobs import enqueue, want_turn
from qmkd.core.limits import CHECK_NS_PER_BYTE, INLINE_GRAPH_BYTES_MAX, PAIR_KINDS_MAX
from qmkd.core.ports import EXACT, Plan, Point
from qmkd.core.quotas import lacking, over
from qmkd.core.state import (
    Capability,
    Check,
    Handle,
    Job,
    Parked,
    Program,
    Session,
    State,
    Submission,
    Tenant,
)
from qmkd.core.waiting import answer, check_park, park
from qmkd.core.wording import (
    DECODING,
    brokered_of,
    context,
    noise_given,
    pairs_used,
    plan_shown,
    time_text,
)
from qvm.blocks import qubits_of
from qvm.channels import Brokered, NotLinked, Unreachable, broker
from qvm.program import Summary
from qvm.raising import RAISABLE, least_distance
from qvm.verify import verify_bytes
from syscalls.checkpoint import Replay, Replayed, Restore, Restored
from syscalls.errors import (
    DeadlineUnreachable,
    FidelityUnavailable,
    IdempotencyConflict,
    InternalError,
    InvalidGraph,
    KernelError,
    NotAvailable,
)
from syscalls.fault import DegradedMode
from syscalls.findings import FINDINGS_MAX
from syscalls.ids import ID_BYTES, job_id
from syscalls.job import (
    Noise,
    NoiseApplied,
    PlanJob,
    Planned,
    Policy,
    RaisedCode,
    Submit,
    Submitted,
)
from syscalls.syscall import SessionCall

LOOKED_UP = frozenset({Noise.PROFILE, Noise.CALIBRATED})
"""The noise that comes from tables of what was measured before."""
PATCHES = ("Surface", "BaconShor")
"""Codes of which a whole program is run as one circuit."""
SEED_BYTES = 8

Admitted = Submitted | Planned | Replayed | Restored
"""What becomes of a submission that is not refused."""


class Allowed(NamedTuple):
    """What a new job goes by: its plan, its noise, what it names of what sessions hold, and the
    capabilities that it uses."""

    plan: Plan
    noise: NoiseApplied
    named: Named
    lent: tuple[Capability, ...]


def submit(state: State, session: Session, event: Called) -> Admitted | KernelError | None:
    """q_submit and q_plan. None: the graph is being verified; the answer comes later."""
    request = event.request
    assert isinstance(request, (Submit, PlanJob))
    if state.stopping:
        return keeping.shutting_down()
    if request.policy.debug:
        return NotAvailable(feature="policy.debug", remedy="Leave it out.")
    graph = bytes(request.graph)
    plan_only = isinstance(request, PlanJob)
    policy = request.policy
    if policy.exact:
        policy = msgspec.structs.replace(policy, shots=1)  # one slice, without rows
    submission = Submission(session, policy, graph, event.entropy, state.now_ns, plan_only)
    return take_in(state, submission, event.origin)


def take_in(state: State, submission: Submission, origin: Origin) -> Admitted | KernelError | None:
    """Find or verify a submission's program, and admit it. None: it is being verified."""
    session, graph = submission.session, submission.graph
    program = programs.find(session.tenant, graph)
    if program is None:
        earlier = _same_key(submission)
        if earlier is not None and earlier.digest == sha256(graph).digest():
            # Verified once as these very bytes, even if the program is no longer kept.
            program = earlier.program.base or earlier.program
    if program is None and len(graph) > INLINE_GRAPH_BYTES_MAX:
        return _check_later(state, submission, origin)
    if program is None:
        verified = verify_bytes(graph)
        if isinstance(verified, list):
            total = getattr(verified, "total", len(verified))
            return InvalidGraph(findings=verified[:FINDINGS_MAX], findings_total=total)
        program = programs.describe(
            session.tenant, graph, verified.summary, list(verified.warnings)
        )
    return admit(state, submission, program)


def admit(state: State, submission: Submission, program: Program) -> Admitted | KernelError:
    """Make a job of a submission with a verified program, or refuse it; or answer with its plan."""
    submission = replace(submission, policy=advised(program.summary, submission.policy))
    program = programs.enlarged(program, raised(state, submission, program))
    verdict = check_admission(state, submission, program)
    if isinstance(verdict, KernelError):
        return verdict
    if isinstance(verdict, Job):
        return _submitted(verdict, reused=True)
    if submission.plan_only:
        return Planned(
            plan=plan_shown(verdict.plan, submission.policy.shots, brokered_of(program)),
            estimated_epochs=program.summary.epochs,
            warnings=program.warnings,
        )
    return accept(state, submission, program, verdict)


def accept(
    state: State, submission: Submission, program: Program, allowed: Allowed
) -> Submitted | Replayed | Restored:
    """Make a job of a submission that `check_admission` has allowed."""
    job = _job(state, submission, program, allowed)
    made = submission.restores
    if made is not None:
        carry_on(state, job, made.job, made.row.id, job.id)
        job.inherited, job.owed = job.shots_done, job.shots_given - job.shots_done
        job.rows = bool(job.shots_done)
    enqueue(state, job)
    if job.context.noise.applied.endswith(f" {state.noise[0]}"):
        concern(state, job, DegradedMode.RAISE_DISTANCE)
    if made is not None:
        return Restored(job_id=job.id, epoch=made.row.epoch, shots_done=job.shots_done)
    if submission.replay_of is not None:
        return Replayed(job_id=job.id, replay_of=submission.replay_of.id)
    return _submitted(job, reused=False)


def raised(state: State, submission: Submission, program: Program) -> Sequence[RaisedCode]:
    """Codes that are to be larger: those of the job that it repeats or goes on from, or, where the
    policy allows it and the machine's errors have drifted, the next that err no more than usual."""
    if submission.earlier is not None:
        return submission.earlier.context.raised
    policy, (noise, _, times) = submission.policy, state.noise
    coded = policy.noise is not Noise.IDEAL and not program.summary.handles
    if not (policy.raise_distance and coded) or times == 1:
        return ()
    strength = float(noise.partition(" ")[2])
    known = state.machine.distances(noise).get(RAISABLE, frozenset())
    found = []
    for code, distance in sorted({(each.code, each.distance) for each in program.summary.profiles}):
        least = least_distance(distance, strength / times, strength)
        if code == RAISABLE and least is not None:
            to = min((each for each in known if each >= least), default=0)
            found += [RaisedCode(code=code, distance=distance, to=to)] if to > distance else []
    return found


def advised(summary: Summary, policy: Policy) -> Policy:
    """The policy with the priority and deadline that the program asks for where it has none."""
    deadline = summary.deadline if policy.deadline_epochs is None else policy.deadline_epochs
    priority = policy.priority or summary.priority or 0
    return msgspec.structs.replace(policy, priority=priority, deadline_epochs=deadline)


def _submitted(job: Job, reused: bool) -> Submitted:
    program = job.program
    return Submitted(
        job_id=job.id,
        state=job.state,
        estimated_epochs=program.summary.epochs,
        warnings=program.warnings,
        reused=reused,
    )


def _job(state: State, submission: Submission, program: Program, allowed: Allowed) -> Job:
    policy, entropy, plan = submission.policy, submission.entropy, allowed.plan
    seed = policy.seed
    if seed is None:
        seed = int.from_bytes(entropy[ID_BYTES : ID_BYTES + SEED_BYTES], "little")
    if (state.machine.durable or policy.idempotency_key is not None) and not program.digest:
        program.digest = sha256(submission.graph).digest()
    name = job_id(entropy[:ID_BYTES])
    assert name not in state.jobs, "names of 128 random bits do not meet"
    return Job(
        id=name,
        number=state.number(),
        session=submission.session,
        program=program,
        policy=policy,
        seed=seed,
        plan=plan,
        context=context(program, policy, plan, seed, state, allowed.noise, submission),
        digest=program.digest,
        created_ns=state.now_ns,
        created_at=time_text(state.now_ns),
        checked_ns=state.now_ns - submission.asked_ns,
        lent=allowed.lent,
        handles=allowed.named.handles,
        channels=allowed.named.channels,
        table=state.table,
    )


# --- the checks, in order of precedence ---------------------------------------------------------


def check_admission(
    state: State, submission: Submission, program: Program
) -> KernelError | Job | Allowed:
    """The refusal, the job that the same key made before, or what a new job goes by."""
    session, policy, summary = submission.session, submission.policy, program.summary
    named = broker_pairs(state, session, program)  # noise depends on what pairs there are
    noise = noise_given(state, program, submission)
    refusal = (
        check_call(session, _call_of(submission))
        or _check_available(program, policy)
        or _check_noise(state, program, policy, noise)
        or check_rights(session, summary.rights)
        or _check_same_noise(submission, program, noise)
    )
    if refusal is not None:
        return refusal
    earlier = _same_key(submission)
    if earlier is not None:
        # A session is never given a job that it may not ask about, so another's key is taken.
        same = (
            earlier.session is session
            and earlier.policy == policy
            and earlier.digest == sha256(submission.graph).digest()
        )
        return earlier if same else IdempotencyConflict(job_id=earlier.id)
    shots = EXACT if policy.exact else policy.shots
    plan = state.planner(summary, shots, noise.applied, policy.decoder_data)
    if isinstance(plan, KernelError):
        return plan
    if policy.deadline_epochs is not None and policy.deadline_epochs < summary.epochs:
        return DeadlineUnreachable(
            estimated_epochs=summary.epochs, deadline_epochs=policy.deadline_epochs
        )
    handles = () if isinstance(named, KernelError) else named.handles
    lent = lenders(session, summary.rights)
    refusal = (
        _check_quota(state, submission, program, plan, lent)
        or quotas.check_change(session.tenant, state.now_ns)
        or check_machine(state, program, plan, handles)
    )
    if refusal is not None:
        return refusal
    return named if isinstance(named, KernelError) else Allowed(plan, noise, named, lent)


def broker_pairs(state: State, session: Session, program: Program) -> Named | KernelError:
    """What the program names of what sessions hold, with its pairs settled; or why it may not."""
    named = holding.named(state, session, program.summary)
    if isinstance(named, KernelError) or program.brokered is not None:
        return named
    found = broker(
        program.summary,
        state.hardware,
        [handle.block.run.module for handle in named.handles],
        {channel.row.id: channel.row.asked for channel in named.channels},
    )
    if isinstance(found, Brokered):
        program.brokered = found
        what, limit, asked = "kinds of Bell pairs in one program", PAIR_KINDS_MAX, len(found.terms)
    elif isinstance(found, Unreachable):
        return FidelityUnavailable(asked=found.asked, reachable=found.reachable)
    elif isinstance(found, NotLinked):
        what = "linked modules, to keep the ends of its channels apart"
        limit, asked = found.modules, max(found.ends, found.modules + 1)
    else:
        what, limit, asked = found.what, found.most, found.uses
    if asked <= limit:
        return named
    return lacking(what, limit, asked)


def _call_of(submission: Submission) -> type[SessionCall]:
    """Whose rights are looked at again here: programs are read and verified in between."""
    if submission.restores is not None:
        return Restore
    return Submit if submission.replay_of is None else Replay


def _inherited(submission: Submission) -> int:
    """Shots that are done already, for a job that has them from a checkpoint."""
    made = submission.restores
    return 0 if made is None or made.job.data_total else made.job.shots_done


def _same_key(submission: Submission) -> Job | None:
    key = None if submission.plan_only else submission.policy.idempotency_key
    return None if key is None else submission.session.tenant.keys.get(key)


def _check_available(program: Program, policy: Policy) -> KernelError | None:
    decodes = policy.noise.value in DECODING and not (policy.exact or program.summary.ideal)
    if policy.decoder_data and not decodes:
        return NotAvailable(
            feature="policy.decoder_data where nothing is decoded",
            remedy="It is for shots of coded qubits under `decoded` or `physical` noise.",
        )
    return None


def _check_same_noise(
    submission: Submission, program: Program, noise: NoiseApplied
) -> KernelError | None:
    """A job is replayed under the noise it had, or not at all."""
    if submission.replay_of is None:
        return None
    then, now = submission.replay_of.context.noise.applied, noise.applied
    if now == then:
        if program.brokered is None or submission.replay_of.context.pairs == pairs_used(program):
            return None  # without pairs it is refused for why there are none
        then, now = "with other Bell pairs", "with those of the machine as it is"
    remedy = f"Its noise was {then}; the machine's would make it {now}."
    return NotAvailable(feature="Replaying this job", remedy=remedy)


def _check_noise(
    state: State, program: Program, policy: Policy, given: NoiseApplied
) -> NotAvailable | None:
    """Whether the errors are known, or can be measured, that the job's qubits are to suffer."""
    if policy.noise is Noise.PHYSICAL:
        return _check_patches(program)
    if policy.noise not in LOOKED_UP:
        return None
    _, _, noise = given.applied.partition(" ")
    model, _, strength = noise.partition(" ")
    for profile in program.summary.profiles:
        if not profile.distance:
            continue  # it suffers nothing, and there may be no noise to look up
        known = state.machine.distances(noise).get(profile.code, frozenset())
        if profile.distance not in known:
            point = Point(profile.code, profile.distance, model, float(strength))
            why = why_unmeasurable(state, point)
            if why is None:
                continue
            name = f"logical:{profile.code}(d={profile.distance})"
            nearest = min(known, key=lambda d: (abs(d - profile.distance), d), default=None)
            other = "" if nearest is None else f", or d={nearest}, the nearest that is known"
            return NotAvailable(
                feature=f"the noise of {name} under {noise}",
                remedy=f"Its logical error rates are not known: {why}. "
                f'Ask for `noise: "ideal"`{other}.',
            )
    return None


def _check_patches(program: Program) -> NotAvailable | None:
    """What else a circuit of the whole program asks for, the worker sees, node by node."""
    for profile in program.summary.profiles:
        if profile.distance and profile.code not in PATCHES:
            return NotAvailable(
                feature=f"`physical` noise of logical:{profile.code}(d={profile.distance})",
                remedy=f"It is for {' and '.join(PATCHES)}; ask for `calibrated`.",
            )
    return None


def _check_quota(
    state: State,
    submission: Submission,
    program: Program,
    plan: Plan,
    lent: tuple[Capability, ...],
) -> KernelError | None:
    """Whether one more job fits the tenant's quota, and the shares of the rights that it uses."""
    tenant, policy = submission.session.tenant, submission.policy
    metered = policy.shots - _inherited(submission)
    for account in quotas.accounts_of(tenant, lent):
        refusal = quotas.check(account, state.now_ns, program.summary, plan, metered)
        if refusal is not None:
            return refusal
    held = 0 if program.uses else len(program.graph)
    rows = policy.shots * sum(program.shot_bytes(policy))
    return _check_room(tenant, held) or over(
        "bytes of results of live jobs", tenant.quota.result_bytes, tenant.rows_live, rows
    )


def _check_room(tenant: Tenant, held: int) -> KernelError | None:
    """Whether one more job, with `held` more bytes of graphs, fits the tenant's quota."""
    jobs = tenant.live + tenant.checking
    return over("jobs", tenant.quota.jobs, jobs, 1) or over(
        "bytes of queued graphs", tenant.quota.queued_bytes, tenant.held_bytes, held
    )


def check_machine(
    state: State, program: Program, plan: Plan, handles: tuple[Handle, ...] = ()
) -> KernelError | None:
    """Whether the machine could ever run it."""
    what, limit, asked = "bytes of a worker's memory", state.machine.worker_bytes, plan.bytes_peak
    blocks, total = program.summary.blocks, state.inventory.total
    qubits = qubits_of(blocks)
    beside = holding.modules(handles)
    wide = qubits > state.inventory.widest or bool(beside)
    apart = program.brokered is not None and program.brokered.groups
    if not apart and wide and holding.without(state, handles).find(blocks, beside) is None:
        what = "physical qubits" if qubits > total else "physical qubits of linked modules"
        limit, asked = total, qubits
    elif asked <= limit:
        return None
    return lacking(what, limit, asked)


# --- large graphs -------------------------------------------------------------------------------


def _check_later(state: State, submission: Submission, origin: Origin) -> KernelError | None:
    session, size = submission.session, len(submission.graph)
    tenant = session.tenant
    refusal = check_park(tenant) or _check_room(tenant, size)
    if refusal is not None:
        return refusal
    check = Check(submission, ns=CHECK_NS_PER_BYTE * size)
    check.parked = Parked(origin, tenant, check=check)
    park(state, check.parked)
    tenant.checking += 1
    tenant.held_bytes += size
    session.checks[check] = None
    tenant.checks.append(check)
    want_turn(state, tenant)
    return None


def end_check(state: State, check: Check) -> Parked | None:
    """Give back what the check held. Returns who still waits for its outcome."""
    session = check.submission.session
    session.tenant.checking -= 1
    session.tenant.held_bytes -= len(check.submission.graph)
    del session.checks[check]
    session.touched_ns = state.now_ns
    return check.parked


def settle_check(state: State, check: Check, event: ProgramChecked) -> None:
    """A worker has verified a graph: answer its submission, if anybody still waits."""
    parked = end_check(state, check)
    if parked is None:
        return
    if (refusal := keeping.refusal(state)) is not None:
        answer(state, parked, refusal)
        return
    submission = check.submission
    tenant = submission.session.tenant
    if event.summary is not None:
        program = programs.find(tenant, submission.graph) or programs.describe(
            tenant, submission.graph, event.summary, list(event.warnings)
        )
        keeping.answer_when_kept(state, parked, admit(state, submission, program))
    elif event.findings:
        findings = list(event.findings[:FINDINGS_MAX])
        answer(state, parked, InvalidGraph(findings=findings, findings_total=event.findings_total))
    else:
        give_up_check(state, parked, "no verdict")


def give_up_check(state: State, parked: Parked, why: str) -> None:
    """Verifying failed, and not because of the graph."""
    reference = f"check-{state.number()}"
    state.out.append(Note("verification failed", {"reference": reference, "why": why}))
    answer(state, parked, InternalError(reference=reference))


def refuse_checks(state: State, tenant: Tenant, sessions: list[Session]) -> None:
    """Answer every submission under verification: the kernel is shutting down."""
    for session in sessions:
        for check in list(session.checks):
            if check.parked is not None:
                answer(state, check.parked, keeping.shutting_down())
    for check in tenant.checks:
        end_check(state, check)
    tenant.checks.clear()
