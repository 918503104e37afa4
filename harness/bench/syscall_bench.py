"""The price of a system call, beside a C echo (the limit), a trio echo and jsonrpcserver.

Single-client figures have the client and the server on one core, so that no wake-up crosses cores.
Rounds are interleaved (limit, ours, peers, limit, ours ...) and ratios are taken round by round.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from harness.bench.rows import Row, median_ratio, row
from harness.bench.tools import (
    Load,
    compiled,
    daemon,
    load,
    pinned_to_one_core,
    scratch,
    server,
)
from runtime.client import Client

CORE = 1
MIB = 1 << 20


def bell() -> dict[str, Any]:
    from qvm.examples import load as example

    return msgspec.json.decode(msgspec.json.encode(example("bell")))


def _payloads(folder: Path, path: Path, client: Client) -> dict[str, Path]:
    job = client.submit(bell(), shots=100, seed=1)
    job.wait()
    big = bell()
    big["metadata"] = {"note": "x" * (MIB - 1200)}
    session = client.session_id
    status = {"session_id": session, "job_id": job.job_id}
    submit = {"session_id": session, "graph": big, "policy": {"seed": 1, "shots": 1}}
    many = {"session_id": session, "graph": wide_graph(), "policy": {"seed": 1, "shots": 1}}
    files = {}
    for name, method, params in (
        ("status", "q_status", status),
        ("submit", "q_submit", submit),
        ("nodes", "q_submit", many),
    ):
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
        paths = {name: folder / f"{name}.sock" for name in ("echo", "trio", "peer")}
        peer = [sys.executable, "-m", "harness.bench.peers"]
        pids = {
            "echo": stack.enter_context(server([str(echo), str(paths["echo"])], paths["echo"])),
            "trio": stack.enter_context(server([*peer, "trio", str(paths["trio"])], paths["trio"])),
            "peer": stack.enter_context(
                server([*peer, "jsonrpcserver", str(paths["peer"])], paths["peer"])
            ),
        }
        paths["ours"] = stack.enter_context(daemon(folder))
        client = stack.enter_context(Client(paths["ours"]))
        pids["ours"] = client.peer_pid
        files = _payloads(folder, paths["ours"], client)

        def rounds_of(payload: str, clients: int, names: list[str]) -> dict[str, list[Load]]:
            core = CORE if clients == 1 else None
            for name in names:
                if core is not None:
                    pinned_to_one_core(pids[name], core)
            return {
                name: results
                for name, results in zip(
                    names,
                    zip(
                        *(
                            [
                                load(
                                    tool, "closed", paths[name], files[payload], clients, seconds,
                                    core,
                                )
                                for name in names
                            ]
                            for _ in range(rounds)
                        ),
                        strict=True,
                    ),
                    strict=True,
                )
            }  # fmt: skip

        everyone = ["echo", "trio", "ours", "peer"]
        # More clients first: pinning for the single-client rounds is not undone.
        fifty = rounds_of("status", 50, everyone)
        one = rounds_of("status", 1, everyone)
        large = rounds_of("submit", 1, ["echo", "ours", "peer"])
        nodes = rounds_of("nodes", 1, ["echo", "ours"])
    return [*_small_rows(one, fifty), *_large_rows(large, nodes)]


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


def _large_rows(large: dict[str, list[Load]], nodes: dict[str, list[Load]]) -> list[Row]:
    ours, limit = _p50(large["ours"]), _p50(large["echo"])
    return [
        row("1 MiB submit / C echo, few nodes", median_ratio(ours, limit), "x", at_most=10),
        row("1 MiB submit, jsonrpcserver / ours", median_ratio(_p50(large["peer"]), ours), "x"),
        row(
            "1 MiB submit / C echo, all nodes, program seen before",
            median_ratio(_p50(nodes["ours"]), _p50(nodes["echo"])),
            "x",
            at_most=10,
        ),
    ]
