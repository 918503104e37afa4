"""Checkpoints: what a job was when it was at rest, kept under a name of its own.

A checkpoint owns copies of all it needs, so it outlives its job: of what was done, of what stood at
a fence, of the program's bytes. It is its session's, as jobs are, and ends with it, when it is
dropped, or when it is as old as a finished job may be. Making a job of one is `restoring.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from qmkd.core.effects import CopyResults, CopySnapshot, DropResults, DropSnapshots
from qmkd.core.events import Called
from qmkd.core.keeping import answer_when_kept, job_rows, keep, let_go, masked, write_down
from qmkd.core.limits import COUNTS_KEY_BYTES, LEAF_BYTES
from qmkd.core.quotas import change, check_change, over
from qmkd.core.records import CheckpointRow, CopyRow, Gone, SnapshotRow
from qmkd.core.state import Checkpoint, Job, Parked, Session, Slice, State, Tenant
from qmkd.core.waiting import answer
from qmkd.core.wording import time_text
from syscalls.checkpoint import (
    CheckpointDropped,
    Checkpointed,
    CheckpointKept,
    CheckpointsListed,
    DropCheckpoint,
)
from syscalls.errors import CheckpointNotFound, KernelError
from syscalls.ids import ID_BYTES, CheckpointId, JobId, checkpoint_id
from syscalls.results import SHOT_BLOCK

_IDENTITY: Final = (
    "session", "program", "policy", "seed", "plan", "context", "digest", "created_ns", "created_at",
    "checked_ns", "table",
)  # fmt: skip
_PROGRESS: Final = (
    "shots_given", "shots_done", "counts", "counts_omitted", "probabilities", "first_row", "cpu_ns",
    "spent", "decoder",
)  # fmt: skip


def check_more(state: State, tenant: Tenant, size: int = 0) -> KernelError | None:
    """Whether the tenant may have one more checkpoint, of so many bytes."""
    quota = tenant.rule.quota
    return (
        over("checkpoints", quota.checkpoints, len(tenant.checkpoints), 1)
        or over("bytes of checkpoints", quota.checkpoint_bytes, tenant.checkpoint_bytes, size)
        or check_change(tenant, state.now_ns)
    )


def find(session: Session, name: CheckpointId) -> Checkpoint | KernelError:
    """The session's checkpoint of that name. Anybody else's is none."""
    made = session.tenant.checkpoints.get(name)
    return made if made is not None and made.session is session else CheckpointNotFound()


def checkpoints_of(session: Session) -> list[Checkpoint]:
    """The oldest first."""
    return [made for made in session.tenant.checkpoints.values() if made.session is session]


# --- taking -------------------------------------------------------------------------------------


def take(state: State, job: Job, parked: Parked) -> None:
    """Keep the job as it is now, at rest; the answer comes when that is durable."""
    assert parked.wish is not None
    name = checkpoint_id(parked.wish.entropy[:ID_BYTES])
    size = size_of(job, job.program.graph)
    refusal = check_more(state, job.tenant, size)
    if refusal is not None:
        answer(state, parked, refusal)
        return
    row = CheckpointRow(
        id=name,
        number=state.number(),
        tenant=job.tenant.rule.name,
        job=job_rows(job)[1],
        epoch=stands_at(job),
        created_ns=state.now_ns,
    )
    keep(state, row)
    copy = Job(id=job.id, number=job.number, **_parts(job, _IDENTITY))
    carry_on(state, copy, job, job.id, name)
    made = Checkpoint(row, job.session, copy, job.program.graph, size)
    enter(made)
    change(job.tenant, state.now_ns)
    state.version += 1
    write_down(
        state,
        "checkpoint taken",
        checkpoint=name,
        job=job.id,
        session=masked(job.session.id),
        at_epoch=row.epoch,
        shots_done=copy.shots_done,
        size=size,
    )
    done = Checkpointed(
        checkpoint_id=name, epoch=row.epoch, shots_done=copy.shots_done, size_bytes=size
    )
    answer_when_kept(state, parked, done)


def _parts(job: Job, names: Iterable[str]) -> dict[str, Any]:
    """Fields of a job; what may grow is copied."""
    found = {name: getattr(job, name) for name in names}
    for name, each in found.items():
        if isinstance(each, dict):
            found[name] = each.copy()
    return found


def carry_on(
    state: State, job: Job, earlier: Job, source: JobId | CheckpointId, target: JobId | CheckpointId
) -> None:
    """Let a job stand where an earlier one stood at rest, with copies of all that it has.

    source, target: whose the originals are, and the copies. Decoder data is not kept, and it has to
    be that of all shots, so a job with such data begins anew.
    """
    if job.data_total:
        return
    for name, value in _parts(earlier, _PROGRESS).items():
        setattr(job, name, value)
    job.leaves = known_leaves(earlier)
    if earlier.shots_done:
        state.out.append(CopyResults(source, target))
        keep(state, CopyRow(source=source, target=target))
    job.again = [_copied(state, given, target) for given in earlier.again]


def known_leaves(job: Job) -> bytearray:
    """Its leaves without the zeros at the end, which stand for shots that are yet to be run: of
    those there may be far more than a checkpoint counts for."""
    given = LEAF_BYTES * -(-job.shots_given // SHOT_BLOCK)
    return job.leaves[:given].rstrip(b"\0")


def _copied(state: State, given: Slice, holder: JobId | CheckpointId) -> Slice:
    if given.parked is None:
        return Slice(given.first, given.shots)
    before = given.parked
    row = replace(before, ticket=state.number(), holder=holder, of=before.ticket)
    state.out.append(CopySnapshot(before.ticket, row.ticket))
    keep(state, row)
    return Slice(given.first, given.shots, parked=row)


def size_of(job: Job, graph: bytes) -> int:
    """What a checkpoint of the job takes, about."""
    if job.data_total:
        return len(graph)
    done = job.shots_done * job.row_bytes + LEAF_BYTES * -(-job.shots_done // SHOT_BLOCK)
    outcomes = len(job.counts or ()) * (COUNTS_KEY_BYTES + len(job.program.order))
    return len(graph) + done + outcomes + sum(row.size for row in snapshots(job))


def snapshots(job: Job) -> list[SnapshotRow]:
    """What of a job at rest stands at a fence."""
    return [given.parked for given in job.again if given.parked is not None]


def stands_at(job: Job) -> int:
    """The least epoch at whose end anything of it stands; 0 where nothing does."""
    return min((row.epoch for row in snapshots(job)), default=0)


# --- keeping and dropping -----------------------------------------------------------------------


def enter(made: Checkpoint) -> None:
    """Put a checkpoint into every table."""
    made.session.tenant.checkpoints[made.row.id] = made
    made.session.tenant.checkpoint_bytes += made.size


def q_list_checkpoints(state: State, session: Session, event: Called) -> CheckpointsListed:
    """q_list_checkpoints. Changes nothing."""
    found = [
        CheckpointKept(
            checkpoint_id=made.row.id,
            job_id=made.row.job.id,
            epoch=made.row.epoch,
            shots_done=made.job.shots_done,
            shots_total=made.job.policy.shots,
            size_bytes=made.size,
            created_at=time_text(made.row.created_ns),
        )
        for made in checkpoints_of(session)
    ]
    return CheckpointsListed(checkpoints=found)


def drop(state: State, made: Checkpoint) -> None:
    """Know nothing of a checkpoint any more. Jobs that went on from it have copies of their own."""
    if rows := snapshots(made.job):
        state.out.append(DropSnapshots(tuple(row.ticket for row in rows)))
    if made.job.shots_done:
        state.out.append(DropResults(made.row.id))
    let_go(state, Gone(checkpoints=(made.row.id,)))
    del made.session.tenant.checkpoints[made.row.id]
    made.session.tenant.checkpoint_bytes -= made.size
    state.version += 1


def q_drop_checkpoint(
    state: State, session: Session, event: Called
) -> CheckpointDropped | KernelError:
    """q_drop_checkpoint."""
    request = event.request
    assert isinstance(request, DropCheckpoint)
    made = find(session, request.checkpoint_id)
    if isinstance(made, KernelError):
        return made
    drop(state, made)
    write_down(state, "checkpoint dropped", checkpoint=made.row.id, session=masked(session.id))
    return CheckpointDropped(checkpoint_id=made.row.id, size_bytes=made.size)
