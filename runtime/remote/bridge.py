"""Bytes between a client and a socket of this host, both ways, for as long as both go on.

Each way waits for its slower end, so nothing piles up here. What the daemon gives as a memory file
goes on inside its answer (`inlining.py`). What the bytes mean is nobody's business here.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket as stdlib_socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from runtime.remote.errors import HandshakeFailed, RemoteError
from runtime.remote.inlining import BadAnswer, Inliner, Rows
from runtime.remote.tls import Tls

CHUNK_BYTES = 64 * 1024
FDS_MAX = 64
LINGER_S = 1.0
HUNG_UP_LOOK_S = 1.0
CREDENTIALS = struct.Struct("iII")  # struct ucred of unix(7): pid, uid, gid

_END = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, HandshakeFailed)
"""How a connection may end under our hands."""


class NotThere(RemoteError):
    """What should listen on this host does not, or is not who it should be."""


class Stalled(RemoteError):
    """A client did not take what it was sent in time."""


class SecureStream:
    """A TLS connection over TCP. One task may receive while another sends."""

    def __init__(self, tcp: trio.SocketStream, tls: Tls, stalled_s: float) -> None:
        self.socket = tcp.socket
        self._tcp = tcp
        self._tls = tls
        self._stalled_s = stalled_s
        self._lock = trio.Lock()

    async def shake_hands(self) -> None:
        """Raises HandshakeFailed, having told the other end why, or what a socket raises."""
        try:
            while not self._tls.done:
                sealed = await self._tcp.receive_some(CHUNK_BYTES)
                if not sealed:
                    raise HandshakeFailed("ended", "the other end went away")
                self._early = self._tls.take(bytes(sealed))
                await self._flush()
        except HandshakeFailed:
            with contextlib.suppress(*_END, Stalled):
                await self._flush()
            raise

    async def receive_some(self) -> bytes:
        """Plain bytes; none at the end."""
        if self._early:
            early, self._early = self._early, b""
            return early
        while not self._tls.ended:
            sealed = await self._tcp.receive_some(CHUNK_BYTES)
            if not sealed:
                break
            data = self._tls.take(bytes(sealed))
            await self._flush()
            if data:
                return data
        return b""

    async def send_all(self, data: bytes) -> None:
        """Raises Stalled where the other end does not take it."""
        for at in range(0, len(data), CHUNK_BYTES):
            self._tls.give(data[at : at + CHUNK_BYTES])
            await self._flush()

    async def send_eof(self) -> None:
        """Say that no more comes, and leave the other end a moment to read what has."""
        self._tls.end()
        with contextlib.suppress(*_END, Stalled):
            await self._flush()
        await linger(self._tcp)

    async def _flush(self) -> None:
        sealed = self._tls.outgoing()
        if sealed and not self._lock.locked():
            sealed = sealed[written(self._tcp.socket, sealed) :]
        if not sealed:
            return
        async with self._lock:
            with trio.move_on_after(self._stalled_s):
                await self._tcp.send_all(sealed)
                return
            raise Stalled(f"the client took nothing for {self._stalled_s:g} s")

    _early = b""


async def linger(tcp: trio.SocketStream) -> None:
    """Send an end, and let what comes meanwhile be; else the host's kernel resets the connection,
    and what was sent last is lost."""
    with trio.move_on_after(LINGER_S), contextlib.suppress(*_END):
        await tcp.send_eof()
        while await tcp.receive_some(CHUNK_BYTES):
            pass


class PlainStream:
    """A connection of this host; as `SecureStream`."""

    def __init__(self, stream: trio.SocketStream, stalled_s: float) -> None:
        self.socket = stream.socket
        self._stream = stream
        self._stalled_s = stalled_s

    async def receive_some(self) -> bytes:
        return bytes(await self._stream.receive_some(CHUNK_BYTES))

    async def send_all(self, data: bytes) -> None:
        with trio.move_on_after(self._stalled_s):
            await self._stream.send_all(data)
            return
        raise Stalled(f"the client took nothing for {self._stalled_s:g} s")

    async def send_eof(self) -> None:
        await linger(self._stream)


async def connect_local(path: Path, uid: int | None = None) -> trio.socket.SocketType:
    """A connection to a socket of this host. uid: whose it must be. Raises NotThere."""
    sock = trio.socket.socket(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_STREAM)
    try:
        try:
            await sock.connect(os.fspath(path))
        except OSError as error:
            raise NotThere(f"nobody answers at {path}: {error.strerror}") from error
        if uid is not None and (found := peer_uid(sock)) != uid:
            raise NotThere(f"{path} is of user {found}, not of {uid}")
    except BaseException:
        sock.close()
        raise
    return sock


def peer_uid(sock: trio.socket.SocketType) -> int:
    """Who is at the other end of a socket of this host, as the host's kernel says (unix(7))."""
    raw = sock.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_PEERCRED, CREDENTIALS.size)
    return int(CREDENTIALS.unpack(raw)[1])


def tell_systemd(state: str) -> None:
    """Say how this process is to who started it (sd_notify(3)), if that wants to know."""
    if where := os.environ.get("NOTIFY_SOCKET"):
        with stdlib_socket.socket(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_DGRAM) as line:
            line.connect(where.replace("@", "\0", 1) if where.startswith("@") else where)
            line.send(state.encode())


def hung_up(sock: trio.socket.SocketType) -> bool:
    """Whether the other end is gone, and has not just ended what it sends."""
    poller = select.poll()
    poller.register(sock.fileno(), 0)
    return bool(poller.poll(0))


Count = Callable[[str, int], None]
"""Told of bytes that went `up` to the daemon or `down` to the client."""


async def join(
    client: SecureStream | PlainStream, daemon: trio.socket.SocketType, count: Count
) -> str:
    """Carry bytes until either end has had enough; why it ended. Closes `daemon`."""
    why = "ended"
    inliner = Inliner()

    async def guarded(carry: Callable[[], Awaitable[None]]) -> None:
        nonlocal why
        try:
            await carry()
        except (Stalled, BadAnswer) as error:
            why = str(error)
            nursery.cancel_scope.cancel()
        except _END as error:
            why = f"lost: {error}"
            nursery.cancel_scope.cancel()

    async def up() -> None:
        nonlocal why
        while data := await client.receive_some():
            await _send(daemon, data)
            count("up", len(data))
        daemon.shutdown(stdlib_socket.SHUT_WR)
        # It may still want answers. Whether anybody is there at all, only this tells.
        while not hung_up(client.socket):
            await trio.sleep(HUNG_UP_LOOK_S)
        why = "hung up"
        nursery.cancel_scope.cancel()

    async def down() -> None:
        while True:
            data, fds = await _receive(daemon)
            if not data:
                break
            pieces = inliner.feed(data, fds)
            try:
                for piece in pieces:
                    for chunk in piece.chunks() if isinstance(piece, Rows) else (piece,):
                        await client.send_all(chunk)
                        count("down", len(chunk))
            finally:
                for piece in pieces:
                    if isinstance(piece, Rows):
                        os.close(piece.fd)
        await client.send_eof()
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guarded, up)
            nursery.start_soon(guarded, down)
    finally:
        inliner.close()
        daemon.close()
    return why


def written(sock: trio.socket.SocketType, data: bytes) -> int:
    """How much the socket takes at once; asking the event loop first costs more than most calls."""
    try:
        return os.write(sock.fileno(), data)
    except BlockingIOError:
        return 0


async def _send(sock: trio.socket.SocketType, data: bytes) -> None:
    view = memoryview(data)[written(sock, data) :]
    while view:
        view = view[await sock.send(view) :]


async def _receive(sock: trio.socket.SocketType) -> tuple[bytes, list[int]]:
    room = stdlib_socket.CMSG_SPACE(FDS_MAX * array.array("i").itemsize)
    data, beside, _, _ = await sock.recvmsg(CHUNK_BYTES, room, stdlib_socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, raw in beside:
        if (level, kind) == (stdlib_socket.SOL_SOCKET, stdlib_socket.SCM_RIGHTS):
            fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
    return data, list(fds)
