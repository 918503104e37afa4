"""A client's end of a remote connection, never waiting: what `runtime.client.link` needs of it.

Finding a host's addresses is the one thing that blocks, as the system's resolver does. Credentials
are read anew for each connection, so that a renewed certificate is used from the next one on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import Any

from runtime.client.address import Remote
from runtime.client.stream import RECEIVE_BYTES, Facts, Unwelcome
from runtime.remote.credentials import load
from runtime.remote.errors import HandshakeFailed, RemoteError
from runtime.remote.tls import Context

SEALED_BYTES_MAX = 256 * 1024  # encrypted and not yet taken by the network
REPLY_BYTES_MAX = 3 << 30  # what came as a memory file on the other host comes in the answer here

assert SEALED_BYTES_MAX > RECEIVE_BYTES


class RemoteStream:
    """A connection to a daemon on another host; as `runtime.client.stream.Stream`."""

    reply_bytes_max = REPLY_BYTES_MAX

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        try:
            context = Context(load(remote.credentials), remote.mode, server=False)
            self._tls = context.connection(remote.host)
        except RemoteError as error:
            raise Unwelcome(str(error)) from error
        except UnicodeError as error:
            raise Unwelcome(f"{remote.host!r} is no name of a host.") from error
        self._sealed = bytearray()
        self._connected = False
        self._found = _addresses(remote)
        self.socket = self._next()

    @property
    def established(self) -> bool:
        return self._tls.done

    def facts(self) -> Facts | None:
        return self._tls.facts() if self._tls.done else None

    def wants_write(self, more: bool) -> bool:
        return bool(not self._connected or self._sealed or (more and self._tls.done))

    def send(self, data: bytearray) -> int:
        self._connect()
        taken = 0
        if self._tls.done and len(self._sealed) < SEALED_BYTES_MAX:
            piece = bytes(data[:RECEIVE_BYTES])
            self._give(piece)
            taken = len(piece)
        self._flush(patient=bool(taken))
        return taken

    def receive(self) -> tuple[bytes, list[int], bool]:
        self._connect()
        while True:
            sealed = self.socket.recv(RECEIVE_BYTES)
            if not sealed:
                if self._tls.done:
                    return b"", [], False
                raise Unwelcome(
                    f"{self._remote} closed the connection before the handshake was done; "
                    "its log says why, if it speaks TLS at all."
                )
            data = self._take(sealed)
            if data:
                return data, [], False
            if self._tls.ended:
                return b"", [], False

    def close(self) -> None:
        if self._connected and self._tls.done:
            self._tls.end()
            self._sealed += self._tls.outgoing()
            with contextlib.suppress(OSError):
                self.socket.send(self._sealed)
        self.socket.close()

    def _take(self, sealed: bytes) -> bytes:
        before = self._tls.done
        try:
            data = self._tls.take(sealed)
        except HandshakeFailed as failed:
            self._sealed += self._tls.outgoing()
            with contextlib.suppress(OSError):
                self._flush(patient=True)  # The alert tells the other end.
            raise self._unwelcome(failed) from failed
        self._sealed += self._tls.outgoing()
        if self._sealed and not before:
            self._flush(patient=True)
        return data

    def _give(self, piece: bytes) -> None:
        try:
            self._tls.give(piece)
        except HandshakeFailed as failed:
            raise self._unwelcome(failed) from failed
        self._sealed += self._tls.outgoing()

    def _unwelcome(self, failed: HandshakeFailed) -> OSError:
        if failed.reason == "ended":
            return OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return Unwelcome(f"No connection to {self._remote}: {failed}")

    def _flush(self, *, patient: bool) -> None:
        """Send what is sealed. patient: what the network does not take now may wait."""
        while self._sealed:
            try:
                sent = self.socket.send(self._sealed)
            except BlockingIOError:
                if patient:
                    return
                raise
            del self._sealed[:sent]

    def _connect(self) -> None:
        """Go on until connected. Raises BlockingIOError until then."""
        while not self._connected:
            failed = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not failed and not _has_peer(self.socket):
                raise BlockingIOError(errno.EINPROGRESS, "not connected yet")
            if not failed:
                self._connected = True
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._tls.start()
                self._sealed += self._tls.outgoing()
                return
            if not self._found:
                raise OSError(failed, os.strerror(failed))
            self.socket.close()
            self.socket = self._next()

    def _next(self) -> socket.socket:
        """Begin to connect to the next address of the host."""
        while True:
            family, kind, protocol, _, where = self._found.pop(0)
            fresh = socket.socket(family, kind, protocol)
            fresh.setblocking(False)
            failed = fresh.connect_ex(where)
            if failed in (0, errno.EINPROGRESS):
                return fresh
            fresh.close()
            if not self._found:
                raise OSError(failed, os.strerror(failed))


def _has_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _addresses(remote: Remote) -> list[Any]:
    try:
        return list(socket.getaddrinfo(remote.host, remote.port, type=socket.SOCK_STREAM))
    except socket.gaierror as error:
        raise OSError(error.errno, f"{remote.host} is not known here: {error.strerror}") from error
