"""Keeping a job's state at a fence, continuing from it, moving it, running it again.

None of it changes a bit of the job's result (docs/checkpoints.md).
"""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from syscalls.errors import (
    AccessDenied,
    AlreadyCompleted,
    CheckpointIncompatible,
    CheckpointNotFound,
    DeadlineUnreachable,
    FidelityUnavailable,
    InsufficientCaps,
    InvalidGraph,
    JobNotFound,
    NoFence,
    NotAvailable,
    NotBrokered,
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
    epoch: Annotated[
        int,
        Meta(description="The least at which shots under way stand; 0 where none are."),
    ]
    size_bytes: int
    shots_done: int


class Checkpoint(SessionCall, frozen=True, kw_only=True):
    """Keep a job's state at its next fence. The job goes on by itself."""

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
    CHANCE: ClassVar[bool] = True

    job_id: JobIdIn
    how: Annotated[
        Literal["forward", "rollback"],
        Meta(
            description="Go on to the next fence, or back to the one before where what was run "
            "since can be undone; else `rollback` is `forward`."
        ),
    ] = "forward"


class Restored(Reply, frozen=True, kw_only=True):
    """The new job, which continues from the checkpoint's fence."""

    job_id: JobId
    epoch: int
    shots_done: int


class Restore(SessionCall, frozen=True, kw_only=True):
    """Continue from a checkpoint, as a new job."""

    METHOD: ClassVar[str] = "q_restore"
    REPLY: ClassVar[type[Reply]] = Restored
    NEEDS: ClassVar[Right | None] = Right.CHECKPOINT
    REFUSALS: ClassVar[Errors] = (
        NotAvailable,
        CheckpointNotFound,
        ProgramTooWide,
        DeadlineUnreachable,
        QuotaExceeded,
        ResourceExhausted,
        FidelityUnavailable,
        NotBrokered,
        CheckpointIncompatible,
    )
    CHANCE: ClassVar[bool] = True

    checkpoint_id: CheckpointIdIn


class CheckpointKept(Struct, frozen=True, kw_only=True):
    """A checkpoint that the session has."""

    checkpoint_id: CheckpointId
    job_id: Annotated[JobId, Meta(description="The job that it was taken of.")]
    epoch: int
    shots_done: int
    shots_total: int
    size_bytes: int
    created_at: str


class CheckpointsListed(Reply, frozen=True, kw_only=True):
    """All checkpoints of the session, the oldest first."""

    checkpoints: list[CheckpointKept]


class ListCheckpoints(SessionCall, frozen=True, kw_only=True):
    """Tell which checkpoints the session has."""

    METHOD: ClassVar[str] = "q_list_checkpoints"
    REPLY: ClassVar[type[Reply]] = CheckpointsListed
    NEEDS: ClassVar[Right | None] = Right.CHECKPOINT


class CheckpointDropped(Reply, frozen=True, kw_only=True):
    """The checkpoint is no more, and what it took is given back."""

    checkpoint_id: CheckpointId
    size_bytes: int


class DropCheckpoint(SessionCall, frozen=True, kw_only=True):
    """Let a checkpoint go. Jobs that went on from it are not touched."""

    METHOD: ClassVar[str] = "q_drop_checkpoint"
    REPLY: ClassVar[type[Reply]] = CheckpointDropped
    NEEDS: ClassVar[Right | None] = Right.CHECKPOINT
    REFUSALS: ClassVar[Errors] = (CheckpointNotFound,)

    checkpoint_id: CheckpointIdIn


class Migrated(Reply, frozen=True, kw_only=True):
    """Where the job is now, since the fence that closed `epoch`."""

    job_id: JobId
    placement: str
    epoch: int


class Migrate(SessionCall, frozen=True, kw_only=True):
    """Move a job to another module at its next fence, where it stays. It goes on by itself."""

    METHOD: ClassVar[str] = "q_migrate"
    REPLY: ClassVar[type[Reply]] = Migrated
    NEEDS: ClassVar[Right | None] = Right.MIGRATE
    REFUSALS: ClassVar[Errors] = (
        JobNotFound,
        AccessDenied,
        AlreadyCompleted,
        QuotaExceeded,
        ResourceExhausted,
        NoFence,
    )

    job_id: JobIdIn
    target: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=TARGET_CHARS_MAX,
            description="The module of the machine to move to, by name.",
        ),
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
        FidelityUnavailable,
        NotBrokered,
    )

    job_id: JobIdIn
