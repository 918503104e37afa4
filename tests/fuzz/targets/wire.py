"""Bytes of a connection: frames, with newlines or without, and the calls in them.

Frames are those of a scanner that is slow and obvious, for any cut into chunks; what is read as a
call is the same call when it is written and read again; what is refused, the other end understands.
An input is a bound on messages, a cut, and the stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from syscalls.derive.samples import sample_value
from syscalls.framing_test import slow_frames
from syscalls.jsonrpc import (
    BATCH_MAX,
    ECHO_CHARS_MAX,
    Answer,
    Batch,
    Failure,
    Message,
    Receiver,
    Request,
    Scanner,
    encode_error,
    encode_request,
    encode_unanswered,
    parse,
    parse_reply,
)
from syscalls.registry import METHODS

BYTES_MAX = 1500
CODEC = "json"
HEAD_BYTES = 2

MOST = (1 << 20, 64, 300, 2000)  # bytes of a message
CHUNKS_MAX = 6


def check(data: bytes) -> None:
    if len(data) < HEAD_BYTES:
        return
    most, cut, stream = MOST[data[0] % len(MOST)], data[1], data[HEAD_BYTES:]
    frames, failed, pending = slow_frames(stream, most)
    scanner, receiver = Scanner(most), Receiver(most)
    found: list[bytes] = []
    messages: list[Message] = []
    for chunk in chunks(stream, cut):
        found += scanner.feed(chunk)
        messages += receiver.receive(chunk)
        assert receiver.pending_bytes <= most
    found += scanner.finish_idle()
    messages += receiver.finish_idle()
    assert found == frames
    assert (scanner.failed is not None, scanner.pending_bytes) == (failed, pending)
    read = [parse(frame) for frame in frames]
    if scanner.failed is not None:
        read.append(Failure(None, scanner.failed))
        assert receiver.failed
        assert receiver.receive(b"{}\n") == [], "nothing is read once it has failed"
    assert messages == read, "a receiver gives what is in the frames"
    for message in messages:
        check_message(message)


def chunks(stream: bytes, cut: int) -> Iterator[bytes]:
    """Cut at places that `cut` stands for; 0 for not at all."""
    rng = Random(cut)
    places = sorted(rng.randrange(len(stream) + 1) for _ in range(min(cut, CHUNKS_MAX)))
    for begin, end in zip([0, *places], [*places, len(stream)], strict=True):
        yield stream[begin:end]


def check_message(message: Message) -> None:
    match message:
        case Batch(items=items):
            assert 0 < len(items) <= BATCH_MAX
            for item in items:
                assert not isinstance(item, Batch)
                check_message(item)
        case Request(id=identity, call=call, is_notification=True):
            assert identity is None
            assert parse(encode_unanswered(call)) == Request(None, call, True)
        case Request(id=identity, call=call):
            again = parse(encode_request(identity, call))
            assert isinstance(again, Request)
            assert (again.id, again.call) == (identity, call)
        case Failure(id=identity, error=error):
            assert error.sentence()
            assert parse_reply(encode_error(identity, error)) == [Answer(identity, None, error)]
            if (path := getattr(error, "path", None)) is not None:
                assert path.startswith("$"), path
                assert len(path) <= ECHO_CHARS_MAX


def seeds() -> Iterator[bytes]:
    calls = [sample_value(call) for call in METHODS.values()]
    texts = [encode_request(at, call) for at, call in enumerate(calls)]
    texts += [encode_unanswered(call) for call in calls[:3]]
    for text in texts:
        yield b"\x00\x00" + text
    bare = [text.rstrip(b"\n") for text in texts[:4]]
    yield b"\x00\x03" + b"".join(bare)
    yield b"\x02\x05[" + b",".join(bare) + b"]"
    yield b"\x01\x02" + b"\n".join(bare) + b"x" * 100
