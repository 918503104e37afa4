"""What is said of packed rows as they come: how often each occurs, and the hashes of their blocks.

Portions may be cut anywhere; what comes out does not depend on it.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

from qmkd.engine.layout import FEW_EVENTS, Packed, distinct, unpack_row, unpack_rows
from qmkd.engine.prepared import ABSENT
from qvm.program import EventField
from syscalls.results import COUNTS_CHARS_MAX, COUNTS_KEYS_MAX, SHOT_BLOCK

_CHARACTERS: Final = np.full(256, ord("-"), dtype=np.uint8)
_CHARACTERS[:4] = np.frombuffer(b"0123", dtype=np.uint8)
_CHARACTER: Final = _CHARACTERS.tobytes().decode("ascii")


def outcomes_max(events: int) -> int:
    """How many different rows are told of by their keys."""
    return min(COUNTS_KEYS_MAX, COUNTS_CHARS_MAX // max(1, events))


def named(events: tuple[EventField, ...], packed: Packed) -> dict[str, int]:
    """The only row of `packed` by event name, absent events left out."""
    row = unpack_row(packed.tobytes(), events)
    return {field.name: value for field, value in zip(events, row, strict=True) if value != ABSENT}


class Leaves:
    """Hashes packed rows by blocks of SHOT_BLOCK, whatever the portions in which they come."""

    def __init__(self) -> None:
        self._done: list[bytes] = []
        self._hash = hashlib.sha256()
        self._rows = 0

    def add(self, packed: Packed) -> None:
        at = 0
        while at < len(packed):
            part = packed[at : at + SHOT_BLOCK - self._rows]
            self._hash.update(np.ascontiguousarray(part).data if part.size else b"")
            self._rows += len(part)
            at += len(part)
            if self._rows == SHOT_BLOCK:
                self._close()

    def finish(self) -> bytes:
        if self._rows:
            self._close()
        return b"".join(self._done)

    def _close(self) -> None:
        self._done.append(self._hash.digest())
        self._hash = hashlib.sha256()
        self._rows = 0


class Counting:
    """How often each row occurs, keyed as on the wire; gives up where keys get too many."""

    def __init__(self, events: tuple[EventField, ...]) -> None:
        self._events = events
        self._keys_max = outcomes_max(len(events))
        self._total: dict[str, int] | None = {}

    def add(self, packed: Packed) -> None:
        if self._total is None:
            return
        found = distinct(packed, self._keys_max)
        if found is None:
            self._total = None
            return
        example, numbers = found
        total = self._total
        for key, number in zip(self._keys(packed[example]), numbers.tolist(), strict=True):
            total[key] = total.get(key, 0) + number
        if len(total) > self._keys_max:
            self._total = None

    def _keys(self, packed: Packed) -> list[str]:
        """Each row as it is keyed on the wire."""
        rows, size = len(packed), len(self._events)
        if rows * size <= FEW_EVENTS:
            values = [unpack_row(row.tobytes(), self._events) for row in packed]
            return ["".join(map(_CHARACTER.__getitem__, row)) for row in values]
        text = _CHARACTERS[unpack_rows(packed, self._events)].tobytes().decode("ascii")
        return [text[at * size : (at + 1) * size] for at in range(rows)]

    def result(self) -> dict[str, int] | None:
        """Sorted by key."""
        return None if self._total is None else dict(sorted(self._total.items()))
