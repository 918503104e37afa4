"""What TLS costs: CPU time of handshakes by key exchange and certificate, and calls by the bridge.

Handshakes are made between two ends in this process, without a network, both ends' time counted.
Every one begins from nothing, as all of ours do: nothing is resumed. Either end shows a
certificate, so a chain of ML-DSA is paid for once if the server alone has one, and twice if both.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem

from harness.bench.rows import Row, median_ratio, row
from harness.bench.tools import daemon, scratch
from harness.tls.services import HOST, credentials, service
from runtime.client import Client
from runtime.client.address import Remote, TlsMode
from runtime.remote.authority import Authority
from runtime.remote.credentials import load
from runtime.remote.tls import Context
from syscalls.ids import JobId
from syscalls.job import Status

BELL = Path("qvm/examples/bell.qvm.json")
MANY = 64
SAME = f"the same, {MANY} in flight"
Handshake = Callable[[], None]


def run(quick: bool) -> list[Row]:
    rounds, each, calls = (9, 20, 300) if quick else (25, 40, 1_000)
    with scratch() as folder:
        return [*_handshakes(folder, rounds, each), *_calls(folder, rounds, calls)]


def _handshakes(folder: Path, rounds: int, each: int) -> list[Row]:
    authority = Authority("benchmark")
    served = credentials(folder, authority, "server", server=True)
    both = credentials(folder, authority, "both")
    mixed = credentials(folder, authority, "mixed")
    (mixed / "own-ml-dsa-65.pem").unlink()
    old = credentials(folder, authority, "old")
    for path in old.glob("*-ml-dsa-65*"):
        path.unlink()
    server = Context(load(served), TlsMode.HYBRID, server=True)
    sides = {
        "X25519, ES256": _handshake(server, both, TlsMode.CLASSICAL),
        "hybrid, ES256": _handshake(server, old, TlsMode.HYBRID),
        "hybrid, server's ML-DSA-65": _handshake(server, mixed, TlsMode.HYBRID),
        "hybrid, both ML-DSA-65": _handshake(server, both, TlsMode.HYBRID),
    }
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 else list(sides)[::-1]:
            began = time.process_time()
            for _ in range(each):
                sides[name]()
            spent[name].append(1000 * (time.process_time() - began) / each)
    plain, hybrid, chain, chains = spent.values()
    rows = [
        row(f"handshake, {name}", statistics.median(ms), "ms CPU") for name, ms in spent.items()
    ]
    return [
        *rows,
        row("hybrid / X25519", median_ratio(hybrid, plain), "x", at_most=1.1),
        row("hybrid - X25519", _apart(hybrid, plain), "ms CPU", at_most=0.1),
        row("ML-DSA-65 / ES256, the server's", median_ratio(chain, hybrid), "x"),
        row("ML-DSA-65 - ES256, the server's", _apart(chain, hybrid), "ms CPU", at_most=1.1),
        row("ML-DSA-65 - ES256, both", _apart(chains, hybrid), "ms CPU"),
        *_arithmetic(rounds, each),
    ]


def _arithmetic(rounds: int, each: int) -> list[Row]:
    """What no implementation of TLS on this library can do without."""
    signer = mldsa.MLDSA65PrivateKey.generate()
    signed = signer.sign(bytes(130))

    def agree() -> None:
        key = mlkem.MLKEM768PrivateKey.generate()
        _, sealed = key.public_key().encapsulate()
        key.decapsulate(sealed)

    def show() -> None:
        """The server signs; the client verifies the certificate and the signature."""
        signer.sign(bytes(130))
        signer.public_key().verify(signed, bytes(130))
        signer.public_key().verify(signed, bytes(130))

    rows = []
    for name, once in (
        ("of ML-KEM-768 in a handshake", agree),
        ("of one chain of ML-DSA-65", show),
    ):
        spent = []
        for _ in range(rounds):
            began = time.process_time()
            for _ in range(each):
                once()
            spent.append(1000 * (time.process_time() - began) / each)
        rows.append(row(f"arithmetic alone, {name}", statistics.median(spent), "ms CPU"))
    return rows


def _apart(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(one - two for one, two in zip(ours, theirs, strict=True))


def _handshake(server: Context, folder: Path, mode: TlsMode) -> Handshake:
    client = Context(load(folder), mode, server=False)

    def once() -> None:
        near, far = client.connection(HOST), server.connection()
        near.start()
        while not (near.done and far.done):
            far.take(near.outgoing())
            near.take(far.outgoing())

    return once


def _calls(folder: Path, rounds: int, calls: int) -> list[Row]:
    """The same client asks the same, on the host and through a service."""
    authority = Authority("benchmark")
    served = credentials(folder, authority, "served", server=True)
    own = credentials(folder, authority, "visitor")
    with daemon(folder) as path, service(path, served, TlsMode.HYBRID, "visitor") as (port, pid):
        remote = Remote(host=HOST, port=port, credentials=own)
        with Client(path, timeout=None) as near, Client(remote, timeout=None) as far:
            jobs = {each: each.submit(BELL, shots=10, seed=1).job_id for each in (near, far)}
            for client, job in jobs.items():
                client.job(job).wait()
                _ask(client, job, calls, MANY)
            times: dict[tuple[Client, int], list[float]] = {}
            bridge: dict[int, list[float]] = {1: [], MANY: []}
            for number in range(rounds):
                for client in (near, far) if number % 2 else (far, near):
                    for window in (1, MANY):
                        before = _cpu_s(pid)
                        took = _ask(client, jobs[client], calls, window)
                        times.setdefault((client, window), []).append(took)
                        if client is far:
                            bridge[window].append(1e6 * (_cpu_s(pid) - before) / calls)
            rows = [
                row("a call over the bridge", _median_us(times[far, 1]), "us"),
                row("a call on the host", _median_us(times[near, 1]), "us"),
            ]
            for window, name in ((1, "over the bridge / on the host"), (MANY, SAME)):
                ratio = median_ratio(times[far, window], times[near, window])
                rows.append(row(name, ratio, "x"))
    for window, name in ((1, "bridge's CPU time of a call"), (MANY, SAME)):
        rows.append(row(name, statistics.median(bridge[window]), "us"))
    return rows


def _ask(client: Client, job: JobId, calls: int, window: int) -> float:
    """Seconds of a call, on average."""
    asked = [Status(session_id=client.session_id, job_id=job)] * window
    began = time.perf_counter()
    for _ in range(calls // window):
        client.call_all(asked)
    return (time.perf_counter() - began) / (calls // window * window)


def _median_us(seconds: list[float]) -> float:
    return 1e6 * statistics.median(seconds)


def _cpu_s(pid: int) -> float:
    """Of a whole process (proc(5), stat), in steps of a clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
