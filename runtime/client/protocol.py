"""One connection's conversation with the kernel, without I/O: bytes in, settled calls out.

Calls are numbered and pipelined; answers come in any order and are matched by number. File
descriptors arrive beside the bytes and are handed, in order, to the answers that announce one.
Holds no socket and no clock. `exchange.py` decides what to do about an answer; `sync.py` and
`trio_client.py` carry the bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from msgspec import Struct

from syscalls import jsonrpc
from syscalls.errors import KernelError
from syscalls.events import JobEvent
from syscalls.jsonrpc import Answer, ProtocolError, Scanner
from syscalls.results import ResultsReply
from syscalls.syscall import Reply, Syscall
from syscalls.tracing import TraceParent

REPLY_BYTES_MAX = 256 * 2**20  # one answer; larger results travel as a file descriptor
FDS_UNCLAIMED_MAX = 64  # received and not yet announced by an answer

assert REPLY_BYTES_MAX >= jsonrpc.MESSAGE_BYTES_MAX, "what the kernel may send can be read"


class Settled(Struct, frozen=True, kw_only=True):
    """A call and its answer. Exactly one of `reply` and `error` is given.

    fd: a file descriptor that came with the reply; whoever takes this owns it.
    """

    number: int
    call: Syscall
    reply: Reply | None = None
    error: KernelError | None = None
    fd: int | None = None

    @property
    def answer(self) -> Reply | KernelError:
        """Whichever of the two it is."""
        answer = self.error if self.reply is None else self.reply
        assert answer is not None, "a settled call has an answer"
        return answer


class Protocol:
    """The state of one connection. Made anew for every connection, used until it ends.

    close_fd: disposes of a descriptor whose answer nobody waits for (`os.close`).
    first: the number of the first call, so that numbers go on over several connections.
    reply_bytes_max: of one answer.
    """

    def __init__(
        self,
        close_fd: Callable[[int], None],
        first: int = 1,
        reply_bytes_max: int = REPLY_BYTES_MAX,
    ) -> None:
        self._close_fd = close_fd
        self._scanner = Scanner(reply_bytes_max)
        self._pending: dict[int, Syscall] = {}
        self._abandoned: set[int] = set()
        self._fds: deque[int] = deque()
        self.next = first

    @property
    def pending(self) -> list[int]:
        """The calls that somebody still waits for, by number."""
        return sorted(self._pending.keys() - self._abandoned)

    def send(self, call: Syscall, trace: TraceParent | None = None) -> tuple[int, bytes]:
        """Number a call; returns the number and the bytes to send, newline included."""
        number = self.next
        data = jsonrpc.encode_request(number, call, trace)
        self.next += 1
        self._pending[number] = call
        return number, data

    def abandon(self, number: int) -> None:
        """Nobody waits for this call any more; its answer, if it comes, is dropped."""
        if number in self._pending:
            self._abandoned.add(number)

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> list[Settled | JobEvent]:
        """Take in what was received; return what it completes, in the order of arrival.

        An error that names no call (the kernel could not read us, or takes no more connections)
        settles every call that is pending. Raises ProtocolError where the bytes are not the
        protocol's; the connection is then of no use.
        """
        self._fds += fds
        if len(self._fds) > FDS_UNCLAIMED_MAX:
            raise ProtocolError("more file descriptors than answers announce")
        found: list[Settled | JobEvent] = []
        for frame in self._scanner.feed(data):
            for message in jsonrpc.parse_reply(frame):
                if isinstance(message, Answer):
                    found += self._settle(message)
                elif message.event is not None:
                    found.append(message.event)
        if self._scanner.failed is not None:
            raise ProtocolError(self._scanner.failed.sentence())
        return found

    def end(self) -> None:
        """The connection is over: dispose of what nobody claimed."""
        while self._fds:
            self._close_fd(self._fds.popleft())
        self._pending.clear()
        self._abandoned.clear()

    def _settle(self, answer: Answer) -> list[Settled]:
        if answer.id is None and answer.error is not None:
            return [
                Settled(number=number, call=self._pending.pop(number), error=answer.error)
                for number in self.pending
            ]
        number = answer.id
        if not isinstance(number, int) or number not in self._pending:
            raise ProtocolError(f"an answer to call {number!r}, which was not made")
        call = self._pending.pop(number)
        reply = fd = None
        if answer.result is not None:
            reply = jsonrpc.decode_result(type(call), answer.result)
            if isinstance(reply, ResultsReply) and reply.fd:
                if not self._fds:
                    raise ProtocolError("an answer announces a file descriptor that did not come")
                fd = self._fds.popleft()
        if number in self._abandoned:
            self._abandoned.discard(number)
            if fd is not None:
                self._close_fd(fd)
            return []
        return [Settled(number=number, call=call, reply=reply, error=answer.error, fd=fd)]
