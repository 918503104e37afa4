"""What the daemon and a worker say to each other, and how it is cut into frames.

A frame is a 4-byte little-endian length and a msgpack map tagged by `type`. With the first byte of
some go file descriptors (SCM_RIGHTS): with a `Run` the file for its rows, where its sink is `fd`,
and then the snapshot that it goes on from; with a `Parked` its snapshot. Requests are answered in
order.
"""

from __future__ import annotations

import struct
from typing import Final, Literal

import msgspec

from qmkd.core.ports import USUAL, Point, Sandbox, SegmentReport, Setting
from qmkd.engine.limits import SNAPSHOT_BYTES_MAX
from qvm.program import Summary
from syscalls.findings import Finding
from syscalls.results import COUNTS_CHARS_MAX

MESSAGE_BYTES_MAX: Final = 256 << 20
LENGTH: Final = struct.Struct("<I")

assert MESSAGE_BYTES_MAX < 1 << 32
assert 2 * COUNTS_CHARS_MAX < MESSAGE_BYTES_MAX, "a report with counts fits a message"


# --- to the worker --------------------------------------------------------------------------------


class Load(msgspec.Struct, frozen=True, tag=True):
    """Program number `program` is this graph from now on. Not answered."""

    program: int
    graph: bytes


class Run(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Run shots of a loaded program. Answered by `Done`, `Parked` or `Failed`.

    resume: the first shots go on from the snapshot that comes along. park_ns: after so long it
    parks by itself, once it has passed a fence or finished a batch; 0 for never. snapshot_bytes:
    the most that its snapshot may have.
    row_offset: index of the first row in the file, for sink `fd`: the rows are written at
    `row_offset * row_bytes`. row_bytes: what the sender thinks a row takes; a different answer here
    is an error, not a corrupted file. timed: the answer is to say when it ran.
    """

    ticket: int
    program: int
    engine: str
    seed: int
    noise: str
    shot_first: int
    shots: int
    row_bytes: int
    counts: bool
    sink: Literal["inline", "fd"] = "inline"
    row_offset: int = 0
    setting: Setting = USUAL
    resume: bool = False
    park_ns: int = 0
    snapshot_bytes: int = SNAPSHOT_BYTES_MAX
    timed: bool = False


class Check(msgspec.Struct, frozen=True, tag=True):
    """Verify a graph and forget it. Answered by `Checked`."""

    ticket: int
    graph: bytes


class Table(msgspec.Struct, frozen=True, tag=True):
    """From now on this is the calibration table of that name, beside the one that ships.

    Not answered.
    """

    name: str
    text: bytes


class Calibrate(msgspec.Struct, frozen=True, tag=True):
    """Measure a point, beside those of the table of that name. Answered by `Calibrated`."""

    ticket: int
    point: Point
    table: str


class Drop(msgspec.Struct, frozen=True, tag=True):
    """The number stands for nothing any more. Not answered."""

    program: int


# --- from the worker ------------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The first thing a worker says: everything is imported and warm, and the sandbox in force."""

    pid: int
    versions: dict[str, str]
    sandbox: Sandbox


class Done(msgspec.Struct, frozen=True, tag=True):
    """rows: the packed rows for sink `inline`, else None. decoder_data: the rows of it, where the
    run was to keep them. ran: from when to when, by the monotonic clock, where it was `timed`; so
    of the other answers to a run."""

    ticket: int
    report: SegmentReport
    rows: bytes | None
    decoder_data: bytes | None = None
    ran: tuple[int, int] | None = None


class Parked(msgspec.Struct, frozen=True, tag=True):
    """The run stands at a fence or between batches, and may go on from there in any worker.

    report, rows, decoder_data: as of `Done`, of the whole SHOT_BLOCKs that are done; report None
    for none. size: bytes of the snapshot, a memory file that is sealed against all change, which
    comes along; 0 where none does, and the rest begins anew. digest: SHA-256 of it. epoch: that the
    next shots are in, 0 where they have not begun.
    """

    ticket: int
    report: SegmentReport | None
    rows: bytes | None
    decoder_data: bytes | None = None
    epoch: int = 0
    size: int = 0
    digest: bytes = b""
    ran: tuple[int, int] | None = None


class Failed(msgspec.Struct, frozen=True, tag=True):
    """No result. reason: `stopped` (asked to), `refused` (cannot run it), `memory`, `unloaded`
    (the program or the table is not held here; send it and ask again), `internal`, `unfit` (the
    snapshot cannot be continued here), `too_large`
    (exact probabilities take `asked` of what the message names, and `limit` are the most),
    `uncalibrated` (no table has the errors of `point`). epoch: program epoch."""

    ticket: int
    reason: str
    message: str
    epoch: int = 0
    asked: int = 0
    limit: int = 0
    point: Point | None = None
    ran: tuple[int, int] | None = None


class Calibrated(msgspec.Struct, frozen=True, tag=True):
    """text: of the table with the point, and all that was in it before; empty where the point could
    not be measured, and `why` says why."""

    ticket: int
    text: bytes
    why: str = ""


class Checked(msgspec.Struct, frozen=True, tag=True):
    """summary: None where there are errors. findings_total counts those not listed too."""

    ticket: int
    summary: Summary | None
    findings: tuple[Finding, ...] = ()
    findings_total: int = 0
    warnings: tuple[Finding, ...] = ()


Request = Load | Run | Check | Table | Calibrate | Drop
Answer = Ready | Done | Parked | Failed | Checked | Calibrated

# Beside what msgspec refuses as no message: text that is not UTF-8, and what nests too deep.
_MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encoder: Final = msgspec.msgpack.Encoder()
_requests: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_answers: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)


class BadFrame(Exception):
    """The other side broke the protocol; the connection cannot be used any further."""


def frame(message: Request | Answer) -> bytearray:
    """The bytes of one message, length first. Copied once, since it may hold a large program."""
    framed = bytearray(LENGTH.size)
    _encoder.encode_into(message, framed, LENGTH.size)
    size = len(framed) - LENGTH.size
    if size > MESSAGE_BYTES_MAX:
        raise BadFrame(f"a message of {size} bytes exceeds {MESSAGE_BYTES_MAX}")
    LENGTH.pack_into(framed, 0, size)
    return framed


class Frames:
    """Cuts a stream into messages. Linear in bytes, whatever the chunking."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes | bytearray) -> list[bytes]:
        """The bodies that are complete now, in order. Raises `BadFrame` for one too long."""
        buffer = self._buffer
        buffer += chunk
        bodies, at = [], 0
        while len(buffer) - at >= LENGTH.size:
            (size,) = LENGTH.unpack_from(buffer, at)
            if size > MESSAGE_BYTES_MAX:
                raise BadFrame(f"a message of {size} bytes exceeds {MESSAGE_BYTES_MAX}")
            end = at + LENGTH.size + size
            if len(buffer) < end:
                break
            bodies.append(bytes(memoryview(buffer)[at + LENGTH.size : end]))
            at = end
        del buffer[:at]
        return bodies


def request(body: bytes) -> Request:
    """Raises `BadFrame` where the body is no request."""
    try:
        return _requests.decode(body)
    except _MALFORMED as error:
        raise BadFrame(str(error)) from error


def answer(body: bytes) -> Answer:
    """Raises `BadFrame` where the body is no answer."""
    try:
        return _answers.decode(body)
    except _MALFORMED as error:
        raise BadFrame(str(error)) from error
