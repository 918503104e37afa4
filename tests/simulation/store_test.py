"""The simulated disk promises no more than the store keeps: both are told the same, and compared.

Whatever the kernel asks for in the simulated world goes into a real database as well, whenever the
simulated disk writes it. At each crash the database is closed, opened again and read.
"""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from qmkd.core.effects import Keep
from qmkd.core.records import Recovered, SliceRow
from qmkd.shell.store import Store
from tests.simulation import world
from tests.simulation.disk import Disk


class TwoDisks(Disk):
    """The simulated disk, and a database beside it. Packed rows are left out of both."""

    folder: Path
    all: list[TwoDisks]

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._path = self.folder / f"{len(self.all)}.db"
        self._store = self._open()
        self.compared = 0
        self.all.append(self)

    def _open(self) -> Store:
        return Store(self._path, "process", kept=lambda number: None, failed=_failed)

    def _apply(self, effect: Keep) -> None:
        super()._apply(effect)
        rows = tuple(_without_rows(row) if type(row) is SliceRow else row for row in effect.rows)
        self._store.keep(msgspec.structs.replace(effect, rows=rows), _no_rows)

    def load(self) -> Recovered:
        told = super().load()
        assert self._store.close()
        self._store = self._open()
        found = self._store.load()
        slices = tuple(_without_rows(row) for row in told.slices)
        assert _ordered(found) == _ordered(msgspec.structs.replace(told, slices=slices))
        self.compared += 1
        return told

    def close(self) -> None:
        assert self._store.close()


def _failed(what: str) -> None:
    raise AssertionError(what)


def _no_rows(job: str, first_byte: int, size: int) -> bytes:
    raise AssertionError("there are none")


def _without_rows(row: SliceRow) -> SliceRow:
    return msgspec.structs.replace(row, row_bytes=0)


def _ordered(recovered: Recovered) -> Recovered:
    """Where the order says nothing, a certain one."""
    return msgspec.structs.replace(
        recovered,
        sessions=tuple(sorted(recovered.sessions, key=lambda row: row.id)),
        capabilities=tuple(sorted(recovered.capabilities, key=lambda row: row.id)),
        handles=tuple(sorted(recovered.handles, key=lambda row: row.id)),
        channels=tuple(sorted(recovered.channels, key=lambda row: row.id)),
        graphs=tuple(sorted(recovered.graphs, key=lambda row: row.digest)),
        slices=tuple(sorted(recovered.slices, key=lambda row: (row.job, row.first))),
        ends=tuple(sorted(recovered.ends, key=lambda row: row.job)),
        faults=tuple(sorted(recovered.faults, key=lambda row: row.id)),
    )


def tell_both(
    seed: int, steps: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[TwoDisks]:
    monkeypatch.setattr(TwoDisks, "folder", folder, raising=False)
    monkeypatch.setattr(TwoDisks, "all", [], raising=False)
    monkeypatch.setattr(world, "Disk", TwoDisks)
    try:
        world.run(seed, steps)
    finally:
        for disk in TwoDisks.all:
            disk.close()
    return TwoDisks.all


def test_the_store_holds_what_the_simulated_disk_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = tell_both(2, 4_000, tmp_path, monkeypatch)
    assert sum(disk.compared for disk in disks) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_store_holds_what_the_simulated_disk_holds_for_long(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = tell_both(seed, 50_000, tmp_path, monkeypatch)
    assert sum(disk.compared for disk in disks) >= 5
