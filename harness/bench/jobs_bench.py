"""Jobs end to end: small jobs per second, submit time against size, cancelling what runs."""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path
from typing import Any

from harness.bench.rows import Row, row
from harness.bench.syscall_bench import bell
from harness.bench.tools import daemon, scratch
from harness.bench.wire import Wire

SMALL_SHOTS = 100
WINDOW = 128
CHAIN_QUBITS = 20
GUARDS = 400
SIZES = (100, 1_000, 10_000, 100_000)


def run(quick: bool) -> list[Row]:
    with scratch() as folder, daemon(folder) as path:
        return [
            *_small_jobs(path, 1_000 if quick else 8_000),
            *_submit_growth(path, SIZES[:-1] if quick else SIZES),
            *_cancel(path, 5 if quick else 15),
        ]


def small_jobs(wire: Wire, session: str, jobs: int) -> float:
    """Submit and wait for every one; the seconds that took."""
    graph = bell()

    def submit(i: int) -> tuple[str, dict[str, Any]]:
        policy = {"shots": SMALL_SHOTS, "seed": i}
        return "q_submit", {"session_id": session, "graph": graph, "policy": policy}

    began = time.perf_counter()
    for first in range(0, jobs, WINDOW):
        size = min(WINDOW, jobs - first)
        ids = [reply["job_id"] for reply in wire.flow(size, WINDOW, submit)]

        def wait(i: int, ids: list[str] = ids) -> tuple[str, dict[str, Any]]:
            return "q_wait", {"session_id": session, "job_id": ids[i]}

        done = wire.flow(size, WINDOW, wait)
        assert all(sum(one["counts"].values()) == SMALL_SHOTS for one in done)
    return time.perf_counter() - began


def _small_jobs(path: Path, count: int) -> list[Row]:
    with Wire(path) as wire:
        session = wire.session()
        small_jobs(wire, session, WINDOW)
        rates = [count / small_jobs(wire, session, count) for _ in range(3)]
    return [
        row(
            f"small jobs end to end (Bell, {SMALL_SHOTS} shots, 1 client)",
            statistics.median(rates),
            "jobs/s",
            at_least=2_000,
        )
    ]


def chain(nodes: int) -> dict[str, Any]:
    """A Clifford walk of `nodes` nodes."""
    qubits = [f"q{i}" for i in range(CHAIN_QUBITS)]
    profile = {"n": CHAIN_QUBITS, "profile": "logical:ideal"}
    body: list[dict[str, Any]] = [{"id": "a", "op": "ALLOC_LQ", "args": profile, "vqs": qubits}]
    body += [
        {"id": f"n{i}", "op": "APPLY_CNOT", "vqs": [qubits[i % 20], qubits[(i + 7) % 20]]}
        for i in range(nodes - 3)
    ]
    body.append({"id": "m", "op": "MEASURE_Z", "vqs": ["q0"], "produces": ["m0"]})
    body.append({"id": "f", "op": "FREE_LQ", "vqs": qubits})
    resources = {"vqs": qubits, "chs": [], "events": ["m0"]}
    return {"version": "0.1", "program": {"nodes": body}, "resources": resources}


def grind(guards: int) -> dict[str, Any]:
    """A program whose shots all take ways of their own: coins guard gates that are no Paulis."""
    qubits, events = ["a", "b", "c"], [f"m{i}" for i in range(guards)]
    profile = {"n": 3, "profile": "logical:ideal"}
    body: list[dict[str, Any]] = [{"id": "n", "op": "ALLOC_LQ", "args": profile, "vqs": qubits}]
    for i, event in enumerate(events):
        guard = {"event": event, "equals": 1}
        body += [
            {"id": f"h{i}", "op": "APPLY_H", "vqs": ["a"]},
            {"id": f"m{i}", "op": "MEASURE_Z", "vqs": ["a"], "produces": [event]},
            {"id": f"g{i}", "op": ("APPLY_H", "APPLY_S")[i % 2], "vqs": ["b"], "guard": guard},
            {"id": f"c{i}", "op": "APPLY_CNOT", "vqs": ["b", "c"]},
        ]
    body.append({"id": "f", "op": "FREE_LQ", "vqs": qubits})
    resources = {"vqs": qubits, "chs": [], "events": events}
    return {"version": "0.1", "program": {"nodes": body}, "resources": resources}


def _submit_growth(path: Path, sizes: tuple[int, ...]) -> list[Row]:
    """Time from sending a graph never seen before to its job id, per node."""
    rows, per_node = [], []
    with Wire(path) as wire:
        session = wire.session()
        for size in sizes:
            times = []
            for attempt in range(3):
                graph = chain(size)
                graph["metadata"] = {"attempt": attempt}
                request = wire.request("q_submit", {"session_id": session, "graph": graph})
                began = time.perf_counter()
                wire.sock.sendall(request)
                reply = wire.line()
                times.append(time.perf_counter() - began)
                assert b'"job_' in reply, reply[:500]
            best = statistics.median(times)
            per_node.append(best / size)
            rows.append(row(f"first submit, {size:,} nodes", best * 1e3, "ms"))
    # Small graphs carry the fixed costs, so growth is judged from a thousand nodes on.
    growth = per_node[-1] / per_node[1]
    rows.append(row(f"time per node, {sizes[-1]:,} nodes / {sizes[1]:,}", growth, "x", at_most=2))
    return rows


def _cancel(path: Path, rounds: int) -> list[Row]:
    """From sending q_cancel for a running job to its answer."""
    times = []
    with Wire(path) as wire:
        session = wire.session()
        for seed in range(rounds):
            policy = {"shots": 10_000_000, "seed": seed, "counts": False}
            graph = grind(GUARDS)
            job = wire.call("q_submit", {"session_id": session, "graph": graph, "policy": policy})
            who = {"session_id": session, "job_id": job["job_id"]}
            while wire.call("q_status", who)["state"] != "RUNNING":
                time.sleep(0.002)
            time.sleep(0.1)
            began = time.perf_counter()
            state = wire.call("q_cancel", who)["state"]
            times.append((time.perf_counter() - began) * 1e3)
            assert state == "CANCELLED", state
    return [
        row("q_cancel of a running job, median", statistics.median(times), "ms", at_most=100),
        row("q_cancel of a running job, worst", max(times), "ms", at_most=100),
    ]


def keep_busy(path: Path, stop: threading.Event) -> None:
    """Hold two long simulations running until `stop`."""
    with Wire(path) as wire:
        session = wire.session()
        jobs: list[str] = []
        seed = 0
        while not stop.is_set():
            states = [
                wire.call("q_status", {"session_id": session, "job_id": job})["state"]
                for job in jobs
            ]
            jobs = [
                job
                for job, state in zip(jobs, states, strict=True)
                if state in {"QUEUED", "RUNNING"}
            ]
            while len(jobs) < 2:
                seed += 1
                policy = {"shots": 10_000_000, "seed": seed, "counts": False}
                made = wire.call(
                    "q_submit", {"session_id": session, "graph": grind(GUARDS), "policy": policy}
                )
                jobs.append(made["job_id"])
            stop.wait(0.2)
        wire.call("q_close_session", {"session_id": session})
