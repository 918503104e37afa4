"""What traces cost: daemons that tell no spans, that would, and that do for every call.

`ready` has a `traces_socket` and calls without `traceparent`; `traced` has one on each call, and an
exporter that writes to a file. What the exporter takes is its own process's, and not counted.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from harness.bench.jobs_bench import WINDOW
from harness.bench.rows import Row, median_ratio, row
from harness.bench.sides import MANY, measured, side_by_side
from harness.bench.tools import scratch

TRACEPARENT = f"00-{'4bf92f3577b34da6a3ce929d0e0e4736'}-{'00f067aa0ba902b7'}-01"
START_S_MAX = 20.0


def run(quick: bool) -> list[Row]:
    rounds, jobs, calls = (5, 4 * WINDOW, 20_000) if quick else (15, 16 * WINDOW, 50_000)
    with scratch() as folder, _exporter(folder):
        told = f'traces_socket = "{folder / "spans.sock"}"\n'
        with side_by_side(folder, {"off": "", "ready": told, "traced": told}) as sides:
            sides["traced"].wire.traceparent = TRACEPARENT
            work = measured(sides, rounds, jobs, calls)
    off, ready, traced = work["off"], work["ready"], work["traced"]
    rows = []
    for name, side, most in (("ready to trace", ready, 1.05), ("all traced", traced, None)):
        compared = (
            ("daemon's CPU time of small jobs", side.cpu, off.cpu),
            ("daemon's CPU time of null calls", side.one, off.one),
            (f"the same, {MANY} calls in flight", side.many, off.many),
        )
        rows.append(
            row(f"time of small jobs, {name} / off", median_ratio(side.jobs, off.jobs), "x")
        )
        for what, ours, without in compared:
            ratio = median_ratio(ours, without)
            rows.append(row(f"{what}, {name} / off", ratio, "x", at_most=most))
    return rows


@contextlib.contextmanager
def _exporter(folder: Path) -> Iterator[None]:
    places = ["--socket", str(folder / "spans.sock"), "--file", str(folder / "spans.jsonl")]
    process = subprocess.Popen([sys.executable, "-m", "runtime.tracing", *places])
    try:
        deadline = time.monotonic() + START_S_MAX
        while not (folder / "spans.sock").exists():
            assert process.poll() is None, "the exporter runs"
            assert time.monotonic() < deadline, "the exporter starts"
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait()
