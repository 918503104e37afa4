"""A thread that reads large packed rows into memory files, so that the loop does not wait for them.

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

from qmkd.shell.store.reader import packed_rows
from qmkd.shell.store.schema import CannotOpen, Damaged, open_to_read

STOPPING: Final = "the daemon stops"
STOP_S_MAX: Final = 5.0  # for the piece under way

Fetched = Callable[[OSError | None], None]
"""Told on the loop: the rows are in the file, or why they are not."""


class Fetcher:
    """news: what to tell on the loop. ring: called from the thread when there is some."""

    def __init__(self, path: Path, ring: Callable[[], None]) -> None:
        self._path, self._ring = path, ring
        self.news: queue.SimpleQueue[tuple[Fetched, OSError | None]] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[tuple[str, int, Fetched] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def fetch(self, job_id: str, fd: int, fetched: Fetched) -> None:
        """Write the job's rows into the open file `fd`, which must stay open until told."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="qmkd-fetch", daemon=True)
            self._thread.start()
        self._inbox.put((job_id, fd, fetched))

    def close(self) -> None:
        """Stop, and say so to those whose rows are not fetched."""
        self._stopping.set()
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join(STOP_S_MAX)

    def _work(self) -> None:
        while (asked := self._inbox.get()) is not None:
            job_id, fd, fetched = asked
            self.news.put((fetched, self._fetch(job_id, fd)))
            self._ring()

    def _fetch(self, job_id: str, fd: int) -> OSError | None:
        if self._stopping.is_set():
            return InterruptedError(errno.EINTR, STOPPING)
        try:
            db = open_to_read(self._path)
        except CannotOpen as error:
            return Damaged(str(error))
        try:
            for first_byte, piece in packed_rows(db, job_id):
                if self._stopping.is_set():
                    return InterruptedError(errno.EINTR, STOPPING)
                os.pwrite(fd, piece, first_byte)
        except OSError as error:
            return error
        finally:
            db.close()
        return None
