"""One socket to the daemon, never waiting: opens, posts, flushes, receives, reconnects.

Whoever holds a link decides how to wait for the socket: `sync.py` polls, `trio_client.py` lets trio
wait. Messages to be sent are kept whole in one outbox, so that giving up on a call halfway through
sending it leaves the connection usable. What to do about a lost call is decided in `exchange.py`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.client.exchange import Lost, Outcome
from runtime.client.protocol import FDS_UNCLAIMED_MAX, Protocol
from runtime.client.tracing import OpenSpan, Spans
from syscalls.events import JobEvent
from syscalls.jsonrpc import ProtocolError
from syscalls.syscall import Syscall

# Python asks the allocator for all of it at each receive; beyond 128 KiB that is a system call and
# a page fault every time, which made a small round trip a third slower.
RECEIVE_BYTES = 64 * 1024


class Link:
    """The connection to one daemon, made again when it is lost and needed.

    on_event: told of every notification, in order of arrival. spans: told of every call.
    """

    def __init__(
        self, path: Path, on_event: Callable[[JobEvent], None], spans: Spans | None = None
    ) -> None:
        self.path = path
        self._spans = spans
        self._traced: dict[int, OpenSpan] = {}
        self._on_event = on_event
        self._socket: socket.socket | None = None
        self._protocol = Protocol(os.close)
        self._outbox = bytearray()
        self._outcomes: dict[int, Outcome] = {}
        self._ever_open = False

    @property
    def socket(self) -> socket.socket | None:
        """The open socket, non-blocking, to wait for."""
        return self._socket

    @property
    def unsent(self) -> bool:
        """Whether bytes wait until the socket takes them."""
        return bool(self._outbox)

    def post(self, calls: Sequence[Syscall]) -> list[int] | Lost:
        """Queue calls, on a new connection if need be; returns their numbers, or why not."""
        if self._socket is None and (failed := self._open()) is not None:
            return failed
        numbers = []
        for call in calls:
            span = None if self._spans is None else self._spans.begin(call)
            number, data = self._protocol.send(call, None if span is None else span.parent)
            if span is not None:
                self._traced[number] = span
            self._outbox += data
            numbers.append(number)
        return numbers

    def flush(self) -> None:
        """Send as much as the socket takes now."""
        while self._outbox and self._socket is not None:
            try:
                sent = self._socket.send(self._outbox)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.receive()  # What the daemon said before it closed explains more.
                self.drop(f"The connection to {self.path} was lost: {error.strerror}.")
                return
            del self._outbox[:sent]

    def receive(self) -> None:
        """Take in what has arrived."""
        while self._socket is not None:
            try:
                data, fds, flags, _ = socket.recv_fds(
                    self._socket, RECEIVE_BYTES, FDS_UNCLAIMED_MAX, socket.MSG_CMSG_CLOEXEC
                )
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.drop(f"The connection to {self.path} was lost: {error.strerror}.")
                return
            if not data:
                self.drop(f"The daemon at {self.path} closed the connection.")
                return
            self._take(data, fds, truncated=bool(flags & socket.MSG_CTRUNC))
            if len(data) < RECEIVE_BYTES:
                return

    def done(self, numbers: Sequence[int]) -> bool:
        """Whether all these calls have their outcome."""
        return all(number in self._outcomes for number in numbers)

    def collect(self, numbers: Sequence[int]) -> list[Outcome]:
        """Take the outcomes of these calls; one without is late, and given up."""
        late = Lost(f"The daemon at {self.path} did not answer in time.", late=True)
        self.abandon([number for number in numbers if number not in self._outcomes])
        return [self._outcomes.pop(number, late) for number in numbers]

    def abandon(self, numbers: Sequence[int]) -> None:
        """Nobody waits for these calls any more."""
        for number in numbers:
            self._end_span(number, "given up")
            outcome = self._outcomes.pop(number, None)
            if outcome is None:
                self._protocol.abandon(number)
            elif not isinstance(outcome, Lost) and outcome.fd is not None:
                os.close(outcome.fd)

    def drop(self, why: str, *, final: bool = False) -> None:
        """End the connection; every call without an answer is lost."""
        if self._socket is None:
            return
        self._socket.close()
        self._socket = None
        self._outbox.clear()
        for number in self._protocol.pending:
            self._outcomes[number] = Lost(why, final=final)
            self._end_span(number, "lost")
        self._protocol.end()

    def _open(self) -> Lost | None:
        fresh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            fresh.setblocking(False)
            fresh.connect(os.fspath(self.path))
        except BlockingIOError:
            fresh.close()
            return Lost(f"The daemon at {self.path} takes no more connections now.", sent=False)
        except OSError as error:
            fresh.close()
            why = f"No daemon answers at {self.path}: {error.strerror or error}."
            return Lost(why, sent=False, final=not self._ever_open)
        self._socket = fresh
        self._ever_open = True
        self._protocol = Protocol(os.close, self._protocol.next)
        return None

    def _take(self, data: bytes, fds: list[int], *, truncated: bool) -> None:
        try:
            if truncated:
                raise ProtocolError("file descriptors were cut off")
            found = self._protocol.feed(data, fds)
        except ProtocolError as error:
            self.drop(f"{self.path} does not speak the kernel's protocol: {error}.", final=True)
            return
        for message in found:
            if isinstance(message, JobEvent):
                self._on_event(message)
            else:
                self._outcomes[message.number] = message
                if message.error is None:
                    self._end_span(message.number)
                else:
                    self._end_span(message.number, message.error.name, message.error.code)

    def _end_span(self, number: int, error: str = "", code: int | None = None) -> None:
        if (span := self._traced.pop(number, None)) is not None:
            span.end(error, code)
