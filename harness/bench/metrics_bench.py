"""What counting costs: null calls and small jobs on daemons with metrics and without, in turns.

Each round asks both, so that a drifting machine moves ratios least. Null calls are made one by one
and many at a time, the latter being the dearest case: nothing but the kernel's step is left.

A scrape is measured by what its own series says: CPU time of the loop, in turns of a few series.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import statistics
from collections.abc import Iterator
from pathlib import Path

from harness.bench.jobs_bench import WINDOW, small_jobs
from harness.bench.rows import Row, median_ratio, row
from harness.bench.syscall_bench import bell
from harness.bench.tools import daemon_command, pinned_to_one_core, scratch, server
from harness.bench.wire import Wire

CORE = 1
SIDES = ("off", "on")
MANY = 64


def run(quick: bool) -> list[Row]:
    rounds, jobs, calls = (5, 4 * WINDOW, 20_000) if quick else (15, 16 * WINDOW, 50_000)
    with scratch() as folder, contextlib.ExitStack() as stack:
        sides = {side: stack.enter_context(_side(folder, side)) for side in SIDES}
        for each in sides.values():
            each.small_jobs(WINDOW)
            each.null_calls(1_000, MANY)
        work = {side: _Times() for side in SIDES}
        for number in range(rounds):
            for side in SIDES if number % 2 else reversed(SIDES):
                seconds, cpu = sides[side].small_jobs(jobs)
                work[side].jobs.append(seconds)
                work[side].cpu.append(cpu)
        everywhere = os.sched_getaffinity(0)
        pinned_to_one_core(0, CORE)
        for side in SIDES:
            pinned_to_one_core(sides[side].pid, CORE)
        for number in range(3 * rounds):
            for side in SIDES if number % 2 else reversed(SIDES):
                work[side].one.append(sides[side].null_calls(calls // 12, 1))
                work[side].many.append(sides[side].null_calls(calls // 3, MANY))
        os.sched_setaffinity(0, everywhere)
        path = folder / "on-metrics.sock"
        scraped = [_scrape(path) for _ in range(rounds + 1)][1:]
    off, on = (work[side] for side in SIDES)
    return [
        row("small jobs, no metrics", jobs / statistics.median(off.jobs), "jobs/s"),
        row("small jobs, metrics", jobs / statistics.median(on.jobs), "jobs/s"),
        row(
            "time of small jobs, metrics / none",
            median_ratio(on.jobs, off.jobs),
            "x",
            at_most=1.1,
        ),
        row(
            "daemon's CPU time of small jobs, metrics / none",
            median_ratio(on.cpu, off.cpu),
            "x",
            at_most=1.1,
        ),
        row(
            "daemon's CPU time of null calls (q_status), metrics / none",
            median_ratio(on.one, off.one),
            "x",
            at_most=1.1,
        ),
        row(
            f"the same, {MANY} calls in flight",
            median_ratio(on.many, off.many),
            "x",
            at_most=1.1,
        ),
        row("a scrape, CPU time of the loop", statistics.median(scraped) * 1e3, "ms"),
    ]


class _Times:
    def __init__(self) -> None:
        self.jobs: list[float] = []
        self.cpu: list[float] = []
        self.one: list[float] = []
        self.many: list[float] = []


class _Side:
    """A daemon and a client of it."""

    def __init__(self, wire: Wire, pid: int) -> None:
        self.pid = pid
        self._wire, self._session = wire, wire.session()
        policy = {"shots": 10, "seed": 1}
        params = {"session_id": self._session, "graph": bell(), "policy": policy}
        self._job = wire.call("q_submit", params)["job_id"]

    def small_jobs(self, jobs: int) -> tuple[float, float]:
        """Seconds, and CPU seconds of the daemon's own process."""
        before = _cpu_seconds(self.pid)
        seconds = small_jobs(self._wire, self._session, jobs)
        return seconds, _cpu_seconds(self.pid) - before

    def null_calls(self, calls: int, window: int) -> float:
        """CPU seconds of the daemon's own process."""
        params = {"session_id": self._session, "job_id": self._job}
        before = _cpu_seconds(self.pid)
        self._wire.flow(calls, window, lambda i: ("q_status", params))
        return _cpu_seconds(self.pid) - before


@contextlib.contextmanager
def _side(folder: Path, side: str) -> Iterator[_Side]:
    config = folder / f"{side}.toml"
    config.write_text(f'metrics = "{side}"\nworker_scheduling = "other"\n')
    path = folder / f"{side}.sock"
    command = [*daemon_command(folder, side, workers=1), "--config", str(config)]
    with server(command, path) as pid, Wire(path) as wire:
        yield _Side(wire, pid)


def _cpu_seconds(pid: int) -> float:
    """To the nanosecond, of the process's main thread, which is the loop (proc(5), schedstat)."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def _scrape(path: Path) -> float:
    """CPU seconds of the scrape before."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n")
        with sock.makefile("rb") as file:
            text = file.read().decode()
    found = re.search(r"^qmkd_scrape_loop_seconds (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])
