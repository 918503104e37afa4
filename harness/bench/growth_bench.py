"""How time and memory grow with qubits, operations and shots, beside how they should.

Each point is a fresh process, so that one program's memory is not another's. Times are CPU seconds:
`prepare` reads, verifies and lowers the graph, `compile` makes what the engine runs, `run` makes
packed rows of all shots. Memory is the most that was resident, beyond what was before. Exponents
are least squares over the logarithms of the larger points; where constants rule, they are below
what is expected, never far above.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from typing import Final, NamedTuple

import numpy as np

from harness.bench.engine_programs import Writer, clifford_program, guarded_program, noisy
from harness.bench.rows import Row, row
from harness.bench.tools import forget_peak, resident
from qmkd.engine import engines
from qmkd.engine.noise import IDEAL
from qmkd.engine.run import packed_rows, prepare

MEASURES: Final = {"prepare": "s", "compile": "s", "run": "s", "memory": "MiB"}
SLACK: Final = 0.2  # by which a fitted exponent may exceed the expected one
RATE: Final = 1e-3


class Line(NamedTuple):
    """Programs that grow. of: what grows. expected: the exponent of each measure over the last
    `fitted` points."""

    name: str
    what: str
    of: str
    points: tuple[int, ...]
    expected: dict[str, float]
    fitted: int = 3


LINES: Final = (
    Line(
        "one shot", "100 qubits, 1 shot", "operations", (10**3, 10**4, 10**5, 10**6),
        {"prepare": 1, "run": 1, "memory": 1},
    ),
    Line(
        "noisy", "100 qubits, noisy, 10,000 shots", "operations", (10**3, 10**4, 10**5, 10**6),
        {"prepare": 1, "compile": 1, "run": 1, "memory": 1},
    ),
    # Memory grows with shots until batches are full.
    Line(
        "shots", "100 qubits, 1,000 noisy operations", "shots",
        (1, 10**3, 10**4, 10**5, 10**6, 10**7), {"run": 1, "memory": 0}, 2,
    ),
    Line(
        "guarded", "50 qubits, 3,000 noisy operations, 10 guarded H/S", "shots",
        (10**3, 10**4, 10**5, 10**6, 10**7), {"run": 1, "memory": 0}, 2,
    ),
    Line(
        "tens", "entangled in tens, 10 noisy operations per qubit, 10,000 shots", "qubits",
        (10**2, 10**3, 10**4), {"prepare": 1, "compile": 1, "run": 1, "memory": 1},
    ),
    # Shallow, so a measurement turns few frames; but each turns a tableau of n^2 bits over.
    Line(
        "ring", "entangled as a ring, 10 operations per qubit, 1,000 shots", "qubits",
        (100, 300, 1000, 3000), {"prepare": 1, "compile": 3, "run": 1, "memory": 2},
    ),
)  # fmt: skip
POINTS_QUICK: Final = 2


def run(quick: bool) -> list[Row]:
    """Rows for `harness.bench`; quick takes the smallest points only."""
    found: list[Row] = []
    for number, line in enumerate(LINES):
        points = line.points[:POINTS_QUICK] if quick else line.points
        measured = [point(number, size) for size in points]
        for size, each in zip(points, measured, strict=True):
            for measure, unit in MEASURES.items():
                found.append(
                    row(f"{line.name}, {size:,} {line.of}: {measure}", each[measure], unit)
                )
        for measure, exponent in line.expected.items():
            last = [each[measure] for each in measured[-line.fitted :]]
            fitted = slope(points[-line.fitted :], last)
            name = f"{line.what}: exponent of {measure} in {line.of}, expected {exponent:g}"
            found.append(row(name, fitted, "", at_most=None if quick else exponent + SLACK))
    return found


def slope(sizes: tuple[int, ...], values: list[float]) -> float:
    """The exponent that fits best."""
    fitted = np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-6)), 1)
    return float(fitted[0])


def point(line: int, size: int) -> dict[str, float]:
    """What one program takes, in a process of its own."""
    graph, shots, loud = program(line, size)
    command = [sys.executable, "-m", "harness.bench.growth_bench", str(shots), str(int(loud))]
    done = subprocess.run(command, input=graph, check=True, stdout=subprocess.PIPE)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


# --- programs -------------------------------------------------------------------------------------


def program(line: int, size: int) -> tuple[bytes, int, bool]:
    """Graph, shots, and whether there is noise."""
    match line:
        case 0:
            return clifford_program(100, size, pauli_guards=True), 1, False
        case 1:
            return clifford_program(100, size, pauli_guards=True), 10_000, True
        case 2:
            return clifford_program(100, 1_000, pauli_guards=True), size, True
        case 3:
            return guarded_program(50, 40, 10), size, True
        case 4:
            return scattered(size, 10), 10_000, True
        case _:
            return ring(size, 6), 1_000, False


def scattered(qubits: int, together: int) -> bytes:
    """Ten operations for each qubit, pairs only within so many; all measured."""
    rng, writer = random.Random(4), Writer(qubits)
    for _ in range(10 * qubits):
        one = rng.randrange(qubits)
        if rng.random() < 0.5:
            writer.add(rng.choice(("APPLY_H", "APPLY_S")), one)
        else:
            first = one - one % together
            other = first + (one - first + 1 + rng.randrange(together - 1)) % together
            writer.add("APPLY_CNOT", one, other)
    for qubit in range(qubits):
        writer.measure(qubit)
    return writer.graph()


def ring(qubits: int, layers: int) -> bytes:
    """Layers of H or S on each qubit and CNOT between neighbours in turn; all measured."""
    rng, writer = random.Random(5), Writer(qubits)
    for layer in range(layers):
        for qubit in range(qubits):
            writer.add(rng.choice(("APPLY_H", "APPLY_S")), qubit)
        for one in range(layer % 2, qubits, 2):
            writer.add("APPLY_CNOT", one, (one + 1) % qubits)
    for qubit in range(qubits):
        writer.measure(qubit)
    return writer.graph()


# --- there ----------------------------------------------------------------------------------------


def measure(graph: bytes, shots: int, loud: bool) -> dict[str, float]:
    noise = noisy(RATE) if loud else IDEAL
    forget_peak()
    before = resident("VmRSS")
    times = [time.process_time()]
    prepared = prepare(graph)
    times.append(time.process_time())
    engine = engines.TABLEAU if shots == 1 else "+".join(engines.MAKERS)
    if engine != engines.TABLEAU:
        prepared.form(engines.compiler(engine), noise)
    times.append(time.process_time())
    for _ in packed_rows(prepared, 1, 0, shots, engine, noise):
        pass
    times.append(time.process_time())
    seconds = dict(zip(("prepare", "compile", "run"), np.diff(times).tolist(), strict=True))
    return {**seconds, "memory": (resident("VmHWM") - before) / (1 << 20)}


if __name__ == "__main__":
    shots, loud = map(int, sys.argv[1:])
    print(json.dumps(measure(sys.stdin.buffer.read(), shots, bool(loud))))
