"""Our zero-noise extrapolation beside mitiq's, on the same circuits, machine and shots.

mitiq folds and extrapolates in a process of its own (`peers_mitiq.py`); all circuits run on our
noisy simulator. mitiq splits shots evenly over scales, as it has no other way. Its values are cut
to what the observable can have, as ours are; where its fit fails, the circuit as it is counts.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.em.backends.backend import Backend, Outcome
from harness.em.backends.physical import Physical
from harness.em.circuits.families import FAMILIES, make
from harness.em.circuits.tasks import Task
from harness.em.methods import readings
from harness.em.methods.direct import Unmitigated
from harness.em.methods.plan import Known, shares
from harness.em.methods.zne import ZeroNoise
from harness.em.running import carried_out, run_seed
from runtime.jit.angles import angle
from runtime.jit.circuit import Circuit, Operation

VARIABLE: Final = "MITIQ_PYTHON"
HOW: Final = f"set {VARIABLE} to a Python that has mitiq 1.1"
SHOTS: Final = 12_000
SEEDS: Final = (101, 102, 103)
QUBITS: Final = (4, 5, 4)
MACHINE: Final = {"qubits": 8, "seed": 77, "day": 5, "age_days": 1, "turn_2q": 0.02}
WAYS: Final[tuple[tuple[str, tuple[int, ...], dict[str, Any]], ...]] = (
    ("linear", (1, 3), {}),
    ("richardson", (1, 3, 5), {}),
    ("polynomial", (1, 3, 5, 7), {"degree": 2}),
    ("exponential", (1, 3, 5), {}),
)
SCALES: Final = (1, 3, 5, 7)
HARM_SIGMAS: Final = 2.0
INSIDE: Final = 0.98


class Peer:
    """mitiq, asked over a pipe."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, do: str, **question: Any) -> Any:
        """Its answer. Raises OSError where it has ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None, "made with pipes"
        assert stdout is not None, "made with pipes"
        stdin.write(json.dumps({"do": do, **question}) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise OSError("mitiq's process has ended.")
        return json.loads(line)


@contextmanager
def mitiq() -> Iterator[Peer | None]:
    """The peer, or None where no interpreter is named."""
    python = os.environ.get(VARIABLE)
    if python is None:
        yield None
        return
    program = os.path.join(os.path.dirname(__file__), "peers_mitiq.py")
    process = subprocess.Popen(
        [python, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Peer(process)
    finally:
        assert process.stdin is not None, "made with pipes"
        process.stdin.close()
        process.wait()


class Errors(NamedTuple):
    """Of one method: by circuit, the errors of all repeats as shares of the spread.

    inside: of each circuit, whether its value is off the bounds, where cutting helps nobody.
    """

    name: str
    by_circuit: list[NDArray[np.float64]]
    inside: list[bool]

    def off_bounds(self) -> Errors:
        """Of the circuits whose values are inside of their bounds."""
        kept = [e for e, inside in zip(self.by_circuit, self.inside, strict=True) if inside]
        return Errors(self.name, kept, [True] * len(kept))

    @property
    def rms(self) -> float:
        return float(np.sqrt(np.mean([np.mean(each**2) for each in self.by_circuit])))

    def harmed(self, plain: Errors) -> int:
        """Circuits on which squared errors are larger than without, beyond two standard errors."""
        found = 0
        for own, other in zip(self.by_circuit, plain.by_circuit, strict=True):
            more = own**2 - other**2
            found += bool(more.mean() > HARM_SIGMAS * more.std(ddof=1) / np.sqrt(len(more)))
        return found


def gates_of(circuit: Circuit) -> list[list[Any]]:
    """As `peers_mitiq.py` reads them."""
    return [[e.name, list(e.qubits), [a.radians for a in e.angles]] for e in circuit.operations]


def circuit_of(like: Circuit, gates: Sequence[Any]) -> Circuit:
    """The inverse, with the registers of another circuit."""
    return like.with_operations(
        [Operation(n, tuple(q), tuple(angle(each) for each in a)) for n, q, a in gates]
    )


def side_by_side(peer: Peer, quick: bool) -> list[Errors]:
    """No mitigation, ours, and every way of mitiq's, alone and after undoing readout."""
    seeds = SEEDS[:1] if quick else SEEDS
    repeats = 4 if quick else 12
    backend = Physical(**MACHINE)  # type: ignore[arg-type]
    found: dict[str, list[Any]] = {}
    inside: list[bool] = []
    for family, row in FAMILIES.items():
        for seed, wished in zip(seeds, QUBITS, strict=False):
            width = min(max(wished, row.qubits_min), row.qubits_max)
            task = make(family, seed, width)
            reached = abs(task.exact - task.observable.constant) / task.observable.spread
            inside.append(reached < INSIDE)
            for name, errors in _errors(peer, backend, task, repeats).items():
                found.setdefault(name, []).append(errors)
    return [Errors(name, errors, inside) for name, errors in found.items()]


def _errors(peer: Peer, backend: Backend, task: Task, repeats: int) -> dict[str, Any]:
    folds = peer.ask("fold", gates=gates_of(task.circuit), scales=[float(s) for s in SCALES])
    bodies = dict(
        zip(SCALES, (circuit_of(task.circuit, gates) for gates in folds["gates"]), strict=True)
    )
    values: dict[str, list[float]] = {"none": [], "ours": []}
    fits: list[dict[str, Any]] = []
    names: list[str] = []
    for repeat in range(repeats):
        values["none"].append(_ours(Unmitigated(), task, backend, repeat))
        values["ours"].append(_ours(ZeroNoise(), task, backend, repeat))
        for kind, scales, more in WAYS:
            for undo in (False, True):
                told = _scaled(backend, task, [bodies[s] for s in scales], undo, repeat)
                names.append(f"{kind}, readout undone" if undo else kind)
                fits.append({"kind": kind, "scales": [float(s) for s in scales], "values": told,
                             "asymptote": task.observable.constant, **more})  # fmt: skip
    answers = peer.ask("fit", fits=fits)["values"]
    reach = task.observable.spread
    low = task.observable.constant - reach
    for name, asked, answer in zip(names, fits, answers, strict=True):
        value = asked["values"][0] if answer is None else answer
        values.setdefault(name, []).append(min(max(value, low), low + 2 * reach))
    return {name: (np.array(each) - task.exact) / reach for name, each in values.items()}


def _ours(how: Any, task: Task, backend: Backend, repeat: int) -> float:
    return carried_out(how, task, backend, SHOTS, 1_000 + repeat).estimate.value


def _scaled(
    backend: Backend, task: Task, bodies: Sequence[Circuit], undo: bool, repeat: int
) -> list[float]:
    """The observable at each scale, all of them and readout's calibration from SHOTS shots."""
    first = readings.calibration_shots(SHOTS) if undo else 0
    readout, seed = None, 50_000 + repeat
    if undo:
        runs = readings.readout_runs(task.circuit.width, first)
        zeros, ones = (
            backend.run(r.circuit, r.shots, run_seed(seed, n)) for n, r in enumerate(runs)
        )
        readout = readings.readout_of(zeros, ones)
    known = Known(capabilities=backend.capabilities, calibration=backend.calibration)
    found = []
    for level, (body, shots) in enumerate(
        zip(bodies, shares(SHOTS - first, [1.0] * len(bodies)), strict=True)
    ):
        plan = Unmitigated().plan(msgspec.structs.replace(task, circuit=body), known, shots, seed)
        outcomes: list[Outcome] = [
            backend.run(r.circuit, r.shots, run_seed(seed, 100 * (level + 1) + n))
            for n, r in enumerate(plan.runs)
        ]
        each = [readings.reading(o, b, readout) for o, b in zip(outcomes, plan.bases, strict=True)]
        found.append(readings.total(task.observable, plan.bases, each)[0])
    return found


FITS: Final = 50
FITS_SEED: Final = 1


def fits_table(peer: Peer) -> dict[str, Any]:
    """Values at scales, drawn at random around decays, and what mitiq extrapolates them to."""
    rng = np.random.Generator(np.random.PCG64(FITS_SEED))
    asked: list[dict[str, Any]] = []
    for number in range(4 * FITS):
        kind, scales, more = WAYS[number % len(WAYS)]
        asymptote = float(rng.uniform(-0.2, 0.2))
        height, rate = rng.uniform(0.3, 0.9) * rng.choice([-1, 1]), rng.uniform(0.02, 0.25)
        noise = 0.02 * abs(height) * rng.standard_normal(len(scales))
        values = asymptote + height * np.exp(-rate * np.array(scales)) + noise
        asked.append({"kind": kind, "scales": [float(s) for s in scales],
                      "values": values.tolist(), "asymptote": asymptote, **more})  # fmt: skip
    answers = peer.ask("fit", fits=asked)["values"]
    cases = [{**each, "mitiq": value} for each, value in zip(asked, answers, strict=True)]
    return {
        "made_by": f"{VARIABLE}=PYTHON python -m harness.bench.mitigation_peer",
        "mitiq": peer.ask("about")["version"],
        "cases": cases,
    }


if __name__ == "__main__":
    with mitiq() as found_peer:
        assert found_peer is not None, HOW
        table = fits_table(found_peer)
    lines = ",\n  ".join(json.dumps(case) for case in table.pop("cases"))
    print(json.dumps(table)[:-1] + f', "cases": [\n  {lines}\n]}}')
