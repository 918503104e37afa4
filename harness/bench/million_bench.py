"""Circuits of up to a million gates, from text to a checked result, and what others notice of it.

Each circuit is one and the same random walk through the Clifford gates there and back, between
flips of some qubits and their measurement, so every shot must give the flips. It goes through the
front end as OpenQASM 2, and as a job through a daemon of its own. The client's times are CPU
seconds; `submit` is from the first byte sent until the daemon, which verifies and keeps the program
first, has accepted it. Then all is done once more, while another client asks for `q_status` at a
fixed rate.
"""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from harness.bench.growth_bench import slope
from harness.bench.rows import Row, row
from harness.bench.syscall_bench import bell
from harness.bench.tools import Load, compiled, daemon_command, load, scratch, server
from harness.bench.wire import Wire, result_of
from runtime.jit.emit import emit
from runtime.jit.frontends import load as load_circuit
from runtime.jit.readout import register_counts

SIZES: Final = (10_000, 100_000, 1_000_000)
QUICK_SIZES: Final = (3_000, 10_000)
QUBITS: Final = 50
SHOTS: Final = 100
RATE: Final = 200
EXPONENT_MAX: Final = 1.1  # of time in gates: linear, but for what is noise
STEPS: Final = ("read", "lower", "write", "submit", "run")
BACK: Final = {"h": "h", "s": "sdg", "cx": "cx"}


class Walk(NamedTuple):
    """A circuit as text, and the one outcome that it has."""

    text: str
    outcome: str


class Passage(NamedTuple):
    """seconds: of each of STEPS. size: bytes of the program."""

    seconds: dict[str, float]
    size: int


def run(quick: bool) -> list[Row]:
    found: list[Row] = []
    passages = []
    sizes = QUICK_SIZES if quick else SIZES
    _prepared(walk(sizes[0], 0))  # what is loaded once is not counted
    for gates in sizes:
        with scratch() as folder:
            passage, rows = _measured(folder, gates)
        passages.append(passage)
        found += rows
    for step in STEPS:
        exponent = slope(sizes, [each.seconds[step] for each in passages])
        name = f"{step}: exponent of time in gates"
        goal = None if quick or step == "run" else EXPONENT_MAX
        found.append(row(name, exponent, "", at_most=goal))
    return found


def _measured(folder: Path, gates: int) -> tuple[Passage, list[Row]]:
    """One size against a daemon of its own: alone, then beside another client."""
    tool = compiled(folder, "load")
    command, socket = daemon_command(folder, "q", workers=1), folder / "q.sock"
    with server(command, socket) as pid:
        payload = _status(folder, socket)
        _forget_peak(pid)
        before = _resident(pid, "VmRSS")
        passage = _pass(socket, walk(gates, 1))
        peak = _resident(pid, "VmHWM") - before
        seconds = passage.seconds["submit"] + passage.seconds["run"] + 1
        quiet = load(tool, "open", socket, payload, RATE, seconds, None)
        asked: list[Load] = []
        other = threading.Thread(
            target=lambda: asked.append(load(tool, "open", socket, payload, RATE, seconds, None))
        )
        prepared = _prepared(walk(gates, 2))
        other.start()
        _submitted(socket, *prepared)
        other.join()
    name = f"{gates:,} gates"
    found = [row(f"{name}: {step}", passage.seconds[step], "s") for step in STEPS]
    found += [
        row(f"{name}: program", passage.size / (1 << 20), "MiB"),
        row(f"{name}: memory of the daemon, most", peak / (1 << 20), "MiB"),
    ]
    for told, each in (("alone", quiet), ("beside the job", asked[0])):
        for field in ("p50_ns", "p99_ns", "max_ns"):
            what = f"{name}: another's q_status, {told}, {field[:-3]}"
            found.append(row(what, float(each[field]) / 1e6, "ms"))
    return passage, found


def walk(gates: int, seed: int) -> Walk:
    """Random gates there and back between flips and measurements. gates: flips among them."""
    draw = random.Random(seed)
    flipped = draw.sample(range(QUBITS), QUBITS // 2)
    half = (gates - len(flipped)) // 2
    there = []
    for _ in range(half):
        one, other = draw.sample(range(QUBITS), 2)
        there.append(draw.choice((("h", one), ("s", one), ("cx", one, other))))
    back = [(BACK[name], *qubits) for name, *qubits in reversed(there)]
    lines = ["OPENQASM 2.0;", 'include "qelib1.inc";', f"qreg q[{QUBITS}];", f"creg c[{QUBITS}];"]
    lines += [
        f"{name} {','.join(f'q[{qubit}]' for qubit in qubits)};"
        for name, *qubits in [*there, *back, *(("x", qubit) for qubit in flipped)]
    ]
    lines.append("measure q -> c;\n")
    # Bit 0 stands on the right.
    outcome = "".join("1" if qubit in flipped else "0" for qubit in reversed(range(QUBITS)))
    return Walk("\n".join(lines), outcome)


def _prepared(walk: Walk) -> tuple[Walk, Any, bytes, dict[str, float]]:
    """The walk with its graph, that as JSON, and the seconds that took."""
    times = [time.process_time()]
    circuit = load_circuit(walk.text)
    times.append(time.process_time())
    graph = emit(circuit)
    del circuit
    times.append(time.process_time())
    encoded = msgspec.json.encode(graph)
    times.append(time.process_time())
    return walk, graph, encoded, dict(zip(STEPS, np.diff(times).tolist(), strict=False))


def _submitted(
    socket: Path, walk: Walk, graph: Any, encoded: bytes, seconds: dict[str, float]
) -> Passage:
    """Submit it, wait for the result, and look at that."""
    with Wire(socket) as wire:
        session = wire.session()
        params = {
            "session_id": session,
            "graph": msgspec.Raw(encoded),
            "policy": {"shots": SHOTS, "seed": 1},
        }
        request = wire.request("q_submit", params)
        began = time.perf_counter()
        wire.sock.sendall(request)
        job = result_of(msgspec.json.decode(wire.line()))["job_id"]
        accepted = time.perf_counter()
        result = wire.call("q_wait", {"session_id": session, "job_id": job})
        ended = time.perf_counter()
        assert result["state"] == "COMPLETED", result
        assert register_counts(graph, result["counts"]) == {walk.outcome: SHOTS}
    return Passage(seconds | {"submit": accepted - began, "run": ended - accepted}, len(encoded))


def _pass(socket: Path, walk: Walk) -> Passage:
    return _submitted(socket, *_prepared(walk))


def _status(folder: Path, socket: Path) -> Path:
    """A file with a call for the status of a job that is over."""
    with Wire(socket) as wire:
        session = wire.session()
        policy = {"shots": 10, "seed": 1}
        params = {"session_id": session, "graph": bell(), "policy": policy}
        who = {"session_id": session, "job_id": wire.call("q_submit", params)["job_id"]}
        wire.call("q_wait", who)
    payload = folder / "status.json"
    request = {"jsonrpc": "2.0", "id": 1, "method": "q_status", "params": who}
    payload.write_bytes(msgspec.json.encode(request) + b"\n")
    return payload


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _resident(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)
