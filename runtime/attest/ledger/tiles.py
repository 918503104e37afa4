"""The log as files that anybody may read without asking: C2SP tlog-tiles.

`checkpoint`, `tile/<L>/<N>[.p/<W>]` with up to 256 hashes each, `tile/entries/<N>[.p/<W>]` with the
leaves. All are made from the database, so they may be lost and made again. Files are there, and on
the disk, before a checkpoint that needs them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime.attest.errors import NotAuthentic, NotThere
from runtime.attest.ledger.log import TILE_BITS, TILE_HASHES, Log
from runtime.attest.ledger.tree import HASH_BYTES, Reader, fold, leaf_hash

CHECKPOINT = "checkpoint"
LENGTH_BYTES = 2
FLUSHES = 16  # side by side


def tile_name(level: int | str, number: int, width: int = TILE_HASHES) -> str:
    """Its path. level: of a hash tile, or `entries`. width: of one that is not full."""
    parts = [f"{number % 1000:03d}"]
    while number := number // 1000:
        parts.insert(0, f"x{number % 1000:03d}")
    partial = "" if width == TILE_HASHES else f".p/{width}"
    return f"tile/{level}/{'/'.join(parts)}{partial}"


def publish(log: Log, folder: Path, old: int, checkpoint: str, size: int) -> None:
    """Write what is new since a log of `old` leaves, then the checkpoint, which is of `size`."""
    if old < size:
        first, last = old >> TILE_BITS, (size - 1) >> TILE_BITS
        for number in range(first, last + 1):
            begin = number << TILE_BITS
            leaves = log.leaves(begin, min(size, begin + TILE_HASHES))
            data = b"".join(len(e.data).to_bytes(LENGTH_BYTES, "big") + e.data for e in leaves)
            _put(folder, "entries", number, len(leaves), data)
    level, was, now = 0, old, size
    while was < now:
        for number in range(was >> TILE_BITS, ((now - 1) >> TILE_BITS) + 1):
            begin = number << TILE_BITS
            hashes = log.hashes(level, begin, min(now, begin + TILE_HASHES))
            _put(folder, level, number, len(hashes), b"".join(hashes))
        level, was, now = level + 1, was >> TILE_BITS, now >> TILE_BITS
    write_durably(folder / CHECKPOINT, checkpoint.encode())


def reader(folder: Path, size: int) -> Reader:
    """Hashes of subtrees from the files of a log of this size. Raises NotThere, NotAuthentic."""

    def read(level: int, number: int) -> bytes:
        tile_level, within = divmod(level, TILE_BITS)
        begin, end = number << within, (number + 1) << within
        tile, at = begin >> TILE_BITS, begin % TILE_HASHES
        known = (size >> (TILE_BITS * tile_level)) - (tile << TILE_BITS)
        data = _tile(folder, tile_level, tile, min(TILE_HASHES, known))
        if len(data) % HASH_BYTES:
            raise NotAuthentic(f"Tile {tile} of level {tile_level} is no row of hashes.")
        hashes = [data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)]
        chosen = hashes[at : at + end - begin]
        if len(chosen) != end - begin:
            raise NotAuthentic(f"Tile {tile} of level {tile_level} is too short.")
        return fold(chosen)

    return read


def entries(folder: Path, number: int, width: int) -> list[bytes]:
    """The leaves in one tile of them. Raises NotThere, NotAuthentic."""
    data, at, found = _tile(folder, "entries", number, width), 0, []
    while at < len(data):
        end = at + LENGTH_BYTES + int.from_bytes(data[at : at + LENGTH_BYTES], "big")
        if end > len(data) or at + LENGTH_BYTES > len(data):
            raise NotAuthentic(f"Entries {number} end in the middle of one.")
        found.append(data[at + LENGTH_BYTES : end])
        at = end
    if len(found) not in (width, TILE_HASHES):
        raise NotAuthentic(f"Entries {number} are {len(found)} instead of {width}.")
    return found[:width]


def leaf_hashes(folder: Path, size: int) -> list[bytes]:
    """Of every leaf in the files of a log of this size, made anew."""
    found: list[bytes] = []
    for number in range((size + TILE_HASHES - 1) >> TILE_BITS):
        width = min(TILE_HASHES, size - (number << TILE_BITS))
        found += map(leaf_hash, entries(folder, number, width))
    return found


def write_durably(path: Path, data: bytes) -> None:
    """All of it is at that path, and on the disk, or what was there before."""
    write_all(path.parent, {path.name: data})


def write_all(folder: Path, files: dict[str, bytes]) -> None:
    """The same of files of one folder, each by itself; it is made if it is not there."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _sync_folder(each.parent)
    written: dict[str, str] = {}
    try:
        for name, data in files.items():
            fd, written[name] = tempfile.mkstemp(prefix=".", dir=folder)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), 0o644)
        # Side by side, so that the file system can make one flush of many.
        with ThreadPoolExecutor(FLUSHES) as pool:
            list(pool.map(_sync_file, written.values()))
        for name, temporary in written.items():
            os.replace(temporary, folder / name)
    except BaseException:
        for temporary in written.values():
            Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(folder)


def _sync_file(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _put(folder: Path, level: int | str, number: int, width: int, data: bytes) -> None:
    path = folder / tile_name(level, number, width)
    write_durably(path, data)
    if width == TILE_HASHES:
        shutil.rmtree(path.parent / f"{path.name}.p", ignore_errors=True)


def _tile(folder: Path, level: int | str, number: int, width: int) -> bytes:
    """A tile, or the full one that has grown from it."""
    for wanted in (width, TILE_HASHES):
        try:
            data = (folder / tile_name(level, number, wanted)).read_bytes()
        except FileNotFoundError:
            continue
        return data
    raise NotThere(f"{folder / tile_name(level, number, width)}: there is no such tile.")


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
