"""Bytes, and file descriptors beside them, on their way out of a non-blocking stream socket.

Everything sent on a socket goes through its one `Outbox`, so that two answers never mix. Nothing
here waits: `flush` sends what the socket takes and keeps the rest. Who watches for room, and how
much may be kept, is decided by `connection.py` and `workers.py`.
"""

from __future__ import annotations

import array
import os
import socket
from collections import deque

JOINED_BYTES_MAX = 256 * 1024  # small parts sent by one call
FDS_PER_MESSAGE_MAX = 64  # the host's kernel takes at most 253 (SCM_MAX_FD)

assert FDS_PER_MESSAGE_MAX <= 253


class Outbox:
    """What waits for room in one socket, in order.

    waiting: bytes not yet taken by the socket. sent: bytes that had to wait and were taken.
    """

    __slots__ = ("_parts", "_sock", "sent", "waiting")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._parts: deque[tuple[bytes | bytearray | memoryview, tuple[int, ...]]] = deque()
        self.waiting = 0
        self.sent = 0

    def put(self, data: bytes | bytearray, fds: tuple[int, ...] = ()) -> None:
        """Queue `data`. Its first byte carries `fds`, which are closed once sent."""
        assert data, "descriptors travel with a byte"
        assert len(fds) <= FDS_PER_MESSAGE_MAX
        self._parts.append((data, fds))
        self.waiting += len(data)

    def send(self, data: bytes) -> None:
        """Queue `data` and send what the socket takes. Raises OSError if the other end is gone."""
        if self.waiting:
            self.put(data)
            self.flush()
            return
        try:
            taken = self._sock.send(data)
        except BlockingIOError:
            taken = 0
        if taken < len(data):
            self.sent += taken
            self._parts.append((memoryview(data)[taken:], ()))
            self.waiting = len(data) - taken

    def flush(self) -> None:
        """Send what the socket takes. Raises OSError if the other end is gone."""
        while self._parts:
            data, fds = self._next()
            try:
                taken = self._send(data, fds)
            except OSError as error:
                self._parts.appendleft((data, fds))  # whatever happens, `clear` finds them
                if isinstance(error, BlockingIOError):
                    return
                raise
            for fd in fds:
                os.close(fd)
            self.waiting -= taken
            self.sent += taken
            if taken < len(data):
                self._parts.appendleft((memoryview(data)[taken:], ()))

    def clear(self) -> None:
        """Forget everything and close the descriptors that were to be sent."""
        for _, fds in self._parts:
            for fd in fds:
                os.close(fd)
        self._parts.clear()
        self.waiting = 0

    def _next(self) -> tuple[bytes | bytearray | memoryview, tuple[int, ...]]:
        """Take the next part out, joined with small ones behind it that carry no descriptors."""
        parts = self._parts
        data, fds = parts.popleft()
        if not parts or parts[0][1] or len(data) >= JOINED_BYTES_MAX:
            return data, fds
        joined, size = [data], len(data)
        while parts and not parts[0][1] and size < JOINED_BYTES_MAX:
            part, _ = parts.popleft()
            joined.append(part)
            size += len(part)
        return b"".join(joined), fds

    def _send(self, data: bytes | bytearray | memoryview, fds: tuple[int, ...]) -> int:
        if not fds:
            return self._sock.send(data)
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        return self._sock.sendmsg([data], passed)
