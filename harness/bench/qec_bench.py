"""Sampling and decoding beside Stim, PyMatching and sinter; windows beside one matching; look-ups.

CPU time, in interleaved rounds; sinter, which has a worker process of its own, by the clock too.
Decoding is plain matching here, because sinter's `pymatching` is.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pymatching
import stim

from harness.bench.rows import Row, median_ratio, row
from qmkd.qec import noise
from qmkd.qec.calibrate import main as calibrate
from qmkd.qec.circuits import memory
from qmkd.qec.codes.surface import surface
from qmkd.qec.data import calibration
from qmkd.qec.decoders import Matching, model_of
from qmkd.qec.sampling import Stop, sample_and_decode
from qmkd.qec.windows import Stepwise, rounds_of, sliding

P: Final = 1e-3
DISTANCES: Final = (3, 5, 7, 9, 11, 13, 15)
DISTANCES_QUICK: Final = (3, 7, 11)
SECONDS: Final = 1.0  # of CPU, about, for one measurement of one side
SINTER_TIMES: Final = 3  # as many shots, so that its start does not decide
WINDOWED: Final = ((3, 60), (5, 60), (7, 60))
DIRECT_SHOTS: Final = 10_000  # per call of a loop that one would write by hand
LOOK_UPS: Final = 200_000
NEW_POINT: Final = ("Surface", 5, 1.5e-3)
ROUNDS: Final = 5
ROUNDS_QUICK: Final = 3


def run(quick: bool) -> list[Row]:
    rounds = ROUNDS_QUICK if quick else ROUNDS
    distances = DISTANCES_QUICK if quick else DISTANCES
    return [
        *(each for distance in distances for each in _sample_and_decode(distance, rounds)),
        *(each for distance, length in WINDOWED for each in _windows(distance, length, rounds)),
        _look_up(rounds),
        _new_point(),
    ]


def _interleaved(rounds: int, *works: Callable[[], object]) -> list[list[float]]:
    """CPU seconds of each work in each round, one after the other; the first round is dropped."""
    seconds: list[list[float]] = [[] for _ in works]
    for turn in range(rounds + 1):
        for work, times in zip(works, seconds, strict=True):
            started = time.process_time()
            work()
            if turn:
                times.append(max(time.process_time() - started, 1e-9))
    return seconds


def _circuit(distance: int, rounds: int, p: float = P) -> stim.Circuit:
    return noise.apply(memory(surface(distance), rounds, "Z"), noise.uniform(p))


def _sample_and_decode(distance: int, rounds: int) -> list[Row]:
    circuit = _circuit(distance, distance)
    decoder = Matching(model_of(circuit), correlated=False)
    shots = _shots(circuit, decoder)
    matching = pymatching.Matching.from_stim_circuit(circuit)

    def direct() -> int:
        sampler = circuit.compile_detector_sampler(seed=1)
        errors = 0
        for _ in range(0, shots, DIRECT_SHOTS):
            detections, flips = sampler.sample(
                DIRECT_SHOTS, separate_observables=True, bit_packed=True
            )
            predicted = matching.decode_batch(
                detections, bit_packed_shots=True, bit_packed_predictions=True
            )
            errors += int(np.any(predicted != flips, axis=1).sum())
        return errors

    ours, theirs = _interleaved(
        rounds, lambda: sample_and_decode(circuit, decoder, Stop(shots=shots), 1), direct
    )
    what = f"surface memory d={distance}, {distance} rounds, p={P:g}, {shots:,} shots"
    found = [
        row(f"{what}: sample + decode", shots / statistics.median(ours), "shots/s"),
        row(f"{what}: own / direct loop", median_ratio(theirs, ours), "x", at_least=0.9),
    ]
    return [*found, *_beside_sinter(circuit, what, SINTER_TIMES * shots, rounds)]


def _beside_sinter(circuit: stim.Circuit, what: str, shots: int, rounds: int) -> list[Row]:
    """Whole calls by the clock on the wall; and in CPU time, less what it takes to start a worker.

    The libraries underneath are the same, so in CPU time the two are nearly alike; what a call of
    sinter takes beyond that is its worker's start and small first batches.
    """
    start = statistics.median(_sinter_s(circuit, 1)[1] for _ in range(rounds))
    turns = [(_sinter_s(circuit, shots), _own_s(circuit, shots)) for _ in range(rounds)]
    wall = statistics.median(theirs[0] / ours[0] for theirs, ours in turns)
    cpu = statistics.median((theirs[1] - start) / ours[1] for theirs, ours in turns)
    return [
        row(
            f"{what}, times {SINTER_TIMES}: own / sinter.collect, 1 worker", wall, "x", at_least=1.2
        ),
        row(f"{what}, times {SINTER_TIMES}: own / sinter, CPU without start", cpu, "x"),
    ]


def _shots(circuit: stim.Circuit, decoder: Matching) -> int:
    """Shots for about SECONDS, whole calls of the direct loop."""
    started = time.process_time()
    sample_and_decode(circuit, decoder, Stop(shots=DIRECT_SHOTS), 1)
    each = (time.process_time() - started) / DIRECT_SHOTS
    return DIRECT_SHOTS * max(1, round(SECONDS / each / DIRECT_SHOTS))


def _own_s(circuit: stim.Circuit, shots: int) -> tuple[float, float]:
    """Seconds on the wall and of CPU, building the decoder included, as sinter builds its own."""
    wall, cpu = time.perf_counter(), _cpu_s()
    sample_and_decode(circuit, Matching(model_of(circuit), correlated=False), Stop(shots=shots), 1)
    return time.perf_counter() - wall, _cpu_s() - cpu


def _sinter_s(circuit: stim.Circuit, shots: int) -> tuple[float, float]:
    """Seconds on the wall, and of CPU of this process and of the worker, gone when it returns."""
    import sinter

    wall, cpu = time.perf_counter(), _cpu_s()
    sinter.collect(
        num_workers=1,
        tasks=[sinter.Task(circuit=circuit, decoder="pymatching")],
        max_shots=shots,
    )
    return time.perf_counter() - wall, _cpu_s() - cpu


def _cpu_s() -> float:
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in spent)


def _windows(distance: int, length: int, rounds: int) -> list[Row]:
    circuit = _circuit(distance, length, 3e-3)
    model = model_of(circuit)
    shots = {3: 32_768, 5: 16_384, 7: 8_192}[distance]
    detections = circuit.compile_detector_sampler(seed=1).sample(shots, bit_packed=True)
    found = []
    for correlated in (False, True):
        whole = Matching(model, correlated)
        pieces = Stepwise(model, sliding(rounds_of(model), 2 * distance, distance), correlated)
        ours, theirs = _interleaved(
            rounds,
            partial(pieces.decode, detections),
            partial(whole.decode, detections),
        )
        what = f"surface d={distance}, {length} rounds, p=0.003, {whole.name}"
        each = statistics.median(ours) / shots / length * 1e6
        found += [
            row(f"{what}: windows of 2d committing d", each, "us/round"),
            row(f"{what}: windows / global", median_ratio(ours, theirs), "x", at_most=2.2),
        ]
    return found


def _look_up(rounds: int) -> Row:
    table = calibration()

    def look_up() -> None:
        for _ in range(LOOK_UPS):
            table.look_up("Surface", 5, "uniform", P, "memory")

    (ours,) = _interleaved(rounds, look_up)
    each = statistics.median(ours) / LOOK_UPS * 1e6
    return row("a look-up in the calibration table", each, "us", at_most=5)


def _new_point() -> Row:
    """A memory in both bases, its rates per round to 5 % (one standard deviation)."""
    code, distance, p = NEW_POINT
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        out = str(Path(folder) / "table")
        point = ["--code", code, "--distance", str(distance), "--p", str(p)]
        calibrate(["--out", out, "--quiet", "--seconds", "1000", *point])
        spent = time.process_time() - started
    what = f"calibration of {code} d={distance}, p={p:g}, both bases, to 5 %"
    return row(what, spent, "s", at_most=60)
