"""Latency that others' work may not spoil: q_status at 1,000 calls a second, open loop.

Open loop means that a call is sent when it is due, answered or not, and its latency is counted from
then. A closed loop would wait politely while the daemon stalls and so never see it.
"""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path

import msgspec

from harness.bench.jobs_bench import keep_busy
from harness.bench.rows import Row, median_ratio, row
from harness.bench.syscall_bench import bell
from harness.bench.tools import Load, compiled, daemon, load, scratch
from harness.bench.wire import Wire

RATE = 1_000


def run(quick: bool) -> list[Row]:
    rounds, seconds = (3, 1.0) if quick else (9, 3.0)
    idle: list[Load] = []
    busy: list[Load] = []
    with scratch() as folder, daemon(folder) as path, Wire(path) as wire:
        tool = compiled(folder, "load")
        session = wire.session()
        job = wire.call(
            "q_submit", {"session_id": session, "graph": bell(), "policy": {"shots": 10, "seed": 1}}
        )
        who = {"session_id": session, "job_id": job["job_id"]}
        wire.call("q_wait", who)
        payload = folder / "status.json"
        request = {"jsonrpc": "2.0", "id": 1, "method": "q_status", "params": who}
        payload.write_bytes(msgspec.json.encode(request) + b"\n")
        for _ in range(rounds):
            idle.append(load(tool, "open", path, payload, RATE, seconds, None))
            busy.append(_under_load(tool, path, payload, seconds))
    return _rows(idle, busy)


def _under_load(tool: Path, path: Path, payload: Path, seconds: float) -> Load:
    stop = threading.Event()
    simulations = threading.Thread(target=keep_busy, args=(path, stop))
    simulations.start()
    try:
        time.sleep(0.3)
        return load(tool, "open", path, payload, RATE, seconds, None)
    finally:
        stop.set()
        simulations.join()


def _rows(idle: list[Load], busy: list[Load]) -> list[Row]:
    rows = []
    for name, results in (("idle", idle), ("two simulations running", busy)):
        for quantile in ("p50_ns", "p99_ns", "p999_ns"):
            value = statistics.median(float(one[quantile]) for one in results)
            rows.append(row(f"q_status open loop, {name}, {quantile[:-3]}", value / 1e3, "us"))
    rows.append(
        row(
            "q_status open loop p99, two simulations / idle",
            median_ratio([float(b["p99_ns"]) for b in busy], [float(i["p99_ns"]) for i in idle]),
            "x",
            at_most=1.5,
        )
    )
    return rows
