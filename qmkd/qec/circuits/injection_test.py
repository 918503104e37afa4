"""Injection: what it compares, what it cannot see, and that any state gets in."""

from __future__ import annotations

import pytest
import stim

from qmkd.qec import noise
from qmkd.qec.circuits import injection
from qmkd.qec.circuits.gates_test import complete
from qmkd.qec.codes.code import Basis, Code
from qmkd.qec.codes.surface import surface

BASES: tuple[Basis, ...] = ("X", "Z")


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("distance", [2, 3, 4, 5])
def test_all_that_is_determined_is_compared_and_one_fault_is_enough(
    distance: int, basis: Basis
) -> None:
    circuit = injection(distance, 3, basis)
    assert complete(circuit)
    noisy = noise.apply(circuit, noise.uniform(1e-3))
    assert len(noisy.shortest_graphlike_error()) == 1


@pytest.mark.parametrize("distance", [2, 3, 4, 5])
@pytest.mark.parametrize(("reset", "pauli"), [("RX", "X"), ("RY", "Y"), ("R", "Z")])
def test_the_corner_becomes_the_logical_qubit(distance: int, reset: str, pauli: str) -> None:
    """Run the circuit up to the final measurement with the corner in each Pauli's +1 state."""
    code = surface(distance)
    circuit = injection(distance, 2, "Z")
    last = max(i for i, each in enumerate(circuit) if each.name == "M")
    simulator = stim.TableauSimulator(seed=3)
    first = next(i for i, each in enumerate(circuit) if each.name == "TICK")
    simulator.do(circuit[:first])
    simulator.do(stim.Circuit(f"{reset} 0"))
    simulator.do(circuit[first:last])
    x, z = (_product(code, kind) for kind in BASES)
    assert abs(simulator.peek_observable_expectation({"X": x, "Y": 1j * x * z, "Z": z}[pauli])) == 1
    assert simulator.peek_observable_expectation(z if pauli == "X" else x) == 0


def _product(code: Code, basis: Basis) -> stim.PauliString:
    product = stim.PauliString(len(code.qubits))
    for qubit in code.logical(basis)[0]:
        product[qubit] = basis
    return product
