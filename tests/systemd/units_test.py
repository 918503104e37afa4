"""The unit files: what systemd says of them, how exposed they leave a service, what they name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.booted import PYTHON, ROOT, install

HERE = ROOT / "systemd"
INSTALLER = HERE / "install.py"
PROGRAMS = "/usr/lib/qmkd/bin/"
SERVICES = sorted(HERE.glob("*.service"))
UNITS = sorted(path for path in HERE.iterdir() if path.suffix[1:] in
               ("service", "socket", "target", "slice", "timer"))  # fmt: skip
VERIFY = ("systemd-analyze", "verify", "--man=no", "--recursive-errors=one")
# In tenths, as systemd-analyze counts them. The daemon talks to others and needs to know who they
# are, so it cannot have users of its own (PrivateUsers=); the same goes for the signer.
EXPOSURE_MAX = {"qmkd.service": 5, "qmk-signer.service": 5, "qmk-attest.service": 5}
EXPOSURE_MAX_OTHERS = 15

analyzed = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not on this host, which is all that could judge the units",
)
same_python = pytest.mark.skipif(
    subprocess.run(
        [
            PYTHON,
            "-c",
            f"import sys, venv; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})",
        ],
        capture_output=True,
    ).returncode
    != 0
    if Path(PYTHON).exists()
    else True,
    reason=f"{PYTHON} is not the Python that the tests run with, and the packages are of that one",
)


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Settings, in order."""
    for line in path.read_text().splitlines():
        if not line.startswith(("#", "[")) and "=" in line:
            name, _, value = line.partition("=")
            yield name, value


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    install(folder)
    return folder


@analyzed
@same_python
def test_systemd_finds_nothing_wrong_with_any_unit(installed: Path, tmp_path: Path) -> None:
    """With programs where they were installed; manual pages are looked at elsewhere."""
    for scope, folder in (("system", HERE), ("user", HERE / "user")):
        work = tmp_path / scope
        work.mkdir()
        for path in folder.iterdir():
            if path.is_file() and path in (*UNITS, *(HERE / "user").iterdir()):
                text = path.read_text().replace(PROGRAMS, str(installed) + PROGRAMS)
                (work / path.name).write_text(text)
        # A template is judged by an instance of it.
        names = [path.name.replace("@.", "@bell.") for path in work.iterdir()]
        said = subprocess.run(
            [*VERIFY, f"--{scope}", *names],
            cwd=work,
            capture_output=True,
            text=True,
            env=os.environ | {"SYSTEMD_UNIT_PATH": f"{work}:", "XDG_RUNTIME_DIR": str(tmp_path)},
        )
        ours = [line for line in said.stderr.splitlines() if "qmk" in line]
        assert not ours, said.stderr
        assert said.returncode == 0, said.stderr


@analyzed
@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_is_exposed_no_more_than_it_has_to_be(path: Path) -> None:
    most = EXPOSURE_MAX.get(path.name, EXPOSURE_MAX_OTHERS)
    judged = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            f"--threshold={most}",
            "--no-pager",
            path,
        ],
        capture_output=True,
        text=True,
    )
    assert judged.returncode == 0, judged.stdout
    assert "Overall exposure level" in judged.stdout


@pytest.mark.parametrize("path", [*UNITS, *sorted((HERE / "user").iterdir())], ids=str)
def test_units_name_only_programs_units_and_pages_that_exist(path: Path) -> None:
    known = {unit.name for unit in UNITS} | {
        "sockets.target", "multi-user.target", "timers.target", "local-fs.target",
    }  # fmt: skip
    for name, value in lines(path):
        if name.startswith("Exec") and name not in ("ExecPaths",):
            names = ("qmkd", "qmkctl", "qmk-signer", "qmk-attest", "qmk-policy")
            programs = {PROGRAMS + each for each in names}
            assert value.split()[0] in programs, value
        elif name in ("Requires", "After", "Wants", "PartOf", "WantedBy", "Also", "Slice"):
            assert {*value.split()} <= known, f"{name}={value}"
        elif name == "Documentation":
            for page, section in re.findall(r"man:([\w-]+)\((\d)\)", value):
                assert (HERE / "man" / f"{page}.{section}").is_file()


def test_no_unit_is_the_only_one_without_a_directive_of_the_sandbox() -> None:
    """What holds for one service holds for each, unless a comment beside it says why not."""
    held = {path.name: dict(lines(path)) for path in SERVICES}
    common = {"NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateDevices", "PrivateNetwork",
              "MemoryDenyWriteExecute", "RestrictNamespaces", "SystemCallFilter", "NoExecPaths",
              "CapabilityBoundingSet", "ProtectProc", "ProcSubset", "UMask"}  # fmt: skip
    for name, settings in held.items():
        assert common <= settings.keys(), name
        assert settings["ProtectSystem"] == "strict"
        assert settings["CapabilityBoundingSet"] == ""


@pytest.mark.slow
@same_python
def test_what_is_installed_runs_and_nothing_of_it_is_left_after_removal(tmp_path: Path) -> None:
    root = tmp_path / "root"
    install(root, linked=False)
    assert list(root.glob("usr/lib/qmkd/lib/python3*/site-packages/qmkd/core/__pycache__/*.pyc"))
    (root / "etc/qmk/qmkd.toml").write_text("# mine\n")
    install(root)
    assert (root / "etc/qmk/qmkd.toml").read_text() == "# mine\n", "configuration is left alone"
    python = root / "usr/lib/qmkd/bin/python3"
    modules = next(root.glob("usr/lib/qmkd/lib/python3*/site-packages"))
    code = "import sys; from qmkd.__main__ import main; sys.exit(main(['--version']))"
    said = subprocess.run(
        [python, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert said.stdout.startswith("qmkd ")
    assert not list(modules.glob("**/qmkd/**/*_test.py"))
    assert (root / "usr/bin/qmkctl").readlink() == Path("/usr/lib/qmkd/bin/qmkctl")
    for option in ([], ["--purge"]):
        subprocess.run(
            [sys.executable, INSTALLER, "remove", *option, "--destdir", root], check=True
        )
        left = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        assert left == ([] if option else ["etc/qmk/qmkd.toml"])


def test_a_python_of_another_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 3.9 /usr\n")
    other.chmod(0o755)
    done = subprocess.run(
        [sys.executable, INSTALLER, "install", "--destdir", tmp_path / "root", "--python", other],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"make PYTHON={other} env" in done.stderr
    assert not (tmp_path / "root").exists()


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11),
    reason="argparse words its help otherwise in other versions; the files are of Python 3.11",
)
def test_manual_pages_and_completion_are_those_of_the_command_lines() -> None:
    done = subprocess.run(
        [sys.executable, HERE / "derive.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout}run `make regen` and commit what it writes"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not on this host")
def test_bash_takes_the_completion_script() -> None:
    script = HERE / "completion" / "qmkctl.bash"
    subprocess.run(["bash", "-n", script], check=True)
