"""The daemon's audit chain as it grows, read by the daemon's own program beside it.

Only `qmkd` knows its files, so its program reads them and prints lines that anybody may read
(`syscalls/audit.py`); whoever runs it needs to be the daemon's user, or root.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from runtime.attest.errors import Unavailable
from syscalls.audit import Entry, entry_of

CHUNK_BYTES = 1 << 16
WAIT_S = 5.0


class Feed:
    """A chain from the entry after `after` on. follow: go on as it grows, until `close`."""

    def __init__(self, state_dir: str | None, after: int, *, follow: bool) -> None:
        place = () if state_dir is None else (state_dir,)
        more = ("--follow",) if follow else ()
        command = [sys.executable, "-m", "qmkd.shell.store", "audit", "--after", str(after)]
        self._after = after
        self._process = subprocess.Popen(
            [*command, *more, *place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def batches(self) -> Iterator[list[Entry]]:
        """Entries, as many as there are at once. Raises Unavailable where it cannot be read."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        rest, place = b"", self._after
        while chunk := os.read(self._process.stdout.fileno(), CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                yield [entry_of(line, place + at) for at, line in enumerate(lines, 1)]
                place += len(lines)
        said = self._process.stderr.read().decode(errors="replace").strip()
        if self._process.wait() not in (0, -15):
            raise Unavailable(said or "The audit chain cannot be read.")

    def close(self) -> None:
        """End it; `batches` ends soon after."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
