"""A circuit as a plan sees it: its gates on two qubits, and which of them may share a Bell pair.

A qubit that only controls for a while can be copied in the Z basis into another module by one pair,
and all gates that it controls there use the copy; a qubit that is only a target, in the X basis.
The copy is measured away, with a Pauli on the qubit by what was measured (Eisert et al.,
arXiv:quant-ph/0005101; Yimsiriwattana and Lomonaco, arXiv:quant-ph/0402148). Here such runs are
numbered. Pauli gates break no run: they act on copies as well.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from runtime.jit.circuit import ORDERS, Circuit, Operation, expanded
from runtime.jit.gates import PAULIS

Z, X = "z", "x"
_ALONG: Final = {
    **dict.fromkeys(("s", "sdg", "t", "tdg", "rz"), Z),
    "rx": X,
}
"""Gates on one qubit that commute with copies in a basis."""
ENDS: Final = {"cx": (Z, X), "cz": (Z, Z)}
"""Gates on two qubits, and the basis in which each operand may be a copy."""


class End(NamedTuple):
    """run: which of the qubit's runs in this basis, from 0."""

    qubit: int
    basis: str
    run: int


class Gate(NamedTuple):
    """at: its place among the operations."""

    at: int
    ends: tuple[End, End]


class Flow(NamedTuple):
    """circuit: with no gate that has no opcode, and without swaps. gates: on two qubits."""

    circuit: Circuit
    gates: tuple[Gate, ...]


def flow(circuit: Circuit) -> Flow:
    """The circuit's gates in order. Swaps without a condition only rename qubits from there on."""
    operations = tuple(_without_swaps(circuit))
    runs: dict[tuple[int, str], int] = {}
    gates: list[Gate] = []
    for at, each in enumerate(operations):
        if each.name in PAULIS or each.name in ORDERS:
            continue
        bases = ENDS.get(each.name)
        if bases is not None:
            one, two = [
                End(qubit, basis, runs.get((qubit, basis), 0))
                for qubit, basis in zip(each.qubits, bases, strict=True)
            ]
            gates.append(Gate(at, (one, two)))
        for place, qubit in enumerate(each.qubits):
            kept = bases[place] if bases is not None else _ALONG.get(each.name)
            for basis in (Z, X):
                if basis != kept:
                    runs[qubit, basis] = runs.get((qubit, basis), 0) + 1
    return Flow(circuit.with_operations(operations), tuple(gates))


def _without_swaps(circuit: Circuit) -> list[Operation]:
    wire = list(range(circuit.width))
    made: list[Operation] = []
    for each in expanded(circuit.operations):
        qubits = tuple(wire[qubit] for qubit in each.qubits)
        if each.name != "swap":
            made.append(
                Operation(each.name, qubits, each.angles, each.bits, each.condition, each.at)
            )
        elif each.condition is None:
            one, two = each.qubits
            wire[one], wire[two] = wire[two], wire[one]
        else:
            one, two = qubits
            made += [
                Operation("cx", pair, (), (), each.condition, each.at)
                for pair in ((one, two), (two, one), (one, two))
            ]
    return made
