"""One client's connection: bytes to calls, answers to bytes, and how much of each may wait.

A connection is served in turns of at most CALLS_PER_TURN_MAX calls or TURN_NS_MAX. It is not read
while too many of its calls are unanswered or too much of what it was sent is unread, so a client
that floods or does not read holds up itself alone. What a call means is the pump's business; who
gets a turn is the hub's; which connections there may be is the server's.
"""

from __future__ import annotations

import builtins
import os
import socket
from collections import deque
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from time import monotonic_ns
from typing import Protocol

import msgspec

from qmkd.core.events import Peer
from qmkd.shell.hub import Hub
from qmkd.shell.limits import (
    BATCH_REPLY_BYTES_MAX,
    CALLS_PER_TURN_MAX,
    FRAMES_AT_ONCE_MAX,
    READ_BYTES_MAX,
    READ_BYTES_MIN,
    TURN_NS_MAX,
    UNREAD_BYTES_NOTIFY,
    UNREAD_BYTES_PAUSE,
    Limits,
)
from qmkd.shell.outbox import FDS_PER_MESSAGE_MAX, Outbox
from syscalls.errors import Busy, KernelError, ParseError
from syscalls.events import JobEvent
from syscalls.framing import Scanner
from syscalls.job import FINAL_STATES, JobStatus
from syscalls.jsonrpc import (
    Batch,
    Failure,
    Id,
    Message,
    Request,
    encode_batch,
    encode_error,
    encode_notification,
    encode_reply,
    parse,
)
from syscalls.syscall import Reply, Syscall
from syscalls.tracing import TraceParent

FINALS_KEPT_MAX = 256  # encoded statuses of jobs that are over
FINAL_BYTES_KEPT_MAX = 16 * 1024  # of one

_OPENER = ord("{")
_RESULT = (Reply, msgspec.Raw)
_encode = msgspec.json.Encoder().encode


class Host(Protocol):
    """What a connection needs of the server that accepted it."""

    hub: Hub
    limits: Limits

    def called(self, connection: Connection, call: int, request: Syscall) -> None:
        """Perform a call; `connection.reply(call, ...)` follows, now or later."""

    def traced(self, connection: Connection, call: int, parent: TraceParent) -> None:
        """The call that comes next is part of its caller's trace."""

    def closed(self, connection: Connection, why: str) -> None:
        """The connection is no more."""

    def buffered(self, connection: Connection, more: int) -> None:
        """The connection holds `more` bytes than when last told."""

    def watch_ages(self, connection: Connection) -> None:
        """Call `connection.check_age` now and then, until it answers False."""


class _Nobody:
    """In the place of an id: a notification, which is never answered."""


class Exact(bytes):
    """A message that is known to be one, and is not looked into for others."""


class BatchReply:
    """The answers of one batch, until all are there.

    left: calls not answered. share_bytes: of the batch as it came, per call.
    """

    __slots__ = ("answers", "bytes", "fds", "left", "share_bytes")

    def __init__(self, left: int, size: int) -> None:
        self.left = left
        self.share_bytes = size // left
        self.answers: list[bytes] = []
        self.bytes = 0
        self.fds: tuple[int, ...] = ()

    def add(self, id: Id, data: bytes, fds: tuple[int, ...]) -> None:
        """Take in an answer, or a refusal in its place where the whole would grow too large."""
        crowded = len(self.fds) + len(fds) > FDS_PER_MESSAGE_MAX
        if crowded or self.bytes + len(data) > BATCH_REPLY_BYTES_MAX:
            for fd in fds:
                os.close(fd)
            what = "the answers of one batch are too large; ask one by one"
            data, fds = encode_error(id, Busy(what=what, retry_after_ms=1)), ()
        self.answers.append(data)
        self.bytes += len(data)
        self.fds += fds


NOBODY = _Nobody()
Slot = Id | _Nobody | tuple[Id | _Nobody, BatchReply]
Item = bytes | Failure | tuple[Request | Failure, BatchReply]


class Connection:
    """A connected client. All methods return at once."""

    __slots__ = (
        "_answers", "_begun", "_behind", "_behind_since", "_buffered", "_called", "_calls_max",
        "_cutting", "_ended", "_fd", "_finished", "_host", "_hub", "_hung_up", "_in_background",
        "_in_turn", "_inbox", "_limits", "_mask", "_outbox", "_partial_since", "_scanner",
        "_sent_before", "_slots", "_sock", "_unfed", "_watched", "ages_watched",
        "notifications_dropped", "number", "peer",
    )  # fmt: skip

    def __init__(self, host: Host, sock: socket.socket, number: int, peer: Peer) -> None:
        self.number = number
        self.peer = peer
        self.notifications_dropped = 0
        self.ages_watched = False
        self._host = host
        self._hub = host.hub
        self._called = host.called
        self._calls_max = host.limits.calls_in_flight
        self._limits = host.limits
        self._sock = sock
        self._fd = sock.fileno()
        self._scanner = Scanner(host.limits.message_bytes, FRAMES_AT_ONCE_MAX)
        self._cutting: Scanner | None = None  # holds a bad line that may be several messages
        self._behind: list[Item] = []  # what came after that line
        self._inbox: deque[Item] = deque()  # complete messages, not served yet
        self._unfed = b""  # read, and not yet cut into messages
        self._slots: dict[int, Slot] = {}  # calls begun and not answered
        self._begun = 0
        self._outbox = Outbox(sock)
        self._answers: list[bytes] = []  # to be sent together at the end of the turn or round
        self._in_turn = False
        self._in_background = False
        self._ended = False  # nothing more is read
        self._hung_up = False  # nothing more can be sent
        self._finished = False
        self._buffered = 0
        self._partial_since = 0  # when the message now incomplete began
        self._behind_since = 0  # when the client last took something while more was waiting
        self._sent_before = 0
        self._mask = EPOLLIN
        self._watched = True
        self._hub.watch(self._fd, EPOLLIN, self._ready)

    # --- taking in ------------------------------------------------------------------------------

    def _ready(self, events: int) -> None:
        if events == EPOLLIN:
            # A client on its own often has its next call here before an epoll could say so.
            self._turn(again=self._hub.ready_count == 1)
            return
        if events & (EPOLLHUP | EPOLLERR):
            self._note_hang_up()
        if events & EPOLLOUT:
            self._push()
        if events & EPOLLIN and not self._finished:
            self._turn(again=self._hung_up)
        else:
            self._settle()

    def _background_turn(self) -> None:
        self._in_background = False
        if not self._finished:
            self._turn(again=True)

    def _turn(self, again: bool) -> None:
        """Serve until nothing is at hand, the turn is used up, or the client is held back.

        again: having answered what was read, look whether there is more.
        """
        inbox, answers, slots = self._inbox, self._answers, self._slots
        left, until_ns, calls_max = CALLS_PER_TURN_MAX, 0, self._calls_max
        if self._outbox.waiting >= UNREAD_BYTES_PAUSE:
            left = 0
        self._in_turn = True
        while left and len(slots) < calls_max:
            if inbox:
                item = inbox.popleft()
            else:
                if answers:
                    self._push()
                    if not again or self._outbox.waiting >= UNREAD_BYTES_PAUSE:
                        break
                line = self._read()
                if line is None:
                    break
                if not line:
                    continue
                item = line
            if isinstance(item, bytes):
                message = parse(item)
                if type(message) is Request:
                    self._begun = call = self._begun + 1
                    slots[call] = NOBODY if message.is_notification else message.id
                    if message.trace is not None:
                        self._host.traced(self, call, message.trace)
                    self._called(self, call, message.call)
                else:
                    self._serve_line(item, message)
            else:
                self._serve_part(item)
            left -= 1
            now_ns = monotonic_ns()
            if not until_ns:
                until_ns = now_ns + TURN_NS_MAX
            elif now_ns >= until_ns:
                left = 0
        self._in_turn = False
        if answers:
            self._push()
        if not left:
            self._go_on_later()
        elif (
            self._mask == EPOLLIN
            and len(slots) < calls_max
            and not (inbox or self._partial_since or self._buffered or self._ended)
            and self._cutting is None
            and not self._outbox.waiting
        ):
            return  # by far the most common: everything is as it was before
        self._settle()

    def _held_back(self) -> bool:
        return len(self._slots) >= self._calls_max or self._outbox.waiting >= UNREAD_BYTES_PAUSE

    def _read(self) -> bytes | None:
        """Take in what is at hand: one whole message, b"" for other bytes, None for nothing."""
        if self._cutting is not None:
            self._cut()
            return b""
        if self._scanner.more:
            self._take(self._scanner.finish_idle())
            return b""
        if self._unfed:
            self._feed(self._unfed)
            return b""
        if self._ended:
            return None
        try:
            data = self._sock.recv(READ_BYTES_MAX if self._partial_since else READ_BYTES_MIN)
        except BlockingIOError:
            return None
        except OSError as error:
            self.close(f"reading failed: {error.strerror}")
            return None
        if not data:
            self._ended, self._partial_since = True, 0
            self._inbox += self._scanner.feed_lines(b"\n")
            return b"" if self._inbox else None
        if len(data) > READ_BYTES_MIN:
            self._feed(data)
        elif self._partial_since or data[0] != _OPENER or data.find(b"\n") != len(data) - 1:
            self._take(self._scanner.feed_lines(data))
        else:
            return data  # as the scanner, which holds nothing, would give it
        return b""

    def _feed(self, data: bytes) -> None:
        """Cut off messages: a large one at its end, of small ones a few dozen at a time."""
        size = READ_BYTES_MIN
        if data is not self._unfed:
            size = max(size, data.find(b"\n") + 1 or len(data))
        self._unfed, data = data[size:], data[:size]
        self._take(self._scanner.feed_lines(data))

    def _take(self, lines: list[bytes]) -> None:
        """Queue what the scanner found, and note what it still holds, or why it gave up."""
        scanner = self._scanner
        self._inbox += lines
        if scanner.pending_bytes:
            if lines or not self._partial_since:
                self._partial_since = monotonic_ns()
        else:
            self._partial_since = 0
        if scanner.failed is not None and not self._ended:
            self._inbox.append(Failure(None, scanner.failed))
            self._ended, self._unfed = True, b""

    # --- serving --------------------------------------------------------------------------------

    def _serve_line(self, line: bytes, message: Message) -> None:
        """Serve what is not a call on its own: a batch, a fault, or several messages in a line."""
        if isinstance(message, Batch):
            batch = BatchReply(len(message.items), len(line))
            self._inbox.extendleft((part, batch) for part in reversed(message.items))
            return
        assert isinstance(message, Failure)
        if isinstance(message.error, ParseError) and type(line) is bytes:
            # Look for several messages in it, a few at a time: they may be very many.
            assert self._cutting is None, "what is cut off is not cut again"
            self._cutting = Scanner(self._limits.message_bytes, FRAMES_AT_ONCE_MAX)
            self._behind += self._inbox
            self._inbox.clear()
            self._inbox += map(Exact, self._cutting.feed_lines(line.rstrip(b"\r\n")))
            return
        self._refuse(message, None)

    def _cut(self) -> None:
        """Take the next few messages out of a bad line."""
        assert self._cutting is not None
        frames = self._cutting.finish_idle()
        self._inbox += map(Exact, frames)
        if not (frames or self._cutting.more):
            self._inbox += map(Exact, self._cutting.feed_lines(b"\n"))
            self._inbox += self._behind
            self._behind.clear()
            self._cutting = None

    def _serve_part(self, item: Failure | tuple[Request | Failure, BatchReply]) -> None:
        """Serve an element of a batch, or give the error for which nothing more is read."""
        if isinstance(item, Failure):
            self._refuse(item, None)
            return
        message, batch = item
        if isinstance(message, Failure):
            self._refuse(message, batch)
            return
        self._begun = call = self._begun + 1
        self._slots[call] = (NOBODY if message.is_notification else message.id, batch)
        if message.trace is not None:
            self._host.traced(self, call, message.trace)
        self._called(self, call, message.call)

    def _refuse(self, failure: Failure, batch: BatchReply | None) -> None:
        data = b"" if failure.is_notification else encode_error(failure.id, failure.error)
        self._answer(failure.id, data, (), batch)

    # --- answering ------------------------------------------------------------------------------

    def reply(
        self, call: int, body: msgspec.Struct | msgspec.Raw, fds: tuple[int, ...] = ()
    ) -> None:
        """Answer a call with a result or a refusal; `fds` travel with it and are closed here.

        body: a `KernelError` refuses; a `Raw` result is JSON already. No call is answered twice.
        """
        slot = self._slots.pop(call)
        if type(slot) is int and self._in_turn and not fds:
            self._answers.append(encoded(slot, body))
            return
        batch = None
        if isinstance(slot, tuple):
            slot, batch = slot
        if isinstance(slot, _Nobody):
            self._answer(None, b"", fds, batch)
            return
        data = encoded(slot, body)
        self._answer(slot, data, fds, batch)

    def _answer(self, id: Id, data: bytes, fds: tuple[int, ...], batch: BatchReply | None) -> None:
        if batch is not None:
            batch.left -= 1
            if data:
                batch.add(id, data, fds)
                fds = ()
            if batch.left:
                data = b""
            else:
                data, fds = encode_batch(batch.answers), batch.fds
        if not data:
            for fd in fds:
                os.close(fd)
            if not self._in_turn:
                self._hub.at_end_of_round(self._push)
            return
        if not (self._in_turn or self._answers):
            self._hub.at_end_of_round(self._push)
        if fds:
            if self._answers:
                self._outbox.put(b"".join(self._answers))
                self._answers.clear()
            self._outbox.put(data, fds)
        else:
            self._answers.append(data)

    def notify(self, event: JobEvent) -> bool:
        """Push a notification, unless too much is unread; whether it was."""
        if self._outbox.waiting >= UNREAD_BYTES_NOTIFY:
            self.notifications_dropped += 1
            return False
        if not (self._in_turn or self._answers):
            self._hub.at_end_of_round(self._push)
        self._answers.append(encode_notification(event))
        return True

    def _push(self) -> None:
        """Send what there is to send, as far as the client takes it."""
        if self._finished:
            return
        answers, outbox = self._answers, self._outbox
        try:
            if answers:
                data = answers[0] if len(answers) == 1 else b"".join(answers)
                answers.clear()
                outbox.send(data)
            elif outbox.waiting:
                outbox.flush()
        except OSError as error:
            self.close(f"writing failed: {error.strerror}")
            return
        if not self._in_turn:
            self._settle()

    # --- what is watched, what is bounded -------------------------------------------------------

    def _settle(self) -> None:
        """After anything: decide what to wait for, and account for what is held."""
        if self._finished:
            return
        waiting = self._outbox.waiting
        held = waiting + self._scanner.pending_bytes
        if self._cutting is not None:
            held += self._cutting.pending_bytes + sum(map(_size, self._behind))
        if self._inbox:
            held += len(self._unfed) + sum(map(_size, self._inbox))
        if held or self._buffered:
            self._account(held, waiting)
            if self._finished:
                return
        mask = EPOLLOUT if waiting else 0
        if self._held_back():
            if self._hung_up:
                self.close("hung up")
                return
        elif self._inbox or self._unfed or self._cutting is not None or self._scanner.more:
            self._go_on_later()
        elif self._ended:
            if not (self._slots or waiting or self._answers) or self._hung_up:
                self.close("ended")
                return
        elif not self._in_background:
            mask |= EPOLLIN
        if mask != self._mask and self._watched:
            self._mask = mask
            self._hub.change(self._fd, mask)

    def _go_on_later(self) -> None:
        if not (self._in_background or self._finished or self._held_back()):
            self._in_background = True
            self._hub.later(self._background_turn)

    def _note_hang_up(self) -> None:
        """Nobody reads any more. Serve what was sent, and no longer be told of the hang-up."""
        self._hung_up = True
        if self._watched:
            self._watched = False
            self._hub.forget(self._fd)
        self._go_on_later()

    def _account(self, held: int, waiting: int) -> None:
        if held != self._buffered:
            more, self._buffered = held - self._buffered, held
            self._host.buffered(self, more)
            if self._finished:
                return
        if waiting > self._limits.unread_bytes:
            self.close("too much is unread")
            return
        if waiting and (not self._behind_since or self._outbox.sent != self._sent_before):
            self._behind_since, self._sent_before = monotonic_ns(), self._outbox.sent
        elif not waiting:
            self._behind_since = 0
        if held and not self.ages_watched:
            self.ages_watched = True
            self._host.watch_ages(self)

    @property
    def buffered(self) -> int:
        """Bytes held for this client: requests not complete, answers not read."""
        return self._buffered

    def check_age(self, now_ns: int) -> bool:
        """Look for what takes too long. Whether to look again later."""
        if self._finished:
            return False
        limits = self._limits
        if self._behind_since and now_ns - self._behind_since > limits.unread_ms * 1_000_000:
            self.close("the client does not read")
        elif self._partial_since and not (self._ended or self._inbox or self._unfed):
            # What is complete but for a newline is served now, should something else follow it.
            self._take(self._scanner.finish_idle())
            if self._inbox:
                self._go_on_later()
            elif now_ns - self._partial_since > limits.message_age_ms * 1_000_000:
                reason = f"a message was not complete after {limits.message_age_ms} ms"
                self.end_with(ParseError(reason=reason))
        self.ages_watched = not self._finished and bool(self._partial_since or self._behind_since)
        return self.ages_watched

    def end_with(self, error: KernelError) -> None:
        """Read nothing more; say why, with id null; close when all is answered and read."""
        self._ended, self._unfed, self._partial_since = True, b"", 0
        self._scanner = Scanner(self._limits.message_bytes)
        self._answers.append(encode_error(None, error))
        self._push()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to send."""
        return self._finished or not (self._outbox.waiting or self._answers)

    def close(self, why: str) -> None:
        """End now, answered or not."""
        if self._finished:
            return
        self._finished = self._ended = True
        if self._watched:
            self._hub.forget(self._fd)
        for slot in self._slots.values():
            if type(slot) is tuple:
                for fd in slot[1].fds:
                    os.close(fd)
                slot[1].fds = ()
        self._slots.clear()
        self._inbox.clear()
        self._behind.clear()
        self._cutting = None
        self._unfed = b""
        self._answers.clear()
        self._outbox.clear()
        self._hub.close_later(self._sock)
        if self._buffered:
            self._host.buffered(self, -self._buffered)
            self._buffered = 0
        self._host.closed(self, why)

    def __contains__(self, call: int) -> bool:
        """Whether the call waits for its answer."""
        return call in self._slots


def _size(item: Item) -> int:
    """Bytes that a message not yet served takes, about."""
    if type(item) is bytes:
        return len(item)
    return item[1].share_bytes if type(item) is tuple else 0


_finals: dict[int, tuple[JobStatus, bytes]] = {}


def encoded(id: Id, body: msgspec.Struct | msgspec.Raw) -> bytes:
    """An answer as a line. The status of a job that is over never changes: it is encoded once."""
    if type(body) is JobStatus:
        # The entry keeps its status alive, so nothing else can have the same identity.
        known = _finals.get(builtins.id(body))
        if known is not None:
            head = known[1]
        elif body.state in FINAL_STATES:
            head = b'{"jsonrpc":"2.0","result":' + _encode(body) + b',"id":'
            if len(head) <= FINAL_BYTES_KEPT_MAX:
                if len(_finals) >= FINALS_KEPT_MAX:
                    _finals.clear()
                _finals[builtins.id(body)] = (body, head)
        else:
            return encode_reply(id, body)
        return head + (b"%d}\n" % id if type(id) is int else _encode(id) + b"}\n")
    if isinstance(body, KernelError):
        return encode_error(id, body)
    assert isinstance(body, _RESULT)
    return encode_reply(id, body)
