"""The verifier: time and memory against the size of the program, sound, reordered and all broken.

Each figure comes from a fresh process, so that one program's memory is not another's.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import Any

from harness.bench.rows import Row, row
from harness.bench.tools import forget_peak, resident
from qvm.program import VerifiedProgram
from qvm.verify import verify_bytes

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SECONDS_MAX = {100_000: 1.0, 1_000_000: 12.0}
BYTES_PER_NODE_MAX = 2048
GROWTH_MAX = 2.0  # time per node at the largest size over that at 10,000 nodes
QUBITS = 100


def run(quick: bool) -> list[Row]:
    """Rows for `harness.bench`; quick leaves out the largest size and repeats less."""
    sizes = SIZES[:-1] if quick else SIZES
    rows: list[Row] = []
    per_node: dict[int, float] = {}
    for size in sizes:
        rounds = [_measured("sound", size) for _ in range(1 if quick or size > 100_000 else 3)]
        seconds = statistics.median(each["seconds"] for each in rounds)
        per_node[size] = 1e6 * seconds / size
        name = f"verify {size:,} nodes"
        rows.append(row(name, seconds, "s", at_most=SECONDS_MAX.get(size)))
        rows.append(row(f"{name}: time per node", per_node[size], "us"))
        memory = statistics.median(each["bytes_per_node"] for each in rounds)
        bound = BYTES_PER_NODE_MAX if size in SECONDS_MAX else None
        rows.append(row(f"{name}: peak memory per node", memory, "B", at_most=bound))
    growth = per_node[sizes[-1]] / per_node[10_000]
    label = f"time per node, {sizes[-1]:,} over 10,000 nodes"
    rows.append(row(label, growth, "x", at_most=GROWTH_MAX))
    for kind in ("reordered", "broken"):
        seconds = _measured(kind, 100_000)["seconds"]
        rows.append(row(f"verify 100,000 nodes, {kind}", seconds, "s"))
    return rows


def _measured(kind: str, size: int) -> dict[str, float]:
    command = [sys.executable, "-m", "harness.bench.verify_bench", kind]
    done = subprocess.run(command, input=program(kind, size), check=True, capture_output=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def program(kind: str, size: int) -> bytes:
    """A document of `size` nodes, a fifth of them guarded or conditional.

    kind: `sound`; `reordered`, where every reader is listed before its writer; `broken`, where
    every node but the first breaks a rule.
    """
    qubits = [f"q{at}" for at in range(QUBITS)]
    args = {"n": QUBITS, "profile": "logical:Surface(d=7)"}
    nodes: list[dict[str, Any]] = [{"id": "alloc", "op": "ALLOC_LQ", "vqs": qubits, "args": args}]
    events: list[str] = []
    while len(nodes) < size:
        nodes.extend(_ten(len(nodes), qubits, events))
    del nodes[size:]
    if kind == "reordered":
        for at in range(len(nodes) - 1):
            if nodes[at + 1].get("guard") and nodes[at]["op"] == "MEASURE_Z":
                nodes[at], nodes[at + 1] = nodes[at + 1], nodes[at]
    if kind == "broken":
        for node in nodes[1:]:
            node["vqs"] = ["nowhere"]
    resources = {"vqs": qubits, "chs": [], "events": events}
    graph = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    return json.dumps(graph, separators=(",", ":")).encode()


def _ten(start: int, qubits: list[str], events: list[str]) -> list[dict[str, Any]]:
    """Ten nodes on qubits near the start: gates, a measurement, two that depend on it."""
    vqs = [qubits[(start + at) % QUBITS] for at in range(10)]
    events.append(f"m{start}")
    event, first = events[-1], events[0]
    conditions = [{"event": event, "equals": 1}, {"event": first, "value": 0}]
    pair = {"inputs": [event, first]} if event != first else {"inputs": [event]}
    made: list[dict[str, Any]] = [
        *({"op": "APPLY_H", "vqs": [vqs[at]]} for at in range(3)),
        *({"op": "APPLY_CNOT", "vqs": [vqs[at], vqs[at + 3]]} for at in range(4)),
        {"op": "MEASURE_Z", "vqs": [vqs[7]], "produces": [event]},
        {"op": "APPLY_S", "vqs": [vqs[8]], "guard": {"type": "or", "conditions": conditions}},
        {"op": "COND_PAULI", "vqs": [vqs[9]], "args": {"pauli": "X"}, **pair},
    ]
    return [{"id": f"n{start + at}", **node} for at, node in enumerate(made)]


def _child(kind: str, raw: bytes) -> dict[str, float]:
    """What one verification takes; memory is that beyond the document itself."""
    forget_peak()
    before = resident("VmRSS")
    began = time.perf_counter()
    answer = verify_bytes(raw)
    seconds = time.perf_counter() - began
    assert isinstance(answer, VerifiedProgram) == (kind != "broken")
    moved = isinstance(answer, VerifiedProgram) and not isinstance(answer.order, range)
    assert moved == (kind == "reordered")
    size = raw.count(b'"op":')
    return {"seconds": seconds, "bytes_per_node": (resident("VmHWM") - before) / size}


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1], sys.stdin.buffer.read())))
