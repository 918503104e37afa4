"""The writing thread: what is acknowledged is there, in order, whatever the disk does."""

from __future__ import annotations

import functools
import os
import resource
import select
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from random import Random
from time import sleep

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from qmkd.core.effects import Keep
from qmkd.core.records import Gone, GraphRow, JobRow, SessionRow
from qmkd.shell.store import Damaged, Durability, Store
from qmkd.shell.store.conftest import (
    ACK,
    Keeper,
    MemoryRegion,
    Story,
    assert_holds,
    rows_of,
    tell_until_killed,
)
from qmkd.shell.store.statements import LIGHT_JOBS_MAX
from qmkd.shell.store.writer import BEGUN_BYTES_MAX, COMMITTED_AT_ONCE, LOG_BYTES_MAX
from syscalls.ids import JobId, SessionId


def session(number: int, text: str = "") -> Keep:
    row = SessionRow(id=SessionId(f"s{number}"), tenant=text, granted=(), opened_ns=number)
    return Keep(number=number, epoch=number, numbered=number, rows=(row,))


def names(path: Path) -> list[str]:
    with Store(path, kept=print, failed=print) as store:
        return [row.id for row in store.load().sessions]


# --- order and completeness ---------------------------------------------------------------------


def test_a_new_database_holds_nothing_and_only_its_owner_may_read_it(
    keeper: Keeper, path: Path
) -> None:
    assert_holds(keeper.store, Story(0))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_was_told_is_found_again_by_the_next_daemon(path: Path) -> None:
    story = Story(1)
    for _ in range(3):
        keeper = Keeper(path)
        assert_holds(keeper.store, story)
        story.new_run()
        keeper.tell(story, 150)
        assert keeper.store.close()
        assert keeper.said[-1] == 150
        numbers = [one for one in keeper.said if isinstance(one, int)]
        assert numbers == keeper.said == sorted(numbers)
    keeper = Keeper(path)
    assert_holds(keeper.store, story)
    keeper.store.close()
    assert MemoryRegion.open == 0


@pytest.mark.parametrize("durability", ["power", "process"])
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32), parts=st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_any_story_told_in_any_batches_is_found_again(
    tmp_path_factory: pytest.TempPathFactory, durability: str, seed: int, parts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("store") / "qmkd.db"
    keeper, story = Keeper(path, durability=durability), Story(seed)
    for part in parts:
        keeper.tell(story, part)
        keeper.wait(story.told)
        assert keeper.store.backlog_bytes == 0
    assert_holds(keeper.store, story)
    keeper.store.close()


def test_rows_are_fetched_into_a_file_by_a_thread(keeper: Keeper) -> None:
    story = Story(1)
    keeper.tell(story, 150)
    keeper.wait(150)
    told: list[OSError | None] = []
    files = {name: os.memfd_create("rows") for name in story.slices}
    for name, fd in files.items():
        os.ftruncate(fd, sum(len(piece) for _, piece in keeper.store.rows(name)))
        keeper.store.fetch(name, fd, told.append)
    larger = os.memfd_create("rows")
    os.ftruncate(larger, 1 << 30)
    keeper.store.fetch(next(iter(files)), larger, told.append)
    while len(told) <= len(files):
        select.select([keeper.store], [], [])
        keeper.store.collect()
    os.close(larger)
    assert told[:-1] == [None] * len(files)
    assert isinstance(told[-1], Damaged), "rows that are not all there are not handed out"
    for name, fd in files.items():
        for at, piece in keeper.store.rows(name):
            assert os.pread(fd, len(piece), at) == piece
        os.close(fd)


def test_a_snapshot_is_fetched_into_a_file_by_a_thread_from_the_first_that_is_there(
    keeper: Keeper,
) -> None:
    story = Story(1)
    keeper.tell(story, 150)
    keeper.wait(150)
    told: dict[int, OSError | None] = {}
    missing = max(story.snapshots) + 1
    files = {ticket: os.memfd_create("snapshot") for ticket in (missing, *story.snapshots)}
    for ticket, fd in files.items():
        keeper.store.fetch_snapshot(
            (missing + 1, ticket, missing), fd, functools.partial(told.__setitem__, ticket)
        )
    while len(told) < len(files):
        select.select([keeper.store], [], [])
        keeper.store.collect()
    assert isinstance(told.pop(missing), OSError)
    assert set(told.values()) == {None}
    for ticket, row in story.snapshots.items():
        content = os.pread(files[ticket], row.size + 1, 0)
        assert (len(content), sha256(content).digest()) == (row.size, row.digest)
    for fd in files.values():
        os.close(fd)


def test_closing_says_so_to_those_whose_rows_are_not_fetched(path: Path) -> None:
    keeper, told = Keeper(path), list[OSError | None]()
    for _ in range(5):
        keeper.store.fetch("job", 0, told.append)
    keeper.store.close()
    assert len(told) == 5


def test_the_backlog_counts_what_is_queued_until_it_is_collected(keeper: Keeper) -> None:
    keeper.store.keep(session(1, "x" * 5000), rows_of)
    assert 5000 < keeper.store.backlog_bytes < 6000
    keeper.wait(1)
    assert keeper.store.backlog_bytes == 0


def test_many_queued_keeps_share_a_transaction(keeper: Keeper, path: Path) -> None:
    """Acknowledged numbers are those of transactions, so there are few of them."""
    blocker = locked(path)
    for number in range(1, 501):
        keeper.store.keep(session(number), rows_of)
    keeper.wait("locked")
    blocker.close()
    keeper.wait(500)
    assert len(keeper.said) <= 5, "one alone after the failure, then all others together"


def test_what_needs_no_flush_is_durable_at_once_and_told_when_it_is_asked_for(path: Path) -> None:
    keeper = Keeper(path, durability="process")
    keeper.store.keep(session(1), rows_of)
    keeper.wait(1)
    while keeper.store._writer.shrinking or not keeper.store._ours:
        select.select([keeper.store], [], [], 60.0)
        keeper.store.collect()
    keeper.store.keep(session(2), rows_of)
    found = keeper.store.load().sessions
    assert ([row.id for row in found], keeper.said) == (["s1", "s2"], [1])
    keeper.wait(2)
    keeper.store.close()


def test_a_round_that_brings_much_does_not_put_off_all_of_it_to_its_end(path: Path) -> None:
    put_off: list[Callable[[], None]] = []
    keeper = Keeper(path, durability="process", soon=put_off.append)
    for number in range(1, COMMITTED_AT_ONCE + 2):
        keeper.store.keep(session(number), rows_of)
    keeper.store.collect()
    assert keeper.said == [COMMITTED_AT_ONCE]
    put_off.pop(0)()
    keeper.store.collect()
    assert keeper.said == [COMMITTED_AT_ONCE, COMMITTED_AT_ONCE + 1]
    keeper.store.close()


@pytest.mark.parametrize("size", [200_000, BEGUN_BYTES_MAX + 1])
def test_a_log_that_nobody_flushes_is_moved_into_the_file_all_the_same(
    path: Path, size: int
) -> None:
    keeper, text = Keeper(path, durability="process"), "x" * size
    told = 4 * LOG_BYTES_MAX // len(text)
    for number in range(1, told + 1):
        row = SessionRow(id=SessionId(f"s{number % 9}"), tenant=text, granted=(), opened_ns=1)
        keeper.store.keep(Keep(number=number, epoch=1, numbered=1, rows=(row,)), rows_of)
        keeper.wait(number)
    assert path.with_name("qmkd.db-wal").stat().st_size < 2 * LOG_BYTES_MAX
    assert path.stat().st_size > 9 * len(text)
    keeper.store.close()


def test_the_log_of_a_daemon_that_was_killed_counts_for_the_next(path: Path) -> None:
    for life in range(6):
        keeper = Keeper(path, durability="process")
        for number in range(1, 31):
            row = SessionRow(
                id=SessionId(f"s{number % 9}"), tenant="x" * 100_000, granted=(), opened_ns=life
            )
            keeper.store.keep(Keep(number=number, epoch=1, numbered=1, rows=(row,)), rows_of)
            keeper.wait(number)
        log = path.with_name("qmkd.db-wal")
        assert log.stat().st_size < 2 * LOG_BYTES_MAX
        left = {each: each.read_bytes() for each in (path, log)}
        keeper.store.close()
        for each, content in left.items():
            each.write_bytes(content)


def kept_jobs(keeper: Keeper, count: int) -> list[JobId]:
    """So many jobs of one program, each with a slice."""
    story = Story(1)
    made = [row for _ in range(40) for row in story.next().rows]
    graph = next(row for row in made if isinstance(row, GraphRow))
    job = next(row for row in made if isinstance(row, JobRow))
    jobs = [
        replace(job, id=JobId(f"job_{number:026x}"), number=number, graph=graph.digest)
        for number in range(1, count + 1)
    ]
    keeper.store.keep(Keep(number=1, epoch=1, numbered=1, rows=(graph, *jobs)), rows_of)
    keeper.wait(1)
    while keeper.store._writer.shrinking or not keeper.store._ours:
        select.select([keeper.store], [], [], 60.0)
        keeper.store.collect()
    return [each.id for each in jobs]


@pytest.mark.parametrize("count", [LIGHT_JOBS_MAX, LIGHT_JOBS_MAX + 1])
def test_many_jobs_that_go_together_go_by_the_thread(path: Path, count: int) -> None:
    keeper = Keeper(path, durability="process")
    gone = Gone(jobs=tuple(kept_jobs(keeper, count)))
    keeper.store.keep(Keep(number=2, epoch=1, numbered=1, gone=gone), rows_of)
    assert keeper.store._ours == (count <= LIGHT_JOBS_MAX)
    keeper.wait(2)
    assert not keeper.store.load().jobs
    keeper.store.close()


def test_what_failed_on_the_loop_is_done_anew_by_the_thread(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(path, durability="process")
    (job,) = kept_jobs(keeper, 1)
    statements = keeper.store._writer.statements
    begun: list[object] = []
    commit, fails = statements.commit, [True]

    def fail_once() -> None:
        if fails:
            fails.clear()
            raise sqlite3.OperationalError("database or disk is full")
        commit()

    monkeypatch.setattr(statements, "commit", fail_once)
    monkeypatch.setattr(statements, "begin", begun.append)
    keeper.store.keep(session(2), rows_of)
    keeper.wait(2)
    assert not begun
    assert [row.id for row in keeper.store.load().jobs] == [job]
    assert [row.id for row in keeper.store.load().sessions] == ["s2"]
    keeper.store.close()


def test_jobs_that_go_without_a_flush_go_as_they_do_with_one(path: Path) -> None:
    """Light ones are deleted by the loop, others by the thread; nothing of either is left."""
    story, keeper = Story(12), Keeper(path, durability="process")
    for _ in range(400):
        keeper.tell(story, 1)
        keeper.wait(story.told)
    assert_holds(keeper.store, story)
    assert not keeper.store._writer.statements._slices.keys() - story.jobs.keys()
    keeper.store.close()


def test_a_session_kept_again_is_changed(keeper: Keeper) -> None:
    keeper.store.keep(session(1, "before"), rows_of)
    row = SessionRow(id=SessionId("s1"), tenant="after", granted=(), opened_ns=5)
    keeper.store.keep(Keep(number=2, epoch=1, numbered=1, rows=(row,)), rows_of)
    keeper.wait(2)
    assert keeper.store.load().sessions == (row,)


def test_a_mistake_of_the_kernel_breaks_the_daemon_and_not_the_database(path: Path) -> None:
    keeper, story = Keeper(path), Story(3)
    keeper.tell(story, 20)
    keeper.wait(20)
    entry = story.audit[-1]
    keeper.store.keep(Keep(number=21, epoch=99, numbered=21, rows=(entry,)), rows_of)
    with pytest.raises(sqlite3.IntegrityError):
        keeper.wait(21)
    keeper.store.close()
    keeper = Keeper(path)
    assert_holds(keeper.store, story)
    keeper.store.close()


# --- a disk that fails --------------------------------------------------------------------------


def locked(path: Path) -> sqlite3.Connection:
    """Another connection that holds the write lock until it is closed."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    return other


@pytest.mark.parametrize("durability", ["power", "process"])
def test_a_foreign_lock_delays_and_loses_nothing(path: Path, durability: str) -> None:
    keeper, story = Keeper(path, durability=durability), Story(5)
    keeper.tell(story, 10)
    keeper.wait(10)
    told_before = deepcopy(story)
    blocker = locked(path)
    keeper.tell(story, 10)
    keeper.wait("locked")
    assert keeper.kept == 10
    assert_holds(keeper.store, told_before)
    keeper.tell(story, 10)
    blocker.close()
    keeper.wait(30)
    assert keeper.said.count("locked") == 1, "said once until something is written"
    assert_holds(keeper.store, story)
    keeper.store.close()


def test_each_failure_is_told_anew_once_something_was_written(keeper: Keeper, path: Path) -> None:
    for number in (1, 2):
        blocker = locked(path)
        keeper.store.keep(session(number), rows_of)
        while keeper.said[-1:] != ["locked"]:
            assert select.select([keeper.store], [], [], 60.0)[0]
            keeper.store.collect()
        blocker.close()
        keeper.wait(number)
    assert keeper.said == ["locked", 1, "locked", 2]


@pytest.mark.parametrize(
    ("pragma", "undo", "what"),
    [
        ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000", "disk full"),
        ("PRAGMA query_only = ON", "PRAGMA query_only = OFF", "read-only"),
    ],
)
def test_nothing_is_lost_while_the_disk_is_full_or_read_only(
    keeper: Keeper, pragma: str, undo: str, what: str
) -> None:
    story = Story(6)
    keeper.tell(story, 40)
    keeper.wait(40)
    keeper.store._db.execute(pragma)
    keeper.store.keep(session(41, "x" * 3_000_000), rows_of)
    keeper.wait(what)
    keeper.store.keep(session(42), rows_of)
    assert keeper.kept == 40
    keeper.store._db.execute(undo)
    keeper.wait(42)
    assert {"s41", "s42"} <= {row.id for row in keeper.store.load().sessions}


def test_running_out_of_memory_inside_a_transaction_takes_it_back_and_tries_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, story = Keeper(path), Story(9)
    read, failures = MemoryRegion.read, [2]

    def read_or_fail(region: MemoryRegion, at: int, size: int) -> bytes:
        if failures[0]:
            failures[0] -= 1
            raise MemoryError
        return read(region, at, size)

    monkeypatch.setattr(MemoryRegion, "read", read_or_fail)
    keeper.tell(story, 80)
    keeper.wait(80)
    assert failures == [0]
    assert "out of memory" in keeper.said
    assert_holds(keeper.store, story)
    keeper.store.close()


@pytest.mark.parametrize("durability", ["power", "process"])
def test_a_commit_that_was_durable_though_it_failed_is_not_done_twice(
    path: Path, monkeypatch: pytest.MonkeyPatch, durability: str
) -> None:
    keeper, story = Keeper(path, durability=durability), Story(8)
    statements = keeper.store._writer.statements
    commit, failures = statements.commit, [2]

    def commit_and_fail() -> None:
        commit()
        if failures[0]:
            failures[0] -= 1
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

    monkeypatch.setattr(statements, "commit", commit_and_fail)
    keeper.tell(story, 30)
    keeper.wait(30)
    assert keeper.said[0] == "input/output error"
    assert_holds(keeper.store, story)
    keeper.store.close()


def test_a_file_that_may_not_grow_is_an_input_output_error_until_it_may(path: Path) -> None:
    keeper = Keeper(path)
    keeper.store.keep(session(1), rows_of)
    keeper.wait(1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        keeper.store.keep(session(2, "x" * 300_000), rows_of)
        keeper.store.keep(session(3), rows_of)
        keeper.wait("input/output error")
        assert keeper.kept == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    keeper.wait(3)
    keeper.store.close()
    assert names(path) == ["s1", "s2", "s3"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four mebibytes, where we may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full_delays_and_loses_nothing(small_disk: Path) -> None:
    keeper = Keeper(small_disk / "qmkd.db")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(3 << 20))
    for number in range(1, 31):
        keeper.store.keep(session(number, "x" * 50_000), rows_of)
    keeper.wait("disk full")
    assert keeper.kept < 30
    assert len(keeper.store.load().sessions) == keeper.kept, "reads go on"
    filler.unlink()
    keeper.wait(30)
    keeper.store.close()
    assert len(names(small_disk / "qmkd.db")) == 30


def test_closing_gives_up_on_a_disk_that_does_not_recover(path: Path) -> None:
    keeper = Keeper(path)
    keeper.store.keep(session(1), rows_of)
    keeper.wait(1)
    blocker = locked(path)
    for number in range(2, 5):
        keeper.store.keep(session(number), rows_of)
    assert not keeper.store.close(flush_s=0.6)
    blocker.close()
    assert names(path) == ["s1"]


# --- a process that is killed -------------------------------------------------------------------


def kill_rounds(path: Path, seed: int, rounds: int, durability: Durability = "power") -> int:
    """Kill a writer, look at what it left, go on from there. Returns how many Keeps it took."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["qmkd.shell.store.conftest"])
    story, chance = Story(seed), Random(seed)
    for _ in range(rounds):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=tell_until_killed, args=(path, story, theirs, durability))
        child.start()
        theirs.close()
        acked = ACK.unpack(os.read(ours.fileno(), ACK.size))[0]
        sleep(chance.expovariate(1 / 0.02))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        while answer := os.read(ours.fileno(), ACK.size):
            (acked,) = ACK.unpack(answer)
        ours.close()
        with Store(path, kept=print, failed=print) as store:
            durable = store.load().numbered - story.told
            assert durable >= acked, "what was acknowledged is there"
            story.new_run()
            for _ in range(durable):
                story.next()
            assert_holds(store, story)
    return story.told


@pytest.mark.parametrize("durability", ["power", "process"])
def test_a_killed_writer_loses_nothing_that_it_acknowledged(
    path: Path, durability: Durability
) -> None:
    assert kill_rounds(path, seed=1, rounds=8, durability=durability) >= 8


@pytest.mark.slow
def test_five_hundred_killed_writers_lose_nothing_that_they_acknowledged(path: Path) -> None:
    assert kill_rounds(path, seed=2, rounds=500) >= 500


@pytest.mark.slow
def test_nor_do_two_hundred_that_never_flush(path: Path) -> None:
    assert kill_rounds(path, seed=3, rounds=200, durability="process") >= 200
