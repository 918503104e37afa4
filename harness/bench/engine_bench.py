"""The engines beside their limit, which is raw Stim, and beside other simulators.

Everything is single-threaded CPU time in interleaved rounds of one run; figures are medians, ratios
are medians of the rounds' ratios. Ours includes making packed rows, unless a row says otherwise;
hashing and counting them is shown apart. Errors follow every gate and measurement.

Raw Stim makes no rows of ours and draws no words of ours; where it cannot have guards it runs
without them: it is the limit, not a like for like.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
import stim
from numpy.typing import NDArray

from harness.bench.engine_programs import (
    as_circuit,
    as_ops,
    clifford_program,
    dense_program,
    gates_of,
    guarded_program,
    guarded_teleport,
    injections,
    noisy,
)
from harness.bench.peers_engine import Peer
from harness.bench.rows import Row, median_ratio, missing, row
from qmkd.engine import engines
from qmkd.engine.batch import run_batches
from qmkd.engine.noise import IDEAL, NoiseModel
from qmkd.engine.prepared import Prepared
from qmkd.engine.run import packed_rows, prepare, run_segment
from qmkd.engine.stim_alone import StimAlone
from qvm.examples import load

QUBITS: Final = 100
MANY_SHOTS: Final = 65_536
PAULI_GUARDED: Final = ((6_000, 1e-4), (6_000, 1e-3), (15_000, 1e-4), (15_000, 1e-3))
FLIP_LEAST, SAMPLER_LEAST = 0.2, 1.5

GUARDED_QUBITS: Final = 50
GUARDED_LAYERS: Final = 40
GUARDED_RATE: Final = 1e-3
GUARDED: Final = ((5, 65_536), (10, 65_536), (10, 524_288), (20, 16_384))  # guards, shots
GUARDED_GOALS: Final = {
    (10, 524_288): {"without": 0.25, "per shot": 500.0},
    (20, 16_384): {"per shot": 12.0, "aer": 50.0},
}
PER_SHOT_SHOTS: Final = 16
AER_GUARDS: Final = 20
AER_SHOTS: Final = 64

TELEPORT_SHOTS: Final = 1 << 20
TELEPORT_PER_SHOT: Final = 1_600
TELEPORT_QDK: Final = 16_384

INJECTIONS: Final = 8
INJECTION_WIDTHS: Final = (2, 4, 6, 8, 10)
INJECTION_SHOTS: Final = 1 << 17

DENSE: Final = ((20, 6), (22, 4), (24, 3))  # qubits, layers
DENSE_ROUNDS: Final = 5

SINGLE_OPERATIONS: Final = 10_000
SMALL_JOBS: Final = 300
SMALL_SHOTS: Final = 100
ROUNDS: Final = 7
ROUNDS_QUICK: Final = 3

Work = Callable[[], object]
Clock = Callable[[], float]
"""Does something, and says how many CPU seconds it took."""

median = statistics.median


def run(quick: bool) -> list[Row]:
    """Rows for `harness.bench`; quick takes fewer rounds and leaves out the largest programs."""
    rounds = ROUNDS_QUICK if quick else ROUNDS
    found: list[Row] = []
    for operations, rate in PAULI_GUARDED[:1] if quick else PAULI_GUARDED:
        found += pauli_guards(rounds, operations, rate)
    for guards, shots in GUARDED[:2] if quick else GUARDED:
        found += guarded(rounds, guards, shots)
    found += teleportation(rounds)
    for width in INJECTION_WIDTHS:
        found += guarded_injections(rounds, width)
    for qubits, layers in DENSE[:1] if quick else DENSE:
        found += vectors(min(rounds, DENSE_ROUNDS), qubits, layers)
    return [*found, *records(rounds), *single_shot(rounds), *small_jobs(rounds)]


# --- comparisons ----------------------------------------------------------------------------------


def pauli_guards(rounds: int, operations: int, rate: float) -> list[Row]:
    """Frames against Stim's frames, which make flips only, and its sampler, which makes rows."""
    program = prepare(clifford_program(QUBITS, operations, pauli_guards=True))
    noise = noisy(rate)
    circuit = as_circuit(program, noise)
    sampler = circuit.compile_sampler(seed=1)

    def flips() -> None:
        simulator = stim.FlipSimulator(batch_size=MANY_SHOTS, num_qubits=QUBITS, seed=1)
        simulator.do(circuit)

    bare, ours, flip, sampled = interleaved(
        rounds,
        cpu(lambda: batches(program, MANY_SHOTS, "frames", noise)),
        cpu(lambda: rows(program, MANY_SHOTS, "frames", noise)),
        cpu(flips),
        cpu(lambda: sampler.sample(MANY_SHOTS, bit_packed=True)),
    )
    what = f"{QUBITS} qubits, {len(program.lowered.steps):,} noisy ops at {rate:g}, Pauli guards"
    tally = len(program.lowered.steps) * MANY_SHOTS
    return [
        row(f"{what}: own frames, rows left unpacked", tally / median(bare), "op-shots/s"),
        row(f"{what}: own frames", MANY_SHOTS / median(ours), "shots/s"),
        row(f"{what}: Stim FlipSimulator.do", MANY_SHOTS / median(flip), "shots/s"),
        row(f"{what}: Stim compiled sampler", MANY_SHOTS / median(sampled), "shots/s"),
        row(
            f"{what}: own unpacked / FlipSimulator",
            median_ratio(flip, bare),
            "x",
            at_least=FLIP_LEAST,
        ),
        row(f"{what}: own / FlipSimulator", median_ratio(flip, ours), "x"),
        row(f"{what}: own / sampler", median_ratio(sampled, ours), "x", at_least=SAMPLER_LEAST),
    ]


def guarded(rounds: int, guards: int, shots: int) -> list[Row]:
    """Guarded H and S: against Stim without guards, Stim with them shot by shot, and Aer."""
    program = prepare(guarded_program(GUARDED_QUBITS, GUARDED_LAYERS, guards))
    noise = noisy(GUARDED_RATE)
    sampler = as_circuit(program, noise).compile_sampler(seed=1)
    alone = StimAlone(program.lowered, noise, seed=1)
    what = f"{GUARDED_QUBITS} qubits, {len(program.lowered.steps):,} noisy ops, {guards} guarded"
    what += f" H/S, {shots:,} shots"
    goals = GUARDED_GOALS.get((guards, shots), {})
    with ExitStack() as stack:
        clocks = [
            cpu(lambda: rows(program, shots, everything(), noise)),
            scaled(cpu(lambda: alone.rows(PER_SHOT_SHOTS)), shots / PER_SHOT_SHOTS),
            cpu(lambda: sampler.sample(shots, bit_packed=True)),
        ]
        aer = None
        if guards == AER_GUARDS:
            ops = as_ops(program, GUARDED_RATE)
            aer = stack.enter_context(Peer("qiskit-aer", ops, AER_SHOTS))
            if not aer.missing:
                clocks.append(scaled(aer.seconds, shots / AER_SHOTS))
        ours, per_shot, without, *rest = interleaved(rounds, *clocks)
    found = [
        row(f"{what}: own", shots / median(ours), "shots/s"),
        row(f"{what}: groups", program.notes["groups_peak"], ""),
        row(f"{what}: Stim per shot", shots / median(per_shot), "shots/s"),
        row(
            f"{what}: own / Stim per shot",
            median_ratio(per_shot, ours),
            "x",
            at_least=goals.get("per shot"),
        ),
        row(
            f"{what}: own / sampler without guards",
            median_ratio(without, ours),
            "x",
            at_least=goals.get("without"),
        ),
    ]
    if aer is not None:
        found += against(f"{what}: own / Aer", aer, ours, rest, goals["aer"])
    return found


def teleportation(rounds: int) -> list[Row]:
    """A small program with guarded H and S; what counting and hashing cost on top of rows."""
    program = prepare(guarded_teleport())
    alone = StimAlone(program.lowered, IDEAL, seed=1)
    shots, engine = TELEPORT_SHOTS, everything()
    with Peer("qdk", as_ops(program, 0.0), TELEPORT_QDK) as qdk:
        clocks = [
            cpu(lambda: batches(program, shots, engine, IDEAL)),
            cpu(lambda: rows(program, shots, engine, IDEAL)),
            cpu(lambda: run_segment(program, 1, 0, shots, engine, counts=False)),
            cpu(lambda: run_segment(program, 1, 0, shots, engine)),
            scaled(cpu(lambda: alone.rows(TELEPORT_PER_SHOT)), shots / TELEPORT_PER_SHOT),
        ]
        if not qdk.missing:
            clocks.append(scaled(qdk.seconds, shots / TELEPORT_QDK))
        bare, ours, hashed, counted, per_shot, *rest = interleaved(rounds, *clocks)
    what = "teleportation with guarded H and S"
    return [
        row(f"{what}: own, rows left unpacked", shots / median(bare), "shots/s"),
        row(f"{what}: own", shots / median(ours), "shots/s", at_least=100e6),
        row(f"{what}: own, hashed", shots / median(hashed), "shots/s"),
        row(f"{what}: own, hashed and counted", shots / median(counted), "shots/s"),
        row(f"{what}: own / Stim per shot", median_ratio(per_shot, ours), "x"),
        *against(f"{what}: own / qdk run_qir", qdk, ours, rest, 100.0),
    ]


def guarded_injections(rounds: int, qubits: int) -> list[Row]:
    program = prepare(injections(qubits, INJECTIONS))
    (ours,) = interleaved(rounds, cpu(lambda: rows(program, INJECTION_SHOTS, everything(), IDEAL)))
    what = f"{INJECTIONS} guarded T injections in a row, {qubits} qubits"
    rate = INJECTIONS * INJECTION_SHOTS / median(ours)
    return [row(f"{what}: own", rate, "injections/s", at_least=20e6)]


def vectors(rounds: int, qubits: int, layers: int) -> list[Row]:
    """One shot of a dense program against qulacs, and against plain NumPy in single precision.

    Ours measures every qubit at the end; the others measure nothing.
    """
    program = prepare(dense_program(qubits, layers))
    gates = gates_of(program)
    ops = as_ops(program, 0.0)
    with Peer("qulacs", ops, 1) as qulacs:
        clocks = [
            cpu(lambda: rows(program, 1, "dense", IDEAL)),
            cpu(lambda: numpy_vector(qubits, ops["ops"], np.complex64)),
        ]
        if not qulacs.missing:
            clocks.append(qulacs.seconds)
        ours, single, *rest = interleaved(rounds, *clocks)
    what = f"{qubits} qubits, {gates} gates, state vector"
    found = [
        row(f"{what}: own", gates / median(ours), "gates/s"),
        row(f"{what}: NumPy", gates / median(single), "gates/s"),
        row(f"{what}: own / NumPy", median_ratio(single, ours), "x", at_least=0.9),
    ]
    return [*found, *against(f"{what}: own / qulacs", qulacs, ours, rest, 0.9)]


def single_shot(rounds: int) -> list[Row]:
    """One shot with its whole record of events, as a caller at a terminal waits for it."""
    raw = clifford_program(QUBITS, SINGLE_OPERATIONS, pauli_guards=True)
    found = []
    for noise, quiet in ((IDEAL, "no errors"), (noisy(1e-3), "errors at 0.001")):
        program = prepare(raw)
        circuit = as_circuit(program, noise)
        tally = len(program.lowered.steps)
        ours, theirs = interleaved(
            rounds,
            cpu(lambda: rows(program, 1, engines.TABLEAU, noise)),  # noqa: B023
            cpu(lambda: stim.TableauSimulator(seed=1).do(circuit)),  # noqa: B023
        )
        what = f"{QUBITS} qubits, {tally:,} operations, 1 shot, {quiet}"
        found += [
            row(f"{what}: own tableau", tally / median(ours), "ops/s", at_least=200_000),
            row(f"{what}: raw Stim TableauSimulator.do", tally / median(theirs), "ops/s"),
            row(f"{what}: own / Stim", median_ratio(theirs, ours), "x"),
        ]
    (fresh,) = interleaved(rounds, cpu(lambda: rows(prepare(raw), 1, engines.TABLEAU, IDEAL)))
    what = f"{QUBITS} qubits, {SINGLE_OPERATIONS:,} operations, 1 shot"
    return [
        *found,
        row(f"{what}: from JSON, first run", SINGLE_OPERATIONS / median(fresh), "ops/s"),
    ]


def records(rounds: int) -> list[Row]:
    """What hashing adds where records are wide; counting gives up on so many different ones."""
    program = prepare(clifford_program(QUBITS, SINGLE_OPERATIONS, pauli_guards=True))
    bare, ours, hashed = interleaved(
        rounds,
        cpu(lambda: batches(program, MANY_SHOTS, "frames", IDEAL)),
        cpu(lambda: rows(program, MANY_SHOTS, "frames", IDEAL)),
        cpu(lambda: run_segment(program, 1, 0, MANY_SHOTS, "frames", counts=False)),
    )
    events = len(program.lowered.events)
    what = f"{QUBITS} qubits, {SINGLE_OPERATIONS:,} operations, {events} events"
    return [
        row(f"{what}: own frames, rows left unpacked", MANY_SHOTS / median(bare), "shots/s"),
        row(f"{what}: own frames", MANY_SHOTS / median(ours), "shots/s"),
        row(f"{what}: own frames, hashed", MANY_SHOTS / median(hashed), "shots/s"),
    ]


def small_jobs(rounds: int) -> list[Row]:
    program = prepare(load("bell"))
    (ours,) = interleaved(
        rounds,
        cpu(
            lambda: [
                run_segment(program, seed, 0, SMALL_SHOTS, "frames") for seed in range(SMALL_JOBS)
            ]
        ),
    )
    each = median(ours) / SMALL_JOBS * 1e6
    return [
        row(f"bell, {SMALL_SHOTS} shots: a segment, counted and hashed", each, "us", at_most=150)
    ]


def against(
    what: str, peer: Peer, ours: list[float], rest: list[list[float]], goal: float
) -> Iterator[Row]:
    """A ratio to a peer, or why there is none. rest: the peer's seconds, if it ran."""
    if peer.missing:
        yield missing(what, peer.missing)
    else:
        (theirs,) = rest
        yield row(f"{what} {peer.version}", median_ratio(theirs, ours), "x", at_least=goal)


# --- work and clocks ------------------------------------------------------------------------------


def everything() -> str:
    """All engines, each part by the first that suits it."""
    return "+".join(engines.MAKERS)


def batches(program: Prepared, shots: int, engine: str, noise: NoiseModel) -> None:
    """Run, and leave the events as rows of bits over shots."""
    form = program.form(engines.compiler(engine), noise)
    for _ in run_batches(program, form, 1, 0, shots, lambda: False):
        pass


def rows(program: Prepared, shots: int, engine: str, noise: NoiseModel) -> None:
    """Run, and pack the rows."""
    for _ in packed_rows(program, 1, 0, shots, engine, noise):
        pass


def cpu(work: Work) -> Clock:
    def clock() -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    return clock


def scaled(clock: Clock, factor: float) -> Clock:
    """Of something that was done less often."""
    return lambda: factor * clock()


def interleaved(rounds: int, *clocks: Clock) -> list[list[float]]:
    """CPU seconds of each in each round, one after the other; the first round is dropped."""
    seconds: list[list[float]] = [[] for _ in clocks]
    for turn in range(rounds + 1):
        for clock, times in zip(clocks, seconds, strict=True):
            took = clock()
            if turn:
                times.append(max(took, 1e-9))
    return seconds


# --- NumPy alone ----------------------------------------------------------------------------------

_PHASES: Final = {"S": 1j, "T": np.exp(0.25j * np.pi)}


def numpy_vector(qubits: int, ops: list[Any], dtype: type[np.complexfloating[Any]]) -> object:
    """The gates on a state vector, each in place, as one would write it with NumPy."""
    vector: NDArray[np.complexfloating[Any]] = np.zeros(1 << qubits, dtype=dtype)
    vector[0] = 1
    for gate, targets, _ in ops:
        if gate == "CX":
            low, high = sorted(targets)
            view = vector.reshape(-1, 2, 1 << high - low - 1, 2, 1 << low)
            ones = view[:, 1] if targets[0] == high else view[:, :, :, 1].swapaxes(1, 2)
            zero, one = (ones[:, :, 0], ones[:, :, 1])
            held = zero.copy()
            zero[...] = one
            one[...] = held
        elif gate == "H":
            pair = vector.reshape(-1, 2, 1 << targets[0])
            difference = pair[:, 0] - pair[:, 1]
            pair[:, 0] += pair[:, 1]
            pair[:, 1] = difference
            vector *= dtype(0.5**0.5)
        elif gate != "M":
            vector.reshape(-1, 2, 1 << targets[0])[:, 1] *= dtype(_PHASES[gate])
    return vector
