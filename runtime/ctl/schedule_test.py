"""`qmkctl schedule` from catalogue to replay, and what a person reads when it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.ctl.__main__ import main
from runtime.ctl.exits import Exit
from runtime.scheduler.conftest import calibration, entry, job
from runtime.scheduler.jobs import Sla

Schedule = Callable[..., Any]
NOW = "2026-04-18T12:00:00Z"


@pytest.fixture
def schedule(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Schedule:
    """Run an action with --json; its answer, or what it wrote to standard error."""
    monkeypatch.setenv("QMK_SCHEDULE_DB", str(tmp_path / "book.db"))
    monkeypatch.chdir(tmp_path)
    listed = [
        {"backend": each.backend, "calibration": calibration(each.backend.backend_id, error)}
        for each, error in ((entry("good"), 0.005), (entry("poor"), 0.03))
    ]
    (tmp_path / "backends.json").write_bytes(msgspec.json.encode(listed))
    (tmp_path / "job.json").write_bytes(msgspec.json.encode(job()))

    def run(*arguments: str, status: Exit = Exit.OK) -> Any:
        assert main(["schedule", *arguments, "--json"]) == status
        out, err = capsys.readouterr()
        return json.loads(out) if out else json.loads(err)["error"]["message"]

    run("backends", "backends.json")
    return run


def test_a_decision_is_made_explained_listed_replayed_and_made_again(schedule: Schedule) -> None:
    (made,) = schedule("decide", "job.json", "--now", NOW)["decisions"]
    assert made["chosen_backend"] == "good"
    assert not made["signed"]
    told = schedule("explain", made["job_id"])["decision"]
    assert {each["verdict"] for each in told["candidates"]} >= {"chosen", "possible"}
    replayed = schedule("replay", "1")
    assert replayed == {
        "ok": True,
        "decision_id": made["decision_id"],
        "digest": made["digest"],
        "asked_again": True,
    }
    # From the record and the snapshots alone, with no database that knows either.
    file = f"decisions/{made['digest']}.json"
    alone = ("--calibrations", "backends.json", "--database", "empty.db")
    assert schedule("replay", file, *alone) == replayed
    (again,) = schedule("again", "1", "--why", "no answer", "--now", NOW)["decisions"]
    assert again["chosen_backend"] == "poor"
    assert [each["number"] for each in schedule("list")["decisions"]] == [2, 1]
    assert schedule("verify")["decisions"] == 2


def test_tables_say_what_json_does(schedule: Schedule, capsys: pytest.CaptureFixture[str]) -> None:
    schedule("decide", "job.json", "--now", NOW)
    shown = {}
    for action in (["explain", "1"], ["list"], ["backends"], ["replay", "1"], ["verify"]):
        assert main(["schedule", *action]) == Exit.OK
        shown[action[0]] = capsys.readouterr().out
    assert "It has the best score." in shown["explain"]
    assert "good" in shown["list"]
    assert "poor" in shown["backends"]
    assert "comes out the same, advice included" in shown["replay"]
    assert "signatures were not looked at" in shown["verify"]


def test_a_job_that_nobody_can_take_ends_with_the_status_of_a_refusal(
    schedule: Schedule, tmp_path: Path
) -> None:
    impossible = msgspec.structs.replace(job(), sla=Sla(fidelity_floor=1.0))
    (tmp_path / "job.json").write_bytes(msgspec.json.encode([impossible, job(2)]))
    made = schedule("decide", "job.json", "--now", NOW, status=Exit.REFUSED)["decisions"]
    assert sorted(each["chosen_backend"] or "" for each in made) == ["", "good"]


def test_mistakes_are_answered_with_a_sentence(schedule: Schedule, tmp_path: Path) -> None:
    refused = {"status": Exit.USAGE}
    assert "No decision" in schedule("explain", "7", **refused)
    assert "no time" in schedule("decide", "job.json", "--now", "noon", **refused)
    (tmp_path / "bad.json").write_text('{"job_id": 3}')
    assert "bad.json" in schedule("decide", "bad.json", **refused)
    (tmp_path / "state.json").write_text('{"nobody": {}}')
    assert "No backend is called nobody" in schedule(
        "decide", "job.json", "--state", "state.json", **refused
    )
    # Nobody listens there: the rules answer, and that is said.
    told = schedule("decide", "job.json", "--now", NOW, "--policy", "nobody.sock")
    assert told["decisions"][0]["chosen_backend"] == "good"
    offers = schedule("explain", "1")["decision"]["offers"]
    assert "The safe rules answer." in offers[0]["because"][-1]
    assert not schedule("replay", "1")["asked_again"]
    assert (
        "not signed"
        in schedule("decide", "job.json", "--now", NOW, "--signer", "nobody.sock")["remark"]
    )
    assert schedule("sign", "--signer", "nobody.sock", status=Exit.UNREACHABLE)["remark"]
    unheard = schedule("verify", "--signer", "nobody.sock", status=Exit.OK)
    assert unheard["signed"] == 0
    reserve = ("reserve", "good", "--tenant", "b", "--from", NOW, "--to", "2026-04-18T13:00:00Z")
    assert schedule(*reserve)["tenant"] == "b"
    assert "b has good" in schedule(*reserve, **refused)
