"""The statements by which entries reach the tables: one transaction for all of a batch.

What is short is apart from what may take long, because the loop does the one and the writing
thread the other: `begin` inserts rows, which touches nothing but memory, and `finish` copies large
rows and deletes; `do` does both where that is short. Who commits, and what happens when something
fails, is `writer.py`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from math import inf
from typing import Any, Final

import msgspec

from qmkd.core.records import Gone, SnapshotRow
from qmkd.shell.store import copying
from qmkd.shell.store.rows import NOTHING_GONE, Entry, Place, Region, graph_values
from qmkd.shell.store.schema import BUSY_S, CHUNK_BYTES

LIGHT_BYTES_MAX: Final = 64 << 10  # of the slices that are deleted in no time
LIGHT_JOBS_MAX: Final = 32  # whose rows are


class Statements:
    """Of the writing connection, for whoever of the two has it."""

    def __init__(self, db: sqlite3.Connection, *, weighs: bool = False) -> None:
        """weighs: `do` is to be asked, and has to know what jobs come to."""
        copying.prepare(db)
        for statement in _DELETING:
            db.execute(statement)
        self._db = db
        self._unfinished = False  # what was begun
        self._deleted = False  # something, since graphs were inserted last
        self._weighs = weighs
        self._slices: dict[str, int] = {}  # bytes of the slices of jobs that were inserted here
        self.doubtful = 0  # up to this number, rows may be durable though their commit failed
        self._run = os.urandom(8)  # tells our numbers from those of earlier daemons
        self._graphs = self._graphs_stored()
        self._wait_for_locks(0.0)

    def begin(self, batch: Sequence[Entry]) -> None:
        """Begin a transaction, and do all of it that is short. Never waits for a lock."""
        self._db.execute("BEGIN IMMEDIATE")
        self._unfinished = not all(entry.is_short for entry in batch)
        self._insert(next(_parts(batch)) if self._unfinished else batch)
        self._count(batch)

    def do(self, batch: Sequence[Entry]) -> bool:
        """Begin a transaction and do all of it, if that is short; or nothing. Returns which."""
        heavy = [entry for entry in batch if not entry.is_short]
        if heavy and not self._are_light(heavy):
            return False
        self._db.execute("BEGIN IMMEDIATE")
        self._unfinished = False
        self._do(batch)
        return True

    def _are_light(self, entries: Sequence[Entry]) -> bool:
        """Whether what goes with them all is known to be small."""
        jobs: list[str] = []
        for entry in entries:
            gone = entry.gone
            if entry.regions or entry.copies or gone.checkpoints or gone.snapshots:
                return False
            jobs += (*gone.jobs, *gone.results)
        if len(jobs) > LIGHT_JOBS_MAX:
            return False
        return sum(self._slices.get(job, inf) for job in jobs) <= LIGHT_BYTES_MAX

    def finish(self, batch: Sequence[Entry]) -> None:
        """Do the rest of what was begun."""
        if not self._unfinished:
            return
        for place, part in enumerate(_parts(batch)):
            if place:
                self._insert(part)
            self._move(part)
            self._delete(part)

    def write(self, batch: Sequence[Entry]) -> None:
        """Begin and finish, without what an attempt wrote that seemed to have failed."""
        self._wait_for_locks(BUSY_S)
        try:
            self._db.execute("BEGIN IMMEDIATE")
        finally:
            self._wait_for_locks(0.0)
        if batch[0].keep.number <= self.doubtful:
            self._graphs, self._deleted = self._graphs_stored(), False
            run, kept = self._db.execute("SELECT run, kept FROM counters").fetchone()
            batch = [entry for entry in batch if run != self._run or entry.keep.number > kept]
        if batch:
            self._do(batch)

    def _do(self, batch: Sequence[Entry]) -> None:
        for part in _parts(batch):
            self._insert(part)
            self._move(part)
            self._delete(part)
        self._count(batch)

    def commit(self) -> None:
        """With the interpreter free all the while: `execute` would want it several times."""
        self._db.commit()

    @property
    def deleted(self) -> bool:
        """Whether what was finished last took something away."""
        return self._deleted

    def take_back(self, batch: Sequence[Entry]) -> None:
        """Undo what was begun with this batch, as far as it came. It is to be written again."""
        self.doubtful = max(self.doubtful, batch[-1].keep.number)
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    def _wait_for_locks(self, seconds: float) -> None:
        self._db.execute(f"PRAGMA busy_timeout = {int(1e3 * seconds)}")

    def _count(self, batch: Sequence[Entry]) -> None:
        last = batch[-1].keep
        self._db.execute(
            "UPDATE counters SET epoch = ?, numbered = ?, cycle = ?, run = ?, kept = ?",
            (last.epoch, last.numbered, last.cycle, self._run, last.number),
        )

    def _insert(self, part: Sequence[Entry]) -> None:
        self._insert_graphs(part)
        gathered: dict[str, list[tuple[Any, ...]]] = {}
        for entry in part:
            for table, rows in entry.tables.items():
                gathered.setdefault(table, []).extend(rows)
        if self._weighs:
            self._weigh(gathered)
        for table, (head, values) in _INSERTS.items():
            if table in gathered:
                _insert(self._db, head, values, gathered[table])

    def _weigh(self, gathered: dict[str, list[tuple[Any, ...]]]) -> None:
        """Note how much there is of jobs inserted here; what has snapshots may be more."""
        slices = self._slices
        slices.update((values[1], 0) for values in gathered.get("jobs", ()))
        for table in ("slices", "rows"):
            for job, _, piece in gathered.get(table, ()):
                if job in slices:
                    slices[job] += len(piece)
        for _, holder, _ in gathered.get("snapshots", ()):
            slices.pop(holder, None)

    def _move(self, part: Sequence[Entry]) -> None:
        for entry in part:
            for place, first_byte, region in entry.regions:
                self._insert_region(place, first_byte, region)
                self._slices.pop(str(place[1]), None)
            for row in entry.copies:
                copying.copy(self._db, row)
                target = row.holder if isinstance(row, SnapshotRow) else row.target
                self._slices.pop(target, None)

    def _graphs_stored(self) -> set[tuple[str, bytes]]:
        return set(self._db.execute("SELECT tenant, digest FROM graphs"))

    def _insert_graphs(self, batch: Sequence[Entry]) -> None:
        if self._deleted:
            self._graphs.difference_update(self._db.execute("SELECT tenant, digest FROM unused"))
            self._deleted = False
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
        """In one statement, so that whoever deletes needs the interpreter only once."""
        gone: dict[str, list[str] | list[int]] = {}
        for entry in part:
            if entry.gone != NOTHING_GONE:
                for field in Gone.__struct_fields__:
                    gone.setdefault(field, []).extend(getattr(entry.gone, field))
                for job in entry.gone.jobs:
                    self._slices.pop(job, None)
        if gone:
            names = msgspec.json.encode(gone).decode()
            self._db.execute("INSERT INTO gone (names) VALUES (?)", (names,))
            self._deleted = True


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
_AT_ONCE: Final = 64  # rows of one statement, where there are so many


def _names(field: str) -> str:
    return f"(SELECT value FROM json_each(NEW.names, '$.{field}'))"


_JOBS_GONE = f"(SELECT number FROM jobs WHERE id IN {_names('results')})"
_DELETING: Final = (
    "CREATE TEMP TABLE doubted (graph INTEGER)",
    "CREATE TEMP TABLE unused (tenant TEXT, digest BLOB)",
    "CREATE TEMP VIEW gone AS SELECT NULL AS names",
    f"""CREATE TEMP TRIGGER delete_gone INSTEAD OF INSERT ON gone BEGIN
        DELETE FROM unused;
        DELETE FROM handles WHERE id IN {_names("handles")};
        DELETE FROM channels WHERE id IN {_names("channels")};
        DELETE FROM faults WHERE id IN {_names("faults")};
        DELETE FROM sessions WHERE id IN {_names("sessions")};
        DELETE FROM capabilities WHERE id IN {_names("capabilities")};
        DELETE FROM slices WHERE job IN {_JOBS_GONE};
        DELETE FROM rows WHERE job IN {_JOBS_GONE};
        DELETE FROM snapshots WHERE ticket IN {_names("snapshots")};
        DELETE FROM snapshots WHERE holder IN {_names("jobs")};
        DELETE FROM snapshots WHERE holder IN {_names("checkpoints")};
        INSERT INTO doubted SELECT graph FROM jobs WHERE id IN {_names("jobs")};
        INSERT INTO doubted SELECT graph FROM checkpoints WHERE id IN {_names("checkpoints")};
        DELETE FROM jobs WHERE id IN {_names("jobs")};
        DELETE FROM checkpoints WHERE id IN {_names("checkpoints")};
        DELETE FROM doubted WHERE EXISTS (SELECT 1 FROM jobs WHERE graph = doubted.graph)
            OR EXISTS (SELECT 1 FROM checkpoints WHERE graph = doubted.graph);
        INSERT INTO unused SELECT tenant, digest FROM graphs WHERE id IN doubted;
        DELETE FROM graphs WHERE id IN doubted;
        DELETE FROM doubted;
        END""",
)
"""`gone` takes the names of all that goes; `unused` tells which graphs went with it."""

assert all(f"'$.{field}'" in _DELETING[-1] for field in Gone.__struct_fields__), "all of it goes"


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


def _insert(db: sqlite3.Connection, head: str, row: str, rows: Sequence[tuple[Any, ...]]) -> None:
    at = 0
    while len(rows) - at >= _AT_ONCE:
        some = rows[at : at + _AT_ONCE]
        statement = f"{head} VALUES {', '.join([row] * len(some))}"
        db.execute(statement, [value for values in some for value in values])
        at += len(some)
    if at < len(rows):
        db.executemany(f"{head} VALUES {row}", rows[at:])
