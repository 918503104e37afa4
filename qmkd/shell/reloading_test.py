"""A daemon that is told to read its configuration again, and what it tells those who manage it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from qmkd.shell import reloading
from qmkd.shell.activation import watchdog_s
from tests.daemon import (
    ROOT,
    Daemon,
    Line,
    clean_environment,
    command,
    example,
    running_daemon,
    short_folder,
)

ME = '[[tenant]]\nname = "me"\nuids = [{uid}]\n'


class Manager:
    """The service manager's end of the protocol: what it was told, message by message."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.sock.settimeout(20)

    def heard(self) -> dict[str, str]:
        lines = self.sock.recv(10_000).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def heard_with(self, name: str) -> dict[str, str]:
        """The next message that sets this variable."""
        while name not in (message := self.heard()):
            pass
        return message


@contextmanager
def managed(folder: Path) -> Iterator[Manager]:
    manager = Manager(folder / "notify")
    try:
        yield manager
    finally:
        manager.sock.close()


def reload(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Write another configuration and have it read."""
    (folder / "qmkd.toml").write_text(text)
    flags = ("--config", str(folder / "qmkd.toml"), "--state-dir", str(folder / "state"))
    return subprocess.run(
        command("--reload", *flags),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean_environment(),
    )


def mine(extra: str = "", before: str = "") -> str:
    return before + ME.format(uid=os.getuid()) + extra


@contextmanager
def serving(folder: Path, text: str, **environment: str) -> Iterator[Daemon]:
    with running_daemon(folder, config=text, environment=environment) as daemon:
        yield daemon


def test_a_reload_changes_rules_and_limits_under_an_open_session() -> None:
    with short_folder() as folder, serving(folder, mine()) as daemon, Line(daemon.socket) as line:
        session = line.session()
        asked = {"session_id": session, "graph": example("bell"), "policy": {"shots": 10}}
        job = line.call("q_submit", **asked)["job_id"]
        done = reload(folder, mine("[tenant.quota]\njobs = 0\n", "stop_grace_ms = 1\n"))
        assert done.returncode == 0, done.stderr
        assert done.stderr == "qmkd: In force: stop_grace_ms, tenant.\n"
        assert line.ask("q_submit", **asked)["error"]["data"]["type"] == "QUOTA_EXCEEDED"
        assert line.call("q_wait", session_id=session, job_id=job)["state"] == "COMPLETED"
        assert reload(folder, mine("suspended = true\n")).returncode == 0
        refused = line.ask("q_status", session_id=session, job_id=job)
        assert refused["error"]["data"]["type"] == "TENANT_SUSPENDED"
        other = '[[tenant]]\nname = "other"\nuids = [54321]\n'
        assert reload(folder, other).returncode == 0
        assert daemon.socket.stat().st_mode & 0o777 == 0o666, "there is somebody else now"
        refused = line.ask("q_status", session_id=session, job_id=job)
        assert refused["error"]["data"]["type"] == "TENANT_SUSPENDED"
        assert reload(folder, mine()).returncode == 0
        assert line.call("q_status", session_id=session, job_id=job)["state"] == "COMPLETED"


def test_a_file_that_does_not_hold_together_changes_nothing_and_everybody_hears_why() -> None:
    with short_folder() as folder, managed(folder) as manager:
        notified = {"NOTIFY_SOCKET": str(folder / "notify")}
        with serving(folder, mine(), **notified) as daemon, Line(daemon.socket) as line:
            session = line.session()
            manager.heard_with("READY")
            done = reload(folder, mine("weight = 0\n", "workerz = 3\n"))
            assert done.returncode == 2
            assert "workerz" in done.stderr
            # It could not tell whom to ask from such a file; a signal reaches the daemon anyway.
            daemon.process.send_signal(signal.SIGHUP)
            begun = manager.heard_with("RELOADING")
            assert int(begun["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            ended = manager.heard_with("READY")
            assert "The configuration stays as it was" in ended["STATUS"]
            assert "workerz" in ended["STATUS"]
            assert "the configuration is refused" in daemon.log
            line.call("q_get_telemetry", session_id=session)


def test_what_only_a_restart_changes_is_named() -> None:
    with short_folder() as folder, serving(folder, mine()):
        done = reload(folder, mine(before='durability = "power"\nphysical_qubits = 5000\n'))
        assert done.returncode == 0
        assert done.stderr == (
            "qmkd: Nothing has changed. Only a restart changes physical_qubits.\n"
        )


def test_nobody_is_asked_where_no_daemon_runs(tmp_path: Path) -> None:
    done = reload(tmp_path, mine())
    assert done.returncode == 1
    assert "lock: No such file or directory" in done.stderr
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "lock").write_text("1\n")
    done = reload(tmp_path, mine())
    assert (done.returncode, f"no daemon runs on {tmp_path}" in done.stderr) == (1, True)


def test_a_report_of_an_earlier_reload_is_not_taken_for_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = reloading.Report(begun_ns=1, pid=77)
    (tmp_path / "reloaded").write_bytes(msgspec.json.encode(old))
    monkeypatch.setattr(reloading, "running_pid", lambda _: 77)
    monkeypatch.setattr(reloading, "WAIT_S_MAX", 0.1)
    monkeypatch.setattr(os, "kill", lambda *_: None)
    with pytest.raises(reloading.NotAsked, match="did not say"):
        reloading.ask({"RUNTIME_DIRECTORY": str(tmp_path)}, "/nowhere")


def test_the_watchdog_is_fed_while_calls_are_served_and_not_while_the_daemon_hangs() -> None:
    with short_folder() as folder, managed(folder) as manager:
        notified = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "200000"}
        with serving(folder, mine(), **notified) as daemon:
            for _ in range(3):
                manager.heard_with("WATCHDOG")
            daemon.process.send_signal(signal.SIGSTOP)
            manager.sock.setblocking(False)
            while Path(f"/proc/{daemon.process.pid}/stat").read_text().split()[2] != "T":
                pass
            with suppress(BlockingIOError):
                while manager.sock.recv(1000):
                    pass  # what it said before it hung
            woken = threading.Timer(0.2, daemon.process.send_signal, [signal.SIGCONT])
            woken.start()
            manager.sock.settimeout(20)
            manager.heard_with("WATCHDOG")
            woken.join()


def test_only_the_process_that_is_watched_feeds_the_watchdog() -> None:
    assert watchdog_s({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}) == 3.0
    assert watchdog_s({"WATCHDOG_USEC": "3000000"}) == 3.0
    assert watchdog_s({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_s({"WATCHDOG_USEC": "0"}) is None
    assert watchdog_s({}) is None
