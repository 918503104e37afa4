"""Gates of OpenQASM 3: what the language and its includes define, bodies, modifiers, operands.

Modifiers are carried out by `modifiers.py`; statements other than gates are in `qasm3.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from typing import Any, Final, NamedTuple

from openqasm3 import ast

from runtime.jit.angles import ZERO, Angle, angle, turn
from runtime.jit.frontends.modifiers import (
    Applied,
    Gates,
    controlled,
    inverse,
    power,
    settled,
)
from runtime.jit.frontends.qasm3_expressions import Expressions, Variable
from runtime.jit.frontends.qasm3_syntax import construct_of
from runtime.jit.frontends.qasm3_values import BadValue, Qubits, Type, real, turning_of
from runtime.jit.gates import GATES

CALLS_MAX: Final = 64
"""How deep subroutines and gates may call one another."""

_STANDARD: Final = frozenset({
    "p", "x", "y", "z", "h", "s", "sdg", "t", "tdg", "sx", "rx", "ry", "rz", "cx", "cy", "cz", "cp",
    "crx", "cry", "crz", "ch", "swap", "ccx", "cswap", "cu", "id",
})  # fmt: skip
"""Gates of stdgates.inc that the gate table has under their names and with their phases."""


def _universal(theta: Angle, phi: Angle, lam: Angle) -> Gates:
    # The language's U is e^(i theta/2) times the matrix of the table's `u`.
    return Gates([Applied("u", (0,), (theta, phi, lam))], theta / 2)


def _u3(theta: Angle, phi: Angle, lam: Angle) -> Gates:
    return Gates([Applied("u", (0,), (theta, phi, lam))], -((phi + lam) / 2))


class Template(NamedTuple):
    """A gate that can be called: how many angles and qubits it takes, and what it stands for."""

    angles: int
    qubits: int
    gates: Callable[..., Gates]


def _named(name: str) -> Template:
    row = GATES[name]
    wires = tuple(range(row.qubits))
    return Template(row.angles, row.qubits, lambda *angles: Gates([Applied(name, wires, angles)]))


_HALF: Final = turn(Fraction(1, 2))
_BUILTIN_GATES: Final = {"U": Template(3, 1, _universal), "CX": _named("cx")}
STDGATES: Final = {
    **{name: _named(name) for name in _STANDARD},
    "phase": _named("p"),
    "cphase": _named("cp"),
    "u1": _named("p"),
    "u2": Template(2, 1, lambda phi, lam: _u3(_HALF, phi, lam)),
    "u3": Template(3, 1, _u3),
}
_QELIB: Final = {
    **STDGATES,
    **{name: _named(name) for name in GATES},
    "cu1": _named("cp"),
    "cu3": Template(
        3, 2, lambda theta, phi, lam: Gates([Applied("cu", (0, 1), (theta, phi, lam, ZERO))])
    ),
}
INCLUDES: Final = {"stdgates.inc": STDGATES, "qelib1.inc": _QELIB}

_ADDITIVE: Final = frozenset({
    "rx", "ry", "rz", "p", "phase", "u1", "cp", "cphase", "cu1", "crx", "cry", "crz", "rxx", "ryy",
    "rzz", "rzx",
})  # fmt: skip
"""Gates of one angle of which two in a row are one by the sum."""
_TWICE_ROUND: Final = frozenset({"crx", "cry", "crz"})
"""Those of them that a whole turn changes by more than a global phase."""


class GateReader(Expressions):
    """The gates that are defined so far, and how one is put into the circuit."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.gates: dict[str, Template] = dict(_BUILTIN_GATES)
        self.defined: set[str] = set()
        self.calls = 0  # of gates, subroutines and files, inside one another

    def gate_definition(self, node: ast.QuantumGateDefinition) -> None:
        name = node.name.name
        if name in _BUILTIN_GATES:
            raise self.refuse(f"{name} is built in")
        if name in self.defined or (name in self.gates and name in STDGATES):
            raise self.refuse(f"the gate {name} is defined already")
        self._need_gates(node.body)
        self._stand_at(node, "gate")
        self.defined.add(name)
        cache: dict[tuple[Angle, ...], Gates] = {}
        self.gates[name] = Template(
            len(node.arguments), len(node.qubits), partial(self._defined, node, cache, self.file)
        )

    def _need_gates(self, listed: Sequence[Any]) -> None:
        """Refuse a body with a gate that is not defined before it."""
        for each in listed:
            if isinstance(each, ast.QuantumGate) and each.name.name not in self.gates:
                self._stand_at(each, construct_of(each))
                raise self.refuse(f"there is no gate {each.name.name} yet")
            if isinstance(each, ast.ForInLoop):
                self._need_gates(each.block)

    def _defined(
        self,
        node: ast.QuantumGateDefinition,
        cache: dict[tuple[Angle, ...], Gates],
        file: str,
        *angles: Angle,
    ) -> Gates:
        """What a gate's body stands for, with these angles, on wires 0, 1, ..."""
        if angles in cache:
            return cache[angles]
        self.calls += 1
        if self.calls > CALLS_MAX:
            raise self.refuse(f"gates call one another more than {CALLS_MAX} deep")
        at, outer_file, self.file = self.build.at, self.file, file
        with self.scope(fresh=True) as names:
            for argument, each in zip(node.arguments, angles, strict=True):
                names[argument.name] = Variable(Type("float"), each.radians, 0)
            for wire, qubit in enumerate(node.qubits):
                names[qubit.name] = Qubits((wire,), True)
            found: list[Applied] = []
            phase = self._body(node.body, found)
        self.calls -= 1
        self.build.at, self.file = at, outer_file
        cache[angles] = settled(Gates(found, phase))
        return cache[angles]

    def _body(self, listed: Sequence[Any], found: list[Applied]) -> Angle:
        """Append the gates of a gate's body; returns the phase they have."""
        phase = ZERO
        for each in listed:
            self._stand_at(each, construct_of(each))
            self._step()
            if isinstance(each, ast.QuantumGate):
                for gates in self._applied(each):
                    self._need_room(len(found) + len(gates.gates))
                    found += gates.gates
                    phase += gates.phase
            elif isinstance(each, ast.QuantumPhase):
                gates = self._phase(each)
                found += gates.gates
                phase += gates.phase
            elif isinstance(each, ast.ForInLoop):
                for value in self._loop_values(each):
                    self._step()
                    with self.scope() as names:
                        type_ = self.type_of(each.type)
                        held = self.reckon.coerced(value, type_)
                        names[each.identifier.name] = Variable(type_, held, 0)
                        phase += self._body(each.block, found)
            elif isinstance(each, ast.QuantumBarrier):
                wires = dict.fromkeys(n for one in each.qubits for n in self.operand(one).numbers)
                found.append(Applied("barrier", tuple(wires)))
            else:
                raise self.refuse("a gate's body holds gates")
        return phase

    def gate(self, node: ast.QuantumGate) -> None:
        for each in self._applied(node):
            self._add(each)

    def _add(self, what: Gates) -> None:
        add = self.build.add
        found = settled(what)
        for name, wires, angles, _ in found.gates:
            add(name, wires, angles)
        self.build.turn(found.phase)

    def phase(self, node: ast.QuantumPhase) -> None:
        self._add(self._phase(node))

    def _phase(self, node: ast.QuantumPhase) -> Gates:
        what = Gates([], angle(real(self.value(node.argument))))
        wires = [wire for each in node.qubits for wire in self.operand(each).numbers]
        return self._modified(node.modifiers, what, wires)

    def _applied(self, node: ast.QuantumGate) -> Iterator[Gates]:
        """The gate once for each turn of its broadcast."""
        name = node.name.name
        template = self.gates.get(name)
        if template is None:
            raise self.refuse(f"there is no gate {name}; does an include define it?")
        if node.duration is not None:
            raise self.refuse("QVM has no time for a gate to take")
        if len(node.arguments) != template.angles:
            raise self.refuse(f"{name} takes {template.angles} angles, not {len(node.arguments)}")
        operands = [self.operand(each) for each in node.qubits]
        # An angle of 1/2 is 0 by the rules of integers, and surely meant otherwise.
        with self.reckon.dividing("refused"):
            values = [self.value(each) for each in node.arguments]
        turnings = [turning_of(each) for each in values]
        for wires in _broadcast(operands):
            if any(each is not None for each in turnings):
                self._measured_angle(node, template, turnings, wires)
            else:
                angles = [angle(real(each)) for each in values]
                yield self._one(node, template, angles, wires)

    def _one(
        self,
        node: ast.QuantumGate,
        template: Template,
        angles: Sequence[Angle],
        wires: tuple[int, ...],
    ) -> Gates:
        found = template.gates(*angles)
        if node.modifiers:
            return self._modified(node.modifiers, found, wires, template.qubits)
        if len(wires) != template.qubits:
            raise self.refuse(f"it takes {template.qubits} qubits, not {len(wires)}")
        return _on(found, wires)

    def _modified(
        self,
        modifiers: Sequence[ast.QuantumGateModifier],
        what: Gates,
        wires: Sequence[int],
        qubits: int = 0,
    ) -> Gates:
        """Modifiers are applied from the gate outwards; controls stand first among the operands."""
        numbers = [
            self._controls(each) if "ctrl" in each.modifier.name else 0 for each in modifiers
        ]
        if len(wires) != sum(numbers) + qubits:
            raise self.refuse(f"it takes {sum(numbers) + qubits} qubits, not {len(wires)}")
        place = sum(numbers)
        what = _on(what, wires[place:])
        for each, number in zip(reversed(modifiers), reversed(numbers), strict=True):
            kind = each.modifier.name
            if kind == "inv":
                what = inverse(what)
            elif kind == "pow":
                # stdgates.inc writes pow(1/2) for a square root.
                with self.reckon.dividing("real"):
                    exponent = real(self.value(each.argument))
                whole_ = round(exponent)
                what = power(what, whole_ if whole_ == exponent else exponent)
            else:
                for _ in range(number):
                    place -= 1
                    what = controlled(what, wires[place], on=kind == "ctrl")
        return what

    def _controls(self, node: ast.QuantumGateModifier) -> int:
        number = 1 if node.argument is None else self.integer(node.argument)
        if number < 1:
            raise self.refuse(f"{number} controls")
        return number

    def _measured_angle(
        self, node: ast.QuantumGate, template: Template, turnings: list[Any], wires: tuple[int, ...]
    ) -> None:
        """A rotation by an angle that was measured: a rotation under each of its bits."""
        additive = node.name.name in _ADDITIVE - self.defined
        if self.calls or len(turnings) != 1 or not additive:
            raise self.refuse("only a rotation by one angle takes one that was measured")
        (turning,) = turnings
        if turning.wraps and (node.modifiers or node.name.name in _TWICE_ROUND):
            raise self.refuse("the measured angle is known but for whole turns, which matter here")
        if any(self._breaks(each) for each in node.modifiers):
            raise self.refuse("a broken power of a rotation by a measured angle")
        if turning.constant:
            self._add(self._one(node, template, [angle(turning.constant)], wires))
        for truth, radians in turning.terms:
            turn_ = partial(self._turn_by, node, template, radians, wires)
            self.under(self.build.fixed(truth), turn_)

    def _breaks(self, node: ast.QuantumGateModifier) -> bool:
        """Whether it is a power that is no whole number: the branch depends on the whole angle."""
        if node.modifier.name != "pow":
            return False
        with self.reckon.dividing("real"):
            return not real(self.value(node.argument)).is_integer()

    def _turn_by(
        self, node: ast.QuantumGate, template: Template, radians: float, wires: tuple[int, ...]
    ) -> None:
        self._add(self._one(node, template, [angle(radians)], wires))


def _on(what: Gates, wires: Sequence[int]) -> Gates:
    gates = [
        Applied(name, tuple([wires[w] for w in own]), angles, controls)
        for name, own, angles, controls in what.gates
    ]
    return Gates(gates, what.phase)


def _broadcast(operands: Sequence[Qubits]) -> Iterator[tuple[int, ...]]:
    """One tuple of qubits for each place of the registers among the operands."""
    sizes = {len(each.numbers) for each in operands if not each.single}
    if not sizes:
        yield tuple(each.numbers[0] for each in operands)
        return
    if len(sizes) > 1:
        raise BadValue(f"registers of {' and '.join(map(str, sorted(sizes)))} qubits together")
    for place in range(sizes.pop()):
        yield tuple(each.numbers[0 if each.single else place] for each in operands)
