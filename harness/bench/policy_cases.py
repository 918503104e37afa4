"""Cases from which a policy is learnt and by which it is judged: circuits on real calibrations.

The circuits are those of `harness/em`, the noise is exact (Pauli transfer matrices): errors of
gates as a snapshot of a real machine says, off by a sixth, coherent over-rotation, relaxation,
readout. Of each case the values at noise 1, 3 and 5 (global folding) are exact; a method's expected
error at a budget of shots follows from bias and variance, without sampling. ML-QEM is a forest on
the residual, and predicts only circuits that it has not seen.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.em.backends.backend import Calibration as Figures
from harness.em.backends.backend import QubitFigures
from harness.em.backends.device import Device
from harness.em.backends.superoperators import Superoperators
from harness.em.circuits.families import FAMILIES, make
from harness.em.circuits.paulis import Pauli
from harness.em.circuits.tasks import Task, figures
from harness.em.methods.folding import folded
from policy.api import Asked, Budget, CircuitFeatures
from policy.rules import CALIBRATION_SHARE, FOLDS, variance
from runtime.jit.circuit import Circuit
from runtime.scheduler.calibrations import Snapshot, features
from runtime.scheduler.calibrations import parse_time as time_of

Real = NDArray[np.float64]

METHODS: Final = ("none", "zne", "richardson", "ml-qem")
QUBITS: Final = (4, 5)
DEPTHS: Final = {"random": (1, 10), "mirror": (1, 6), "ising": (1, 8), "heisenberg": (1, 4),
                 "vqe-hea": (1, 5), "clifford": (1, 8), "qaoa-ring": (1, 4), "qaoa-cubic": (1, 4),
                 "qaoa-random": (1, 4), "qaoa-star": (1, 4), "h2": (1, 3)}  # fmt: skip
LEFT_OUT: Final = ("vqe-ucc-h2", "qft", "ghz")
"""Too few different circuits of four and five qubits."""
OFF: Final = 1 / 6
TURN_MAX: Final = 0.06
SHOTS: Final = (150, 16_384)
FOLDS_ML: Final = 5


class Cases(NamedTuple):
    """asked: the questions. errors: the expected |error| of each method, shape (cases, methods).

    circuit, backend, family: groups that no split may tear.
    """

    asked: list[Asked]
    errors: Real
    circuit: list[str]
    backend: list[str]
    family: list[str]
    calibrations: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over questions and errors."""
        told = msgspec.json.encode(self.asked, order="sorted")
        return hashlib.sha256(told + np.ascontiguousarray(self.errors).tobytes()).hexdigest()


class _Measured(NamedTuple):
    """One circuit on one machine: exact value, and values at each scale; in units of the spread.

    plain: with readout errors, at scale 1. read: what readout leaves of it.
    """

    task: Task
    asked: CircuitFeatures
    place: int
    exact: float
    plain: float
    scaled: tuple[float, float, float]
    read: float


def cases(snapshots: Sequence[Snapshot], seed: int, circuits: int, budgets: int = 3) -> Cases:
    """Each circuit on two machines, each with so many budgets (log-uniform)."""
    rng = np.random.Generator(np.random.PCG64([seed, 77]))
    measured = list(_measured(snapshots, rng, circuits))
    learnt = _ml_qem(measured, rng)
    asked, errors, groups = [], [], []
    for each, predicted in zip(measured, learnt, strict=True):
        for _ in range(budgets):
            shots = round(math.exp(rng.uniform(*np.log(SHOTS))))
            asked.append(_asked(each, snapshots[each.place], shots))
            errors.append(_errors(each, predicted, shots))
            name = snapshots[each.place].calibration.backend
            groups.append((each.task.circuit_id, name, each.task.family))
    circuit, backend, family = (list(column) for column in zip(*groups, strict=True))
    digests = tuple(sorted(each.digest for each in snapshots))
    return Cases(asked, np.array(errors), circuit, backend, family, digests)


def _measured(
    snapshots: Sequence[Snapshot], rng: np.random.Generator, circuits: int
) -> Iterator[_Measured]:
    names = [name for name in FAMILIES if name in DEPTHS]
    turns = rng.uniform(0, TURN_MAX, len(snapshots))
    for number in range(circuits):
        family = names[number % len(names)]
        low, high = DEPTHS[family]
        qubits = int(min(max(rng.choice(QUBITS), FAMILIES[family].qubits_min),
                         FAMILIES[family].qubits_max))  # fmt: skip
        depth = int(rng.integers(low, high + 1))
        task = make(family, int(rng.integers(2**31)), qubits, depth)
        about = _features(task)
        for place in rng.choice(len(snapshots), 2, replace=False):
            device = _device(snapshots[place], qubits, float(turns[place]), rng)
            yield _measure(task, about, int(place), device)


def _device(snapshot: Snapshot, qubits: int, turn: float, rng: np.random.Generator) -> Device:
    """The best part of a machine, as it truly is: any pair has a gate, like the part's mean."""
    known, part = snapshot.calibration, snapshot.part(qubits)
    assert part is not None, known.backend
    times = np.exp(OFF * rng.standard_normal(3))
    return Device(
        figures=Figures(
            backend=known.backend,
            taken_at=known.taken_at,
            qubits=tuple(
                QubitFigures(
                    error=min(0.5, each.error * float(times[0])),
                    t1_s=each.t1_s,
                    t2_s=min(each.t2_s or 1.0, 2 * (each.t1_s or 1.0)),
                    read_1_for_0=min(0.45, each.read_1_for_0 * float(times[1])),
                    read_0_for_1=min(0.45, each.read_0_for_1 * float(times[1])),
                )
                for each in (known.qubits[number] for number in part.qubits)
            ),
            any_pair=min(0.5, part.error_2q * float(times[2])),
            gate_1q_s=known.gate_1q_s,
            gate_2q_s=known.gate_2q_s,
            readout_s=known.readout_s,
        ),
        turn_1q=turn / 10,
        turn_2q=turn,
    )


class _Exact(Superoperators):
    """Gives out the expectation values themselves."""

    def expectations(self, circuit: Circuit) -> Real:
        """Of every product of Paulis: qubit 0 the last axis, letters I X Y Z."""
        return self._state(circuit)


def _measure(task: Task, about: CircuitFeatures, place: int, device: Device) -> _Measured:
    machine, whole = _Exact(device), task.observable
    spread = whole.spread
    values = []
    for scale in (1, 3, 5):
        state = machine.expectations(folded(task.circuit, scale))
        values.append(sum(t.weight * _value(state, t.product) for t in whole.moving) / spread)
        if scale == 1:
            read = sum(
                t.weight * _read_value(state, t.product, device.figures.qubits)
                for t in whole.moving
            )
    weights = [abs(term.weight) for term in whole.moving]
    kept = [
        math.prod(1 - device.figures.qubits[q].read_1_for_0 - device.figures.qubits[q].read_0_for_1
                  for q, _ in term.product)
        for term in whole.moving
    ]  # fmt: skip
    return _Measured(
        task=task,
        asked=about,
        place=place,
        exact=(task.exact - whole.constant) / spread,
        plain=float(read) / spread,
        scaled=(values[0], values[1], values[2]),
        read=float(np.average(kept, weights=weights)),
    )


def _value(state: Real, product: Pauli) -> float:
    """The expectation of a product; qubit 0 is the last axis, letters I X Y Z."""
    place = [0] * state.ndim
    for qubit, letter in product:
        place[state.ndim - 1 - qubit] = "IXYZ".index(letter)
    return float(state[tuple(place)])


def _read_value(state: Real, product: Pauli, qubits: Sequence[QubitFigures]) -> float:
    """The same as it is read: each Z becomes (1 - a - b) Z + (b - a)."""
    if not product:
        return 1.0
    total = 0.0
    for chosen in range(1 << len(product)):
        weight, kept = 1.0, []
        for at, (qubit, letter) in enumerate(product):
            a, b = qubits[qubit].read_1_for_0, qubits[qubit].read_0_for_1
            if chosen >> at & 1:
                weight *= 1 - a - b
                kept.append((qubit, letter))
            else:
                weight *= b - a
        total += weight * _value(state, tuple(kept))
    return total


def _features(task: Task) -> CircuitFeatures:
    told = figures(task.circuit)
    degrees = Counter(q for each in task.circuit.operations if len(each.qubits) == 2
                      for q in each.qubits)  # fmt: skip
    total = sum(degrees.values()) or 1
    entropy = -sum(n / total * math.log(n / total) for n in degrees.values())
    return CircuitFeatures(
        qubits=told.qubits,
        depth=told.depth,
        gates_1q=told.gates_1q,
        gates_2q=told.gates_2q,
        measurements=told.qubits,
        mapping_entropy=max(0.0, entropy),
        family=task.family,
        reach=_reach(task),
    )


def _reach(task: Task) -> float:
    """The share of two-qubit gates in the light cone of a term, on average by weight."""
    pairs = [each.qubits for each in task.circuit.operations if len(each.qubits) == 2]
    if not pairs:
        return 1.0
    shares, weights = [], []
    for term in task.observable.moving:
        cone, inside = {qubit for qubit, _ in term.product}, 0
        for low, high in reversed(pairs):
            if low in cone or high in cone:
                cone |= {low, high}
                inside += 1
        shares.append(inside / len(pairs))
        weights.append(abs(term.weight))
    return float(np.average(shares, weights=weights))


def _asked(each: _Measured, snapshot: Snapshot, shots: int) -> Asked:
    part = snapshot.part(each.asked.qubits)
    assert part is not None
    taken = time_of(snapshot.calibration.taken_at)
    return Asked(
        circuit=each.asked,
        backend=features(snapshot, part, taken, gaps=False),
        budget=Budget(shots=shots, shots_max=shots),
    )


def _errors(each: _Measured, predicted: float, shots: int) -> list[float]:
    """Expected |error| at this many shots in all."""
    found = [_folded_normal(each.plain - each.exact, 1 / math.sqrt(shots))]
    for method in ("zne", "richardson"):
        value = sum(c * v for (_, c), v in zip(FOLDS[method], each.scaled, strict=False))
        deviation = math.sqrt(variance(method, each.read) / shots)
        found.append(_folded_normal(min(2.0, value - each.exact), deviation))
    # ML-QEM reads the corrected plain value; the forest hands its noise on about as it is.
    spread = 1 / math.sqrt(shots * (1 - CALIBRATION_SHARE)) / max(0.05, each.read)
    found.append(_folded_normal(predicted - each.exact, spread))
    return found


def _folded_normal(bias: float, deviation: float) -> float:
    """E|x| of a normal variable."""
    if deviation == 0:
        return abs(bias)
    z = bias / deviation
    density = math.sqrt(2 / math.pi) * math.exp(-(z**2) / 2)
    return deviation * density + bias * math.erf(z / math.sqrt(2))


def _ml_qem(measured: Sequence[_Measured], rng: np.random.Generator) -> Real:
    """What a forest on the residual says of each case, trained on other circuits only."""
    from sklearn.ensemble import ExtraTreesRegressor

    columns = np.array(
        [
            [m.scaled[0], m.plain, m.read, m.asked.qubits, m.asked.depth, m.asked.gates_1q,
             m.asked.gates_2q, m.asked.reach, m.asked.mapping_entropy]
            for m in measured
        ]
    )  # fmt: skip
    residual = np.array([m.exact - m.scaled[0] for m in measured])
    ids = sorted({m.task.circuit_id for m in measured})
    fold = dict(zip(ids, rng.permutation(len(ids)) % FOLDS_ML, strict=True))
    folds = np.array([fold[m.task.circuit_id] for m in measured])
    found = np.zeros(len(measured))
    for number in range(FOLDS_ML):
        forest = ExtraTreesRegressor(
            n_estimators=100, min_samples_leaf=2, random_state=int(rng.integers(2**31)), n_jobs=1
        )
        train = folds != number
        forest.fit(columns[train], residual[train])
        found[~train] = forest.predict(columns[~train])
    return np.clip(columns[:, 0] + found, -1, 1)
