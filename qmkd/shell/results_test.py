"""Rows: written in any order, sealed once, handed out so that nobody can change them."""

from __future__ import annotations

import base64
import mmap
import os

import pytest

from qmkd.shell.results import ROWS_HELD_BYTES_MAX, ROWS_KEPT_BYTES_MAX, Results

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
