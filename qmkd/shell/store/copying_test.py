"""What a checkpoint has is its own: it outlives its job, and jobs that go on from it outlive it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from qmkd.core.effects import Keep
from qmkd.core.records import Gone, Row, SliceRow
from qmkd.shell.store.conftest import Keeper, Story, assert_holds, rows_of, snapshot_of
from qmkd.shell.store.rows import opened, sealed
from qmkd.shell.store.schema import Damaged

TABLES = (
    "jobs", "slices", "rows", "checkpoints", "checkpoint_slices", "checkpoint_rows", "snapshots",
    "snapshot_bytes", "graphs",
)  # fmt: skip


class Teller:
    """Tells a store one happening of a story after another, each in a `Keep` of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.story = Story(3)
        self.keeper = Keeper(path)

    def tell(self, *happenings: Any) -> None:
        """A happening's rows; the session that each job is of goes with the first."""
        for happening in happenings:
            self.story.told += 1
            rows, gone = happening()
            self.keep(rows, Gone(**gone))

    def keep(self, rows: list[Row], gone: Gone) -> None:
        told = self.story.told
        keep = Keep(
            number=told,
            epoch=0,
            numbered=told,
            cycle=1000 * told,
            rows=tuple(rows),
            gone=gone,
        )
        self.keeper.store.keep(keep, rows_of, snapshot_of)

    def settled(self) -> None:
        """All is durable, and as it was told."""
        self.keeper.wait(self.story.told)
        assert_holds(self.keeper.store, self.story)

    def counted(self) -> dict[str, int]:
        db = sqlite3.connect(self.path)
        found = {
            table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES
        }
        db.close()
        return found


@pytest.fixture
def teller(path: Path) -> Any:
    found = Teller(path)
    yield found
    found.keeper.store.close()


def forget(story: Story, name: Any) -> Any:
    """The job is over, and then forgotten."""

    def happening() -> Any:
        story.slices.pop(name, None)
        story._drop_snapshots(name)
        story.ends.pop(name, None)
        del story.jobs[name], story.shots[name]
        return [], {"jobs": (name,)}

    return happening


@pytest.mark.parametrize("settles", [True, False])
def test_a_checkpoint_outlives_its_job_and_is_outlived_by_those_that_go_on_from_it(
    teller: Teller, settles: bool
) -> None:
    """Transaction by transaction, or all in as few as it comes to."""
    story = teller.story
    teller.tell(story._open, story._submit)
    (job,) = story.jobs
    story.shots[job] = (0, 90)  # rows that are read from a memory file
    teller.tell(story._run, story._run, story._park, story._checkpoint, story._run)
    (checkpoint,) = story.checkpoints
    assert len(story.slices[job]) == 3
    assert len(story.copies[checkpoint]) == 2, "what came later is not in it"
    steps = (forget(story, job), story._restore, story._forget_checkpoint)
    for step in steps:
        teller.tell(step)
        if settles:
            teller.settled()
    (again,) = story.jobs
    teller.tell(story._run)
    teller.settled()
    assert teller.keeper.store.graph(again)
    assert len(story.slices[again]) == 3
    teller.tell(forget(story, again))
    teller.settled()
    assert not any(teller.counted().values()), "nothing is left over"


def test_what_is_damaged_in_a_job_is_damaged_in_its_checkpoint_and_found_there(
    teller: Teller,
) -> None:
    story = teller.story
    teller.tell(story._open, story._submit)
    (job,) = story.jobs
    story.shots[job] = (0, 3)
    teller.tell(story._run)
    teller.keeper.wait(story.told)
    db = sqlite3.connect(teller.path, isolation_level=None)
    (body,) = db.execute("SELECT body FROM slices").fetchone()
    assert opened(body, SliceRow, "").job == job
    db.execute("UPDATE slices SET body = ?", (body[:-1] + bytes([body[-1] ^ 1]),))
    teller.tell(story._checkpoint)
    teller.keeper.wait(story.told)
    (checkpoint,) = story.checkpoints
    with pytest.raises(Damaged):
        list(teller.keeper.store.rows(checkpoint))
    db.execute("UPDATE slices SET body = ?", (body,))
    db.execute("UPDATE checkpoint_slices SET body = ?", (sealed(story.copies[checkpoint][0]),))
    db.close()
    teller.settled()
