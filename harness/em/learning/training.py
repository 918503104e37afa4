"""Training data for ML-QEM, splits that leak nothing, and the forest.

An example is one circuit on one backend: features, and what the calibrated extrapolation was off
by. Splits go by groups: all examples of a circuit, a family or a backend are on one side. Where
backends are left out, circuits are too, since the same circuit on another machine is nearly the
same example.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.em.backends.backend import Backend
from harness.em.backends.physical import Physical
from harness.em.circuits.families import FAMILIES, make
from harness.em.circuits.tasks import Task, digest
from harness.em.learning.forest import Forest, grown
from harness.em.methods.direct import Unmitigated, instead
from harness.em.methods.learned import FEATURES, before, corrections, features
from harness.em.methods.plan import Known, Method
from harness.em.methods.zne import ZeroNoise
from harness.em.running import run_seed

Real = NDArray[np.float64]

TREES: Final = 150
LEAF_MIN: Final = 3
FOLDS: Final = 5
SHOTS: Final = 12_000
OTHERS: Final = ("linear", "exponential", "richardson")


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """Values are errors, as shares of the spread, with their signs."""

    circuit_id: str
    family: str
    backend: str
    features: list[float]
    off: float
    off_plain: float
    off_others: dict[str, float]
    shots: int


def example(task: Task, backend: Backend, shots: int, seed: int) -> Example:
    """Run what features and comparisons take, each with as many shots."""
    known = Known(capabilities=backend.capabilities, calibration=backend.calibration)
    base = ZeroNoise()
    plan = base.plan(task, known, shots, seed)
    plan = instead(
        base,
        msgspec.structs.replace(
            plan, data=plan.data | {"features": before(task, known.calibration, plan)}
        ),
    )
    outcomes = [backend.run(r.circuit, r.shots, run_seed(seed, n)) for n, r in enumerate(plan.runs)]
    found = base.reduce(plan, outcomes)
    spread = task.observable.spread

    def off(how: Method) -> float:
        other = how.plan(task, known, shots, seed)
        ran = [
            backend.run(r.circuit, r.shots, run_seed(seed + 1, n)) for n, r in enumerate(other.runs)
        ]
        return (how.reduce(other, ran).value - task.exact) / spread

    return Example(
        circuit_id=task.circuit_id,
        family=task.family,
        backend=backend.name,
        features=features(plan, outcomes, found).tolist(),
        off=(found.value - task.exact) / spread,
        off_plain=off(Unmitigated()),
        off_others={fit: off(ZeroNoise(fit)) for fit in OTHERS},
        shots=plan.shots,
    )


def examples(
    backends: Sequence[Backend], seeds: Sequence[int], shots: int = SHOTS
) -> Iterator[Example]:
    """Of all families, each circuit on one backend in turn and on the next one."""
    seen: set[str] = set()
    for family, row in FAMILIES.items():
        for number, seed in enumerate(seeds):
            width = min(max(3 + seed % 3, row.qubits_min), row.qubits_max)
            task = make(family, seed, width)
            if task.circuit_id in seen:
                continue
            seen.add(task.circuit_id)
            for place in {number % len(backends), (number + 1) % len(backends)}:
                yield example(task, backends[place], shots, seed)


def fold_of(name: str) -> int:
    """Which of FOLDS a circuit belongs to, whatever others there are."""
    return hashlib.sha256(name.encode()).digest()[0] % FOLDS


Split = tuple[list[int], list[int]]
"""Places of examples for training and for testing."""


def by_circuit(found: Sequence[Example]) -> Iterator[Split]:
    """Unseen circuits, family and backend known."""
    for fold in range(FOLDS):
        yield _split([fold_of(each.circuit_id) == fold for each in found])


def by_family(found: Sequence[Example]) -> Iterator[Split]:
    """Each family, all kinds of one problem together, left out in turn."""
    for family in sorted({kind(each) for each in found}):
        yield _split([kind(each) == family for each in found])


def by_backend(found: Sequence[Example]) -> Iterator[Split]:
    """Each backend left out in turn, with every circuit that ran on it."""
    for backend in sorted({each.backend for each in found}):
        circuits = {each.circuit_id for each in found if each.backend == backend}
        test = [at for at, each in enumerate(found) if each.backend == backend]
        yield [at for at, e in enumerate(found) if e.circuit_id not in circuits], test


def kind(each: Example) -> str:
    """QAOA on one graph family is no other family than QAOA on another, nor is one molecule."""
    return each.family.split("-")[0] if each.family.startswith("qaoa") else each.family


def _split(tested: Sequence[bool]) -> Split:
    places: Split = ([], [])
    for at, test in enumerate(tested):
        places[test].append(at)
    return places


def trained(found: Sequence[Example], about: dict[str, Any] | None = None) -> Forest:
    """The forest of these examples; the same ones give the same forest."""
    from sklearn.ensemble import ExtraTreesRegressor

    rows = np.array([each.features for each in found])
    residual = -np.array([each.off for each in found])
    model = ExtraTreesRegressor(
        n_estimators=TREES, min_samples_leaf=LEAF_MIN, random_state=1, n_jobs=1
    ).fit(rows, residual)
    told = {
        "features": list(FEATURES),
        "examples": len(found),
        "shots": sum(each.shots for each in found),
        "data": digest([msgspec.to_builtins(each) for each in found]),
        **(about or {}),
    }
    return grown(model, rows, told)


def errors(found: Sequence[Example], split: Iterator[Split]) -> Real:
    """What is left of each example's error where it was in no training; shape (examples,)."""
    left = np.full(len(found), np.nan)
    for training, test in split:
        forest = trained([found[at] for at in training])
        rows = np.array([found[at].features for at in test])
        added, _ = corrections(forest, rows)
        left[test] = np.array([found[at].off for at in test]) + added
    assert np.isfinite(left).all(), "every example is left out once"
    return left


def machines() -> list[Physical]:
    """Five simulated machines that differ in seed, day, strength and how far turns go too far."""
    rows = ((1, 3, 0.02, 1.0), (2, 9, 0.02, 1.0), (3, 5, 0.03, 0.7), (4, 7, 0.01, 1.4),
            (5, 4, 0.02, 1.0))  # fmt: skip
    return [
        Physical(6, seed, day=day, age_days=1, turn_2q=turn, strength=strength)
        for seed, day, turn, strength in rows
    ]
