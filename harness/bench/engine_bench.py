"""The engines beside raw Stim: operations per second, and shots per second with guards.

Everything is single-threaded CPU time in one process, in interleaved rounds; figures are medians,
ratios are medians of the rounds' ratios. Stim runs without an event log, without our own random
words and, where it cannot have them, without guards: it is the limit, not a like for like.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import stim

from harness.bench.rows import Row, median_ratio, row
from qmkd.engine.prepared import GATES, Prepared, instruction
from qmkd.engine.run import prepare, run_segment
from qvm.examples import load
from qvm.program import LoweredGuard, Step

QUBITS: Final = 100
OPERATIONS: Final = 10_000
MANY_SHOTS: Final = 65_536
GUARDED_QUBITS: Final = 50
GUARDED_LAYERS: Final = 40
GUARDED: Final = ((5, 65_536), (10, 65_536), (10, 524_288))  # guards, shots
PEER_SHOTS: Final = 16
TELEPORT_SHOTS: Final = 262_144
SMALL_JOBS: Final = 300
SMALL_SHOTS: Final = 100
ROUNDS: Final = 7
ROUNDS_QUICK: Final = 3

Json = dict[str, Any]
Work = Callable[[], object]


def run(quick: bool) -> list[Row]:
    rounds = ROUNDS_QUICK if quick else ROUNDS
    return [
        *_single_shot(rounds),
        *_many_shots(rounds),
        *_guards(rounds),
        *_teleport(rounds),
        *_small_jobs(rounds),
    ]


def _single_shot(rounds: int) -> list[Row]:
    raw = clifford_program(QUBITS, OPERATIONS, pauli_guards=False)
    program = prepare(raw)
    circuit = as_circuit(program)
    tally = len(program.lowered.steps)
    fresh, ours, theirs = _interleaved(
        rounds,
        lambda: run_segment(prepare(raw), 1, 0, 1, "tableau"),
        lambda: run_segment(program, 1, 0, 1, "tableau"),
        lambda: stim.TableauSimulator(seed=1).do(circuit),
    )
    what = f"{QUBITS} qubits, {tally:,} operations, 1 shot"
    median = statistics.median
    return [
        row(f"{what}: own tableau", tally / median(ours), "ops/s", at_least=200_000),
        row(f"{what}: from JSON, verified, first run", tally / median(fresh), "ops/s"),
        row(f"{what}: raw Stim TableauSimulator.do", tally / median(theirs), "ops/s"),
        row(f"{what}: own / Stim", median_ratio(theirs, ours), "x"),
    ]


def _many_shots(rounds: int) -> list[Row]:
    found = []
    for guards in (False, True):
        program = prepare(clifford_program(QUBITS, OPERATIONS, pauli_guards=guards))
        sampler = as_circuit(program).compile_sampler(seed=1)
        tally = len(program.lowered.steps)
        ours, theirs = _interleaved(
            rounds,
            lambda program=program: run_segment(  # type: ignore[misc]
                program, 1, 0, MANY_SHOTS, "frames", counts=False
            ),
            lambda sampler=sampler: sampler.sample(MANY_SHOTS, bit_packed=True),  # type: ignore[misc]
        )
        what = f"{QUBITS} qubits, {tally:,} operations, {MANY_SHOTS:,} shots"
        what += ", Pauli guards" if guards else ""
        median = statistics.median
        found += [
            row(f"{what}: own frames", tally * MANY_SHOTS / median(ours), "op-shots/s"),
            row(f"{what}: own frames, rows packed", MANY_SHOTS / median(ours), "shots/s"),
            row(f"{what}: Stim compiled sampler", MANY_SHOTS / median(theirs), "shots/s"),
            row(f"{what}: own / Stim", median_ratio(theirs, ours), "x"),
        ]
    return found


def _guards(rounds: int) -> list[Row]:
    found = []
    for guards, shots in GUARDED:
        program = prepare(guarded_program(GUARDED_QUBITS, GUARDED_LAYERS, guards))
        sampler = as_circuit(program).compile_sampler(seed=1)
        peer = PerShot(program)
        ours, theirs, without = _interleaved(
            rounds,
            lambda program=program, shots=shots: run_segment(  # type: ignore[misc]
                program, 1, 0, shots, "frames", counts=False
            ),
            lambda peer=peer: [peer.shot() for _ in range(PEER_SHOTS)],  # type: ignore[misc]
            lambda sampler=sampler, shots=shots: sampler.sample(shots, bit_packed=True),  # type: ignore[misc]
        )
        what = f"{GUARDED_QUBITS} qubits, {len(program.lowered.steps):,} ops, {guards} guarded H/S"
        what += f", {shots:,} shots"
        per_shot = [seconds / PEER_SHOTS * shots for seconds in theirs]
        median = statistics.median
        found += [
            row(f"{what}: own frames", shots / median(ours), "shots/s"),
            row(f"{what}: groups", program.notes["groups_peak"], ""),
            row(f"{what}: TableauSimulator per shot", shots / median(per_shot), "shots/s"),
            row(f"{what}: own / per shot", median_ratio(per_shot, ours), "x"),
            row(f"{what}: own / Stim without guards", median_ratio(without, ours), "x"),
        ]
    return found


def _teleport(rounds: int) -> list[Row]:
    program = prepare(guarded_teleport())
    peer = PerShot(program)
    ours, theirs = _interleaved(
        rounds,
        lambda: run_segment(program, 1, 0, TELEPORT_SHOTS, "frames"),
        lambda: [peer.shot() for _ in range(100 * PEER_SHOTS)],
    )
    per_shot = [seconds / (100 * PEER_SHOTS) * TELEPORT_SHOTS for seconds in theirs]
    what = "teleportation with guarded H and S"
    return [
        row(f"{what}: own frames, counted", TELEPORT_SHOTS / statistics.median(ours), "shots/s"),
        row(f"{what}: own / TableauSimulator per shot", median_ratio(per_shot, ours), "x"),
    ]


def _small_jobs(rounds: int) -> list[Row]:
    program = prepare(load("bell"))
    (ours,) = _interleaved(
        rounds,
        lambda: [
            run_segment(program, seed, 0, SMALL_SHOTS, "frames") for seed in range(SMALL_JOBS)
        ],
    )
    each = statistics.median(ours) / SMALL_JOBS * 1e6
    return [
        row(f"bell, {SMALL_SHOTS} shots: a segment, counted and hashed", each, "us", at_most=150)
    ]


def _interleaved(rounds: int, *works: Work) -> tuple[list[float], ...]:
    """CPU seconds of each work in each round, one after the other; the first round is dropped."""
    seconds: tuple[list[float], ...] = tuple([] for _ in works)
    for turn in range(rounds + 1):
        for work, times in zip(works, seconds, strict=True):
            started = time.process_time()
            work()
            if turn:
                times.append(max(time.process_time() - started, 1e-9))
    return seconds


# --- programs -------------------------------------------------------------------------------------


class _Writer:
    """A program being written."""

    def __init__(self, qubits: int) -> None:
        self.qubits = [f"q{at}" for at in range(qubits)]
        self.nodes: list[Json] = []
        self.events: list[str] = []
        args = {"n": qubits, "profile": "logical:ideal"}
        self.add("ALLOC_LQ", *range(qubits), args=args)

    def add(self, op: str, *qubits: int, **fields: Any) -> None:
        vqs = [self.qubits[at] for at in qubits]
        self.nodes.append({"id": f"n{len(self.nodes)}", "op": op, "vqs": vqs, **fields})

    def measure(self, qubit: int) -> str:
        self.events.append(f"m{len(self.events)}")
        self.add("MEASURE_Z", qubit, produces=[self.events[-1]])
        return self.events[-1]

    def graph(self) -> bytes:
        resources = {"vqs": self.qubits, "events": self.events}
        body = {"nodes": self.nodes}
        return json.dumps({"version": "0.1", "program": body, "resources": resources}).encode()


def clifford_program(qubits: int, operations: int, pauli_guards: bool) -> bytes:
    """Random gates with a measurement in a hundred, and a measurement of everything at the end."""
    rng, writer = random.Random(1), _Writer(qubits)
    while len(writer.nodes) < operations - qubits:
        chance = rng.random()
        if chance < 0.01:
            event = writer.measure(rng.randrange(qubits))
            if pauli_guards:
                guard = {"event": event, "equals": 1}
                writer.add("APPLY_X", rng.randrange(qubits), guard=guard)
        elif chance < 0.5:
            writer.add(rng.choice(("APPLY_H", "APPLY_S")), rng.randrange(qubits))
        else:
            writer.add(rng.choice(("APPLY_CNOT", "APPLY_CZ")), *rng.sample(range(qubits), 2))
    for qubit in range(qubits):
        writer.measure(qubit)
    return writer.graph()


def guarded_program(qubits: int, layers: int, guards: int) -> bytes:
    """Layers of H, S and CNOT; now and then a measurement guards an H or S."""
    rng, writer = random.Random(2), _Writer(qubits)
    for layer in range(layers):
        for qubit in range(qubits):
            writer.add(rng.choice(("APPLY_H", "APPLY_S")), qubit)
        order = rng.sample(range(qubits), qubits)
        for one, two in zip(order[::2], order[1::2], strict=True):
            writer.add("APPLY_CNOT", one, two)
        if layer % (layers // guards) == 0:
            one, two = rng.sample(range(qubits), 2)
            guard = {"event": writer.measure(one), "equals": 1}
            writer.add(rng.choice(("APPLY_H", "APPLY_S")), two, guard=guard)
    for qubit in range(qubits):
        writer.measure(qubit)
    return writer.graph()


def guarded_teleport() -> bytes:
    """A stabilizer state teleported, turned by an H and an S under conditions, and measured."""
    writer = _Writer(3)
    for op, *qubits in (("H", 0), ("S", 0), ("H", 1), ("CNOT", 1, 2), ("CNOT", 0, 1), ("H", 0)):
        writer.add(f"APPLY_{op}", *qubits)
    mx, mz = writer.measure(0), writer.measure(1)
    for op, event in (("X", mz), ("Z", mx), ("H", mx), ("S", mz)):
        writer.add(f"APPLY_{op}", 2, guard={"event": event, "equals": 1})
    writer.measure(2)
    return writer.graph()


def as_circuit(program: Prepared) -> stim.Circuit:
    """The program for Stim: guarded Paulis become feedback, other guarded gates are left out."""
    lines, made = [], 0
    at: dict[int, int] = {}
    for step in program.lowered.steps:
        if step.op == "MEASURE_Z":
            lines.append(f"M {step.qubits[0]}")
            at[step.events[0]], made = made, made + 1
        elif step.op in GATES and step.guard is None:
            lines.append(instruction(GATES[step.op], step.qubits))
        elif step.op == "APPLY_X" and step.guard is not None:
            ((event, _),) = step.guard.tests
            lines.append(f"CX rec[{at[event] - made}] {step.qubits[0]}")
    return stim.Circuit("\n".join(lines))


class PerShot:
    """Guards on Stim alone: a TableauSimulator per shot, circuits between the guards."""

    def __init__(self, program: Prepared) -> None:
        self.parts: list[stim.Circuit | Step] = []
        lines: list[str] = []
        for step in program.lowered.steps:
            if step.op in GATES and step.guard is None:
                lines.append(instruction(GATES[step.op], step.qubits))
            elif step.op in GATES or step.op == "MEASURE_Z":
                self.parts += [stim.Circuit("\n".join(lines)), step]
                lines = []
        self.gates = {
            id(part): stim.Circuit(instruction(GATES[part.op], part.qubits))
            for part in self.parts
            if not isinstance(part, stim.Circuit) and part.op in GATES
        }

    def shot(self) -> dict[int, bool]:
        sim, seen = stim.TableauSimulator(), dict[int, bool]()
        for part in self.parts:
            if isinstance(part, stim.Circuit):
                sim.do(part)
            elif part.op == "MEASURE_Z":
                seen[part.events[0]] = sim.measure(part.qubits[0])
            elif _holds(part.guard, seen):
                sim.do(self.gates[id(part)])
        return seen


def _holds(guard: LoweredGuard | None, seen: dict[int, bool]) -> bool:
    return guard is None or all(seen[event] == wanted for event, wanted in guard.tests)
