"""The snapshots of parked segments: memory files that workers made and others go on from.

The daemon never reads one: it holds the descriptor under the ticket of the segment that was parked,
hands it to the worker that goes on, and to the store. What is in one is
`qmkd/engine/snapshot.py`'s business.
"""

from __future__ import annotations

import os


class Snapshots:
    """Descriptors by ticket."""

    def __init__(self) -> None:
        self._fds: dict[int, int] = {}

    def hold(self, ticket: int, fd: int) -> None:
        """Take over a descriptor."""
        assert ticket not in self._fds, "a segment is parked once"
        self._fds[ticket] = fd

    def descriptor(self, ticket: int) -> int | None:
        """The descriptor, which stays ours; None where there is none."""
        return self._fds.get(ticket)

    def drop(self, ticket: int) -> None:
        """Nobody goes on from it any more."""
        fd = self._fds.pop(ticket, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """Drop all."""
        for ticket in list(self._fds):
            self.drop(ticket)
