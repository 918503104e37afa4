"""OpenQASM 3 out: the text that the front end reads back as the same circuit.

Gates that stdgates.inc lacks are defined at the head of the text, by the gate table's definitions;
hidden bits are declared like others, since the language has none, and `helpers` names them. Angles
keep their exact multiple of pi, other angles every digit of the float.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from typing import Final

from runtime.jit.angles import ZERO, Angle
from runtime.jit.circuit import ORDERS, Circuit, Condition, Operation, Register, Unsupported
from runtime.jit.gates import GATES

STANDARD: Final = frozenset({
    "p", "x", "y", "z", "h", "s", "sdg", "t", "tdg", "sx", "rx", "ry", "rz", "cx", "cy", "cz", "cp",
    "crx", "cry", "crz", "ch", "swap", "ccx", "cswap", "cu", "id",
})  # fmt: skip
"""Gates of stdgates.inc that the gate table has under their names."""
_BEFORE: Final = {"measure": (), "measure_x": ("h",), "measure_y": ("sdg", "h")}
_AFTER: Final = {"measure": (), "measure_x": ("h",), "measure_y": ("h", "s")}
_LETTERS: Final = frozenset(string.ascii_letters + string.digits + "_")
_KEYWORDS: Final = frozenset({
    "OPENQASM", "include", "gate", "qubit", "bit", "bool", "int", "uint", "float", "angle",
    "complex", "array", "duration", "stretch", "let", "def", "extern", "box", "const", "measure",
    "reset", "barrier", "if", "else", "for", "while", "in", "return", "end", "break", "continue",
    "switch", "case", "default", "input", "output", "pi", "tau", "euler", "ctrl", "inv", "pow",
    "negctrl", "gphase", "U", "creg", "qreg", "opaque", "delay", "durationof", "sizeof", "cal",
    "defcal", "defcalgrammar", "pragma", "mutable", "readonly", "void", "true", "false", "nop",
})  # fmt: skip
_NOTES: Final = ("detectors", "observables", "coordinates")


def dump(circuit: Circuit) -> str:
    """The circuit as OpenQASM 3. Raises Unsupported where it has a fence, which that cannot say."""
    return "\n".join(_Writer(circuit).lines()) + "\n"


def helpers(circuit: Circuit) -> list[str]:
    """The names of `dump`'s registers that hold hidden bits, which no reader of the text can tell
    from others."""
    return [each.name for each in _Writer(circuit).bits if each.hidden]


def left_out(circuit: Circuit) -> dict[str, int]:
    """What a front end noted that the text has no words for, and how many of each."""
    return {each: len(circuit.metadata[each]) for each in _NOTES if each in circuit.metadata}


class _Writer:
    """One circuit as it is being written."""

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        taken = set(GATES) | set(_KEYWORDS)
        self.qubits = _named(circuit.qubits, taken)
        self.bits = _named(circuit.bits, taken)
        self.qubit = _members(self.qubits)
        self.bit = _members(self.bits)

    def lines(self) -> Iterator[str]:
        yield "OPENQASM 3.0;"
        yield 'include "stdgates.inc";'
        used = dict.fromkeys(each.name for each in self.circuit.operations)
        yield from _definitions([name for name in used if name in GATES])
        for register in self.qubits:
            yield f"qubit[{register.size}] {register.name};"
        for register in self.bits:
            note = " // the compiler's own" if register.hidden else ""
            yield f"bit[{register.size}] {register.name};{note}"
        if self.circuit.phase != ZERO:
            yield f"gphase({_angle(self.circuit.phase)});"
        for each in self.circuit.operations:
            yield from self.operation(each)

    def operation(self, each: Operation) -> Iterator[str]:
        if each.name == "fence":
            raise Unsupported.at(each.at, "OpenQASM 3 has no fence between epochs")
        if each.name == "assign":
            assert each.condition is not None, "an assignment has something to assign"
            yield f"{self.bit[each.bits[0]]} = bool({self.condition(each.condition)});"
            return
        statements = self.statements(each)
        if each.condition is None or each.name in ORDERS:
            yield from statements
        elif not each.condition.tests:
            yield from statements if each.condition.join == "and" else ()
        elif each.condition.join == "and":
            # One inside another, as Qiskit's importer reads it, which knows no `&&`.
            tests = [f"if ({self.test(*test)}) {{ " for test in each.condition.tests]
            yield f"{''.join(tests)}{' '.join(statements)}{' }' * len(tests)}"
        else:
            yield f"if ({self.condition(each.condition)}) {{ {' '.join(statements)} }}"

    def statements(self, each: Operation) -> list[str]:
        operands = ", ".join(self.qubit[qubit] for qubit in each.qubits)
        if each.name in _BEFORE:
            turns = [
                [f"{gate} {operands};" for gate in side[each.name]] for side in (_BEFORE, _AFTER)
            ]
            return [*turns[0], f"{self.bit[each.bits[0]]} = measure {operands};", *turns[1]]
        angles = f"({', '.join(_angle(angle) for angle in each.angles)})" if each.angles else ""
        return [f"{_gate(each.name)}{angles} {operands};".replace(" ;", ";")]

    def condition(self, condition: Condition) -> str:
        if not condition.tests:
            return "true" if condition.join == "and" else "false"
        tests = [self.test(*test) for test in condition.tests]
        if len(tests) == 1:
            return tests[0]
        if condition.join == "xor":
            flips = sum(1 - value for _, value in condition.tests) % 2
            return f"({' ^ '.join(self.bit[bit] for bit, _ in condition.tests)}) == {1 - flips}"
        join = " && " if condition.join == "and" else " || "
        return join.join(tests)

    def test(self, bit: int, value: int) -> str:
        return self.bit[bit] if value else f"!{self.bit[bit]}"


def _gate(name: str) -> str:
    """`u` would clash with nothing, but reads like U, which has another phase."""
    return name if name in STANDARD or name not in GATES else f"qvm_{name}"


def _definitions(names: Sequence[str]) -> Iterator[str]:
    """Definitions of all gates beyond stdgates.inc that the names need, smaller ones first."""
    done: set[str] = set()
    for name in names:
        yield from _definition(name, done)


def _definition(name: str, done: set[str]) -> Iterator[str]:
    if name in STANDARD or name in done:
        return
    done.add(name)
    row = GATES[name]
    if name == "u":
        yield "gate qvm_u(a, b, c) q { gphase(-a / 2); U(a, b, c) q; }"
        return
    assert row.definition is not None, "gates with opcodes are standard"
    # A definition is linear in its angles: that is read off by giving it one angle at a time.
    basis = [Angle(0.0)] * row.angles
    parts, _ = row.definition(*basis)
    columns = []
    for at in range(row.angles):
        one = [Angle(float(at == place)) for place in range(row.angles)]
        columns.append(row.definition(*one))
    for part in parts:
        yield from _definition(part[0], done)
    letters = string.ascii_lowercase[: row.angles]
    body = []
    for number, (part_name, wires, angles) in enumerate(parts):
        written = [
            _linear(angles[place], [column[0][number][2][place] for column in columns], letters)
            for place in range(len(angles))
        ]
        operands = ", ".join(f"q{wire}" for wire in wires)
        listed = f"({', '.join(written)})" if written else ""
        body.append(f"{_gate(part_name)}{listed} {operands};")
    arguments = f"({', '.join(letters)})" if letters else ""
    operands = ", ".join(f"q{wire}" for wire in range(row.qubits))
    phases = [column[1].radians for column in columns]
    constant = row.definition(*basis)[1]
    if any(phases) or constant != ZERO:
        body.insert(0, f"gphase({_linear(constant, [Angle(p) for p in phases], letters)});")
    yield f"gate {_gate(name)}{arguments} {operands} {{ {' '.join(body)} }}"


def _linear(constant: Angle, slopes: Sequence[Angle], letters: str) -> str:
    """`constant` plus the letters times their slopes, which are halves and quarters."""
    terms = [] if constant.radians == 0 else [_angle(constant)]
    for letter, slope in zip(letters, slopes, strict=True):
        factor = slope.radians - constant.radians
        if factor:
            terms.append(f"{factor!r} * {letter}")
    return " + ".join(terms) or "0"


def _angle(angle: Angle) -> str:
    if angle.of_pi is None or angle.radians == 0:
        return repr(angle.radians)
    up, down = angle.of_pi.numerator, angle.of_pi.denominator
    times = {1: "pi", -1: "-pi"}.get(up, f"{up} * pi")
    return times if down == 1 else f"{times} / {down}"


def _named(registers: Sequence[Register], taken: set[str]) -> list[Register]:
    """The registers under names that the language allows and that differ."""
    found = []
    for register in registers:
        name = "".join(each if each in _LETTERS else "_" for each in register.name)
        name = name if name and not name[0].isdigit() else f"r_{name}"
        while name in taken:
            name += "_"
        taken.add(name)
        found.append(Register(name, register.size, register.hidden))
    return found


def _members(registers: Sequence[Register]) -> list[str]:
    return [f"{each.name}[{index}]" for each in registers for index in range(each.size)]
