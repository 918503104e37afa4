"""The table in the state directory survives, is replaced whole, and is set aside if it is none."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from qmkd.qec.calibration import Table, encode
from qmkd.qec.data import calibration
from qmkd.shell.tables import ASIDE, FILE_NAME, Tables, name_of, shipped


def text(entries: int) -> bytes:
    """A table of so many entries, taken from the one that ships."""
    return encode(Table(list(calibration().entries.values())[:entries], {"x": "1"}), "a test")


def test_what_was_measured_is_found_again_under_the_same_name(tmp_path: Path) -> None:
    tables = Tables(tmp_path)
    assert tables.current == ""
    tables.extend(text(2))
    early = tables.current
    tables.extend(text(4))
    assert tables.text(early) == text(2)
    assert tables.current == name_of(sha256(text(4)).hexdigest()) != early
    assert os.listdir(tmp_path) == [FILE_NAME]
    again = Tables(tmp_path)
    assert again.current == tables.current
    assert again.text(again.current) == text(4)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda good: good[:-1],
        lambda good: good.replace(b'"memory"', b'"mammoth"', 1),
        lambda good: good.replace(b'"format":', b'"format":9', 1),
        lambda good: b"not a table",
        lambda good: b"",
    ],
)
def test_a_file_that_is_no_table_is_set_aside(tmp_path: Path, spoil: object) -> None:
    assert callable(spoil)
    bad = spoil(text(3))
    (tmp_path / FILE_NAME).write_bytes(bad)
    tables = Tables(tmp_path)
    assert tables.current == ""
    assert (tmp_path / (FILE_NAME + ASIDE)).read_bytes() == bad
    tables.extend(text(3))
    assert Tables(tmp_path).current == tables.current


def test_a_table_that_cannot_be_written_serves_all_the_same(tmp_path: Path) -> None:
    tables = Tables(tmp_path / "missing")
    with pytest.raises(OSError, match="No such file"):
        tables.extend(text(1))
    assert tables.text(tables.current) == text(1)


def test_the_shipped_table_is_named_by_the_digest_of_its_entries() -> None:
    entries = calibration()
    header = encode(entries, "").partition(b"\n")[0]
    assert shipped().sha256.encode() in header
