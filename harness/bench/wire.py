"""A bare blocking connection for benchmarks: pipelined calls, replies in the order they come."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec

RECEIVE_BYTES = 1 << 18


class Wire:
    """One connection. `call` waits for its reply; `flow` keeps a window of calls in flight."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(path))
        self.traceparent: str | None = None  # goes with every call
        self._pending = b""
        self._lines: list[bytes] = []
        self._serial = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def request(self, method: str, params: dict[str, Any]) -> bytes:
        self._serial += 1
        call = {"jsonrpc": "2.0", "id": self._serial, "method": method, "params": params}
        if self.traceparent is not None:
            call["traceparent"] = self.traceparent
        return msgspec.json.encode(call) + b"\n"

    def line(self) -> bytes:
        """The next reply's bytes, without its newline."""
        while not self._lines:
            data = self.sock.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionError("the daemon hung up")
            *lines, self._pending = (self._pending + data).split(b"\n")
            lines.reverse()
            self._lines = lines
        return self._lines.pop()

    def exchange(self, request: bytes) -> bytes:
        """Send a large request and read its answer, never waiting for one with the other undone.

        An echo answers while it is still being sent to; a plain `sendall` would wait for ever.
        """
        view, answer = memoryview(request), bytearray()
        poller = select.poll()
        poller.register(self.sock, select.POLLIN | select.POLLOUT)
        while not answer.endswith(b"\n"):
            ((_, ready),) = poller.poll()
            if ready & select.POLLOUT and view:
                view = view[self.sock.send(view, socket.MSG_DONTWAIT) :]
                if not view:
                    poller.modify(self.sock, select.POLLIN)
            if ready & select.POLLIN:
                answer += self.sock.recv(RECEIVE_BYTES)
        return bytes(answer)

    def call(self, method: str, params: dict[str, Any]) -> Any:
        self.sock.sendall(self.request(method, params))
        return result_of(msgspec.json.decode(self.line()))

    def session(self) -> str:
        return str(
            self.call("q_negotiate_caps", {"requested": ["CAP_ALLOC", "CAP_MAGIC"]})["session_id"]
        )

    def flow(
        self, count: int, window: int, make: Callable[[int], tuple[str, dict[str, Any]]]
    ) -> list[Any]:
        """`count` calls, at most `window` in flight; the results in the order of the replies."""
        results: list[Any] = []
        sent = 0
        while len(results) < count:
            room = min(count, len(results) + window) - sent
            # Refill by halves, so that one send carries many requests.
            if room >= min(window, count - sent + 1) // 2 and room > 0:
                self.sock.sendall(b"".join(self.request(*make(sent + i)) for i in range(room)))
                sent += room
            results.append(result_of(msgspec.json.decode(self.line())))
        return results


def result_of(reply: Any) -> Any:
    if "error" in reply:
        raise RuntimeError(f"the daemon refused a benchmark's call: {reply['error']}")
    return reply["result"]
