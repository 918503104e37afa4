"""The store as the daemon uses it: rows go in, a thread writes them, a descriptor rings.

Everything but the thread's own work is called on the loop and never waits. All that is queued goes
into one transaction (group commit), so a hundred submissions cost one flush of the disk. When the
disk fails, nothing is lost or reordered: the thread tries again until it succeeds.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from math import inf
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final, Self

from qmkd.core.effects import Keep
from qmkd.core.records import Gone, Recovered
from qmkd.shell.store import copying, reader
from qmkd.shell.store.fetcher import Fetched, Fetcher
from qmkd.shell.store.rows import (
    Entry,
    Place,
    Region,
    RowsOf,
    SnapshotOf,
    graph_values,
    no_snapshot,
)
from qmkd.shell.store.schema import (
    CHUNK_BYTES,
    CannotOpen,
    Durability,
    open_to_read,
    open_to_write,
    sentence,
    what_failed,
)

BATCH_BYTES_MAX: Final = 32 << 20  # of one transaction, where a single `Keep` is not larger
# Who has just been told that rows are durable often brings the next at once. So a transaction waits
# for as many as there may be, but not for long beside the flush that they save.
JOIN_SHARE: Final = 0.25  # of the last transaction's time
JOIN_S_MAX: Final = 0.002
JOIN_S_STEP: Final = 0.0001
RETRY_S_MIN: Final = 0.25
RETRY_S_MAX: Final = 2.0
FLUSH_S_MAX: Final = 5.0  # at the end, for what is queued
STUCK_S_MAX: Final = 5.0  # beyond it, for the flush under way
FREE_PAGES_MAX: Final = 256  # in the file before it is made smaller
FREE_PAGES_TURN: Final = 1024  # given back at once
# The writing thread needs the interpreter for microseconds between two statements. By default it
# would wait five milliseconds for it each time the loop is busy, more than a flush takes.
SWITCH_S: Final = 0.0005

assert RETRY_S_MIN < RETRY_S_MAX


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
    ) -> None:
        """Open the database, making it or bringing it up to date. Raises CannotOpen."""
        self._kept, self._failed = kept, failed
        with contextlib.ExitStack() as undo:
            self._db = open_to_write(path, durability)
            undo.callback(self._db.close)
            self._reading = open_to_read(path)
            undo.callback(self._reading.close)
            try:
                self._writer = _Writer(self._db)
            except sqlite3.Error as error:
                raise CannotOpen(sentence(path, error)) from error
            undo.pop_all()
        self._fetcher = Fetcher(path, self._writer.ring)
        self._unkept: deque[Entry] = deque()
        self._backlog = 0
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

    def snapshot(self, ticket: int) -> Iterator[bytes]:
        """The snapshot of that ticket, piece by piece; the last comes once it is proven whole.

        Nothing where there is none. Raises Damaged.
        """
        return reader.snapshot_pieces(self._reading, ticket)

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
        self._writer.inbox.put(entry)

    def fileno(self) -> int:
        """Readable when there is something to `collect`."""
        return self._writer.bell

    def collect(self) -> None:
        """Tell what happened. Raises what broke the writing thread, if something did."""
        try:
            os.eventfd_read(self._writer.bell)
        except BlockingIOError:
            return
        while not self._fetcher.news.empty():
            fetched, error = self._fetcher.news.get_nowait()
            fetched(error)
        news: list[int | str | BaseException] = []
        while not self._writer.news.empty():
            news.append(self._writer.news.get_nowait())
        for at, one in enumerate(news):
            if isinstance(one, BaseException):
                raise one
            if isinstance(one, str):
                self._failed(one)
            elif at + 1 == len(news) or not isinstance(news[at + 1], int):
                self._done(one)  # the last of several numbers says it all

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
        self._writer.close(flush_s)
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
            os.close(self._writer.bell)
        return not self._unkept


class _Writer:
    """The thread's side: everything here but `inbox`, `close` and the bell is the thread's alone.

    news: a number up to which all is durable, a reason why nothing is, or what broke us.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        copying.prepare(db)
        self.inbox: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self.news: queue.SimpleQueue[int | str | BaseException] = queue.SimpleQueue()
        self._waiting: deque[Entry] = deque()
        self._told: set[str] = set()
        self._run = os.urandom(8)  # tells our numbers from those of earlier daemons
        self._graphs = self._graphs_stored()
        self._doubtful = 0  # up to this number, rows may be durable though their commit failed
        self._expected = 1  # entries of the next transaction, if everybody comes again
        self._write_s = 0.0  # that the last one took
        self._shrinking = True  # perhaps the daemon before did not get to it
        self._closing = threading.Event()
        self._until = inf
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def close(self, flush_s: float) -> None:
        """Called on the loop: let the thread finish what is queued, but not for longer."""
        self._until = monotonic() + flush_s
        self._closing.set()
        self.inbox.put(None)

    # --- the thread -----------------------------------------------------------------------------

    def run(self) -> None:
        try:
            while (first := self.inbox.get()) is not None:
                self._waiting.append(first)
                self._write_waiting()
        except BaseException as error:
            self._tell(error)

    def _write_waiting(self) -> None:
        """Write all that is queued, trying until it is written or closing takes too long."""
        alone, retry_s = False, RETRY_S_MIN
        while self._waiting and monotonic() < self._until:
            self._wait_for_more()
            # After a failure one by one: a small transaction may fit where a large does not.
            batch = self._batch(alone=alone)
            try:
                started = monotonic()
                self._write(batch)
                self._write_s = monotonic() - started
            except (sqlite3.Error, MemoryError) as error:
                self._undo(error)
                self._doubtful = max(self._doubtful, batch[-1].keep.number)
                self._closing.wait(retry_s)
                if self._closing.is_set():
                    sleep(RETRY_S_MIN)
                alone, retry_s = True, min(2 * retry_s, RETRY_S_MAX)
                continue
            alone, retry_s = False, RETRY_S_MIN
            self._told.clear()
            for _ in batch:
                self._waiting.popleft()
            self._tell(batch[-1].keep.number)
            self._expected = len(batch) + len(self._waiting) + self.inbox.qsize()
            self._shrinking = self._shrinking or any(entry.gone != Gone() for entry in batch)
            if self._shrinking and not self._waiting:
                self._shrink()

    def _tell(self, news: int | str | BaseException) -> None:
        self.news.put(news)
        self.ring()

    def ring(self) -> None:
        os.eventfd_write(self.bell, 1)

    def _wait_for_more(self) -> None:
        until = monotonic() + min(JOIN_S_MAX, JOIN_SHARE * self._write_s)
        while len(self._waiting) + self.inbox.qsize() < self._expected and monotonic() < until:
            sleep(JOIN_S_STEP)

    def _batch(self, *, alone: bool) -> list[Entry]:
        """What goes into the next transaction, the oldest first."""
        while not self.inbox.empty():
            entry = self.inbox.get()
            if entry is None:
                self.inbox.put(None)  # for `run`, which ends then; nothing comes after it
                break
            self._waiting.append(entry)
        batch: list[Entry] = []
        size = 0
        for entry in self._waiting:
            size += entry.size
            if batch and (alone or size > BATCH_BYTES_MAX):
                break
            batch.append(entry)
        return batch

    def _undo(self, error: sqlite3.Error | MemoryError) -> None:
        """Take back what the failed transaction did, and say why it failed. Raises our mistakes."""
        what = "out of memory" if isinstance(error, MemoryError) else what_failed(error)
        if what is None:
            raise error
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
        if what not in self._told:
            self._told.add(what)
            self._tell(what)

    def _write(self, batch: Sequence[Entry]) -> None:
        """One transaction, without what an attempt wrote that seemed to have failed."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        if batch[0].keep.number <= self._doubtful:
            self._graphs = self._graphs_stored()
            run, kept = db.execute("SELECT run, kept FROM counters").fetchone()
            batch = [entry for entry in batch if run != self._run or entry.keep.number > kept]
        if batch:
            for part in _parts(batch):
                self._insert_graphs(part)
                for table, (head, values) in _INSERTS.items():
                    rows = [each for entry in part for each in entry.tables.get(table, ())]
                    _insert(db, head, values, rows)
                for entry in part:
                    for place, first_byte, region in entry.regions:
                        self._insert_region(place, first_byte, region)
                    for row in entry.copies:
                        copying.copy(db, row)
                self._delete(part)
            last = batch[-1].keep
            db.execute(
                "UPDATE counters SET epoch = ?, numbered = ?, cycle = ?, run = ?, kept = ?",
                (last.epoch, last.numbered, last.cycle, self._run, last.number),
            )
        db.execute("COMMIT")

    def _graphs_stored(self) -> set[tuple[str, bytes]]:
        return set(self._db.execute("SELECT tenant, digest FROM graphs"))

    def _insert_graphs(self, batch: Sequence[Entry]) -> None:
        for entry in batch:
            for tenant, row in entry.graphs:
                if (tenant, row.digest) not in self._graphs:
                    self._db.execute(_INSERT_GRAPH, graph_values(tenant, row))
                    self._graphs.add((tenant, row.digest))

    def _insert_region(self, place: Place, first_byte: int, region: Region) -> None:
        table, whose = place
        head, row = _INSERTS[table]
        for at in range(0, region.size, CHUNK_BYTES):
            piece = region.read(at, min(CHUNK_BYTES, region.size - at))
            _insert(self._db, head, row, [(whose, first_byte + at, piece)])

    def _delete(self, part: Sequence[Entry]) -> None:
        db = self._db
        sessions = [name for entry in part for name in entry.gone.sessions]
        capabilities = [name for entry in part for name in entry.gone.capabilities]
        jobs = [name for entry in part for name in entry.gone.jobs]
        results = [name for entry in part for name in entry.gone.results]
        snapshots = [ticket for entry in part for ticket in entry.gone.snapshots]
        checkpoints = [name for entry in part for name in entry.gone.checkpoints]
        handles = [name for entry in part for name in entry.gone.handles]
        channels = [name for entry in part for name in entry.gone.channels]
        _each(db, "DELETE FROM handles WHERE id IN ({})", handles)
        _each(db, "DELETE FROM channels WHERE id IN ({})", channels)
        _each(db, "DELETE FROM sessions WHERE id IN ({})", sessions)
        _each(db, "DELETE FROM capabilities WHERE id IN ({})", capabilities)
        faults = [name for entry in part for name in entry.gone.faults]
        _each(db, "DELETE FROM faults WHERE id IN ({})", faults)
        mine = "(SELECT number FROM jobs WHERE id IN ({}))"
        _each(db, f"DELETE FROM slices WHERE job IN {mine}", results)
        _each(db, f"DELETE FROM rows WHERE job IN {mine}", results)
        _each(db, "DELETE FROM snapshots WHERE ticket IN ({})", snapshots)
        _each(db, "DELETE FROM snapshots WHERE holder IN ({})", [*jobs, *checkpoints])
        graphs = _each(db, "SELECT DISTINCT graph FROM jobs WHERE id IN ({})", jobs)
        graphs += _each(db, "SELECT DISTINCT graph FROM checkpoints WHERE id IN ({})", checkpoints)
        _each(db, "DELETE FROM jobs WHERE id IN ({})", jobs)
        _each(db, "DELETE FROM checkpoints WHERE id IN ({})", checkpoints)
        unused = _each(
            db,
            "SELECT id, tenant, digest FROM graphs WHERE id IN ({}) "
            "AND NOT EXISTS (SELECT 1 FROM jobs WHERE graph = graphs.id) "
            "AND NOT EXISTS (SELECT 1 FROM checkpoints WHERE graph = graphs.id)",
            sorted({graph for (graph,) in graphs}),
        )
        _each(db, "DELETE FROM graphs WHERE id IN ({})", [graph for graph, _, _ in unused])
        self._graphs.difference_update((tenant, digest) for _, tenant, digest in unused)

    def _shrink(self) -> None:
        """While there is nothing else to do, give pages back to the file system."""
        try:
            while self.inbox.empty():
                (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
                if free <= FREE_PAGES_MAX:
                    self._shrinking = False
                    return
                # Each step frees one page; `execute` would make one step.
                self._db.executescript(f"PRAGMA incremental_vacuum({FREE_PAGES_TURN})")
        except sqlite3.Error as error:
            if what_failed(error) is None:
                raise


# --- statements of many rows --------------------------------------------------------------------

_NUMBER = "(SELECT number FROM jobs WHERE id = ?)"
_GRAPH = "(SELECT id FROM graphs WHERE tenant = ? AND digest = ?)"
_INSERT_GRAPH = "INSERT INTO graphs (tenant, digest, body, graph) VALUES (?, ?, ?, ?)"
_INSERTS: Final = {
    # A session may be kept again, changed; nothing else is ever written twice.
    "sessions": ("INSERT OR REPLACE INTO sessions (id, body)", "(?, ?)"),
    "capabilities": ("INSERT INTO capabilities (id, body)", "(?, ?)"),
    "handles": ("INSERT INTO handles (id, body)", "(?, ?)"),
    "channels": ("INSERT INTO channels (id, body)", "(?, ?)"),
    "jobs": ("INSERT INTO jobs (number, id, graph, body)", f"(?, ?, {_GRAPH}, ?)"),
    "checkpoints": ("INSERT INTO checkpoints (number, id, graph, body)", f"(?, ?, {_GRAPH}, ?)"),
    "slices": ("INSERT INTO slices (job, first, body)", f"({_NUMBER}, ?, ?)"),
    "rows": ("INSERT INTO rows (job, first_byte, bytes)", f"({_NUMBER}, ?, ?)"),
    "snapshots": ("INSERT INTO snapshots (ticket, holder, body)", "(?, ?, ?)"),
    "snapshot_bytes": ("INSERT INTO snapshot_bytes (ticket, first_byte, bytes)", "(?, ?, ?)"),
    "ends": ("INSERT INTO ends (job, body)", f"({_NUMBER}, ?)"),
    "faults": ("INSERT INTO faults (id, body)", "(?, ?)"),
    "audit": ("INSERT INTO audit (number, body, hash)", "(?, ?, ?)"),
}
_AT_ONCE: Final = (64, 8, 1)  # rows of one statement; few sizes, so that statements are found again


def _parts(batch: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Cut a batch where a job whose slices went is run anew, and around copies.

    A part inserts first, deletes then; and what is copied is what is there just then.
    """
    start, dropped, copied = 0, set[str](), False
    for place, entry in enumerate(batch):
        again = any(values[0] in dropped for values in entry.tables.get("slices", ()))
        if place > start and (again or copied or entry.copies):
            yield batch[start:place]
            start, dropped = place, set()
        copied = bool(entry.copies)
        dropped.update(entry.gone.results)
    yield batch[start:]


def _portions(count: int) -> Iterator[slice]:
    """Cut `count` things into as few as possible of the sizes in _AT_ONCE."""
    at = 0
    while at < count:
        size = next(size for size in _AT_ONCE if size <= count - at)
        yield slice(at, at + size)
        at += size


def _insert(db: sqlite3.Connection, head: str, row: str, rows: Sequence[tuple[Any, ...]]) -> None:
    for portion in _portions(len(rows)):
        some = rows[portion]
        statement = f"{head} VALUES {', '.join([row] * len(some))}"
        db.execute(statement, [value for values in some for value in values])


def _each(db: sqlite3.Connection, statement: str, names: Sequence[Any]) -> list[Any]:
    """Execute a statement about all names, a portion at a time, and gather what it gives."""
    found: list[Any] = []
    for portion in _portions(len(names)):
        some = names[portion]
        found += db.execute(statement.format(", ".join("?" * len(some))), some)
    return found
