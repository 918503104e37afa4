"""A thread that reads large packed rows into memory files, or sees that all that is stored of a
checkpoint is whole, so that the loop does not wait for them.

It is started when it is first needed, and has a connection of its own, which cannot write.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from qmkd.shell.store.reader import packed_rows, snapshot_pieces
from qmkd.shell.store.schema import CannotOpen, Damaged, open_to_read

STOPPING: Final = "the daemon stops"
STOP_S_MAX: Final = 5.0  # for the piece under way

Fetched = Callable[[OSError | None], None]
"""Told on the loop: the rows are in the file, or why they are not."""

Asked = tuple[str, int | None, tuple[int, ...], Fetched]
"""(job or checkpoint, file for its rows, tickets of snapshots to be read as well, whom to tell)"""


class Fetcher:
    """news: what to tell on the loop. ring: called from the thread when there is some."""

    def __init__(self, path: Path, ring: Callable[[], None]) -> None:
        self._path, self._ring = path, ring
        self.news: queue.SimpleQueue[tuple[Fetched, OSError | None]] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def fetch(self, job_id: str, fd: int, fetched: Fetched) -> None:
        """Write the job's rows into the open file `fd`, which must stay open until told."""
        self._ask((job_id, fd, (), fetched))

    def verify(self, checkpoint: str, snapshots: tuple[int, ...], verified: Fetched) -> None:
        """Read all that is stored of a checkpoint, for nothing but to see that it is whole."""
        self._ask((checkpoint, None, snapshots, verified))

    def _ask(self, asked: Asked) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="qmkd-fetch", daemon=True)
            self._thread.start()
        self._inbox.put(asked)

    def close(self) -> None:
        """Stop, and say so to those whose rows are not fetched."""
        self._stopping.set()
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join(STOP_S_MAX)

    def _work(self) -> None:
        while (asked := self._inbox.get()) is not None:
            self.news.put((asked[-1], self._fetch(*asked[:-1])))
            self._ring()

    def _fetch(self, holder: str, fd: int | None, snapshots: tuple[int, ...]) -> OSError | None:
        if self._stopping.is_set():
            return InterruptedError(errno.EINTR, STOPPING)
        try:
            db = open_to_read(self._path)
        except CannotOpen as error:
            return Damaged(str(error))
        try:
            for first_byte, piece in packed_rows(db, holder):
                if self._stopping.is_set():
                    return InterruptedError(errno.EINTR, STOPPING)
                if fd is not None:
                    os.pwrite(fd, piece, first_byte)
            for ticket in snapshots:
                if not sum(map(len, snapshot_pieces(db, ticket))):
                    return Damaged(f"snapshot {ticket} is missing")
        except OSError as error:
            return error
        finally:
            db.close()
        return None
