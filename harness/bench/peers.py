"""Peer servers: `python -m harness.bench.peers trio|jsonrpcserver SOCKET`.

`trio` echoes bytes with trio's own loop and nothing else. `jsonrpcserver` answers `q_status` with a
fixed reply through that library's default dispatch, on the same socket handling as the echo.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

RECEIVE_BYTES = 1 << 18


async def _send_all(sock: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            sent = sock.send(view)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)
            continue
        view = view[sent:]


async def _serve(sock: socket.socket, answer: Callable[[bytes], bytes] | None) -> None:
    pending = b""
    with sock:
        while True:
            try:
                data = sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(sock)
                continue
            except ConnectionError:
                return
            if not data:
                return
            try:
                if answer is None:
                    await _send_all(sock, data)
                    continue
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    await _send_all(sock, answer(line) + b"\n")
            except ConnectionError:
                return


async def _main(path: str, answer: Callable[[bytes], bytes] | None) -> None:
    Path(path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1024)
    listener.setblocking(False)
    async with trio.open_nursery() as nursery:
        while True:
            await trio.lowlevel.wait_readable(listener)
            sock, _ = listener.accept()
            sock.setblocking(False)
            nursery.start_soon(_serve, sock, answer)


def _jsonrpcserver() -> Callable[[bytes], bytes]:
    import jsonrpcserver

    def q_status(session_id: str, job_id: str) -> Any:
        return jsonrpcserver.Success(
            {"job_id": job_id, "session_id": session_id, "state": "RUNNING"}
        )

    def q_submit(session_id: str, graph: Any, policy: Any = None) -> Any:
        return jsonrpcserver.Success({"job_id": "job_1", "state": "QUEUED"})

    methods = {"q_status": q_status, "q_submit": q_submit}
    return lambda line: jsonrpcserver.dispatch(line.decode(), methods=methods).encode()


if __name__ == "__main__":
    trio.run(_main, sys.argv[2], _jsonrpcserver() if sys.argv[1] == "jsonrpcserver" else None)
