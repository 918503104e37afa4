"""The chain of what was done with keys."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from runtime.signer.errors import RecordsDamaged, StorageFailed
from runtime.signer.keys import audit as audit_module
from runtime.signer.keys.audit import Audit, segments, verify


def _filled(folder: Path, count: int = 5) -> Audit:
    log = Audit(folder)
    for number in range(count):
        log.append("sign", 1000 + number, key="a-key", version=1, digest="00" * 32)
    log.flush(log.seq)
    return log


def test_entries_come_back_in_order_and_the_chain_holds_over_a_restart(tmp_path: Path) -> None:
    log = _filled(tmp_path)
    head = log.head
    log.close()
    again = Audit(tmp_path)
    assert (again.seq, again.head) == (5, head)
    assert [each.user for each in again.entries(2, 3)] == [1001, 1002, 1003]
    assert again.entries(6) == []
    assert again.verify() == 5


def test_every_single_byte_changed_is_found(tmp_path: Path) -> None:
    log = _filled(tmp_path, 2)
    seq, head = log.seq, log.head
    log.close()
    path = segments(tmp_path)[0]
    whole = path.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(RecordsDamaged):
            verify(tmp_path, seq, head)


def test_an_entry_taken_out_or_moved_is_found_and_one_cut_off_by_a_kept_head(
    tmp_path: Path,
) -> None:
    log = _filled(tmp_path)
    seq, head = log.seq, log.head
    log.close()
    path = segments(tmp_path)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    for changed in (lines[1:], lines[:2] + lines[3:], [lines[1], lines[0], *lines[2:]]):
        path.write_bytes(b"".join(changed))
        with pytest.raises(RecordsDamaged):
            verify(tmp_path)
    path.write_bytes(b"".join(lines[:-1]))
    assert verify(tmp_path) == 4
    with pytest.raises(RecordsDamaged, match="once had 5"):
        verify(tmp_path, seq, head)


def test_a_line_that_was_never_finished_is_cut_off(tmp_path: Path) -> None:
    log = _filled(tmp_path)
    head = log.head
    log.close()
    path = segments(tmp_path)[0]
    with open(path, "ab") as file:
        file.write(b'{"at":"2026')
    again = Audit(tmp_path)
    assert again.head == head
    again.append("sign", 1)
    assert again.verify() == 6


def test_a_full_disk_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = _filled(tmp_path)
    head, write = log.head, os.write

    def half(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[: len(data) // 2])

    def nothing(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    for failing in (half, nothing):
        monkeypatch.setattr(os, "write", failing)
        with pytest.raises(StorageFailed, match="No space"):
            log.append("sign", 1)
        monkeypatch.undo()
        assert (log.seq, log.head) == (5, head)
        assert log.verify() == 5
    log.append("sign", 1)
    assert log.verify() == 6


def test_further_files_carry_the_digests_of_records_so_that_one_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "SEGMENT_BYTES_MAX", 1000)
    log = Audit(tmp_path)
    log.append("create", 1, key="a-key", version=1, digest="11" * 32)
    for _ in range(20):
        log.append("sign", 1, key="a-key", version=1, digest="00" * 32)
    log.flush(log.seq)
    assert len(segments(tmp_path)) > 3
    seq, head, found = log.seq, log.head, log.entries()
    log.close()
    assert [each.seq for each in found] == list(range(1, seq + 1))
    assert verify(tmp_path, seq, head) == seq
    again = Audit(tmp_path)
    assert (again.seq, again.head, again.records) == (seq, head, {"a-key": "11" * 32})
    again.close()
    # A file that was begun when the power went holds nothing that anybody was told.
    (tmp_path / audit_module._name(seq + 1)).write_bytes(b'{"at"')
    assert Audit(tmp_path).head == head
    segments(tmp_path)[1].unlink()
    with pytest.raises(RecordsDamaged):
        verify(tmp_path)


def test_entries_of_many_threads_make_one_chain(tmp_path: Path) -> None:
    log = Audit(tmp_path)

    def use(user: int) -> None:
        for _ in range(20):
            log.flush(log.append("sign", user).seq)

    threads = [threading.Thread(target=use, args=(user,)) for user in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.verify() == 80
