"""Gates with two controls through a temporary AND, which measurement takes away again.

The AND of two qubits is written on a third with four T gates, and taken away with none: by
measuring the third in X and correcting with a controlled Z (Jones, arXiv:1212.5069; Gidney,
arXiv:1709.06648). A Toffoli then takes four T gates instead of seven, a controlled phase one
rotation instead of three. The price is ancillas, and decisions within the shot. Read
`clifford_t.py` for what is lowered without measurements.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from runtime.jit.angles import Angle
from runtime.jit.circuit import Circuit, Operation, Position, Register, bit_is, defined
from runtime.jit.gates import GATES

ANCILLAS: Final = 4
"""By default. More of them let more gates run side by side."""

_AND: Final = (
    ("h", 2), ("t", 2), ("cx", 0, 2), ("cx", 1, 2), ("cx", 2, 0), ("cx", 2, 1), ("tdg", 0),
    ("tdg", 1), ("t", 2), ("cx", 2, 0), ("cx", 2, 1), ("h", 2), ("s", 2),
)  # fmt: skip
"""On two qubits and a third in |0>, which becomes their AND."""


def with_ands(circuit: Circuit, ancillas: int = ANCILLAS) -> Circuit:
    """The circuit with Toffolis, their like and controlled phases through temporary ANDs.

    Adds `ancillas` qubits and as many hidden bits behind those that there are, if there is any such
    gate, and no other change. A gate under a condition has its AND in any case; only what it does
    to the target is conditional. Controlled phases by multiples of pi/4 stay, as they take fewer T
    gates without.
    """
    assert ancillas >= 1
    operations = list(_opened(circuit.operations))
    if not any(_target(each) for each in operations):
        return circuit
    qubits = Register(_unused("and", circuit.qubits), ancillas)
    bits = Register(_unused("and", circuit.bits), ancillas, hidden=True)
    width, bit_count = circuit.width, circuit.bit_count
    made: list[Operation] = []
    turn = 0
    for each in operations:
        if (target := _target(each)) is None:
            made.append(each)
            continue
        made.extend(_through_and(each, target, width + turn, bit_count + turn))
        turn = (turn + 1) % ancillas
    return msgspec.structs.replace(
        circuit,
        qubits=(*circuit.qubits, qubits),
        bits=(*circuit.bits, bits),
        operations=tuple(made),
    )


def _opened(operations: tuple[Operation, ...]) -> Iterator[Operation]:
    """The operations, but CCZ and controlled swaps by Toffolis."""
    for each in operations:
        if each.name in ("ccz", "cswap"):
            yield from defined(each)[0]
        else:
            yield each


def _target(each: Operation) -> tuple[str, tuple[int, ...], tuple[Angle, ...]] | None:
    """What is done from the AND of the first two qubits: a gate, onto which others, its angles.

    None where no AND is of use.
    """
    if each.name == "ccx":
        return "cx", each.qubits[2:], ()
    if each.name == "cp" and each.angles[0].eighths is None:
        return "p", (), each.angles
    return None


def _through_and(
    each: Operation, target: tuple[str, tuple[int, ...], tuple[Angle, ...]], ancilla: int, bit: int
) -> Iterator[Operation]:
    """One gate, with an ancilla that is in |0> before and after."""
    name, onto, angles = target
    assert name in GATES
    first, second = each.qubits[:2]
    wires = (first, second, ancilla)
    at = each.at
    for gate, *places in _AND:
        yield Operation(gate, tuple(wires[place] for place in places), at=at)
    yield Operation(name, (ancilla, *onto), angles, (), each.condition, at)
    yield from _taken_away(wires, bit, at)


def _taken_away(wires: tuple[int, int, int], bit: int, at: Position) -> Iterator[Operation]:
    """The AND's phase is corrected where X is measured as -1; the ancilla starts anew."""
    first, second, ancilla = wires
    yield Operation("measure_x", (ancilla,), (), (bit,), None, at)
    yield Operation("cz", (first, second), (), (), bit_is(bit), at)
    yield Operation("reset", (ancilla,), at=at)


def _unused(name: str, registers: tuple[Register, ...]) -> str:
    taken = {each.name for each in registers}
    while name in taken:
        name += "_"
    return name
