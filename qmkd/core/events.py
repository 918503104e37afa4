"""Everything that can happen to the kernel. One `Kernel.step` consumes one of these.

Events are plain values: the shell makes them from sockets, workers and clocks, a simulation makes
them from a seed. Read `effects.py` for what the kernel answers.
"""

from __future__ import annotations

import msgspec

from qmkd.core.ports import Point, Sandbox, SegmentReport, TenantRule
from qmkd.core.records import Recovered
from qvm.program import Summary
from syscalls.findings import Finding
from syscalls.syscall import Syscall


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where a request came from: connection and the request's number on it, never reused."""

    conn: int
    call: int


class Peer(msgspec.Struct, frozen=True, gc=False):
    """The caller as the host's kernel names it (SO_PEERCRED)."""

    uid: int
    gid: int
    pid: int


class Called(msgspec.Struct, frozen=True, gc=False):
    """A typed request arrived. `entropy`: 32 fresh random bytes where the call's CHANCE is set."""

    origin: Origin
    peer: Peer
    request: Syscall
    entropy: bytes = b""


class ClientGone(msgspec.Struct, frozen=True, gc=False):
    """A connection ended; nothing can be answered on it any more."""

    conn: int


class ProgramChecked(msgspec.Struct, frozen=True):
    """The answer to `CheckProgram`. Exactly one of summary and findings says something.

    findings_total counts all errors, also those not listed.
    """

    ticket: int
    summary: Summary | None
    findings: tuple[Finding, ...] = ()
    findings_total: int = 0
    warnings: tuple[Finding, ...] = ()


class SegmentDone(msgspec.Struct, frozen=True):
    worker: int
    ticket: int
    report: SegmentReport


class SegmentFailed(msgspec.Struct, frozen=True):
    """The segment ended without a result.

    reason: `stopped` (asked to), `refused` (the engine cannot run it), `memory`, `internal`,
    `results` (the shell has no place for its rows), `unfit` (what it was to go on from is damaged
    or of another build), `too_large` (exact probabilities take `asked` of something, of which there
    may be `limit`; the message names it), `uncalibrated` (the logical errors of `point` are in no
    table).
    epoch: program epoch reached.
    """

    worker: int
    ticket: int
    reason: str
    message: str
    epoch: int = 0
    asked: int = 0
    limit: int = 0
    point: Point | None = None


class SegmentParked(msgspec.Struct, frozen=True):
    """The segment stands at a fence, and the rest of it may go on from there, in any worker.

    report: of the shots that are done, whole SHOT_BLOCKs from its first on; None for none.
    epoch: that the next shots are in: the fences that they have passed, 0 where they have not
    begun. size: bytes of the snapshot that the shell holds under this ticket; 0 for none, then the
    rest begins anew. digest: SHA-256 of it.
    """

    worker: int
    ticket: int
    report: SegmentReport | None
    epoch: int = 0
    size: int = 0
    digest: bytes = b""


class Calibrated(msgspec.Struct, frozen=True):
    """The answer to `Calibrate`. table: names the table that has the point now, and all that was
    there before; "" where it could not be measured, and `why` says why."""

    worker: int
    ticket: int
    table: str
    why: str = ""


class WorkerReady(msgspec.Struct, frozen=True):
    """sandbox: how it is held in; None where nobody asked."""

    worker: int
    sandbox: Sandbox | None = None


class WorkerGone(msgspec.Struct, frozen=True, gc=False):
    """The worker process ended; whatever it held is lost."""

    worker: int


class TimerFired(msgspec.Struct, frozen=True, gc=False):
    token: int


class Kept(msgspec.Struct, frozen=True, gc=False):
    """Every `Keep` up to this number is durable."""

    number: int


class KeepFailed(msgspec.Struct, frozen=True, gc=False):
    """The store cannot write, for this reason; it goes on trying, and says `Kept` when it can.

    what: `disk full`, `read-only`, `locked`, `damaged`, `input/output error` or `out of memory`.
    """

    what: str


class GraphLoaded(msgspec.Struct, frozen=True, gc=False):
    """The answer to `LoadGraph`. graph: empty where it is not there or cannot be read."""

    ticket: int
    graph: bytes


class CheckpointVerified(msgspec.Struct, frozen=True, gc=False):
    """The answer to `VerifyCheckpoint`. why: what is damaged, in words; empty where nothing is."""

    ticket: int
    why: str


class Configured(msgspec.Struct, frozen=True):
    """Other rules from now on: all tenants that there are. Names are unique."""

    tenants: tuple[TenantRule, ...]


class ShutDown(msgspec.Struct, frozen=True, gc=False):
    """Stop taking work, stop what runs at its next fence, then halt."""

    grace_ns: int


Event = (
    Called
    | ClientGone
    | ProgramChecked
    | SegmentDone
    | SegmentFailed
    | SegmentParked
    | Calibrated
    | WorkerReady
    | WorkerGone
    | TimerFired
    | Recovered
    | Kept
    | KeepFailed
    | GraphLoaded
    | CheckpointVerified
    | Configured
    | ShutDown
)
