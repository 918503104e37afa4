"""Lattice surgery on rotated surface patches: joint measurements, and a CNOT made of two of them.

Patches side by side merge over a column of qubits reset in Z: the new X checks multiply to the
joint XX. Patches one above the other merge over a row reset in X: the new Z checks give the joint
ZZ. Splitting measures the seam again (Horsman et al., arXiv:1111.4022; schedule and layout of the
CNOT as in Gidney, Shutty and Jones, arXiv:2409.17595, `surface-code-cnot`).

Observables are the logical qubits after the gate, corrected by the results that a controller would
correct them by: one that flips is a logical error of the output.
"""

from __future__ import annotations

from typing import Final, Literal

import stim

from qmkd.qec.circuits.memories import check_experiment
from qmkd.qec.circuits.writer import Block, Records, Writer
from qmkd.qec.codes.code import Basis
from qmkd.qec.codes.surface import rectangle

Joint = Literal["XX", "ZZ"]

# A seam is reset and measured in the basis that is not joined, so that no single qubit of it tells.
SEAM: Final[dict[Joint, Basis]] = {"XX": "Z", "ZZ": "X"}


def joint_measurement(
    distance: int, joint: Joint, before: int, merged: int, after: int, basis: Basis
) -> stim.Circuit:
    """Two patches, merged for `merged` rounds and split again.

    In the basis that is joined the observables are both logical qubits and the joint result; in the
    other basis their product, which is all that a joint measurement leaves of them.
    """
    code = rectangle(distance, distance)
    for rounds in (before, merged, after):
        check_experiment(code, rounds, basis)
    apart = (distance + 1, 0) if joint == "XX" else (0, distance + 1)
    long = 2 * distance + 1
    sides = (long, distance) if joint == "XX" else (distance, long)
    writer = Writer([code, rectangle(distance, distance, *apart), rectangle(*sides)])
    first, second, both = writer.blocks
    seam = SEAM[joint]
    writer.prepare({0: basis, 1: basis})
    writer.rounds([0, 1], before)
    writer.merge_or_split([0, 1], [2], gained=seam)
    writer.rounds([2], merged)
    result = _joint_result(both, joint, first, second)
    lost = writer.merge_or_split([2], [0, 1], lost=seam)
    writer.rounds([0, 1], after)
    found = writer.measure([0, 1], basis)
    values = [
        frozenset(found[qubit] for qubit in block.logical(basis, 0)) for block in (first, second)
    ]
    if basis == seam:
        through = frozenset(lost[qubit] for qubit in both.logical(basis, 0) if qubit in lost)
        writer.observable(0, values[0] ^ values[1] ^ through)
    else:
        for number, value in enumerate((*values, result)):
            writer.observable(number, value)
    return writer.circuit


def surgery_cnot(
    distance: int, before: int, merged: int, after: int, basis: Basis, perfect_ends: bool = False
) -> stim.Circuit:
    """CNOT by a joint ZZ of control and ancilla, then a joint XX of ancilla and target.

    Each merge lasts `merged` rounds, of which `distance` are as many as space needs. The ancilla
    patch lies below the control and left of the target; it begins in |+> with the first seam and
    is measured in Z with the second. Observables: control, target.
    """
    code, far = rectangle(distance, distance), distance + 1
    for rounds in (before, merged, after):
        check_experiment(code, rounds, basis)
    writer = Writer(
        [
            code,
            rectangle(distance, distance, far, far),
            rectangle(distance, 2 * distance + 1),
            rectangle(2 * distance + 1, distance, 0, far),
            rectangle(distance, distance, 0, far),
        ]
    )
    control, target, tall, wide, ancilla = writer.blocks
    if perfect_ends:
        writer.prepare_known([0, 1], basis)
    else:
        writer.prepare({0: basis, 1: basis})
    writer.rounds([0, 1], before)
    writer.merge_or_split([0, 1], [2, 1], gained="X")
    writer.rounds([2, 1], merged)
    joint_zz = _joint_result(tall, "ZZ", control, ancilla)
    # The seam of the first merge goes as that of the second comes.
    first_lost = writer.merge_or_split([2, 1], [0, 3], gained="Z", lost="X")
    writer.rounds([0, 3], merged)
    joint_xx = _joint_result(wide, "XX", ancilla, target)
    second_lost = writer.merge_or_split([0, 3], [0, 1], lost="Z")
    writer.rounds([0, 1], after)
    found = (writer.measure_known if perfect_ends else writer.measure)([0, 1], basis)
    control_value, target_value = (
        frozenset(found[qubit] for qubit in block.logical(basis, 0)) for block in (control, target)
    )
    if basis == "X":
        # X of the control is that of the ancilla through the first seam, and XX ties that to the
        # target, which is as it was.
        control_value ^= joint_xx ^ _lost(tall, "X", first_lost)
    else:
        # Z of the ancilla is that of the control but for ZZ; it is measured with the second seam.
        target_value ^= joint_zz ^ _lost(wide, "Z", second_lost)
    writer.observable(0, control_value)
    writer.observable(1, target_value)
    return writer.circuit


def _joint_result(merged: Block, joint: Joint, one: Block, two: Block) -> Records:
    """The joint outcome, as the last round says: the product of all checks between two logicals.

    Each of them meets every check of the other kind between the two lines in an even number of
    qubits, so the checks multiply to the lines themselves.
    """
    basis: Basis = "X" if joint == "XX" else "Z"
    axis = 0 if joint == "XX" else 1
    product: frozenset[int] = frozenset()
    results: Records = frozenset()
    lines = [_line(block, axis) for block in (one, two)]
    for (kind, support), (gauge,), at in merged.stabilizers:
        if kind == basis and lines[0] < at[axis] < lines[1]:
            product ^= support
            results ^= frozenset((merged.results[gauge],))
    assert product == one.logical(basis, 0) ^ two.logical(basis, 0)
    return results


def _line(block: Block, axis: int) -> float:
    """Where a logical operator that crosses the axis lies on it: at the first data qubit."""
    return block.code.qubits[0][axis]


def _lost(merged: Block, basis: Basis, lost: dict[int, int]) -> Records:
    """Results of the qubits of a merged patch's logical operator that were measured at its end."""
    return frozenset(lost[qubit] for qubit in merged.logical(basis, 0) if qubit in lost)
