"""The daemon's one clock, and the kernel's timers on it.

Time is Unix nanoseconds as they were at start, plus what the monotonic clock counted since: close
to wall time, and never going back.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable

import trio

STALE_TIMERS_MAX = 1024  # cancelled ones kept in the heap before it is built anew


class Clock:
    """Unix nanoseconds that never decrease. offset_ns: added to the monotonic clock's."""

    def __init__(self) -> None:
        self.offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        return self.offset_ns + time.monotonic_ns()


class Timers:
    """Calls `fire(token)` at or soon after each time set. One task, `run`, waits for all."""

    def __init__(self, clock: Clock, fire: Callable[[int], None]) -> None:
        self._clock = clock
        self._fire = fire
        self._heap: list[tuple[int, int]] = []  # (at_ns, token)
        self._at: dict[int, int] = {}
        self._sooner = trio.Event()
        self._asleep_until_ns = 0

    def set(self, token: int, at_ns: int) -> None:
        """Fire `token` at `at_ns`, and not when it was to fire before."""
        self._at[token] = at_ns
        heapq.heappush(self._heap, (at_ns, token))
        if at_ns < self._asleep_until_ns:
            self._sooner.set()

    def cancel(self, token: int) -> None:
        """Do not fire `token`, if it was to fire at all."""
        self._at.pop(token, None)
        if len(self._heap) > 2 * len(self._at) + STALE_TIMERS_MAX:
            self._heap = [(at_ns, token) for token, at_ns in self._at.items()]
            heapq.heapify(self._heap)

    async def run(self) -> None:
        """Fire what is due, until cancelled."""
        while True:
            self._fire_due()
            self._sooner = trio.Event()
            self._asleep_until_ns = self._heap[0][0] if self._heap else 1 << 63
            wait_ns = self._asleep_until_ns - self._clock.now_ns()
            with trio.move_on_after(max(0, wait_ns) / 1e9):
                await self._sooner.wait()
            self._asleep_until_ns = 0

    def _fire_due(self) -> None:
        now_ns = self._clock.now_ns()
        while self._heap and self._heap[0][0] <= now_ns:
            at_ns, token = heapq.heappop(self._heap)
            if self._at.get(token) == at_ns:
                del self._at[token]
                self._fire(token)
