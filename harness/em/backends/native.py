"""Circuits as OpenQASM 3 in gates that a vendor's machine has, on its own qubits by number.

A vendor's compiler would take folded gates out again, so nothing is left to it: gates are
translated one by one, and a pair that the machine does not couple is refused instead of routed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from harness.em.backends.backend import Refused
from runtime.jit.circuit import Circuit, Operation, expanded

HALF: Final = math.pi / 2
TURNS: Final = {"z": math.pi, "s": HALF, "sdg": -HALF, "t": HALF / 2, "tdg": -HALF / 2}


class Native(NamedTuple):
    """name: in OpenQASM. qubits: of the circuit."""

    name: str
    angles: tuple[float, ...]
    qubits: tuple[int, ...]


def measured(circuit: Circuit) -> dict[int, int]:
    """The bit of each qubit that is measured, once and last. Raises Refused for all else."""
    bits: dict[int, int] = {}
    for each in circuit.operations:
        if each.condition is not None or (each.bits and each.name != "measure"):
            raise Refused(f"These machines run gates and final measurements, no `{each.name}`.")
        if again := [qubit for qubit in each.qubits if qubit in bits]:
            raise Refused(f"Qubit {again[0]} is used after it was measured.")
        if each.name == "measure":
            bits[each.qubits[0]] = each.bits[0]
    if not bits or len(set(bits.values())) != len(bits):
        raise Refused("A run measures qubits, each into a bit of its own.")
    return bits


def ibm(circuit: Circuit) -> Iterator[Native]:
    """In rz, sx, x and cz, up to the global phase."""
    for each in _gates(circuit):
        name, where = each.name, each.qubits
        radians = each.angles[0].radians if each.angles else 0.0
        if name in TURNS or name == "rz":
            yield Native("rz", (TURNS.get(name, radians),), where)
        elif name == "x":
            yield Native("x", (), where)
        elif name == "y":
            yield Native("rz", (math.pi,), where)
            yield Native("x", (), where)
        elif name == "h":
            yield from _h(where)
        elif name in ("rx", "ry"):
            axis = HALF if name == "rx" else 0.0
            yield Native("rz", (axis,), where)
            yield Native("sx", (), where)
            yield Native("rz", (radians + math.pi,), where)
            yield Native("sx", (), where)
            yield Native("rz", (math.pi - axis,), where)
        elif name == "cz":
            yield Native("cz", (), where)
        elif name == "cx":
            yield from _h(where[1:])
            yield Native("cz", (), where)
            yield from _h(where[1:])
        else:
            raise Refused(f"`{name}` is not translated to gates of this machine.")


def _h(where: tuple[int, ...]) -> Iterator[Native]:
    yield Native("rz", (HALF,), where)
    yield Native("sx", (), where)
    yield Native("rz", (HALF,), where)


def iqm(circuit: Circuit) -> Iterator[Native]:
    """In prx and cz: turns about Z move the axes of what comes after."""
    frame = [0.0] * circuit.width

    def prx(qubit: int, radians: float, axis: float) -> Native:
        return Native("prx", (radians, axis - frame[qubit]), (qubit,))

    for each in _gates(circuit):
        name, where = each.name, each.qubits
        radians = each.angles[0].radians if each.angles else 0.0
        if name in TURNS or name == "rz":
            frame[where[0]] += TURNS.get(name, radians)
        elif name in ("x", "rx"):
            yield prx(where[0], math.pi if name == "x" else radians, 0.0)
        elif name in ("y", "ry"):
            yield prx(where[0], math.pi if name == "y" else radians, HALF)
        elif name == "h":
            frame[where[0]] += math.pi
            yield prx(where[0], HALF, HALF)
        elif name == "cz":
            yield Native("cz", (), where)
        elif name == "cx":
            frame[where[1]] += math.pi
            yield prx(where[1], HALF, HALF)
            yield Native("cz", (), where)
            frame[where[1]] += math.pi
            yield prx(where[1], HALF, HALF)
        else:
            raise Refused(f"`{name}` is not translated to gates of this machine.")


def simulator(circuit: Circuit) -> Iterator[Native]:
    """As Braket's simulators name gates."""
    names = {"sdg": "si", "tdg": "ti", "cx": "cnot"}
    alike = ("x", "y", "z", "h", "s", "t", "rx", "ry", "rz", "cz")
    for each in _gates(circuit):
        if each.name not in names and each.name not in alike:
            raise Refused(f"`{each.name}` is not translated to gates of this simulator.")
        angles = tuple(angle.radians for angle in each.angles)
        yield Native(names.get(each.name, each.name), angles, each.qubits)


def lines(natives: Iterator[Native], name_of: Callable[[int], str]) -> list[str]:
    """Statements, angles with all their digits."""
    found = []
    for name, angles, qubits in natives:
        given = f"({', '.join(repr(each) for each in angles)})" if angles else ""
        found.append(f"{name}{given} {', '.join(map(name_of, qubits))};")
    return found


def physical(on: Sequence[int]) -> Callable[[int], str]:
    """The machine's own qubits."""
    return lambda qubit: f"${on[qubit]}"


def check_pairs(circuit: Circuit, on: Sequence[int], edges: Sequence[tuple[int, int]]) -> None:
    """Refuse a gate between qubits that nothing couples."""
    there = {tuple(sorted(edge)) for edge in edges}
    for each in _gates(circuit):
        if len(each.qubits) == 2:
            one, other = (on[qubit] for qubit in each.qubits)
            if (min(one, other), max(one, other)) not in there:
                told = f"qubits {each.qubits[0]} and {each.qubits[1]}, which are {one} and {other}"
                raise Refused(f"There is no gate between {told} here; nothing is routed.")


def pauli_error(infidelity: float, qubits: int) -> float:
    """Chance of one of the other Paulis, of what vendors tell: one less the mean fidelity over
    states (Horodecki et al., arXiv:quant-ph/9807091)."""
    return infidelity * (1 + 2.0**-qubits)


def _gates(circuit: Circuit) -> Iterator[Operation]:
    for each in expanded(circuit.operations):
        if each.name not in ("measure", "barrier", "id"):
            yield each
