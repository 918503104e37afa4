"""How long calls take while others work, beside an echo on a socket of its own.

`python -m tests.soak.probe DAEMON ECHO BEGAN WINDOW_S` writes one JSON line a window, until its
standard input ends. A call that does nothing and an echo of the same bytes take turns, so that
what disturbs one disturbs the other; now and then comes a small job, from submission to end.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from tests.daemon import Line, example

PAUSE_S = 0.005
JOB_EVERY = 16  # turns
JOBS_A_SESSION = 50
SHOTS = 100
TENANT = "probe"

KINDS = ("call", "echo", "job")


class Window(msgspec.Struct, frozen=True):
    """Of window `number`: how many of each kind, and their 50th and 99th percentiles in seconds."""

    number: int
    counts: dict[str, int]
    p50_s: dict[str, float]
    p99_s: dict[str, float]


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summed_up(number: int, taken: dict[str, list[float]]) -> Window:
    some = {kind: values for kind, values in taken.items() if values}
    return Window(
        number,
        {kind: len(values) for kind, values in some.items()},
        {kind: percentile(values, 0.50) for kind, values in some.items()},
        {kind: percentile(values, 0.99) for kind, values in some.items()},
    )


class Probe:
    """A session of its own with a finished job, whose status is the call that does nothing.

    It opens another one now and then, as the daemon keeps finished jobs as long as their session.
    """

    def __init__(self, daemon: Path, echo: Path) -> None:
        self.line = Line(daemon, seconds=120.0)
        self.echo = socket.socket(socket.AF_UNIX)
        self.echo.settimeout(120.0)
        self.echo.connect(str(echo))
        self.graph = example("bell")
        self.seed = 0
        self.open()

    def open(self) -> None:
        rights = ["CAP_ALLOC"]
        opened = self.line.call("q_negotiate_caps", requested=rights, tenant_id=TENANT)
        self.session: str = opened["session_id"]
        self.job()

    def close(self) -> None:
        self.line.call("q_close_session", session_id=self.session)

    def job(self) -> float:
        """Seconds that a small job takes."""
        self.seed += 1
        policy = {"shots": SHOTS, "seed": self.seed, "noise": "ideal"}
        who: dict[str, Any] = {"session_id": self.session}
        began = time.perf_counter()
        name = self.line.call("q_submit", **who, graph=self.graph, policy=policy)["job_id"]
        done = self.line.call("q_wait", **who, job_id=name)
        took = time.perf_counter() - began
        assert done["state"] == "COMPLETED", done
        self.request = {"session_id": self.session, "job_id": name}
        return took

    def call(self) -> float:
        """Seconds that a call takes."""
        call = {"jsonrpc": "2.0", "id": 0, "method": "q_status", "params": self.request}
        frame = msgspec.json.encode(call) + b"\n"
        began = time.perf_counter()
        self.line.send(frame)
        answer = self.line.file.readline()
        took = time.perf_counter() - began
        assert b'"result"' in answer, answer
        self.frame = frame
        return took

    def echoed(self) -> float:
        """Seconds that the same bytes take there and back."""
        began = time.perf_counter()
        self.echo.sendall(self.frame)
        left = len(self.frame)
        while left:
            left -= len(self.echo.recv(left))
        return time.perf_counter() - began


def main() -> int:
    daemon, echo, began, window_s = sys.argv[1:]
    probe = Probe(Path(daemon), Path(echo))
    number, turn = 0, 0
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
        now = int((time.monotonic() - float(began)) / float(window_s))
        if now > number:
            print(msgspec.json.encode(summed_up(number, taken)).decode(), flush=True)
            number, taken = now, {kind: [] for kind in KINDS}
        turn += 1
        taken["call"].append(probe.call())
        taken["echo"].append(probe.echoed())
        if turn % JOB_EVERY == 0:
            taken["job"].append(probe.job())
        if turn % (JOB_EVERY * JOBS_A_SESSION) == 0:
            probe.close()
            probe.open()
    probe.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
