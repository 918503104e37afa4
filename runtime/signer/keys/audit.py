"""What was done with keys: a chain of lines, each of which holds the digest of the one before.

An entry is in the file before what it tells of is given out, so nothing is signed that the log does
not know. The chain shows that nothing was changed or taken out in the middle; that nothing was cut
off at the end shows only a head that was kept elsewhere (`qmkctl keys audit --head`).

Several threads may append: their entries go to the disk together, with one flush.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from runtime.signer.errors import RecordsDamaged, StorageFailed
from runtime.signer.keys.files import storing
from runtime.signer.keys.records import canonical, stamp

GENESIS = "0" * 64
SEGMENT_BYTES_MAX = 64 << 20
CARRIED = "segment"
"""Event of the first entry of each further file: the digests of all records, so that the start
needs to read the last file alone."""


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. digest: SHA-256, hexadecimal, of the message or of the record that came to be.

    user: uid of who asked. hash: SHA-256 of the canonical line without it.
    """

    seq: int
    at: str
    event: str
    user: int
    previous: str
    key: str = ""
    version: int = 0
    algorithm: str = ""
    digest: str = ""
    note: str = ""
    hash: str = ""


_decode = msgspec.json.Decoder(Entry).decode


def sealed(entry: Entry) -> Entry:
    """With its hash."""
    bare = canonical(msgspec.structs.replace(entry, hash=""))
    return msgspec.structs.replace(entry, hash=hashlib.sha256(bare).hexdigest())


class Audit:
    """The log of one signer. `records` is the newest digest of each key's record."""

    def __init__(self, folder: Path) -> None:
        """Opens the log and checks its last file. Raises RecordsDamaged, StorageFailed."""
        self._folder = folder
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._flushed = 0
        self.seq = 0
        self.head = GENESIS
        self.records: dict[str, str] = {}
        with storing(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        files = segments(folder)
        while len(files) > 1 and b"\n" not in files[-1].read_bytes():
            files.pop().unlink()  # begun, and its first entry never finished
        path = files[-1] if files else folder / _name(1)
        with storing(path):
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._file = os.open(path, flags, 0o600)
        self._size = self._read(path, is_first=len(files) <= 1)
        self._flushed = self.seq

    def close(self) -> None:
        os.close(self._file)

    def _read(self, path: Path, *, is_first: bool) -> int:
        """Take in a file; cut off a last line that was never finished, so never given out."""
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._file, whole)
        previous = GENESIS if is_first else None
        for entry in check(data[:whole].splitlines(), previous, str(path)):
            self._note(entry)
        return whole

    def _note(self, entry: Entry) -> None:
        self.seq, self.head = entry.seq, entry.hash
        if entry.event == CARRIED:
            self.records = msgspec.json.decode(entry.note, type=dict[str, str])
        elif entry.event in RECORD_EVENTS:
            self.records[entry.key] = entry.digest

    def append(
        self,
        event: str,
        user: int,
        *,
        key: str = "",
        version: int = 0,
        algorithm: str = "",
        digest: str = "",
        note: str = "",
    ) -> Entry:
        """Write an entry; `flush` makes it durable. Raises StorageFailed: nothing was written."""
        with self._lock:
            if self._size >= SEGMENT_BYTES_MAX:
                self._begin_segment()
            return self._write(
                Entry(
                    seq=self.seq + 1,
                    at=stamp(),
                    event=event,
                    user=user,
                    previous=self.head,
                    key=key,
                    version=version,
                    algorithm=algorithm,
                    digest=digest,
                    note=note,
                )
            )

    def _write(self, bare: Entry) -> Entry:
        entry = sealed(bare)
        line = canonical(entry) + b"\n"
        try:
            written = os.write(self._file, line)
            if written != len(line):
                raise OSError(28, os.strerror(28))  # ENOSPC: the rest found no room
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise StorageFailed(f"The audit log cannot be written: {error.strerror}.") from error
        self._size += len(line)
        self._note(entry)
        return entry

    def _begin_segment(self) -> None:
        path = self._folder / _name(self.seq + 1)
        with storing(path):
            os.fdatasync(self._file)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            file = os.open(path, flags, 0o600)
        os.close(self._file)
        self._file, self._size = file, 0
        note = canonical(self.records).decode()
        self._write(
            Entry(seq=self.seq + 1, at=stamp(), event=CARRIED, user=os.getuid(),
                  previous=self.head, note=note)
        )  # fmt: skip

    def flush(self, seq: int) -> None:
        """Return when the entry of this number is on the disk. Raises StorageFailed."""
        with self._flushing:
            if self._flushed >= seq:
                return
            with self._lock:
                upto, file = self.seq, os.dup(self._file)
            try:
                with storing(self._folder):
                    os.fdatasync(file)
            finally:
                os.close(file)
            self._flushed = upto

    def entries(self, since: int = 1, most: int = 1000) -> list[Entry]:
        """Entries from this number on, the oldest first."""
        files = segments(self._folder)
        later = [path for path in files[1:] if _first(path) <= since]
        found: list[Entry] = []
        for path in files[files.index(later[-1]) if later else 0 :]:
            for entry in _lines(path):
                if entry.seq >= since and entry.seq <= self.seq:
                    found.append(entry)
                    if len(found) == most:
                        return found
        return found

    def verify(self) -> int:
        """Check every file from the first entry on. Returns how many entries hold.

        Raises RecordsDamaged, which names the first that does not.
        """
        return verify(self._folder, self.seq, self.head)


RECORD_EVENTS = frozenset(("create", "rotate", "revoke", "restore", "rewrap"))
"""After which a key's record is another; `digest` is the record's then."""


def verify(folder: Path, seq: int | None = None, head: str | None = None) -> int:
    """Check a log that need not be open. seq, head: what its last entry has to be, if known."""
    previous, count = GENESIS, 0
    for path in segments(folder):
        data = path.read_bytes()
        for entry in check(data[: data.rfind(b"\n") + 1].splitlines(), previous, str(path)):
            previous, count = entry.hash, entry.seq
            if entry.seq == seq and head is not None and entry.hash != head:
                raise RecordsDamaged(f"{path}: entry {seq} is not the one whose head was kept.")
    if seq is not None and count < seq:
        raise RecordsDamaged(f"{folder} ends at entry {count}, and once had {seq}.")
    return count


def check(lines: list[bytes], previous: str | None, where: str) -> Iterator[Entry]:
    """The entries of lines that follow `previous`, any if None. Raises RecordsDamaged."""
    seq: int | None = 0 if previous == GENESIS else None
    for line in lines:
        try:
            entry = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RecordsDamaged(f"{where}: after entry {seq}: {error}.") from error
        fits = previous is None or entry.previous == previous
        in_order = seq is None or entry.seq == seq + 1
        if not fits or not in_order or sealed(entry) != entry or canonical(entry) != line:
            raise RecordsDamaged(f"{where}: entry {entry.seq} is not the one that was written.")
        previous, seq = entry.hash, entry.seq
        yield entry


def segments(folder: Path) -> list[Path]:
    """Its files, the oldest first."""
    return sorted(folder.glob("audit-*.jsonl"))


def _lines(path: Path) -> Iterator[Entry]:
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield _decode(line)


def _name(first: int) -> str:
    return f"audit-{first:012d}.jsonl"


def _first(path: Path) -> int:
    return int(path.stem.removeprefix("audit-"))
