"""Runs what the documents tell people to type.

A fenced block counts as an example if its language is `console` or `python`. Files shown in the
text (`<!-- file: NAME -->` before a block) are written first. Lines of `console` blocks that set up
or serve are named in NOT_RUN with the place that runs them instead.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from qmkd.core.ports import Quota
from qmkd.shell.config import FLAT, DecoderTable, TenantTable
from qmkd.shell.limits import Limits
from runtime.signer.conftest import RunningSigner
from tests.daemon import running_daemon, short_folder

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- file: (?P<file>\S+) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
NEEDS_SIGNER = re.compile(r"qmkctl keys|SignerClient")
NOT_RUN = {
    "make": "the continuous-integration script runs these targets",
    "export": "the test's environment holds the variable",
    ".venv/bin/qmkd": "tests/daemon.py starts the daemon",
    ".venv/bin/qmk-signer": "the test starts the signer, without a token",
    "systemctl": "needs an installed service",
    "sudo": "needs root",
}


def blocks(document: Path) -> list[tuple[str | None, str, str]]:
    text = document.read_text(encoding="utf-8")
    return [(m["file"], m["language"], m["text"]) for m in BLOCK.finditer(text)]


def commands(text: str) -> list[str]:
    lines = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    return [line for line in lines if shlex.split(line)[0] not in NOT_RUN]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_example_of_the_document_runs(document: Path, tmp_path: Path) -> None:
    found = blocks(document)
    work = tmp_path / "work"
    work.mkdir()
    (work / "qvm").mkdir()
    shutil.copytree(ROOT / "qvm" / "examples", work / "qvm" / "examples")
    (work / ".venv").symlink_to(sys.prefix)
    for name, _, text in found:
        if name is not None:
            (work / name).write_text(text, encoding="utf-8")
    runnable = [
        (language, text)
        for _, language, text in found
        if language == "python" or (language == "console" and commands(text))
    ]
    if not runnable:
        return
    with running_daemon() as daemon, ExitStack() as stack:
        signer = ""
        if NEEDS_SIGNER.search(document.read_text(encoding="utf-8")):
            folder = stack.enter_context(short_folder())
            signer = str(stack.enter_context(RunningSigner(folder, keys=True)).socket)
        environment = os.environ | {
            "QMK_SOCKET": str(daemon.socket),
            "QMK_SIGNER_SOCKET": signer,
            "QMKD_STATE_DIR": str(daemon.state_dir),
            "XDG_RUNTIME_DIR": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        }
        for language, text in runnable:
            scripts = (
                [[sys.executable, "-c", text]]
                if language == "python"
                else [["bash", "-c", line] for line in commands(text)]
            )
            for script in scripts:
                done = subprocess.run(
                    script, cwd=work, env=environment, capture_output=True, text=True, timeout=120
                )
                assert done.returncode == 0, f"{script[-1]}\n{done.stdout}\n{done.stderr}"


def test_every_link_to_a_file_of_the_repository_leads_somewhere() -> None:
    broken = []
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
            if "://" not in target and not (document.parent / target).exists():
                broken.append(f"{document.relative_to(ROOT)}: {target}")
    assert not broken


def test_the_operators_page_names_every_configuration_key() -> None:
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    keys = {
        *FLAT,
        *Limits.__struct_fields__,
        *Quota.__struct_fields__,
        *TenantTable.__struct_fields__,
        *DecoderTable.__struct_fields__,
    }
    assert {key for key in keys if key not in text} == set()
