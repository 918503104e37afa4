"""From the kernel's rows to what lies in the tables, and what a `Keep` comes to for the writer.

Encoding is done where the kernel runs, so that the writing thread, which shares the interpreter
with it, does little but wait for the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar, assert_never
from zlib import crc32

import msgspec

from qmkd.core.effects import Keep
from qmkd.core.records import (
    AuditRow,
    CapabilityRow,
    ChannelRow,
    CheckpointRow,
    CopyRow,
    EndRow,
    FaultRow,
    Gone,
    GraphRow,
    HandleRow,
    JobRow,
    SessionRow,
    SliceRow,
    SnapshotRow,
)
from qmkd.shell.store.schema import CHUNK_BYTES, Damaged

CHECKSUM_BYTES: Final = 4
ROW_BYTES: Final = 64  # what a row takes beside its body, about
NOTHING_GONE: Final = Gone()

_encode = msgspec.msgpack.Encoder().encode
Body = TypeVar("Body", bound=msgspec.Struct)


class GraphBody(msgspec.Struct, frozen=True):
    """What is kept of a graph beside its bytes: summary and warnings, still encoded."""

    summary: msgspec.Raw
    warnings: msgspec.Raw


class Region(Protocol):
    """Packed rows, or a snapshot, that lie still in a memory file until they are released."""

    size: int

    def read(self, at: int, size: int) -> bytes:
        """From any thread."""

    def release(self) -> None:
        """From the loop's thread, once."""


RowsOf = Callable[[str, int, int], bytes | Region]
"""(job, first byte, size) -> the packed rows there, or where they lie still."""

SnapshotOf = Callable[[int], bytes | Region]
"""ticket -> the snapshot that the shell holds, or where it lies still."""

Place = tuple[str, str | int]
"""Where pieces of bytes go: a table, and whose they are there."""


def sealed(body: msgspec.Struct) -> bytes:
    """A body as it is stored: CRC-32, big-endian, then MessagePack."""
    encoded = _encode(body)
    return crc32(encoded).to_bytes(CHECKSUM_BYTES, "big") + encoded


def opened(stored: bytes, kind: type[Body], where: str) -> Body:
    """A stored body. Raises Damaged, naming `where`."""
    if not isinstance(stored, bytes):
        raise Damaged(f"{where}: it is not bytes")
    encoded = memoryview(stored)[CHECKSUM_BYTES:]
    checksum = crc32(encoded).to_bytes(CHECKSUM_BYTES, "big")
    if stored[:CHECKSUM_BYTES] != checksum:
        raise Damaged(f"{where}: its checksum is not that of its bytes")
    try:
        return msgspec.msgpack.decode(encoded, type=kind)
    except msgspec.DecodeError as error:
        raise Damaged(f"{where}: {error}") from error


class Entry:
    """A `Keep` on its way to the disk. tables: name -> rows for it. size: bytes, about.

    graphs: (tenant, row), written if the tenant's are not there yet. regions: where packed rows and
    snapshots lie that are too large to be copied beforehand: (place, first byte, region). copies:
    what is copied within the database, once everything else is there.
    """

    __slots__ = ("copies", "gone", "graphs", "keep", "regions", "size", "tables")

    def __init__(self, keep: Keep, rows_of: RowsOf, snapshot_of: SnapshotOf) -> None:
        self.keep = keep
        self.gone: Gone = keep.gone
        self.tables: dict[str, list[tuple[Any, ...]]] = {}
        self.graphs: list[tuple[str, GraphRow]] = []
        self.regions: list[tuple[Place, int, Region]] = []
        self.copies: list[CopyRow | SnapshotRow] = []
        self.size = ROW_BYTES
        for row in keep.rows:
            # The frequent ones first.
            match row:
                case AuditRow():
                    self._add("audit", row.body, (row.number, row.body, row.hash))
                case GraphRow():
                    self._add_graph(row)
                case JobRow():
                    body = sealed(row)
                    self._add("jobs", body, (row.number, row.id, row.tenant, row.graph, body))
                case SliceRow():
                    body = sealed(row)
                    self._add("slices", body, (row.job, row.first, body))
                    self._add_packed(row, rows_of)
                case EndRow():
                    body = sealed(row)
                    self._add("ends", body, (row.job, body))
                case SessionRow():
                    self._add_named("sessions", row)
                case CapabilityRow():
                    self._add_named("capabilities", row)
                case HandleRow():
                    self._add_named("handles", row)
                case ChannelRow():
                    self._add_named("channels", row)
                case FaultRow():
                    self._add_named("faults", row)
                case SnapshotRow():
                    body = sealed(row)
                    self._add("snapshots", body, (row.ticket, row.holder, body))
                    if row.of:
                        self.copies.append(row)
                    else:
                        place = ("snapshot_bytes", row.ticket)
                        self._add_bytes(place, 0, snapshot_of(row.ticket), row.size)
                case CheckpointRow():
                    body, graph = sealed(row), row.job.graph
                    self._add("checkpoints", body, (row.number, row.id, row.tenant, graph, body))
                case CopyRow():
                    self.copies.append(row)
                case _:
                    assert_never(row)

    @property
    def is_short(self) -> bool:
        """Whether inserting rows of its tables is all there is to do."""
        return not (self.regions or self.copies) and self.gone == NOTHING_GONE

    def _add(self, table: str, body: bytes, values: tuple[Any, ...]) -> None:
        self.size += ROW_BYTES + len(body)
        rows = self.tables.get(table)
        if rows is None:
            self.tables[table] = [values]
        else:
            rows.append(values)

    def _add_named(
        self, table: str, row: SessionRow | CapabilityRow | HandleRow | ChannelRow | FaultRow
    ) -> None:
        body = sealed(row)
        self._add(table, body, (row.id, body))

    def _add_graph(self, row: GraphRow) -> None:
        """The graph belongs to the tenants whose jobs came with it."""
        named = {
            job.tenant
            for job in self.keep.rows
            if isinstance(job, JobRow) and job.graph == row.digest
        }
        assert named, "a graph comes with a job that names it"
        self.graphs += [(tenant, row) for tenant in named]
        self.size += len(row.graph)

    def _add_packed(self, row: SliceRow, rows_of: RowsOf) -> None:
        size = row.report.shots * row.row_bytes
        if size:
            first_byte = row.first * row.row_bytes
            packed = rows_of(row.job, first_byte, size)
            self._add_bytes(("rows", row.job), first_byte, packed, size)

    def _add_bytes(self, place: Place, first_byte: int, content: bytes | Region, size: int) -> None:
        if not isinstance(content, bytes):
            assert content.size == size
            self.size += size
            self.regions.append((place, first_byte, content))
            return
        assert len(content) == size, "rows and snapshots come whole"
        table, whose = place
        for at in range(0, size, CHUNK_BYTES):
            piece = content[at : at + CHUNK_BYTES]
            self._add(table, piece, (whose, first_byte + at, piece))


def no_snapshot(ticket: int) -> bytes:
    """For those who hold none."""
    raise AssertionError(f"no snapshot {ticket} is held")


def graph_values(tenant: str, row: GraphRow) -> tuple[Any, ...]:
    """A graph's row in its table."""
    body = GraphBody(
        msgspec.Raw(_encode(row.summary)),
        msgspec.Raw(_encode(row.warnings)),
    )
    return tenant, row.digest, sealed(body), row.graph
