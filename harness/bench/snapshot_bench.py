"""What it costs to make a run at a fence a value, and to go on from it: CPU time and bytes.

The state is one random stabilizer state of all qubits, which no compression makes smaller; medians.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Final, TypeVar

from harness.bench.engine_programs import Writer
from harness.bench.rows import Row, row
from qmkd.engine import run as engine_run
from qmkd.engine import snapshot
from qmkd.engine.noise import IDEAL

CASES: Final = (("tableau", 100, 1), ("tableau", 1000, 1), ("frames", 1000, 65_536))
GOAL_MS: Final = 20
ROUNDS: Final = 9
ROUNDS_QUICK: Final = 3

_Made = TypeVar("_Made")


def run(quick: bool) -> list[Row]:
    rounds = ROUNDS_QUICK if quick else ROUNDS
    return [each for case in CASES for each in _case(rounds, *case)]


def _case(rounds: int, engine: str, qubits: int, shots: int) -> list[Row]:
    program = engine_run.prepare(scrambled(qubits))
    begun = snapshot.begin(program, engine, IDEAL, 1, 0, shots)
    snapshot.run_to_fence(begun, 0)
    taken, saved = _median_ms(rounds, lambda: snapshot.take(program, engine, IDEAL, begun))
    resumed, _ = _median_ms(rounds, lambda: snapshot.resume(program, IDEAL, saved))
    what = f"{qubits:,} qubits, {shots:,} shot{'s' if shots > 1 else ''}, {engine}"
    return [
        row(f"{what}: take a snapshot", taken, "ms"),
        row(f"{what}: resume it", resumed, "ms", at_most=GOAL_MS),
        row(f"{what}: its size", len(saved) / 1024, "KiB"),
    ]


def _median_ms(rounds: int, work: Callable[[], _Made]) -> tuple[float, _Made]:
    """CPU milliseconds, and what the work gave last. The first time does not count."""
    made, times = work(), []
    for _ in range(rounds):
        started = time.process_time()
        made = work()
        times.append(1e3 * (time.process_time() - started))
    return statistics.median(times), made


def scrambled(qubits: int) -> bytes:
    """Random gates until all is entangled with all, a fence, and a measurement behind it."""
    rng, writer = random.Random(1), Writer(qubits)
    for _ in range(12):
        order = rng.sample(range(qubits), qubits)
        for one, two in zip(order[::2], order[1::2], strict=True):
            writer.add("APPLY_H", one)
            writer.add("APPLY_S", two)
            writer.add("APPLY_CNOT", one, two)
    writer.add("FENCE_EPOCH")
    writer.measure(0)
    return writer.graph()
