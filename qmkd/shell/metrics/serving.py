"""Answers scrapes over HTTP, beside the calls: in the same loop, a few series at a turn.

Rendering all series at once would hold up every call for milliseconds. So each piece of at most
SAMPLES_PER_TURN of them is one turn, after which calls are served first. Who may ask is decided by
the socket: one in the file system that only the daemon's user and root can reach, and a port of the
loopback where the configuration names one.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from time import thread_time
from typing import Final

import trio
from prometheus_client import exposition, openmetrics
from prometheus_client.metrics_core import Metric

SAMPLES_PER_TURN: Final = 16
HEAD_BYTES_MAX: Final = 8 * 1024
REQUEST_S_MAX: Final = 30.0  # from connecting to having all of the answer
CLIENTS_MAX: Final = 8  # more are turned away
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
END: Final = b"# EOF\n"

Collect = Callable[[], Iterator[Metric]]


class Scrapes:
    """Serves what `collect` yields. count: scrapes answered. loop_s: CPU time of the last one."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        self._clients = 0
        self.count = 0
        self.loop_s = 0.0

    async def serve(self, sockets: list[socket.socket]) -> None:
        """Until cancelled; then the sockets are closed."""
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in sockets]
        await trio.serve_listeners(self._client, listeners)

    async def _client(self, stream: trio.SocketStream) -> None:
        self._clients += 1
        try:
            async with stream:
                with trio.move_on_after(REQUEST_S_MAX):
                    if self._clients <= CLIENTS_MAX:
                        await stream.send_all(await self._answer(await _head(stream)))
                    else:
                        await stream.send_all(_response("503 Service Unavailable", b"Too many.\n"))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it went away
        finally:
            self._clients -= 1

    async def _answer(self, head: bytes) -> bytes:
        line, _, fields = head.partition(b"\r\n")
        words = line.split()
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response("400 Bad Request", b"This is not HTTP.\n")
        if words[0] not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", b"Only GET.\n")
        if words[1].partition(b"?")[0] != b"/metrics":
            return _response("404 Not Found", b"There is /metrics.\n")
        wanted = OPENMETRICS if b"application/openmetrics-text" in fields.lower() else PLAIN
        body = await self.text(exemplars=wanted is OPENMETRICS)
        return _response("200 OK", b"" if words[0] == b"HEAD" else body, wanted)

    async def text(self, *, exemplars: bool) -> bytes:
        """All series as text: OpenMetrics with exemplars, or the older format without."""
        parts: list[bytes] = []
        spent_s, began_s = 0.0, thread_time()
        families = self._collect()
        while (family := next(families, None)) is not None:
            for piece in rendered(family, exemplars):
                parts.append(piece)
                spent_s += thread_time() - began_s
                # Calls that came meanwhile are served now.
                await trio.lowlevel.checkpoint()
                began_s = thread_time()
        self.count += 1
        self.loop_s = spent_s + thread_time() - began_s
        return b"".join(parts) + (END if exemplars else b"")


class _One:
    """A registry of one family, for the library to render."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


def rendered(family: Metric, exemplars: bool) -> Iterator[bytes]:
    """The family's text in pieces of a few samples, its header before the first."""
    samples = family.samples
    for first in range(0, max(1, len(samples)), SAMPLES_PER_TURN):
        part = Metric(family.name, family.documentation, family.type, family.unit)
        part.samples = samples[first : first + SAMPLES_PER_TURN]
        if exemplars:
            text = openmetrics.exposition.generate_latest(_One(part)).removesuffix(END)  # type: ignore[no-untyped-call]
        else:
            text = exposition.generate_latest(_One(part))
        if first:
            text = b"".join(
                line for line in text.splitlines(keepends=True) if not line.startswith(b"#")
            )
        yield text


async def _head(stream: trio.SocketStream) -> bytes:
    """The request line and its fields; what came so far where there is no end of them."""
    head = bytearray()
    while b"\r\n\r\n" not in head and len(head) < HEAD_BYTES_MAX:
        data = await stream.receive_some(HEAD_BYTES_MAX - len(head))
        if not data:
            break
        head += data
    return bytes(head)


def _response(status: str, body: bytes, kind: str = "text/plain; charset=utf-8") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def listeners(path: Path, port: int) -> list[socket.socket]:
    """Where scrapes come in: a socket that only our user and root reach, and the loopback's `port`
    unless it is 0. Raises OSError, and then leaves nothing."""
    made: list[socket.socket] = []
    try:
        made.append(_unix(path))
        if port:
            tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            made.append(tcp)
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind(("127.0.0.1", port))
        for each in made:
            each.setblocking(False)
            each.listen(CLIENTS_MAX)
    except OSError:
        for each in made:
            each.close()
        raise
    return made


def _unix(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _clear(path)
        before = os.umask(0o177)
        try:
            made.bind(str(path))
        finally:
            os.umask(before)
    except OSError:
        made.close()
        raise
    return made


def _clear(path: Path) -> None:
    """Remove the socket of a daemon that is gone. Raises OSError where somebody listens."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "it exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, "another daemon listens there")
    path.unlink()
