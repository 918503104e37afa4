"""What holds for every code: commutation, counts, and memories whose detectors say all there is."""

from __future__ import annotations

import numpy as np
import pytest

from qmkd.qec import noise
from qmkd.qec.circuits import memory
from qmkd.qec.codes.bacon_shor import bacon_shor
from qmkd.qec.codes.code import OTHER, Code, CodeError, independent, rank
from qmkd.qec.codes.repetition import repetition
from qmkd.qec.codes.shyps import shyps
from qmkd.qec.codes.surface import rectangle, surface

CODES = [
    *(surface(distance) for distance in (2, 3, 4, 5)),
    rectangle(4, 4, 0, 1, turned=True),
    rectangle(5, 5, 1, 0, turned=True),
    *(repetition(distance, basis) for distance in (2, 3, 6) for basis in ("X", "Z")),
    *(bacon_shor(distance, pairs) for distance in (2, 3, 4, 5) for pairs in (False, True)),
    *(shyps(distance) for distance in (2, 4)),
]


def name(code: object) -> str:
    assert isinstance(code, Code)
    return f"{code.variant}-{code.distance}-{len(code.qubits)}"


@pytest.mark.parametrize("code", CODES, ids=name)
def test_stabilizers_and_logical_operators_commute_with_every_gauge(code: Code) -> None:
    for basis in ("X", "Z"):
        gauges = code.gauge_matrix(basis).astype(int)
        assert not (gauges @ code.stabilizer_matrix(OTHER[basis]).T.astype(int) % 2).any()
        assert not (gauges @ code.logical_matrix(OTHER[basis]).T.astype(int) % 2).any()
    x, z = code.logical_matrix("X").astype(int), code.logical_matrix("Z").astype(int)
    assert np.array_equal(x @ z.T % 2, np.eye(code.k, dtype=int))


@pytest.mark.parametrize("code", CODES, ids=name)
def test_data_qubits_are_logical_qubits_stabilizers_and_half_the_gauges(code: Code) -> None:
    """n = k + stabilizers + gauge qubits (arXiv:quant-ph/0508131)."""
    x, z = (code.gauge_matrix(basis) for basis in ("X", "Z"))
    stabilizers = sum(rank(code.stabilizer_matrix(basis)) for basis in ("X", "Z"))
    assert stabilizers == len(code.stabilizers)
    gauge_qubits = (rank(x) + rank(z) - stabilizers) / 2
    assert code.data == code.k + stabilizers + gauge_qubits
    commutators = x.astype(int) @ z.T.astype(int) % 2
    assert rank(commutators.astype(np.uint8)) == gauge_qubits


@pytest.mark.parametrize("code", CODES, ids=name)
def test_relations_are_all_the_relations_between_gauges(code: Code) -> None:
    count = 0
    for basis in ("X", "Z"):
        numbers = [i for i, gauge in enumerate(code.gauges) if gauge.basis == basis]
        matrix = code.matrix(code.gauges[i].support for i in numbers)
        assert len([i for i in code.generators if i in numbers]) == rank(matrix)
        assert set(code.generators) & set(numbers) >= {numbers[i] for i in independent(matrix)}
        count += len(numbers) - rank(matrix)
    assert len(code.relations) == count
    sums = np.zeros((len(code.relations), len(code.gauges)), dtype=np.uint8)
    for row, relation in zip(sums, code.relations, strict=True):
        row[list(relation)] = 1
        product = code.matrix(code.gauges[i].support for i in relation).sum(axis=0) % 2
        assert not product.any()
    assert rank(sums) == count


@pytest.mark.parametrize("code", CODES, ids=name)
def test_no_layer_touches_a_qubit_twice(code: Code) -> None:
    for layer in (code.opening, *code.cycle):
        touched = [qubit for operation in layer for qubit in operation.qubits]
        assert len(touched) == len(set(touched))


@pytest.mark.parametrize("rounds", [1, 2, 5])
@pytest.mark.parametrize("code", CODES, ids=name)
def test_a_memory_has_a_detector_for_all_that_is_determined(code: Code, rounds: int) -> None:
    for basis in code.protects:
        circuit = memory(code, rounds, basis)
        found = circuit.num_detectors + circuit.num_observables
        assert circuit.count_determined_measurements() == found
        assert circuit.num_observables == code.k
        circuit.detector_error_model()  # Raises where a detector anticommutes with a reset.


@pytest.mark.parametrize("code", [code for code in CODES if code.matchable], ids=name)
def test_a_memory_has_the_distance_that_the_code_states(code: Code) -> None:
    for basis in code.protects:
        circuit = noise.apply(memory(code, code.distance, basis), noise.uniform(1e-3))
        assert len(circuit.shortest_graphlike_error()) == code.circuit_distance


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        maker(distance)
        for maker in (surface, bacon_shor)
        for distance in (6, 7, 8, 9, 10, 11, 13, 15)
    ],
    ids=name,
)
def test_large_codes_have_their_distance_too(code: Code) -> None:
    for basis in code.protects:
        circuit = memory(code, 4, basis)
        found = circuit.num_detectors + circuit.num_observables
        assert circuit.count_determined_measurements() == found
        noisy = noise.apply(circuit, noise.uniform(1e-3))
        assert len(noisy.shortest_graphlike_error()) == code.circuit_distance


@pytest.mark.slow
@pytest.mark.parametrize("distance", [8, 16])
def test_large_shyps_memories_have_a_detector_for_all_that_is_determined(distance: int) -> None:
    for basis in ("X", "Z"):
        circuit = memory(shyps(distance), 2, basis)
        found = circuit.num_detectors + circuit.num_observables
        assert circuit.count_determined_measurements() == found


def test_an_experiment_of_no_rounds_is_refused() -> None:
    with pytest.raises(CodeError, match="at least one round"):
        memory(surface(3), 0, "Z")
