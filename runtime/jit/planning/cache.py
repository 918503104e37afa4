"""Plans on disk, by their keys: under $XDG_CACHE_HOME/qmkd/plans, bounded, for many writers.

A file is the SHA-256 of what follows and the choice as MessagePack. Each is written beside its
place and moved there at once, so a reader sees all of it or nothing. What is damaged, of another
version or unreadable counts as absent and is removed. Nothing here fails a plan: what cannot be
kept is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec

PLANS_MAX: Final = 256
BYTES_MAX: Final = 64 << 20
DIGEST_BYTES: Final = 32
SUFFIX: Final = ".plan"
SWEEP_EVERY: Final = 16


def folder() -> Path:
    """Where plans are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "qmkd" / "plans"


class Cache:
    """plans_max, bytes_max: of all files together; the longest unused go first."""

    def __init__(
        self,
        place: Path | None = None,
        *,
        plans_max: int = PLANS_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self.place = folder() if place is None else place
        self.plans_max = plans_max
        self.bytes_max = bytes_max
        self._puts = 0

    def get(self, key: str) -> Any:
        """The choice of that key, or None."""
        path = self._path(key)
        try:
            raw = path.read_bytes()
        except OSError:
            return None
        try:
            if hashlib.sha256(raw[DIGEST_BYTES:]).digest() != raw[:DIGEST_BYTES]:
                raise ValueError("its digest is another")
            choice = _decoder().decode(memoryview(raw)[DIGEST_BYTES:])
        except (ValueError, msgspec.MsgspecError):
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return choice

    def put(self, key: str, choice: Any) -> None:
        """Keep a choice, where that can be done."""
        body = msgspec.msgpack.encode(choice)
        if DIGEST_BYTES + len(body) > self.bytes_max:
            return
        with contextlib.suppress(OSError):
            self.place.mkdir(mode=0o700, parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(dir=self.place, prefix=key[:16], suffix=".new")
            try:
                with os.fdopen(number, "wb") as file:
                    file.write(hashlib.sha256(body).digest() + body)
                os.replace(name, self._path(key))
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                raise
        self._puts += 1
        if self._puts % SWEEP_EVERY == 1:
            self.sweep()

    def sweep(self) -> None:
        """Remove the longest unused beyond the bounds, and what writers left that are gone."""
        found = []
        with contextlib.suppress(OSError):
            for path in self.place.iterdir():
                with contextlib.suppress(OSError):
                    about = path.stat()
                    found.append((about.st_mtime, about.st_size, path))
        plans, size = 0, 0
        for _, bytes_, path in sorted(found, reverse=True):
            plans, size = plans + 1, size + bytes_
            if plans > self.plans_max or size > self.bytes_max:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _path(self, key: str) -> Path:
        return self.place / f"{key}{SUFFIX}"


def _decoder() -> Any:
    global _made
    if _made is None:
        from runtime.jit.planning.choose import Choice

        _made = msgspec.msgpack.Decoder(Choice)
    return _made


_made: Any = None
