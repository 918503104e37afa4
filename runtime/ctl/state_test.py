"""`qmkctl db` and `qmkctl audit`: what they say of a state directory, and how they end."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from qmkd.shell.store.conftest import Keeper, Story
from qmkd.shell.store.schema import DATABASE_NAME
from runtime.ctl.__main__ import main
from runtime.ctl.exits import Exit


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """What is in the database of `tmp_path`."""
    keeper, story = Keeper(tmp_path / DATABASE_NAME), Story(3)
    keeper.tell(story, 30)
    assert keeper.store.close()
    return story


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_a_sound_database_is_said_to_be_sound(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = ran(capsys, "db", "check", "--state-dir", str(tmp_path))
    assert status == Exit.OK
    assert "30 audit entries" in said
    assert "Nothing is damaged." in said


def test_a_damaged_database_is_named_in_words_and_in_json(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None)
    db.execute("UPDATE jobs SET body = x'00'")
    db.close()
    status, said = ran(capsys, "db", "check", "--state-dir", str(tmp_path))
    assert status == Exit.DAMAGED
    assert "checksum" in said
    status, said = ran(capsys, "db", "check", "--json", "--state-dir", str(tmp_path))
    assert status == Exit.DAMAGED
    assert msgspec.json.decode(said)["faults"][0]["where"] == "jobs"


@pytest.mark.parametrize("command", [("db", "check"), ("audit", "verify"), ("audit", "show")])
def test_where_there_is_no_database_the_command_says_so(
    command: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = ran(capsys, *command, "--state-dir", str(tmp_path))
    assert status == Exit.USAGE
    assert "there is no such database" in said


def test_a_chain_is_verified_against_each_head_it_ever_had(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--state-dir", str(tmp_path))
    status, said = ran(capsys, "audit", "head", *where)
    assert (status, said) == (Exit.OK, story.audit[-1].hash.hex() + "\n")
    for head in ([], ["--head", story.audit[4].hash.hex()], ["--head", said.strip()]):
        status, verified = ran(capsys, "audit", "verify", *where, *head)
        assert status == Exit.OK
        assert "its last, 30." in verified
    kept = tmp_path / "kept"
    for text, ends in ((said, Exit.OK), ("-\n", Exit.OK), ("00" * 32, Exit.DAMAGED)):
        kept.write_text(text)
        status, _ = ran(capsys, "audit", "verify", *where, "--head-file", str(kept))
        assert status == ends
    kept.write_text("no head")
    status, _ = ran(capsys, "audit", "verify", *where, "--head-file", str(kept))
    assert status == Exit.USAGE
    status, said = ran(capsys, "audit", "verify", *where, "--head", "00" * 32)
    assert status == Exit.DAMAGED
    assert "cut off or rewritten" in said


def test_an_exported_chain_is_verified_without_the_daemons_files(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, exported = ran(capsys, "audit", "export", "--state-dir", str(tmp_path))
    file = tmp_path / "chain.txt"
    lines = exported.splitlines(keepends=True)
    head = ["--head", story.audit[-1].hash.hex()]
    whole = "".join(lines)
    changes = {
        "whole": (whole, None),
        "dropped": ("".join(lines[:7] + lines[8:]), 8),
        "reordered": ("".join([*lines[:7], lines[8], lines[7], *lines[9:]]), 8),
        "changed": (whole.replace('"told":9', '"told":8', 1), 9),
        "truncated": ("".join(lines[:-1]), 29),
        "empty": ("", 0),
    }
    for name, (text, place) in changes.items():
        file.write_text(text)
        status, said = ran(capsys, "audit", "verify", "--json", "--file", str(file), *head)
        found = msgspec.json.decode(said)
        assert status == (Exit.OK if place is None else Exit.DAMAGED), name
        assert found.get("break", {}).get("number") == place, name


def test_the_last_entries_are_shown(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = ran(capsys, "audit", "show", "--last", "2", "--state-dir", str(tmp_path))
    assert status == Exit.OK
    assert [line.split()[0] for line in said.splitlines()[1:]] == ["29", "30"]


def test_a_head_that_is_no_hash_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["audit", "verify", "--head", "abc"])
    assert ended.value.code == Exit.USAGE
    status, _ = ran(capsys, "audit", "head", "--head", "00" * 32)
    assert status == Exit.USAGE
