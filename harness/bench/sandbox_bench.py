"""What the sandbox of workers costs: small jobs on a daemon with it and one without, in turns."""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

from harness.bench.jobs_bench import WINDOW, small_jobs
from harness.bench.rows import Row, median_ratio, row
from harness.bench.tools import daemon_command, scratch, server
from harness.bench.wire import Wire

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
LEVELS = ("off", "best")


def run(quick: bool) -> list[Row]:
    rounds, jobs = (5, 4 * WINDOW) if quick else (15, 16 * WINDOW)
    seconds: dict[str, list[float]] = {level: [] for level in LEVELS}
    cpu: dict[str, list[float]] = {level: [] for level in LEVELS}
    with scratch() as folder, contextlib.ExitStack() as stack:
        sides = {level: stack.enter_context(_side(folder, level)) for level in LEVELS}
        for wire, session, _ in sides.values():
            small_jobs(wire, session, WINDOW)
        for number in range(rounds):
            for level in LEVELS if number % 2 else reversed(LEVELS):
                wire, session, pid = sides[level]
                before = _cpu_seconds(pid)
                seconds[level].append(small_jobs(wire, session, jobs))
                cpu[level].append(_cpu_seconds(pid) - before)
    off, best = LEVELS
    return [
        row("small jobs, no sandbox", jobs / statistics.median(seconds[off]), "jobs/s"),
        row("small jobs, sandbox", jobs / statistics.median(seconds[best]), "jobs/s"),
        row(
            "time of small jobs, sandbox / none",
            median_ratio(seconds[best], seconds[off]),
            "x",
            at_most=1.1,
        ),
        row(
            "CPU time of workers, sandbox / none",
            median_ratio(cpu[best], cpu[off]),
            "x",
            at_most=1.1,
        ),
    ]


@contextlib.contextmanager
def _side(folder: Path, level: str) -> Iterator[tuple[Wire, str, int]]:
    """A connection, its session, and the daemon's process."""
    config = folder / f"{level}.toml"
    config.write_text(f'worker_sandbox = "{level}"\nworker_scheduling = "other"\n')
    path = folder / f"{level}.sock"
    command = [*daemon_command(folder, level, workers=1), "--config", str(config)]
    with server(command, path) as pid, Wire(path) as wire:
        yield wire, wire.session(), pid


def _cpu_seconds(pid: int) -> float:
    """Of the daemon's workers."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ticks = 0
    for child in children:
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime of proc(5)
    return ticks / TICKS_A_SECOND
