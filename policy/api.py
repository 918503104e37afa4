"""What a policy engine is asked and what it answers: types alone, no I/O.

Fidelity means one thing everywhere here: 1 - |error| / 2 of an observable whose values lie in
[-1, 1], so 1 is exact and 0 as wrong as can be. Shots are counted in all, calibration and every
folded circuit included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

METHODS: Final = ("none", "zne", "richardson", "ml-qem", "gap", "ds-zne")
"""Those of SPEC-001, and two for logical qubits: rescaling by decoder confidence, and extrapolation
over code distances. In this order, the earlier wins where nothing else decides."""

COUNT_MAX: Final = 10**12


class BadFeatures(Exception):
    """What was asked makes no sense; says which number, and what it would have to be."""


class CircuitFeatures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A circuit as far as mitigation cares.

    depth: layers of two-qubit gates. mapping_entropy: of the interaction graph's degrees, nats.
    family: for grouping and people, never a feature of a model. signal: how large the observable's
    exact value may be, 1 where nobody knows. reach: share of the gates that the observable sees.
    """

    qubits: int
    depth: int
    gates_1q: int
    gates_2q: int
    measurements: int
    mapping_entropy: float = 0.0
    family: str = ""
    signal: float = 1.0
    reach: float = 1.0


class BackendFeatures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Means over the qubits that would be used.

    error_1q, error_2q: chance that a gate leaves a Pauli error. readout_error: of one outcome.
    t1_s, t2_s: None where the calibration has none. calibration: digest of the snapshot.
    calibration_age_s: None where it is unknown, as when it lies in the future. gaps: whether
    decoders tell how sure they were. by_distance: chance of an error in a layer on a logical
    qubit, by code distance, as the machine's own calibration measured it; empty elsewhere.
    """

    error_1q: float
    error_2q: float
    readout_error: float
    t1_s: float | None = None
    t2_s: float | None = None
    layer_s: float = 0.0
    calibration: str = ""
    calibration_age_s: float | None = None
    gaps: bool = False
    by_distance: dict[str, float] = {}


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """shots: what no mitigation would take; they set the standard error that is wanted.

    shots_max: in all, at most; None for no bound but the method's own need. circuits_max: likewise.
    """

    shots: int
    shots_max: int | None = None
    circuits_max: int | None = None


class Past(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What similar runs with a method came to: mean error expected then, and found."""

    method: str
    runs: int
    expected_error: float
    found_error: float


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question."""

    circuit: CircuitFeatures
    backend: BackendFeatures
    budget: Budget
    history: tuple[Past, ...] = ()


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """A method and what is expected of it.

    shot_multiplier: factor on shots that keeps the standard error of no mitigation. shots: what it
    would take under the budget. circuits: how many different ones. depth: gates that a shot carries
    out on average, in those of the plain circuit. expected_fidelity: mean; fidelity_low: not below
    this in nineteen of twenty cases, as far as the model is right.
    """

    method: str
    params: dict[str, Any]
    shot_multiplier: float
    shots: int
    circuits: int
    depth: float
    expected_fidelity: float
    fidelity_low: float


class Driver(msgspec.Struct, frozen=True, kw_only=True):
    """A feature, and how far the expected error would move if it were as in the usual case."""

    feature: str
    value: float
    usual: float
    effect: float


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The answer; the first fields are SPEC-001's.

    confidence: chance that no alternative would be better by more than a tenth. ood: 0 for cases as
    in training, above 1 outside of them; None where nothing was trained. abstained: a model was
    there and was not followed, `because` says why. source: `rules-1`, or `model:` and its digest.
    alternatives: all that were considered, the best first, the recommended one among them.
    """

    method: str
    params: dict[str, Any]
    shot_multiplier: float
    expected_fidelity: float
    confidence: float
    fidelity_low: float
    shots: int
    ood: float | None
    abstained: bool
    source: str
    because: tuple[str, ...]
    alternatives: tuple[Alternative, ...]
    drivers: tuple[Driver, ...] = ()


class Advise(Protocol):
    """A policy engine: the rules, an engine with a model, or the service's client."""

    def recommend(self, asked: Sequence[Asked]) -> list[Advice]:
        """An answer to each. Raises BadFeatures, naming the first that makes no sense."""
        ...


def check(asked: Asked) -> None:
    """Raises BadFeatures."""
    backend, budget = asked.backend, asked.budget
    check_circuit(asked.circuit)
    for name in ("error_1q", "error_2q", "readout_error"):
        _between(name, getattr(backend, name), 0, 1)
    for name in ("t1_s", "t2_s"):
        if (value := getattr(backend, name)) is not None:
            _between(name, value, 0, 1e6)
    _between("layer_s", backend.layer_s, 0, 1e6)
    if backend.calibration_age_s is not None:
        _between("calibration_age_s", backend.calibration_age_s, 0, 1e12)
    for distance, error in backend.by_distance.items():
        if not distance.isdigit() or int(distance) < 1:
            raise BadFeatures(f"by_distance names distances, not {distance!r}.")
        _between(f"by_distance[{distance}]", error, 0, 1)
    _between("shots", budget.shots, 1, COUNT_MAX)
    if budget.shots_max is not None:
        _between("shots_max", budget.shots_max, 1, COUNT_MAX)
    for past in asked.history:
        _between("runs", past.runs, 0, COUNT_MAX)
        _between("expected_error", past.expected_error, 0, 2)
        _between("found_error", past.found_error, 0, 2)


def check_circuit(circuit: CircuitFeatures) -> None:
    """Raises BadFeatures."""
    for name in ("qubits", "depth", "gates_1q", "gates_2q", "measurements"):
        _between(name, getattr(circuit, name), 1 if name == "qubits" else 0, COUNT_MAX)
    _between("mapping_entropy", circuit.mapping_entropy, 0, 100)
    _between("signal", circuit.signal, 0, 1)
    _between("reach", circuit.reach, 0, 1)


def _between(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise BadFeatures(f"{name} is {low:g} to {high:g}, not {value:g}.")
