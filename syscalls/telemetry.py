"""What a session uses, what a job cost, how the machine is, where a job's qubits lie.

A session sees its own figures; the machine's need CAP_ADMIN, the mapping needs CAP_DEBUG.
"""

from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from syscalls.capability import CapabilityInfo
from syscalls.errors import AccessDenied, InsufficientCaps, JobNotFound, ResourceExhausted
from syscalls.fault import Degraded
from syscalls.ids import HandleId, JobId, JobIdIn
from syscalls.job import JobState, JobTelemetry
from syscalls.rights import Right
from syscalls.syscall import Errors, Reply, SessionCall


class HeldQubit(Struct, frozen=True, kw_only=True):
    """A logical qubit that the session holds. in_use: a job lies there now. channels: how many that
    are open end in it, of whoever opened them."""

    handle: HandleId
    profile: str
    module: str
    in_use: bool
    channels: int = 0


class ResourceUsage(Struct, frozen=True, kw_only=True):
    """What the session holds now. utilization: physical used over quota, 0 to 1.

    physical_qubits_available: left of the tenant's quota, on a machine that may have fewer free.
    """

    logical_qubits_allocated: int = 0
    physical_qubits_used: int = 0
    physical_qubits_available: int = 0
    utilization: float = 0.0
    channels_open: Annotated[int, Meta(description="That this session opened.")] = 0


class Telemetry(Reply, frozen=True, kw_only=True):
    """The caller's own figures, and those asked for beside them."""

    resource_usage: ResourceUsage
    jobs: Annotated[dict[JobState, int], Meta(description="The session's jobs, by state.")]
    job: Annotated[
        JobTelemetry | None, Meta(description="The job's figures, if one was named.")
    ] = None
    machine: Annotated[
        dict[str, Any] | None, Meta(description="The whole machine's figures, if asked for.")
    ] = None
    degraded: Annotated[
        list[Degraded],
        Meta(description="What is done about failed parts, as far as it concerns live jobs."),
    ] = []
    job_ids: Annotated[
        list[JobId] | None,
        Meta(description="The session's jobs, oldest first, if asked for."),
    ] = None
    capabilities: Annotated[
        list[CapabilityInfo] | None,
        Meta(description="Capabilities from this session or offered to its tenant, if asked for."),
    ] = None
    qubits: Annotated[
        list[HeldQubit], Meta(description="Those of `q_alloc` that the session holds.")
    ] = []


class GetTelemetry(SessionCall, frozen=True, kw_only=True):
    """Report what the session uses; on request one job's cost too, or the machine's figures."""

    METHOD: ClassVar[str] = "q_get_telemetry"
    REPLY: ClassVar[type[Reply]] = Telemetry
    REFUSALS: ClassVar[Errors] = (InsufficientCaps, JobNotFound, AccessDenied)

    job_id: Annotated[JobIdIn | None, Meta(description="Also report this job's cost.")] = None
    machine: Annotated[
        bool, Meta(description="Also report on the whole machine; needs CAP_ADMIN.")
    ] = False
    list_jobs: Annotated[bool, Meta(description="Also list the session's jobs by id.")] = False
    list_capabilities: Annotated[
        bool, Meta(description="Also list the newest 256 delegated capabilities of each kind.")
    ] = False


class Mapping(Reply, frozen=True, kw_only=True):
    """Where each virtual qubit of a job lay at the end of `epoch`: its physical qubits.

    All those of its code block, which qubits of some codes share. Empty while the job holds none.
    """

    job_id: JobId
    epoch: int
    mapping: dict[str, list[int]]


class GetMapping(SessionCall, frozen=True, kw_only=True):
    """Say which physical qubits carry a job's virtual ones.

    Each from its last allocation on. Refused where the program, or what would be said, is too
    long.
    """

    METHOD: ClassVar[str] = "q_get_mapping"
    REPLY: ClassVar[type[Reply]] = Mapping
    NEEDS: ClassVar[Right | None] = Right.DEBUG
    REFUSALS: ClassVar[Errors] = (JobNotFound, AccessDenied, ResourceExhausted)

    job_id: JobIdIn
