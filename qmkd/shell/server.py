"""The listening sockets and the connections they bring, each within its bounds.

Whoever connects is named by the host's kernel (SO_PEERCRED) and counted by user. Running out of
descriptors pauses accepting; it ends nothing. Calls go on to the pump, which is handed in; the
bytes of a connection are dealt with in `connection.py`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable
from select import EPOLLIN
from time import monotonic_ns
from typing import Protocol

import trio

from qmkd.core.events import Peer
from qmkd.shell.connection import Connection
from qmkd.shell.hub import Hub
from qmkd.shell.limits import ACCEPT_PAUSE_S, ACCEPTS_PER_TURN_MAX, SWEEP_S, Limits
from syscalls.errors import Busy
from syscalls.jsonrpc import encode_error
from syscalls.syscall import Syscall
from syscalls.tracing import TraceParent

_log = logging.getLogger("qmkd.server")
_CREDENTIALS = struct.Struct("iII")  # struct ucred of unix(7): pid, uid, gid
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Calls(Protocol):
    """Who performs the calls."""

    def called(self, connection: Connection, call: int, request: Syscall) -> None: ...

    def gone(self, connection: Connection) -> None: ...


class Server:
    """All connections. `hub` serves them; `sweep` looks at their ages.

    announce: told of traced calls before they are made, by connection and call.
    """

    def __init__(
        self,
        hub: Hub,
        limits: Limits,
        calls: Calls,
        announce: Callable[[int, int, TraceParent], None] | None = None,
    ) -> None:
        self.hub = hub
        self.limits = limits
        self.connections: dict[int, Connection] = {}
        self.called = calls.called
        self._calls = calls
        self._announce = announce
        self._listeners: list[socket.socket] = []
        self._numbers = 0
        self._per_uid: Counter[int] = Counter()
        self._bytes_per_uid: Counter[int] = Counter()
        self._ages: list[Connection] = []
        self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._paused_until_ns = 0

    def listen(self, listener: socket.socket) -> None:
        """Accept from a bound and listening stream socket, from now on."""
        listener.setblocking(False)
        self._listeners.append(listener)
        self.hub.watch(listener.fileno(), EPOLLIN, lambda events: self._accept(listener))

    def stop_listening(self) -> None:
        """Accept nobody any more."""
        for listener in self._listeners:
            self.hub.forget(listener.fileno())
            self.hub.close_later(listener)
        self._listeners.clear()
        self._paused_until_ns = 0

    async def sweep(self) -> None:
        """Look for what takes too long, until cancelled."""
        while True:
            await trio.sleep(SWEEP_S if not self._paused_until_ns else ACCEPT_PAUSE_S)
            now_ns = monotonic_ns()
            watched, self._ages = self._ages, []
            self._ages += [one for one in watched if one.check_age(now_ns)]
            if self._paused_until_ns and now_ns >= self._paused_until_ns:
                self._paused_until_ns = 0
                for listener in self._listeners:
                    self.hub.change(listener.fileno(), EPOLLIN)
            self.hub.settle()

    async def drain(self, seconds: float) -> None:
        """Wait until every answer is taken by its client, at most so long."""
        with trio.move_on_after(seconds):
            while not all(one.is_settled for one in self.connections.values()):
                await trio.sleep(0.01)

    def close(self) -> None:
        """End every connection and give up the listening sockets."""
        self.stop_listening()
        for connection in list(self.connections.values()):
            connection.close("the daemon ends")
        self.hub.settle()
        os.close(self._reserve)

    # --- what connections ask (connection.Host) ------------------------------------------------

    def traced(self, connection: Connection, call: int, parent: TraceParent) -> None:
        if self._announce is not None:
            self._announce(connection.number, call, parent)

    def closed(self, connection: Connection, why: str) -> None:
        del self.connections[connection.number]
        uid = connection.peer.uid
        self._per_uid[uid] -= 1
        if not self._per_uid[uid]:
            del self._per_uid[uid]
        quiet = why in ("ended", "the daemon ends")
        _log.log(
            logging.DEBUG if quiet else logging.INFO,
            "connection closed",
            extra={
                "connection": connection.number,
                "uid": uid,
                "why": why,
                "notifications_dropped": connection.notifications_dropped,
            },
        )
        self._calls.gone(connection)

    def buffered(self, connection: Connection, more: int) -> None:
        uid = connection.peer.uid
        self._bytes_per_uid[uid] += more
        held = self._bytes_per_uid[uid]
        if held <= 0:
            assert held == 0, "nobody holds less than nothing"
            del self._bytes_per_uid[uid]
        elif held > self.limits.buffered_bytes_per_uid and more > 0:
            own = (one for one in self.connections.values() if one.peer.uid == uid)
            max(own, key=lambda one: one.buffered).close("the user's connections hold too much")

    def watch_ages(self, connection: Connection) -> None:
        self._ages.append(connection)

    # --- accepting ------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN_MAX):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    self._turn_one_away(listener)
                    return
                if error.errno == errno.ECONNABORTED:
                    continue
                raise
            self._admit(sock)

    def _admit(self, sock: socket.socket) -> None:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(raw)
        limits = self.limits
        if len(self.connections) >= limits.connections:
            self._refuse(sock, "too many connections")
            return
        if self._per_uid[uid] >= limits.connections_per_uid:
            self._refuse(sock, "too many connections of this user")
            return
        sock.setblocking(False)
        self._numbers += 1
        self._per_uid[uid] += 1
        peer = Peer(uid=uid, gid=gid, pid=pid)
        self.connections[self._numbers] = Connection(self, sock, self._numbers, peer)

    def _refuse(self, sock: socket.socket, what: str) -> None:
        with sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.send(encode_error(None, Busy(what=what, retry_after_ms=1000)))

    def _turn_one_away(self, listener: socket.socket) -> None:
        """Out of descriptors: answer one caller by the reserve, then let the others wait."""
        os.close(self._reserve)
        try:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                self._refuse(sock, "the daemon has no descriptor free")
        finally:
            self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        if not self._paused_until_ns:
            _log.warning("out of descriptors, accepting is paused")
        self._paused_until_ns = monotonic_ns() + int(ACCEPT_PAUSE_S * 1e9)
        for one in self._listeners:
            self.hub.change(one.fileno(), 0)
