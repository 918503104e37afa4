"""Kept plans: found again, bounded, and never wrong whatever is on the disk."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from runtime.jit.planning.cache import Cache
from runtime.jit.planning.choose import Aims, NothingFits


def choice(number: int) -> NothingFits:
    return NothingFits(
        nearest=None,
        considered=[],
        left_out={"a": "b" * 100},
        aims=Aims(error_budget=0.1, shots=1 + number),
        machine="m",
    )


def key(number: int) -> str:
    return f"{number:064x}"


def test_what_was_put_is_got_and_nothing_else(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "plans")
    assert cache.get(key(1)) is None
    cache.put(key(1), choice(1))
    assert cache.get(key(1)) == choice(1)
    assert cache.get(key(2)) is None
    assert Cache(tmp_path / "plans").get(key(1)) == choice(1)


@pytest.mark.parametrize("cut", [0, 1, 31, 32, 33, 60, -1])
def test_a_file_that_is_cut_off_or_flipped_counts_as_absent_and_goes(
    tmp_path: Path, cut: int
) -> None:
    cache = Cache(tmp_path)
    cache.put(key(1), choice(1))
    (file,) = tmp_path.iterdir()
    raw = file.read_bytes()
    file.write_bytes(raw[:cut])
    assert cache.get(key(1)) is None
    assert not file.exists()
    flipped = bytearray(raw)
    flipped[cut] ^= 1
    file.write_bytes(flipped)
    assert cache.get(key(1)) is None


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, plans_max=4)
    for number in range(8):
        cache.put(key(number), choice(number))
        os.utime(tmp_path / f"{key(number)}.plan", (number, number))
    assert cache.get(key(0)) == choice(0), "which makes it the latest used"
    cache.sweep()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"{key(number)}.plan" for number in (0, 5, 6, 7)}
    small = Cache(tmp_path, bytes_max=10)
    small.put(key(9), choice(9))
    assert small.get(key(9)) is None, "larger than all there may be"


def test_a_folder_that_cannot_be_written_keeps_nothing_and_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "plans")
    cache.put(key(1), choice(1))
    assert cache.get(key(1)) is None


def test_many_writers_leave_whole_plans(tmp_path: Path) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        cache = Cache(tmp_path, plans_max=6)
        for turn in range(40):
            cache.put(key(turn % 8), choice(turn % 8))
            found = cache.get(key((turn + number) % 8))
            if found is not None and found != choice((turn + number) % 8):
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not list(tmp_path.glob("*.new"))
