"""`qmkctl top` and `qmkctl events` as programs, on a real daemon."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from runtime.client import Client
from runtime.ctl.commands.top import view
from tests.daemon import Daemon, running_daemon

ROOT = Path(__file__).parents[2]
BELL = str(ROOT / "qvm/examples/bell.qvm.json")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


@pytest.fixture
def environment(daemon: Daemon, tmp_path: Path) -> dict[str, str]:
    private = {"QMK_SOCKET": str(daemon.socket), "XDG_RUNTIME_DIR": str(tmp_path), "COLUMNS": "100"}
    return {k: v for k, v in os.environ.items() if k != "QMK_SOCKET"} | private


def ctl(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "runtime.ctl", *arguments]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_top_shows_the_machine_and_every_tenant(
    environment: dict[str, str], tmp_path: Path
) -> None:
    ctl(environment, "run", BELL, "--shots", "100", "--noise", "ideal")
    figures = json.loads(ctl(environment, "top", "--json"))
    (tenant,) = figures["tenants"]
    assert tenant["sessions"] == figures["sessions"] == 1
    shown = ctl(environment, "top", "--once")
    assert tenant["name"] in shown
    assert "1 completed" in shown
    picture = tmp_path / "top.svg"
    ctl(environment, "top", "--svg", str(picture), "--interval", "0.01")
    drawn = "".join(ElementTree.parse(picture).getroot().itertext()).replace("\xa0", " ")
    assert "epoch" in drawn
    assert "a second" in drawn
    assert "url(http" not in picture.read_text().replace('"', "")


def test_top_shows_degraded_modes_modules_and_no_rate_of_a_daemon_that_began_anew() -> None:
    machine = {
        "machine": "m", "cycle_ns": 1000, "epoch": 5, "cycles": 7, "utilization": 0.5,
        "cycles_utilization": 0.97, "physical_qubits_used": 5, "physical_qubits_total": 10,
        "modules": [{"name": "left", "qubits": 5, "free": 0}, {"name": "right", "qubits": 5,
                                                               "free": 5}],
        "workers_ready": 1, "workers_total": 2, "segments_running": 0, "jobs": {"RUNNING": 2},
        "jobs_waiting": 3, "requests_waiting": 4, "tenants": [],
        "degraded": [{"mode": "migrate", "since_cycle": 3, "cause": "module left has failed"}],
    }  # fmt: skip
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(view([{**machine, "epoch": 9, "at_s": 0.0}, {**machine, "at_s": 2.0}]))
    text = console.export_text()
    assert "migrate since cycle 3: module left has failed" in text
    assert "epoch        5" in [line.rstrip() for line in text.splitlines()]
    assert "0 a second" in text  # cycles stood still
    assert "left" in text
    assert "100.0% 0 free" in text


def test_events_tell_a_job_to_its_end_line_by_line(
    daemon: Daemon, environment: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "runtime.ctl", "events", "--follow", "--json"]
    ctl(environment, "session")
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as follower:
        assert follower.stdout is not None
        try:
            # A job of another process of the same session. It may be over before the follower
            # subscribes, so jobs come until one is told of.
            while not select.select([follower.stdout], [], [], 0)[0]:
                ctl(environment, "run", BELL, "--shots", "100")
            heard = [follower.stdout.readline()]
            while json.loads(heard[-1])["state"] in ("QUEUED", "RUNNING"):
                heard.append(follower.stdout.readline())
            assert json.loads(heard[-1])["state"] == "COMPLETED"
        finally:
            follower.send_signal(signal.SIGINT)
            assert follower.wait(20) == 130
    events = [json.loads(line) for line in heard]
    of_one = [event["seq"] for event in events if event["job_id"] == events[0]["job_id"]]
    assert of_one == sorted(set(of_one))


def test_events_of_jobs_that_are_over_end_at_once(
    daemon: Daemon, environment: dict[str, str]
) -> None:
    with Client(daemon.socket) as client:
        done = client.submit(BELL, shots=10)
        done.wait()
    assert ctl(environment, "events") == ""
