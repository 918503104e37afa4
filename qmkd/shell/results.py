"""The packed rows of jobs: collected from workers, sealed when complete, handed out read-only.

Rows of a small job lie in this process; those of a large one in a memory file that workers write
into at the place of each shot. Once sealed, rows never change; clients get descriptors of their own
that can only be read. How much a tenant may keep is decided by the kernel; the layout of a row is
in `syscalls.results`.
"""

from __future__ import annotations

import base64
import fcntl
import os
from typing import Final, Literal

ROWS_HELD_BYTES_MAX = 64 * 1024  # larger while running: in a memory file
ROWS_KEPT_BYTES_MAX = 1 << 20  # larger once sealed: in a memory file, and holding a descriptor

Kind = Literal["packed", "decoder"]
"""Rows of events, or of what decoders knew of the shots."""
KINDS: Final[tuple[Kind, ...]] = ("packed", "decoder")

assert ROWS_HELD_BYTES_MAX <= ROWS_KEPT_BYTES_MAX

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Rows:
    """The rows of one job.

    in_memory: they lie in `held`, and came through the socket. fd: the memory file, while open.
    """

    __slots__ = ("fd", "held", "in_memory", "sealed", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.sealed = False
        self.fd: int | None = None
        self.held: bytearray | bytes = b""
        self.in_memory = size <= ROWS_HELD_BYTES_MAX
        if self.in_memory:
            self.held = bytearray(size)
        else:
            self.fd = _memory_file(size)

    def write(self, first_byte: int, rows: bytes) -> None:
        """Put a segment's rows where they belong, which came through the socket.

        Raises OSError where the memory file cannot take them.
        """
        assert not self.sealed
        assert first_byte + len(rows) <= self.size, "rows end where the job's rows end"
        if isinstance(self.held, bytearray):
            self.held[first_byte : first_byte + len(rows)] = rows
            return
        assert self.fd is not None
        view = memoryview(rows)
        while view:
            written = os.pwrite(self.fd, view, first_byte)
            first_byte += written
            view = view[written:]

    def seal(self) -> None:
        """Let nothing change any more."""
        assert not self.sealed
        self.sealed = True
        if self.fd is None:
            self.held = bytes(self.held)
            return
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        if self.size <= ROWS_KEPT_BYTES_MAX:
            self.held = os.pread(self.fd, self.size, 0)
            self.close()

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Results:
    """The rows of all jobs that have any, of events and, where they are kept, of decoder data."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, Kind], Rows] = {}

    def rows(self, job_id: str, size: int, kind: Kind = "packed") -> Rows:
        """Where the job's rows go; made at its first segment. Raises OSError out of descriptors."""
        rows = self._rows.get((job_id, kind))
        if rows is None:
            rows = self._rows[job_id, kind] = Rows(size)
        assert rows.size == size, "a job's rows have one size"
        return rows

    def seal(self, job_id: str) -> None:
        """All of the job's rows are there."""
        assert (job_id, "packed") in self._rows
        for kind in KINDS:
            if (job_id, kind) in self._rows:
                self._rows[job_id, kind].seal()

    def drop(self, job_id: str) -> None:
        """Forget the job's rows, if there are any. Descriptors handed out stay readable."""
        for kind in KINDS:
            rows = self._rows.pop((job_id, kind), None)
            if rows is not None:
                rows.close()

    def base64(self, job_id: str, kind: Kind = "packed") -> str:
        """The sealed rows as text."""
        return base64.b64encode(self._sealed_bytes(job_id, kind)).decode()

    def descriptor(self, job_id: str, kind: Kind = "packed") -> int:
        """A new read-only descriptor of a sealed memory file holding the rows.

        Its position is its own. Raises OSError out of descriptors.
        """
        rows = self._rows[job_id, kind]
        assert rows.sealed, "only complete rows are handed out"
        if rows.fd is not None:
            return os.open(f"/proc/self/fd/{rows.fd}", os.O_RDONLY | os.O_CLOEXEC)
        fd = _memory_file(rows.size)
        try:
            os.pwrite(fd, rows.held, 0)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(fd)

    def close(self) -> None:
        for job_id, _ in list(self._rows):
            self.drop(job_id)

    def _sealed_bytes(self, job_id: str, kind: Kind) -> bytes:
        rows = self._rows[job_id, kind]
        assert rows.sealed, "only complete rows are handed out"
        if rows.fd is not None:
            return os.pread(rows.fd, rows.size, 0)
        return bytes(rows.held)


def _memory_file(size: int) -> int:
    fd = os.memfd_create("qmk-rows", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
    except OSError:
        os.close(fd)
        raise
    return fd
