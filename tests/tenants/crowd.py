"""Clients that work, compare every result, and pry: into names that other tenants were given.

Every result is compared with that of the same program, seed and shots run alone. Now and then a
client names a job of another tenant, and one that nobody was ever given; the two answers must be
alike but for their numbers. Fairness is Jain's index (R. Jain, D. Chiu and W. Hawe,
DEC-TR-301, 1984) of the shots that each tenant got done while all of them wanted more.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.daemon import Line, example, running_daemon

PROGRAMS = ("bell", "ghz", "teleportation", "t_injection", "conditional_correction")
SHOTS = (1, 200, 5_000, 30_000)
SEEDS = 4
JOBS_AT_ONCE = 3  # per client, so that every tenant always has work waiting
PRYING = 0.3
NOBODY = "job_" + "0" * 32

TENANT = """
[[tenant]]
name = "{name}"
uids = [{uid}]
grantable = ["CAP_ALLOC", "CAP_MAGIC"]
"""

Asked = tuple[str, int, int]


@dataclass
class Told:
    """What the clients were told. shots: done, by tenant."""

    seconds: float = 0.0
    jobs: int = 0
    pried: int = 0
    shots: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    names: list[tuple[str, str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def figures(self) -> dict[str, float]:
        """As a table."""
        return {
            "seconds": round(self.seconds, 1),
            "jobs": self.jobs,
            "jobs a second": round(self.jobs / self.seconds, 1) if self.seconds else 0.0,
            "looks at what is another's": self.pried,
            "wrong or seen": len(self.wrong),
            "Jain's index of shots by tenant": round(jain(list(self.shots.values())), 4),
        }


def jain(shares: Sequence[float]) -> float:
    """1 where all are equal, 1/n where one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def crowd(clients: int, tenants: int, seconds: float, seed: int) -> Told:
    """Let so many clients work for so long. `Told.wrong` says what was not as it must be."""
    names = [f"tenant{number}" for number in range(tenants)]
    config = "".join(TENANT.format(name=name, uid=os.getuid()) for name in names)
    told = Told(shots=dict.fromkeys(names, 0))
    with running_daemon(config=config, workers=2) as daemon:
        expected = _alone(daemon.socket, names[0])
        until = time.monotonic() + seconds
        threads = [
            threading.Thread(
                target=_client,
                args=(daemon.socket, names[number % tenants], expected, told, until, seed + number),
            )
            for number in range(clients)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told.seconds = time.monotonic() - began
    return told


def _session(line: Line, tenant: str) -> str:
    requested = ["CAP_ALLOC", "CAP_MAGIC"]
    opened = line.call("q_negotiate_caps", requested=requested, tenant_id=tenant)
    return str(opened["session_id"])


def _submit(line: Line, session: str, asked: Asked) -> str:
    name, seed, shots = asked
    policy = {"shots": shots, "seed": seed, "noise": "ideal"}
    reply = line.call("q_submit", session_id=session, graph=example(name), policy=policy)
    return str(reply["job_id"])


def _alone(path: Path, tenant: str) -> dict[Asked, dict[str, Any]]:
    found = {}
    with Line(path) as line:
        session = _session(line, tenant)
        for asked in ((n, s, k) for n in PROGRAMS for s in range(SEEDS) for k in SHOTS):
            job = _submit(line, session, asked)
            found[asked] = _result(line.call("q_wait", session_id=session, job_id=job))
        line.call("q_close_session", session_id=session)
    return found


def _result(status: dict[str, Any]) -> dict[str, Any]:
    context = status["execution_context"]
    told = {name: status[name] for name in ("state", "events", "counts", "probabilities")}
    return told | {"digest": context["results_digest"], "seed": context["seed"]}


def _client(
    path: Path,
    tenant: str,
    expected: dict[Asked, dict[str, Any]],
    told: Told,
    until: float,
    seed: int,
) -> None:
    rng = random.Random(seed)
    with Line(path, seconds=60.0) as line:
        session = _session(line, tenant)
        live: list[tuple[str, Asked]] = []
        while time.monotonic() < until:
            while len(live) < JOBS_AT_ONCE:
                asked = rng.choice(PROGRAMS), rng.randrange(SEEDS), rng.choice(SHOTS)
                live.append((_submit(line, session, asked), asked))
                with told.lock:
                    told.names = [*told.names[-500:], (tenant, session, live[-1][0])]
            if rng.random() < PRYING:
                _pry(line, session, tenant, told, rng)
            job, asked = live.pop(0)
            status = line.call("q_wait", session_id=session, job_id=job)
            with told.lock:
                told.jobs += 1
                if _result(status) != expected[asked]:
                    told.wrong.append(f"{tenant}: {asked} gave {status}")
                if time.monotonic() < until:
                    told.shots[tenant] += asked[2]
        _check_own(line, session, tenant, told)


def _pry(line: Line, session: str, tenant: str, told: Told, rng: random.Random) -> None:
    """What is another's answers as what is nobody's."""
    with told.lock:
        others = [each for each in told.names if each[0] != tenant]
    if not others:
        return
    _, _, their_job = rng.choice(others)
    method = rng.choice(("q_status", "q_results", "q_cancel", "q_wait", "q_subscribe", "q_replay"))
    answers = []
    for name in (their_job, NOBODY):
        answer = line.ask(method, session_id=session, job_id=name)
        answers.append({key: value for key, value in answer.items() if key != "id"})
    with told.lock:
        told.pried += 1
        if answers[0] != answers[1] or "error" not in answers[0]:
            told.wrong.append(f"{tenant}: {method} tells of another's job: {answers}")


def _check_own(line: Line, session: str, tenant: str, told: Told) -> None:
    """Telemetry tells of the session's own jobs and of no other's."""
    seen = line.call("q_get_telemetry", session_id=session, list_jobs=True)["job_ids"]
    with told.lock:
        foreign = {job for _, whose, job in told.names if whose != session}
        if foreign & set(seen):
            told.wrong.append(f"{tenant}: telemetry lists jobs of others")
