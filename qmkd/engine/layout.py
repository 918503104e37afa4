"""Packed rows, as `syscalls.results` lays them out, to and from what the engines hold.

Of an event of two bits the low bit of its value comes first; the value is 2*m0 + m1, so that is m1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qmkd.engine.chance import Words
from qmkd.engine.native import _layout
from qmkd.engine.prepared import ABSENT, Rows
from qvm.program import EventField
from syscalls.results import SHOT_BLOCK

Packed = NDArray[np.uint8]
"""shape (shots, row_bytes)."""

FEW_EVENTS: Final = 64
CHUNK_BYTES: Final = 32 << 20  # packed rows at a time
CHUNK_SHOTS_MAX: Final = 1 << 16

assert CHUNK_SHOTS_MAX % SHOT_BLOCK == 0


def packed_row_bytes(events: Sequence[EventField]) -> int:
    """Bytes of a packed row."""
    return -(-sum(field.bits for field in events) // 8) + -(-len(events) // 8)


def chunk_shots(row_bytes: int, most: int) -> int:
    """Shots whose rows are held at a time: a power of two, so blocks are never torn."""
    most = max(1, min(most, CHUNK_BYTES // max(1, row_bytes)))
    return 1 << most.bit_length() - 1


def pack_rows(rows: Rows, events: Sequence[EventField]) -> Packed:
    """Rows of 0..3 and ABSENT -> packed rows."""
    ran = rows != ABSENT
    if any(field.bits > 1 for field in events):
        first, wide = _places(events)
        bits = np.zeros((len(rows), len(events) + int(wide.sum())), dtype=np.bool_)
        bits[:, first] = (rows & 1).astype(np.bool_) & ran
        bits[:, first[wide] + 1] = (rows[:, wide] & 2).astype(np.bool_) & ran[:, wide]
    else:
        bits = rows == 1
    parts = [np.packbits(part, axis=1, bitorder="little") for part in (bits, ran)]
    return np.concatenate(parts, axis=1)


def unpack_rows(packed: Packed, events: Sequence[EventField]) -> Rows:
    """The inverse of `pack_rows`."""
    first, wide = _places(events)
    bits = len(events) + int(wide.sum())
    values = np.unpackbits(packed[:, : -(-bits // 8)], axis=1, count=bits, bitorder="little")
    rows = values[:, first]
    rows[:, wide] += values[:, first[wide] + 1] << np.uint8(1)
    ran = np.unpackbits(packed[:, -(-bits // 8) :], axis=1, count=len(events), bitorder="little")
    rows[ran == 0] = ABSENT
    return rows


def unpack_row(row: bytes, events: Sequence[EventField]) -> list[int]:
    """One packed row: the value of each event, or ABSENT. Without NumPy's overhead where short."""
    if len(events) > FEW_EVENTS:
        found: list[int] = unpack_rows(np.frombuffer(row, dtype=np.uint8)[None], events)[0].tolist()
        return found
    values_bytes = len(row) - -(-len(events) // 8)
    values = int.from_bytes(row[:values_bytes], "little")
    ran = int.from_bytes(row[values_bytes:], "little")
    out = []
    for field in events:
        out.append(values & (1 << field.bits) - 1 if ran & 1 else ABSENT)
        values >>= field.bits
        ran >>= 1
    return out


def pack_bits(
    rows: Words, values: Sequence[int | None], ran: Sequence[int | None], shots: int
) -> Packed:
    """Rows of bits by event -> packed rows.

    rows: uint64, shape (rows, words), bit i % 64 of word i // 64 being shot i. values: the row of
    each value bit, in row order, 0 where the event is absent. ran: of each event. None is no shot.
    """
    size = -(-len(values) // 8)
    packed: Packed = np.empty((shots, size + -(-len(ran) // 8)), dtype=np.uint8)
    for column, chosen in ((0, values), (size, ran)):
        which = np.array([-1 if row is None else row for row in chosen], dtype=np.int32)
        _layout.pack(rows, rows.shape[1], which, shots, packed, packed.shape[1], column)
    return packed


def distinct(packed: Packed, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Of each different packed row where it stands first, and how often it occurs.

    In the order in which they first occur; None where there are more than `most`.
    """
    shots, size = packed.shape
    if size == 0:
        return np.zeros(1, dtype=np.int64), np.array([shots], dtype=np.int64)
    room = min(most, shots)
    first, number = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    slots = np.empty(1 << (2 * room - 1).bit_length(), dtype=np.int32)
    found = _layout.count(np.ascontiguousarray(packed), size, first, number, slots)
    return None if found < 0 else (first[:found], number[:found])


def _places(events: Sequence[EventField]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Of each event: its first value bit, and whether it has two."""
    widths = np.array([field.bits for field in events], dtype=np.intp)
    return np.cumsum(widths) - widths, widths > 1
