"""The snapshots of parked segments: memory files that workers made and others go on from.

The daemon never reads one: it holds the descriptor under the ticket of the segment that was parked,
hands it to the worker that goes on, and to the store. One that only the store has is fetched from
there, by a thread, when a segment is to go on from it. What is in one is the business of
`qmkd/engine/snapshot.py`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

from qmkd.engine.limits import SNAPSHOT_BYTES_MAX
from qmkd.shell.limits import SNAPSHOTS_HELD_MAX

READ_AT_ONCE_BYTES_MAX = 64 * 1024  # larger: the store reads it later
HELD_BYTES_MAX = 1 << 30  # all together; who asks for more room is given little
HELD_FREELY_BYTES = 256 << 20  # more than that: what is in the store is not held
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

Fetched = Callable[[OSError | None], None]
"""Told later: the snapshot is there, or why it is not."""

FetchStored = Callable[[tuple[int, ...], int, Fetched], None]
"""(tickets, descriptor, whom to tell): the stored snapshot of the first of them that there is one
of is written into the file."""


class Held:
    """A memory file that never changes any more, open for as long as somebody uses it.

    To the store it is a region of packed rows.
    """

    __slots__ = ("fd", "size", "users")

    def __init__(self, fd: int) -> None:
        """Take over a descriptor."""
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self.users = 1

    def read(self, at: int, size: int) -> bytes:
        """Bytes [at, at + size); from any thread, until released."""
        assert 0 <= at <= at + size <= self.size
        return os.pread(self.fd, size, at)

    def release(self) -> None:
        """One user less. From the loop's thread."""
        self.users -= 1
        assert self.users >= 0
        if not self.users:
            os.close(self.fd)


class Snapshots:
    """By ticket. fetch_stored: gets those that only the store has; None where nothing lasts."""

    def __init__(self, fetch_stored: FetchStored | None = None) -> None:
        self._held: dict[int, Held] = {}
        self._copy_of: dict[int, int] = {}
        self._durable: dict[int, None] = {}
        self._fetching: dict[int, list[Fetched]] = {}
        self._fetch_stored = fetch_stored

    def room(self, sharers: int) -> int:
        """Bytes that the next snapshot may have, where so many may come at once."""
        files, held = self._in_memory()
        if files + sharers > SNAPSHOTS_HELD_MAX:
            return 0
        return min(SNAPSHOT_BYTES_MAX, max(0, HELD_BYTES_MAX - held) // sharers)

    def _much(self) -> bool:
        files, held = self._in_memory()
        return held > HELD_FREELY_BYTES or files > SNAPSHOTS_HELD_MAX // 2

    def _in_memory(self) -> tuple[int, int]:
        """How many files, and bytes in them. Copies count once."""
        sizes = {id(each): each.size for each in self._held.values()}
        return len(sizes), sum(sizes.values())

    def stored(self, ticket: int) -> None:
        """The store has it now, so that it need not be held where there is much."""
        if ticket in self._held:
            self._durable[ticket] = None
        self._hold_less()

    def _hold_less(self) -> None:
        while self._durable and self._much():
            oldest = next(iter(self._durable))
            del self._durable[oldest]
            self._held.pop(oldest).release()

    def hold(self, ticket: int, fd: int) -> None:
        """Take over a descriptor."""
        assert ticket not in self._held, "a segment is parked once"
        self._held[ticket] = Held(fd)

    def copy(self, source: int, target: int) -> None:
        """What goes on from `target` goes on from what `source` stands for."""
        held = self._held.get(source)
        if held is None:
            self._copy_of[target] = source
        else:
            held.users += 1
            self._held[target] = held

    def fetch(self, ticket: int, fetched: Fetched) -> bool:
        """Begin to fetch what a segment is to go on from, if only the store may have it.

        Returns whether `fetched` will be told, unless it is dropped before; while it is, and only
        if without an error, `descriptor` has it at hand. Raises OSError out of descriptors.
        """
        if ticket in self._held or self._fetch_stored is None:
            return False
        if ticket in self._fetching:
            self._fetching[ticket].append(fetched)
            return True
        # The store may not have the copy yet, but then it still has what it is a copy of.
        tickets = [ticket]
        while tickets[-1] in self._copy_of:
            tickets.append(self._copy_of[tickets[-1]])
        fd = os.memfd_create("qmk-snapshot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._fetching[ticket] = [fetched]
        self._fetch_stored(tuple(tickets), fd, lambda error: self._fetched(ticket, fd, error))
        return True

    def _fetched(self, ticket: int, fd: int, error: OSError | None) -> None:
        waiting = self._fetching.pop(ticket, None)
        if waiting is None or error is not None:
            os.close(fd)
        else:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
            self.hold(ticket, fd)
            self._durable[ticket] = None
        for fetched in waiting or ():
            fetched(error)
        self._hold_less()

    def descriptor(self, ticket: int) -> int | None:
        """The descriptor, which stays ours; None where it is not at hand."""
        held = self._held.get(ticket)
        return None if held is None else held.fd

    def region(self, ticket: int) -> bytes | Held:
        """What the store is to keep: itself, or where it is read."""
        held = self._held[ticket]
        if held.size <= READ_AT_ONCE_BYTES_MAX:
            return held.read(0, held.size)
        held.users += 1
        return held

    def drop(self, ticket: int) -> None:
        """Nobody goes on from it any more."""
        self._copy_of.pop(ticket, None)
        self._fetching.pop(ticket, None)
        self._durable.pop(ticket, None)
        held = self._held.pop(ticket, None)
        if held is not None:
            held.release()

    def close(self) -> None:
        """Drop all."""
        self._fetching.clear()
        for ticket in list(self._held):
            self.drop(ticket)
