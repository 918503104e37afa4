"""Calls that read: status, results, telemetry. They change nothing."""

from __future__ import annotations

from typing import Any

import msgspec

from qmkd.core.capabilities import check_rights
from qmkd.core.channels import opened_by
from qmkd.core.degraded import degraded, degraded_for
from qmkd.core.delegation import listed
from qmkd.core.effects import Reply
from qmkd.core.events import Called, Origin
from qmkd.core.figures import figures
from qmkd.core.jobs import find_job
from qmkd.core.limits import MAPPING_BYTES_MAX, MAPPING_QUBITS_MAX, RESULTS_INLINE_BYTES_MAX
from qmkd.core.quotas import lacking
from qmkd.core.state import Handle, Job, Session, State
from qmkd.core.wording import status, telemetry
from qvm.blocks import Run
from qvm.homes import entries, homes, physical
from qvm.program import VerifiedProgram
from qvm.verify import verify_bytes
from syscalls.decoding import SHOT_COLUMNS, SHOT_COLUMNS_BYTES
from syscalls.errors import (
    KernelError,
    NotAvailable,
    NotCompleted,
    ResultsDropped,
    ResultsTooLarge,
)
from syscalls.job import JobState, JobStatus, Status
from syscalls.results import Results, ResultsReply
from syscalls.rights import Right
from syscalls.telemetry import (
    GetMapping,
    GetTelemetry,
    HeldQubit,
    Mapping,
    ResourceUsage,
    Telemetry,
)


def q_status(state: State, session: Session, event: Called) -> JobStatus | KernelError:
    """q_status."""
    request = event.request
    assert isinstance(request, Status)
    job = find_job(state, session, request.job_id)
    return job if isinstance(job, KernelError) else status(state, job)


# --- results ------------------------------------------------------------------------------------


def q_results(state: State, session: Session, event: Called) -> Reply | KernelError:
    """q_results. Packed rows themselves are the shell's; it puts them beside or into the reply."""
    request = event.request
    assert isinstance(request, Results)
    job = check_results(state, session, request)
    return job if isinstance(job, KernelError) else _results(event.origin, request, job)


def check_results(state: State, session: Session, request: Results) -> Job | KernelError:
    """The completed job whose results may be sent in this way."""
    job = find_job(state, session, request.job_id)
    if isinstance(job, KernelError):
        return job
    if job.state is not JobState.COMPLETED:
        return NotCompleted(state=job.state.value)
    if job.policy.exact:
        remedy = "Read the probabilities from the job's status."
        return NotAvailable(feature="q_results of exact probabilities", remedy=remedy)
    if not job.rows:
        return ResultsDropped()
    if request.format == "decoder" and job.policy.decoder_data and not job.data_total:
        return ResultsDropped()  # it does not outlive the daemon
    if request.format == "decoder" and not job.data_total:
        remedy = "Submit the job with `policy.decoder_data`."
        return NotAvailable(feature="decoder data of this job", remedy=remedy)
    size = {"packed": job.row_total, "decoder": job.data_total}.get(request.format, 0)
    if request.transport == "inline" and size > RESULTS_INLINE_BYTES_MAX:
        return ResultsTooLarge(
            size_bytes=size,
            size_bytes_max=RESULTS_INLINE_BYTES_MAX,
            remedy="Ask with transport=fd.",
        )
    return job


def _results(origin: Origin, request: Results, job: Job) -> Reply:
    digest = job.context.results_digest
    assert digest is not None, "a completed job has a digest"
    decoder = request.format == "decoder"
    rows = decoder or request.format == "packed"
    by_fd = rows and request.transport == "fd"
    program = job.program
    body = ResultsReply(
        job_id=job.id,
        shots=job.policy.shots,
        order=[] if decoder else program.order,
        values_bytes=0 if decoder else program.values_bytes,
        row_bytes=SHOT_COLUMNS_BYTES if decoder else program.row_bytes,
        columns=list(SHOT_COLUMNS) if decoder else [],
        fd=by_fd,
        counts=job.counts if request.format == "counts" else None,
        digest=job.data_digest if decoder else digest,
    )
    return Reply(
        to=origin,
        body=body,
        attach=job.id if by_fd else None,
        inline=job.id if rows and not by_fd else None,
        rows="decoder" if decoder else "packed",
    )


# --- telemetry ----------------------------------------------------------------------------------


def q_get_telemetry(state: State, session: Session, event: Called) -> Telemetry | KernelError:
    """q_get_telemetry."""
    request = event.request
    assert isinstance(request, GetTelemetry)
    if request.machine:
        refusal = check_rights(session, [Right.ADMIN.value])
        if refusal is not None:
            return refusal
    job = None if request.job_id is None else find_job(state, session, request.job_id)
    if isinstance(job, KernelError):
        return job
    return Telemetry(
        resource_usage=_usage(session),
        jobs={**session.tally, JobState.VALIDATING: len(session.checks)},
        job=None if job is None else telemetry(state, job),
        machine=_machine(state) if request.machine else None,
        degraded=degraded_for(state, session.live),
        job_ids=list(session.jobs) if request.list_jobs else None,
        capabilities=listed(state, session) if request.list_capabilities else None,
        qubits=[_held(state, handle) for handle in session.handles],
    )


def _held(state: State, handle: Handle) -> HeldQubit:
    return HeldQubit(
        handle=handle.row.id,
        profile=handle.row.profile,
        module=state.hardware.module[handle.block.run.module].name,
        in_use=handle.user is not None,
        channels=len(handle.channels),
    )


def _usage(session: Session) -> ResourceUsage:
    """The session's own qubits; what its tenant's quota leaves, not what others leave."""
    tenant = session.tenant
    limit = tenant.quota.physical_qubits
    running = [job.program.summary for job in session.live if job.place is not None]
    blocks = {handle.block for handle in session.handles}
    physical = sum(need.peak_physical for need in running) + sum(one.run.size for one in blocks)
    return ResourceUsage(
        logical_qubits_allocated=len(session.handles) + sum(need.asked_logical for need in running),
        physical_qubits_used=physical,
        physical_qubits_available=max(0, limit - tenant.physical),
        utilization=physical / limit if limit else 0.0,
        channels_open=len(opened_by(session)),
    )


def q_get_mapping(state: State, session: Session, event: Called) -> Mapping | KernelError:
    """q_get_mapping."""
    request = event.request
    assert isinstance(request, GetMapping)
    job = find_job(state, session, request.job_id)
    if isinstance(job, KernelError):
        return job
    found: dict[str, list[int]] = {}
    if job.place:
        for what, limit, asked in (
            ("bytes of a program to map", MAPPING_BYTES_MAX, len(job.program.graph)),
            ("physical qubits in a mapping", MAPPING_QUBITS_MAX, entries(job.program.summary)),
        ):
            if asked > limit:
                return lacking(what, limit, asked)
        program = verify_bytes(job.program.graph)
        assert isinstance(program, VerifiedProgram), "it was verified before"
        found = {name: list(physical(job.place, *home)) for name, home in homes(program).items()}
    if job.place is not None:
        found |= {handle.row.id: _qubits(handle.block.run) for handle in job.handles}
    return Mapping(job_id=job.id, epoch=state.epoch_told, mapping=found)


def _qubits(run: Run) -> list[int]:
    return list(range(run.first, run.first + run.size))


def _machine(state: State) -> dict[str, Any]:
    now, hardware = figures(state), state.hardware
    return {
        "machine": hardware.name,
        "cycle_ns": now.cycle_ns,
        "cycles": now.cycles,
        "cycles_utilization": now.used / now.offered if now.offered else 0.0,
        "modules": [
            {"name": module.name, "qubits": module.qubits, "free": free}
            for module, free in zip(hardware.module, state.inventory.free, strict=True)
        ],
        "degraded": [msgspec.to_builtins(each) for each in degraded(state)],
        "faults": {name: msgspec.to_builtins(each) for name, each in state.faults.items()},
        "jobs_placed": now.placed,
        "jobs_waiting": sum(tenant.waiting for tenant in now.tenants),
        "epoch": now.epoch,
        "physical_qubits_total": now.physical_total,
        "physical_qubits_used": now.physical,
        "utilization": now.physical / now.physical_total,
        "workers_total": now.workers,
        "workers_ready": now.workers_ready,
        "worker_sandboxes": [worker.sandbox for worker in state.workers],
        "segments_running": now.segments,
        "sessions": now.sessions,
        "requests_waiting": state.parked,
        "jobs": {each.value: count for each, count in now.jobs.items()},
        "tenants": [msgspec.to_builtins(each) for each in now.tenants],
        "jobs_live": state.live,
    }
