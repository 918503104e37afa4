"""A daemon for the demonstration alone: in a folder of its own, stopped at the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S_MAX = 60.0
STOP_S_MAX = 30.0
LOG_LINES_SHOWN = 20
SOCKET_PATH_BYTES_MAX = 107  # of a Unix socket's address, its closing zero left out


class HostFailed(Exception):
    """The daemon did not start, did not go on, or did not end as it should; says which."""


@contextmanager
def daemon() -> Iterator[Path]:
    """The socket of a running daemon. Raises HostFailed; asserts that it ends with status 0."""
    with tempfile.TemporaryDirectory(prefix="qmkd-demo-", dir=_short_folder()) as folder:
        home = Path(folder)
        path, log_path = home / "s", home / "log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "qmkd", "--socket", path, "--state-dir", home / "state"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
            )
        try:
            _wait_accepting(path, process, log_path)
            yield path
        except BaseException:
            _end(process)
            raise
        status = _end(process)
        if status != 0:
            raise HostFailed(f"The daemon ended with status {status}.\n{_tail(log_path)}")


def _short_folder() -> str:
    """Where a socket's path stays short enough, whatever TMPDIR says."""
    usual = tempfile.gettempdir()
    room = len(os.fsencode(usual)) + len("/qmkd-demo-12345678/s")
    return usual if room <= SOCKET_PATH_BYTES_MAX else "/tmp"


def _wait_accepting(path: Path, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + START_S_MAX
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        if process.poll() is not None:
            what = f"ended at once with status {process.returncode}"
        elif time.monotonic() > deadline:
            what = f"did not answer within {START_S_MAX:g} s"
        else:
            time.sleep(0.02)
            continue
        raise HostFailed(f"The daemon {what}.\n{_tail(log_path)}")


def _end(process: subprocess.Popen[bytes]) -> int:
    """Ask it to stop, then insist; its exit status."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _tail(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").splitlines()
    return "\n".join(["Its log ends:", *lines[-LOG_LINES_SHOWN:]])


def _environment() -> dict[str, str]:
    """Ours, without what configures a daemon; workers take their share of a busy machine."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("QMKD_")}
    return kept | {"QMKD_WORKER_SCHEDULING": "batch"}
