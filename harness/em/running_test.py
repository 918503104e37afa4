"""Runs end to end: the same bytes again, going on after a stop, a way back from every number."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec
import pytest

from harness.em import summary
from harness.em.methods.plan import Unplannable
from harness.em.records.folder import Damaged, Folder
from harness.em.records.rows import SPEC_COLUMNS, read, write
from harness.em.running import Suite, reckoned_again, run

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")

SUITE = Suite(
    families=("ising", "ghz"),
    seeds=(1, 2),
    methods=("none", "zne", "cdr", "gap"),
    backends=("physical:qubits=4,seed=2,day=1,age=1",),
    shots=2_000,
)


def silent(done: int, total: int, name: str) -> None:
    assert done <= total


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("em") / "run"
    run(SUITE, Folder(folder), silent)
    return folder


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "rows.parquet").read_bytes()).hexdigest()


def test_the_ten_columns_of_the_specification_come_first(finished: Path) -> None:
    import pyarrow.parquet

    names = pyarrow.parquet.read_schema(finished / "rows.parquet").names
    assert tuple(names[:10]) == SPEC_COLUMNS
    assert SPEC_COLUMNS == (
        "job_id", "circuit_id", "family", "shots", "raw_histogram_path", "unmitigated_fidelity",
        "mitigated_fidelity", "method", "parameters", "runtime_seconds",
    )  # fmt: skip


def test_the_same_rows_are_written_as_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    rows = read(finished / "rows.parquet")
    write(rows, tmp_path / "a", "x")
    write(read(tmp_path / "a"), tmp_path / "b", "x")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_run_from_the_same_seed_gives_the_same_file(finished: Path, tmp_path: Path) -> None:
    run(SUITE, Folder(tmp_path / "again"), silent)
    assert digest(tmp_path / "again") == digest(finished)


def test_a_run_that_was_stopped_goes_on_to_the_same_file(finished: Path, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    shutil.copytree(finished, stopped)
    (stopped / "rows.parquet").unlink()
    lines = (stopped / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (stopped / "rows.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:40])
    told: list[int] = []
    run(SUITE, Folder(stopped), lambda done, total, name: told.append(done))
    assert digest(stopped) == digest(finished)
    assert told[-1] == 12


def test_every_shot_is_counted_and_none_is_held_against_itself(finished: Path) -> None:
    rows = Folder(finished).rows()
    for row in rows:
        assert row.shots == SUITE.shots
        outcomes = Folder(finished).outcomes(row.raw_histogram_path)
        assert sum(each.shots for each in outcomes) == row.shots
        assert len(outcomes) == row.circuits
        if row.method == "none":
            assert row.value == row.unmitigated_value
            assert not row.harm
    assert len({row.job_id for row in rows}) == len(rows) == 9


def test_what_a_backend_lacks_is_told_and_leaves_the_rest(finished: Path) -> None:
    refused = Folder(finished).manifest()["refused"]
    assert len(refused) == 3
    assert all("gap" in sentence for sentence in refused)


def test_every_number_follows_from_its_histogram(finished: Path) -> None:
    assert reckoned_again(SUITE, Folder(finished)) == []


def test_a_histogram_that_was_changed_is_found(finished: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(finished, changed)
    folder = Folder(changed)
    first, second = folder.rows()[:2]
    place = changed / first.raw_histogram_path
    place.write_bytes((changed / second.raw_histogram_path).read_bytes())
    with pytest.raises(Damaged, match="does not hold what its name says"):
        folder.outcomes(first.raw_histogram_path)
    raw = bytearray((changed / "rows.parquet").read_bytes())
    raw[len(raw) // 2] ^= 1
    (changed / "rows.parquet").write_bytes(bytes(raw))
    with pytest.raises(Damaged, match="not what"):
        folder.rows()


def test_a_folder_of_another_run_is_refused(finished: Path) -> None:
    other = msgspec.structs.replace(SUITE, shots=3_000)
    with pytest.raises(Damaged, match="another suite"):
        run(other, Folder(finished), silent)
    with pytest.raises(Damaged, match="no finished run"):
        Folder(finished / "circuits").rows()


def test_a_method_that_does_not_exist_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(Unplannable):
        run(msgspec.structs.replace(SUITE, methods=("none", "magic")), Folder(tmp_path), silent)
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_summary_says_what_rows_say(finished: Path) -> None:
    rows = Folder(finished).rows()
    lines = {line.method: line for line in summary.lines(rows)}
    assert lines["none"].gain == pytest.approx(1.0)
    zne = [row for row in rows if row.method_text == "zne"]
    expected = (sum(row.error**2 for row in zne) / len(zne)) ** 0.5
    assert lines["zne"].rmse == pytest.approx(expected)
    assert lines["zne"].circuits == 3
    assert len(summary.lines(rows, by_family=True)) == 6
    assert summary.changes(rows, rows) == []
    worse = [msgspec.structs.replace(row, value=row.exact + row.spread) for row in rows]
    found = summary.changes(rows, worse)
    assert found[0].sigmas >= found[-1].sigmas > 0
