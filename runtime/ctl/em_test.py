"""`qmkctl em`: what it writes, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.em.__main__ import main
from harness.em.backends.registry import ABOUT as BACKENDS
from harness.em.methods.registry import ABOUT as METHODS
from runtime.ctl.exits import Exit


def test_starting_qmkctl_loads_nothing_of_the_harness_and_no_heavy_library() -> None:
    code = (
        "import sys, runtime.ctl.__main__ as m; m.parser();"
        "print([n for n in ('harness', 'stim', 'pyarrow', 'sklearn') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_qmkctl_hands_its_options_on_and_its_status_back(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runtime.ctl", "em", "run", "--out", str(tmp_path / "x")]
    done = subprocess.run(
        [*command, "--family", "magic", "--json"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == Exit.USAGE
    assert "No family" in json.loads(done.stderr)["error"]["message"]


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """What the harness's own process writes, in this one."""
    assert main(words) == Exit.OK
    return json.loads(capsys.readouterr().out)


def test_everything_that_can_be_named_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "list", "--json")
    assert found["methods"] == METHODS
    assert found["backends"] == BACKENDS


def test_a_run_is_compared_reported_and_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    folder = str(tmp_path / "run")
    ran = answer(capsys, "run", "--out", folder, "--family", "ghz", "--shots", "2000", "--json")
    assert ran["rows"] == 2
    told = answer(capsys, "report", folder, "--verify", "--json")
    assert (told["rows_sha256"], told["wrong"]) == (ran["sha256"], [])
    both = answer(capsys, "compare", folder, folder, "--json")
    assert both["changes"] == []
    for words in (("compare", folder), ("report", folder), ("list",), ("compare", folder, folder)):
        assert main(words) == Exit.OK
        assert "zne" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (("run", "--out", "x", "--backend", "nowhere"), Exit.REFUSED, "No backend"),
        (("run", "--out", "x", "--method", "magic"), Exit.USAGE, "No method"),
        (("report", "nothing"), Exit.DAMAGED, "no finished run"),
    ],
)
def test_failures_are_sentences_with_an_exit_status(
    words: tuple[str, ...],
    status: Exit,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--json"]) == status
    assert why in json.loads(capsys.readouterr().err)["error"]["message"]
