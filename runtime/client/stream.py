"""The bytes between a client and one daemon, never waiting: what a link needs, and a local socket.

A stream to another host is `runtime.remote.stream`; that module alone loads cryptography, and only
once such a stream is opened. What the bytes mean is `protocol.py`'s business.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from runtime.client.address import Address
from runtime.client.protocol import FDS_UNCLAIMED_MAX, REPLY_BYTES_MAX

# Python asks the allocator for all of it at each receive; beyond 128 KiB that is a system call and
# a page fault every time, which made a small round trip a third slower.
RECEIVE_BYTES = 64 * 1024


class Facts(Struct, frozen=True, kw_only=True):
    """What a remote connection agreed. Kinds are `ES256`, `ML-DSA-65` and so on.

    peer: the common name in the other end's certificate. expires: when that expires, RFC 3339.
    """

    protocol: str
    group: str
    cipher: str
    own_certificate: str
    peer_certificate: str
    peer: str
    peer_serial: str
    peer_expires: str

    @property
    def post_quantum(self) -> str:
        """What of the connection withstands a quantum computer."""
        exchange = "MLKEM" in self.group
        shown = all("ML-DSA" in kind for kind in (self.own_certificate, self.peer_certificate))
        if exchange:
            return "key exchange and certificates" if shown else "key exchange"
        return "certificates alone" if shown else "nothing"


class Unwelcome(OSError):
    """The other end, or we, refused the connection itself: no call reached a kernel.

    `str()` is a sentence. Connecting again would not help.
    """


class Stream(Protocol):
    """One connection. Every method may raise OSError; then the stream is of no more use."""

    reply_bytes_max: int

    @property
    def socket(self) -> socket.socket:
        """What to wait for; another one after a failed attempt to connect."""

    @property
    def established(self) -> bool:
        """Whether the other end has been reached. Before that, nothing was sent."""

    def wants_write(self, more: bool) -> bool:
        """Whether to wait until the socket takes bytes. more: the caller has some to send."""

    def send(self, data: bytearray) -> int:
        """Take in as much as goes now, and send it; how much. BlockingIOError if nothing goes."""

    def receive(self) -> tuple[bytes, list[int], bool]:
        """Bytes that have come, none at the end; descriptors; whether some of these were cut off.

        Fewer than RECEIVE_BYTES: nothing else is there now. BlockingIOError if nothing has come.
        """

    def facts(self) -> Facts | None:
        """What was agreed with another host; None on this one, or before it is established."""

    def close(self) -> None:
        """End it. Raises nothing."""


class LocalStream:
    """A connection to the daemon's socket on this host."""

    established = True
    reply_bytes_max = REPLY_BYTES_MAX

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.setblocking(False)
            self.socket.connect(os.fspath(path))
        except BaseException:
            self.socket.close()
            raise

    def wants_write(self, more: bool) -> bool:
        return more

    def send(self, data: bytearray) -> int:
        return self.socket.send(data) if data else 0

    def receive(self) -> tuple[bytes, list[int], bool]:
        data, fds, flags, _ = socket.recv_fds(
            self.socket, RECEIVE_BYTES, FDS_UNCLAIMED_MAX, socket.MSG_CMSG_CLOEXEC
        )
        return data, fds, bool(flags & socket.MSG_CTRUNC)

    def facts(self) -> Facts | None:
        return None

    def close(self) -> None:
        self.socket.close()


def open_stream(address: Address) -> Stream:
    """Begin to connect. Raises OSError; BlockingIOError where a local daemon takes no more."""
    if isinstance(address, Path):
        return LocalStream(address)
    try:
        from runtime.remote.stream import RemoteStream
    except ImportError as error:
        said = f"A remote connection needs {error.name}: install `qmkd[remote]`."
        raise Unwelcome(said) from error
    return RemoteStream(address)
