"""The nightly: time of its rows, jumps of gate errors that it finds, and its false alarms.

Rows are run, none is extrapolated to. Machines are simulated, with calibrations a day old that do
not tell of the jump; false alarms are counted on machines that drift as usual.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.bench.rows import Row, row
from harness.em.backends.physical import Physical
from harness.em.circuits.families import make
from harness.em.circuits.tasks import Task
from harness.em.methods.direct import ReadoutMitigation
from harness.em.nightly.drift import judge, predicted, residual
from harness.em.nightly.night import Configuration, silent
from harness.em.nightly.night import run as run_night
from harness.em.running import carried_out

ROWS: Final = 10_000
ROWS_QUICK: Final = 1_000
GOAL_S: Final = 300.0
PROCESSES: Final = 2
BEFORE: Final = 20
NIGHTS_MAX: Final = 3
JUMP: Final = 1.6
SHOTS: Final = 8_000
YEAR: Final = 365


def run(quick: bool) -> list[Row]:
    devices = range(401, 406 if quick else 421)
    years = range(501, 502 if quick else 503)
    found = sum(_found(seed) for seed in devices)
    alarms = sum(_alarms(seed) for seed in years)
    return [
        *_timed(ROWS_QUICK if quick else ROWS),
        row(f"a {JUMP:g}x jump found within {NIGHTS_MAX} nights, {len(devices)} machines",
            found / len(devices), "share", at_least=1),
        row(f"false alarms in a device-year, {len(years)} years", alarms / len(years), "",
            at_most=6),
    ]  # fmt: skip


def _timed(wanted: int) -> list[Row]:
    usual = Configuration()
    each = len(usual.families) * len(usual.methods) * len(usual.backends)
    config = Configuration(circuits=-(-wanted // each))
    with tempfile.TemporaryDirectory() as folder:
        before, cpu = time.perf_counter(), _cpu_s()
        night = run_night(config, Path(folder), silent, PROCESSES)
        wall, cpu = time.perf_counter() - before, _cpu_s() - cpu
    rows = sum(machine.rows for machine in night.machines)
    # Some families take nothing from a seed, so there may be fewer circuits than asked for.
    goal = GOAL_S if rows >= ROWS else None
    return [
        row("nightly: rows", rows, ""),
        row(f"nightly: time, {PROCESSES} processes", wall, "s", at_most=goal),
        row("nightly: CPU time", cpu, "s"),
    ]


def _cpu_s() -> float:
    now = os.times()
    return now.user + now.system + now.children_user + now.children_system


def _workload() -> list[Task]:
    usual = Configuration()
    tasks = [make(family, seed, 4) for family in usual.families for seed in (1, 2)]
    return list({task.circuit_id: task for task in tasks}.values())


def _residual(tasks: Sequence[Task], seed: int, number: int, strength: float) -> float:
    machine = Physical(4, seed, day=number, age_days=1, strength=strength, told=1.0)
    found = []
    for at, task in enumerate(tasks):
        got = carried_out(ReadoutMitigation(), task, machine, SHOTS, 1_000 * number + at).estimate
        spread = task.observable.spread
        off = (task.exact - got.value) / spread
        found.append((predicted(task, machine.calibration), off, got.std_err / spread))
    whole = residual(found)
    assert whole is not None
    return whole.value


def _found(seed: int) -> bool:
    tasks = _workload()
    nights = range(1, BEFORE + NIGHTS_MAX + 1)
    values = [_residual(tasks, seed, n, JUMP if n > BEFORE else 1.0) for n in nights]
    return any(each.state == "drift" for each in judge(values)[BEFORE:])


def _alarms(seed: int) -> int:
    tasks = _workload()
    values = [_residual(tasks, seed, number, 1.0) for number in range(1, YEAR + 1)]
    return sum(each.state == "drift" for each in judge(values))
