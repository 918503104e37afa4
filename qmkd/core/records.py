"""What outlives the daemon: the rows of the state directory's database, as the kernel sees them.

The kernel asks for rows to be written or to go with one effect, `Keep`; all rows of one `Keep`
become durable together, and those of an earlier one never later. It reads them back once, as
`Recovered`, before its first step. What a row looks like on the disk is in `qmkd/shell/store/`.

A row says what cannot be computed again: what was asked, by whom, with which seed, what came of it.
Counters, queues and plans are made anew from that.
"""

from __future__ import annotations

import msgspec

from qmkd.core.ports import SegmentReport
from qvm.program import Summary
from syscalls.capability import Share
from syscalls.channel import ChannelTerms
from syscalls.fault import Fault
from syscalls.findings import Finding
from syscalls.ids import CapabilityId, ChannelId, CheckpointId, HandleId, JobId, SessionId
from syscalls.job import ExecutionContext, JobStatus, Policy
from syscalls.rights import Right


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """An open session. Key: id. lent: capabilities it was opened with."""

    id: SessionId
    tenant: str
    granted: tuple[str, ...]
    lent: tuple[CapabilityId, ...] = ()
    opened_ns: int


class CapabilityRow(msgspec.Struct, frozen=True, kw_only=True):
    """A delegated capability. Key: id. giver: the session it came from.

    parent: the capability by which the giver holds these rights; None: by its tenant's rule.
    depth: steps from that rule. expires_ns: 0 for never.
    """

    id: CapabilityId
    number: int
    giver: SessionId
    parent: CapabilityId | None
    depth: int
    tenant: str
    rights: frozenset[Right]
    share: Share
    expires_ns: int


class HandleRow(msgspec.Struct, frozen=True, kw_only=True):
    """A logical qubit that a session holds. Key: id. profile: as asked. lent: capabilities by which
    it was allocated.

    module, first: where its block lies, by number and by its first physical qubit.
    """

    id: HandleId
    number: int
    session: SessionId
    profile: str
    module: int
    first: int
    lent: tuple[CapabilityId, ...] = ()


class ChannelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A channel that a session opened between qubits. Key: id. ends: its own first.

    consent: the capability by which the other one's tenant agreed; None where it is its own. lent:
    capabilities by which it was opened. asked: fidelity, 0 for none.
    """

    id: ChannelId
    number: int
    session: SessionId
    ends: tuple[HandleId, HandleId]
    consent: CapabilityId | None
    lent: tuple[CapabilityId, ...]
    asked: float
    terms: ChannelTerms


class GraphRow(msgspec.Struct, frozen=True, kw_only=True):
    """A verified graph, once for all jobs that submitted these bytes. Key: digest.

    digest: SHA-256 of the bytes. graph: read back only where a job that is not over needs it.
    """

    digest: bytes
    graph: bytes
    summary: Summary
    warnings: tuple[Finding, ...]


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted job. Key: id. number: its place in the order of acceptance, never given twice.

    graph: digest of its `GraphRow`. context: as it was accepted, with the versions of then.
    """

    id: JobId
    number: int
    session: SessionId
    tenant: str
    graph: bytes
    policy: Policy
    seed: int
    context: ExecutionContext
    created_ns: int
    checked_ns: int


class SliceRow(msgspec.Struct, frozen=True, kw_only=True):
    """Shots [first, first + report.shots) of a job are done. Key: job, first.

    The packed rows of these shots lie beside it: the store takes them from where the worker left
    them, `row_bytes` for each shot, `shots_total` shots in all. Read back, `job` may be a
    checkpoint: slices come to it by `CopyRow` alone.
    """

    job: JobId | CheckpointId
    first: int
    shots_total: int
    row_bytes: int
    report: SegmentReport


class SnapshotRow(msgspec.Struct, frozen=True, kw_only=True):
    """What shots [first, first + shots) of a job go on from, as of the fence of `epoch`.

    Key: ticket, of the segment that was parked. Its `size` bytes lie beside it, as packed rows do;
    digest: SHA-256 of these. holder: a job or a checkpoint. of: ticket of a row in the store whose
    bytes are copied for this one; 0 where the shell holds them.
    """

    ticket: int
    holder: JobId | CheckpointId
    first: int
    shots: int
    epoch: int
    size: int
    digest: bytes
    of: int = 0


class CheckpointRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a job was at a fence, for another job to go on from. Key: id.

    job: as it was accepted; its graph is kept for this row as it is for a job. Slices and snapshots
    lie under the checkpoint's own id, so that it outlives the job. number: as of jobs, never given
    twice.
    """

    id: CheckpointId
    number: int
    tenant: str
    job: JobRow
    epoch: int
    created_ns: int


class CopyRow(msgspec.Struct, frozen=True, kw_only=True):
    """The slices of `source` up to here, packed rows with them, are those of `target` too.

    One of them is a job and one a checkpoint. No key: it is done once and not read back. It comes
    in one `Keep` with the row of its target.
    """

    source: JobId | CheckpointId
    target: JobId | CheckpointId


class EndRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job is over, and how. Key: job. From now on nothing of it ever changes.

    status: without counts and probabilities, which the slices hold; completed_ns as in it.
    """

    job: JobId
    status: JobStatus
    completed_ns: int


class FaultRow(msgspec.Struct, frozen=True, kw_only=True):
    """An injected fault that is not over. Key: id. Its cycles are the machine's, which go on."""

    id: str
    fault: Fault


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the audit chain. Key: number, from 1 without gaps. `qmkd/core/audit.py`."""

    number: int
    body: bytes
    hash: bytes


Row = (
    SessionRow
    | CapabilityRow
    | HandleRow
    | ChannelRow
    | GraphRow
    | JobRow
    | SliceRow
    | SnapshotRow
    | CheckpointRow
    | CopyRow
    | EndRow
    | FaultRow
    | AuditRow
)


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that nobody may read any more.

    sessions: closed. capabilities: that ended. jobs, checkpoints: with their slices, snapshots and
    ends, and with graphs that no others name. results: jobs of which only slices go, packed rows
    with them. snapshots: by ticket. handles, channels: that nobody can name any more. faults: that
    ended.
    """

    sessions: tuple[SessionId, ...] = ()
    capabilities: tuple[CapabilityId, ...] = ()
    jobs: tuple[JobId, ...] = ()
    results: tuple[JobId, ...] = ()
    snapshots: tuple[int, ...] = ()
    checkpoints: tuple[CheckpointId, ...] = ()
    handles: tuple[HandleId, ...] = ()
    channels: tuple[ChannelId, ...] = ()
    faults: tuple[str, ...] = ()


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """All there is when the daemon starts. jobs, checkpoints: by number. slices: by job or
    checkpoint and first shot. snapshots: by ticket.

    epoch, numbered, cycle: the largest that any `Keep` named. graphs: `graph` is empty where no
    checkpoint names it and every job that does is over.
    """

    epoch: int = 0
    numbered: int = 0
    cycle: int = 0
    audited: int = 0
    audit_head: bytes = b""
    sessions: tuple[SessionRow, ...] = ()
    capabilities: tuple[CapabilityRow, ...] = ()
    handles: tuple[HandleRow, ...] = ()
    channels: tuple[ChannelRow, ...] = ()
    graphs: tuple[GraphRow, ...] = ()
    jobs: tuple[JobRow, ...] = ()
    slices: tuple[SliceRow, ...] = ()
    snapshots: tuple[SnapshotRow, ...] = ()
    checkpoints: tuple[CheckpointRow, ...] = ()
    ends: tuple[EndRow, ...] = ()
    faults: tuple[FaultRow, ...] = ()
