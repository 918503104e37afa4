"""What a generator of circuits returns, and layers that several of them use."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from harness.em.circuits.paulis import Observable, Pauli
from harness.em.circuits.tasks import Gates
from runtime.jit.circuit import Circuit, Operation
from runtime.jit.gates import inverted

Rng = np.random.Generator


class Made(NamedTuple):
    """exact: value and how it was reckoned, where the construction knows; else it is reckoned.

    more: parameters beside qubits and depth.
    """

    circuit: Circuit
    observable: Observable
    exact: tuple[float, str] | None = None
    more: dict[str, Any] = {}


def bricks(qubits: int, layer: int) -> Iterator[tuple[int, int]]:
    """Neighbours on a line that meet in this layer of a brick wall."""
    for first in range(layer % 2, qubits - 1, 2):
        yield first, first + 1


def rotate_product(gates: Gates, product: Pauli, radians: float) -> None:
    """exp(-i radians P / 2): into the Z basis, a ladder of CNOTs, a turn, and back."""
    before = {"X": ("h",), "Y": ("sdg", "h"), "Z": ()}
    after = {"X": ("h",), "Y": ("h", "s"), "Z": ()}
    wires = [qubit for qubit, _ in product]
    for qubit, letter in product:
        for name in before[letter]:
            gates.add(name, qubit)
    for one, other in pairwise(wires):
        gates.add("cx", one, other)
    gates.add("rz", wires[-1], angles=(radians,))
    for one, other in reversed(list(pairwise(wires))):
        gates.add("cx", one, other)
    for qubit, letter in product:
        for name in after[letter]:
            gates.add(name, qubit)


def undone(operations: list[Operation]) -> list[Operation]:
    """The gates that undo these, in their order."""
    found = []
    for each in reversed(operations):
        name, angles = inverted(each.name, each.angles)
        found.append(Operation(name, each.qubits, angles))
    return found
