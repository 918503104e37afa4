"""Rows: written in any order, sealed once, handed out so that nobody can change them."""

from __future__ import annotations

import base64
import errno
import mmap
import os
from collections.abc import Callable, Iterator

import pytest

from qmkd.shell.results import (
    ROWS_HELD_BYTES_MAX,
    ROWS_KEPT_BYTES_MAX,
    ROWS_READ_BYTES_MAX,
    Dropped,
    Region,
    Results,
)

SIZES = [1, ROWS_HELD_BYTES_MAX, ROWS_HELD_BYTES_MAX + 1, ROWS_KEPT_BYTES_MAX + 1]


def filled(size: int) -> tuple[Results, bytes]:
    results = Results()
    content = bytes(i * 7 % 251 for i in range(size))
    rows = results.rows("job", size)
    half = size // 2
    for first, part in ((half, content[half:]), (0, content[:half])):
        if rows.fd is None:
            rows.write(first, part)
        else:
            os.pwrite(rows.fd, part, first)
    results.seal("job")
    return results, content


@pytest.mark.parametrize("size", SIZES)
def test_rows_come_out_as_they_went_in_whatever_their_size(size: int) -> None:
    results, content = filled(size)
    assert base64.b64decode(results.base64("job")) == content
    fd = results.descriptor("job")
    assert os.read(fd, size + 1) == content
    os.close(fd)
    results.close()


@pytest.mark.parametrize("size", SIZES)
def test_a_descriptor_handed_out_can_only_be_read(size: int) -> None:
    results, content = filled(size)
    fd = results.descriptor("job")
    for attempt in (
        lambda: os.write(fd, b"x"),
        lambda: os.ftruncate(fd, 0),
        lambda: mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_WRITE),
        lambda: os.ftruncate(os.open(f"/proc/self/fd/{fd}", os.O_RDWR), 0),
    ):
        with pytest.raises(OSError):
            attempt()
    assert os.pread(fd, size, 0) == content
    os.close(fd)
    results.close()


def test_each_descriptor_has_a_position_of_its_own() -> None:
    results, content = filled(ROWS_KEPT_BYTES_MAX + 1)
    first, second = results.descriptor("job"), results.descriptor("job")
    assert os.read(first, 10) == os.read(second, 10) == content[:10]
    os.close(first)
    os.close(second)
    results.close()


def test_a_descriptor_outlives_the_rows() -> None:
    results, content = filled(ROWS_KEPT_BYTES_MAX + 1)
    fd = results.descriptor("job")
    results.drop("job")
    assert os.pread(fd, len(content), 0) == content
    os.close(fd)


def test_dropping_what_has_no_rows_is_nothing() -> None:
    Results().drop("job")


def test_decoder_data_lies_beside_the_rows_and_goes_with_them() -> None:
    for size in (12, ROWS_HELD_BYTES_MAX + 12):
        results = Results()
        results.rows("job", 1)
        data = results.rows("job", size, "decoder")
        data.write(size - 5, b"12345")
        results.seal("job")
        assert base64.b64decode(results.base64("job", "decoder")) == bytes(size - 5) + b"12345"
        fd = results.descriptor("job", "decoder")
        assert os.pread(fd, 5, size - 5) == b"12345"
        os.close(fd)
        results.drop("job")
        assert not results._rows


# --- with a store -------------------------------------------------------------------------------


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def content_of(size: int) -> bytes:
    return bytes(i * 7 % 251 for i in range(size))


class Shelf:
    """Stored rows of one job, in pieces; counts how often they are read."""

    def __init__(self, size: int, upto: int | None = None) -> None:
        self.content, self.reads = content_of(size)[:upto], 0

    def read(self, job_id: str) -> Iterator[tuple[int, bytes]]:
        assert job_id == "job"
        self.reads += 1
        for at in range(0, len(self.content), 50_000):
            yield at, self.content[at : at + 50_000]


@pytest.mark.parametrize("size", [0, *SIZES])
def test_rows_of_an_earlier_daemon_are_read_once_when_somebody_asks(size: int) -> None:
    shelf = Shelf(size)
    results = Results({"job": size}, shelf.read)
    results.seal("job")
    assert shelf.reads == 0
    fd = results.descriptor("job")
    assert os.read(fd, size + 1) == shelf.content
    with pytest.raises(OSError):
        os.write(fd, b"x")
    os.close(fd)
    assert base64.b64decode(results.base64("job")) == shelf.content
    assert shelf.reads == 1
    results.close()


@pytest.mark.parametrize("size", SIZES[1:])
def test_a_job_that_goes_on_leaves_what_is_stored_where_it_is_until_somebody_asks(
    size: int,
) -> None:
    shelf, before = Shelf(size), open_descriptors()
    results = Results({"job": size}, shelf.read)
    half = size // 2
    rows = results.rows("job", size)
    rows.write(half, content_of(size)[half:])
    region = results.region("job", half, size - half)
    content = region if isinstance(region, bytes) else region.read(0, region.size)
    assert content == content_of(size)[half:]
    if isinstance(region, Region):
        region.release()
    results.seal("job")
    assert (shelf.reads, open_descriptors()) == (0, before)
    assert base64.b64decode(results.base64("job")) == content_of(size)
    results.close()


def test_rows_that_are_not_all_stored_are_not_handed_out() -> None:
    results, before = Results({"job": 10}, Shelf(10, upto=9).read), open_descriptors()
    results.seal("job")
    with pytest.raises(OSError, match="not in the store"):
        results.base64("job")
    assert open_descriptors() == before


class Fetching:
    """Fetches when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, Callable[[OSError | None], None]]] = []

    def __call__(self, job_id: str, fd: int, fetched: Callable[[OSError | None], None]) -> None:
        self.asked.append((job_id, fd, fetched))


LARGE = ROWS_READ_BYTES_MAX + 1


def large() -> tuple[Results, Fetching, Shelf]:
    fetching, shelf = Fetching(), Shelf(LARGE)
    return Results({"job": LARGE, "small": 10}, shelf.read, fetching), fetching, shelf


def test_large_rows_of_an_earlier_daemon_are_fetched_once_for_all_who_wait() -> None:
    results, fetching, shelf = large()
    told: list[OSError | None] = []
    assert results.fetch("job", told.append)
    assert results.fetch("job", told.append)
    ((name, fd, fetched),) = fetching.asked
    os.pwrite(fd, shelf.content, 0)
    assert (name, told) == ("job", [])
    fetched(None)
    assert told == [None, None]
    assert not results.fetch("job", told.append), "they are at hand"
    copy = results.descriptor("job")
    assert os.read(copy, LARGE + 1) == shelf.content
    assert shelf.reads == 0
    os.close(copy)
    results.close()


def test_small_rows_and_those_of_this_daemon_are_not_fetched() -> None:
    results, fetching, _ = large()
    results.rows("new", LARGE)
    for job_id in ("small", "new"):
        assert not results.fetch(job_id, lambda error: None)
    assert fetching.asked == []
    results.close()


def test_rows_that_cannot_be_fetched_are_asked_for_anew() -> None:
    results, fetching, _ = large()
    told: list[OSError | None] = []
    for number in (1, 2):
        assert results.fetch("job", told.append)
        fetching.asked[-1][2](OSError(errno.EIO, "damaged"))
        assert len(told) == len(fetching.asked) == number
    assert all(isinstance(error, OSError) for error in told)


def test_rows_dropped_while_they_are_fetched_reach_those_who_asked_before() -> None:
    results, fetching, shelf = large()
    got: list[bytes] = []

    def answer(error: OSError | None) -> None:
        fd = results.descriptor("job")
        got.append(os.read(fd, LARGE))
        os.close(fd)

    assert results.fetch("job", answer)
    results.drop("job")
    assert not results.fetch("job", answer)
    os.pwrite(fetching.asked[0][1], shelf.content, 0)
    fetching.asked[0][2](None)
    assert got == [shelf.content]
    with pytest.raises(KeyError):
        results.descriptor("job")


def test_who_asked_for_rows_that_went_before_they_were_fetched_is_told_so() -> None:
    results, fetching, _ = large()
    told: list[OSError | None] = []
    assert results.fetch("job", told.append)
    results.drop("job")
    fetching.asked[0][2](OSError(errno.EIO, "missing"))
    (error,) = told
    assert isinstance(error, Dropped)


def test_damaged_rows_are_not_handed_out_and_leave_nothing_behind() -> None:
    def damaged(job_id: str) -> Iterator[tuple[int, bytes]]:
        yield 0, b"x" * 100
        raise OSError(errno.EIO, "damaged")

    results = Results({"job": 1 << 20}, damaged)
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(OSError, match="damaged"):
            results.descriptor("job")
    assert os.listdir("/proc/self/fd") == before
    results.close()


def test_what_was_dropped_is_not_read_again() -> None:
    shelf = Shelf(10)
    results = Results({"job": 10}, shelf.read)
    results.drop("job")
    with pytest.raises(KeyError):
        results.descriptor("job")
    assert shelf.reads == 0


@pytest.mark.parametrize("size", SIZES)
def test_a_region_is_read_as_it_was_whatever_becomes_of_the_job(size: int) -> None:
    results = Results()
    rows = results.rows("job", size)
    if rows.fd is None:
        rows.write(0, content_of(size))
    else:
        os.pwrite(rows.fd, content_of(size), 0)
    first, length = size // 3, size - size // 3
    region = results.region("job", first, length)
    other = results.region("job", 0, 1)
    results.seal("job")
    results.drop("job")
    if isinstance(region, bytes):
        assert region == content_of(size)[first:]
        return
    assert isinstance(other, Region)
    other.release()
    assert region.read(0, length) == content_of(size)[first:]
    assert region.read(length - 1, 1) == content_of(size)[-1:]
    assert rows.fd is not None
    region.release()
    assert rows.fd is None, "the last reader closes the file"


# --- copies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_copy_holds_what_was_there_and_goes_its_own_way(size: int) -> None:
    results, content = Results(), bytes(i * 7 % 251 for i in range(size))
    half = size // 2

    def write(name: str, first: int, part: bytes) -> None:
        results.rows(name, size).write(first, part)

    write("job", 0, content[:half])
    results.copy("job", "ckpt_1")
    write("job", half, bytes(size - half))
    results.drop("job")
    results.copy("ckpt_1", "again")
    results.drop("ckpt_1")
    write("again", half, content[half:])
    results.seal("again")
    assert base64.b64decode(results.base64("again")) == content
    results.close()


def test_nothing_is_copied_of_what_has_no_rows() -> None:
    results = Results()
    results.copy("job", "ckpt_1")
    results.drop("ckpt_1")
    assert results.rows("ckpt_1", 10).held == bytes(10)


def test_who_asks_for_a_copy_that_could_not_be_made_is_told_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    results = Results()
    results.rows("job", SIZES[-1])
    with monkeypatch.context() as patched:
        patched.setattr(os, "memfd_create", refuse)
        results.copy("job", "ckpt_1")
    results.copy("ckpt_1", "again")
    for name in ("ckpt_1", "again"):
        with pytest.raises(OSError, match="Too many open files"):
            results.rows(name, SIZES[-1])
    results.close()


def test_a_copy_of_what_is_stored_is_read_under_its_own_name_once_it_is_complete() -> None:
    stored: dict[str, bytes] = {"first": b"one two"}
    results = Results({"first": 10}, lambda name: iter([(0, stored[name])]))
    results.copy("first", "ckpt_1")
    results.drop("first")
    results.copy("ckpt_1", "job")
    results.drop("ckpt_1")
    results.rows("job", 10).write(7, b"six")
    assert results.region("job", 7, 3) == b"six"
    stored["job"] = stored.pop("first") + b"six"
    results.seal("job")
    assert base64.b64decode(results.base64("job")) == b"one twosix"
