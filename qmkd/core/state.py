"""What the kernel knows: plain mutable records, and nothing that decides.

Records refer to one another directly; each counter beside them says what a walk over the records
would find, and `invariants.py` holds the two against each other. Read `kernel.py` for the way an
event takes, and the modules it names for each part.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from qmkd.core.effects import Effect, Notify
from qmkd.core.events import Origin
from qmkd.core.ports import Machine, Plan, Planner, Point, TenantRule
from qvm.program import Summary
from syscalls.decoding import DecoderFigures
from syscalls.errors import KernelError
from syscalls.findings import Finding
from syscalls.ids import JobId, SessionId
from syscalls.job import (
    ExecutionContext,
    JobState,
    JobStatus,
    PeakResources,
    Policy,
    ProfileApplied,
)
from syscalls.results import EventField
from syscalls.rights import Right

ProgramKey = tuple[int, bytes, bytes]
Rank = tuple[int, int]
"""(-priority, job number): who of one tenant's jobs goes first."""


@dataclass(slots=True, eq=False)
class Tenant:
    """One tenant.

    sessions, live, checking, parked: how many there are of open sessions, of jobs not over, of
        submissions being verified, of requests that wait for its jobs.
    held_bytes: graphs of live jobs (each once) and of submissions being verified.
    logical, physical: qubits of running jobs. rows_live: result bytes that live jobs will fill.
    kept_bytes: results of finished jobs. ready, queued: jobs with shots to hand out, running ones
        and not yet started ones, best first. in_turns: stands in `State.turns`.
    """

    rule: TenantRule
    sessions: int = 0
    live: int = 0
    checking: int = 0
    parked: int = 0
    held_bytes: int = 0
    logical: int = 0
    physical: int = 0
    rows_live: int = 0
    kept_bytes: int = 0
    program_bytes: int = 0
    in_turns: bool = False
    checks: deque[Check] = field(default_factory=deque)
    ready: list[tuple[int, int, Job]] = field(default_factory=list)
    queued: list[tuple[int, int, Job]] = field(default_factory=list)
    finished: dict[Job, None] = field(default_factory=dict)
    keys: dict[str, Job] = field(default_factory=dict)
    programs: dict[ProgramKey, Program] = field(default_factory=dict)
    expired: dict[SessionId, None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Session:
    """An open session. tally: its jobs by state. wide: subscriptions to all of its jobs."""

    id: SessionId
    tenant: Tenant
    granted: frozenset[Right]
    touched_ns: int
    open: bool = True
    named: int = 0
    jobs: dict[JobId, Job] = field(default_factory=dict)
    live: dict[Job, None] = field(default_factory=dict)
    checks: dict[Check, None] = field(default_factory=dict)
    subscriptions: dict[Subscription, None] = field(default_factory=dict)
    wide: dict[Subscription, None] = field(default_factory=dict)
    tally: dict[JobState, int] = field(default_factory=lambda: dict.fromkeys(JobState, 0))


@dataclass(slots=True, eq=False)
class Program:
    """A verified program of one tenant.

    number: stands for the bytes towards workers. uses: live jobs that need it. cached: found by
    its key. sent: some worker has been given it. ns_per_shot: as measured, 0 before.
    """

    number: int
    tenant: Tenant
    key: ProgramKey
    graph: bytes
    summary: Summary
    warnings: list[Finding]
    order: list[EventField]
    values_bytes: int
    row_bytes: int
    gates: int
    profiles: list[ProfileApplied]
    peak: PeakResources
    uses: int = 0
    cached: bool = False
    sent: bool = False
    ns_per_shot: int = 0


@dataclass(slots=True, frozen=True)
class Submission:
    """A submission as it was asked: what verification and admission work from.

    plan_only: it is to be answered by its plan, and become no job.
    """

    session: Session
    policy: Policy
    graph: bytes
    entropy: bytes
    asked_ns: int
    plan_only: bool = False


@dataclass(slots=True, eq=False)
class Check:
    """A submission whose graph is verified in a worker. parked: None once nobody waits for it."""

    submission: Submission
    parked: Parked | None = None
    ticket: int = 0
    ns: int = 0
    attempts: int = 0


@dataclass(slots=True, frozen=True)
class Slice:
    """Shots [first, first + shots) of a job. attempts: how often a worker was lost over them."""

    first: int
    shots: int
    attempts: int = 0


@dataclass(slots=True, eq=False)
class Segment:
    """A slice in a worker's hands. ns: how long it was predicted to take."""

    ticket: int
    worker: Worker
    job: Job
    slice: Slice
    ns: int
    table: str


@dataclass(slots=True, eq=False)
class Measuring:
    """A point that no table knows, and the jobs that wait for it. worker: None before its turn.

    attempts: how often a worker was lost over it. timer: until it takes too long; `late` from then.
    """

    point: Point
    ns: int
    jobs: dict[Job, None] = field(default_factory=dict)
    ticket: int = 0
    worker: Worker | None = None
    attempts: int = 0
    timer: int = 0
    late: bool = False


Unit = Segment | Check | Measuring
"""What a worker may hold."""


@dataclass(slots=True, eq=False)
class Worker:
    """A worker process. ready: may be given work. killed: we ended it and await the news.

    ns: predicted for all it holds.
    """

    number: int
    ready: bool = False
    killed: bool = False
    ns: int = 0
    held: dict[int, Unit] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Stop:
    """Why a job stops: on the caller's wish (`error` None), or because of an error."""

    error: KernelError | None = None


@dataclass(slots=True, eq=False)
class Job:
    """A job.

    digest: SHA-256 of the graph's bytes, where an idempotency key may have to compare it.
    shots_given: shots below this were handed out at least once; `again` holds slices lost since.
    counts: None where not asked for or given up (`counts_omitted` says why). probabilities: where
        the policy asks for them; such a job is one slice of one shot, and its rows are empty.
    leaves: one 32-byte digest for every 1,024 shots. rows: the shell holds rows of it.
    table: names the table of points measured here that its noise is from. lacks: the point that it
        waits for.
    row_bytes: of a packed row. row_total: of all. data_total: bytes of decoder data of all shots,
        and data_leaves as `leaves`, of these. result_bytes: what it counts for in `kept_bytes`.
    epoch: program epoch reached by a segment that was stopped.
    cpu_ns, spent, decoder: of finished segments, as their reports have it.
    seq: number of its last event. final: its status, once it is over.
    """

    id: JobId
    number: int
    session: Session
    tenant: Tenant
    program: Program
    policy: Policy
    seed: int
    plan: Plan
    context: ExecutionContext
    digest: bytes
    created_ns: int
    created_at: str
    checked_ns: int
    row_bytes: int
    row_total: int
    data_total: int
    table: str
    state: JobState = JobState.QUEUED
    started_ns: int = 0
    started_at: str | None = None
    completed_ns: int = 0
    shots_given: int = 0
    shots_done: int = 0
    again: list[Slice] = field(default_factory=list)
    lacks: Point | None = None
    segments: dict[int, Segment] = field(default_factory=dict)
    counts: dict[str, int] | None = None
    counts_omitted: str | None = None
    probabilities: dict[str, float] | None = None
    first_row: dict[str, int] = field(default_factory=dict)
    leaves: bytearray = field(default_factory=bytearray)
    data_leaves: bytearray = field(default_factory=bytearray)
    data_digest: str = ""
    workers: set[int] = field(default_factory=set)
    rows: bool = False
    result_bytes: int = 0
    epoch: int = 0
    cpu_ns: int = 0
    spent: dict[str, int] = field(default_factory=dict)
    decoder: DecoderFigures | None = None
    stop: Stop | None = None
    seq: int = 0
    notified_ns: int = 0
    time_limit: int = 0
    grace: int = 0
    waiting: dict[Parked, None] = field(default_factory=dict)
    subscriptions: dict[Subscription, None] = field(default_factory=dict)
    final: JobStatus | None = None

    @property
    def total_bytes(self) -> int:
        """What the shell holds of it once all shots are in."""
        return self.row_total + self.data_total

    @property
    def rank(self) -> Rank:
        """Its place among its tenant's jobs."""
        return (-self.policy.priority, self.number)


@dataclass(slots=True, eq=False)
class Parked:
    """A request that is answered later: by its job's end, its check, or its timer.

    cancels: the request is a q_cancel. tenant: whose `parked` counts it.
    """

    origin: Origin
    tenant: Tenant
    job: Job | None = None
    check: Check | None = None
    cancels: bool = False
    timeout_ms: int = 0
    timer: int = 0


@dataclass(slots=True, eq=False)
class Subscription:
    """Notifications on one connection about one job, or (job None) all of a session's."""

    name: str
    conn: int
    session: Session
    job: Job | None


@dataclass(slots=True, eq=False)
class Connection:
    """What hangs on a connection; kept only while something does."""

    parked: dict[int, Parked] = field(default_factory=dict)
    subscriptions: dict[Subscription, None] = field(default_factory=dict)


class TimerKind(Enum):
    """What a timer is for; `Timer.about` is the request, the job or the point meant."""

    WAIT = "a bounded wait is over"
    LIMIT = "a job ran for as long as it may"
    GRACE = "a worker had its time to stop"
    SWEEP = "sessions or finished jobs may have become too old"
    DRAIN = "a shutdown goes on"
    MEASURED = "a point takes too long to measure"


@dataclass(slots=True, frozen=True)
class Timer:
    """A timer that the shell was asked for."""

    kind: TimerKind
    at_ns: int
    about: Parked | Job | Measuring | None = None


@dataclass(slots=True, eq=False)
class State:
    """Everything. `now_ns`, `out` and `notices` belong to the step under way.

    version: grows with every change that a caller could ever notice. epoch: the machine's; grows
    by each program epoch run. physical: qubits of all running jobs. turns: tenants with work.
    stirred: work or room for it appeared. sweep_ns: when the next sweep is due, 0 for none.
    draining: tenants whose jobs a shutdown has yet to stop.
    table: names the table of all points measured here so far. measured: those of this life.
    unmeasurable: those given up, and why. wanted: those that jobs lack, in order; the first is
        measured now, or next.
    """

    machine: Machine
    planner: Planner
    tenants: dict[str, Tenant]
    workers: list[Worker]
    now_ns: int = 0
    out: list[Effect] = field(default_factory=list)
    notices: list[Notify] = field(default_factory=list)
    version: int = 0
    numbered: int = 0
    epoch: int = 0
    physical: int = 0
    live: int = 0
    parked: int = 0
    stirred: bool = False
    sweep_ns: int = 0
    sweep: int = 0
    stopping: bool = False
    grace_ns: int = 0
    halted: bool = False
    sessions: dict[SessionId, Session] = field(default_factory=dict)
    jobs: dict[JobId, Job] = field(default_factory=dict)
    checks: dict[int, tuple[Check, Worker]] = field(default_factory=dict)
    connections: dict[int, Connection] = field(default_factory=dict)
    timers: dict[int, Timer] = field(default_factory=dict)
    turns: deque[Tenant] = field(default_factory=deque)
    draining: list[Tenant] = field(default_factory=list)
    peers: dict[tuple[int, int], tuple[Tenant, ...]] = field(default_factory=dict)
    tally: dict[JobState, int] = field(default_factory=lambda: dict.fromkeys(JobState, 0))
    table: str = ""
    measured: set[Point] = field(default_factory=set)
    unmeasurable: dict[Point, str] = field(default_factory=dict)
    wanted: dict[Point, Measuring] = field(default_factory=dict)

    def number(self) -> int:
        """A number never given before: for tickets, programs, jobs and timers."""
        self.numbered += 1
        return self.numbered
