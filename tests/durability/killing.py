"""One run of kills: the daemon, its clients, what they were told, and what must be true of it."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.daemon import Daemon, Line, example, short_folder, start, wait_until_ready

CLIENTS = 4
LIFE_S_MAX = 0.5  # from the daemon's first answer to its end
FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
PROGRAMS = ("bell", "ghz", "teleportation", "t_injection")
SHOTS = (1, 100, 3_000, 40_000)
SEEDS = 4  # so that each (program, seed, shots) is computed only once for comparison
LIVE_MAX = 40  # per client, so that its quota is never full
SETTLE_EVERY = 25  # kills between two times that everything is waited for
JOBS_REMEMBERED = 600  # fewer than the daemon keeps


@dataclass
class Told:
    """What clients were told, and what went wrong. jobs: name -> what was asked."""

    kills: int = 0
    acknowledged: int = 0
    finals_compared: int = 0
    results_compared: int = 0
    unanswered: int = 0
    restart_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    jobs: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    finals: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def figures(self) -> dict[str, float]:
        """As a table."""
        ordered = sorted(self.restart_s)
        return {
            "kills": self.kills,
            "jobs acknowledged": self.acknowledged,
            "calls cut off unanswered": self.unanswered,
            "ends compared after a kill": self.finals_compared,
            "results compared with undisturbed": self.results_compared,
            "lost or changed": len(self.wrong),
            "restart, median s": round(ordered[len(ordered) // 2], 3) if ordered else 0.0,
            "restart, longest s": round(ordered[-1], 3) if ordered else 0.0,
        }


def kill_often(kills: int, seed: int, durability: str, progress: IO[str] | None = None) -> Told:
    """Kill a daemon so many times. `Told.wrong` says what was lost or changed, in sentences."""
    rng, told = random.Random(seed), Told()
    expected = _undisturbed()
    environment = {"QMKD_DURABILITY": durability}
    with short_folder() as folder:
        with _running(folder, environment, told) as daemon, Line(daemon.socket) as line:
            session = line.session()
        while told.kills < kills:
            with _running(folder, environment, told) as daemon:
                _compare(daemon, session, told)
                if told.kills % SETTLE_EVERY == SETTLE_EVERY - 1:
                    _settle(daemon, session, told, expected)
                _load(daemon, session, told, rng)
            told.kills += 1
            if progress is not None and told.kills % SETTLE_EVERY == 0:
                print(f"{told.kills} kills, {told.acknowledged} jobs", file=progress, flush=True)
        with _running(folder, environment, told) as daemon:
            _compare(daemon, session, told)
            _settle(daemon, session, told, expected)
    return told


def _undisturbed() -> dict[tuple[str, int, int], str]:
    """The digest of each program, seed and shots, from a daemon to which nothing happens."""
    found = {}
    with short_folder() as folder:
        daemon = start(folder, environment={"QMKD_DURABILITY": "none"})
        wait_until_ready(daemon)
        with Line(daemon.socket) as line:
            session = line.session()
            for name in PROGRAMS:
                for seed in range(SEEDS):
                    for shots in SHOTS:
                        job = _submit(line, session, name, seed, shots)
                        done = line.call("q_wait", session_id=session, job_id=job)
                        found[name, seed, shots] = done["execution_context"]["results_digest"]
        daemon.stop()
    return found


@contextlib.contextmanager
def _running(folder: Path, environment: dict[str, str], told: Told) -> Iterator[Daemon]:
    """A daemon on this state, killed in the end; how long its start took is noted."""
    began = time.monotonic()
    daemon = start(folder, environment=environment)
    try:
        wait_until_ready(daemon)
        with Line(daemon.socket) as line:  # it accepts before it answers
            line.ask("q_status", session_id="sess_", job_id="job_")
        told.restart_s.append(time.monotonic() - began)
        yield daemon
    finally:
        daemon.process.kill()
        assert daemon.process.wait() == -signal.SIGKILL, daemon.log


def _submit(line: Line, session: str, name: str, seed: int, shots: int) -> str:
    policy = {"shots": shots, "seed": seed, "noise": "ideal"}
    graph = example(name)
    reply = line.call("q_submit", session_id=session, graph=graph, policy=policy)
    return str(reply["job_id"])


def _load(daemon: Daemon, session: str, told: Told, rng: random.Random) -> None:
    """Clients at work until the daemon is killed under them."""
    seeds = [rng.randrange(1 << 30) for _ in range(CLIENTS)]
    threads = [
        threading.Thread(target=_client, args=(daemon.socket, session, told, random.Random(seed)))
        for seed in seeds
    ]
    for thread in threads:
        thread.start()
    time.sleep(rng.uniform(0, LIFE_S_MAX))
    daemon.process.kill()
    for thread in threads:
        thread.join()


def _client(path: Path, session: str, told: Told, rng: random.Random) -> None:
    mine: list[str] = []
    with contextlib.suppress(EOFError, OSError), Line(path) as line:
        while True:
            try:
                _act(line, session, told, rng, mine)
            except (EOFError, OSError):
                with told.lock:
                    told.unanswered += 1
                raise


def _act(line: Line, session: str, told: Told, rng: random.Random, mine: list[str]) -> None:
    if not mine or (len(mine) < LIVE_MAX and rng.random() < 0.6):
        asked = rng.choice(PROGRAMS), rng.randrange(SEEDS), rng.choice(SHOTS)
        job = _submit(line, session, *asked)
        with told.lock:
            told.jobs[job] = asked
            told.acknowledged += 1
        mine.append(job)
        return
    job = mine.pop(rng.randrange(len(mine)))
    if rng.random() < 0.1:
        line.begin("q_cancel", session_id=session, job_id=job)
        answer = line.answer()
        final = answer.get("result")
    else:
        final = line.call("q_wait", session_id=session, job_id=job)
    if final is not None and final["state"] in FINAL:
        with told.lock:
            told.finals[job] = final


def _compare(daemon: Daemon, session: str, told: Told) -> None:
    """All that was told still holds."""
    with Line(daemon.socket) as line:
        for job in list(told.jobs)[-JOBS_REMEMBERED:]:
            line.begin("q_status", session_id=session, job_id=job)
            answer = line.answer()
            if "result" not in answer:
                told.wrong.append(f"kill {told.kills}: {job} is lost: {json.dumps(answer)}")
            elif job in told.finals:
                told.finals_compared += 1
                if answer["result"] != told.finals[job]:
                    told.wrong.append(f"kill {told.kills}: {job} has changed")


def _settle(
    daemon: Daemon, session: str, told: Told, expected: dict[tuple[str, int, int], str]
) -> None:
    """Wait for every job; their bits are those of undisturbed ones. Then know only the latest."""
    with Line(daemon.socket) as line:
        for job in list(told.jobs)[-JOBS_REMEMBERED:]:
            done = line.call("q_wait", session_id=session, job_id=job)
            before = told.finals.setdefault(job, done)
            if done != before:
                told.wrong.append(f"kill {told.kills}: {job} has changed")
            if done["state"] == "CANCELLED":
                continue
            told.results_compared += 1
            asked = told.jobs[job]
            if (
                done["state"] != "COMPLETED"
                or done["execution_context"]["results_digest"] != expected[asked]
            ):
                told.wrong.append(f"kill {told.kills}: {job}, {asked}, has other bits: {done}")
    for job in list(told.jobs)[:-JOBS_REMEMBERED]:
        del told.jobs[job]
        told.finals.pop(job, None)
