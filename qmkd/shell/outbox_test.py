"""Order, partial writes and descriptors on a real socket pair."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator

import pytest

from qmkd.shell.outbox import Outbox

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(5)
    with ours, theirs:
        yield ours, theirs


def test_what_does_not_fit_waits_and_comes_out_in_order(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(ours)
    parts = [bytes([i % 256]) * 10_007 for i in range(300)]
    for part in parts:
        outbox.send(part)
    assert outbox.waiting > 0
    expected = b"".join(parts)
    received = bytearray()
    while len(received) < len(expected):
        received += theirs.recv(65536)
        outbox.flush()
    assert received == expected
    assert outbox.waiting == 0


def test_a_descriptor_arrives_with_the_first_byte_of_its_message(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(ours)
    readable, writable = os.pipe()
    outbox.put(b"before")
    outbox.put(b"with", (readable,))
    outbox.put(b"after")
    outbox.flush()
    os.write(writable, b"through")
    os.close(writable)
    seen = b""
    while seen != b"beforewithafter":
        data, ancillary, _, _ = theirs.recvmsg(4, socket.CMSG_SPACE(4))
        if ancillary:
            assert len(seen) <= len(b"before") < len(seen + data)
            (fd,) = array.array("i", ancillary[0][2])
            assert os.read(fd, 100) == b"through"
            os.close(fd)
        seen += data
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(readable)


def test_forgetting_closes_descriptors_that_were_not_sent(pair: Pair) -> None:
    ours, _ = pair
    outbox = Outbox(ours)
    readable, writable = os.pipe()
    outbox.put(b"x", (readable,))
    outbox.clear()
    with pytest.raises(BrokenPipeError):
        os.write(writable, b"nobody reads")
    os.close(writable)


def test_a_reader_that_is_gone_is_an_error_and_not_a_signal(pair: Pair) -> None:
    ours, theirs = pair
    theirs.close()
    with pytest.raises(BrokenPipeError):
        Outbox(ours).send(b"x")


def test_descriptors_are_closed_though_their_reader_was_gone(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(ours)
    readable, writable = os.pipe()
    theirs.close()
    outbox.put(b"x", (readable,))
    with pytest.raises(BrokenPipeError):
        outbox.flush()
    outbox.clear()
    with pytest.raises(BrokenPipeError):
        os.write(writable, b"nobody reads")
    os.close(writable)
