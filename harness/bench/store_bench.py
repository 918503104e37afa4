"""What durability costs: jobs through the store beside raw SQLite and beside the disk's own flush.

Producers wait until what they brought is durable before they bring the next, as clients do. All of
them are one thread, so that what is measured is the store and the disk. Everything lies in one
folder, and rounds are interleaved, because a disk flushes faster in one second than in the next.
"""

from __future__ import annotations

import os
import select
import sqlite3
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from hashlib import sha256
from itertools import count
from pathlib import Path
from time import perf_counter

from harness.bench.rows import Row, median_ratio, row
from harness.bench.tools import scratch
from qmkd.core import audit
from qmkd.core.effects import Keep
from qmkd.core.records import AuditRow, GraphRow, JobRow
from qmkd.shell.store import Durability, Store
from qmkd.shell.store.rows import sealed
from qvm import examples
from qvm.program import VerifiedProgram
from qvm.verify import verify_bytes
from syscalls.ids import JobId, SessionId
from syscalls.job import ExecutionContext, NoiseApplied, Policy

PRODUCERS = (1, 8, 32)
ROUND_S = 0.5
ROUNDS = 7
ROUNDS_QUICK = 3

Durable = Callable[[int], float]
"""Producers -> jobs made durable a second, in a round."""


class Jobs:
    """Job after job as the kernel keeps them: program, job, audit entry."""

    def __init__(self) -> None:
        self._graph = examples.load("ghz")
        program = verify_bytes(self._graph)
        assert isinstance(program, VerifiedProgram)
        self._row = GraphRow(
            digest=sha256(self._graph).digest(),
            graph=self._graph,
            summary=program.summary,
            warnings=tuple(program.warnings),
        )
        self._last: AuditRow | None = None
        self._numbers = count(1)

    def next(self) -> Keep:
        number = next(self._numbers)
        name = JobId(f"job_{sha256(b'%d' % number).hexdigest()[:32]}")
        job = JobRow(
            id=name,
            number=number,
            session=SessionId("sess_" + "0" * 32),
            tenant="bench",
            graph=self._row.digest,
            policy=Policy(shots=1000),
            seed=number,
            context=ExecutionContext(
                engine="frames",
                why="every operation is a Clifford",
                width=3,
                seed=number,
                program_digest=self._row.summary.digest,
                noise=NoiseApplied(requested="ideal", applied="ideal"),
            ),
            created_ns=number,
            checked_ns=number,
        )
        self._last = audit.entry(
            number=number,
            previous=self._last.hash if self._last else b"",
            epoch=number,
            at_ns=number,
            kind="job accepted",
            fields={"job": name, "tenant": "bench", "seed": number, "shots": 1000},
        )
        rows = (self._row, job, self._last)
        return Keep(number=number, epoch=number, numbered=number, rows=rows)


class Stored:
    """The store, driven as the daemon's loop drives it."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self._jobs = Jobs()
        self._kept = 0
        self._put_off: list[Callable[[], None]] = []  # to the end of a round, as `hub.py` does
        self.store = Store(
            path, durability, kept=self._done, failed=self._failed, soon=self._put_off.append
        )

    def _done(self, number: int) -> None:
        self._kept = number

    def _failed(self, what: str) -> None:
        raise RuntimeError(what)

    def __call__(self, producers: int) -> float:
        first = asked = self._kept
        started = perf_counter()
        while (spent := perf_counter() - started) < ROUND_S:
            while asked < self._kept + producers:
                self.store.keep(self._jobs.next(), lambda job, at, size: b"")
                asked += 1
            self._collect()
        rate = (self._kept - first) / spent
        while self._kept < asked:
            self._collect()
        return rate

    def _collect(self) -> None:
        while self._put_off:
            self._put_off.pop()()
        select.select([self.store], [], [])
        self.store.collect()


class RawSqlite:
    """As many bytes in one table, a transaction for all producers at once; no thread, no queue."""

    def __init__(self, path: Path) -> None:
        jobs = Jobs()
        rows = jobs.next().rows[1:]
        self._body = b"".join(sealed(each) for each in rows)
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute("CREATE TABLE jobs (number INTEGER PRIMARY KEY, body BLOB)")

    def __call__(self, producers: int) -> float:
        done, started = 0, perf_counter()
        while (spent := perf_counter() - started) < ROUND_S:
            self.db.execute("BEGIN IMMEDIATE")
            for _ in range(producers):
                self.db.execute("INSERT INTO jobs (body) VALUES (?)", (self._body,))
            self.db.execute("COMMIT")
            done += producers
        return done / spent


class RawFlush:
    """As many bytes at the end of a file, one flush for all producers at once."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def __call__(self, producers: int) -> float:
        block = bytes(1024 * producers)
        done, started = 0, perf_counter()
        while (spent := perf_counter() - started) < ROUND_S:
            os.write(self.fd, block)
            os.fdatasync(self.fd)
            done += producers
        return done / spent


def run(quick: bool) -> list[Row]:
    rows = []
    with scratch() as folder, ExitStack() as ended:
        power = Stored(folder / "power.db", "power")
        process = Stored(folder / "process.db", "process")
        sqlite, flush = RawSqlite(folder / "raw.db"), RawFlush(folder / "raw")
        for close in (power.store.close, process.store.close, sqlite.db.close):
            ended.callback(close)
        ended.callback(os.close, flush.fd)
        for producers in PRODUCERS:
            rows += _compare(producers, ROUNDS_QUICK if quick else ROUNDS, {
                "through the store": power,
                "through the store, durability = process": process,
                "raw SQLite, one commit for all": sqlite,
                "raw fdatasync, one for all": flush,
            })  # fmt: skip
    return rows


def _compare(producers: int, rounds: int, ways: dict[str, Durable]) -> list[Row]:
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            rates[name].append(way(producers))
    who = "1 producer" if producers == 1 else f"{producers} producers"
    shown = [
        row(f"{who}: jobs made durable, {name}", statistics.median(rates[name]), "/s")
        for name in ways
    ]
    ours, _, raw, _ = rates.values()
    shown.append(row(f"{who}: the store beside raw SQLite", median_ratio(ours, raw), "x"))
    return shown
