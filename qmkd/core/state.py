"""What the kernel knows: plain mutable records, and nothing that decides.

Records refer to one another directly; each counter beside them says what a walk over the records
would find, and `tests/simulation/invariants.py` holds the two against each other. Read `kernel.py`
for the way an event takes, and the modules it names for each part.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from qmkd.core.effects import Effect, Notify
from qmkd.core.events import Called, Origin
from qmkd.core.ports import Machine, PairError, Plan, Planner, Point, Quota, Sandbox, TenantRule
from qmkd.core.records import (
    CapabilityRow,
    ChannelRow,
    CheckpointRow,
    Gone,
    HandleRow,
    Row,
    SnapshotRow,
)
from qvm.blocks import Inventory, Place, Run
from qvm.channels import Brokered
from qvm.cycles import Demand, Vacancy
from qvm.machine import Hardware
from qvm.places import Pair, pair
from qvm.profiles import Profile
from qvm.program import Summary
from syscalls.decoding import SHOT_COLUMNS_BYTES, DecoderFigures
from syscalls.errors import KernelError
from syscalls.fault import DegradedMode, Fault
from syscalls.findings import Finding
from syscalls.ids import CapabilityId, ChannelId, CheckpointId, HandleId, JobId, SessionId
from syscalls.job import (
    ExecutionContext,
    JobState,
    JobStatus,
    PeakResources,
    Policy,
    ProfileApplied,
    RaisedCode,
)
from syscalls.results import EventField
from syscalls.rights import Right

ProgramKey = tuple[int, bytes, bytes]
Rank = tuple[int, int, int]
"""(-priority, cycle in which it is due, job number): who of one tenant's jobs goes first."""
NEVER = 1 << 80


@dataclass(slots=True, eq=False)
class Meter:
    """What leaks away at `rate` units a minute. level: units times MINUTE, as it was at `at_ns`."""

    rate: int
    level: int = 0
    at_ns: int = 0


@dataclass(slots=True, eq=False)
class Account:
    """What counts against one quota: a tenant's, or the share of a capability.

    quota: a tenant's without what is set aside for capabilities that it gave.

    live: jobs not over. logical, physical: qubits of placed jobs and of sessions. channels: as many
        as placed jobs may have open, and those of sessions. t_states, cpu:
        of the shots of accepted jobs, CPU time in milliseconds.
    """

    quota: Quota
    live: int = field(default=0, kw_only=True)
    logical: int = field(default=0, kw_only=True)
    physical: int = field(default=0, kw_only=True)
    channels: int = field(default=0, kw_only=True)
    t_states: Meter = field(init=False)
    cpu: Meter = field(init=False)

    def __post_init__(self) -> None:
        self.t_states = Meter(self.quota.t_states_per_minute)
        self.cpu = Meter(self.quota.cpu_ms_per_minute)


@dataclass(slots=True, eq=False)
class Tenant(Account):
    """One tenant.

    sessions, checking, parked: how many there are of open sessions, of submissions being
        verified, of requests that wait for its jobs. checkpoints: of its sessions, oldest first;
        checkpoint_bytes: of them all.
    held_bytes: graphs of live jobs (each once) and of submissions being verified.
    rows_live: result bytes that live jobs will fill. changes: of which the audit chain tells.
    kept_bytes: results of finished jobs. ready, queued: jobs with shots to hand out, those placed
        on the machine and those that wait for it, best first. in_turns: stands in `State.turns`.
    served: what it has had of the machine, over its weight (`mapping.py`). worker_ns: of workers.
    lowered: its quota was, while it held things; it may hold more than it may have.
    """

    rule: TenantRule
    sessions: int = 0
    checking: int = 0
    parked: int = 0
    held_bytes: int = 0
    rows_live: int = 0
    kept_bytes: int = 0
    program_bytes: int = 0
    in_turns: bool = False
    checks: deque[Check] = field(default_factory=deque)
    served: int = 0
    worker_ns: int = 0
    lowered: bool = False
    ready: list[tuple[int, int, int, Job]] = field(default_factory=list)
    queued: list[tuple[int, int, int, Job]] = field(default_factory=list)
    finished: dict[Job, None] = field(default_factory=dict)
    checkpoints: dict[CheckpointId, Checkpoint] = field(default_factory=dict)
    checkpoint_bytes: int = 0
    keys: dict[str, Job] = field(default_factory=dict)
    programs: dict[ProgramKey, Program] = field(default_factory=dict)
    changes: Meter = field(init=False)
    expired: dict[SessionId, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Account.__post_init__(self)
        self.changes = Meter(self.quota.changes_per_minute)


@dataclass(slots=True, eq=False)
class Capability(Account):
    """A delegated capability that lives. users: sessions opened with it."""

    row: CapabilityRow
    giver: Session
    parent: Capability | None
    children: dict[Capability, None] = field(default_factory=dict)
    users: dict[Session, None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Block:
    """A code block that a session holds. handles: of its qubits, those not given back."""

    profile: Profile
    run: Run
    accounts: tuple[Account, ...]
    handles: dict[Handle, None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Handle:
    """A logical qubit that a session holds. open: it may be named, and is in `State.handles`.

    lent: capabilities by which it was allocated. jobs: not over, that name it. user: of these, the
    one that is placed. channels: that end in it.
    """

    row: HandleRow
    session: Session
    block: Block
    lent: tuple[Capability, ...]
    open: bool = True
    jobs: dict[Job, None] = field(default_factory=dict)
    user: Job | None = None
    channels: dict[Channel, None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Channel:
    """A channel between two qubits. open: it may be named, and is in `State.channels`.

    session: that opened it, and holds the first of its ends. lent: capabilities by which; consent:
    the one of these that the other end's tenant gave. jobs: not over, that name it. uses: by jobs
    that are over. made_cycle: when the pair that waits was made.
    """

    row: ChannelRow
    session: Session
    ends: tuple[Handle, Handle]
    lent: tuple[Capability, ...]
    consent: Capability | None
    accounts: tuple[Account, ...]
    open: bool = True
    jobs: dict[Job, None] = field(default_factory=dict)
    uses: int = 0
    made_cycle: int = 0


@dataclass(slots=True, eq=False)
class Session:
    """An open session. tally: its jobs by state. wide: subscriptions to all of its jobs.

    granted: by its tenant's rule. lent: delegated capabilities it was opened with, as long as they
    live. given: those that came from it. handles: qubits that it holds.
    """

    id: SessionId
    tenant: Tenant
    granted: frozenset[Right]
    touched_ns: int
    open: bool = True
    named: int = 0
    lent: dict[Capability, None] = field(default_factory=dict)
    given: dict[Capability, None] = field(default_factory=dict)
    handles: dict[Handle, None] = field(default_factory=dict)
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
    its key. digest: SHA-256 of the bytes, once needed. sent: some worker has been given it.
    ns_per_shot: as measured, 0 before. demand: of a machine like `demand_of`, worked out last.
    brokered: what its pairs come to, where the sessions' qubits that it names lie; None before that
    is known. raised: its codes that are larger than in `base`, the same program as it was written.
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
    digest: bytes = b""
    uses: int = 0
    cached: bool = False
    sent: bool = False
    ns_per_shot: int = 0
    demand: Demand | None = None
    demand_of: Hardware | None = None
    brokered: Brokered | None = None
    base: Program | None = None
    raised: tuple[RaisedCode, ...] = ()

    def shot_bytes(self, policy: Policy) -> tuple[int, int]:
        """What a shot's packed row takes, of which exact probabilities have none, and what is kept
        of what decoders knew of the shot."""
        decoder = SHOT_COLUMNS_BYTES if policy.decoder_data else 0
        return 0 if policy.exact else self.row_bytes, decoder


@dataclass(slots=True, frozen=True)
class Submission:
    """A submission as it was asked: what verification and admission work from.

    plan_only: it is to be answered by its plan, and become no job. replay_of: the job whose bits
    it repeats. restores: the checkpoint that it goes on from.
    """

    session: Session
    policy: Policy
    graph: bytes
    entropy: bytes
    asked_ns: int
    plan_only: bool = False
    replay_of: Job | None = None
    restores: Checkpoint | None = None

    @property
    def earlier(self) -> Job | None:
        """The job that it repeats, or as it was when it was at rest."""
        return self.replay_of if self.restores is None else self.restores.job


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
    """Shots [first, first + shots) of a job. attempts: how often a worker was lost over them.

    parked: what they go on from; None where they have not begun, or begin anew.
    """

    first: int
    shots: int
    attempts: int = 0
    parked: SnapshotRow | None = None


@dataclass(slots=True, eq=False)
class Segment:
    """A slice in a worker's hands. ns: how long it was predicted to take. cycle: of the machine, in
    which it ends, or for what is run again, some later one. since_ns: when it was handed out.
    asked: to stop at its next fence."""

    ticket: int
    worker: Worker
    job: Job
    slice: Slice
    ns: int
    table: str
    cycle: int
    since_ns: int
    asked: bool = False


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
    tenant: whom it has worked for, if for anybody; "" stands for the daemon itself.

    ns: predicted for all it holds.
    """

    number: int
    ready: bool = False
    killed: bool = False
    sandbox: Sandbox | None = None
    tenant: str | None = None
    ns: int = 0
    held: dict[int, Unit] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Stop:
    """Why a job stops: on the caller's wish (`error` None), or because of an error."""

    error: KernelError | None = None


@dataclass(slots=True, frozen=True)
class Ending:
    """How a job ends, decided and not to be changed; it is over once that is durable."""

    status: JobStatus


@dataclass(slots=True, eq=False)
class Job:
    """A job.

    digest: SHA-256 of the graph's bytes, where a row names them or an idempotency key may have to
        compare them.
    resting: somebody wants something of it that is done while no worker holds anything of it.
    shots_given: shots below this were handed out at least once; `again` holds slices lost since.
    counts: None where not asked for or given up (`counts_omitted` says why). probabilities: where
        the policy asks for them; such a job is one slice of one shot, and its rows are empty.
    leaves: one 32-byte digest for every 1,024 shots. rows: the shell holds rows of it.
    table: names the table of points measured here that its noise is from. lacks: the point that it
        waits for.
    row_bytes: of a packed row. row_total: of all. data_total: bytes of decoder data of all shots,
        and data_leaves as `leaves`, of these. result_bytes: what it counts for in `kept_bytes`.
    epoch: program epoch reached by a segment that was stopped. unwanted: its submission was
        refused after all, because it could not be kept.
    cpu_ns, spent, decoder: of finished segments, as their reports have it.
    lent: capabilities that it uses. accounts: what it counts against, its tenant first. metered:
        how many of its shots count there for what is counted by the minute.
    handles, channels: of sessions, that it names. pairs: errors of the Bell pairs that it uses.
    links: pairs per million cycles that it takes between modules, while it is placed.
    place: the physical qubits it holds; None while it waits for the machine. demand: what it takes
        beside them, as long as it holds them. concerned: faults that change how it runs.
    cycle: its own clock,
        where what it was handed out ends. paid_cycle: up to where its tenant has paid for it.
    since_cycle: since when it waits. waited_cycles, held_cycles: in all. due_cycle: orders the
        jobs of a tenant. overtaken: how often another was placed before it. moves: of its blocks.
    module: the only one where it may lie, once it was moved there. owed: shots that it has from a
        checkpoint as handed out and not done, and has not spent cycles on. inherited: those done.
    seq: number of its last event. final: its status, once it is over.
    """

    id: JobId
    number: int
    session: Session
    program: Program
    policy: Policy
    seed: int
    plan: Plan
    context: ExecutionContext
    digest: bytes
    created_ns: int
    created_at: str
    checked_ns: int
    table: str
    tenant: Tenant = field(init=False)
    row_bytes: int = field(init=False)
    row_total: int = field(init=False)
    data_total: int = field(init=False)
    resting: bool = False
    lent: tuple[Capability, ...] = ()
    accounts: tuple[Account, ...] = ()
    metered: int = 0
    handles: tuple[Handle, ...] = ()
    channels: tuple[Channel, ...] = ()
    pairs: tuple[PairError, ...] = ()
    links: tuple[tuple[Pair, int], ...] = ()
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
    place: Place | None = None
    demand: Demand | None = None
    concerned: dict[str, None] = field(default_factory=dict)
    cycle: int = 0
    paid_cycle: int = 0
    since_cycle: int = 0
    waited_cycles: int = 0
    held_cycles: int = 0
    due_cycle: int = NEVER
    overtaken: int = 0
    moves: int = 0
    module: int | None = None
    owed: int = 0
    inherited: int = 0
    stop: Stop | None = None
    ending: Ending | None = None
    unwanted: bool = False
    seq: int = 0
    notified_ns: int = 0
    attested_ns: int = 0
    time_limit: int = 0
    grace: int = 0
    waiting: dict[Parked, None] = field(default_factory=dict)
    subscriptions: dict[Subscription, None] = field(default_factory=dict)
    final: JobStatus | None = None

    def __post_init__(self) -> None:
        self.tenant = self.session.tenant
        self.row_bytes, data_bytes = self.program.shot_bytes(self.policy)
        self.row_total = self.policy.shots * self.row_bytes
        self.data_total = self.policy.shots * data_bytes

    @property
    def total_bytes(self) -> int:
        """What the shell holds of it once all shots are in."""
        return self.row_total + self.data_total

    @property
    def rank(self) -> Rank:
        """Its place among its tenant's jobs."""
        return (-self.policy.priority, self.due_cycle, self.number)


@dataclass(slots=True, eq=False)
class Checkpoint:
    """What a job was when it was at rest. job: a copy of it, in no table; what of it stood at a
    fence is in its `again`. graph: the program's bytes. size: bytes that it counts for."""

    row: CheckpointRow
    session: Session
    job: Job
    graph: bytes
    size: int


@dataclass(slots=True, eq=False)
class Parked:
    """A request that is answered later: by its job's end, its check, its timer, by `body` once
    what it changed is durable (`pending`), or once the store has read what its submission needs
    (`load`).

    cancels: the request is a q_cancel. wish: what is to be done once its job is at rest. tenant:
    whose `parked` counts it; None where `body` waits.
    """

    origin: Origin
    tenant: Tenant | None
    job: Job | None = None
    check: Check | None = None
    body: msgspec.Struct | None = None
    pending: Pending | None = None
    load: Submission | None = None
    wish: Called | None = None
    cancels: bool = False
    timeout_ms: int = 0
    timer: int = 0


@dataclass(slots=True, eq=False)
class Pending:
    """What waits until `Keep` number `number` is durable: an answer, or the end of a job.

    epoch: the machine's, which may then be told; audited, audit_head: of the chain then. parked:
    None once its connection ended. worked: jobs whose slices become durable with it.
    """

    number: int = 0
    epoch: int = 0
    audited: int = 0
    audit_head: bytes = b""
    parked: Parked | None = None
    job: Job | None = None
    worked: tuple[Job, ...] = ()


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
    KEPT = "more is durable than one step could answer for"
    LAPSE = "a capability expires, or more jobs are to stop because their rights ended"
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
    by each program epoch run; epoch_kept: as far as durable, which is what may be told. physical:
    qubits of all placed jobs and of sessions. turns: tenants with work. stirred: work or room for
    it appeared.
    sweep_ns: when the next sweep is due, 0 for none. expiries: (when, number, capability) of those
    that expire, soonest first. lapsed: jobs to stop because their rights ended. lapse: the timer
    about both. draining: tenants whose jobs a shutdown has yet to stop. unkept, gone, unsaid: rows
    that the step under way made or lets go, and what waits for them. keeps, kept: numbers of the
    last `Keep` and of the last that is durable. pending: what waits, oldest first. keep_failed: why
    the store cannot write, empty where it can. audited, audit_head: number and hash of the last
    entry of the audit chain. worked: jobs whose epochs it is to tell of; recorded_ns: when it last
    did.
    table: names the table of all points measured here so far. measured: those of this life.
    unmeasurable: those given up, and why. wanted: those that jobs lack, in order; the first is
        measured now, or next.

    cycle: the machine's clock, as far as jobs have left it. placed: jobs that hold a part of it;
    t_rate, blocks: their demand together. vacant: qubits, T states, decoding that nobody holds.
    links: of each, pairs per million cycles that nobody takes; linked: that jobs take. handles,
    channels: that may be named. held: blocks of sessions, by their first qubit; fixed: the
    inventory as if no job were placed.
    used, horizon: qubits times cycles handed out since cycle `began`, and where the last of them
    ends. contested: room, or somebody who wants it, appeared. crowded: somebody waits for the
    machine. limits: what there is of qubits, T states, decoding.

    faults: by id, those that are or will be. wrong: those in force at `horizon`; change: when this
    changes next. working: what is left of the machine. modes: what is done about it. noise: what
    physical qubits suffer, why it is not what was configured, how many times as strong. opened:
    cycles in which modules came back.
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
    epoch_kept: int = 0
    physical: int = 0
    hardware: Hardware = field(init=False)
    inventory: Inventory = field(init=False)
    fixed: Inventory = field(init=False)
    cycle: int = 0
    placed: dict[Job, None] = field(default_factory=dict)
    t_rate: int = 0
    blocks: int = 0
    limits: tuple[int, int, int] = field(init=False)
    vacant: tuple[Vacancy, Vacancy, Vacancy] = field(init=False)
    links: dict[Pair, Vacancy] = field(init=False)
    linked: dict[Pair, int] = field(init=False)
    used: int = 0
    horizon: int = 0
    began: int = 0
    contested: bool = False
    crowded: bool = False
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
    resting: dict[Job, None] = field(default_factory=dict)
    capabilities: dict[CapabilityId, Capability] = field(default_factory=dict)
    handles: dict[HandleId, Handle] = field(default_factory=dict)
    held: dict[int, Block] = field(default_factory=dict)
    channels: dict[ChannelId, Channel] = field(default_factory=dict)
    expiries: list[tuple[int, int, Capability]] = field(default_factory=list)
    lapsed: list[Job] = field(default_factory=list)
    lapse: int = 0
    checks: dict[int, tuple[Check, Worker]] = field(default_factory=dict)
    loads: dict[int, Parked] = field(default_factory=dict)
    connections: dict[int, Connection] = field(default_factory=dict)
    timers: dict[int, Timer] = field(default_factory=dict)
    turns: deque[Tenant] = field(default_factory=deque)
    draining: list[Tenant] = field(default_factory=list)
    unkept: list[Row] = field(default_factory=list)
    gone: list[Gone] = field(default_factory=list)
    unsaid: list[Pending] = field(default_factory=list)
    keeps: int = 0
    kept: int = 0
    pending: deque[Pending] = field(default_factory=deque)
    keep_failed: str = ""
    audited: int = 0
    audit_head: bytes = b""
    worked: dict[JobId, None] = field(default_factory=dict)
    recorded_ns: int = 0
    peers: dict[tuple[int, int], tuple[Tenant, ...]] = field(default_factory=dict)
    tally: dict[JobState, int] = field(default_factory=lambda: dict.fromkeys(JobState, 0))
    table: str = ""
    measured: set[Point] = field(default_factory=set)
    unmeasurable: dict[Point, str] = field(default_factory=dict)
    wanted: dict[Point, Measuring] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    wrong: dict[str, Fault] = field(default_factory=dict)
    change: int = NEVER
    working: Hardware = field(init=False)
    modes: frozenset[DegradedMode] = frozenset()
    noise: tuple[str, str, float] = field(init=False)
    opened: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hardware = self.machine.described()
        self.inventory, self.fixed = Inventory(self.hardware), Inventory(self.hardware)
        t_rate, blocks = self.hardware.t_rate or 0, self.hardware.decoder_blocks or 0
        self.limits = (self.inventory.total, t_rate, blocks)
        qubits, t_states, decoding = (Vacancy([(0, limit)]) for limit in self.limits)
        self.vacant = (qubits, t_states, decoding)
        self.working, self.noise = self.hardware, (self.machine.physical_noise, "", 1.0)
        links = {pair(*ends): link for ends, link in self.hardware.links.items()}
        self.links = {ends: Vacancy([(0, link.rate)]) for ends, link in links.items()}
        self.linked = dict.fromkeys(self.links, 0)

    @property
    def epoch_told(self) -> int:
        """The machine's epoch, as far as it may be told."""
        return self.epoch_kept if self.machine.durable else self.epoch

    def number(self) -> int:
        """A number never given before: for tickets, programs, jobs and timers."""
        self.numbered += 1
        return self.numbered
