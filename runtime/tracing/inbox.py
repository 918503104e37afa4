"""The socket that a daemon tells its spans to: datagrams of JSON lines, each a `Span`.

Whoever may write to the socket may tell anything; what is no span is counted and passed over.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from pathlib import Path
from typing import Self

import msgspec

from syscalls.tracing import Span

DATAGRAM_BYTES_MAX = 256 * 1024
BATCH_MAX = 512
"""Spans handed on at once, about."""

_decode = msgspec.json.Decoder(Span).decode


class Taken(OSError):
    """Somebody else listens there."""


class Inbox:
    """A bound socket. bad: lines that were no spans."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where it cannot be bound, `Taken` where another exporter listens."""
        self._path = path
        self.bad = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            _clear(path)
            before = os.umask(0o117)  # for its user and group
            try:
                self._socket.bind(os.fspath(path))
            finally:
                os.umask(before)
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def take(self, seconds: float) -> list[Span]:
        """What has come, about BATCH_MAX of it at most; waits for so long if there is nothing."""
        select.select([self._socket], [], [], seconds)
        found: list[Span] = []
        while len(found) < BATCH_MAX:
            try:
                data = self._socket.recv(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                break
            for line in data.splitlines():
                try:
                    found.append(_decode(line))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    self.bad += 1
        return found


def _clear(path: Path) -> None:
    """Remove a socket at which nobody listens any more."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return  # binding says what is wrong
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise Taken(errno.EADDRINUSE, "another exporter listens there", os.fspath(path))
