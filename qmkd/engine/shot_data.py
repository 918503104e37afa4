"""What decoders knew of each shot, for those who mitigate: `syscalls.decoding.SHOT_COLUMNS`.

Histories of one shot are put together as the columns say: events and flips add up, and of gaps the
smallest counts, so the order in which they are found does not matter.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from syscalls.decoding import SHOT_COLUMNS, SHOT_COLUMNS_BYTES

DTYPE: Final = np.dtype([(column.name, column.type) for column in SHOT_COLUMNS])

ShotData = NDArray[Any]
"""Records of DTYPE, shape (shots,)."""

assert DTYPE.itemsize == SHOT_COLUMNS_BYTES
assert set(DTYPE.names or ()) == {"gap", "weight", "flips", "undecoded"}


def nothing(shots: int) -> ShotData:
    """Of shots of which nothing is known yet."""
    found: ShotData = np.zeros(shots, dtype=DTYPE)
    found["gap"] = np.inf
    return found


def add(into: ShotData, more: ShotData) -> None:
    """Put other histories of the same shots to those that are there."""
    for name in ("weight", "flips", "undecoded"):
        into[name] += more[name]
    into["gap"] = np.minimum(into["gap"], more["gap"])


def rows_of(data: ShotData) -> NDArray[np.uint8]:
    """As bytes, shape (shots, SHOT_COLUMNS_BYTES)."""
    return np.ascontiguousarray(data).view(np.uint8).reshape(len(data), SHOT_COLUMNS_BYTES)


def data_of(rows: NDArray[np.uint8], shots: int) -> ShotData:
    """The inverse of `rows_of`."""
    assert rows.shape == (shots, SHOT_COLUMNS_BYTES)
    return np.ascontiguousarray(rows).view(DTYPE).reshape(shots)
