"""A real daemon for tests and demonstrations: started, waited for, stopped, its exit checked.

`running_daemon` gives it a socket and a state directory of its own. `Line` is a bare connection:
bytes out, lines in, with a time limit on everything.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

ROOT = Path(__file__).parents[1]
START_S_MAX = 30.0
STOP_S_MAX = 20.0
ANSWER_S_MAX = 20.0


@dataclass
class Daemon:
    """A daemon that runs. log: what it has written to standard error."""

    process: subprocess.Popen[bytes]
    socket: Path
    state_dir: Path
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Tell it to stop; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_S_MAX)

    def children(self) -> list[int]:
        """Process ids of its workers."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


def command(*flags: str) -> list[str]:
    """The command line of a daemon."""
    return [sys.executable, "-m", "qmkd", *flags]


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without what configures a daemon.

    Workers share the cores with the tests; on idle cores only, they would wait for them. No test
    cuts the power, so nobody waits for the disk.
    """
    private = ("QMKD_", "QMK_", "LISTEN_", "NOTIFY_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(private)}
    return kept | {"QMKD_WORKER_SCHEDULING": "other", "QMKD_DURABILITY": "process"} | more


def answers(path: Path) -> bool:
    """Whether somebody accepts on the socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="qmk-", dir="/tmp") as folder:
        yield Path(folder)


@contextlib.contextmanager
def running_daemon(
    folder: Path | None = None,
    *flags: str,
    workers: int = 1,
    config: str = "",
    environment: Mapping[str, str] | None = None,
    status: int | None = 0,
) -> Iterator[Daemon]:
    """A daemon that answers, stopped with SIGTERM in the end.

    folder: where its socket (`q.sock`), `state` and `log` are; None makes one. config: text of a
    configuration file. status: the exit status that is asserted; None asserts nothing.
    """
    with contextlib.ExitStack() as stack:
        home = folder or stack.enter_context(short_folder())
        daemon = start(home, *flags, workers=workers, config=config, environment=environment)
        try:
            wait_until_ready(daemon)
            yield daemon
        finally:
            try:
                ended = daemon.stop()
            except subprocess.TimeoutExpired:
                daemon.process.kill()
                daemon.process.wait()
                ended = -signal.SIGKILL
        assert status is None or ended == status, f"exit status {ended}\n{daemon.log}"


def start(
    folder: Path,
    *flags: str,
    workers: int = 1,
    config: str = "",
    environment: Mapping[str, str] | None = None,
) -> Daemon:
    """Start a daemon and wait for nothing."""
    given: Sequence[str] = flags
    if config:
        (folder / "qmkd.toml").write_text(config)
        given = ("--config", str(folder / "qmkd.toml"), *flags)
    daemon_socket, state = folder / "q.sock", folder / "state"
    places = ("--socket", str(daemon_socket), "--state-dir", str(state))
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(
            command(*places, "--workers", str(workers), *given),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env=clean_environment(**(environment or {})),
        )
    return Daemon(process, daemon_socket, state, folder / "log")


def wait_until_ready(daemon: Daemon) -> None:
    """Wait until it accepts. Raises AssertionError with its log if it ends or takes too long."""
    deadline = time.monotonic() + START_S_MAX
    while not answers(daemon.socket):
        assert daemon.process.poll() is None, f"the daemon ended:\n{daemon.log}"
        assert time.monotonic() < deadline, f"the daemon does not answer:\n{daemon.log}"
        time.sleep(0.01)


class Line:
    """One connection, blocking, every wait bounded."""

    def __init__(self, path: Path, seconds: float = ANSWER_S_MAX) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(seconds)
        self.sock.connect(str(path))
        self.file = self.sock.makefile("rb")
        self._serial = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self) -> Any:
        """The next line, decoded. Raises EOFError at the end."""
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise EOFError(line)
        return msgspec.json.decode(line)

    def ended(self) -> bool:
        """Whether the other end closes, with nothing more to say."""
        try:
            return self.file.read(1) == b""
        except ConnectionError:
            return True

    def begin(self, method: str, **params: Any) -> int:
        """Send a call; its id."""
        self._serial += 1
        call = {"jsonrpc": "2.0", "id": self._serial, "method": method, "params": params}
        self.send(msgspec.json.encode(call) + b"\n")
        return self._serial

    def ask(self, method: str, **params: Any) -> Any:
        """Call, and the whole answer."""
        answer = self.ask_any(method, **params)
        assert answer["id"] == self._serial, answer
        return answer

    def ask_any(self, method: str, **params: Any) -> Any:
        """Call, and whatever is answered first."""
        self.begin(method, **params)
        return self.answer()

    def call(self, method: str, **params: Any) -> Any:
        """Call, and the result; a refusal is an AssertionError."""
        answer = self.ask(method, **params)
        assert "result" in answer, answer
        return answer["result"]

    def session(self) -> str:
        requested = ["CAP_ALLOC", "CAP_MAGIC"]
        return str(self.call("q_negotiate_caps", requested=requested)["session_id"])


def example(name: str) -> Any:
    """One of `qvm/examples`, as plain data."""
    return msgspec.json.decode((ROOT / f"qvm/examples/{name}.qvm.json").read_bytes())
