"""The one form of a circuit between front ends, passes and back ends.

A circuit is a flat, immutable list of operations on numbered qubits and classical bits, in the
order in which they are carried out. Front ends leave no loop, call or modifier in it. It is not
checked against any machine; read `gates.py` for the gates, `emit.py` for the way to QVM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from runtime.jit.angles import ZERO, Angle
from runtime.jit.gates import GATES


class Position(NamedTuple):
    """Where something stands in a source: line and column from 1, 0 where unknown.

    construct: what stands there, in the source's words.
    """

    file: str
    line: int
    column: int
    construct: str


NOWHERE: Final = Position("", 0, 0, "")


class Unsupported(Exception):
    """A source holds what cannot be expressed, or is no legal source at all. Says where and why."""

    def __init__(self, line: int, column: int, construct: str, why: str, *, file: str = "") -> None:
        self.file, self.line, self.column = file, line, column
        self.construct, self.why = construct, why
        super().__init__(line, column, construct, why)

    def __str__(self) -> str:
        numbers = [str(each) for each in (self.line, self.column) if each]
        place = ":".join([*([self.file] if self.file else []), *numbers])
        what = f"{self.construct}: {self.why}" if self.construct else self.why
        return f"{place}: {what}" if place else what

    @classmethod
    def at(cls, position: Position, why: str) -> Unsupported:
        return cls(position.line, position.column, position.construct, why, file=position.file)


class Condition(msgspec.Struct, frozen=True, gc=False):
    """A test of classical bits: which of `tests`, each (bit, value), hold.

    join: `and` (all of them), `or` (one at the least) or `xor` (an odd number). Deeper conditions
    go through hidden bits and `assign`.
    """

    join: str
    tests: tuple[tuple[int, int], ...]


TRUE: Final = Condition("and", ())
FALSE: Final = Condition("or", ())
JOINS: Final = ("and", "or", "xor")


def bit_is(bit: int, value: int = 1) -> Condition:
    """True where the bit holds the value."""
    return Condition("and", ((bit, value),))


class Register(msgspec.Struct, frozen=True, gc=False):
    """`size` qubits or bits, numbered one after another.

    hidden: bits that a front end needs for itself and nobody reads at the end.
    """

    name: str
    size: int
    hidden: bool = False


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One operation.

    name: a gate of the table, or one of
        `measure`, `measure_x`, `measure_y` (one qubit into one bit: 0 for |0>, |+>, |+i>),
        `reset` (one qubit into |0>),
        `barrier` (nothing may pass it; of the qubits it names, or of all),
        `fence` (everything before it is finished first, and corrected),
        `assign` (one bit gets the truth of `condition`; no qubit takes part).
    qubits: controls first. angles: as many as the gate takes. bits: written, not read.
    condition: carried out only where it holds, as the bits are then; None for always.
    """

    name: str
    qubits: tuple[int, ...] = ()
    angles: tuple[Angle, ...] = ()
    bits: tuple[int, ...] = ()
    condition: Condition | None = None
    at: Position = NOWHERE


MEASUREMENTS: Final = ("measure", "measure_x", "measure_y")
_SHAPES: Final[dict[str, tuple[int, int]]] = {
    **dict.fromkeys(MEASUREMENTS, (1, 1)),
    "reset": (1, 0),
    "assign": (0, 1),
}
ORDERS: Final = ("barrier", "fence")


class Circuit(msgspec.Struct, frozen=True, kw_only=True):
    """A whole circuit. All qubits begin in |0> and all bits as 0.

    qubits, bits: registers; numbers run through them in order. phase: the global phase, e^(i phase)
    in front of everything. name: what the source calls itself, or "". metadata: what a front end
    knows beside the operations, as JSON; it goes into the graph's metadata.
    """

    qubits: tuple[Register, ...]
    bits: tuple[Register, ...]
    operations: tuple[Operation, ...]
    phase: Angle = ZERO
    name: str = ""
    metadata: dict[str, Any] = {}

    @property
    def width(self) -> int:
        return sum(each.size for each in self.qubits)

    @property
    def bit_count(self) -> int:
        return sum(each.size for each in self.bits)

    def with_operations(
        self, operations: Sequence[Operation], phase: Angle | None = None
    ) -> Circuit:
        """The same registers with other operations."""
        return msgspec.structs.replace(
            self, operations=tuple(operations), phase=self.phase if phase is None else phase
        )


def labels(registers: Sequence[Register]) -> list[str]:
    """`name[index]` of everything in the registers, by number."""
    return [f"{each.name}[{i}]" for each in registers for i in range(each.size)]


def check(circuit: Circuit) -> None:
    """Assert that the circuit is well formed. A front end's promise, so it is no error of users."""
    width, bit_count = circuit.width, circuit.bit_count
    for registers in (circuit.qubits, circuit.bits):
        names = [each.name for each in registers]
        assert len(set(names)) == len(names), f"register names differ: {names}"
    for each in circuit.operations:
        _check_operation(each, width, bit_count)


def _check_operation(each: Operation, width: int, bit_count: int) -> None:
    gate = GATES.get(each.name)
    if gate is not None:
        shape = (gate.qubits, 0, gate.angles)
    elif each.name in ORDERS:
        shape = (len(each.qubits), 0, 0)
    else:
        shape = (*_SHAPES[each.name], 0)
    assert shape == (len(each.qubits), len(each.bits), len(each.angles)), each
    assert len(set(each.qubits)) == len(each.qubits), f"operands differ: {each}"
    assert all(0 <= qubit < width for qubit in each.qubits), each
    assert all(0 <= bit < bit_count for bit in each.bits), each
    if each.condition is not None:
        assert each.condition.join in JOINS, each
        assert all(
            0 <= bit < bit_count and value in (0, 1) for bit, value in each.condition.tests
        ), each
    else:
        assert each.name != "assign", "an assignment has something to assign"


def defined(each: Operation) -> tuple[tuple[Operation, ...], Angle]:
    """A gate without an opcode by the smaller ones of its definition, and the phase they leave."""
    row = GATES[each.name]
    assert row.definition is not None, f"{each.name} is as small as gates are"
    parts, phase = row.definition(*each.angles)
    made = tuple(
        Operation(name, tuple(each.qubits[w] for w in wires), angles, (), each.condition, each.at)
        for name, wires, angles in parts
    )
    return made, phase


def expanded(operations: Sequence[Operation]) -> Iterator[Operation]:
    """The operations with every gate taken apart down to those that QVM has opcodes for."""
    for each in operations:
        row = GATES.get(each.name)
        if row is None or row.definition is None:
            yield each
        else:
            yield from expanded(defined(each)[0])
