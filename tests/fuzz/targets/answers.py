"""What comes back: answers of a kernel to a client, and of a worker to the daemon.

Both ends may be hostile to the other. A client gets typed replies or a `ProtocolError`; the daemon
and a worker get typed messages or a `BadFrame`. What is read is written back to the same bytes as
what is read from those.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import msgspec

from qmkd.core.ports import PairError, Point, Sandbox, SegmentReport, Setting
from qmkd.engine import messages
from qmkd.engine.messages import BadFrame
from syscalls.decoding import DecoderFigures
from syscalls.derive.samples import sample
from syscalls.errors import ERRORS
from syscalls.findings import Finding
from syscalls.jsonrpc import Answer, ProtocolError, decode_result, parse_reply
from syscalls.registry import CALLS

BYTES_MAX = 2000
CODEC = "either"
HEAD_BYTES = 1

_REQUEST, _ANSWER, _STREAM, _CALLS = range(4)


REPORT: Final = SegmentReport(
    shots=2, counts={"01": 2}, first_row={"m": 1}, leaves=b"l" * 32, engine="frames", cpu_ns=5,
    notes={"n": 1}, probabilities={"0": 0.5}, decoder=DecoderFigures(),
)  # fmt: skip
POINT: Final = Point("Surface", 3, "uniform", 0.001)
FINDING: Final = Finding(rule="op.unknown", severity="error", node="n", path="$", message="no")
REQUESTS: Final[tuple[messages.Request, ...]] = (
    messages.Load(1, b"{}"),
    messages.Run(
        ticket=1, program=1, engine="frames", seed=7, noise="ideal", shot_first=0, shots=2,
        row_bytes=2, counts=True, setting=Setting(pairs=(PairError(1, 0.1, 0.0, 0.0),)),
    ),
    messages.Check(1, b"{}"),
    messages.Table("t", b"text"),
    messages.Calibrate(1, POINT, "t"),
    messages.Drop(1),
)  # fmt: skip
ANSWERS: Final[tuple[messages.Answer, ...]] = (
    messages.Ready(1, {"stim": "1"}, Sandbox({"files": "all"}, {"user": "no root"})),
    messages.Done(1, REPORT, b"rows", b"data", (1, 2)),
    messages.Parked(1, REPORT, b"rows", None, 2, 100, b"d" * 32),
    messages.Failed(1, "uncalibrated", "no", point=POINT),
    messages.Calibrated(1, b"text"),
    messages.Checked(1, None, (FINDING,), 1),
)


def check(data: bytes) -> None:
    if not data:
        return
    head, body = data[0], data[HEAD_BYTES:]
    match head:
        case 0 | 1:
            check_message(body, asked=head == _REQUEST)
        case 2:
            check_stream(body)
        case _:
            check_reply(head, body)


def check_message(body: bytes, *, asked: bool) -> None:
    read = messages.request if asked else messages.answer
    with contextlib.suppress(BadFrame):
        written = messages.frame(read(body))
        (again,) = messages.Frames().feed(written)
        assert messages.frame(read(again)) == written


def check_stream(stream: bytes) -> None:
    """Any cut gives the same bodies."""
    whole, pieces = messages.Frames(), messages.Frames()
    with contextlib.suppress(BadFrame):
        bodies = whole.feed(stream)
        singly = [stream[at : at + 1] for at in range(len(stream))]
        assert [body for each in singly for body in pieces.feed(each)] == bodies
        assert sum(messages.LENGTH.size + len(body) for body in bodies) <= len(stream)


def check_reply(head: int, body: bytes) -> None:
    call = CALLS[(head - _CALLS) % len(CALLS)]
    with contextlib.suppress(ProtocolError):
        for each in parse_reply(body):
            if isinstance(each, Answer) and each.result is not None:
                once = msgspec.json.encode(decode_result(call, each.result))
                assert msgspec.json.encode(decode_result(call, msgspec.Raw(once))) == once
            if isinstance(each, Answer) and each.error is not None:
                each.error.sentence()


def seeds() -> Iterator[bytes]:
    for head, several in ((_REQUEST, REQUESTS), (_ANSWER, ANSWERS)):
        for message in several:
            yield bytes([head]) + messages.frame(message)[messages.LENGTH.size :]
    frames = b"".join(messages.frame(messages.Drop(number)) for number in range(3))
    yield bytes([_STREAM]) + frames
    for number, call in enumerate(CALLS):
        answer = {"jsonrpc": "2.0", "id": 1, "result": sample(call.REPLY)}
        yield bytes([_CALLS + number]) + msgspec.json.encode(answer)
    for error in ERRORS:
        body = {"code": error.CODE, "message": "m", "data": sample(error)}
        answer = {"jsonrpc": "2.0", "id": "a", "error": body}
        yield bytes([_CALLS]) + msgspec.json.encode(answer)
