"""The demonstration on a real daemon; and that it notices when something is wrong."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from harness.demo import __main__ as demo
from harness.demo import host
from harness.demo.judge import judge
from harness.demo.picture import draw
from harness.demo.runs import Noisy, Program, Run, all_programs
from harness.demo.tables import outcomes_table, verdict_text
from qvm import examples
from syscalls.ids import JobId, SessionId
from syscalls.job import ExecutionContext, JobState, JobStatus, NoiseApplied

PNG = b"\x89PNG\r\n\x1a\n"


def made_up(name: str, outcomes: list[str]) -> Run:
    """A run of a program that does not exist, in which every outcome is equally likely."""
    counts = dict.fromkeys(outcomes, 10)
    exact = {key: 1 / len(outcomes) for key in outcomes}
    status = JobStatus(
        job_id=JobId("job_1"),
        session_id=SessionId("sess_1"),
        state=JobState.COMPLETED,
        created_at="2025-01-31T12:00:00.000Z",
        started_at="2025-01-31T12:00:00.000Z",
        completed_at="2025-01-31T12:00:00.000Z",
        execution_context=ExecutionContext(
            engine="none",
            why="",
            width=1,
            seed=1,
            program_digest="",
            noise=NoiseApplied(requested="ideal", applied="ideal"),
        ),
    )
    program = Program(name=name, source=b"", description="", exact=exact)
    verdict = judge(counts, exact)
    noisy = Noisy(status=status, counts=counts, distance=0.0, impossible=0)
    return Run(
        program=program, status=status, counts=counts, verdict=verdict, events=[], noisy=noisy
    )


def test_every_example_is_inside_its_bounds_and_all_of_it_is_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(["--out", str(tmp_path / "out"), "--shots", "3000"]) == 0
    report = json.loads((tmp_path / "out" / "demo.json").read_bytes())
    assert report["inside"] is True
    assert [each["name"] for each in report["programs"]] == list(examples.names())
    assert all(sum(each["counts"].values()) == 3000 for each in report["programs"])
    noisy = [each["noisy"] for each in report["programs"]]
    assert all(sum(each["counts"].values()) == 3000 for each in noisy)
    assert {each["status"]["execution_context"]["noise"]["applied"] for each in noisy} == {
        "calibrated uniform 0.001"
    }
    by_name = dict(zip(examples.names(), noisy, strict=True))
    assert 0 < by_name["ghz"]["impossible"] < 300, "errors are there, and rare"
    assert (tmp_path / "out" / "demo.png").read_bytes().startswith(PNG)
    shown = capsys.readouterr().out
    assert f"{len(examples.names())} of {len(examples.names())} programs inside" in shown


def test_a_program_outside_its_bounds_fails_the_demonstration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = [each for each in all_programs() if each.name in ("bell", "ghz")]
    wrong = replace(programs[0], exact={"00": 0.4, "11": 0.6})
    impossible = replace(programs[1], exact={"00000": 1.0})
    monkeypatch.setattr(demo, "all_programs", lambda: [wrong, impossible])
    assert demo.main(["--out", str(tmp_path), "--shots", "3000"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "OUTSIDE" in shown
    assert "IMPOSSIBLE outcomes ['11111']" in shown
    assert "0 of 2 programs" in shown


def test_a_daemon_that_does_not_start_is_shown_with_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QMKD_CONFIG", "/kept/from/the/daemon")
    (tmp_path / "python").write_text("#!/bin/sh\necho no engine today >&2\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert demo.main(["--out", str(tmp_path)]) == 2
    shown = capsys.readouterr().out
    assert "ended at once with status 3" in shown
    assert "no engine today" in shown


def test_a_long_temporary_folder_is_not_used_for_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert host._short_folder() == "/tmp"


def test_long_outcomes_and_many_of_them_are_drawn_and_tabled(tmp_path: Path) -> None:
    runs = [
        made_up("long", [f"{n:0200b}" for n in range(40)]),
        made_up("none", [""]),
        made_up("short", ["0", "1"]),
    ]
    draw(runs, tmp_path / "a.png", title="made up")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
    assert outcomes_table(runs[0]).row_count == 17
    assert "inside" in verdict_text(runs[1].verdict).plain
