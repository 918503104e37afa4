"""The folder of a run: rows, and by their SHA-256 all that they were made of.

    rows.parquet       the rows
    rows.jsonl         the same as they came, so that a run that was stopped goes on
    manifest.json      the suite, versions, digests
    histograms/        counts of every run of a row, gzip
    circuits/          circuit and observable
    calibrations/      what a backend said of itself
    timings.json       wall time, which is no part of any digest

A digest is of the content before compression. Nothing is overwritten with anything else.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.em.backends.backend import Calibration, Outcome
from harness.em.circuits.tasks import Task, digest, plain, plain_sum
from harness.em.records.rows import Row, read, write

LIBRARIES: Final = ("numpy", "scipy", "stim", "pymatching", "pyarrow", "qmkd")
CODE: Final = Path(__file__).parents[1]


class Damaged(Exception):
    """A folder does not hold what it says; says which file."""


class Folder:
    """One run's records."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, suite: Any) -> list[Row]:
        """Make the folder for this suite, or go on with it: the rows that are there.

        Raises Damaged where the folder holds another suite's rows.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        wanted = {
            "suite": msgspec.to_builtins(suite),
            "versions": versions(),
            "code": code_digest(),
        }
        told = self.path / "manifest.json"
        if not told.exists():
            self._write(told, _pretty(wanted))
            return self.kept()
        there = msgspec.json.decode(told.read_bytes())
        for key, name in (("suite", "suite"), ("versions", "libraries"), ("code", "code")):
            if there[key] != msgspec.json.decode(msgspec.json.encode(wanted[key])):
                raise Damaged(f"{self.path} holds a run with another {name}; name another folder.")
        return self.kept()

    def kept(self) -> list[Row]:
        """The rows that came so far; of a line that was cut short nothing is left."""
        path = self.path / "rows.jsonl"
        if not path.exists():
            return []
        *lines, cut = path.read_bytes().split(b"\n")
        if cut:
            with path.open("r+b") as file:
                file.truncate(file.seek(0, os.SEEK_END) - len(cut))
        return [msgspec.json.decode(line, type=Row) for line in lines]

    def add(self, row: Row) -> None:
        """Keep a row. What it names was kept before."""
        with (self.path / "rows.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(row) + b"\n")

    def end(self, rows: Sequence[Row], refused: Sequence[str], seconds: dict[str, float]) -> str:
        """Write the rows in their order, and what was refused; the SHA-256 of the rows' file."""
        manifest = msgspec.json.decode((self.path / "manifest.json").read_bytes())
        about = digest([manifest["suite"], manifest["versions"], manifest["code"]])
        write(rows, self.path / "rows.parquet", about)
        whole = hashlib.sha256((self.path / "rows.parquet").read_bytes()).hexdigest()
        manifest |= {"rows": len(rows), "rows_sha256": whole, "refused": sorted(refused)}
        self._write(self.path / "manifest.json", _pretty(manifest))
        self._write(self.path / "timings.json", _pretty(seconds))
        return whole

    def keep_outcomes(self, outcomes: Sequence[Outcome]) -> str:
        """Where the counts are kept, from the folder on."""
        raw = msgspec.json.encode(outcomes, order="deterministic")
        name = hashlib.sha256(raw).hexdigest()
        place = f"histograms/{name[:2]}/{name}.json.gz"
        self._put(place, gzip.compress(raw, mtime=0))
        return place

    def outcomes(self, place: str) -> list[Outcome]:
        """What was kept there, checked. Raises Damaged."""
        try:
            raw = gzip.decompress((self.path / place).read_bytes())
        except (OSError, EOFError) as error:
            raise Damaged(f"{place} cannot be read: {error}") from error
        if f"{hashlib.sha256(raw).hexdigest()}.json.gz" != Path(place).name:
            raise Damaged(f"{place} does not hold what its name says.")
        return msgspec.json.decode(raw, type=list[Outcome])

    def keep_task(self, task: Task) -> None:
        content = {"circuit": plain(task.circuit), "observable": plain_sum(task.observable)}
        raw = msgspec.json.encode(content, order="deterministic")
        self._put(f"circuits/{task.circuit_id}.json", raw)

    def keep_calibration(self, calibration: Calibration) -> None:
        raw = msgspec.json.encode(msgspec.to_builtins(calibration), order="deterministic")
        self._put(f"calibrations/{calibration.digest}.json", raw)

    def calibration(self, name: str) -> Calibration:
        """By its digest. Raises Damaged."""
        path = self.path / "calibrations" / f"{name}.json"
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Calibration)
        except (OSError, msgspec.MsgspecError) as error:
            raise Damaged(f"{path} cannot be read: {error}") from error
        if found.digest != name:
            raise Damaged(f"{path} does not hold what its name says.")
        return found

    def manifest(self) -> dict[str, Any]:
        """Raises Damaged where there is none, or no rows yet, or others than it names."""
        try:
            found = msgspec.json.decode(
                (self.path / "manifest.json").read_bytes(), type=dict[str, Any]
            )
            rows = (self.path / "rows.parquet").read_bytes()
        except (OSError, msgspec.MsgspecError) as error:
            raise Damaged(f"{self.path} holds no finished run: {error}") from error
        if hashlib.sha256(rows).hexdigest() != found.get("rows_sha256"):
            raise Damaged(f"{self.path}/rows.parquet is not what manifest.json names.")
        return found

    def rows(self) -> list[Row]:
        """Of a finished run, checked. Raises Damaged."""
        self.manifest()
        return read(self.path / "rows.parquet")

    def _put(self, place: str, raw: bytes) -> None:
        path = self.path / place
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(path, raw)

    def _write(self, path: Path, raw: bytes) -> None:
        """All of it or nothing."""
        beside = path.with_name(path.name + ".new")
        beside.write_bytes(raw)
        beside.replace(path)


def versions() -> dict[str, str]:
    """Of all that numbers may depend on; empty where a library is not installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def code_digest() -> str:
    """SHA-256 over the sources that make numbers: `harness/em`, tests left out."""
    found = hashlib.sha256()
    for path in sorted(CODE.rglob("*")):
        if path.suffix in (".py", ".json") and not path.stem.endswith("_test"):
            found.update(path.relative_to(CODE).as_posix().encode() + b"\0")
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def _pretty(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"
