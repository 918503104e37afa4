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
            match row:
                case SessionRow():
                    self._add("sessions", row.id, sealed(row))
                case CapabilityRow():
                    self._add("capabilities", row.id, sealed(row))
                case HandleRow():
                    self._add("handles", row.id, sealed(row))
                case ChannelRow():
                    self._add("channels", row.id, sealed(row))
                case GraphRow():
                    self._add_graph(row)
                case JobRow():
                    self._add("jobs", row.number, row.id, row.tenant, row.graph, sealed(row))
                case SliceRow():
                    self._add("slices", row.job, row.first, sealed(row))
                    self._add_packed(row, rows_of)
                case SnapshotRow():
                    self._add("snapshots", row.ticket, row.holder, sealed(row))
                    if row.of:
                        self.copies.append(row)
                    else:
                        self._add_bytes(
                            ("snapshot_bytes", row.ticket), 0, snapshot_of(row.ticket), row.size
                        )
                case CheckpointRow():
                    self._add(
                        "checkpoints", row.number, row.id, row.tenant, row.job.graph, sealed(row)
                    )
                case CopyRow():
                    self.copies.append(row)
                case EndRow():
                    self._add("ends", row.job, sealed(row))
                case FaultRow():
                    self._add("faults", row.id, sealed(row))
                case AuditRow():
                    self._add("audit", row.number, row.body, row.hash)
                case _:
                    assert_never(row)

    def _add(self, table: str, *values: Any) -> None:
        self.tables.setdefault(table, []).append(values)
        self.size += ROW_BYTES + len(values[-1])

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
        self.size += size
        if not isinstance(content, bytes):
            assert content.size == size
            self.regions.append((place, first_byte, content))
            return
        assert len(content) == size, "rows and snapshots come whole"
        table, whose = place
        for at in range(0, size, CHUNK_BYTES):
            piece = content[at : at + CHUNK_BYTES]
            self.tables.setdefault(table, []).append((whose, first_byte + at, piece))


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
