"""Following jobs without asking again and again: subscriptions and their notifications.

A notification is sent on the connection that subscribed, never answered, and stops when the job
is over. Progress may be coalesced: `seq` counts a job's events, so a gap in it shows how many
were left out.
"""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from syscalls.errors import AccessDenied, JobNotFound, QuotaExceeded
from syscalls.fault import Degraded
from syscalls.ids import JobId, JobIdIn
from syscalls.job import JobState, Progress, Time
from syscalls.syscall import Errors, Reply, SessionCall

EventKind = Literal["state", "progress", "degraded", "attestation"]


class Attestation(Struct, frozen=True, kw_only=True):
    """The audit chain as it stood when epochs of a job had become durable.

    Whoever keeps these can hold the chain against them later (`qmkctl audit verify`).
    """

    number: Annotated[int, Meta(description="Of the chain's last entry then.")]
    hash: Annotated[str, Meta(description="Its hash, 64 hex digits, which stands for all before.")]
    epoch: Annotated[int, Meta(description="Of the machine; what closed up to it is durable.")]


class JobEvent(Reply, frozen=True, kw_only=True):
    """Something happened to a job: it moved to another state or got further, what is wrong with
    the machine changed how it runs, or what it has done so far became durable."""

    METHOD: ClassVar[str] = "q_event"

    job_id: JobId
    seq: Annotated[int, Meta(description="Counts this job's events from 1.")]
    kind: EventKind
    state: JobState
    progress: Progress
    at: Time
    degraded: Annotated[
        list[Degraded] | None,
        Meta(description="With kind `degraded`: all that changes how the job runs from now on."),
    ] = None
    attestation: Annotated[
        Attestation | None,
        Meta(description="With kind `attestation`, which comes where the daemon keeps a chain."),
    ] = None


class Subscribed(Reply, frozen=True, kw_only=True):
    """The subscription now stands; the next notification says where the job is."""

    subscription: str


class Subscribe(SessionCall, frozen=True, kw_only=True):
    """Be told about a job, or about all of the session's jobs, until they are over."""

    METHOD: ClassVar[str] = "q_subscribe"
    REPLY: ClassVar[type[Reply]] = Subscribed
    REFUSALS: ClassVar[Errors] = (JobNotFound, AccessDenied, QuotaExceeded)

    job_id: Annotated[
        JobIdIn | None, Meta(description="The job; null for all jobs of the session.")
    ] = None
