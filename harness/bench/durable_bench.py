"""What durability costs a client: submissions to daemons that keep everything, or nothing.

Thirty-two clients each submit a small job, wait for its end, and begin anew. The daemons run at the
same time and are asked in turns, round by round, because a disk is faster in one second than in the
next; so is raw SQLite, with one commit for as many jobs. What the store alone costs is
`store_bench.py`.
"""

from __future__ import annotations

import select
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

import msgspec

from harness.bench.rows import Row, median_ratio, row
from harness.bench.store_bench import RawSqlite
from harness.bench.syscall_bench import bell
from harness.bench.tools import daemon_command, scratch, server
from harness.bench.wire import Wire, result_of

CLIENTS = 32
SHOTS = 10
ROUND_S = 1.0
ROUNDS = 9
ROUNDS_QUICK = 3
WAYS = ("none", "process", "power")


class Crowd:
    """Clients of one daemon, all from one thread."""

    def __init__(self, path: Path) -> None:
        self.wires = [Wire(path) for _ in range(CLIENTS)]
        self.session = self.wires[0].session()
        self.graph = bell()
        self.seed = 0

    def close(self) -> None:
        for wire in self.wires:
            wire.sock.close()

    def _submit(self, wire: Wire) -> None:
        self.seed += 1
        policy = {"shots": SHOTS, "seed": self.seed, "noise": "ideal"}
        asked = {"session_id": self.session, "graph": self.graph, "policy": policy}
        wire.sock.sendall(wire.request("q_submit", asked))

    def round(self) -> tuple[float, float]:
        """(median seconds from a submission to its answer, jobs from submission to end a second)"""
        waits: list[float] = []
        ends = 0
        began = {wire.sock.fileno(): perf_counter() for wire in self.wires}
        for wire in self.wires:
            self._submit(wire)
        submitted = set(began)
        first = perf_counter()
        for wire in self._answers(began):
            number, now = wire.sock.fileno(), perf_counter()
            result = result_of(msgspec.json.decode(wire.line()))
            if number in submitted:
                submitted.discard(number)
                waits.append(now - began[number])
                asked = {"session_id": self.session, "job_id": result["job_id"]}
                wire.sock.sendall(wire.request("q_wait", asked))
                continue
            ends += 1
            if now - first > ROUND_S:
                del began[number]
                continue
            submitted.add(number)
            began[number] = perf_counter()
            self._submit(wire)
        return statistics.median(waits), ends / (perf_counter() - first)

    def _answers(self, awaited: dict[int, float]) -> Iterator[Wire]:
        """Wires that have an answer, until none is awaited."""
        by_number = {wire.sock.fileno(): wire for wire in self.wires}
        poller = select.poll()
        for number in by_number:
            poller.register(number, select.POLLIN)
        while awaited:
            for number, _ in poller.poll():
                yield by_number[number]


def run(quick: bool) -> list[Row]:
    waits: dict[str, list[float]] = {way: [] for way in WAYS}
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    commits: list[float] = []
    with scratch() as folder, ExitStack() as ended:
        crowds = {}
        for way in WAYS:
            keys = f'durability = "{way}"\nworker_scheduling = "batch"\n'
            (folder / f"{way}.toml").write_text(keys)
            command = [*daemon_command(folder, way), "--config", str(folder / f"{way}.toml")]
            ended.enter_context(server(command, folder / f"{way}.sock"))
            crowds[way] = Crowd(folder / f"{way}.sock")
            ended.callback(crowds[way].close)
            crowds[way].round()
        raw = RawSqlite(folder / "raw.db")
        ended.callback(raw.db.close)
        for _ in range(ROUNDS_QUICK if quick else ROUNDS):
            for way, crowd in crowds.items():
                wait, rate = crowd.round()
                waits[way].append(wait)
                rates[way].append(rate)
            commits.append(CLIENTS / raw(CLIENTS))
    rows = [
        row(f"raw SQLite: one commit for {CLIENTS} jobs", 1e3 * statistics.median(commits), "ms")
    ]
    for way in WAYS:
        rows += [
            row(f"{CLIENTS} clients, durability = {way}: a submission, median",
                1e3 * statistics.median(waits[way]), "ms"),
            row(f"{CLIENTS} clients, durability = {way}: jobs from submission to end",
                statistics.median(rates[way]), "/s"),
        ]  # fmt: skip
    for way in WAYS[1:]:
        rows.append(row(
            f"{CLIENTS} clients: a submission that is durable ({way}) beside one that is not",
            median_ratio(waits[way], waits["none"]), "x", at_most=2.0,
        ))  # fmt: skip
        rows.append(row(
            f"{CLIENTS} clients: jobs a second that are not durable beside those that are ({way})",
            median_ratio(rates["none"], rates[way]), "x", at_most=2.0,
        ))  # fmt: skip
    return rows
