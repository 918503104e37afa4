"""Memories of the honeycomb code: detectors, distance, and what the logical operators become."""

from __future__ import annotations

import pytest

from qmkd.qec import noise
from qmkd.qec.circuits.honeycomb import honeycomb_memory
from qmkd.qec.codes.code import CodeError
from qmkd.qec.codes.honeycomb import honeycomb


@pytest.mark.parametrize("rounds", range(1, 7))
@pytest.mark.parametrize("size", [3, 6, 9])
def test_a_memory_has_as_many_detectors_as_results_are_determined(size: int, rounds: int) -> None:
    circuit = honeycomb_memory(honeycomb(size), rounds)
    found = circuit.num_detectors + circuit.num_observables
    assert circuit.count_determined_measurements() == found
    assert circuit.num_observables == 2
    circuit.detector_error_model()  # Raises where a detector anticommutes with a reset.


@pytest.mark.parametrize("rounds", [2, 3, 4])
@pytest.mark.parametrize("size", [3, 6])
def test_the_circuit_has_the_distance_that_the_code_states(size: int, rounds: int) -> None:
    code = honeycomb(size)
    circuit = noise.apply(honeycomb_memory(code, rounds), noise.uniform(1e-3))
    assert len(circuit.shortest_graphlike_error()) == code.circuit_distance


@pytest.mark.slow
def test_larger_tori_go_on_in_the_same_way() -> None:
    for size in (9, 12, 15):
        code = honeycomb(size)
        circuit = noise.apply(honeycomb_memory(code, 4), noise.uniform(1e-3))
        assert len(circuit.shortest_graphlike_error()) == code.circuit_distance


def test_each_qubit_meets_one_edge_of_each_colour_and_each_hexagon_six_edges() -> None:
    code = honeycomb(6)
    met = sorted((qubit, edge.colour) for edge in code.edges for qubit in edge.qubits)
    assert met == [(qubit, colour) for qubit in range(len(code.qubits)) for colour in range(3)]
    for hexagon in code.hexagons:
        colours = sorted(code.edges[edge].colour for edge in hexagon.edges)
        assert colours == sorted(3 * [colour for colour in range(3) if colour != hexagon.colour])
        assert len(set(hexagon.qubits)) == 6
    assert code.footprint.physical == 2 * 6**2


def test_sizes_that_take_no_three_colours_are_refused() -> None:
    with pytest.raises(CodeError, match="three colours"):
        honeycomb(4)
    with pytest.raises(CodeError, match="at least one round"):
        honeycomb_memory(honeycomb(3), 0)
