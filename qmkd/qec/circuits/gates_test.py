"""Transversal gates: all that is determined is compared, distances hold, and the logic is right."""

from __future__ import annotations

import numpy as np
import pytest
import stim

from qmkd.qec import noise
from qmkd.qec.circuits import transversal_cnot, transversal_h, transversal_s
from qmkd.qec.codes.bacon_shor import bacon_shor
from qmkd.qec.codes.code import Basis, Code, CodeError
from qmkd.qec.codes.repetition import repetition
from qmkd.qec.codes.shyps import RANKS, shyps
from qmkd.qec.codes.surface import surface

SMALL = (surface(2), surface(3), bacon_shor(3), bacon_shor(4, pairs=True), shyps(2))
BASES: tuple[Basis, ...] = ("X", "Z")


def name(code: object) -> str:
    assert isinstance(code, Code)
    return f"{code.variant}-{code.distance}"


def faults(circuit: stim.Circuit) -> int:
    """Fewest faults that a search finds; mechanisms of transversal gates are no edges."""
    found = noise.apply(circuit, noise.uniform(1e-3)).search_for_undetectable_logical_errors(
        dont_explore_detection_event_sets_with_size_above=6,
        dont_explore_edges_with_degree_above=6,
        dont_explore_edges_increasing_symptom_degree=False,
    )
    return len(found)


def complete(circuit: stim.Circuit) -> bool:
    circuit.detector_error_model()  # Raises where a detector anticommutes with a reset.
    found = circuit.num_detectors + circuit.num_observables
    return bool(circuit.count_determined_measurements() == found)


def flipped(circuit: stim.Circuit, pauli: str, qubits: list[int]) -> list[int]:
    """Observables that flip when `pauli` acts after the first layer, which nothing detects."""
    first = next(i for i, each in enumerate(circuit) if each.name == "TICK")
    changed = circuit[: first + 1]
    changed.append(f"{pauli}_ERROR", qubits, 1)
    changed += circuit[first + 1 :]
    detections, observables = changed.compile_detector_sampler(seed=7).sample(
        1, separate_observables=True
    )
    assert not detections.any()
    return [int(i) for i in np.flatnonzero(observables[0])]


@pytest.mark.parametrize("gates", [1, 3])
@pytest.mark.parametrize("code", [*SMALL, repetition(3)], ids=name)
def test_a_cnot_compares_all_that_is_determined_and_keeps_the_distance(
    code: Code, gates: int
) -> None:
    for basis in code.protects:
        circuit = transversal_cnot(code, 2, 2, basis, gates)
        assert complete(circuit)
        assert circuit.num_observables == 2 * code.k
        assert faults(circuit) == code.circuit_distance


@pytest.mark.slow
@pytest.mark.parametrize("code", [surface(4), bacon_shor(4)], ids=name)
def test_larger_codes_keep_their_distance_too(code: Code) -> None:
    for basis in BASES:
        for circuit in (
            transversal_cnot(code, 2, 2, basis),
            transversal_cnot(code, 2, 2, basis, 3),
            transversal_h(code, 2, 2, basis),
        ):
            assert complete(circuit)
            assert faults(circuit) == code.circuit_distance


@pytest.mark.parametrize("code", SMALL, ids=name)
def test_a_cnot_takes_x_of_the_control_to_both_and_z_of_the_target_to_both(code: Code) -> None:
    for logical in range(code.k):
        x, z = code.logical_x[logical], code.logical_z[logical]
        both = [logical, code.k + logical]
        size = len(code.qubits)
        in_z = transversal_cnot(code, 1, 1, "Z")
        assert flipped(in_z, "X", list(x)) == both
        assert flipped(in_z, "X", [size + qubit for qubit in x]) == both[1:]
        in_x = transversal_cnot(code, 1, 1, "X")
        assert flipped(in_x, "Z", list(z)) == both[:1]
        assert flipped(in_x, "Z", [size + qubit for qubit in z]) == both


def test_two_cnots_cancel() -> None:
    code = surface(3)
    assert flipped(transversal_cnot(code, 1, 1, "Z", 2), "X", list(code.logical_x[0])) == [0]


@pytest.mark.parametrize("code", SMALL, ids=name)
def test_h_compares_all_that_is_determined_keeps_the_distance_and_swaps_the_bases(
    code: Code,
) -> None:
    for basis in BASES:
        circuit = transversal_h(code, 2, 3, basis)
        assert complete(circuit)
        assert faults(circuit) == code.circuit_distance
        pauli, supports = ("Z", code.logical_z) if basis == "X" else ("X", code.logical_x)
        for number, support in enumerate(supports):
            assert flipped(circuit, pauli, list(support)) == [number]


@pytest.mark.parametrize("code", [bacon_shor(2), bacon_shor(3), bacon_shor(4), shyps(2)], ids=name)
def test_s_compares_all_that_is_determined_and_halves_the_distance(code: Code) -> None:
    """One fault of a CZ leaves errors on two qubits that mirror each other."""
    for basis in BASES:
        circuit = transversal_s(code, 2, 2, basis)
        assert complete(circuit)
        if code.matchable:
            assert faults(circuit) == (code.distance + 1) // 2


@pytest.mark.parametrize("gates", [0, 2, 4])
@pytest.mark.parametrize("distance", [2, 3, 4])
def test_two_s_are_a_z(distance: int, gates: int) -> None:
    circuit = transversal_s(bacon_shor(distance), 1, 1, "X", gates)
    assert observable(circuit) == gates // 2 % 2


def observable(circuit: stim.Circuit) -> int:
    """The value of observable 0 without noise, from a run of the circuit."""
    results = circuit.reference_sample()
    targets = next(each for each in circuit if each.name == "OBSERVABLE_INCLUDE").targets_copy()
    return int(sum(int(results[target.value]) for target in targets) % 2)


@pytest.mark.parametrize("distance", sorted(RANKS))
def test_mirroring_takes_logical_x_to_the_logical_z_of_the_mirrored_logical_qubit(
    distance: int,
) -> None:
    code, r = shyps(distance), RANKS[distance]
    n = 2**r - 1
    for s in range(r):
        for t in range(r):
            mirrored = sorted(qubit % n * n + qubit // n for qubit in code.logical_x[s * r + t])
            assert tuple(mirrored) == code.logical_z[t * r + s]


def test_what_a_code_cannot_do_is_refused() -> None:
    with pytest.raises(CodeError, match="has no S"):
        transversal_s(surface(3), 1, 1, "Z")
    with pytest.raises(CodeError, match="odd number"):
        transversal_s(bacon_shor(3), 1, 1, "X", 1)
    with pytest.raises(CodeError, match="at least one round"):
        transversal_cnot(surface(3), 1, 0, "Z")
