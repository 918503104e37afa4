"""The price of a system call, beside a C echo (the limit), a trio echo and jsonrpcserver.

Single-client figures have the client and the server on one core, so that no wake-up crosses cores.
Rounds are interleaved (limit, ours, peers, limit, ours ...) and ratios are taken round by round.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from harness.bench.rows import Row, median_ratio, row
from harness.bench.tools import (
    Load,
    compiled,
    daemon_command,
    load,
    pinned_to_one_core,
    scratch,
    server,
)
from harness.bench.wire import Wire, result_of
from qvm import examples

CORE = 1
MIB = 1 << 20
SUBMITS_PER_ROUND = 15


def bell() -> dict[str, Any]:
    """The Bell example as plain data, so that a benchmark may change it."""
    graph: dict[str, Any] = msgspec.json.decode(examples.load("bell"))
    return graph


def _payloads(folder: Path, path: Path) -> dict[str, Path]:
    """Files holding one request each, for a session and a finished job of the daemon at `path`."""
    with Wire(path) as wire:
        session = wire.session()
        first = {"session_id": session, "graph": bell(), "policy": {"seed": 1, "shots": 100}}
        job = wire.call("q_submit", first)["job_id"]
        wire.call("q_wait", {"session_id": session, "job_id": job})
    big = bell()
    big["metadata"] = {"note": "x" * (MIB - 1200)}
    policy = {"seed": 1, "shots": 1}
    calls: dict[str, tuple[str, dict[str, Any]]] = {
        "status": ("q_status", {"session_id": session, "job_id": job}),
        "submit": ("q_submit", {"session_id": session, "graph": big, "policy": policy}),
        "nodes": ("q_submit", {"session_id": session, "graph": wide_graph(), "policy": policy}),
    }
    files = {}
    for name, (method, params) in calls.items():
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        files[name] = folder / f"{name}.json"
        files[name].write_bytes(msgspec.json.encode(request) + b"\n")
    return files


def wide_graph() -> dict[str, Any]:
    """A graph of about one mebibyte that is all nodes: a long Clifford walk on 20 qubits."""
    qubits = [f"q{i}" for i in range(20)]
    nodes: list[dict[str, Any]] = [
        {"id": "a", "op": "ALLOC_LQ", "args": {"n": 20, "profile": "logical:ideal"}, "vqs": qubits}
    ]
    size = 0
    while size < MIB - 4096:
        i = len(nodes)
        node = {"id": f"n{i}", "op": "APPLY_CNOT", "vqs": [qubits[i % 20], qubits[(i + 7) % 20]]}
        nodes.append(node)
        size += len(msgspec.json.encode(node)) + 1
    nodes.append({"id": "m", "op": "MEASURE_Z", "vqs": ["q0"], "produces": ["m0"]})
    nodes.append({"id": "f", "op": "FREE_LQ", "vqs": qubits})
    return {
        "version": "0.1",
        "program": {"nodes": nodes},
        "resources": {"vqs": qubits, "chs": [], "events": ["m0"]},
    }


def run(quick: bool) -> list[Row]:
    rounds, seconds = (3, 0.3) if quick else (9, 0.6)
    with scratch() as folder, ExitStack() as stack:
        tool, echo = compiled(folder, "load"), compiled(folder, "echo")
        paths = {name: folder / f"{name}.sock" for name in ("echo", "trio", "peer", "ours")}
        peer = [sys.executable, "-m", "harness.bench.peers"]
        commands = {
            "echo": [str(echo), str(paths["echo"])],
            "trio": [*peer, "trio", str(paths["trio"])],
            "peer": [*peer, "jsonrpcserver", str(paths["peer"])],
            "ours": daemon_command(folder, "ours"),
        }
        pids = {
            name: stack.enter_context(server(command, paths[name]))
            for name, command in commands.items()
        }
        files = _payloads(folder, paths["ours"])

        def small(clients: int, core: int | None) -> dict[str, list[Load]]:
            results: dict[str, list[Load]] = {name: [] for name in pids}
            for _ in range(rounds):
                for name, into in results.items():
                    into.append(
                        load(tool, "closed", paths[name], files["status"], clients, seconds, core)
                    )
            return results

        fifty = small(50, None)
        for pid in pids.values():
            pinned_to_one_core(pid, CORE)
        one = small(1, CORE)
        unpinned = os.sched_getaffinity(0)
        pinned_to_one_core(0, CORE)
        large = _submits(paths, files["submit"], ("echo", "ours", "peer"), rounds)
        nodes = _submits(paths, files["nodes"], ("echo", "ours"), rounds)
        os.sched_setaffinity(0, unpinned)
    return [*_small_rows(one, fifty), *_large_rows(large, nodes)]


def _submits(
    paths: dict[str, Path], payload: Path, names: tuple[str, ...], rounds: int
) -> dict[str, list[float]]:
    """Seconds from sending the payload to its whole answer, interleaved; medians of each round.

    Every job of ours is waited for between two submissions, outside the measured time.
    """
    request = payload.read_bytes()
    session = msgspec.json.decode(request)["params"]["session_id"]
    results: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        wires = {name: stack.enter_context(Wire(paths[name])) for name in names}
        for _ in range(rounds):
            for name, wire in wires.items():
                times = []
                for _ in range(SUBMITS_PER_ROUND):
                    began = time.perf_counter()
                    reply = wire.exchange(request)
                    times.append(time.perf_counter() - began)
                    if name == "ours":
                        job = result_of(msgspec.json.decode(reply))["job_id"]
                        wire.call("q_wait", {"session_id": session, "job_id": job})
                results[name].append(statistics.median(times))
    return results


def _p50(results: list[Load]) -> list[float]:
    return [float(one["p50_ns"]) for one in results]


def _rate(results: list[Load]) -> list[float]:
    return [one["rate"] for one in results]


def _small_rows(one: dict[str, list[Load]], fifty: dict[str, list[Load]]) -> list[Row]:
    p50 = {name: _p50(results) for name, results in one.items()}
    rate = {name: _rate(results) for name, results in fifty.items()}
    rows = [
        row(f"q_status, 1 client, p50, {name}", sorted(p50[name])[len(p50[name]) // 2] / 1e3, "us")
        for name in p50
    ]
    rows += [
        row(f"q_status, 50 clients, {name}", sorted(rate[name])[len(rate[name]) // 2], "calls/s")
        for name in rate
    ]
    return [
        *rows,
        row("q_status p50 / C echo", median_ratio(p50["ours"], p50["echo"]), "x", at_most=2.5),
        row("q_status p50 / trio echo", median_ratio(p50["ours"], p50["trio"]), "x"),
        row(
            "jsonrpcserver p50 / q_status", median_ratio(p50["peer"], p50["ours"]), "x", at_least=5
        ),
        row(
            "q_status rate / jsonrpcserver, 50 clients",
            median_ratio(rate["ours"], rate["peer"]),
            "x",
            at_least=5,
        ),
        row("q_status rate / C echo, 50 clients", median_ratio(rate["ours"], rate["echo"]), "x"),
    ]


def _large_rows(large: dict[str, list[float]], nodes: dict[str, list[float]]) -> list[Row]:
    few = "1 MiB submit, few nodes"
    return [
        row(f"{few}, C echo", statistics.median(large["echo"]) * 1e6, "us"),
        row(f"{few}, ours", statistics.median(large["ours"]) * 1e6, "us"),
        row(f"{few} / C echo", median_ratio(large["ours"], large["echo"]), "x", at_most=10),
        row(f"{few}, jsonrpcserver / ours", median_ratio(large["peer"], large["ours"]), "x"),
        row(
            "1 MiB submit, all nodes, program seen before / C echo",
            median_ratio(nodes["ours"], nodes["echo"]),
            "x",
            at_most=10,
        ),
    ]
