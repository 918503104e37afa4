"""Every bound of the kernel, and how the bounds relate.

Nothing here is read from a configuration: what an operator may choose is in `ports.py`, and is
held against these bounds once, when the kernel is made.
"""

from __future__ import annotations

from typing import Final

from qmkd.core.ports import Machine
from syscalls.results import COUNTS_KEYS_MAX, SHOT_BLOCK

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000

# --- callers ------------------------------------------------------------------------------------

ENTROPY_BYTES: Final = 32  # an id takes the first half, a seed eight bytes of the second
SESSION_IDLE_NS: Final = 3600 * SECOND
SESSIONS_EXPIRED_MAX: Final = 1024  # expired ids remembered, per tenant
SWEEP_NS_MIN: Final = SECOND
PEERS_CACHED_MAX: Final = 4096
PARKED_MAX: Final = 2048  # requests waiting for an answer, per tenant whose jobs they wait for
SUBSCRIPTIONS_MAX: Final = 8  # per session, and per job
PROGRESS_NS_MIN: Final = 100 * MS  # between two progress notifications of a job
EPOCH_RECORD_NS_MIN: Final = SECOND  # between two records of epochs in the audit chain
EPOCH_JOBS_MAX: Final = 32  # that one of these names
BUSY_RETRY_MS: Final = 250
PENDING_MAX: Final = 4096  # answers and endings that wait until they are durable
CAPABILITIES_MAX: Final = 64  # that one session has handed on, at a time
DELEGATIONS_MAX: Final = 8  # from a tenant's own rights to whoever holds them at last
CAPABILITIES_LISTED_MAX: Final = 256

# --- programs -----------------------------------------------------------------------------------

INLINE_GRAPH_BYTES_MAX: Final = 8 << 10  # verified inside a step: about 10 us a node
CHECK_NS_PER_BYTE: Final = 100
PROGRAMS_CACHED_MAX: Final = 256  # per tenant
PROGRAM_BYTES_CACHED_MAX: Final = 64 << 20  # per tenant
KEY_BYTES: Final = 64  # of a graph's beginning and end, to find it again

PAIR_KINDS_MAX: Final = 256  # of Bell pairs that differ, in one program

# --- running ------------------------------------------------------------------------------------

WORKERS_MAX: Final = 64
LEAF_BYTES: Final = 32
SEGMENT_NS_TARGET: Final = 30 * MS
WORKER_LEAD_NS: Final = SECOND  # that one tenant may have had of the workers before another
LONG_NS: Final = 100 * MS  # a slice that takes longer parks for what is more urgent
SLICE_SHOTS_MAX: Final = 1 << 20
SLICE_SHOTS_UNMEASURED_MAX: Final = 1 << 16  # predictions may be wrong by far
SEGMENTS_PER_WORKER_MAX: Final = 8
SEGMENTS_SMALL_NS_MAX: Final = 5 * MS
STOP_GRACE_NS: Final = 50 * MS
EPOCH_CYCLES: Final = 1 << 20  # after so many a job gives way to whom fairness prefers
SLICE_CYCLES_CROWDED: Final = EPOCH_CYCLES // 16  # of a slice, while somebody waits
OVERTAKEN_MAX: Final = 64  # how often what fits may overtake a job that does not
SERIAL_JOBS_MAX: Final = 1  # that teleport side by side while a link is down
PARKED_MORE: Final = 4  # times as often a slice parks, while fences are to be close
SLICE_CYCLES_DRIFTED: Final = EPOCH_CYCLES // 16  # of a slice, while fences are to be close
BACKFILL_MAX: Final = 8  # of a tenant's waiting jobs, looked at where the first does not fit
WAITING_MAX: Final = 64  # looked at in all: those do not count that wait for what others hold
PACKED_JOBS_MAX: Final = 128  # beyond so many, jobs are not moved to make room
ATTEMPTS_MAX: Final = 3
POINTS_MEASURED_MAX: Final = 256  # in one life of the kernel, those given up among them
POINT_NS: Final = 20 * SECOND  # to measure one, about
POINT_NS_MAX: Final = 300 * SECOND  # then its worker is ended
JOBS_LIVE_MAX: Final = 1024  # the largest `Quota.jobs`
CHECKPOINTS_MAX: Final = 1024  # the largest `Quota.checkpoints`

# --- results ------------------------------------------------------------------------------------

COUNTS_KEY_BYTES: Final = 128  # what one outcome costs beside its characters
COUNTS_NS_PER_KEY: Final = 300  # to read one outcome of a slice's report and add it up
COUNTS_NS_MAX: Final = 10 * MS  # how long one slice's counts may hold up every call
EVENTS_FREE_MAX: Final = 64  # with more events, a finished job's event names count as results
EVENT_BYTES: Final = 256  # what one event costs: its name, place and value
MAPPING_BYTES_MAX: Final = 64 << 10  # of a program whose mapping is told: it is read again
MAPPING_QUBITS_MAX: Final = 1 << 16  # named in one mapping
RESULTS_INLINE_BYTES_MAX: Final = 1 << 20
JOBS_RETAINED_MAX: Final = 4096  # finished jobs, per tenant
JOB_RETAINED_NS: Final = 24 * 3600 * SECOND

# --- a step -------------------------------------------------------------------------------------

EFFECTS_PER_STEP_MAX: Final = 1 << 16
SWEEP_EFFECTS_MAX: Final = 4096  # a sweep goes on in another step once it made that many

_SEGMENTS_MAX: Final = WORKERS_MAX * SEGMENTS_PER_WORKER_MAX  # and slices of a job at a fence
_EFFECTS_PER_JOB: Final = 6  # seal or drop, drop snapshots, forget the program, three timers
_EFFECTS_PER_CHECKPOINT: Final = 2  # its rows and its snapshots are dropped
_EFFECTS_TO_TAKE: Final = 2 + _SEGMENTS_MAX  # a checkpoint: its answer, copies of rows, snapshots

# Closing a session, or one tenant's part of a shutdown, stops, notifies and answers all at once.
_CLOSE_EFFECTS: Final = (
    JOBS_RETAINED_MAX
    + 2 * PARKED_MAX
    + JOBS_LIVE_MAX * (2 * SUBSCRIPTIONS_MAX + _EFFECTS_PER_JOB)
    + CHECKPOINTS_MAX * _EFFECTS_PER_CHECKPOINT
    + 2 * _SEGMENTS_MAX
)
assert _CLOSE_EFFECTS + _SEGMENTS_MAX <= EFFECTS_PER_STEP_MAX
# A lost worker may end all jobs it held, of as many tenants, and answer all who waited for them; or
# bring as many to rest, of which checkpoints are to be taken.
assert (
    SEGMENTS_PER_WORKER_MAX
    * (2 * PARKED_MAX + 2 * SUBSCRIPTIONS_MAX + _EFFECTS_PER_JOB + _EFFECTS_TO_TAKE)
    + _SEGMENTS_MAX
    <= EFFECTS_PER_STEP_MAX
)
assert SWEEP_EFFECTS_MAX + _CLOSE_EFFECTS <= EFFECTS_PER_STEP_MAX
assert SLICE_SHOTS_MAX % SHOT_BLOCK == 0
assert SLICE_SHOTS_UNMEASURED_MAX % SHOT_BLOCK == 0
assert COUNTS_KEYS_MAX * COUNTS_NS_PER_KEY <= COUNTS_NS_MAX
assert SHOT_BLOCK <= SLICE_SHOTS_UNMEASURED_MAX <= SLICE_SHOTS_MAX
assert SEGMENTS_SMALL_NS_MAX < SEGMENT_NS_TARGET < STOP_GRACE_NS
assert SEGMENT_NS_TARGET < LONG_NS < POINT_NS < POINT_NS_MAX
assert INLINE_GRAPH_BYTES_MAX < PROGRAM_BYTES_CACHED_MAX
assert 2 * KEY_BYTES <= INLINE_GRAPH_BYTES_MAX
assert SWEEP_NS_MIN < SESSION_IDLE_NS < JOB_RETAINED_NS
assert PROGRESS_NS_MIN >= SECOND // 10, "clients were promised at most ten a second"


def check_machine(machine: Machine) -> None:
    """Hold a configuration against the bounds; the shell refuses a bad one before it gets here."""
    assert 1 <= machine.workers <= WORKERS_MAX, "workers"
    assert machine.physical_qubits >= 1, "physical qubits"
    names = [rule.name for rule in machine.tenants]
    assert len(names) == len(set(names)), "tenant names are unique"
    for rule in machine.tenants:
        quota = rule.quota
        assert 0 <= quota.jobs <= JOBS_LIVE_MAX, f"{rule.name}: quota of jobs"
        assert 0 <= quota.checkpoints <= CHECKPOINTS_MAX, f"{rule.name}: quota of checkpoints"
