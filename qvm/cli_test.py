"""The commands: what they print, and the exit status they promise."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qvm import examples
from qvm.cli import FINDINGS, OK, UNUSABLE, main

Capture = pytest.CaptureFixture[str]
Feed = Callable[[str], None]

COMMANDS = ["verify", "asm", "disasm", "show", "exact"]
BELL = """\
.param d=3
alloc: ALLOC_LQ profile=logical:Surface(d={d}), a, b
APPLY_H a
APPLY_CNOT a, b
MEASURE_Z a -> m
MEASURE_Z b -> n
FREE_LQ a, b
"""


@pytest.fixture
def bell(tmp_path: Path) -> str:
    path = tmp_path / "bell.qvm"
    path.write_text(BELL)
    return str(path)


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Feed:
    def give(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    return give


def answer(capsys: Capture, *argv: str) -> tuple[int, dict[str, Any]]:
    """Exit status and the one JSON object printed."""
    status = main([*argv, "--json"])
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.count("\n") == 1
    return status, json.loads(printed.out)


@pytest.mark.parametrize("name", examples.names())
def test_example_goes_to_text_and_back_without_change(
    name: str, capsys: Capture, feed: Feed
) -> None:
    original = examples.load(name).decode()
    feed(original)
    assert main(["disasm", "-"]) == OK
    text = capsys.readouterr().out
    feed(text)
    assert main(["asm", "-"]) == OK
    back = capsys.readouterr().out
    left, right = json.loads(original), json.loads(back)
    assert left == right


def test_verify_says_what_a_program_needs(capsys: Capture, bell: str) -> None:
    assert main(["verify", bell, "-p", "d=5"]) == OK
    printed = capsys.readouterr().out
    for part in (
        "sound",
        "98 physical",
        "CAP_ALLOC",
        "0: 6 nodes",
        "REV 1",
        "m, n",
        "Surface(d=5)",
    ):
        assert part in printed


def test_verify_as_json_holds_summary_segments_and_warnings(capsys: Capture, feed: Feed) -> None:
    feed("ALLOC_LQ profile=ideal, a\nAPPLY_H a")
    status, body = answer(capsys, "verify", "-")
    assert status == OK
    assert body["ok"] is True
    assert body["summary"]["peak_logical"] == 1
    assert body["segments"] == [{"epoch": 0, "nodes": ["n1", "n2"]}]
    assert body["epoch_nodes"] == [2]
    assert [each["rule"] for each in body["findings"]] == ["lifetime.not_freed"]


def test_exact_prints_records_with_their_probabilities(capsys: Capture, bell: str) -> None:
    assert main(["exact", bell]) == OK
    expected = "events: m n\n00  0.500000000000\n11  0.500000000000\n"
    assert capsys.readouterr().out == expected
    status, body = answer(capsys, "exact", bell)
    assert status == OK
    assert body["probabilities"] == pytest.approx({"00": 0.5, "11": 0.5})


def test_show_writes_a_drawing(capsys: Capture, bell: str, tmp_path: Path) -> None:
    assert main(["show", bell]) == OK
    assert "MZ→m" in capsys.readouterr().out
    out = tmp_path / "bell.svg"
    assert main(["show", bell, "--svg", str(out)]) == OK
    assert capsys.readouterr().out == ""
    assert out.read_text().startswith("<svg ")


def test_outputs_go_to_the_file_that_was_named(capsys: Capture, bell: str, tmp_path: Path) -> None:
    graph, text = tmp_path / "bell.json", tmp_path / "again.qvm"
    assert main(["asm", bell, "-o", str(graph)]) == OK
    assert main(["disasm", str(graph), "-o", str(text)]) == OK
    assert capsys.readouterr().out == ""
    assert main(["exact", str(text)]) == OK


@pytest.mark.parametrize("command", ["verify", "asm", "show", "exact"])
def test_program_with_an_error_is_told_with_its_place_and_ends_with_one(
    command: str, capsys: Capture, feed: Feed
) -> None:
    wrong = "ALLOC_LQ profile=ideal, a\nAPPLY_X b"
    feed(wrong)
    assert main([command, "-"]) == FINDINGS
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "standard input:2: error: node 'n2', $.program.nodes[1].vqs[0]: " in printed.err
    feed(wrong)
    status, body = answer(capsys, command, "-")
    assert (status, body["ok"]) == (FINDINGS, False)
    assert body["findings"][0]["path"] == "$.program.nodes[1].vqs[0]"
    assert body["findings_total"] >= 1


@pytest.mark.parametrize("command", COMMANDS)
def test_mistake_in_the_text_is_shown_under_its_line(
    command: str, capsys: Capture, feed: Feed
) -> None:
    feed("APPLY_W a")
    assert main([command, "-"]) == FINDINGS
    assert capsys.readouterr().err.splitlines()[1:] == ["    APPLY_W a", "    ^"]
    feed("APPLY_W a")
    status, body = answer(capsys, command, "-")
    assert status == FINDINGS
    assert body["error"]["line"] == body["error"]["column"] == 1


@pytest.mark.parametrize("command", ["verify", "disasm", "show", "exact"])
def test_json_that_is_no_graph_is_told_in_findings(
    command: str, capsys: Capture, feed: Feed
) -> None:
    feed('{"version": "0.1"')
    assert main([command, "-"]) == FINDINGS
    assert "structure.json" in capsys.readouterr().err
    feed('{"version": "0.1", "program": {"nodes": [{"id": "a", "op": "NOPE"}]}, "resources": {}}')
    assert main([command, "-"]) == FINDINGS
    assert "structure.missing" in capsys.readouterr().err


def test_unknown_opcode_in_json_cannot_be_disassembled(capsys: Capture, feed: Feed) -> None:
    nodes = [{"id": "a", "op": "NOPE"}]
    graph = {"version": "0.1", "program": {"nodes": nodes}, "resources": {"vqs": [], "events": []}}
    feed(json.dumps(graph))
    assert main(["disasm", "-"]) == FINDINGS
    assert "op.unknown" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_file_that_cannot_be_read_ends_with_two_and_a_sentence(
    command: str, capsys: Capture, tmp_path: Path
) -> None:
    assert main([command, str(tmp_path / "nope")]) == UNUSABLE
    assert "cannot be read: no such file" in capsys.readouterr().err
    assert main([command, str(tmp_path)]) == UNUSABLE
    assert "is a directory" in capsys.readouterr().err
    (tmp_path / "latin").write_bytes(b"\xff")
    assert main([command, str(tmp_path / "latin")]) == UNUSABLE
    assert "not UTF-8" in capsys.readouterr().err


def test_file_that_cannot_be_written_ends_with_two(
    capsys: Capture, bell: str, tmp_path: Path
) -> None:
    assert main(["asm", bell, "-o", str(tmp_path / "no" / "where")]) == UNUSABLE
    assert "cannot be written" in capsys.readouterr().err


def test_program_too_large_for_the_reference_ends_with_two(capsys: Capture, feed: Feed) -> None:
    feed("ALLOC_LQ profile=ideal, " + ", ".join(f"q{i}" for i in range(13)))
    assert main(["exact", "-"]) == UNUSABLE
    assert "the reference holds 12" in capsys.readouterr().err


def test_parameters_of_json_are_refused(capsys: Capture, feed: Feed) -> None:
    feed("{}")
    assert main(["verify", "-", "-p", "d=3"]) == UNUSABLE
    assert "this file is JSON" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["nope"], ["verify"], ["verify", "f", "-p", "3"], ["-x"]])
def test_wrong_usage_ends_with_two(argv: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == UNUSABLE
    assert "usage:" in capsys.readouterr().err


def test_includes_stay_in_the_directory_of_the_file(capsys: Capture, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    (inside / "below").mkdir(parents=True)
    (tmp_path / "secret.qvm").write_text("APPLY_X q")
    (inside / "below" / "lib.qvm").write_text("ALLOC_LQ profile=ideal, q\nFREE_LQ q")
    (inside / "link.qvm").symlink_to(tmp_path / "secret.qvm")
    main_file = inside / "main.qvm"
    main_file.write_text('.include "below/lib.qvm"')
    assert main(["verify", str(main_file)]) == OK
    for escape in ("../secret.qvm", str(tmp_path / "secret.qvm"), "link.qvm"):
        main_file.write_text(f'.include "{escape}"')
        capsys.readouterr()
        assert main(["verify", str(main_file)]) == FINDINGS
        assert "outside the directory" in capsys.readouterr().err
    main_file.write_text('.include "nope.qvm"')
    assert main(["verify", str(main_file)]) == FINDINGS
    assert "no such file" in capsys.readouterr().err


def test_the_module_runs_as_a_program(bell: str) -> None:
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "qvm", "exact", bell]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (OK, "")
    assert done.stdout.startswith("events: m n\n")


def test_output_that_cannot_be_written_is_said_so(bell: str) -> None:
    root = Path(__file__).parent.parent
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "qvm", "asm", bell],
            cwd=root, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    told = "the output cannot be written: no space left on device\n"
    assert (done.returncode, done.stderr) == (UNUSABLE, told)


def test_undo_writes_a_program_that_verifies_and_whose_witnesses_are_zero(
    capsys: Capture, feed: Feed
) -> None:
    text = BELL.replace("MEASURE_Z a -> m\nMEASURE_Z b -> n\n", "BAR_REGION tag=t\n")
    feed(text)
    status, told = answer(capsys, "undo", "-", "--segment", "1", "--witness")
    assert (status, told["ok"]) == (OK, True)
    feed(json.dumps(told["graph"]))
    status, told = answer(capsys, "exact", "-")
    assert (status, told["probabilities"]) == (OK, {"00": 1.0})


def test_undo_names_the_node_that_stands_against_it(bell: str, capsys: Capture) -> None:
    status, told = answer(capsys, "undo", bell, "--segment", "1")
    assert status == FINDINGS
    assert "cannot be undone to 'a'" in told["error"]["message"]
    status, told = answer(capsys, "undo", bell, "--segment", "9")
    assert (status, told["error"]["message"]) == (
        UNUSABLE,
        "the program has 1 REV segments, counted from 1",
    )
    status, told = answer(capsys, "undo", bell, "--segment", "1", "--before", "nowhere")
    assert (status, told["error"]["message"]) == (UNUSABLE, "the program has no node 'nowhere'")
