# Generated from syscalls/ by `make regen`; change the types, not this file.
# ruff: noqa: B006, B008 (nobody changes these defaults)
"""One typed function per call of the ABI, which builds the request and does nothing else.

Clients wrap these: sending, waiting and retrying are theirs. The calls are in `syscalls`.
"""

from typing import Literal

from msgspec import Raw

from syscalls.capability import Delegate, Revoke, Share
from syscalls.channel import ChanOptions, ChanStatus, CloseChan, OpenChan
from syscalls.checkpoint import (
    Checkpoint,
    DropCheckpoint,
    ListCheckpoints,
    Migrate,
    Replay,
    Restore,
)
from syscalls.discover import Discover
from syscalls.events import Subscribe
from syscalls.fault import ClearFault, FaultKind, InjectFault
from syscalls.ids import CapabilityId, ChannelId, CheckpointId, HandleId, JobId, SessionId, TenantId
from syscalls.job import Cancel, PlanJob, Policy, Status, Submit, Wait
from syscalls.qubit import Alloc, Release
from syscalls.results import Results
from syscalls.rights import Right
from syscalls.session import CloseSession, NegotiateCaps
from syscalls.telemetry import GetMapping, GetTelemetry


class Calls:
    """Requests, by the name of their call."""

    @staticmethod
    def discover() -> Discover:
        """Describe every call this ABI has, as an OpenRPC document. Needs no session."""
        return Discover()

    @staticmethod
    def negotiate_caps(
        *, requested: list[str], op_families: list[str] = [], tenant_id: TenantId | None = None
    ) -> NegotiateCaps:
        """Open a session that holds those of the requested capabilities which policy grants.

        The id of a capability that was delegated to this tenant may stand among them: its rights
        are then the session's too, until it expires or is revoked. Capabilities that are unknown or
        not granted are listed in `denied`; that is not an error.
        """
        return NegotiateCaps(requested=requested, op_families=op_families, tenant_id=tenant_id)

    @staticmethod
    def close_session(*, session_id: SessionId) -> CloseSession:
        """Close the session: cancel its jobs, answer its waits, release all it holds."""
        return CloseSession(session_id=session_id)

    @staticmethod
    def submit(*, session_id: SessionId, graph: Raw, policy: Policy = Policy()) -> Submit:
        """Verify a program and queue it as a job.

        The graph is verified before the answer: an invalid one is refused with its findings, and
        nothing of it remains.
        """
        return Submit(session_id=session_id, graph=graph, policy=policy)

    @staticmethod
    def plan(*, session_id: SessionId, graph: Raw, policy: Policy = Policy()) -> PlanJob:
        """Say how a program would be run, and what that should cost, without running it.

        Verifies the program and refuses what `q_submit` would refuse. Makes no job; a seed or an
        idempotency key changes nothing.
        """
        return PlanJob(session_id=session_id, graph=graph, policy=policy)

    @staticmethod
    def status(*, session_id: SessionId, job_id: JobId) -> Status:
        """Say where a job stands, now."""
        return Status(session_id=session_id, job_id=job_id)

    @staticmethod
    def wait(*, session_id: SessionId, job_id: JobId, timeout_ms: int | None = None) -> Wait:
        """Answer with the job's status as soon as the job is over, however it ended."""
        return Wait(session_id=session_id, job_id=job_id, timeout_ms=timeout_ms)

    @staticmethod
    def cancel(*, session_id: SessionId, job_id: JobId) -> Cancel:
        """Stop a job at its next fence, or soon after without one; answer when it has stopped."""
        return Cancel(session_id=session_id, job_id=job_id)

    @staticmethod
    def results(
        *,
        session_id: SessionId,
        job_id: JobId,
        format: Literal["packed", "counts", "order", "decoder"] = "packed",
        transport: Literal["inline", "fd"] = "inline",
    ) -> Results:
        """Fetch the events of every shot of a completed job.

        format: `packed` gives the rows, `counts` the histogram, `order` only the layout, `decoder`
        the rows of decoder data.
        transport: `inline` puts rows into the reply as base64; `fd` passes a sealed memory file
        beside it (SCM_RIGHTS), which has no size limit of its own.
        """
        return Results(session_id=session_id, job_id=job_id, format=format, transport=transport)

    @staticmethod
    def subscribe(*, session_id: SessionId, job_id: JobId | None = None) -> Subscribe:
        """Be told about a job, or about all of the session's jobs, until they are over."""
        return Subscribe(session_id=session_id, job_id=job_id)

    @staticmethod
    def checkpoint(
        *, session_id: SessionId, job_id: JobId, how: Literal["forward", "rollback"] = "forward"
    ) -> Checkpoint:
        """Keep a job's state at its next fence. The job goes on by itself."""
        return Checkpoint(session_id=session_id, job_id=job_id, how=how)

    @staticmethod
    def restore(*, session_id: SessionId, checkpoint_id: CheckpointId) -> Restore:
        """Continue from a checkpoint, as a new job."""
        return Restore(session_id=session_id, checkpoint_id=checkpoint_id)

    @staticmethod
    def list_checkpoints(*, session_id: SessionId) -> ListCheckpoints:
        """Tell which checkpoints the session has."""
        return ListCheckpoints(session_id=session_id)

    @staticmethod
    def drop_checkpoint(*, session_id: SessionId, checkpoint_id: CheckpointId) -> DropCheckpoint:
        """Let a checkpoint go. Jobs that went on from it are not touched."""
        return DropCheckpoint(session_id=session_id, checkpoint_id=checkpoint_id)

    @staticmethod
    def migrate(*, session_id: SessionId, job_id: JobId, target: str) -> Migrate:
        """Move a job to another module at its next fence, where it stays. It goes on by itself."""
        return Migrate(session_id=session_id, job_id=job_id, target=target)

    @staticmethod
    def replay(*, session_id: SessionId, job_id: JobId) -> Replay:
        """Run a job again from its record: the same bits, as a new job.

        Where they would not be the same, because versions or the machine's noise have changed, this
        is refused and the refusal says what has changed.
        """
        return Replay(session_id=session_id, job_id=job_id)

    @staticmethod
    def alloc(*, session_id: SessionId, n: int, profile: str, module: str | None = None) -> Alloc:
        """Allocate `n` logical qubits that live until released or until the session closes.

        They are taken now or not at all, and count against the quotas of qubits as jobs' do.
        """
        return Alloc(session_id=session_id, n=n, profile=profile, module=module)

    @staticmethod
    def release(*, session_id: SessionId, handles: list[HandleId]) -> Release:
        """Give logical qubits back: all of these, or none.

        Channels that end in them close. `BUSY` while a job of this session that is not over names
        one.
        """
        return Release(session_id=session_id, handles=handles)

    @staticmethod
    def open_chan(
        *,
        session_id: SessionId,
        vq_a: HandleId,
        vq_b: HandleId,
        options: ChanOptions = ChanOptions(),
    ) -> OpenChan:
        """Open a channel between two logical qubits, at least one of them the session's own.

        The other may be another session's if this session holds CAP_LINK by itself and was opened
        with a CAP_LINK that the other's tenant delegated to it.
        """
        return OpenChan(session_id=session_id, vq_a=vq_a, vq_b=vq_b, options=options)

    @staticmethod
    def close_chan(*, session_id: SessionId, channel_id: ChannelId) -> CloseChan:
        """Close a channel that the session opened. `BUSY` while a job that is not over names it."""
        return CloseChan(session_id=session_id, channel_id=channel_id)

    @staticmethod
    def chan_status(*, session_id: SessionId, channel_id: ChannelId) -> ChanStatus:
        """Say how a channel that this session opened is."""
        return ChanStatus(session_id=session_id, channel_id=channel_id)

    @staticmethod
    def delegate(
        *,
        session_id: SessionId,
        rights: list[Right],
        tenant_id: TenantId,
        share: Share = Share(),
        expires_after_ms: int | None = None,
    ) -> Delegate:
        """Give a subset of one's own rights to another tenant.

        A session of that tenant uses them if it names the capability when it is opened. It ends
        when it expires, when it is revoked, or when the session that it came from closes.
        """
        return Delegate(
            session_id=session_id,
            rights=rights,
            tenant_id=tenant_id,
            share=share,
            expires_after_ms=expires_after_ms,
        )

    @staticmethod
    def revoke(*, session_id: SessionId, capability_id: CapabilityId) -> Revoke:
        """Take a delegated capability back, and with it all derived from it.

        Jobs that run by its rights stop at their next fence and fail with `INSUFFICIENT_CAPS`.
        """
        return Revoke(session_id=session_id, capability_id=capability_id)

    @staticmethod
    def get_mapping(*, session_id: SessionId, job_id: JobId) -> GetMapping:
        """Say which physical qubits carry a job's virtual ones.

        Each from its last allocation on. Refused where the program, or what would be said, is too
        long.
        """
        return GetMapping(session_id=session_id, job_id=job_id)

    @staticmethod
    def get_telemetry(
        *,
        session_id: SessionId,
        job_id: JobId | None = None,
        machine: bool = False,
        list_jobs: bool = False,
        list_capabilities: bool = False,
    ) -> GetTelemetry:
        """Report what the session uses; on request one job's cost too, or the machine's figures."""
        return GetTelemetry(
            session_id=session_id,
            job_id=job_id,
            machine=machine,
            list_jobs=list_jobs,
            list_capabilities=list_capabilities,
        )

    @staticmethod
    def inject_fault(
        *,
        session_id: SessionId,
        kind: FaultKind,
        what: list[str] = [],
        strength: float | None = None,
        after_cycles: int = 0,
        for_cycles: int | None = None,
    ) -> InjectFault:
        """Behave as if a part of the machine failed, to rehearse what happens then.

        No job's bits change but those of jobs accepted while a `calibration` fault lasts, which
        have the noise that they are told of. It outlives the daemon, and its session.
        """
        return InjectFault(
            session_id=session_id,
            kind=kind,
            what=what,
            strength=strength,
            after_cycles=after_cycles,
            for_cycles=for_cycles,
        )

    @staticmethod
    def clear_fault(*, session_id: SessionId, fault_id: str) -> ClearFault:
        """End an injected fault now, or one that is yet to begin.

        One of the machine's description ends as it says there.
        """
        return ClearFault(session_id=session_id, fault_id=fault_id)
