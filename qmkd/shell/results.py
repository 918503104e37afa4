"""The packed rows of jobs: collected from workers, sealed when complete, handed out read-only.

Rows of a small job lie in this process; those of a large one in a memory file that workers write
into at the place of each shot. Once sealed, rows never change; clients get descriptors of their own
that can only be read. What is in the store already, of an earlier daemon or of before a checkpoint,
stays there until the job is complete and somebody asks for its rows. How much a tenant may keep is
decided by the kernel; the layout of a row is in `syscalls.results`.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal

ROWS_HELD_BYTES_MAX = 64 * 1024  # larger while running: in a memory file
ROWS_READ_BYTES_MAX = 4 << 20  # of stored rows while everybody waits: some eight milliseconds
ROWS_KEPT_BYTES_MAX = 1 << 20  # larger once sealed: in a memory file, and holding a descriptor

Kind = Literal["packed", "decoder"]
"""Rows of events, or of what decoders knew of the shots."""
KINDS: Final[tuple[Kind, ...]] = ("packed", "decoder")

assert ROWS_HELD_BYTES_MAX <= ROWS_KEPT_BYTES_MAX <= ROWS_READ_BYTES_MAX

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Rows:
    """The rows of one job.

    in_memory: they came through the socket, and lie in `held`. fd: the memory file, while open.
    readers: how many regions of the file are still to be read; it stays open for them.
    """

    __slots__ = ("_unwanted", "fd", "held", "in_memory", "readers", "sealed", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.sealed = False
        self.readers = 0
        self._unwanted = False
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

    def put(self, pieces: Iterable[tuple[int, bytes]]) -> int:
        """Put back what is stored: (first byte, bytes). How many bytes that were."""
        found = 0
        for first_byte, piece in pieces:
            self.write(first_byte, piece)
            found += len(piece)
        return found

    def copied(self) -> Rows:
        """Others, which hold the same and may be written to. Raises OSError."""
        rows, at = Rows(self.size), 0
        try:
            if self.fd is None or rows.fd is None:
                rows.write(0, bytes(self.held))
                return rows
            while at < self.size:
                at += os.copy_file_range(self.fd, rows.fd, self.size - at, at, at)
        except OSError:
            rows.close()
            raise
        return rows

    def close(self) -> None:
        """Close the memory file, if there is one, once nobody reads of it."""
        self._unwanted = True
        if self.fd is not None and not self.readers:
            os.close(self.fd)
            self.fd = None

    def release(self) -> None:
        """One reader less."""
        self.readers -= 1
        assert self.readers >= 0
        if self._unwanted:
            self.close()


class Region:
    """A part of a job's memory file that is still to be read. Nothing writes there any more."""

    __slots__ = ("_fd", "_first_byte", "_rows", "size")

    def __init__(self, rows: Rows, first_byte: int, size: int) -> None:
        assert rows.fd is not None
        rows.readers += 1
        self._rows, self._fd, self._first_byte, self.size = rows, rows.fd, first_byte, size

    def read(self, at: int, size: int) -> bytes:
        """Bytes [at, at + size) of the region; from any thread, until released."""
        assert 0 <= at <= at + size <= self.size
        return os.pread(self._fd, size, self._first_byte + at)

    def release(self) -> None:
        """Nothing more will be read. From the loop's thread, once."""
        self._rows.release()


class Dropped(OSError):
    """The rows went while they were fetched."""


StoredRows = Callable[[str], Iterator[tuple[int, bytes]]]
"""job -> its stored rows, (first byte, bytes) piece by piece. Raises OSError where damaged."""

Fetched = Callable[[OSError | None], None]
"""Told later: the rows are there, or why they are not."""

FetchStored = Callable[[str, int, Fetched], None]
"""(job, descriptor, whom to tell): its stored rows are written into the file, and fill it."""


class Results:
    """The rows of all jobs that have any, of events and, where they are kept, of decoder data.

    Only those of events are ever stored; decoder data ends with the daemon.

    stored: job -> bytes of all its rows, for those of which an earlier daemon left some in the
    store. read_stored: how to get them there. fetch_stored: how to get those that are large.
    """

    def __init__(
        self,
        stored: Mapping[str, int] | None = None,
        read_stored: StoredRows | None = None,
        fetch_stored: FetchStored | None = None,
    ) -> None:
        self._rows: dict[tuple[str, Kind], Rows] = {}
        self._stored = dict(stored or {})
        self._lacking: dict[str, OSError] = {}
        self._read_stored = read_stored
        self._fetch_stored = fetch_stored
        self._fetching: dict[str, tuple[Rows, list[Fetched]]] = {}

    def rows(self, job_id: str, size: int, kind: Kind = "packed") -> Rows:
        """Where the job's rows go, with nothing in place of those that are stored; made at its
        first segment.

        Raises OSError out of descriptors, or where rows that came before could not be copied.
        """
        if job_id in self._lacking:
            raise self._lacking[job_id]
        rows = self._rows.get((job_id, kind))
        if rows is None:
            rows = self._rows[job_id, kind] = Rows(size)
        assert rows.size == size, "a job's rows have one size"
        return rows

    def region(self, job_id: str, first_byte: int, size: int) -> bytes | Region:
        """A part of the job's rows that never changes any more: itself, or where it is read."""
        rows = self._rows[job_id, "packed"]
        assert first_byte + size <= rows.size
        if rows.fd is not None:
            return Region(rows, first_byte, size)
        return bytes(rows.held[first_byte : first_byte + size])

    def seal(self, job_id: str) -> None:
        """All of the job's rows are there, and durable where there is a store."""
        stored = job_id in self._stored
        assert stored or (job_id, "packed") in self._rows, "what is sealed has rows, here or there"
        if stored and (job_id, "packed") in self._rows:
            # The store has the rows from before as well, which are not in here.
            self._rows.pop((job_id, "packed")).close()
        for kind in KINDS:
            if (job_id, kind) in self._rows:
                self._rows[job_id, kind].seal()

    def drop(self, job_id: str) -> None:
        """Forget the job's rows, if there are any. Descriptors handed out stay readable."""
        self._stored.pop(job_id, None)
        self._lacking.pop(job_id, None)
        for kind in KINDS:
            rows = self._rows.pop((job_id, kind), None)
            if rows is not None:
                rows.close()

    def copy(self, source: str, target: str) -> None:
        """Let what rows are there of one be those of another; each of them a job or a checkpoint.

        Where there is a store, it copies, and the target's rows are read there when they are
        needed. Where they cannot be copied, whoever asks for the target's is told why.
        """
        here = self._rows.get((source, "packed"))
        size = self._stored.get(source, 0) if here is None else here.size
        if self._read_stored is not None:
            if size:
                self._stored[target] = size
            return
        if source in self._lacking:
            self._lacking[target] = self._lacking[source]
        try:
            if here is not None:
                self._rows[target, "packed"] = here.copied()
        except OSError as error:
            self.drop(target)
            self._lacking[target] = error

    def base64(self, job_id: str, kind: Kind = "packed") -> str:
        """The sealed rows as text. Raises OSError as `descriptor` does."""
        rows = self._sealed(job_id, kind)
        content = rows.held if rows.fd is None else os.pread(rows.fd, rows.size, 0)
        return base64.b64encode(content).decode()

    def descriptor(self, job_id: str, kind: Kind = "packed") -> int:
        """A new read-only descriptor of a sealed memory file holding the rows.

        Its position is its own. Raises OSError out of descriptors, or where stored rows are
        damaged.
        """
        rows = self._sealed(job_id, kind)
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

    def fetch(self, job_id: str, fetched: Fetched) -> bool:
        """Begin to fetch the rows of a finished job, if they are large and only stored.

        Returns whether `fetched` will be told; while it is, and only if without an error,
        `descriptor` has them at hand. Raises OSError out of descriptors.
        """
        size = self._stored.get(job_id, 0)
        here = (job_id, "packed") in self._rows or size <= ROWS_READ_BYTES_MAX
        if here or self._fetch_stored is None:
            return False
        if job_id in self._fetching:
            self._fetching[job_id][1].append(fetched)
            return True
        rows = Rows(size)
        assert rows.fd is not None
        self._fetching[job_id] = (rows, [fetched])
        self._fetch_stored(job_id, rows.fd, lambda error: self._fetched(job_id, error))
        return True

    def _fetched(self, job_id: str, error: OSError | None) -> None:
        rows, waiting = self._fetching.pop(job_id)
        if error is None:
            rows.seal()
            self._rows[job_id, "packed"] = rows
        else:
            rows.close()
            if job_id not in self._stored:
                error = Dropped(errno.ENOENT, "the rows were dropped meanwhile")
        for fetched in waiting:
            fetched(error)
        if error is None and job_id not in self._stored:
            self.drop(job_id)  # it was dropped meanwhile; who had asked before has the rows

    def _sealed(self, job_id: str, kind: Kind) -> Rows:
        rows = self._rows.get((job_id, kind))
        if rows is None:
            assert kind == "packed", "decoder data is not stored"
            rows = self._load(job_id)
            rows.seal()
            self._rows[job_id, kind] = rows
        assert rows.sealed, "only complete rows are handed out"
        return rows

    def _load(self, job_id: str) -> Rows:
        """The stored rows of a complete job, at their places. Raises OSError."""
        assert self._read_stored is not None
        rows = Rows(self._stored[job_id])
        try:
            if rows.put(self._read_stored(job_id)) != rows.size:
                raise OSError(errno.EIO, "rows that were stored are not in the store")
        except BaseException:
            rows.close()
            raise
        return rows


def _memory_file(size: int) -> int:
    fd = os.memfd_create("qmk-rows", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
    except OSError:
        os.close(fd)
        raise
    return fd
