"""Submitting a program as a job, following it, stopping it.

A job's program is kept raw here and decoded by `qvm`. Its results are in `syscalls.results`,
its notifications in `syscalls.events`.
"""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
from msgspec import Meta, Struct

from syscalls.channel import ChannelTerms
from syscalls.decoding import DecoderFigures, DecoderSpeed
from syscalls.errors import (
    AccessDenied,
    AlreadyCompleted,
    DeadlineUnreachable,
    FidelityUnavailable,
    IdempotencyConflict,
    InsufficientCaps,
    InvalidGraph,
    JobNotFound,
    KernelError,
    NotAvailable,
    NotBrokered,
    ProgramTooWide,
    QuotaExceeded,
    ResourceExhausted,
    Timeout,
)
from syscalls.findings import Finding
from syscalls.ids import CheckpointId, JobId, JobIdIn, SessionId
from syscalls.plan import JobPlan
from syscalls.syscall import Errors, Reply, SessionCall

SHOTS_MAX = 10_000_000
SEED_MAX = 2**64 - 1
PRIORITY_MIN = -100
PRIORITY_MAX = 100
TIMEOUT_MS_MAX = 30 * 24 * 3600 * 1000  # thirty days
DEADLINE_EPOCHS_MAX = 2**53 - 1
IDEMPOTENCY_KEY_CHARS_MAX = 128

# Numbers that JavaScript clients meet stay exact in a double. A seed alone is wider; such a
# client sends its seeds within 2**53 or uses a bigint reader.
assert SHOTS_MAX < 2**53
assert TIMEOUT_MS_MAX < 2**53


class JobState(StrEnum):
    """Where a job stands. The last three are final."""

    QUEUED = "QUEUED"
    VALIDATING = "VALIDATING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


FINAL_STATES = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})


class Noise(StrEnum):
    """Which noise a job runs under. `ideal`: none. `profile`: what its code profiles give.

    `calibrated`, which `profile` means: each operation and each wait errs by the logical Pauli
    channel that was measured for the code, its distance and the machine's physical noise.
    `decoded`: the syndromes of every logical qubit are drawn and decoded while shots run, and what
    the decoder gets wrong errs; not for SHYPS.
    `physical`: the whole program is one circuit of physical qubits, drawn and decoded; for a few
    patches of Surface and BaconShor, transversal Clifford gates, and conditions on Paulis only.
    """

    IDEAL = "ideal"
    PROFILE = "profile"
    CALIBRATED = "calibrated"
    DECODED = "decoded"
    PHYSICAL = "physical"


CryptoMode = Literal["classical", "hybrid", "pqc-required"]
"""Which signatures a record has: a classical one; a post-quantum one as well; the latter so that
nobody may do without it."""


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a program is to be run. Every field has a default."""

    shots: Annotated[int, Meta(ge=1, le=SHOTS_MAX, description="How often to run it.")] = 1
    seed: Annotated[
        Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": SEED_MAX})] | None,
        Meta(
            description="Fixes every random choice: the same program, seed and shots give the "
            "same bits. Null takes a fresh one, reported in `execution_context.seed`."
        ),
    ] = None
    priority: Annotated[
        int,
        Meta(ge=PRIORITY_MIN, le=PRIORITY_MAX, description="Higher runs first, within a tenant."),
    ] = 0
    deadline_epochs: Annotated[
        Annotated[int, Meta(ge=1, le=DEADLINE_EPOCHS_MAX)] | None,
        Meta(description="Refuse the job if it needs more epochs than this."),
    ] = None
    timeout_ms: Annotated[
        Annotated[int, Meta(ge=1, le=TIMEOUT_MS_MAX)] | None,
        Meta(description="Wall time allowed once running; null for no limit of its own."),
    ] = None
    noise: Annotated[
        Noise,
        Meta(
            description="Which errors the job suffers. A job that does not say suffers those of "
            "its qubits' profiles."
        ),
    ] = Noise.PROFILE
    counts: Annotated[
        bool, Meta(description="False skips counting; results are then packed only.")
    ] = True
    exact: Annotated[
        bool,
        Meta(
            description="Work out the exact probability of every outcome instead of running shots; "
            "`shots` then stands for nothing. For small programs; others are refused."
        ),
    ] = False
    decoder_data: Annotated[
        bool,
        Meta(
            description="Keep what decoders knew of each shot, for `q_results` with format "
            "`decoder`: how sure they were, what they saw, what they got wrong. It counts as "
            "results do, and makes decoding many times dearer. Under `decoded` and `physical` "
            "noise."
        ),
    ] = False
    raise_distance: Annotated[
        bool,
        Meta(
            description="While the machine errs more often than it should, run Surface codes at "
            "the next distance that errs no more than the asked one usually does, if its errors "
            "are known. It takes more qubits and time; `execution_context.raised` says so."
        ),
    ] = False
    debug: Annotated[bool, Meta(description="Keep what is needed to look into the job.")] = False
    crypto_mode: Annotated[
        CryptoMode | None,
        Meta(
            description="How a manifest of the job is to be signed at least; told on to whoever "
            "signs, in `execution_context.crypto_mode`."
        ),
    ] = None
    idempotency_key: Annotated[
        Annotated[str, Meta(min_length=1, max_length=IDEMPOTENCY_KEY_CHARS_MAX)] | None,
        Meta(
            description="Unique within the tenant. Submitting the same twice under one key makes "
            "one job; another submission or session is refused the key while the job is known."
        ),
    ] = None

    def __post_init__(self) -> None:
        # Bounds beyond int64 cannot be written as Meta (msgspec 0.22).
        if self.seed is not None and not 0 <= self.seed <= SEED_MAX:
            raise ValueError(f"Expected `int` in 0..{SEED_MAX} - at `$.seed`")


class Submitted(Reply, frozen=True, kw_only=True):
    """The job a submission made, or had made before under the same idempotency key (`reused`)."""

    job_id: JobId
    state: JobState
    estimated_epochs: int
    warnings: Annotated[
        list[Finding], Meta(description="What the verifier thought worth knowing.")
    ] = []
    reused: bool = False


class Submit(SessionCall, frozen=True, kw_only=True):
    """Verify a program and queue it as a job.

    The graph is verified before the answer: an invalid one is refused with its findings, and
    nothing of it remains.
    """

    METHOD: ClassVar[str] = "q_submit"
    REPLY: ClassVar[type[Reply]] = Submitted
    REFUSALS: ClassVar[Errors] = (
        InsufficientCaps,
        IdempotencyConflict,
        InvalidGraph,
        ProgramTooWide,
        DeadlineUnreachable,
        QuotaExceeded,
        ResourceExhausted,
        FidelityUnavailable,
        NotBrokered,
        NotAvailable,
    )
    CHANCE: ClassVar[bool] = True

    graph: Annotated[
        msgspec.Raw, Meta(description="The program, a QVM graph (a JSON object), version 0.1.")
    ]
    policy: Policy = Policy()


class Planned(Reply, frozen=True, kw_only=True):
    """How the program would be run, had it been submitted just now."""

    plan: JobPlan
    estimated_epochs: int
    warnings: Annotated[
        list[Finding], Meta(description="What the verifier thought worth knowing.")
    ] = []


class PlanJob(SessionCall, frozen=True, kw_only=True):
    """Say how a program would be run, and what that should cost, without running it.

    Verifies the program and refuses what `q_submit` would refuse. Makes no job; a seed or an
    idempotency key changes nothing.
    """

    METHOD: ClassVar[str] = "q_plan"
    REPLY: ClassVar[type[Reply]] = Planned
    REFUSALS: ClassVar[Errors] = (
        InsufficientCaps,
        InvalidGraph,
        ProgramTooWide,
        DeadlineUnreachable,
        QuotaExceeded,
        ResourceExhausted,
        FidelityUnavailable,
        NotBrokered,
        NotAvailable,
    )

    graph: Annotated[
        msgspec.Raw, Meta(description="The program, a QVM graph (a JSON object), version 0.1.")
    ]
    policy: Policy = Policy()


class Progress(Struct, frozen=True, kw_only=True):
    """How far a job is. Nodes and epochs count one shot's walk through the program."""

    current_epoch: int = 0
    total_epochs: int = 0
    nodes_executed: int = 0
    nodes_total: int = 0
    shots_done: int = 0
    shots_total: int = 0


class JobTelemetry(Struct, frozen=True, kw_only=True):
    """What a job has cost so far."""

    total_epochs: int = 0
    total_gates: int = 0
    physical_qubits_used: int = 0
    decoder_cycles: Annotated[
        int, Meta(description="Rounds of syndrome that were decoded, of all logical qubits.")
    ] = 0
    decoder: Annotated[
        DecoderFigures | None,
        Meta(description="What decoders did, where syndromes were decoded while shots ran."),
    ] = None
    queue_time_ms: float = 0.0
    validation_time_ms: float = 0.0
    execution_time_ms: float = 0.0
    cpu_ns: Annotated[
        int, Meta(description="CPU time of workers, of all segments that were finished.")
    ] = 0
    spent_ns: Annotated[
        dict[str, int],
        Meta(
            description="The same time by what it went to: `read` and `compile` the program, "
            "engines by name, `rows` of bits that engines share, `results` made of them."
        ),
    ] = {}
    plan: Annotated[JobPlan | None, Meta(description="How it was planned; compare `cpu_ns`.")] = (
        None
    )
    queue_cycles: Annotated[
        int, Meta(description="Machine cycles that it waited for its place, all times together.")
    ] = 0
    machine_cycles: Annotated[
        int, Meta(description="Machine cycles that it held its place, for the shots handed out.")
    ] = 0
    machine_time_ms: Annotated[
        float, Meta(description="The same in time, by the machine's cycle.")
    ] = 0.0
    slowed_by: Annotated[
        str,
        Meta(
            description="What makes its shots longer than their operations: `T states`, `links` or "
            "`decoding`, where factories, links or decoder cannot keep up; else empty."
        ),
    ] = ""
    moves: Annotated[
        int,
        Meta(
            description="How often its blocks were moved to make room for others, or away from "
            "what has failed."
        ),
    ] = 0
    pairs: Annotated[
        int, Meta(description="Bell pairs used between modules, if every guard held.")
    ] = 0
    raw_pairs: Annotated[
        float, Meta(description="Raw Bell pairs that these took of links, in the mean.")
    ] = 0.0


class PeakResources(Struct, frozen=True, kw_only=True):
    """The most a job held at the same time."""

    logical_qubits: int = 0
    physical_qubits: int = 0
    channels: int = 0


class ProfileApplied(Struct, frozen=True, kw_only=True):
    """A code profile as the program asked for it and as it was realised."""

    requested: str
    applied: str
    note: str = ""


class NoiseApplied(Struct, frozen=True, kw_only=True):
    """The noise mode asked for and the one applied; `why` where they differ."""

    requested: str
    applied: str
    why: str = ""
    times: Annotated[
        float, Meta(description="How many times as strong as configured, where that had drifted.")
    ] = 1.0


class RaisedCode(Struct, frozen=True, kw_only=True):
    """A code that the program asks for at one distance and has at a larger one."""

    code: str
    distance: int
    to: int


class PairsUsed(Struct, frozen=True, kw_only=True):
    """Bell pairs that are alike. nodes: of the program, by number, that use one each. channels: by
    the names that the program has for them; empty for `TELEPORT_CNOT`."""

    nodes: list[int]
    channels: list[str]
    terms: ChannelTerms


class ExecutionContext(Struct, frozen=True, kw_only=True):
    """All that is needed to get the same bits again, and why the job ran as it did."""

    engine: Annotated[str, Meta(description="Which engine ran it.")]
    why: Annotated[str, Meta(description="Which property of the program chose that engine.")]
    width: Annotated[int, Meta(description="Logical qubits alive at the same time, at most.")]
    seed: Annotated[int, Meta(description="The seed used, 0 to 2^64 - 1.")]
    program_digest: Annotated[str, Meta(description="Names the verified program by content.")]
    profiles: list[ProfileApplied] = []
    noise: NoiseApplied
    decoder: Annotated[
        DecoderSpeed | None,
        Meta(description="How fast the machine's decoders are, where they took part."),
    ] = None
    calibration: Annotated[
        str | None,
        Meta(
            description="Names, by content, the calibration table that ships and, behind a `+`, "
            "that of points measured here; where noise was applied."
        ),
    ] = None
    raised: Annotated[
        list[RaisedCode],
        Meta(description="Codes that are larger than the program asks for (`raise_distance`)."),
    ] = []
    advice: Annotated[
        dict[str, int],
        Meta(
            description="What SET_POLICY of the program asks for and the job has: `priority`, and "
            "`deadline` in epochs from the start. A submission that names its own has that instead."
        ),
    ] = {}
    versions: Annotated[
        dict[str, str], Meta(description="Versions of what took part, by name.")
    ] = {}
    pairs: Annotated[
        list[PairsUsed], Meta(description="The Bell pairs that it uses between modules.")
    ] = []
    workers_used: int | None = None
    replay_of: Annotated[
        JobId | None, Meta(description="The job of which this one repeats every bit.")
    ] = None
    restored_from: Annotated[
        CheckpointId | None, Meta(description="The checkpoint from which this job went on.")
    ] = None
    crypto_mode: Annotated[
        CryptoMode | None, Meta(description="As the submission asked, for whoever signs.")
    ] = None
    results_digest: Annotated[
        str | None, Meta(description="SHA-256 of the packed results, once there are some.")
    ] = None


class JobError(Struct, frozen=True, kw_only=True):
    """Why a job failed: an error of this ABI, as data."""

    code: int
    type: str
    message: str
    data: dict[str, Any] = {}

    @classmethod
    def of(cls, error: KernelError) -> Self:
        """Put an error into the form in which a job reports it."""
        data: dict[str, Any] = msgspec.to_builtins(error)
        return cls(code=error.code, type=error.name, message=error.sentence(), data=data)


class QueuePlace(Struct, frozen=True, kw_only=True):
    """How many of the tenant's jobs stand before this one, and what it waits for."""

    position: int
    reason: str
    cycles: Annotated[
        int | None,
        Meta(
            description="Machine cycles until it may have its place, if nobody comes first; "
            "0 once it has one, null where it waits for what nobody knows when it works again."
        ),
    ] = 0


Time = Annotated[str, Meta(description="RFC 3339, UTC.", examples=["2025-01-31T12:00:00.000Z"])]


class JobStatus(Reply, frozen=True, kw_only=True):
    """Everything a caller may know about a job of theirs."""

    job_id: JobId
    session_id: SessionId
    state: JobState
    created_at: Time
    started_at: Time | None = None
    completed_at: Time | None = None
    progress: Progress = Progress()
    events: Annotated[
        dict[str, int],
        Meta(description="Events of shot 0; one whose measurement did not run is left out."),
    ] = {}
    counts: Annotated[
        dict[str, int] | None,
        Meta(
            description="Shots per outcome, one character per event in the order of "
            "`resources.events`, `-` where the measurement did not run. Sums to `shots`."
        ),
    ] = None
    counts_omitted: Annotated[
        str | None, Meta(description="Why a completed job shows no counts.")
    ] = None
    probabilities: Annotated[
        dict[str, float] | None,
        Meta(
            description="For a completed job whose policy asked for `exact`: the probability of "
            "each outcome, keyed as counts are. They sum to 1 up to rounding."
        ),
    ] = None
    telemetry: JobTelemetry = JobTelemetry()
    peak_resources: PeakResources = PeakResources()
    execution_context: ExecutionContext | None = None
    error: JobError | None = None
    cancelled_at_epoch: int | None = None
    queue: QueuePlace | None = None
    waits_for: Annotated[
        str | None, Meta(description="What a running job cannot go on without, in words.")
    ] = None


class Status(SessionCall, frozen=True, kw_only=True):
    """Say where a job stands, now."""

    METHOD: ClassVar[str] = "q_status"
    REPLY: ClassVar[type[Reply]] = JobStatus
    REFUSALS: ClassVar[Errors] = (JobNotFound, AccessDenied)

    job_id: JobIdIn


class Wait(SessionCall, frozen=True, kw_only=True):
    """Answer with the job's status as soon as the job is over, however it ended."""

    METHOD: ClassVar[str] = "q_wait"
    REPLY: ClassVar[type[Reply]] = JobStatus
    REFUSALS: ClassVar[Errors] = (JobNotFound, AccessDenied, Timeout)

    job_id: JobIdIn
    timeout_ms: Annotated[
        Annotated[int, Meta(ge=0, le=TIMEOUT_MS_MAX)] | None,
        Meta(description="How long to wait at most; null or 0 waits without bound."),
    ] = None


class Cancel(SessionCall, frozen=True, kw_only=True):
    """Stop a job at its next fence, or soon after without one; answer when it has stopped."""

    METHOD: ClassVar[str] = "q_cancel"
    REPLY: ClassVar[type[Reply]] = JobStatus
    REFUSALS: ClassVar[Errors] = (JobNotFound, AccessDenied, AlreadyCompleted)

    job_id: JobIdIn
