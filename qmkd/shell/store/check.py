"""Looking for damage: everything in the database against everything that proves it.

Reads only, in one read transaction, and may run beside the daemon. Goes on after each finding.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qmkd.core.records import (
    CapabilityRow,
    ChannelRow,
    CheckpointRow,
    EndRow,
    FaultRow,
    HandleRow,
    JobRow,
    SessionRow,
    SliceRow,
    SnapshotRow,
)
from qmkd.shell.store.copying import CHECKPOINTS, JOBS, Tables
from qmkd.shell.store.reader import graph_bytes, graph_row, slice_pieces, snapshot_bytes
from qmkd.shell.store.rows import GraphBody, opened
from qmkd.shell.store.schema import Damaged, open_to_read
from syscalls.audit import Entry, verify
from syscalls.job import JobState
from syscalls.results import SHOT_BLOCK

FINDINGS_MAX = 100  # of the database's own check of its pages

Named = SessionRow | CapabilityRow | HandleRow | ChannelRow | FaultRow
Row = TypeVar("Row", bound=msgspec.Struct)
Holder = TypeVar("Holder", JobRow, CheckpointRow)


class Fault(msgspec.Struct, frozen=True):
    """Something that is not as it was written. where: a table, or `pages`."""

    where: str
    message: str


class Report(msgspec.Struct):
    """What was looked at, by name, and all that is wrong with it."""

    path: str
    checked: dict[str, int] = {}
    faults: list[Fault] = []

    @property
    def ok(self) -> bool:
        return not self.faults


def check(path: Path) -> Report:
    """Look at everything. Raises CannotOpen where there is nothing to look at."""
    db = open_to_read(path)
    try:
        db.execute("BEGIN")
        return _Check(db, Report(path=str(path))).run()
    finally:
        db.close()


def audit_entries(db: sqlite3.Connection, after: int = 0) -> Iterator[Entry]:
    """The audit chain from its first entry, or from the one after this."""
    found = "SELECT number, body, hash FROM audit WHERE number > ? ORDER BY number"
    yield from db.execute(found, (after,))


class _Check:
    def __init__(self, db: sqlite3.Connection, report: Report) -> None:
        self._db, self._report = db, report
        self._jobs: dict[int, JobRow] = {}
        self._checkpoints: dict[int, CheckpointRow] = {}
        self._slices: dict[tuple[Tables, int], list[SliceRow]] = {}

    def run(self) -> Report:
        parts: dict[str, Callable[[], int]] = {
            "pages": self._pages,
            "references": self._references,
            "sessions": lambda: self._named("sessions", SessionRow),
            "capabilities": lambda: self._named("capabilities", CapabilityRow),
            "handles": lambda: self._named("handles", HandleRow),
            "channels": lambda: self._named("channels", ChannelRow),
            "faults": lambda: self._named("faults", FaultRow),
            "graphs": self._graphs,
            "jobs": lambda: self._holders(JOBS, JobRow, self._jobs, lambda row: row.graph),
            "checkpoints": lambda: self._holders(
                CHECKPOINTS, CheckpointRow, self._checkpoints, lambda row: row.job.graph
            ),
            "slices": lambda: sum(map(self._all_slices, (JOBS, CHECKPOINTS))),
            "packed bytes": self._packed,
            "snapshots": self._snapshots,
            "ends": self._ends,
            "audit entries": self._audit,
        }
        for name, part in parts.items():
            try:
                self._report.checked[name] = part()
            except (Damaged, sqlite3.Error) as error:
                self._fault(name, f"cannot be read: {_text(error)}")
        return self._report

    def _fault(self, where: str, message: str) -> None:
        self._report.faults.append(Fault(where, message))

    def _open(self, where: str, stored: bytes, kind: type[Row], name: str) -> Row | None:
        try:
            return opened(stored, kind, name)
        except Damaged as error:
            self._fault(where, _text(error))
            return None

    def _pages(self) -> int:
        for (said,) in self._db.execute(f"PRAGMA integrity_check({FINDINGS_MAX})"):
            if said != "ok":
                self._fault("pages", said)
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        assert isinstance(pages, int)
        return pages

    def _references(self) -> int:
        count = 0
        for table, row, parent, _ in self._db.execute("PRAGMA foreign_key_check"):
            self._fault("references", f"row {row} of {table} names a row of {parent} that is gone")
            count += 1
        return count

    def _named(self, table: str, kind: type[Named]) -> int:
        """Rows that have a name and stand for themselves."""
        count = 0
        for name, body in self._db.execute(f"SELECT id, body FROM {table}"):
            count += 1
            row = self._open(table, body, kind, f"{name} of {table}")
            if row is not None and row.id != name:
                self._fault(table, f"{name} of {table} calls itself {row.id}")
        return count

    def _graphs(self) -> int:
        count = 0
        for number, digest, body in self._db.execute("SELECT id, digest, body FROM graphs"):
            count += 1
            where = f"graph {digest.hex()}"
            held = self._open("graphs", body, GraphBody, where)
            try:
                content = graph_bytes(self._db, number, digest)
                if held is not None:
                    graph_row(held, digest, content, where)
            except Damaged as error:
                self._fault("graphs", _text(error))
        for (digest,) in self._db.execute(
            "SELECT digest FROM graphs WHERE id NOT IN (SELECT graph FROM jobs)"
            " AND id NOT IN (SELECT graph FROM checkpoints)"
        ):
            self._fault("graphs", f"graph {digest.hex()} belongs to no job")
        return count

    def _holders(
        self,
        tables: Tables,
        kind: type[Holder],
        found: dict[int, Holder],
        graph_of: Callable[[Holder], bytes],
    ) -> int:
        """Jobs, or checkpoints: what slices belong to."""
        count = 0
        for number, name, tenant, digest, body in self._db.execute(
            "SELECT number, holder.id, tenant, digest, holder.body "
            f"FROM {tables.holders} AS holder LEFT JOIN graphs ON graphs.id = holder.graph"
        ):
            count += 1
            called = f"{tables.column} {name}"
            row = self._open(tables.holders, body, kind, called)
            if row is None:
                continue
            if (row.number, row.id, row.tenant, graph_of(row)) != (number, name, tenant, digest):
                self._fault(tables.holders, f"{called} lies under another name, tenant or graph")
            found[number] = row
        return count

    def _holder(self, tables: Tables, number: int) -> tuple[str, int] | None:
        """The id of a holder of slices, and how many shots its job has."""
        if tables is JOBS:
            job = self._jobs.get(number)
            return None if job is None else (job.id, job.policy.shots)
        checkpoint = self._checkpoints.get(number)
        return None if checkpoint is None else (checkpoint.id, checkpoint.job.policy.shots)

    def _all_slices(self, tables: Tables) -> int:
        count = 0
        for number, first, body in self._db.execute(
            f"SELECT {tables.column}, first, body FROM {tables.slices} ORDER BY 1, 2"
        ):
            count += 1
            where = f"{tables.column} {number}, shots from {first}"
            row = self._open("slices", body, SliceRow, where)
            if row is None:
                continue
            holder = self._holder(tables, number)
            earlier = self._slices.setdefault((tables, number), [])
            if row.first != first or (holder is not None and row.job != holder[0]):
                self._fault("slices", f"{where}: lie under another job or shot")
            if holder is not None and row.shots_total != holder[1]:
                self._fault("slices", f"{where}: the job has {holder[1]} shots, not so many")
            if first % SHOT_BLOCK or first + row.report.shots > row.shots_total:
                self._fault("slices", f"{where}: not within the job's {row.shots_total} shots")
            if earlier and earlier[-1].first + earlier[-1].report.shots > first:
                self._fault("slices", f"{where}: overlap with those from {earlier[-1].first}")
            earlier.append(row)
        return count

    def _packed(self) -> int:
        """Every slice's packed rows fit its leaves, and there are no others."""
        expected = 0
        for slices in self._slices.values():
            for row in slices:
                try:
                    expected += sum(len(piece) for _, piece in slice_pieces(self._db, row))
                except (Damaged, sqlite3.Error) as error:
                    self._fault("packed rows", _text(error))
                    expected += row.report.shots * row.row_bytes
        (found,) = self._db.execute(
            "SELECT (SELECT total(length(bytes)) FROM rows)"
            " + (SELECT total(length(bytes)) FROM checkpoint_rows)"
        ).fetchone()
        if found > expected:
            self._fault("packed rows", f"{found - expected:.0f} bytes belong to no slice")
        return int(found)

    def _snapshots(self) -> int:
        """Each is whole, and belongs to what there is."""
        count = 0
        held: set[str] = {job.id for job in self._jobs.values()}
        held |= {each.id for each in self._checkpoints.values()}
        for ticket, holder, body in self._db.execute("SELECT ticket, holder, body FROM snapshots"):
            count += 1
            row = self._open("snapshots", body, SnapshotRow, f"snapshot {ticket}")
            if row is None:
                continue
            if (row.ticket, row.holder) != (ticket, holder):
                self._fault("snapshots", f"snapshot {ticket} lies under another ticket or holder")
            if holder not in held:
                self._fault("snapshots", f"snapshot {ticket} belongs to nothing that is there")
            try:
                for _ in snapshot_bytes(self._db, ticket):
                    pass
            except (Damaged, sqlite3.Error) as error:
                self._fault("snapshots", _text(error))
        return count

    def _ends(self) -> int:
        count = 0
        for number, body in self._db.execute("SELECT job, body FROM ends"):
            count += 1
            row = self._open("ends", body, EndRow, f"the end of job {number}")
            job = self._jobs.get(number)
            if row is None or job is None:
                continue
            if row.job != job.id or row.status.job_id != job.id:
                self._fault("ends", f"the end of job {number} is that of {row.job}")
            self._check_digest(number, job, row)
        return count

    def _check_digest(self, number: int, job: JobRow, end: EndRow) -> None:
        """The results' digest in a completed job's end is that of its slices' leaves."""
        slices = self._slices.get((JOBS, number), [])
        context = end.status.execution_context
        named = None if context is None else context.results_digest
        if end.status.state is not JobState.COMPLETED or named is None or not slices:
            return
        if sum(row.report.shots for row in slices) != job.policy.shots:
            self._fault("ends", f"job {number} is completed, but slices are missing")
            return
        leaves = b"".join(row.report.leaves for row in slices if row.row_bytes)
        if sha256(leaves).hexdigest() != named:
            self._fault("ends", f"job {number}: the results' digest is not that of its slices")

    def _audit(self) -> int:
        broken = verify(audit_entries(self._db))
        if broken is not None:
            self._fault("audit", f"entry {broken.number}: {broken.message}")
        found: Any = self._db.execute("SELECT count(*) FROM audit").fetchone()[0]
        assert isinstance(found, int)
        return found


def _text(error: Exception) -> str:
    return str(error.strerror if isinstance(error, OSError) else error)
