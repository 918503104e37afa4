"""The snapshots of parked segments: memory files that workers made and others go on from.

The daemon never reads one: it holds the descriptor under the ticket of the segment that was parked,
hands it to the worker that goes on, and to the store. One that only the store has is fetched from
there when a segment is to go on from it. What is in one is `qmkd/engine/snapshot.py`'s business.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator

from qmkd.engine.limits import SNAPSHOT_BYTES_MAX
from qmkd.shell.limits import SNAPSHOTS_HELD_MAX

READ_AT_ONCE_BYTES_MAX = 64 * 1024  # larger: the store reads it later
HELD_BYTES_MAX = 1 << 30  # all together; who asks for more room is given little
HELD_FREELY_BYTES = 256 << 20  # more than that: what is in the store is not held
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

StoredSnapshot = Callable[[int], Iterator[bytes]]
"""ticket -> the snapshot that is stored, piece by piece; nothing where there is none. Raises
OSError where it is damaged."""


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
    """By ticket. stored: how to get those that an earlier daemon left; None where nothing lasts."""

    def __init__(self, stored: StoredSnapshot | None = None) -> None:
        self._held: dict[int, Held] = {}
        self._copy_of: dict[int, int] = {}
        self._durable: dict[int, None] = {}
        self._stored = stored

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

    def descriptor(self, ticket: int) -> int | None:
        """The descriptor, which stays ours; None where there is none, here or in the store.

        Raises OSError out of descriptors, or where what is stored is damaged.
        """
        held = self._held.get(ticket)
        if held is None and self._stored is not None:
            # The store may not have the copy yet, but then it still has what it is a copy of.
            fd, one = self._fetch(ticket), ticket
            while fd is None and one in self._copy_of:
                one = self._copy_of[one]
                fd = self._fetch(one)
            if fd is not None:
                held = self._held[ticket] = Held(fd)
                self._durable[ticket] = None
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
        self._durable.pop(ticket, None)
        held = self._held.pop(ticket, None)
        if held is not None:
            held.release()

    def close(self) -> None:
        """Drop all."""
        for ticket in list(self._held):
            self.drop(ticket)

    def _fetch(self, stored: int) -> int | None:
        """A memory file of what the store has under this ticket."""
        assert self._stored is not None
        fd = os.memfd_create("qmk-snapshot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            size = sum(os.write(fd, piece) for piece in self._stored(stored))
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        except BaseException:
            os.close(fd)
            raise
        if size:
            return fd
        os.close(fd)
        return None
