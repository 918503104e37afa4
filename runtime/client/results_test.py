"""Packed rows against rows made by hand and against a slow reading of the layout."""

from __future__ import annotations

import base64
import os
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from runtime.client import errors
from runtime.client.conftest import DONE
from runtime.client.results import (
    ABSENT,
    ROWS_SHOWN_MAX,
    Result,
    no_longer,
    read_packed,
    results_digest,
)
from syscalls.ids import JobId
from syscalls.results import SHOT_BLOCK, EventField, ResultsReply, row_bytes, values_bytes


def test_a_result_with_probabilities_has_no_counts_and_no_samples() -> None:
    status = replace(DONE, counts=None, probabilities={"0": 0.25, "1": 0.75})
    result = Result(status, no_longer)
    assert result.probabilities == {"0": 0.25, "1": 0.75}
    with pytest.raises(errors.ResultsUnavailable, match="no shots"):
        _ = result.counts
    with pytest.raises(errors.ResultsUnavailable, match="no shots"):
        _ = result.samples
    console = Console(width=80, record=True)
    console.print(result)
    assert "0.750000000" in console.export_text()
    assert "exact, {'1': 0.75, '0': 0.25}" in repr(result)
    assert "0.750000000" in result._repr_html_()


def packed_slowly(samples: list[list[int]], order: list[EventField]) -> bytes:
    """The layout of `syscalls.results`, one bit at a time."""
    rows = b""
    for shot in samples:
        values, valid, at = 0, 0, 0
        for place, (value, event) in enumerate(zip(shot, order, strict=True)):
            if value != ABSENT:
                values |= value << at
                valid |= 1 << place
            at += event.bits
        rows += values.to_bytes(values_bytes(order), "little")
        rows += valid.to_bytes((len(order) + 7) // 8, "little")
    return rows


def reply_with(rows: bytes, order: list[EventField], shots: int) -> ResultsReply:
    width = row_bytes(order)
    leaves = b"".join(
        sha256(rows[first * width : (first + SHOT_BLOCK) * width]).digest()
        for first in range(0, shots, SHOT_BLOCK)
    )
    return ResultsReply(
        job_id=JobId("job_1"),
        shots=shots,
        order=order,
        values_bytes=values_bytes(order),
        row_bytes=width,
        data=base64.b64encode(rows).decode(),
        digest=sha256(leaves if width else b"").hexdigest(),
    )


def memory_file(data: bytes) -> int:
    fd = os.memfd_create("rows", os.MFD_CLOEXEC)
    os.write(fd, data)
    return fd


ORDER = [EventField(name="a", bits=1), EventField(name="b", bits=2), EventField(name="c", bits=1)]
BY_HAND = [[1, 2, 0], [0, 3, ABSENT], [ABSENT, ABSENT, 1]]
# Row 0: values a=1, b=2 (low bit 0, high bit 1), c=0: bits 1,0,1,0; all three valid.
# Row 1: a=0, b=3, c absent: bits 0,1,1,0; validity 1,1,0. Row 2: only c, at value bit 3.
ROWS_BY_HAND = bytes([0b0101, 0b111, 0b0110, 0b011, 0b1000, 0b100])


def test_rows_made_by_hand_unpack_to_their_samples() -> None:
    packed = read_packed(reply_with(ROWS_BY_HAND, ORDER, 3), None)
    assert packed_slowly(BY_HAND, ORDER) == ROWS_BY_HAND
    assert packed.unpack().tolist() == BY_HAND
    assert packed.counts() == {"--1": 1, "03-": 1, "120": 1}
    assert not packed.rows.flags.writeable


orders = st.lists(
    st.builds(EventField, name=st.text(max_size=3), bits=st.integers(1, 2)), max_size=20
)


@given(st.data())
def test_unpacking_undoes_a_slow_packing(data: st.DataObject) -> None:
    order = data.draw(orders)
    value = {1: st.sampled_from([0, 1, ABSENT]), 2: st.sampled_from([0, 1, 2, 3, ABSENT])}
    shot = st.tuples(*(value[event.bits] for event in order)).map(list)
    samples = data.draw(st.lists(shot, min_size=1, max_size=12))
    packed = read_packed(reply_with(packed_slowly(samples, order), order, len(samples)), None)
    assert packed.unpack().tolist() == samples
    keys = ["".join("-" if v == ABSENT else str(v) for v in shot) for shot in samples]
    assert packed.counts() == {key: keys.count(key) for key in sorted(set(keys))}


def test_rows_in_a_memory_file_are_mapped_and_the_descriptor_is_closed() -> None:
    shots = 3 * SHOT_BLOCK + 5
    rows = np.random.default_rng(5).integers(0, 8, size=(shots, 2), dtype=np.uint8).tobytes()
    fd = memory_file(rows)
    packed = read_packed(replace(reply_with(rows, ORDER, shots), data=None, fd=True), fd)
    assert packed.rows.tobytes() == rows
    assert not packed.rows.flags.writeable
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_the_digest_changes_with_any_row() -> None:
    rows = bytearray(2 * (SHOT_BLOCK + 1))
    digests = {results_digest(bytes(rows), 2)}
    for at in (0, 2 * SHOT_BLOCK - 1, 2 * SHOT_BLOCK, len(rows) - 1):
        rows[at] ^= 1
        digests.add(results_digest(bytes(rows), 2))
    assert len(digests) == 5


@pytest.mark.parametrize("by_fd", [False, True])
def test_rows_that_do_not_match_their_digest_or_size_are_refused(by_fd: bool) -> None:
    good = reply_with(ROWS_BY_HAND, ORDER, 3)
    for rows in (b"\0" * 6, ROWS_BY_HAND[:-1], ROWS_BY_HAND + b"\0", b""):
        fd = memory_file(rows) if by_fd else None
        data = None if by_fd else base64.b64encode(rows).decode()
        with pytest.raises(errors.ResultsCorrupt):
            read_packed(replace(good, data=data, fd=by_fd), fd)


def test_a_layout_that_contradicts_itself_is_refused() -> None:
    good = reply_with(ROWS_BY_HAND, ORDER, 3)
    for bad in (replace(good, row_bytes=3), replace(good, values_bytes=2), replace(good, order=[])):
        with pytest.raises(errors.ResultsCorrupt, match="layout"):
            read_packed(bad, None)
    for bad in (replace(good, data=None), replace(good, data="*")):
        with pytest.raises(errors.ResultsCorrupt):
            read_packed(bad, None)


def test_a_program_without_events_has_rows_of_no_width() -> None:
    packed = read_packed(reply_with(b"", [], 4), None)
    assert packed.unpack().shape == (4, 0)
    assert packed.counts() == {"": 4}


def test_counts_left_out_by_the_kernel_are_counted_from_the_samples() -> None:
    packed = read_packed(reply_with(ROWS_BY_HAND, ORDER, 3), None)
    result = Result(replace(DONE, counts=None), lambda: packed)
    assert result.counts == {"--1": 1, "03-": 1, "120": 1}
    assert result.event_names == ["a", "b", "c"]


def test_a_result_shows_itself_in_text_table_and_html() -> None:
    result = Result(DONE, no_longer)
    assert repr(result) == f"Result({DONE.job_id}, shots=3, {{'1-': 2, '01': 1}})"
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(result)
    text = console.export_text()
    console.file.close()
    assert "0.6667" in text
    assert "seed 7" in text
    assert "<code>1-</code></td><td>2</td>" in result._repr_html_()


def test_a_result_with_many_outcomes_sums_up_the_rare_ones() -> None:
    counts = {f"{n:06b}": 1 for n in range(64)}
    result = Result(replace(DONE, counts=counts), no_longer)
    assert f"{64 - ROWS_SHOWN_MAX} other outcomes" in result._repr_html_()
    assert "58 more outcomes" in repr(result)


def test_samples_after_the_end_of_the_session_say_what_to_do() -> None:
    with pytest.raises(errors.ResultsUnavailable, match=r"wait\(samples=True\)"):
        Result(DONE, no_longer).samples  # noqa: B018
