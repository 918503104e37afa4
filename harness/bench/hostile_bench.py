"""What bad manners cost others: q_status of a well-behaved client while another client misbehaves.

Each kind of misbehaviour runs in a process of its own, at full speed, on the lowest priority (so
that the daemon is measured and not the host's scheduler). The well-behaved client calls at a fixed
rate, open loop. Rounds with and without company alternate; ratios are taken round by round.
`python -m harness.bench.hostile_bench KIND SOCKET` is one such process; it runs until it is killed.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from harness.bench.rows import Row, median_ratio, row
from harness.bench.syscall_bench import bell
from harness.bench.tools import Load, compiled, daemon, load, scratch
from harness.bench.wire import Wire

RATE = 1_000
RATIO_MAX = 3.0
CONNECTIONS = 1_000
PIPELINED = 10_000
SEND_BYTES = 1 << 16
SETTLE_SECONDS = 0.3

CALL = b'{"jsonrpc":"2.0","id":1,"method":"q_status","params":{"session_id":"s","job_id":"j"}}\n'
DEEP = b'{"jsonrpc":"2.0","id":1,"method":"q_status","params":' + b"[" * 2_000 + b"]" * 2_000
FLOODS = {
    "malformed JSON": b'{"jsonrpc":"2.0","id":1,"method":"q_status","params":{]}\n',
    "invalid UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"q_\xff\xfe"}\n',
    "deep nesting": DEEP + b"}\n",
    "huge integers": CALL.replace(b'"j"', b"9" * 1_000),
    "NaN": CALL.replace(b'"j"', b"NaN"),
    "10,000 pipelined calls": CALL,
}


def _connected(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return sock


def _flood(path: str, message: bytes) -> None:
    """Send without end, and read what comes back."""
    block = message * max(1, SEND_BYTES // len(message))
    with _connected(path) as sock:
        sock.setblocking(False)
        view = memoryview(block)
        while True:
            readable, writable, _ = select.select([sock], [sock], [])
            if readable and not sock.recv(1 << 20):
                raise ConnectionError("hung up")
            if writable:
                view = view[sock.send(view) :] or memoryview(block)


def _single_bytes(path: str) -> None:
    with _connected(path) as sock:
        while True:
            for byte in CALL:
                sock.send(bytes((byte,)))
            sock.recv(1 << 16)


def _half_messages(path: str) -> None:
    """A hundred connections, each with half a message, growing by a byte at a time."""
    socks = [_connected(path) for _ in range(100)]
    for sock in socks:
        sock.send(CALL[:40])
    while True:
        for sock in socks:
            sock.send(b"x")
        time.sleep(0.05)


def _idle_connections(path: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, CONNECTIONS + 100), hard))
    socks = [_connected(path) for _ in range(CONNECTIONS)]
    while socks:
        time.sleep(1)


def _never_reads(path: str) -> None:
    """Ask for the largest answer there is, again and again, and read none."""
    ask = b'{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}\n'
    while True:
        with _connected(path) as sock, contextlib.suppress(OSError):
            sock.settimeout(0.2)
            while True:
                sock.send(ask * 100)


KINDS: dict[str, Callable[[str], None]] = {
    **{
        name: lambda path, message=message: _flood(path, message)  # type: ignore[misc]
        for name, message in FLOODS.items()
    },
    "1-byte chunks": _single_bytes,
    "half messages": _half_messages,
    "1,000 idle connections": _idle_connections,
    "a client that never reads": _never_reads,
}


@contextlib.contextmanager
def _company(kind: str, path: Path) -> Iterator[None]:
    """A hostile process for the length of the block. Raises RuntimeError if it ended by itself."""
    command = [sys.executable, "-m", "harness.bench.hostile_bench", kind, str(path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        time.sleep(SETTLE_SECONDS)
        yield
        if process.poll() is not None:
            _, said = process.communicate()
            raise RuntimeError(f"{kind}: the hostile client ended: {said.decode()[-500:]}")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def run(quick: bool) -> list[Row]:
    rounds, seconds = (3, 0.5) if quick else (7, 1.5)
    idle: dict[str, list[Load]] = {kind: [] for kind in KINDS}
    beside: dict[str, list[Load]] = {kind: [] for kind in KINDS}
    with scratch() as folder, daemon(folder) as path, Wire(path) as wire:
        tool, payload = compiled(folder, "load"), folder / "status.json"
        payload.write_bytes(_status_of_a_job(wire))
        for _ in range(rounds):
            for kind in KINDS:
                idle[kind].append(load(tool, "open", path, payload, RATE, seconds, None))
                with _company(kind, path):
                    beside[kind].append(load(tool, "open", path, payload, RATE, seconds, None))
    return [one for kind in KINDS for one in _rows(kind, idle[kind], beside[kind])]


def _status_of_a_job(wire: Wire) -> bytes:
    session = wire.session()
    policy = {"shots": 10, "seed": 1}
    job = wire.call("q_submit", {"session_id": session, "graph": bell(), "policy": policy})
    who = {"session_id": session, "job_id": job["job_id"]}
    wire.call("q_wait", who)
    call = {"jsonrpc": "2.0", "id": 1, "method": "q_status", "params": who}
    return msgspec.json.encode(call) + b"\n"


def _rows(kind: str, idle: list[Load], beside: list[Load]) -> list[Row]:
    quiet = [float(one["p99_ns"]) for one in idle]
    loud = [float(one["p99_ns"]) for one in beside]
    return [
        row(f"q_status p99 beside {kind}", statistics.median(loud) / 1e3, "us"),
        row(
            f"q_status p99 beside {kind} / idle",
            median_ratio(loud, quiet),
            "x",
            at_most=RATIO_MAX,
        ),
    ]


if __name__ == "__main__":
    os.nice(19)
    KINDS[sys.argv[1]](sys.argv[2])
