"""One soak: a daemon, an echo, the load and the probe as processes, and a sample every window.

Nothing here is part of the load but reloads of the configuration, which need the daemon's process
and file. What the samples mean is judged in `verdict.py`, from the end of the warm-up on.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from harness.bench.tools import compiled, server
from tests.daemon import ROOT, Daemon, clean_environment, running_daemon, short_folder
from tests.soak import load, probe
from tests.soak.figures import Moment, Process, moment, scrapes
from tests.soak.load import FILLED, Done
from tests.soak.probe import Window
from tests.soak.verdict import Judged, Verdict, judge, judge_factor

WORKERS = 2
RELOAD_S = 20.0
SETTLE_S_MAX = 60.0  # until all that clients had is given back
SAMPLES_A_WINDOW = 4

MEMORY_GROWTH = 0.05
DESCRIPTORS_GROWTH = 0.05
RATIO_GROWTH = 0.25
STORE_GROWTH = 0.05
ENTRY_BYTES = 1024  # that an entry of the chain may take for ever: docs/operating.md
READER_KEPT = 1
"""Descriptors of the database that SQLite keeps when a reader closes, for the next one to take: to
close one would drop the locks that other connections of the process have on the file."""

TENANT = """
[[tenant]]
name = "{name}"
uids = [{uid}]
weight = {weight}
"""


class Sample(msgspec.Struct, frozen=True):
    """at_s: since the beginning."""

    at_s: float
    moment: Moment


class Soaked(msgspec.Struct, kw_only=True):
    """A soak as it was. warm_s: from where on it is judged. idle: before anybody came and after
    everybody had left."""

    seconds: float
    window_s: float
    warm_s: float = 0.0
    samples: list[Sample] = []
    windows: list[Window] = []
    idle: list[Moment] = []
    done: Done = Done({}, [])
    reloads: int = 0
    judged: list[Judged] = []
    wrong: list[str] = []

    @property
    def steady(self) -> list[Sample]:
        """Samples after the warm-up."""
        return [each for each in self.samples if each.at_s >= self.warm_s]

    def timed(self, kind: str) -> list[Window]:
        """Windows after the warm-up in which both this and the echo were timed."""
        return [
            each
            for each in self.windows
            if each.number * self.window_s >= self.warm_s and {kind, "echo"} <= each.counts.keys()
        ]


def soak(
    seconds: float,
    window_s: float,
    warm_s: float,
    fill: int,
    seed: int = 1,
    tell: Callable[[str], None] = lambda line: None,
) -> Soaked:
    """Watch a daemon under load for so long after it is warm: filled, and warm_s old.

    `Soaked.wrong` says what was not answered as it must be, or not given back at the end.
    """  # fmt: skip
    soaked = Soaked(seconds=seconds, window_s=window_s)
    with short_folder() as folder, contextlib.ExitStack() as stack:
        echo = folder / "echo.sock"
        stack.enter_context(server([str(compiled(folder, "echo")), str(echo)], echo))
        environment = {"QMKD_DURABILITY": "power"}
        daemon = stack.enter_context(
            running_daemon(folder, workers=WORKERS, config=config(0), environment=environment)
        )
        soaked.idle.append(settled(daemon, lambda now: len(now.workers) == WORKERS))
        began = time.monotonic()
        with working(daemon, echo, began, window_s, fill, seed) as (at_work, timing):
            _watch(soaked, daemon, folder, began, warm_s, at_work, timing, tell)
            soaked.windows += _read_windows(timing)
            soaked.done = _finish(at_work, timing)
        soaked.idle.append(settled(daemon, lambda now: now.sessions == 0 == now.connections))
    soaked.judged = judged(soaked)
    soaked.wrong = soaked.done.wrong + left_behind(soaked)
    return soaked


def config(turn: int) -> str:
    """A configuration; those of even and odd turns differ in what a reload may change."""
    names = (*load.TENANTS, probe.TENANT)
    tenants = (TENANT.format(name=name, uid=os.getuid(), weight=1 + turn % 2) for name in names)
    return f"stop_grace_ms = {2000 + turn % 2}\n" + "".join(tenants)


@contextlib.contextmanager
def working(
    daemon: Daemon, echo: Path, began: float, window_s: float, fill: int, seed: int
) -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """The load and the probe, as processes of their own: neither waits for the other's lock."""
    arguments = {
        "load": [str(daemon.socket), str(seed), str(fill)],
        "probe": [str(daemon.socket), str(echo), str(began), str(window_s)],
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"tests.soak.{name}", *each],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=clean_environment(),
            bufsize=0,  # what is read ahead would not be seen by `ready`
        )
        for name, each in arguments.items()
    ]  # fmt: skip
    try:
        yield processes[0], processes[1]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            for file in (process.stdin, process.stdout):
                assert file is not None
                file.close()


def _watch(
    soaked: Soaked, daemon: Daemon, folder: Path, began: float, warm_s: float,
    at_work: subprocess.Popen[bytes], timing: subprocess.Popen[bytes], tell: Callable[[str], None],
) -> None:  # fmt: skip
    """Sample and reload until the time is over; the warm-up ends where the filling does."""
    pause_s = soaked.window_s / SAMPLES_A_WINDOW
    reload_at, filled = RELOAD_S, False
    while (now := time.monotonic() - began) < soaked.seconds + soaked.warm_s or not filled:
        for process in (at_work, timing):
            assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        if not filled:
            filled = ready(at_work) and _line(at_work) == FILLED
            soaked.warm_s = max(warm_s, now)
        soaked.samples.append(Sample(now, moment(daemon)))
        soaked.windows += _read_windows(timing)
        if now >= reload_at:
            reload_at += RELOAD_S
            soaked.reloads += 1
            (folder / "qmkd.toml").write_text(config(soaked.reloads))
            daemon.process.send_signal(signal.SIGHUP)
        tell(_progress(soaked, filled))
        time.sleep(max(0.0, began + pause_s * len(soaked.samples) - time.monotonic()))


def _progress(soaked: Soaked, filled: bool) -> str:
    latest = soaked.samples[-1]
    now = latest.moment
    return (
        f"{latest.at_s:7.1f} s  {'' if filled else 'filling  '}{now.jobs} jobs, "
        f"daemon {now.daemon.rss >> 20} MiB, workers {sum(w.rss for w in now.workers) >> 20} MiB, "
        f"{now.daemon.fds} descriptors, store {now.store_bytes >> 10} kiB"
    )


def ready(process: subprocess.Popen[bytes]) -> bool:
    """Whether there is a line to be read. Processes write whole lines, one at a time."""
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], 0)[0])


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def _read_windows(timing: subprocess.Popen[bytes]) -> list[Window]:
    found = []
    while timing.poll() is None and ready(timing):
        found.append(msgspec.json.decode(_line(timing), type=Window))
    return found


def _finish(at_work: subprocess.Popen[bytes], timing: subprocess.Popen[bytes]) -> Done:
    """End both; what the load says it did."""
    for process in (timing, at_work):
        assert process.stdin is not None
        process.stdin.close()
    done = msgspec.json.decode(_line(at_work), type=Done)
    assert at_work.wait(SETTLE_S_MAX) == 0
    assert timing.wait(SETTLE_S_MAX) == 0
    return done


def settled(daemon: Daemon, enough: Callable[[Moment], bool]) -> Moment:
    """The daemon once it is as it should be, or after a time."""
    deadline = time.monotonic() + SETTLE_S_MAX
    while not scrapes(daemon).exists():
        assert time.monotonic() < deadline, "the daemon takes no scrapes"
        time.sleep(0.05)
    while not enough(now := moment(daemon)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return now


# --- what of it all is judged ---------------------------------------------------------------------


def judged(soaked: Soaked) -> list[Judged]:
    """Everything that must not grow."""
    steady = soaked.steady
    at_s = [each.at_s for each in steady]
    made = []

    quantities: list[tuple[str, str, Callable[[Moment], float | None], float]] = [
        ("daemon, resident", "B", lambda now: now.daemon.rss, MEMORY_GROWTH),
        ("daemon, in shares", "B", lambda now: now.daemon.pss, MEMORY_GROWTH),
        ("workers, resident", "B", lambda now: total(now.workers, "rss"), MEMORY_GROWTH),
        ("workers, in shares", "B", lambda now: total(now.workers, "pss"), MEMORY_GROWTH),
        ("daemon, descriptors", "", lambda now: now.daemon.fds, DESCRIPTORS_GROWTH),
        ("database beside the chain", "B", beside_chain, STORE_GROWTH),
        ("workers, descriptors", "", lambda now: total(now.workers, "fds"), DESCRIPTORS_GROWTH),
    ]
    for name, unit, of, bound in quantities:
        values = [value for each in steady if (value := of(each.moment)) is not None]
        if len(values) == len(steady):
            made.append(judge(name, unit, at_s, values, bound))
    for kind, name in (("call", "call / echo"), ("job", "small job / echo")):
        timed = soaked.timed(kind)
        at_s = [soaked.window_s * (each.number + 0.5) for each in timed]
        halfway = [each.p50_s[kind] / each.p50_s["echo"] for each in timed]
        slow = [each.p99_s[kind] / each.p99_s["echo"] for each in timed]
        for share, ratios in (("p50", halfway), ("p99", slow)):
            made.append(judge_factor(f"{name}, {share}", "x", at_s, ratios, RATIO_GROWTH))
    return made


def beside_chain(now: Moment) -> float:
    """Bytes of the database beyond what the audit chain may take."""
    return now.store_bytes - ENTRY_BYTES * now.entries


def total(processes: list[Process], name: str) -> float | None:
    """Of all of them; None if it could not be read of one."""
    each = [getattr(process, name) for process in processes]
    return None if None in each else sum(each)


def left_behind(soaked: Soaked) -> list[str]:
    """What is there when everybody has left that was not there before anybody came."""
    before, after = soaked.idle
    wrong = []
    for name in ("connections", "sessions", "memory_files"):
        if (left := getattr(after, name)) != (was := getattr(before, name)):
            wrong.append(f"{name} when idle: {was} before, {left} after")
    was, left = before.daemon.fds, after.daemon.fds
    if was is not None and left is not None and not 0 <= left - was <= READER_KEPT:
        wrong.append(f"descriptors when idle: {was} before, {left} after")
    if after.reloads < soaked.reloads:
        wrong.append(f"{soaked.reloads} reloads were asked for, {after.reloads} were made")
    return wrong


def worst(soaked: Soaked) -> Verdict:
    """One verdict on everything."""
    verdicts = {each.verdict for each in soaked.judged}
    if soaked.wrong or Verdict.GROWS in verdicts:
        return Verdict.GROWS
    return Verdict.UNDECIDED if Verdict.UNDECIDED in verdicts else Verdict.FLAT
