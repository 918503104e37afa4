"""Copies within the database: from a job to a checkpoint and back, and of snapshots.

Bytes are never read by us, so a copy of large results costs no more than the disk takes; only the
slices, which name their holder, are written anew.
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

import msgspec

from qmkd.core.records import CopyRow, SliceRow, SnapshotRow
from qmkd.shell.store.rows import opened, sealed
from qmkd.shell.store.schema import Damaged
from syscalls.ids import CHECKPOINT_PREFIX


class Tables(NamedTuple):
    """Where holders of slices are, their slices, their packed rows; the column that names them."""

    holders: str
    slices: str
    rows: str
    column: str


JOBS: Final = Tables("jobs", "slices", "rows", "job")
CHECKPOINTS: Final = Tables("checkpoints", "checkpoint_slices", "checkpoint_rows", "checkpoint")


def tables_of(holder: str) -> Tables:
    """Of a job or a checkpoint, by its id."""
    return CHECKPOINTS if holder.startswith(CHECKPOINT_PREFIX) else JOBS


def prepare(db: sqlite3.Connection) -> None:
    """Before the first `copy` of a connection."""
    db.create_function("held_by", 2, _held_by, deterministic=True)


def copy(db: sqlite3.Connection, row: CopyRow | SnapshotRow) -> None:
    """Within a transaction; what is copied to has its row already."""
    if isinstance(row, SnapshotRow):
        db.execute(
            "INSERT INTO snapshot_bytes (ticket, first_byte, bytes) "
            "SELECT ?, first_byte, bytes FROM snapshot_bytes WHERE ticket = ?",
            (row.ticket, row.of),
        )
        return
    source, target = tables_of(row.source), tables_of(row.target)
    place = (
        f"FROM {source.holders} AS theirs, {target.holders} AS ours, {{}} AS held "
        f"WHERE theirs.id = ? AND ours.id = ? AND held.{source.column} = theirs.number"
    )
    db.execute(
        f"INSERT INTO {target.slices} ({target.column}, first, body) "
        f"SELECT ours.number, first, held_by(held.body, ours.id) {place.format(source.slices)}",
        (row.source, row.target),
    )
    db.execute(
        f"INSERT INTO {target.rows} ({target.column}, first_byte, bytes) "
        f"SELECT ours.number, first_byte, bytes {place.format(source.rows)}",
        (row.source, row.target),
    )


def _held_by(body: bytes, holder: str) -> bytes:
    """A slice's body under another holder. What is damaged stays so and is found later."""
    try:
        row = opened(body, SliceRow, "")
    except Damaged:
        return body
    return sealed(msgspec.structs.replace(row, job=holder))
