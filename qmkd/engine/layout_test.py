"""Packing rows of bits natively: numbers that do not fit the buffers are refused, however large."""

from __future__ import annotations

import numpy as np
import pytest

from qmkd.engine.native import _layout

LARGEST = (1 << 63) - 1


def test_what_does_not_fit_the_buffers_is_refused() -> None:
    rows, into = np.zeros((5, 3), dtype=np.uint64), np.empty((130, 4), dtype=np.uint8)
    which = np.array([4, -1, 0], dtype=np.int32)
    _layout.pack(rows, 3, which, 130, into, 4, 3)
    for row_words, shots, stride, column in (
        (0, 130, 4, 0),
        (1 << 62, 130, 4, 0),
        (2, 130, 4, 0),
        (3, -1, 4, 0),
        (3, 193, 4, 0),
        (LARGEST, LARGEST, 4, 0),
        (3, 130, 5, 0),
        (3, 130, LARGEST, 0),
        (3, 130, -LARGEST, 0),
        (3, 128, 1 << 57, 0),
        (3, 130, 4, 4),
        (3, 130, 4, -1),
        (3, 130, 4, LARGEST),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            _layout.pack(rows, row_words, which, shots, into, stride, column)
    for row in (-2, 5, (1 << 31) - 1, -(1 << 31)):
        with pytest.raises(ValueError, match="do not fit"):
            _layout.pack(rows, 3, np.array([row], dtype=np.int32), 130, into, 4, 0)
