"""What the benchmarks share: compiled load generator and echo, servers as processes, pinning."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict, cast

HERE = Path(__file__).parent
START_SECONDS_MAX = 20.0


class Load(TypedDict):
    """What `load.c` prints."""

    count: int
    seconds: float
    rate: float
    p50_ns: int
    p99_ns: int
    p999_ns: int
    max_ns: int
    reply_bytes: int


def compiled(folder: Path, name: str) -> Path:
    """The C program NAME.c of this folder, built into `folder`."""
    target = folder / name
    if not target.exists():
        source = HERE / f"{name}.c"
        subprocess.run(["gcc", "-O2", "-o", str(target), str(source)], check=True)
    return target


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="qmk-", dir="/tmp") as folder:
        yield Path(folder)


def _listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


@contextlib.contextmanager
def server(command: Sequence[str], path: Path) -> Iterator[int]:
    """Run a server until the block ends; yields its process id once `path` answers."""
    log = path.with_suffix(".log")
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stderr=errors)
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not _listening(path):
            if process.poll() is not None or time.monotonic() > deadline:
                problem = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{' '.join(command)} did not start: {problem}")
            time.sleep(0.02)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def daemon_command(folder: Path, name: str, workers: int = 2) -> list[str]:
    """The command line of a `qmkd` of its own on `folder`/`name`.sock."""
    return [
        sys.executable, "-m", "qmkd", "--socket", str(folder / f"{name}.sock"),
        "--state-dir", str(folder / f"{name}-state"), "--workers", str(workers),
        "--log-level", "warning",
    ]  # fmt: skip


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[Path]:
    """A `qmkd` of its own; yields its socket."""
    path = folder / "q.sock"
    with server(daemon_command(folder, "q"), path):
        yield path


def pinned_to_one_core(pid: int, core: int) -> None:
    """Pin one process, not its children."""
    os.sched_setaffinity(pid, {core})


def load(
    tool: Path, mode: str, path: Path, payload: Path, n: float, seconds: float, core: int | None
) -> Load:
    """One run of the load generator; `n` is connections (closed) or calls per second (open)."""
    pin = ["taskset", "-c", str(core)] if core is not None else []
    done = subprocess.run(
        [*pin, str(tool), mode, str(path), str(payload), f"{n:g}", f"{seconds:g}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"load generator against {path.name}: {done.stderr.strip()}")
    return cast(Load, json.loads(done.stdout))


def resident(field: str) -> int:
    """Bytes of memory of this process: `VmRSS` now, `VmHWM` at its highest."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def forget_peak() -> None:
    """Count `VmHWM` from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
