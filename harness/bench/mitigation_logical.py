"""Mitigation of logical qubits: what rescaling by gaps takes away of the bias, and what
extrapolating over distances gains, each on a daemon of its own with the noise that is named.

Curves for gaps are fitted at the calibrated noise, on circuits of the same build with other answers
and seeds, and used again where the true noise is a fifth stronger. Values are not cut to what is
possible, which would flatter whoever overshoots.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from harness.bench.tools import daemon_command, scratch, server
from harness.em.backends.backend import Calibration, Outcome
from harness.em.backends.logical import Logical
from harness.em.circuits.exact import exact
from harness.em.circuits.families import make
from harness.em.circuits.paulis import mean_of
from harness.em.circuits.tasks import Gates, Task
from harness.em.methods.direct import Unmitigated
from harness.em.methods.distance import DistanceScaled
from harness.em.methods.gap import GapModel, Seen, build_twin, fitted, known_products, rescaled
from harness.em.methods.plan import Known, Plan
from harness.em.running import carried_out, run_seed

STRENGTH: Final = 3e-3
STRONGER: Final = 1.2
WEAK: Final = 1e-3
TWIN_SEED: Final = 77
TRAINING_SEED, TEST_SEED, STRONG_SEED = 11, 12, 13
DISTANCE_SHOTS: Final = 20_000
UNKNOWN: Final = Calibration(
    backend="", taken_at="", qubits=(), gate_1q_s=0.0, gate_2q_s=0.0, readout_s=0.0
)


class Rescaled(NamedTuple):
    """Of one circuit: errors as they are, and rescaled, and the standard error of the latter."""

    name: str
    raw: float
    mitigated: float
    std_err: float

    @property
    def removed(self) -> float:
        """The share of the bias that is gone."""
        return 1 - abs(self.mitigated) / abs(self.raw)


class Extrapolated(NamedTuple):
    """Of one circuit: roots of mean squared errors at equal qubit-time, and whether it declined."""

    name: str
    exact: float
    plain: float
    mitigated: float
    declined: bool


@contextmanager
def logical(
    folder: Path, strength: float, noise: str, distances: tuple[int, ...]
) -> Iterator[Logical]:
    """Qubits of a daemon whose physical noise is so strong."""
    name = f"p{strength:g}-{noise}".replace(".", "")
    config = folder / f"{name}.toml"
    config.write_text(f'physical_noise = "uniform {strength:g}"\nworker_scheduling = "other"\n')
    command = [*daemon_command(folder, name, workers=1), "--config", str(config)]
    socket = folder / f"{name}.sock"
    with server(command, socket):
        backend = Logical(str(socket), noise=noise, distances=distances)
        try:
            yield backend
        finally:
            backend.close()


def memory(rounds: int) -> Task:
    """One qubit at rest but for H twice in a row; the value of Z, which is 1."""
    gates = Gates(1)
    for _ in range(rounds):
        gates.add("h", 0)
    circuit, wanted = gates.circuit(), mean_of([((0, "Z"),)])
    value, how = exact(circuit, wanted)
    return Task(
        family="memory",
        parameters={"h": rounds},
        seed=0,
        circuit=circuit,
        observable=wanted,
        exact=value,
        exact_by=how,
    )


def gap_tasks() -> list[Task]:
    """Memories and circuits of two and three patches."""
    return [
        memory(8),
        memory(24),
        make("ghz", 1, 2),
        make("ghz", 1, 3),
        make("clifford", 101, 2, 2),
        make("clifford", 102, 3, 1),
        make("mirror", 101, 2, 1),
        make("mirror", 102, 3, 1),
    ]


def gaps(shots: int) -> tuple[list[Rescaled], list[Rescaled]]:
    """At the noise that curves were fitted at, and where it is STRONGER times as strong."""
    tasks = gap_tasks()
    with scratch() as folder:
        with logical(folder, STRENGTH, "decoded", (3,)) as backend:
            models = [_model(backend, task, shots) for task in tasks]
            same = [
                _rescaled(backend, task, model, shots, TEST_SEED)
                for task, model in zip(tasks, models, strict=True)
            ]
        with logical(folder, STRONGER * STRENGTH, "decoded", (3,)) as backend:
            strong = [
                _rescaled(backend, task, model, shots, STRONG_SEED)
                for task, model in zip(tasks, models, strict=True)
            ]
    return same, strong


def _known(backend: Logical) -> Known:
    """Without the rates of distances, which cost shots and which rescaling does not use."""
    return Known(capabilities=backend.capabilities, calibration=UNKNOWN)


def _ran(backend: Logical, task: Task, shots: int, seed: int) -> tuple[Plan, list[Outcome]]:
    plan = Unmitigated().plan(task, _known(backend), shots, seed)
    return plan, [
        backend.run(r.circuit, r.shots, run_seed(seed, n)) for n, r in enumerate(plan.runs)
    ]


def _model(backend: Logical, task: Task, shots: int) -> GapModel:
    twin = build_twin(task, TWIN_SEED)
    _, outcomes = _ran(backend, twin, shots, TRAINING_SEED)
    return fitted([Seen(outcomes[at], product, v) for at, product, v in known_products(twin)])


def _rescaled(backend: Logical, task: Task, model: GapModel, shots: int, seed: int) -> Rescaled:
    plan, outcomes = _ran(backend, task, shots, seed)
    raw = Unmitigated().reduce(plan, outcomes)
    value, variance, _ = rescaled(plan, outcomes, model)
    return Rescaled(task.name, raw.value - task.exact, value - task.exact, math.sqrt(variance))


def trotter(qubits: int, steps: int) -> Task:
    """An Ising chain with turns of an eighth, which are T gates and nothing else."""
    gates = Gates(qubits)
    for _ in range(steps):
        for first in range(qubits - 1):
            gates.add("rzz", first, first + 1, angles=(math.pi / 4,))
        for qubit in range(qubits):
            gates.add("rx", qubit, angles=(math.pi / 4,))
    circuit, wanted = gates.circuit(), mean_of([((q, "Z"),) for q in range(qubits)])
    value, how = exact(circuit, wanted)
    return Task(
        family="ising-t",
        parameters={"n": qubits, "d": steps},
        seed=0,
        circuit=circuit,
        observable=wanted,
        exact=value,
        exact_by=how,
    )


def distance_tasks() -> list[Task]:
    """Trotter circuits with T gates, and Clifford circuits."""
    return [
        trotter(3, 1),
        trotter(4, 1),
        trotter(4, 2),
        make("clifford", 103, 4, 4),
        make("clifford", 104, 4, 3),
        make("mirror", 104, 4, 2),
        make("ghz", 1, 4),
    ]


def distances(strength: float, repeats: int) -> list[Extrapolated]:
    """Distances 5 and 7 beside all qubit-time at 7."""
    found = []
    with scratch() as folder, logical(folder, strength, "calibrated", (7, 5)) as backend:
        for task in distance_tasks():
            plain: list[float] = []
            mitigated: list[float] = []
            declined = False
            for repeat in range(repeats):
                for how, errors in ((Unmitigated("", 7), plain), (DistanceScaled(), mitigated)):
                    ran = carried_out(how, task, backend, DISTANCE_SHOTS, 1_000 + repeat)
                    errors.append(ran.estimate.value - task.exact)
                    declined = declined or bool(ran.plan.note)
            found.append(
                Extrapolated(
                    task.name,
                    task.exact,
                    float(np.sqrt(np.mean(np.square(plain)))),
                    float(np.sqrt(np.mean(np.square(mitigated)))),
                    declined,
                )
            )
    return found
