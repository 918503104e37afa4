"""Reading back: everything at the start, packed rows when somebody asks for them.

Nothing is handed out that is not what was written: bodies are checked by their checksums, graphs by
their digests, packed rows by the leaves in their slices' reports.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from qmkd.core.records import (
    CapabilityRow,
    ChannelRow,
    CheckpointRow,
    EndRow,
    FaultRow,
    GraphRow,
    HandleRow,
    JobRow,
    Recovered,
    SessionRow,
    SliceRow,
    SnapshotRow,
)
from qmkd.shell.store.copying import CHECKPOINTS, JOBS, tables_of
from qmkd.shell.store.rows import GraphBody, opened
from qmkd.shell.store.schema import Damaged
from qvm.program import Summary
from syscalls.audit import HASH_BYTES
from syscalls.findings import Finding
from syscalls.results import SHOT_BLOCK

T = TypeVar("T", bound=msgspec.Struct)


@contextmanager
def _one_moment(db: sqlite3.Connection, what: str) -> Iterator[None]:
    """All that is read in here is of one moment. What cannot be read is Damaged."""
    try:
        db.execute("BEGIN")
        try:
            yield
        finally:
            db.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise Damaged(f"{what} cannot be read: {error}") from error


def load(db: sqlite3.Connection) -> Recovered:
    """All there is but packed rows. Raises Damaged."""
    with _one_moment(db, "the database"):
        return _load(db)


def _load(db: sqlite3.Connection) -> Recovered:
    counters = db.execute("SELECT epoch, numbered, cycle FROM counters").fetchone()
    if counters is None or not all(isinstance(count, int) for count in counters):
        raise Damaged("the counters are gone")
    epoch, numbered, cycle = counters
    last = db.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    audited, head = last or (0, b"")
    if last is not None and (not isinstance(head, bytes) or len(head) != HASH_BYTES):
        raise Damaged(f"audit entry {audited}: its hash is not one")
    return Recovered(
        epoch=epoch,
        numbered=numbered,
        cycle=cycle,
        audited=audited,
        audit_head=head,
        sessions=_all(db, SessionRow, "sessions", "id", "session"),
        capabilities=_all(db, CapabilityRow, "capabilities", "id", "capability"),
        handles=_all(db, HandleRow, "handles", "id", "handle"),
        channels=_all(db, ChannelRow, "channels", "id", "channel"),
        graphs=tuple(_graphs(db)),
        jobs=_all(db, JobRow, "jobs", "number", "job"),
        slices=tuple(
            opened(body, SliceRow, f"{tables.column} {number}, shots from {first}")
            for tables in (JOBS, CHECKPOINTS)
            for number, first, body in db.execute(
                f"SELECT {tables.column}, first, body FROM {tables.slices} ORDER BY 1, 2"
            )
        ),
        snapshots=_all(db, SnapshotRow, "snapshots", "ticket", "snapshot"),
        checkpoints=_all(db, CheckpointRow, "checkpoints", "number", "checkpoint"),
        ends=_all(db, EndRow, "ends", "job", "the end of job"),
        faults=_all(db, FaultRow, "faults", "id", "fault"),
    )


def _all(db: sqlite3.Connection, kind: type[T], table: str, key: str, called: str) -> tuple[T, ...]:
    """The rows of a table, by its key. called: what one is, where it is damaged."""
    rows = db.execute(f"SELECT {key}, body FROM {table} ORDER BY {key}")
    return tuple(opened(body, kind, f"{called} {name}") for name, body in rows)


def _graphs(db: sqlite3.Connection) -> Iterator[GraphRow]:
    """Each digest once, with its bytes where a checkpoint names it or a job that is not over."""
    needed = {
        number
        for (number,) in db.execute(
            "SELECT graph FROM jobs WHERE number NOT IN (SELECT job FROM ends) "
            "UNION SELECT graph FROM checkpoints"
        )
    }
    found: dict[bytes, GraphRow] = {}
    for number, digest, body in db.execute("SELECT id, digest, body FROM graphs ORDER BY id"):
        where = f"graph {digest.hex()}"
        row = graph_row(opened(body, GraphBody, where), digest, b"", where)
        if number in needed and not (digest in found and found[digest].graph):
            row = msgspec.structs.replace(row, graph=graph_bytes(db, number, digest))
            found[digest] = row
        found.setdefault(digest, row)
    yield from found.values()


def graph_bytes(db: sqlite3.Connection, number: int, digest: bytes) -> bytes:
    """A graph's bytes. Raises Damaged."""
    found: Any = db.execute("SELECT graph FROM graphs WHERE id = ?", (number,)).fetchone()
    graph = found[0] if found is not None else None
    if not isinstance(graph, bytes) or sha256(graph).digest() != digest:
        raise Damaged(f"graph {digest.hex()}: its digest is not that of its bytes")
    return graph


def graph_of_job(db: sqlite3.Connection, job_id: str) -> bytes:
    """The bytes of a job's or checkpoint's graph, empty if there is none. Raises Damaged."""
    holders = tables_of(job_id).holders
    with _one_moment(db, f"the program of {job_id}"):
        found = db.execute(
            f"SELECT graphs.id, graphs.digest FROM {holders} JOIN graphs"
            f" ON graphs.id = {holders}.graph WHERE {holders}.id = ?",
            (job_id,),
        ).fetchone()
        return b"" if found is None else graph_bytes(db, *found)


def graph_row(body: GraphBody, digest: bytes, graph: bytes, where: str) -> GraphRow:
    """A graph as the kernel knows it. Raises Damaged."""
    try:
        summary = msgspec.msgpack.decode(body.summary, type=Summary)
        warnings = msgspec.msgpack.decode(body.warnings, type=tuple[Finding, ...])
    except msgspec.DecodeError as error:
        raise Damaged(f"{where}: {error}") from error
    return GraphRow(digest=digest, graph=graph, summary=summary, warnings=warnings)


def stored_sizes(recovered: Recovered) -> dict[str, int]:
    """Bytes of all packed rows of each holder of slices: what `Results` is to know of them."""
    return {row.job: row.shots_total * row.row_bytes for row in recovered.slices}


def packed_rows(db: sqlite3.Connection, job_id: str) -> Iterator[tuple[int, bytes]]:
    """The packed rows of the slices of a job or checkpoint, in order: (first byte, some bytes),
    piece by piece.

    Raises Damaged as soon as something is not what was written; then no piece of this job counts.
    """
    tables = tables_of(job_id)
    with _one_moment(db, f"the results of {job_id}"):
        slices = db.execute(
            f"SELECT first, body FROM {tables.slices} WHERE {tables.column} = "
            f"(SELECT number FROM {tables.holders} WHERE id = ?) ORDER BY first",
            (job_id,),
        ).fetchall()
        for first, body in slices:
            row = opened(body, SliceRow, f"{job_id}, shots from {first}")
            yield from slice_pieces(db, row)


def slice_pieces(db: sqlite3.Connection, row: SliceRow) -> Iterator[tuple[int, bytes]]:
    """The packed rows of one slice, as `packed_rows`."""
    tables = tables_of(row.job)
    at = row.first * row.row_bytes
    end = at + row.report.shots * row.row_bytes
    leaves = Leaves(SHOT_BLOCK * row.row_bytes)
    while at < end:
        found: Any = db.execute(
            f"SELECT bytes FROM {tables.rows} WHERE {tables.column} = "
            f"(SELECT number FROM {tables.holders} WHERE id = ?) AND first_byte = ?",
            (row.job, at),
        ).fetchone()
        piece = found[0] if found is not None else None
        if not isinstance(piece, bytes) or not 0 < len(piece) <= end - at:
            raise Damaged(f"{row.job}: packed rows from byte {at} are missing")
        leaves.add(piece)
        yield at, piece
        at += len(piece)
    if row.row_bytes and leaves.whole() != row.report.leaves:
        raise Damaged(f"{row.job}, shots from {row.first}: packed rows do not fit their leaves")


def snapshot_pieces(db: sqlite3.Connection, *tickets: int) -> Iterator[bytes]:
    """The snapshot of the first ticket that there is one of, piece by piece; nothing where there is
    none. Raises Damaged before its end."""
    with _one_moment(db, f"snapshot {tickets[0]}"):
        for ticket in tickets:
            found = False
            for piece in snapshot_bytes(db, ticket):
                found = True
                yield piece
            if found:
                return


def snapshot_bytes(db: sqlite3.Connection, ticket: int) -> Iterator[bytes]:
    """As `snapshot_pieces`, within a transaction."""
    where = f"snapshot {ticket}"
    found = db.execute("SELECT body FROM snapshots WHERE ticket = ?", (ticket,)).fetchone()
    if found is None:
        return
    row = opened(found[0], SnapshotRow, where)
    digest, at, last = sha256(), 0, b""
    while at < row.size:
        found = db.execute(
            "SELECT bytes FROM snapshot_bytes WHERE ticket = ? AND first_byte = ?", (ticket, at)
        ).fetchone()
        if found is None or not isinstance(found[0], bytes) or not found[0]:
            raise Damaged(f"{where}: what begins at byte {at} is missing")
        if last:
            yield last
        last = found[0]
        at += len(last)
        digest.update(last)
    if at != row.size or digest.digest() != row.digest:
        raise Damaged(f"{where}: its digest is not that of its bytes")
    yield last


class Leaves:
    """SHA-256 of every `leaf_bytes` of what is added, the last of what is left."""

    def __init__(self, leaf_bytes: int) -> None:
        self._leaf_bytes = leaf_bytes
        self._done = bytearray()
        self._leaf, self._room = sha256(), leaf_bytes

    def add(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            self._leaf.update(view[: self._room])
            taken = min(self._room, len(view))
            view, self._room = view[taken:], self._room - taken
            if not self._room:
                self._next()

    def _next(self) -> None:
        self._done += self._leaf.digest()
        self._leaf, self._room = sha256(), self._leaf_bytes

    def whole(self) -> bytes:
        if self._room < self._leaf_bytes:
            self._next()
        return bytes(self._done)
