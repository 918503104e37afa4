"""Keeping a job's state at a fence, continuing from it, moving it, running it again.

The types are fixed; this build answers all but q_replay with `NotAvailable`.
"""

from typing import Annotated, ClassVar

from msgspec import Meta

from syscalls.errors import (
    AccessDenied,
    AlreadyCompleted,
    CheckpointIncompatible,
    CheckpointNotFound,
    DeadlineUnreachable,
    InsufficientCaps,
    InvalidGraph,
    JobNotFound,
    NoFence,
    NotAvailable,
    ProgramTooWide,
    QuotaExceeded,
    ResourceExhausted,
    ResultsDropped,
)
from syscalls.ids import CheckpointId, CheckpointIdIn, JobId, JobIdIn
from syscalls.rights import Right
from syscalls.syscall import Errors, Reply, SessionCall

TARGET_CHARS_MAX = 128


class Checkpointed(Reply, frozen=True, kw_only=True):
    """A job's state, kept as of the fence that closed `epoch`."""

    checkpoint_id: CheckpointId
    epoch: int
    size_bytes: int


class Checkpoint(SessionCall, frozen=True, kw_only=True):
    """Keep a job's state at its next fence."""

    METHOD: ClassVar[str] = "q_checkpoint"
    REPLY: ClassVar[type[Reply]] = Checkpointed
    NEEDS: ClassVar[Right | None] = Right.CHECKPOINT
    REFUSALS: ClassVar[Errors] = (
        JobNotFound,
        AccessDenied,
        AlreadyCompleted,
        QuotaExceeded,
        NoFence,
    )
    AVAILABLE: ClassVar[bool] = False

    job_id: JobIdIn


class Restored(Reply, frozen=True, kw_only=True):
    """The new job, which continues from the checkpoint's fence."""

    job_id: JobId
    epoch: int


class Restore(SessionCall, frozen=True, kw_only=True):
    """Continue from a checkpoint, as a new job."""

    METHOD: ClassVar[str] = "q_restore"
    REPLY: ClassVar[type[Reply]] = Restored
    NEEDS: ClassVar[Right | None] = Right.CHECKPOINT
    REFUSALS: ClassVar[Errors] = (
        CheckpointNotFound,
        QuotaExceeded,
        ResourceExhausted,
        CheckpointIncompatible,
    )
    AVAILABLE: ClassVar[bool] = False

    checkpoint_id: CheckpointIdIn


class Migrated(Reply, frozen=True, kw_only=True):
    """Where the job is now, since the fence that closed `epoch`."""

    job_id: JobId
    placement: str
    epoch: int


class Migrate(SessionCall, frozen=True, kw_only=True):
    """Move a job to another placement at its next fence."""

    METHOD: ClassVar[str] = "q_migrate"
    REPLY: ClassVar[type[Reply]] = Migrated
    NEEDS: ClassVar[Right | None] = Right.MIGRATE
    REFUSALS: ClassVar[Errors] = (
        JobNotFound,
        AccessDenied,
        AlreadyCompleted,
        ResourceExhausted,
        NoFence,
    )
    AVAILABLE: ClassVar[bool] = False

    job_id: JobIdIn
    target: Annotated[
        str,
        Meta(min_length=1, max_length=TARGET_CHARS_MAX, description="The placement to move to."),
    ]


class Replayed(Reply, frozen=True, kw_only=True):
    """The new job, which repeats `replay_of` bit by bit."""

    job_id: JobId
    replay_of: JobId


class Replay(SessionCall, frozen=True, kw_only=True):
    """Run a job again from its record: the same bits, as a new job.

    Where they would not be the same, because versions or the machine's noise have changed, this
    is refused and the refusal says what has changed.
    """

    METHOD: ClassVar[str] = "q_replay"
    REPLY: ClassVar[type[Reply]] = Replayed
    CHANCE: ClassVar[bool] = True
    REFUSALS: ClassVar[Errors] = (
        NotAvailable,
        InsufficientCaps,
        JobNotFound,
        AccessDenied,
        ResultsDropped,
        InvalidGraph,
        ProgramTooWide,
        DeadlineUnreachable,
        QuotaExceeded,
        ResourceExhausted,
    )

    job_id: JobIdIn
