"""Packed rows, as `syscalls.results` lays them out, to and from what the engines hold.

Of an event of two bits the low bit of its value comes first; the value is 2*m0 + m1, so that is m1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qmkd.engine.chance import Words
from qmkd.engine.prepared import ABSENT, Rows
from qvm.program import EventField

Packed = NDArray[np.uint8]
"""shape (shots, row_bytes)."""

FEW_EVENTS: Final = 64

# Exchange blocks of 1, 2 and 4 bits across the diagonal of an 8 x 8 matrix of bits in a word
# (Warren, Hacker's Delight, section 7-3).
_TURNS: Final = tuple(
    (np.uint64(shift), np.uint64(mask))
    for shift, mask in (
        (7, 0x00AA00AA00AA00AA),
        (14, 0x0000CCCC0000CCCC),
        (28, 0x00000000F0F0F0F0),
    )
)


def packed_row_bytes(events: Sequence[EventField]) -> int:
    """Bytes of a packed row."""
    return -(-sum(field.bits for field in events) // 8) + -(-len(events) // 8)


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


def pack_bits(values: Sequence[Words | None], ran: Sequence[Words | None], shots: int) -> Packed:
    """Bit rows, as `chance.pack` packs them and None for zeros, -> packed rows.

    values: one row per value bit, in row order; 0 where the event is absent. ran: one per event.
    """
    size = -(-len(values) // 8)
    packed = np.empty((-(-shots // 8) * 8, size + -(-len(ran) // 8)), dtype=np.uint8)
    turn_bits(values, packed[:, :size])
    turn_bits(ran, packed[:, size:])
    return packed[:shots]


def _places(events: Sequence[EventField]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Of each event: its first value bit, and whether it has two."""
    widths = np.array([field.bits for field in events], dtype=np.intp)
    return np.cumsum(widths) - widths, widths > 1


def turn_bits(rows: Sequence[Words | None], into: Packed) -> None:
    """Bit rows by event, None for zeros -> bytes by shot.

    into: shape (shots, in eights; ceil(len(rows) / 8)).
    """
    for column in range(into.shape[1]):
        eight = rows[8 * column : 8 * column + 8]
        block: Words | None = None
        for at, row in enumerate(eight):
            if row is not None:
                bits = row.view(np.uint8)[: len(into) // 8].astype("<u8")
                bits <<= np.uint64(8 * at)
                block = bits if block is None else block | bits
        if block is None:
            into[:, column] = 0
            continue
        for shift, mask in _TURNS:
            off = block >> shift
            off ^= block
            off &= mask
            block ^= off
            off <<= shift
            block ^= off
        into[:, column] = block.view(np.uint8)
