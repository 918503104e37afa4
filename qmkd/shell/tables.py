"""The table of points measured here: kept in the state directory, handed to workers by name.

Workers make its text and read it; here it is bytes with a digest, which is its name. The file is
replaced whole, so that a crash leaves the old table or the new one. All tables of one life are
kept, because jobs go on with the one they began with; the kernel bounds how many there are.
"""

from __future__ import annotations

import logging
import os
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

FILE_NAME: Final = "calibration.jsonl"
ASIDE: Final = ".unread"
"""Behind the name of a file that could not be used, and is kept for whoever wants to know why."""
TABLE_BYTES_MAX: Final = 64 << 20
MEASURABLE: Final = {"Surface": 13, "BaconShor": 13}
"""Largest distances that are measured when asked for: within a minute, on most machines."""

_log = logging.getLogger("qmkd.tables")


class _Header(msgspec.Struct):
    """What must be known here of a table's first line."""

    format: int
    sha256: str


def shipped() -> _Header:
    """Of the calibration table that ships."""
    path = files("qmkd").joinpath("qec", "data", "calibration.jsonl")
    with path.open("rb") as file:
        return msgspec.json.decode(file.readline(), type=_Header)


def name_of(digest: str) -> str:
    return f"sha256:{digest}"


class Tables:
    """Those of this life. current: the name of the newest; "" while nothing was measured."""

    def __init__(self, folder: Path) -> None:
        """Reads what an earlier life left. Raises OSError where the file is there, unreadable."""
        self._path = folder / FILE_NAME
        self._texts: dict[str, bytes] = {}
        self.current = ""
        try:
            with open(self._path, "rb") as file:
                text = file.read(TABLE_BYTES_MAX + 1)
        except FileNotFoundError:
            return
        wrong = _wrong(text)
        if wrong:
            self._path.replace(self._path.with_name(FILE_NAME + ASIDE))
            _log.warning(
                "the table of points measured here is set aside, and made anew at need",
                extra={"file": str(self._path), "why": wrong},
            )
            return
        self._keep(text)

    def text(self, name: str) -> bytes:
        return self._texts[name]

    def extend(self, text: bytes) -> None:
        """Keep a table that has all of the current one and more; it is the current one now.

        Raises OSError where it cannot be written; it then serves this life only.
        """
        self._keep(text)
        beside = self._path.with_name(f"{FILE_NAME}.{os.getpid()}")
        with open(beside, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _keep(self, text: bytes) -> None:
        self.current = name_of(sha256(text).hexdigest())
        self._texts[self.current] = text


def _wrong(text: bytes) -> str:
    """What keeps a file's bytes from being a table, in words; "" if nothing does."""
    if len(text) > TABLE_BYTES_MAX:
        return f"it is longer than {TABLE_BYTES_MAX} bytes"
    first, _, body = text.partition(b"\n")
    try:
        header = msgspec.json.decode(first, type=_Header)
    except msgspec.DecodeError as error:
        return f"it has no header: {error}"
    if header.format != shipped().format:
        return f"it is of format {header.format}, not {shipped().format}"
    if header.sha256 != sha256(body).hexdigest():
        return "it is damaged: its entries do not have the digest that its header states"
    return ""
