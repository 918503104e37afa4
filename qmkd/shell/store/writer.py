"""The store as the daemon uses it: rows go in, the disk has them, a descriptor rings.

The one writing connection belongs to the loop or to the writing thread, never to both. The loop
inserts what has gathered, which touches only memory, and hands the connection over; the thread
commits, for which it needs the interpreter as good as never, and hands it back. So a hundred
submissions cost one flush of the disk (group commit), and the loop waits for none. Where nothing is
to be flushed, because only the end of the process is to be survived, the loop commits what is short
itself, and the thread is left with what waits for a disk. When the disk fails, nothing is lost or
reordered: the thread tries again until it succeeds.
"""

from __future__ import annotations

import contextlib
import enum
import queue
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from math import inf
from pathlib import Path
from time import monotonic, sleep
from typing import Final, Self

from qmkd.core.effects import Keep
from qmkd.core.records import Recovered
from qmkd.shell.bell import Bell
from qmkd.shell.store import reader
from qmkd.shell.store.fetcher import Fetched, Fetcher
from qmkd.shell.store.rows import Entry, RowsOf, SnapshotOf, no_snapshot
from qmkd.shell.store.schema import (
    WAL_PAGES_MAX,
    CannotOpen,
    Durability,
    open_to_read,
    open_to_write,
    sentence,
    what_failed,
)
from qmkd.shell.store.statements import Statements

BATCH_BYTES_MAX: Final = 32 << 20  # of one transaction, where a single `Keep` is not larger
BEGUN_BYTES_MAX: Final = 1 << 20  # of rows that the loop inserts itself: some two milliseconds
# Who has just been told that rows are durable often brings the next at once. So a transaction waits
# for as many as there may be, but not for long beside the flush that they save.
JOIN_SHARE: Final = 0.25  # of the last transaction's time
JOIN_S_MIN: Final = 0.0005  # less is not worth it
JOIN_S_MAX: Final = 0.002
# Entries that the loop does not let wait for the end of its round: or clients would wait for each
# other, and workers for all of them.
COMMITTED_AT_ONCE: Final = 8
LOG_BYTES_MAX: Final = 16 << 20  # in the log before the thread is to move them into the file
# What a transaction writes to it, about: the last page of each table and index, and pages with what
# it inserts, with places in indices, and with what it deletes.
LOG_BYTES_COMMIT: Final = 40_000
LOG_BYTES_SHARE: Final = 3
DELETIONS_MAX: Final = 64  # commits that took something away, before we look for pages to give back
RETRY_S_MIN: Final = 0.25
RETRY_S_MAX: Final = 2.0
FLUSH_S_MAX: Final = 5.0  # at the end, for what is queued
STUCK_S_MAX: Final = 5.0  # beyond it, for the flush under way
FREE_PAGES_MAX: Final = 256  # in the file before it is made smaller
FREE_PAGES_TURN: Final = 1024  # given back at once
# The writing thread needs the interpreter before and after it commits. A thread that waits asks for
# it only when so long nobody has offered it; a busy loop does with every system call, some 50
# microseconds apart, and has it back before the thread is awake.
SWITCH_S: Final = 0.00002

assert RETRY_S_MIN < RETRY_S_MAX
assert JOIN_S_MIN < JOIN_S_MAX


def _at_once(action: Callable[[], None]) -> None:
    action()


def _never(action: Callable[[], None]) -> None:
    pass


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class Store:
    """One per daemon. `kept` and `failed` are called by `collect`.

    kept: every `Keep` up to this number is durable. failed: why nothing can be written now, once
    for each reason until something is written again.
    """

    def __init__(
        self,
        path: Path,
        durability: Durability = "power",
        *,
        kept: Callable[[int], None],
        failed: Callable[[str], None],
        soon: Callable[[Callable[[], None]], None] = _at_once,
    ) -> None:
        """Open the database, making it or bringing it up to date. Raises CannotOpen.

        soon: does something once the loop has kept what it is about to keep.
        """
        self._kept, self._failed, self._soon = kept, failed, soon
        self.bell = Bell()  # rung when there is something to `collect`
        with contextlib.ExitStack() as undo:
            undo.callback(self.bell.close)
            self._db = open_to_write(path, durability)
            undo.callback(self._db.close)
            self._reading = open_to_read(path)
            undo.callback(self._reading.close)
            try:
                self._writer = _Writer(self._db, self.bell.ring, durability)
            except sqlite3.Error as error:
                raise CannotOpen(sentence(path, error)) from error
            undo.pop_all()
        self._fetcher = Fetcher(path, self.bell.ring)
        # Of its own: a segment that goes on does not wait for large rows that somebody else wants.
        self._snapshots = Fetcher(path, self.bell.ring)
        self._unkept: deque[Entry] = deque()
        self._queue: list[Entry] = []  # of these, what the thread has not been handed
        self._backlog = 0
        self._ours = True  # the writing connection
        self._commits_itself = durability == "process"
        # Since the thread last committed, and gave pages back; who was killed leaves a log.
        self._log_bytes, self._deletions = _size(path.with_name(f"{path.name}-wal")), 0
        self._settling = False
        self._handed = 0  # entries, the last time
        self._handed_at = 0.0
        self._expected = 0  # entries, if everybody comes again
        self._join_until = 0.0
        self._joining = False
        sys.setswitchinterval(min(SWITCH_S, sys.getswitchinterval()))
        self._thread = threading.Thread(target=self._writer.run, name="qmkd-store", daemon=True)
        self._thread.start()

    def load(self) -> Recovered:
        """All that is durable. Raises Damaged."""
        return reader.load(self._reading)

    def rows(self, job_id: str) -> Iterator[tuple[int, bytes]]:
        """The packed rows of a job's slices: (first byte, bytes), each slice's once proven whole.

        Raises Damaged.
        """
        return reader.packed_rows(self._reading, job_id)

    def fetch(self, job_id: str, fd: int, fetched: Fetched) -> None:
        """As `rows`, but into an open file and by a thread; `fetched` is told by `collect`."""
        self._fetcher.fetch(job_id, fd, fetched)

    def fetch_snapshot(self, tickets: tuple[int, ...], fd: int, fetched: Fetched) -> None:
        """Have the snapshot of the first of these tickets that there is one of written into an open
        file, by a thread; `fetched` is told by `collect`."""
        self._snapshots.snapshot(tickets, fd, fetched)

    def verify(self, checkpoint: str, snapshots: tuple[int, ...], verified: Fetched) -> None:
        """See, by a thread, that what is stored of a checkpoint is whole; `collect` tells."""
        self._fetcher.verify(checkpoint, snapshots, verified)

    def graph(self, job_id: str) -> bytes:
        """The bytes of a job's graph, empty if there is no such job. Raises Damaged."""
        return reader.graph_of_job(self._reading, job_id)

    # --- on the loop ----------------------------------------------------------------------------

    @property
    def backlog_bytes(self) -> int:
        """How much is queued and not durable, about."""
        return self._backlog

    def keep(self, effect: Keep, rows_of: RowsOf, snapshot_of: SnapshotOf = no_snapshot) -> None:
        """Have these rows written and those deleted.

        Packed rows are asked of `rows_of` at once, and snapshots of `snapshot_of`.
        """
        entry = Entry(effect, rows_of, snapshot_of)
        assert not self._unkept or self._unkept[-1].keep.number < effect.number
        self._unkept.append(entry)
        self._backlog += entry.size
        self._queue.append(entry)
        if self._commits_itself and self._ours and len(self._queue) >= COMMITTED_AT_ONCE:
            self._settle()
        else:
            self._settle_soon()

    def _settle_soon(self) -> None:
        if self._ours and not self._settling:
            self._settling = True
            self._soon(self._settle)

    def _settle(self) -> None:
        """Hand over what has gathered."""
        self._settling = False
        writer = self._writer
        if not self._ours or not (self._queue or writer.shrinking):
            return
        if self._queue and self._waits_for_more():
            return
        batch, self._queue = self._queue, []
        if self._commits_itself and self._commit(batch):
            return
        self._ours = False
        self._handed, self._handed_at = len(batch), monotonic()
        writer.inbox.put((batch, bool(batch) and self._begin(batch)))

    def _commit(self, batch: Sequence[Entry]) -> bool:
        """Do all of it, if that is short, for `collect` to tell. Returns whether it is done; the
        thread says why it is not."""
        if not batch:
            return False
        size, writer = sum(entry.size for entry in batch), self._writer
        if self._log_is_long(size) or size > BEGUN_BYTES_MAX:
            return False
        try:
            if not writer.statements.do(batch):
                return False
            writer.statements.commit()
        except (sqlite3.Error, MemoryError):
            writer.statements.take_back(batch)
            return False
        self._deletions += writer.statements.deleted
        if self._deletions >= DELETIONS_MAX:
            self._deletions, writer.shrinking = 0, True
        writer.news.put(batch[-1].keep.number)
        self.bell.ring()
        return True

    def _log_is_long(self, more: int) -> bool:
        """Whether it is time for the thread to commit, which moves a long log into the file and
        waits for a disk.

        more: bytes that are about to be written.
        """
        self._log_bytes += LOG_BYTES_COMMIT + LOG_BYTES_SHARE * more
        long = self._log_bytes > LOG_BYTES_MAX
        if long:
            self._log_bytes = 0
        return long

    def _waits_for_more(self) -> bool:
        """Whether it is worth to wait; then the thread rings when it no longer is."""
        left_s = self._join_until - monotonic() if len(self._queue) < self._expected else 0.0
        if left_s > 0.0 and not self._joining:
            self._joining = True
            self._writer.inbox.put(left_s)
        return left_s > 0.0

    def _begin(self, batch: Sequence[Entry]) -> bool:
        """Insert what is not large. Returns whether that is done; the thread says why it is not."""
        statements = self._writer.statements
        failed = batch[0].keep.number <= statements.doubtful  # as a whole, a moment ago
        if failed or sum(entry.size for entry in batch) > BEGUN_BYTES_MAX:
            return False
        try:
            statements.begin(batch)
        except (sqlite3.Error, MemoryError):
            statements.take_back(batch)
            return False
        return True

    def fileno(self) -> int:
        """Readable when there is something to `collect`."""
        return self.bell.fd

    def collect(self) -> None:
        """Tell what happened. Raises what broke the writing thread, if something did."""
        self.bell.silence()
        self._joining = False
        writer = self._writer
        for fetcher in (self._fetcher, self._snapshots):
            while not fetcher.news.empty():
                fetched, error = fetcher.news.get_nowait()
                fetched(error)
        while not writer.news.empty():
            one = writer.news.get_nowait()
            if isinstance(one, BaseException):
                raise one
            if isinstance(one, int):
                self._done(one)
            elif isinstance(one, str):
                self._failed(one)
            else:
                self._take_connection()
        if self._queue or writer.shrinking:
            self._settle_soon()

    def _take_connection(self) -> None:
        self._ours = True
        now = monotonic()
        join_s = min(JOIN_S_MAX, JOIN_SHARE * (now - self._handed_at))
        self._join_until = now + join_s if join_s >= JOIN_S_MIN else now
        self._expected = self._handed + len(self._queue)

    def _done(self, number: int) -> None:
        while self._unkept and self._unkept[0].keep.number <= number:
            entry = self._unkept.popleft()
            self._backlog -= entry.size
            for _, _, region in entry.regions:
                region.release()
        self._kept(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self, flush_s: float = FLUSH_S_MAX) -> bool:
        """Write what is queued, for at most so long, and close. Returns whether all is durable.

        Whatever became durable is told as by `collect`.
        """
        self._fetcher.close()
        self._snapshots.close()
        self._soon, self._commits_itself = _never, False
        last, self._queue = self._queue, []
        self._writer.close(last, flush_s)
        self._thread.join(flush_s + STUCK_S_MAX)
        if self._thread.is_alive():
            return False  # the disk does not answer, and closing would wait for it as well
        try:
            self.collect()
        finally:
            for entry in self._unkept:
                for _, _, region in entry.regions:
                    region.release()
            self._reading.close()
            self._db.close()  # the last connection: moves the log into the file, and removes it
            self.bell.close()
        return not self._unkept


_Work = tuple[list[Entry], bool]


class _Resting(enum.Enum):
    """The thread has nothing more to do; the connection is the loop's."""

    RESTING = 0


class _Writer:
    """The thread's side. `statements` belong to whoever has the connection.

    inbox: what is to be written, and whether that is begun; nothing where there is time to make
    the file smaller; or how long to wait for one of these before we ring. news: a number up to
    which all is durable, a reason why nothing is, what broke us, or that we rest.
    """

    def __init__(
        self, db: sqlite3.Connection, ring: Callable[[], None], durability: Durability
    ) -> None:
        self._db, self._ring = db, ring
        # Where the loop commits as well, the log is moved by us alone: the loop waits for no disk.
        self._shared = durability == "process"
        self.statements = Statements(db, weighs=self._shared)
        self.inbox: queue.SimpleQueue[_Work | float | None] = queue.SimpleQueue()
        self.news: queue.SimpleQueue[int | str | BaseException | _Resting] = queue.SimpleQueue()
        self.shrinking = True  # perhaps the daemon before did not get to it
        self._waiting: deque[Entry] = deque()
        self._told: set[str] = set()
        self._closing = threading.Event()
        self._until = inf

    def close(self, last: list[Entry], flush_s: float) -> None:
        """Called on the loop: let the thread finish what there is, but not for longer."""
        self._until = monotonic() + flush_s
        self._closing.set()
        if last:
            self.inbox.put((last, False))
        self.inbox.put(None)

    # --- the thread -----------------------------------------------------------------------------

    def run(self) -> None:
        try:
            while (asked := self._next()) is not None:
                batch, begun = asked
                with self._moving_log():
                    if batch:
                        self._waiting += batch
                        self._write_waiting(begun)
                    else:
                        self._shrink()
                self.news.put(_Resting.RESTING)
                self._ring()
        except BaseException as error:
            self.news.put(error)
            self._ring()

    def _next(self) -> _Work | None:
        """What to do next."""
        wait_s: float | None = None
        while True:
            try:
                asked = self.inbox.get(timeout=wait_s)
            except queue.Empty:
                wait_s = None
                self._ring()
                continue
            if not isinstance(asked, float):
                return asked
            wait_s = asked

    @contextlib.contextmanager
    def _moving_log(self) -> Iterator[None]:
        """What commits meanwhile moves a long log into the file."""
        if self._shared:
            self._db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}")
        yield
        if self._shared:
            self._db.execute("PRAGMA wal_autocheckpoint = 0")

    def _write_waiting(self, begun: bool) -> None:
        """Write all that is waiting, trying until it is written or closing takes too long."""
        alone, retry_s = False, RETRY_S_MIN
        while self._waiting and (begun or monotonic() < self._until):
            # After a failure one by one: a small transaction may fit where a large does not.
            batch = list(self._waiting) if begun else self._batch(alone=alone)
            try:
                self._write(batch, begun)
            except (sqlite3.Error, MemoryError) as error:
                begun = False
                self._undo(batch, error)
                self._closing.wait(retry_s)
                if self._closing.is_set():
                    sleep(RETRY_S_MIN)
                alone, retry_s = True, min(2 * retry_s, RETRY_S_MAX)
                continue
            alone, retry_s = False, RETRY_S_MIN
            self._told.clear()
            for _ in batch:
                self._waiting.popleft()
            self.news.put(batch[-1].keep.number)
            if self._waiting:
                self._ring()
            self.shrinking = self.shrinking or self.statements.deleted

    def _write(self, batch: Sequence[Entry], begun: bool) -> None:
        """One transaction."""
        if begun:
            self.statements.finish(batch)
        else:
            self.statements.write(batch)
        self.statements.commit()

    def _batch(self, *, alone: bool) -> list[Entry]:
        """What goes into the next transaction, the oldest first."""
        batch: list[Entry] = []
        size = 0
        for entry in self._waiting:
            size += entry.size
            if batch and (alone or size > BATCH_BYTES_MAX):
                break
            batch.append(entry)
        return batch

    def _undo(self, batch: Sequence[Entry], error: sqlite3.Error | MemoryError) -> None:
        """Take back what the failed transaction did, and say why it failed. Raises our mistakes."""
        what = "out of memory" if isinstance(error, MemoryError) else what_failed(error)
        if what is None:
            raise error
        self.statements.take_back(batch)
        if what not in self._told:
            self._told.add(what)
            self.news.put(what)
            self._ring()

    def _shrink(self) -> None:
        """While there is nothing else to do, give pages back to the file system."""
        try:
            (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
            if free <= FREE_PAGES_MAX:
                self.shrinking = False
                return
            # Each step frees one page; `execute` would make one step.
            self._db.executescript(f"PRAGMA incremental_vacuum({FREE_PAGES_TURN})")
        except MemoryError:
            self.shrinking = False
        except sqlite3.Error as error:
            self.shrinking = False
            if what_failed(error) is None:
                raise
