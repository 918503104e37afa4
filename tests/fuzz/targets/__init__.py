"""The readers that are fuzzed, by name: each a module with the names of `Target`.

`check` raises AssertionError where an input shows a promise broken, and lets nothing else out but
what would be a defect of the reader too. It is deterministic, keeps nothing, and writes no file
that lasts.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Final, Protocol, cast

NAMES: Final = (
    "wire",
    "calls",
    "answers",
    "graph",
    "assembly",
    "snapshot",
    "configuration",
    "machine",
)


class Target(Protocol):
    """BYTES_MAX: of an input that is looked for. CODEC: how inputs are taken apart by whoever
    changes them (`mutate.py`). HEAD_BYTES: how many bytes of an input stand before that."""

    BYTES_MAX: int
    CODEC: str
    HEAD_BYTES: int

    def check(self, data: bytes) -> None:
        """Raises AssertionError where what is promised does not hold of this input."""

    def seeds(self) -> Iterable[bytes]:
        """Where to begin."""


def target(name: str) -> Target:
    """The target of that name. Its readers are imported now, and not before."""
    assert name in NAMES, name
    return cast(Target, importlib.import_module(f"{__name__}.{name}"))
