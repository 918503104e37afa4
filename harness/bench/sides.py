"""Daemons that differ in one thing, asked the same in turns: small jobs, and null calls.

Each round asks all of them, so that a drifting machine moves ratios least. Null calls are made one
by one and many at a time, the latter being the dearest case: nothing but the kernel's step is left.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.bench.jobs_bench import WINDOW, small_jobs
from harness.bench.syscall_bench import bell
from harness.bench.tools import daemon_command, pinned_to_one_core, server
from harness.bench.wire import Wire

CORE = 1
MANY = 64


class Times:
    """Of each round. jobs: seconds. cpu, one, many: CPU seconds of the daemon's own process."""

    def __init__(self) -> None:
        self.jobs: list[float] = []
        self.cpu: list[float] = []
        self.one: list[float] = []
        self.many: list[float] = []


class Side:
    """A daemon and a client of it."""

    def __init__(self, wire: Wire, pid: int) -> None:
        self.pid = pid
        self.wire, self._session = wire, wire.session()
        policy = {"shots": 10, "seed": 1}
        params = {"session_id": self._session, "graph": bell(), "policy": policy}
        self._job = wire.call("q_submit", params)["job_id"]

    def small_jobs(self, jobs: int) -> tuple[float, float]:
        """Seconds, and CPU seconds of the daemon's own process."""
        before = _cpu_seconds(self.pid)
        seconds = small_jobs(self.wire, self._session, jobs)
        return seconds, _cpu_seconds(self.pid) - before

    def null_calls(self, calls: int, window: int) -> float:
        """CPU seconds of the daemon's own process."""
        params = {"session_id": self._session, "job_id": self._job}
        before = _cpu_seconds(self.pid)
        self.wire.flow(calls, window, lambda i: ("q_status", params))
        return _cpu_seconds(self.pid) - before


@contextlib.contextmanager
def side_by_side(folder: Path, sides: Mapping[str, str]) -> Iterator[dict[str, Side]]:
    """By name, from the text of each one's configuration."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(_side(folder, name, sides[name])) for name in sides}


@contextlib.contextmanager
def _side(folder: Path, name: str, config: str) -> Iterator[Side]:
    path = folder / f"{name}.toml"
    path.write_text(f'{config}worker_scheduling = "other"\n')
    socket = folder / f"{name}.sock"
    command = [*daemon_command(folder, name, workers=1), "--config", str(path)]
    with server(command, socket) as pid, Wire(socket) as wire:
        yield Side(wire, pid)


def measured(sides: Mapping[str, Side], rounds: int, jobs: int, calls: int) -> dict[str, Times]:
    """Of each side, in turns."""
    for each in sides.values():
        each.small_jobs(WINDOW)
        each.null_calls(1_000, MANY)
    work = {name: Times() for name in sides}
    for number in range(rounds):
        for name in _turn(sides, number):
            seconds, cpu = sides[name].small_jobs(jobs)
            work[name].jobs.append(seconds)
            work[name].cpu.append(cpu)
    everywhere = os.sched_getaffinity(0)
    pinned_to_one_core(0, CORE)
    for side in sides.values():
        pinned_to_one_core(side.pid, CORE)
    for number in range(3 * rounds):
        for name in _turn(sides, number):
            work[name].one.append(sides[name].null_calls(calls // 12, 1))
            work[name].many.append(sides[name].null_calls(calls // 3, MANY))
    os.sched_setaffinity(0, everywhere)
    return work


def _turn(sides: Mapping[str, Side], number: int) -> list[str]:
    """Nobody is always first."""
    names = list(sides)
    return names if number % 2 else names[::-1]


def _cpu_seconds(pid: int) -> float:
    """To the nanosecond, of the process's main thread, which is the loop (proc(5), schedstat)."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9
