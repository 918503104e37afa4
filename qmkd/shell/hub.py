"""One place where all descriptors of the daemon are waited for, and who gets served next.

trio waits for a single epoll, and everything that is ready is served from one loop. Compared with
one trio task per connection a call costs no task switch and no re-registration, and the order of
service is ours to choose:

- what has just become ready is served first, one turn each;
- what has used up its turn and has more at hand waits in the background, from where one turn is
  taken between two looks at the epoll;
- a bell that another thread rings (`bell.py`) is heard between any two turns.

So a client with one call at hand waits for at most one turn of a client with ten thousand. What a
turn is, is said in `connection.py`.
"""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from collections.abc import Callable
from time import monotonic_ns

import trio

from qmkd.shell.bell import Bell

EVENTS_PER_LOOK_MAX = 256
NS_WITHOUT_TRIO_MAX = 1_000_000  # timers and signals wait no longer than this, and one turn

Handler = Callable[[int], None]


class Hub:
    """Calls handlers of descriptors that are ready, and turns of those who have more at hand."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._background: deque[Callable[[], None]] = deque()
        self._closing: list[socket.socket] = []
        self._looked_after: list[Callable[[], None]] = []
        self._asleep = False
        self._bell: Bell | None = None
        self._hear: Callable[[], None] = self.settle
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watch(self._alarm, select.EPOLLIN, lambda events: self._wake_up())
        self.ready_count = 0  # how many descriptors were ready at the last look

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Call `handler(events)` whenever `fd` is ready for any of `events`."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Watch `fd` for other events; 0 leaves only a hang-up."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`. It must still be open."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def close_later(self, sock: socket.socket) -> None:
        """Close a forgotten socket once nothing seen so far can still be meant for its number."""
        self._closing.append(sock)

    def listen(self, bell: Bell, hear: Callable[[], None]) -> None:
        """Call `hear`, which silences the bell, soon after it rang: between any two turns."""
        assert self._bell is None, "there is one"
        self._bell, self._hear = bell, hear
        self.watch(bell.fd, select.EPOLLIN, lambda events: self._woken_by_bell())

    def later(self, turn: Callable[[], None]) -> None:
        """Give a turn in the background."""
        self._background.append(turn)
        if self._asleep:
            os.eventfd_write(self._alarm, 1)

    def at_end_of_round(self, action: Callable[[], None]) -> None:
        """Do something once, after whatever is being served now."""
        self._looked_after.append(action)
        if self._asleep:
            os.eventfd_write(self._alarm, 1)

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            if self._background or self._looked_after:
                await trio.lowlevel.checkpoint()
            else:
                self._asleep = True
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                self._asleep = False
            self._serve_and_hear(monotonic_ns() + NS_WITHOUT_TRIO_MAX)

    def close(self) -> None:
        self.settle()
        self._epoll.close()
        os.close(self._alarm)

    def _woken_by_bell(self) -> None:
        assert self._bell is not None
        self._bell.wake()
        self._hear()

    def _wake_up(self) -> None:
        os.eventfd_read(self._alarm)

    def settle(self) -> None:
        """Do what was put off to the end of the round."""
        self._look_after()
        if self._closing:
            for sock in self._closing:
                sock.close()
            self._closing.clear()

    def _look_after(self) -> None:
        while self._looked_after:
            actions, self._looked_after = self._looked_after, []
            for action in actions:
                action()

    def _serve_and_hear(self, until_ns: int) -> None:
        """Serve; whoever rings the bell meanwhile need not wake us."""
        bell = self._bell
        if bell is None:
            self._serve(until_ns)
            return
        bell.hears = True
        self._serve(until_ns)
        bell.hears = False
        if bell.rung:  # after we had looked for the last time
            self._hear()
            self.settle()

    def _serve(self, until_ns: int) -> None:
        poll, handlers, background = self._epoll.poll, self._handlers, self._background
        bell, hear = self._bell, self._hear
        while True:
            ready = poll(0, EVENTS_PER_LOOK_MAX)
            self.ready_count = len(ready)
            for fd, events in ready:
                handler = handlers.get(fd)
                if handler is not None:
                    handler(events)
                    if bell is not None and bell.rung:
                        hear()
                        self._look_after()
            if background:
                background.popleft()()
            if self._looked_after or self._closing:
                self.settle()
            if not (ready or background) or monotonic_ns() >= until_ns:
                return
