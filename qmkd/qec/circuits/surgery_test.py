"""Lattice surgery: all that is determined is compared, distances hold, and the logic is right."""

from __future__ import annotations

import pytest
import stim

from qmkd.qec import noise
from qmkd.qec.circuits import joint_measurement, surgery_cnot
from qmkd.qec.circuits.gates_test import complete, flipped
from qmkd.qec.circuits.surgery import Joint
from qmkd.qec.codes.code import Basis
from qmkd.qec.codes.surface import surface

BASES: tuple[Basis, ...] = ("X", "Z")
JOINTS: tuple[Joint, ...] = ("XX", "ZZ")


def faults(circuit: stim.Circuit) -> int:
    return len(noise.apply(circuit, noise.uniform(1e-3)).shortest_graphlike_error())


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("joint", JOINTS)
@pytest.mark.parametrize("distance", [2, 3, 4])
def test_a_joint_measurement_has_the_distance_when_merged_for_as_many_rounds(
    distance: int, joint: Joint, basis: Basis
) -> None:
    circuit = joint_measurement(distance, joint, 2, distance, 2, basis)
    assert complete(circuit)
    assert faults(circuit) == distance
    assert circuit.num_observables == (3 if basis == joint[0] else 1)


@pytest.mark.parametrize("joint", JOINTS)
def test_fewer_merged_rounds_leave_the_joint_result_that_unsure(joint: Joint) -> None:
    basis: Basis = "X" if joint == "XX" else "Z"
    assert faults(joint_measurement(5, joint, 2, 2, 2, basis)) == 2


@pytest.mark.parametrize("distance", [3, 4])
def test_the_joint_result_is_the_product_of_the_two_logical_qubits(distance: int) -> None:
    code = surface(distance)
    size = len(code.qubits)
    for joint, basis, pauli, support in (
        ("XX", "X", "Z", code.logical_z[0]),
        ("ZZ", "Z", "X", code.logical_x[0]),
    ):
        assert joint in JOINTS
        assert basis in BASES
        circuit = joint_measurement(distance, joint, 1, 2, 1, basis)
        second = [size + qubit for qubit in support]
        assert flipped(circuit, pauli, list(support)) == [0, 2]
        assert flipped(circuit, pauli, second) == [1, 2]
        assert flipped(circuit, pauli, [*support, *second]) == [0, 1]


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("distance", [2, 3, 4])
def test_a_cnot_has_the_distance_when_merged_for_as_many_rounds(
    distance: int, basis: Basis
) -> None:
    circuit = surgery_cnot(distance, 1, distance, 2, basis)
    assert complete(circuit)
    assert circuit.num_observables == 2
    assert faults(circuit) == distance
    # The count of Gidney, Shutty and Jones, arXiv:2409.17595 (their data, column q), for odd d.
    if distance % 2:
        assert circuit.num_qubits == 6 * distance**2 + 4 * distance - 1


@pytest.mark.parametrize("basis", BASES)
def test_perfect_ends_leave_all_determined_and_one_round_beside_enough(basis: Basis) -> None:
    circuit = surgery_cnot(3, 1, 3, 1, basis, perfect_ends=True)
    assert complete(circuit)
    assert faults(circuit) == 3
    noisy = noise.apply(circuit, noise.uniform(1e-3)).flattened()
    spared = [each for each in noisy if each.tag == noise.PERFECT]
    # Four checks of the other basis per patch, before and after.
    products = [each for each in spared if each.name == "MPP"]
    assert sum(len(each.target_groups()) for each in products) == 2 * 2 * 4
    assert {each.name for each in spared} == {
        "MPP", "R" if basis == "Z" else "RX", "M" if basis == "Z" else "MX"
    }  # fmt: skip
    assert not any(each.gate_args_copy() for each in spared)


@pytest.mark.parametrize("distance", [2, 3, 4])
def test_a_cnot_takes_x_of_the_control_to_both_and_z_of_the_target_to_both(distance: int) -> None:
    code = surface(distance)
    size = len(code.qubits)
    in_z = surgery_cnot(distance, 1, 2, 1, "Z")
    assert flipped(in_z, "X", list(code.logical_x[0])) == [0, 1]
    assert flipped(in_z, "X", [size + qubit for qubit in code.logical_x[0]]) == [1]
    in_x = surgery_cnot(distance, 1, 2, 1, "X")
    assert flipped(in_x, "Z", list(code.logical_z[0])) == [0]
    assert flipped(in_x, "Z", [size + qubit for qubit in code.logical_z[0]]) == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("distance", [5, 7, 9])
def test_large_patches_do_the_same(distance: int, basis: Basis) -> None:
    for circuit in (
        surgery_cnot(distance, 1, distance, 1, basis),
        joint_measurement(distance, "XX", 1, distance, 1, basis),
    ):
        assert complete(circuit)
        assert faults(circuit) == distance
