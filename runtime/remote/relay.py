"""A relay: a process of one user, through which that user's remote clients reach the daemon.

The service that speaks TLS (`server.py`) hands a client's bytes to the relay of the user for whom
its certificate stands; the relay connects to the daemon, which sees the relay's user (SO_PEERCRED)
and nobody else. Thus no process here needs to become another user. A relay takes connections from
the services' user alone, and the service checks whose relay it is: both ask the host's kernel.
"""

from __future__ import annotations

import logging
import os
import signal
import socket as stdlib_socket
from collections.abc import Callable
from pathlib import Path

import trio

from runtime.remote.bridge import NotThere, PlainStream, connect_local, join, peer_uid, tell_systemd
from runtime.remote.errors import BadSettings
from syscalls.errors import Busy
from syscalls.jsonrpc import encode_error

_log = logging.getLogger("qmk.relay")

BACKLOG = 128
STALLED_S = 60.0


def listen(path: Path) -> trio.socket.SocketType:
    """Bind a relay's socket; what a relay left behind goes. Raises BadSettings."""
    sock = trio.socket.socket(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_dead(path)
        # Who may connect is asked of the host's kernel, connection by connection.
        mask = os.umask(0)
        try:
            # A trio socket's bind is for host names too; the one below it is not.
            raw = stdlib_socket.socket(fileno=os.dup(sock.fileno()))
            with raw:
                raw.bind(os.fspath(path))
                raw.listen(BACKLOG)
        finally:
            os.umask(mask)
    except OSError as error:
        sock.close()
        raise BadSettings(f"Cannot listen at {path}: {error.strerror or error}.") from error
    return sock


def _remove_dead(path: Path) -> None:
    """Remove a socket at which nobody listens. Raises OSError where somebody does."""
    with stdlib_socket.socket(stdlib_socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            if path.is_socket():  # of a relay that is gone; any other file stays
                path.unlink()
            return
    raise OSError("another relay listens there")


async def serve(sock: trio.socket.SocketType, daemon: Path, front: frozenset[int]) -> None:
    """Relay until cancelled. front: users whose processes may hand clients on."""
    async with trio.open_nursery() as nursery:
        while True:
            connection, _ = await sock.accept()
            nursery.start_soon(_relay, connection, daemon, front)


async def _relay(connection: trio.socket.SocketType, daemon: Path, front: frozenset[int]) -> None:
    async with trio.SocketStream(connection) as stream:
        uid = peer_uid(connection)
        if uid not in front:
            _log.warning("refused: a process of user %d", uid)
            return
        client = PlainStream(stream, STALLED_S)
        try:
            local = await connect_local(daemon)
        except NotThere as error:
            _log.warning("%s", error)
            busy = Busy(what="the daemon does not answer", retry_after_ms=1000)
            await client.send_all(encode_error(None, busy))
            return
        why = await join(client, local, lambda way, more: None)
        _log.info("a client left: %s", why)


async def run(path: Path, daemon: Path, front: frozenset[int], ready: Callable[[], None]) -> None:
    """Relay until SIGTERM or SIGINT."""
    sock = listen(path)
    try:
        ready()
        tell_systemd("READY=1")
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, sock, daemon, front)
                async for _ in signals:
                    nursery.cancel_scope.cancel()
                    break
    finally:
        sock.close()
        path.unlink(missing_ok=True)
