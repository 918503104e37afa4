"""One socket to the daemon, never waiting: opens, posts, flushes, receives, reconnects.

Whoever holds a link decides how to wait for the socket: `sync.py` polls, `trio_client.py` lets trio
wait. Messages to be sent are kept whole in one outbox, so that giving up on a call halfway through
sending it leaves the connection usable. What to do about a lost call is decided in `exchange.py`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence

from runtime.client.address import Address
from runtime.client.exchange import Lost, Outcome
from runtime.client.protocol import Protocol
from runtime.client.stream import RECEIVE_BYTES, Stream, Unwelcome, open_stream
from runtime.client.tracing import OpenSpan, Spans
from syscalls.events import JobEvent
from syscalls.jsonrpc import ProtocolError
from syscalls.syscall import Syscall


class Link:
    """The connection to one daemon, made again when it is lost and needed.

    on_event: told of every notification, in order of arrival. spans: told of every call.
    """

    def __init__(
        self, address: Address, on_event: Callable[[JobEvent], None], spans: Spans | None = None
    ) -> None:
        self.address = address
        self._spans = spans
        self._traced: dict[int, OpenSpan] = {}
        self._on_event = on_event
        self._stream: Stream | None = None
        self._protocol = Protocol(os.close)
        self._outbox = bytearray()
        self._outcomes: dict[int, Outcome] = {}
        self._ever_open = False

    @property
    def socket(self) -> socket.socket | None:
        """The open socket, non-blocking, to wait for."""
        return None if self._stream is None else self._stream.socket

    @property
    def stream(self) -> Stream | None:
        """The connection itself, while there is one."""
        return self._stream

    @property
    def unsent(self) -> bool:
        """Whether bytes wait until the socket takes them."""
        return self._stream is not None and self._stream.wants_write(bool(self._outbox))

    def post(self, calls: Sequence[Syscall]) -> list[int] | Lost:
        """Queue calls, on a new connection if need be; returns their numbers, or why not."""
        if self._stream is None and (failed := self._open()) is not None:
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
        while self._stream is not None and self._stream.wants_write(bool(self._outbox)):
            try:
                sent = self._stream.send(self._outbox)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if self._stream.established:
                    self.receive()  # What the daemon said before it closed explains more.
                self._fail(error)
                return
            del self._outbox[:sent]

    def receive(self) -> None:
        """Take in what has arrived."""
        while self._stream is not None:
            try:
                data, fds, truncated = self._stream.receive()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._fail(error)
                return
            if not data:
                self.drop(f"The daemon at {self.address} closed the connection.")
                return
            self._ever_open = True
            self._take(data, fds, truncated=truncated)
            if len(data) < RECEIVE_BYTES:
                return

    def done(self, numbers: Sequence[int]) -> bool:
        """Whether all these calls have their outcome."""
        return all(number in self._outcomes for number in numbers)

    def collect(self, numbers: Sequence[int]) -> list[Outcome]:
        """Take the outcomes of these calls; one without is late, and given up."""
        late = Lost(f"The daemon at {self.address} did not answer in time.", late=True)
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

    def drop(self, why: str, *, final: bool = False, sent: bool = True) -> None:
        """End the connection; every call without an answer is lost. sent: some may have arrived."""
        if self._stream is None:
            return
        self._stream.close()
        self._stream = None
        self._outbox.clear()
        for number in self._protocol.pending:
            self._outcomes[number] = Lost(why, final=final, sent=sent)
            self._end_span(number, "lost")
        self._protocol.end()

    def _open(self) -> Lost | None:
        try:
            fresh = open_stream(self.address)
        except BlockingIOError:
            return Lost(f"The daemon at {self.address} takes no more connections now.", sent=False)
        except Unwelcome as error:
            return Lost(str(error), sent=False, final=True)
        except OSError as error:
            return Lost(self._no_answer(error), sent=False, final=not self._ever_open)
        self._stream = fresh
        self._ever_open |= fresh.established
        self._protocol = Protocol(os.close, self._protocol.next, fresh.reply_bytes_max)
        return None

    def _fail(self, error: OSError) -> None:
        """The stream is of no more use; say what that means for the calls."""
        if self._stream is None:
            return
        if isinstance(error, Unwelcome):
            self.drop(str(error), final=True, sent=False)
        elif self._stream.established:
            self.drop(f"The connection to {self.address} was lost: {error.strerror}.")
        else:
            self.drop(self._no_answer(error), final=not self._ever_open, sent=False)

    def _no_answer(self, error: OSError) -> str:
        return f"No daemon answers at {self.address}: {error.strerror or error}."

    def _take(self, data: bytes, fds: list[int], *, truncated: bool) -> None:
        try:
            if truncated:
                raise ProtocolError("file descriptors were cut off")
            found = self._protocol.feed(data, fds)
        except ProtocolError as error:
            self.drop(f"{self.address} does not speak the kernel's protocol: {error}.", final=True)
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
