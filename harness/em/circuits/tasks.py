"""A task: a circuit, what is asked of it, and the exact answer.

The circuit holds gates alone, no larger than QVM has opcodes for, so that folding and counting see
what a machine carries out. Its name is the digest of what it is; equal tasks have equal names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from harness.em.circuits.paulis import Observable, text_of
from runtime.jit.angles import angle
from runtime.jit.circuit import Circuit, Operation, Register, expanded
from runtime.jit.gates import GATES

VIRTUAL: Final = frozenset({"z", "s", "sdg", "t", "tdg", "rz", "id"})
"""Gates on one qubit that a machine carries out by turning its frame: no time, no error."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """exact: the observable's value without errors. exact_by: how it was reckoned."""

    family: str
    parameters: dict[str, Any]
    seed: int
    circuit: Circuit
    observable: Observable
    exact: float
    exact_by: str

    @property
    def circuit_id(self) -> str:
        """SHA-256 of circuit and observable, in hex."""
        return digest({"circuit": plain(self.circuit), "observable": plain_sum(self.observable)})

    @property
    def name(self) -> str:
        """For people."""
        told = "-".join(f"{key}{value}" for key, value in sorted(self.parameters.items()))
        return f"{self.family}-{told}-s{self.seed}"


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a circuit costs. depth: two-qubit gates on the longest way."""

    qubits: int
    gates_1q: int
    gates_2q: int
    depth: int


def digest(value: Any) -> str:
    """SHA-256, in hex, of the value as canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()


def plain(circuit: Circuit) -> list[list[Any]]:
    """The operations as plain data: name, qubits, angles in radians, bits."""
    return [
        [each.name, each.qubits, [a.radians for a in each.angles], each.bits]
        for each in circuit.operations
    ]


def plain_sum(whole: Observable) -> list[list[Any]]:
    """The terms as plain data."""
    return [[term.weight, text_of(term.product)] for term in whole.terms]


def figures(circuit: Circuit) -> Figures:
    """Counts of gates that take time; measurements are none."""
    ones = twos = 0
    front = [0] * circuit.width
    for each in circuit.operations:
        if len(each.qubits) == 2 and each.name in GATES:
            twos += 1
            level = 1 + max(front[qubit] for qubit in each.qubits)
            for qubit in each.qubits:
                front[qubit] = level
        elif each.name in GATES and each.name not in VIRTUAL:
            ones += 1
    return Figures(qubits=circuit.width, gates_1q=ones, gates_2q=twos, depth=max(front, default=0))


class Gates:
    """Writes a circuit, gate by gate, with angles in radians."""

    def __init__(self, qubits: int) -> None:
        self.qubits = qubits
        self.operations: list[Operation] = []

    def add(self, name: str, *qubits: int, angles: Sequence[float] = ()) -> None:
        self.operations.append(Operation(name, qubits, tuple(angle(each) for each in angles)))

    def circuit(self, name: str = "") -> Circuit:
        """All of it, in gates that QVM has opcodes for, swaps as three CNOTs."""
        small: list[Operation] = []
        for each in expanded(self.operations):
            if each.name == "swap":
                a, b = each.qubits
                small += [Operation("cx", pair) for pair in ((a, b), (b, a), (a, b))]
            elif each.name != "id":
                small.append(each)
        return Circuit(
            qubits=(Register("q", self.qubits),), bits=(), operations=tuple(small), name=name
        )
