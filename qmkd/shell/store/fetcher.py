"""A thread that reads large packed rows and snapshots into memory files, or sees that all that is
stored of a checkpoint is whole, so that the loop does not wait for them.

It is started when it is first needed, and has a connection of its own, which cannot write.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from qmkd.shell.store.reader import packed_rows, snapshot_pieces
from qmkd.shell.store.schema import CannotOpen, Damaged, open_to_read

STOPPING: Final = "the daemon stops"
STOP_S_MAX: Final = 5.0  # for the piece under way

Fetched = Callable[[OSError | None], None]
"""Told on the loop: what was asked for is in the file, or is whole; or why it is not."""

Work = Callable[[sqlite3.Connection], None]
"""What is to be read. Raises OSError."""


class Fetcher:
    """news: what to tell on the loop. ring: called from the thread when there is some."""

    def __init__(self, path: Path, ring: Callable[[], None]) -> None:
        self._path, self._ring = path, ring
        self.news: queue.SimpleQueue[tuple[Fetched, OSError | None]] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[tuple[Work, Fetched] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def fetch(self, job_id: str, fd: int, fetched: Fetched) -> None:
        """Fill the open file `fd` with the job's rows; it must stay open until told."""
        self._ask(partial(self._write_rows, job_id, fd), fetched)

    def snapshot(self, tickets: tuple[int, ...], fd: int, fetched: Fetched) -> None:
        """Write the snapshot of the first of these tickets that there is one of into the open file
        `fd`, which must stay open until told."""
        self._ask(partial(self._write_snapshot, tickets, fd), fetched)

    def verify(self, checkpoint: str, snapshots: tuple[int, ...], verified: Fetched) -> None:
        """Read all that is stored of a checkpoint, for nothing but to see that it is whole."""
        self._ask(partial(self._read_all, checkpoint, snapshots), verified)

    def _ask(self, work: Work, fetched: Fetched) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="qmkd-fetch", daemon=True)
            self._thread.start()
        self._inbox.put((work, fetched))

    def close(self) -> None:
        """Stop, and say so to those whose rows are not fetched."""
        self._stopping.set()
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join(STOP_S_MAX)

    # --- the thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        while (asked := self._inbox.get()) is not None:
            work, fetched = asked
            self.news.put((fetched, self._outcome(work)))
            self._ring()

    def _outcome(self, work: Work) -> OSError | None:
        """Do it, and say why it failed, if it did."""
        try:
            self._go_on()
            with contextlib.closing(open_to_read(self._path)) as db:
                work(db)
        except CannotOpen as error:
            return Damaged(str(error))
        except OSError as error:
            return error
        return None

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise InterruptedError(errno.EINTR, STOPPING)

    def _write_rows(self, job_id: str, fd: int, db: sqlite3.Connection) -> None:
        size, found = os.fstat(fd).st_size, 0
        for first_byte, piece in packed_rows(db, job_id):
            self._go_on()
            found += os.pwrite(fd, piece, first_byte)
        if found != size:
            raise Damaged(f"{job_id}: {found} bytes of packed rows are there, of {size}")

    def _write_snapshot(self, tickets: tuple[int, ...], fd: int, db: sqlite3.Connection) -> None:
        for piece in snapshot_pieces(db, *tickets):
            self._go_on()
            os.write(fd, piece)
        if not os.fstat(fd).st_size:
            raise Damaged(f"nothing is kept of ticket {tickets[0]}")

    def _read_all(
        self, checkpoint: str, snapshots: tuple[int, ...], db: sqlite3.Connection
    ) -> None:
        for _ in packed_rows(db, checkpoint):
            self._go_on()
        for ticket in snapshots:
            if not sum(map(len, snapshot_pieces(db, ticket))):
                raise Damaged(f"snapshot {ticket} is missing")
