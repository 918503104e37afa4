"""What it costs to make a run at a fence a value, and to go on from it: CPU time and bytes.

The state is one random stabilizer state of all qubits, which no compression makes smaller; medians.
Then slices that park at each of their fences and go on, beside the same slices left alone.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Final, TypeVar

from harness.bench.engine_programs import Writer
from harness.bench.rows import Row, row
from qmkd.core.ports import SegmentReport
from qmkd.engine import run as engine_run
from qmkd.engine import snapshot
from qmkd.engine.noise import IDEAL
from qmkd.engine.slices import NEVER, Parked, Parking

FENCES: Final = 8
SLICES: Final = (("frames", 1000, 0, 65_536), ("groups", 100, 0, 4096), ("dense", 14, 4, 4096))
"""Engine, qubits, qubits with T gates, shots."""
CASES: Final = (("tableau", 100, 1), ("tableau", 1000, 1), ("frames", 1000, 65_536))
GOAL_MS: Final = 20
ROUNDS: Final = 9
ROUNDS_QUICK: Final = 3

AT_ONCE: Final = Parking(lambda: True)

_Made = TypeVar("_Made")


def run(quick: bool) -> list[Row]:
    rounds = ROUNDS_QUICK if quick else ROUNDS
    taken = [each for case in CASES for each in _case(rounds, *case)]
    return taken + [each for case in SLICES for each in _parked(rounds, *case)]


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


def _parked(rounds: int, engine: str, qubits: int, turned: int, shots: int) -> list[Row]:
    """What parking at each fence and going on adds, for each fence, in one process that has the
    program compiled."""
    program = engine_run.prepare(fenced(qubits, turned, engine == "groups"))
    sizes: list[int] = []

    def slice_of(parking: Parking, resume: bytes | None) -> SegmentReport | Parked:
        return engine_run.run_slice(
            program, 1, 0, shots, engine, "ideal", True, lambda: False, lambda rows: None,
            parking=parking, resume=resume,
        )  # fmt: skip

    def parked() -> None:
        sizes.clear()
        found = slice_of(AT_ONCE, None)
        while isinstance(found, Parked):
            sizes.append(len(found.snapshot))
            found = slice_of(AT_ONCE, found.snapshot)

    alone, _ = _median_ms(rounds, lambda: slice_of(NEVER, None))
    again, _ = _median_ms(rounds, parked)
    what = f"{qubits:,} qubits, {shots:,} shots, {engine}"
    return [
        row(f"{what}: park a slice and go on", (again - alone) / len(sizes), "ms"),
        row(f"{what}: all {len(sizes)} times, over the slice alone", again / alone, "x"),
        row(f"{what}: the largest snapshot", max(sizes) / 1024, "KiB"),
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


def fenced(qubits: int, turned: int, guarded: bool) -> bytes:
    """Random gates and a few measurements before each of FENCES fences, and all measured behind
    the last. turned: qubits that get T gates. guarded: some gates depend on what was measured."""
    rng, writer = random.Random(2), Writer(qubits)
    for _ in range(FENCES):
        order = rng.sample(range(qubits), qubits)
        for one, two in zip(order[::2], order[1::2], strict=True):
            writer.add("APPLY_H", one)
            writer.add("APPLY_CNOT", one, two)
        for qubit in range(turned):
            writer.add("APPLY_T", qubit)
        event = writer.measure(order[0])
        if guarded:
            writer.add("APPLY_H", order[1], guard={"event": event, "equals": 1})
        writer.add("FENCE_EPOCH")
    for qubit in range(qubits):
        writer.measure(qubit)
    return writer.graph()
