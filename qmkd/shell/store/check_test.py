"""What is damaged is found, by whoever reads it and by the check; the rest is served."""

from __future__ import annotations

import os
import random
import select
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import msgspec
import pytest

from qmkd.core.effects import Keep
from qmkd.core.records import EndRow, Gone, JobRow, SessionRow
from qmkd.shell.store import CannotOpen, Damaged, Store
from qmkd.shell.store.check import Report, check
from qmkd.shell.store.conftest import Keeper, Story, assert_holds, packed, rows_of
from qmkd.shell.store.rows import opened, sealed
from qmkd.shell.store.schema import APPLICATION_ID, MIGRATIONS, VERSION, open_to_write
from syscalls.ids import JobId, SessionId

ROOT = Path(__file__).parents[3]


def told(path: Path, seed: int = 11, count: int = 120) -> Story:
    """A database with a story in it, told until it has something of everything; closed."""
    keeper, story = Keeper(path), Story(seed)
    keeper.tell(story, count)
    while (
        len(with_rows(story)) < 2
        or not (story.ends and story.capabilities)
        or len(story.ends) == len(story.jobs)
        or not any(row.row_bytes for rows in story.copies.values() for row in rows)
        or not story.snapshots
    ):
        keeper.tell(story, 1)
    assert keeper.store.close()
    return story


def with_rows(story: Story) -> list[str]:
    """Jobs that have packed rows."""
    return [name for name in story.slices if story.slices[name][0].row_bytes]


def tampered(path: Path, *statements: str | tuple[str, object]) -> Report:
    db = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        if isinstance(statement, str):
            db.execute(statement)
        else:
            db.execute(statement[0], statement[1:])
    db.close()
    return check(path)


def places(report: Report) -> set[str]:
    assert report.ok == (not report.faults)
    return {fault.where for fault in report.faults}


def test_nothing_is_found_where_nothing_is_damaged_even_beside_a_daemon(path: Path) -> None:
    keeper, story = Keeper(path), Story(12)
    keeper.tell(story, 200)
    keeper.wait(200)
    report = check(path)
    assert report.faults == []
    assert report.checked["jobs"] == len(story.jobs)
    assert report.checked["audit entries"] == 200
    assert report.checked["packed bytes"] == sum(
        row.report.shots * row.row_bytes for name in story.slices for row in story.slices[name]
    )
    keeper.store.close()


WITH_ROWS = "(SELECT job FROM rows LIMIT 1)"
TAMPERINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "a bit of a session": ("sessions", ("UPDATE sessions SET body = body || x'00'",)),
    "a session's name": ("sessions", ("UPDATE sessions SET id = id || 'x'",)),
    "a bit of a capability": ("capabilities", ("UPDATE capabilities SET body = x'00'",)),
    "a capability's name": ("capabilities", ("UPDATE capabilities SET id = id || 'x'",)),
    "a bit of a graph": ("graphs", ("UPDATE graphs SET graph = graph || x'00'",)),
    "a graph's summary": ("graphs", ("UPDATE graphs SET body = substr(body, 1, 20)",)),
    "a graph's tenant": ("jobs", ("UPDATE graphs SET tenant = tenant || 'x'",)),
    "a bit of a job": ("jobs", ("UPDATE jobs SET body = x'00' || body",)),
    "a job's name": ("jobs", ("UPDATE jobs SET id = id || 'x'",)),
    "a slice that is gone": (
        "packed rows",
        (f"DELETE FROM slices WHERE job = {WITH_ROWS}",),
    ),
    "a slice's place": ("slices", ("UPDATE slices SET first = first + 100000",)),
    "a bit of a slice": ("slices", ("UPDATE slices SET body = x'ff' || body",)),
    "packed rows": ("packed rows", ("UPDATE rows SET bytes = zeroblob(length(bytes))",)),
    "packed rows cut": ("packed rows", ("UPDATE rows SET bytes = substr(bytes, 2)",)),
    "packed rows gone": ("packed rows", (f"DELETE FROM rows WHERE job = {WITH_ROWS}",)),
    "a bit of an end": ("ends", ("UPDATE ends SET body = substr(body, 2)",)),
    "a job that is gone": ("references", ("DELETE FROM jobs",)),
    "a bit of a checkpoint": ("checkpoints", ("UPDATE checkpoints SET body = x'00' || body",)),
    "a checkpoint's name": ("checkpoints", ("UPDATE checkpoints SET id = id || 'x'",)),
    "a checkpoint that is gone": ("references", ("DELETE FROM checkpoints",)),
    "a checkpoint's slice that is gone": ("packed rows", ("DELETE FROM checkpoint_slices",)),
    "a checkpoint's slice": ("slices", ("UPDATE checkpoint_slices SET body = x'ff' || body",)),
    "a checkpoint's rows": (
        "packed rows",
        ("UPDATE checkpoint_rows SET bytes = zeroblob(length(bytes))",),
    ),
    "a bit of a snapshot": (
        "snapshots",
        ("UPDATE snapshot_bytes SET bytes = zeroblob(length(bytes))",),
    ),
    "a snapshot cut": ("snapshots", ("UPDATE snapshot_bytes SET bytes = substr(bytes, 2)",)),
    "a snapshot's bytes gone": ("snapshots", ("DELETE FROM snapshot_bytes",)),
    "a snapshot's holder": ("snapshots", ("UPDATE snapshots SET holder = 'job_of_another'",)),
    "a snapshot's row": ("snapshots", ("UPDATE snapshots SET body = x'00' || body",)),
    "an audit entry": (
        "audit",
        ("DROP TRIGGER audit_is_not_changed", "UPDATE audit SET body = body || ' '"),
    ),
    "an audit entry that is gone": (
        "audit",
        ("DROP TRIGGER audit_is_not_shortened", "DELETE FROM audit WHERE number = 7"),
    ),
}


@pytest.mark.parametrize(("where", "statements"), TAMPERINGS.values(), ids=TAMPERINGS.keys())
def test_the_check_finds_what_was_tampered_with(
    path: Path, where: str, statements: tuple[str, ...]
) -> None:
    told(path)
    assert where in places(tampered(path, *statements))


def rewritten(path: Path, table: str, kind: type[msgspec.Struct], **changes: object) -> Report:
    """Change the body of a row, checksum and all."""
    db = sqlite3.connect(path, isolation_level=None)
    key, body = db.execute(f"SELECT rowid, body FROM {table} LIMIT 1").fetchone()
    row = msgspec.structs.replace(opened(body, kind, ""), **changes)
    db.execute(f"UPDATE {table} SET body = ? WHERE rowid = ?", (sealed(row), key))
    db.close()
    return check(path)


def test_a_body_that_says_something_else_than_its_place_is_found(path: Path) -> None:
    told(path)
    assert "jobs" in places(rewritten(path, "jobs", JobRow, tenant="eve"))
    assert "ends" in places(rewritten(path, "ends", EndRow, job="job_of_another"))


def test_the_audit_table_refuses_changes_and_deletions(path: Path) -> None:
    told(path)
    db = sqlite3.connect(path, isolation_level=None)
    for statement in (
        "UPDATE audit SET body = x''",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE number = 120",
        "INSERT INTO audit VALUES (1000, x'', x'')",
        "INSERT OR REPLACE INTO audit VALUES (1, x'', x'')",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            db.execute(statement)
    db.close()
    assert check(path).ok


# --- reading what is damaged --------------------------------------------------------------------


KEYS = {  # of tables without rowid
    "slices": ("job = ? AND first = ?", "job, first"),
    "checkpoint_slices": ("checkpoint = ? AND first = ?", "checkpoint, first"),
    "sessions": ("id = ?", "id"),
    "capabilities": ("id = ?", "id"),
}


@pytest.mark.parametrize(
    "table",
    [
        "sessions", "capabilities", "jobs", "slices", "ends", "graphs",
        "checkpoints", "checkpoint_slices", "snapshots",
    ],
)  # fmt: skip
def test_a_flipped_bit_in_any_body_is_found_at_the_start(path: Path, table: str) -> None:
    told(path)
    chance = random.Random(table)
    for _ in range(6):
        db = sqlite3.connect(path, isolation_level=None)
        names, keys = KEYS.get(table, ("rowid = ?", "rowid"))
        *key, body = chance.choice(db.execute(f"SELECT {keys}, body FROM {table}").fetchall())
        broken = bytearray(body)
        broken[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        db.execute(f"UPDATE {table} SET body = ? WHERE {names}", (bytes(broken), *key))
        db.close()
        with Store(path, kept=print, failed=print) as store, pytest.raises(Damaged):
            store.load()
        db = sqlite3.connect(path, isolation_level=None)
        db.execute(f"UPDATE {table} SET body = ? WHERE {names}", (body, *key))
        db.close()
    assert check(path).ok


def test_damaged_packed_rows_are_never_given_and_others_are(path: Path) -> None:
    story = told(path)
    names = with_rows(story)
    number = story.jobs[JobId(names[0])].number
    db = sqlite3.connect(path, isolation_level=None)
    (one,) = db.execute("SELECT bytes FROM rows WHERE job = ?", (number,)).fetchone()
    changed = bytes([one[0] ^ 1]) + one[1:]
    db.execute("UPDATE rows SET bytes = ? WHERE job = ? AND bytes = ?", (changed, number, one))
    db.close()
    with Store(path, kept=print, failed=print) as store:
        with pytest.raises(Damaged, match="leaves"):
            list(store.rows(names[0]))
        told_by_fetch: list[OSError | None] = []
        with tempfile.TemporaryFile() as file:
            store.fetch(names[0], file.fileno(), told_by_fetch.append)
            while not told_by_fetch:
                select.select([store], [], [])
                store.collect()
        assert isinstance(told_by_fetch[0], Damaged)
        for name in names[1:]:
            assert all(piece == packed(name, at, len(piece)) for at, piece in store.rows(name))


def test_a_graph_that_a_live_job_needs_is_proven_by_its_digest(path: Path) -> None:
    told(path)
    tampered(path, "UPDATE graphs SET graph = x'00' || substr(graph, 2)")
    with Store(path, kept=print, failed=print) as store, pytest.raises(Damaged, match="digest"):
        store.load()


def test_a_page_of_noise_is_refused_or_found_but_never_believed(path: Path) -> None:
    """Whichever page is overwritten: nothing that is read back differs from what was told."""
    story = told(path)
    whole, pages = path.read_bytes(), path.stat().st_size // 4096
    chance = random.Random(4)
    found = 0
    some = [*range(8), *chance.sample(range(8, pages), 16)]  # many of the latter are free
    for page in some:
        path.write_bytes(whole[: page * 4096] + chance.randbytes(4096) + whole[(page + 1) * 4096 :])
        try:
            with Store(path, kept=print, failed=print) as store:
                assert_holds(store, story)
        except (CannotOpen, Damaged):
            found += 1
        for extra in (path.with_name(path.name + end) for end in ("-wal", "-shm")):
            extra.unlink(missing_ok=True)
    assert found >= 8
    path.write_bytes(whole)
    assert check(path).ok


# --- versions and files that are not ours -------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(CannotOpen) as caught:
        Store(path, kept=print, failed=print)
    return str(caught.value)


def test_a_database_of_a_newer_daemon_is_refused_untouched(path: Path) -> None:
    told(path)
    tampered(path)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    before = path.read_bytes()
    assert f"schema {VERSION + 1}; this one knows {VERSION}" in refused(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.write_bytes(random.Random(1).randbytes(20_000)), "damaged"),
        (
            lambda path: sqlite3.connect(path).execute("CREATE TABLE a (b)").close(),
            "not a database of",
        ),
        (lambda path: path.mkdir(), "unable to open"),
    ],
    ids=["noise", "another program's", "a folder"],
)
def test_what_is_no_database_of_ours_is_refused_with_a_sentence(
    path: Path, make: Callable[[Path], object], why: str
) -> None:
    make(path)
    assert why in refused(path)
    assert str(path) in refused(path)


def test_a_folder_that_is_not_there_is_refused_with_a_sentence(tmp_path: Path) -> None:
    assert "No such file or directory" in refused(tmp_path / "none" / "qmkd.db")


def test_a_migration_is_done_whole_or_not_at_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = told(path)
    module = "qmkd.shell.store.schema"
    more = (*MIGRATIONS, ("CREATE TABLE more (a)", "CREATE TABLE more (a)"))
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.MIGRATIONS", more)
        patch.setattr(f"{module}.VERSION", VERSION + 1)
        assert "already exists" in refused(path)
    with Store(path, kept=print, failed=print) as store:
        assert_holds(store, story)
    good = (*MIGRATIONS, ("ALTER TABLE sessions ADD COLUMN more", "CREATE TABLE more (a)"))
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.MIGRATIONS", good)
        patch.setattr(f"{module}.VERSION", VERSION + 1)
        keeper = Keeper(path)
        assert_holds(keeper.store, story)
        story.new_run()
        keeper.tell(story, 20)
        keeper.store.close()
    assert f"schema {VERSION + 1}" in refused(path)


def test_the_file_is_made_as_decided(path: Path) -> None:
    db = open_to_write(path, "power")
    asked = {
        "journal_mode": "wal",
        "synchronous": 2,
        "auto_vacuum": 2,
        "foreign_keys": 1,
        "application_id": APPLICATION_ID,
        "user_version": VERSION,
    }
    assert {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in asked} == asked
    db.close()
    db = open_to_write(path, "process")
    assert db.execute("PRAGMA synchronous").fetchone() == (1,)
    db.close()


def test_the_file_grows_smaller_when_much_is_deleted(path: Path) -> None:
    story = told(path)
    keeper = Keeper(path)
    job = next(iter(story.jobs.values()))
    rows = tuple(
        SessionRow(id=SessionId(f"s{number}"), tenant="x" * 50_000, granted=(), opened_ns=0)
        for number in range(100)
    )
    keeper.store.keep(Keep(number=1, epoch=0, numbered=0, rows=rows), rows_of)
    keeper.wait(1)
    keeper.store.close()
    large = path.stat().st_size
    assert large > 5_000_000
    keeper = Keeper(path)
    gone = Gone(sessions=tuple(row.id for row in rows), results=(job.id,))
    keeper.store.keep(Keep(number=1, epoch=0, numbered=0, gone=gone), rows_of)
    keeper.store.keep(Keep(number=2, epoch=0, numbered=0), rows_of)
    keeper.wait(2)
    deadline = monotonic() + 30.0
    while keeper.store._writer.shrinking and monotonic() < deadline:
        sleep(0.01)
    keeper.store.close()
    assert path.stat().st_size < large / 2


# --- the command --------------------------------------------------------------------------------


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qmkd.shell.store", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def test_the_command_says_what_it_found_in_words_and_as_json(path: Path) -> None:
    told(path)
    fine = command("check", str(path.parent))
    assert (fine.returncode, fine.stderr) == (0, "")
    assert "Nothing is damaged." in fine.stdout
    tampered(path, "UPDATE ends SET body = x'00'")
    broken = command("check", "--json", QMKD_STATE_DIR=str(path.parent))
    assert broken.returncode == 1
    report = msgspec.json.decode(broken.stdout)
    assert not report["ok"]
    assert {fault["where"] for fault in report["faults"]} == {"ends"}
    missing = command("check", str(path.parent / "other"))
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "there is no such database" in missing.stderr


def test_the_command_prints_the_audit_chain(path: Path) -> None:
    story = told(path)
    printed = command("audit", str(path))
    assert printed.returncode == 0
    assert printed.stdout == "".join(
        f"{row.hash.hex()} {row.body.decode()}\n" for row in story.audit
    )
