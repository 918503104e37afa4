"""Everything the kernel can ask of the shell. The shell performs them in the order given.

An effect is a wish, not a call: the kernel goes on without waiting and learns the outcome as an
event. `Reply` is the one effect that a client sees.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from qmkd.core.events import Origin
from qmkd.core.ports import Point, Setting
from qmkd.core.records import Gone, Row
from syscalls.errors import KernelError


class Reply(msgspec.Struct, frozen=True, gc=False):
    """Answer a request; happens exactly once for every `Called`.

    attach: a job whose rows travel with the reply as a sealed memfd.
    inline: a job whose rows are put into the reply's `data` field as base64.
    rows: which of them.
    """

    to: Origin
    body: msgspec.Struct | KernelError
    attach: str | None = None
    inline: str | None = None
    rows: Literal["packed", "decoder"] = "packed"


class Notify(msgspec.Struct, frozen=True, gc=False):
    """Push a notification on a connection; dropped, and counted, if its client does not read."""

    conn: int
    body: msgspec.Struct


class CheckProgram(msgspec.Struct, frozen=True):
    """Verify a graph too large for a step, in worker `worker`. Answered by `ProgramChecked`."""

    ticket: int
    worker: int
    graph: bytes


class RunSegment(msgspec.Struct, frozen=True, kw_only=True):
    """Run shots [shot_first, shot_first + shots) of a program in a worker.

    program: number that stands for `graph`, the same for the same bytes of one tenant, so that
        a worker that holds it already need not be sent it again.
    shot_first: a multiple of SHOT_BLOCK. shots_total: of the whole job, for placing rows.
    resume: ticket of the parked segment whose snapshot its first shots go on from; 0 for none.
    park_ns: after so long it parks by itself, at the next fence; 0 for never.
    """

    ticket: int
    worker: int
    job_id: str
    program: int
    graph: bytes
    engine: str
    seed: int
    noise: str
    shot_first: int
    shots: int
    shots_total: int
    row_bytes: int
    counts: bool
    setting: Setting
    resume: int = 0
    park_ns: int = 0


class Calibrate(msgspec.Struct, frozen=True):
    """Measure a point in a worker that does nothing else. Answered by `Calibrated`.

    table: names the table that it is added to.
    """

    ticket: int
    worker: int
    point: Point
    table: str


class StopSegment(msgspec.Struct, frozen=True, gc=False):
    """Ask the worker to stop the segment at its next fence. Answered by done, failed or parked.

    keep: it is to go on from there (`SegmentParked`); otherwise nothing of it is wanted.
    back: rather at the fence before, where the engine can undo what it has run since. May be asked
    again without `keep`.
    """

    worker: int
    ticket: int
    keep: bool = False
    back: bool = False


class DropSnapshots(msgspec.Struct, frozen=True, gc=False):
    """Nothing goes on from the snapshots of these tickets any more; at least one."""

    tickets: tuple[int, ...]


class CopySnapshot(msgspec.Struct, frozen=True, gc=False):
    """What goes on from the snapshot of ticket `target` goes on from that of `source`."""

    source: int
    target: int


class KillWorker(msgspec.Struct, frozen=True, gc=False):
    """End the worker process now and start another. Answered by `WorkerGone`, `WorkerReady`."""

    worker: int


class ForgetProgram(msgspec.Struct, frozen=True, gc=False):
    """No job needs program number `program` any more."""

    program: int


class SealResults(msgspec.Struct, frozen=True, gc=False):
    """All rows of the job are in; they never change again."""

    job_id: str


class DropResults(msgspec.Struct, frozen=True, gc=False):
    """Nobody may read the job's rows any more. Once at most, for a job of which something ran."""

    job_id: str


class CopyResults(msgspec.Struct, frozen=True, gc=False):
    """The rows of `source` that are done are the first rows of `target`: a job and a checkpoint, or
    the other way round. `DropResults` of either leaves the other's."""

    source: str
    target: str


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """Make these rows durable, and let those go. Answered by `Kept`, or by `KeepFailed`.

    number: larger than that of every `Keep` before. What is asked for earlier is durable earlier,
    so one `Kept` answers for all up to its number. epoch, numbered, cycle: the kernel's, to start
    from.
    """

    number: int
    epoch: int
    numbered: int
    cycle: int = 0
    rows: tuple[Row, ...] = ()
    gone: Gone = Gone()


class LoadGraph(msgspec.Struct, frozen=True, gc=False):
    """Read the program of a kept job. Answered by `GraphLoaded`."""

    ticket: int
    job_id: str


class VerifyCheckpoint(msgspec.Struct, frozen=True, gc=False):
    """See that what is stored of a checkpoint is whole: its packed rows, and these snapshots, by
    ticket. Answered by `CheckpointVerified`."""

    ticket: int
    checkpoint: str
    snapshots: tuple[int, ...]


class SetTimer(msgspec.Struct, frozen=True, gc=False):
    """Send `TimerFired(token)` at `at_ns` (same clock as `step`'s now_ns) or soon after."""

    token: int
    at_ns: int


class CancelTimer(msgspec.Struct, frozen=True, gc=False):
    token: int


class Note(msgspec.Struct, frozen=True):
    """A fact for the operator's log."""

    what: str
    fields: dict[str, str | int]


class Halt(msgspec.Struct, frozen=True, gc=False):
    """Everything is stopped and answered; the shell may end."""


Effect = (
    Reply
    | Notify
    | CheckProgram
    | RunSegment
    | Calibrate
    | StopSegment
    | DropSnapshots
    | CopySnapshot
    | KillWorker
    | ForgetProgram
    | SealResults
    | DropResults
    | CopyResults
    | Keep
    | LoadGraph
    | VerifyCheckpoint
    | SetTimer
    | CancelTimer
    | Note
    | Halt
)
