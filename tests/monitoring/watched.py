"""A daemon with some work done, a Prometheus that scrapes it, and questions to that."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.daemon import Daemon, Line, example, running_daemon

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
START_S_MAX = 30.0
CHOICES = {"$instance": ".*", "$tenant": ".*"}

TENANT = '[[tenant]]\nname = "ops"\nuids = [{}]\n'
DECODER = "[decoder]\nround_ns = 1000\nwindow_ns = 3000\nevent_ns = 500\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def watched(
    folder: Path, interval: str = "200ms", tenants: str = "", keys: str = ""
) -> Iterator[tuple[Daemon, str]]:
    """A daemon, and the address of a Prometheus with our rules that scrapes it.

    tenants: tables of the configuration, beside that of the tenant `ops`. keys: more of its keys.
    """
    ours, theirs = free_port(), free_port()
    tenant = TENANT.format(Path("/proc/self").stat().st_uid)
    config = f"metrics_port = {ours}\n{keys}{DECODER}{tenant}{tenants}"
    text = (MONITORING / "prometheus.yml").read_text()
    text = text.replace("127.0.0.1:9464", f"127.0.0.1:{ours}").replace("15s", interval)
    (folder / "prometheus.yml").write_text(text)
    rules = (MONITORING / "rules.yml").read_text()
    (folder / "rules.yml").write_text(rules)
    command = [
        "prometheus", f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{theirs}",
        "--enable-feature=exemplar-storage", "--log.level=warn",
    ]  # fmt: skip
    address = f"http://127.0.0.1:{theirs}"
    with running_daemon(config=config) as daemon, (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            deadline = time.monotonic() + START_S_MAX
            while not _ready(address):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, "Prometheus does not get ready"
                time.sleep(0.05)
            yield daemon, address
        finally:
            process.terminate()
            process.wait(START_S_MAX)


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def work(line: Line, session: str, seed: int) -> None:
    """Jobs under two kinds of noise, and a refusal."""
    graph = example("bell")
    for noise in ("ideal", "decoded"):
        policy = {"shots": 500, "seed": seed, "noise": noise}
        who = {"session_id": session}
        job = line.call("q_submit", **who, graph=graph, policy=policy)["job_id"]
        line.call("q_wait", **who, job_id=job)
    line.ask("q_status", session_id=session, job_id="job_" + "0" * 32)


def ask(address: str, path: str, **query: str) -> Any:
    """What Prometheus answers; a refusal is an AssertionError."""
    url = f"{address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            body = json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{query}: {error.read().decode()}") from error
    assert body["status"] == "success", body
    return body["data"]


def chosen(expression: str, window: str = "1m") -> str:
    """A dashboard's query with every variable at its widest."""
    for name, value in {**CHOICES, "$__rate_interval": window}.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def panels() -> dict[str, list[tuple[str, str]]]:
    """Of the dashboard: by title, its queries and legends."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return {
        panel["title"]: [(each["expr"], each["legendFormat"]) for each in panel["targets"]]
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    }


def series_named(expression: str) -> set[str]:
    """Series of the daemon that an expression reads."""
    return set(re.findall(r"\bqmkd_[a-z_]+", re.sub(r'"[^"]*"', "", expression)))


def here(*programs: str) -> bool:
    return all(shutil.which(program) for program in programs)
