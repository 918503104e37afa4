"""A machine of its own for tests: a real systemd, with qmkd installed, that vanishes afterwards.

Needs root, namespaces and systemd; `reason` says what is missing. Nothing of the host is changed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
BOOT = Path(__file__).with_name("boot.sh")
INSTALLER = ROOT / "systemd" / "install.py"
PYTHON = "/usr/bin/python3"
WAIT_S_MAX = 60.0
GROUPS = ("system.slice", "user.slice", "qmk.slice", "init.scope")
UNSHARE = ("unshare", "-m", "-p", "-u", "-i", "-C", "--fork")
NEEDED = ("unshare", "nsenter", "pivot_root", "systemd-sysusers", "systemctl", "mount")


def reason() -> str:
    """Why no machine can be booted here; empty where one can."""
    if os.geteuid() != 0:
        return "a real systemd is only booted by root"
    if not Path("/lib/systemd/systemd").exists():
        return "there is no systemd on this host"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)}: not on this host"
    tried = subprocess.run(
        [*UNSHARE, "mount", "--make-rprivate", "/"],
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        return f"this host lets nobody make namespaces: {tried.stderr.strip()}"
    code = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"
    if subprocess.run([PYTHON, "-c", code], capture_output=True).returncode:
        return f"{PYTHON} is not the Python that the tests run with"
    return ""


def install(destdir: Path, *, linked: bool = True) -> None:
    """As an administrator does; linked: but for links to the modules instead of copies."""
    more = ["--link"] if linked else []
    places = ["--destdir", str(destdir), "--python", PYTHON]
    subprocess.run([sys.executable, INSTALLER, "install", *more, *places], check=True)


class Booted:
    """The machine. `root`: its files, as seen from here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.root = Path(f"/proc/{pid}/root")
        self.socket = self.root / "run/qmk/qsyscall.sock"

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in it."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-a", *command],
            capture_output=True,
            text=True,
            timeout=WAIT_S_MAX,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER": ""},
        )
        if check:
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}\n{self.journal()}"
        return done

    def systemctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", *arguments, check=check)

    def value(self, unit: str, name: str) -> str:
        return self.systemctl("show", "--value", "-p", name, unit).stdout.strip()

    def main_pid(self, unit: str = "qmkd.service") -> int:
        """Of the unit's main process, as this host numbers it; 0 where it has none."""
        inner = self.value(unit, "MainPID")
        for status in Path("/proc").glob("[0-9]*/status") if inner != "0" else ():
            with contextlib.suppress(OSError):
                lines = status.read_text().splitlines()
                numbers = next(line.split() for line in lines if line.startswith("NSpid:"))
                inside = os.readlink(status.parent / "ns/pid") == self._pid_namespace
                if inside and numbers[-1] == inner:
                    return int(status.parent.name)
        return 0

    @property
    def _pid_namespace(self) -> str:
        return os.readlink(f"/proc/{self.pid}/ns/pid")

    def journal(self, unit: str = "qmkd.service") -> str:
        return self.run("journalctl", "--no-pager", "-q", "-u", unit, check=False).stdout

    def wait(self, unit: str, state: str) -> None:
        """Until the unit is in this state."""
        deadline = time.monotonic() + WAIT_S_MAX
        while (now := self.value(unit, "ActiveState")) != state:
            assert time.monotonic() < deadline, f"{unit} is {now}\n{self.journal(unit)}"
            time.sleep(0.05)


@contextlib.contextmanager
def booted(installed: Path) -> Iterator[Booted]:
    """Boot it, with what lies in this folder; end it and all in it afterwards."""
    with tempfile.TemporaryDirectory(prefix="qmk-boot-") as scratch:
        outer = subprocess.Popen(
            [*UNSHARE, "--kill-child", str(BOOT), scratch, str(installed)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield _running(outer)
        finally:
            for pid in _children(outer):
                os.kill(pid, signal.SIGKILL)  # with process 1, all others end
            try:
                outer.wait(WAIT_S_MAX)
            finally:
                outer.kill()
            assert outer.stdout is not None
            outer.stdout.close()
            _remove_groups()


def _children(outer: subprocess.Popen[bytes]) -> list[int]:
    """Process 1 of the machine, as this host numbers it."""
    try:
        text = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(pid) for pid in text.split()]


def _running(outer: subprocess.Popen[bytes]) -> Booted:
    deadline = time.monotonic() + WAIT_S_MAX
    while time.monotonic() < deadline:
        if outer.poll() is not None:
            assert outer.stdout is not None
            raise AssertionError(f"the boot failed: {outer.stdout.read().decode()}")
        for pid in _children(outer):
            machine = Booted(pid)
            said = machine.run("systemctl", "is-system-running", check=False).stdout.strip()
            if said in ("running", "degraded"):
                return machine
        time.sleep(0.05)
    raise AssertionError("systemd did not come up")


def _remove_groups() -> None:
    """What the machine's systemd left of control groups, innermost first; others are not empty."""
    root = Path("/sys/fs/cgroup")
    for top in [path for name in GROUPS for path in (root / name, *root.glob(f"*/{name}"))]:
        for path in sorted(top.rglob("cgroup.procs"), key=lambda each: -len(each.parts)):
            with contextlib.suppress(OSError):
                path.parent.rmdir()
