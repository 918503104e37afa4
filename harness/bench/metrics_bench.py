"""What counting costs: null calls and small jobs on daemons with metrics and without, in turns.

Each round asks both, so that a drifting machine moves ratios least. Null calls are made one by one
and many at a time, the latter being the dearest case: nothing but the kernel's step is left.

A scrape is measured by what its own series says: CPU time of the loop, in turns of a few series.
"""

from __future__ import annotations

import re
import socket
import statistics
from pathlib import Path

from harness.bench.jobs_bench import WINDOW
from harness.bench.rows import Row, median_ratio, row
from harness.bench.sides import MANY, measured, side_by_side
from harness.bench.tools import scratch

SIDES = {"off": 'metrics = "off"\n', "on": 'metrics = "on"\n'}


def run(quick: bool) -> list[Row]:
    rounds, jobs, calls = (5, 4 * WINDOW, 20_000) if quick else (15, 16 * WINDOW, 50_000)
    with scratch() as folder, side_by_side(folder, SIDES) as sides:
        work = measured(sides, rounds, jobs, calls)
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
