"""OpenQASM 3 in: parsed by the reference parser of the language, unrolled here.

The subset and its limits stand in docs/frontends.md. Loops and calls are carried out while the
source is read, so that only gates, measurements, resets and conditions over measured bits are left.
What needs time, pulses, unbounded loops or foreign functions is refused with its line. Values are
in `qasm3_values.py`, modifiers in `modifiers.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from antlr4 import CommonTokenStream, InputStream
from antlr4.error.ErrorListener import ErrorListener
from openqasm3 import ast
from openqasm3._antlr.qasm3Lexer import qasm3Lexer
from openqasm3._antlr.qasm3Parser import qasm3Parser
from openqasm3.parser import QASM3ParsingError, QASMNodeVisitor

from runtime.jit.angles import ZERO, Angle, angle, turn
from runtime.jit.circuit import Circuit, Position, Unsupported
from runtime.jit.frontends.building import BITS_MAX, Builder, Truth, Word
from runtime.jit.frontends.modifiers import (
    Applied,
    Gates,
    NoModifier,
    controlled,
    inverse,
    power,
    settled,
)
from runtime.jit.frontends.qasm3_values import (
    CONSTANTS,
    FUNCTIONS,
    BadValue,
    Bits,
    Qubits,
    Reckoner,
    Type,
    Value,
    fits,
    literal,
    plain,
    real,
    register,
    turning_of,
    whole,
)
from runtime.jit.gates import GATES

TURNS_MAX: Final = 1_000_000
"""Of one loop."""
CALLS_MAX: Final = 64
"""How deep subroutines and gates may call one another."""
STEPS_MAX: Final = 4_000_000
"""Statements and turns of loops that are carried out, and gates that one gate stands for."""
WIDTH_MAX: Final = 512
"""Of a number or an angle."""
TOKEN_MAX: Final = 4096
"""Characters of one word or number."""

_BUILT_IN: Final = {**FUNCTIONS, "popcount": None, "rotl": None, "rotr": None}
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
_STDGATES: Final = {
    **{name: _named(name) for name in _STANDARD},
    "phase": _named("p"),
    "cphase": _named("cp"),
    "u1": _named("p"),
    "u2": Template(2, 1, lambda phi, lam: _u3(_HALF, phi, lam)),
    "u3": Template(3, 1, _u3),
}
_QELIB: Final = {
    **_STDGATES,
    **{name: _named(name) for name in GATES},
    "cu1": _named("cp"),
    "cu3": Template(
        3, 2, lambda theta, phi, lam: Gates([Applied("cu", (0, 1), (theta, phi, lam, ZERO))])
    ),
}
INCLUDES: Final = {"stdgates.inc": _STDGATES, "qelib1.inc": _QELIB}


class Variable:
    """A name's value. bits: of the circuit, where it is a register that is read at the end."""

    def __init__(
        self, type_: Type, value: Value, depth: int, bits: tuple[int, ...] = (), const: bool = False
    ) -> None:
        self.type, self.value, self.depth, self.bits, self.const = type_, value, depth, bits, const


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _End(Exception):
    pass


class _Return(Exception):
    def __init__(self, value: Value) -> None:
        self.value = value


def load(source: str, *, file: str = "", inputs: dict[str, Any] | None = None) -> Circuit:
    """Read OpenQASM 3 text; includes are looked for beside the file. Raises Unsupported.

    inputs: a value for every `input` that the source declares.
    """
    reader = _Reader(file, inputs or {})
    try:
        return reader.run(source)
    except RecursionError as error:
        raise reader.refuse("it nests too deep") from error


class _Reader:
    """What has been declared and built so far."""

    def __init__(self, file: str, inputs: dict[str, Any]) -> None:
        self.file = file
        self.build = Builder(file)
        self.reckon = Reckoner(self.build)
        self.inputs = inputs
        self.asked: set[str] = set()
        self.scopes: list[dict[str, Any]] = [{}]
        self.gates: dict[str, Template] = dict(_BUILTIN_GATES)
        self.defined: set[str] = set()
        self.routines: dict[str, ast.SubroutineDefinition] = {}
        self.outputs: list[str] = []
        self.physical: dict[str, Qubits] = {}
        self.calls = 0
        self.steps = 0
        self.loop_frames: list[int] = []
        self.call_frames: list[int] = []

    def run(self, source: str) -> Circuit:
        program = parse(source, self.file)
        if (program.version or "3").partition(".")[0] != "3":
            raise self.refuse(f"it states version {program.version}, and this reads version 3")
        with suppress(_End):
            self.statements(program.statements)
        if unknown := sorted(self.inputs.keys() - self.asked):
            why = "a value is given, but the circuit has no input of this name"
            raise Unsupported(0, 0, unknown[0], why, file=self.file)
        for name in self.outputs:
            self._write_output(name)
        return self.build.circuit(Path(self.file).stem)

    def _write_output(self, name: str) -> None:
        variable = self.scopes[0][name]
        if variable.bits:
            return
        if variable.value is None or variable.type.kind not in ("int", "uint", "bool", "bit"):
            raise self.build.unsupported(f"output {name} is no value made of bits")
        word = self.reckon.word(variable.value, variable.type.word)
        for bit, truth in zip(self.build.bits(name, len(word)), word, strict=True):
            self.build.assign(bit, truth)

    # --- places and errors ------------------------------------------------------------------------

    def _stand_at(self, node: ast.QASMNode, construct: str) -> None:
        if node.span is not None:
            self.build.at = Position(
                self.file, node.span.start_line, node.span.start_column + 1, construct
            )

    def refuse(self, why: str) -> Unsupported:
        return self.build.unsupported(why)

    def _step(self) -> None:
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise self.refuse(f"it takes more than {STEPS_MAX:,} steps to unfold")

    def statements(self, listed: Sequence[ast.Statement | ast.Pragma]) -> None:
        for node in listed:
            kind = type(node)
            self._stand_at(node, _construct(node))
            self._step()
            visit = _VISITS.get(kind)
            if visit is None:
                raise self.refuse(_REFUSED.get(kind, "it cannot be expressed in QVM"))
            try:
                visit(self, node)
            except (BadValue, NoModifier) as error:
                raise self.refuse(str(error)) from error

    # --- names ------------------------------------------------------------------------------------

    @contextmanager
    def scope(self, *, fresh: bool = False) -> Iterator[dict[str, Any]]:
        """A block's names. fresh: of a gate or subroutine, which sees global constants only."""
        outer = self.scopes
        if fresh:
            seen = {
                name: found
                for name, found in outer[0].items()
                if isinstance(found, Variable) and found.const
            }
            self.scopes = [seen, {}]
        else:
            self.scopes = [*outer, {}]
        try:
            yield self.scopes[-1]
        finally:
            self.scopes = outer

    def find(self, name: str) -> Any:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        if name.startswith("$") and name[1:].isdecimal():
            if name not in self.physical:
                self.physical[name] = Qubits(tuple(self.build.qubits(name, 1)), True)
            return self.physical[name]
        raise BadValue(f"{name} is not declared")

    def declare(self, name: str, what: Any) -> None:
        if name in self.scopes[-1]:
            raise self.refuse(f"{name} is declared twice")
        self.scopes[-1][name] = what

    @property
    def globally(self) -> bool:
        return len(self.scopes) == 1 and not self.call_frames

    # --- types ------------------------------------------------------------------------------------

    def type_of(self, node: Any) -> Type:
        if isinstance(node, ast.ArrayType):
            base = self.type_of(node.base_type)
            dims = tuple(self.integer(each) for each in node.dimensions)
            if min(dims) < 1 or base.word * math.prod(dims) > BITS_MAX:
                raise self.refuse(f"an array holds from 1 to {BITS_MAX:,} bits")
            return base._replace(dims=dims)
        if isinstance(node, ast.ComplexType):
            return Type("complex")
        kind = _TYPES.get(type(node))
        if kind is None:
            raise self.refuse(f"QVM has nothing like {_CONSTRUCTS.get(type(node), 'this type')}")
        size = getattr(node, "size", None)
        width = None if size is None else self.integer(size)
        if width is not None and width < 1:
            raise self.refuse(f"a width of {width}")
        most = BITS_MAX if kind == "bit" else WIDTH_MAX
        if width is not None and width > most:
            raise self.refuse(f"{kind} has at most {most:,} bits here")
        return Type(kind, width)

    # --- expressions ------------------------------------------------------------------------------

    def integer(self, node: ast.Expression) -> int:
        return whole(self.value(node))

    def value(self, node: Any) -> Value:
        """What an expression yields. Raises BadValue."""
        found = literal(node)
        if found is not None:
            return found
        if isinstance(node, ast.Identifier):
            return self._named_value(node.name)
        if isinstance(node, ast.BinaryExpression):
            if node.op.name in ("&&", "||"):
                return self._both_or_either(node)
            return self.reckon.binary(node.op.name, self.value(node.lhs), self.value(node.rhs))
        if isinstance(node, ast.UnaryExpression):
            return self.reckon.unary(node.op.name, self.value(node.expression))
        if isinstance(node, ast.IndexExpression):
            return self._indexed(self.value(node.collection), node.index)
        if isinstance(node, ast.Cast):
            return self.reckon.cast(self.value(node.argument), self.type_of(node.type))
        if isinstance(node, ast.FunctionCall):
            return self._call(node)
        if isinstance(node, ast.Concatenation):
            return self._concatenated(self.value(node.lhs), self.value(node.rhs))
        if isinstance(node, ast.ArrayLiteral):
            return [self.value(each) for each in node.values]
        if isinstance(node, ast.QuantumMeasurement):
            return self._measured(node)
        if isinstance(node, ast.SizeOf):
            return self._size_of(node)
        raise BadValue(f"{_CONSTRUCTS.get(type(node), type(node).__name__)} has no value in QVM")

    def _named_value(self, name: str) -> Value:
        if name in CONSTANTS and not any(name in scope for scope in self.scopes):
            return CONSTANTS[name]
        found = self.find(name)
        if isinstance(found, Qubits):
            return found
        if found.bits:
            return register(found.bits)
        if found.value is None:
            raise BadValue(f"{name} has no value yet")
        return found.value

    def _both_or_either(self, node: ast.BinaryExpression) -> Value:
        """The right side is carried out only where the left one leaves the value open."""
        op, left = node.op.name, self.reckon.truth(self.value(node.lhs))
        if isinstance(left, bool):
            return left if left == (op == "||") else self.reckon.truth_value(self.value(node.rhs))
        left = self.build.fixed(left)
        before = len(self.build.operations)
        right = self.value(node.rhs)
        if any(each.name != "assign" for each in self.build.operations[before:]):
            raise BadValue(f"a measurement decides whether the right side of {op} is carried out")
        return self.reckon.binary(op, Bits([left], "bool"), right)

    def _concatenated(self, left: Value, right: Value) -> Value:
        if isinstance(left, Qubits) and isinstance(right, Qubits):
            return Qubits(left.numbers + right.numbers, False)
        if isinstance(left, list) and isinstance(right, list):
            return left + right
        if isinstance(left, Bits) and isinstance(right, Bits):
            return Bits(left.word + right.word)
        raise BadValue("only registers and arrays of one kind are joined")

    def _size_of(self, node: ast.SizeOf) -> int:
        found = self.value(node.target)
        for _ in range(0 if node.index is None else self.integer(node.index)):
            found = found[0]
        if not isinstance(found, list):
            raise BadValue("sizeof takes an array")
        return len(found)

    def _places(self, index: Any, length: int) -> list[int] | int:
        """Which of `length` places one index names: a number, or a list for sets and ranges."""
        if isinstance(index, ast.DiscreteSet):
            return [self._place(each, length) for each in index.values]
        if isinstance(index, ast.RangeDefinition):
            numbers = self._range(index, length)
            bad = [n for n in numbers if not -length <= n < length]
            if bad:
                raise BadValue(f"index {bad[0]} of {length}")
            return [n % length for n in numbers]
        return self._place(index, length)

    def _place(self, node: Any, length: int) -> int:
        try:
            number = self.integer(node)
        except BadValue as error:
            raise BadValue(f"an index must be known when it is compiled: {error}") from error
        if not -length <= number < length:
            raise BadValue(f"index {number} of {length}")
        return number % length

    def _range(self, node: ast.RangeDefinition, length: int | None = None) -> range:
        step = 1 if node.step is None else self.integer(node.step)
        if step == 0:
            raise BadValue("a range with step 0")
        if length is None and (node.start is None or node.end is None):
            raise BadValue("a range without an end")
        last = (length or 0) - 1
        start = (0 if step > 0 else last) if node.start is None else self.integer(node.start)
        end = (last if step > 0 else 0) if node.end is None else self.integer(node.end)
        if length is not None:
            start, end = (n + length if n < 0 else n for n in (start, end))
        if abs(end - start) // abs(step) >= TURNS_MAX and (end - start) * step > 0:
            raise BadValue(f"a range of more than {TURNS_MAX:,} numbers")
        return range(start, end + (1 if step > 0 else -1), step)

    def _indexed(self, value: Value, index: Any) -> Value:
        indices = [index] if isinstance(index, ast.DiscreteSet) else list(index)
        for each in indices:
            value = self._at(value, each)
        return value

    def _at(self, value: Value, index: Any) -> Value:
        if isinstance(value, Qubits):
            if value.single:
                raise BadValue("one qubit has no index")
            places = self._places(index, len(value.numbers))
            if isinstance(places, int):
                return Qubits((value.numbers[places],), True)
            return Qubits(tuple(value.numbers[each] for each in places), False)
        if isinstance(value, list):
            places = self._places(index, len(value))
            return value[places] if isinstance(places, int) else [value[each] for each in places]
        if isinstance(value, int) and not isinstance(value, bool):
            value = Bits(self.reckon.word(value, 64), "uint")
        if not isinstance(value, Bits):
            raise BadValue("this value has no index")
        places = self._places(index, len(value.word))
        if isinstance(places, int):
            return Bits([value.word[places]])
        return Bits([value.word[each] for each in places])

    # --- qubits -----------------------------------------------------------------------------------

    def operand(self, node: ast.Identifier | ast.IndexedIdentifier | ast.Expression) -> Qubits:
        """The qubits that an operand names."""
        if isinstance(node, ast.IndexedIdentifier):
            value: Value = self.find(node.name.name)
            for index in node.indices:
                value = self._indexed(value, index)
        else:
            value = self.find(node.name) if isinstance(node, ast.Identifier) else self.value(node)
        if not isinstance(value, Qubits):
            raise BadValue("a qubit is wanted here")
        return value

    def qubit_declaration(self, node: ast.QubitDeclaration) -> None:
        if not self.globally:
            raise self.refuse("qubits are declared globally")
        size = 1 if node.size is None else self.integer(node.size)
        if size < 1:
            raise self.refuse(f"a register of {size} qubits")
        numbers = tuple(self.build.qubits(node.qubit.name, size))
        self.declare(node.qubit.name, Qubits(numbers, node.size is None))

    def alias(self, node: ast.AliasStatement) -> None:
        name = node.target.name
        found = self.value(node.value)
        if isinstance(found, Qubits):
            self.declare(name, found)
            return
        bits = self._bit_places(node.value) if _is_place(node.value) else None
        if bits is None:
            raise self.refuse("an alias of what is no register")
        self.declare(name, Variable(Type("bit", len(bits)), None, 0, bits))

    def _bit_places(self, node: Any) -> tuple[int, ...] | None:
        """The bits of the circuit that an alias names."""
        found = self.value(node)
        if not isinstance(found, Bits):
            return None
        tests = [each.tests for each in found.word if not isinstance(each, bool)]
        bits = tuple(of[0][0] for of in tests)
        own = len(bits) == len(found.word) and self.build.declared(bits)
        return (
            bits
            if own and all(of == ((bit, 1),) for of, bit in zip(tests, bits, strict=True))
            else None
        )

    # --- gates ------------------------------------------------------------------------------------

    def gate_definition(self, node: ast.QuantumGateDefinition) -> None:
        name = node.name.name
        if name in _BUILTIN_GATES:
            raise self.refuse(f"{name} is built in")
        if name in self.defined or (name in self.gates and name in _STDGATES):
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
                self._stand_at(each, _construct(each))
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
            self._stand_at(each, _construct(each))
            self._step()
            if isinstance(each, ast.QuantumGate):
                for gates in self._applied(each):
                    if len(found) + len(gates.gates) > STEPS_MAX:
                        raise self.refuse(f"the gate stands for more than {STEPS_MAX:,} gates")
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
        if self.calls or len(turnings) != 1 or node.name.name not in _ADDITIVE:
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

    # --- measurement, reset, barrier --------------------------------------------------------------

    def measurement(self, node: ast.QuantumMeasurementStatement) -> None:
        if node.target is None:
            self._measured(node.measure)
            return
        variable, places = self._target(node.target)
        qubits = self.operand(node.measure.qubit).numbers
        if variable.bits:
            bits = [variable.bits[each] for each in places]
            if len(bits) != len(qubits):
                raise self.refuse(f"{len(qubits)} qubits are measured into {len(bits)} bits")
            for qubit, bit in zip(qubits, bits, strict=True):
                self.build.add("measure", (qubit,), (), (bit,))
        else:
            self.store(node.target, self._measured(node.measure))

    def _measured(self, node: ast.QuantumMeasurement) -> Bits:
        """Measure into hidden bits."""
        word: Word = []
        for qubit in self.operand(node.qubit).numbers:
            bit = self.build.hidden()
            self.build.add("measure", (qubit,), (), (bit,))
            word += register((bit,)).word
        return Bits(word)

    def reset(self, node: ast.QuantumReset) -> None:
        for qubit in self.operand(node.qubits).numbers:
            self.build.add("reset", (qubit,))

    def barrier(self, node: ast.QuantumBarrier) -> None:
        numbers = dict.fromkeys(n for each in node.qubits for n in self.operand(each).numbers)
        self.build.add("barrier", tuple(numbers))

    # --- classical statements ---------------------------------------------------------------------

    def declaration(self, node: ast.ClassicalDeclaration) -> None:
        type_, name = self.type_of(node.type), node.identifier.name
        start = node.init_expression
        if type_.kind == "bit" and not type_.dims and self.globally:
            bits = tuple(self.build.bits(name, type_.word))
            self.declare(name, Variable(type_, None, 0, bits))
            if isinstance(start, ast.QuantumMeasurement):
                target = ast.Identifier(name)
                self.measurement(ast.QuantumMeasurementStatement(start, target))
            elif start is not None:
                self.store(ast.Identifier(name), self.value(start))
            return
        # What states no value begins as 0, as the language's own examples take for granted.
        value = _empty(type_)
        if start is not None:
            value = self.reckon.steady(self.reckon.coerced(self.value(start), type_))
        self.declare(name, Variable(type_, value, self.build.depth))

    def constant(self, node: ast.ConstantDeclaration) -> None:
        type_ = self.type_of(node.type)
        value = self.reckon.coerced(self.value(node.init_expression), type_)
        plain(value)
        self.declare(node.identifier.name, Variable(type_, value, 0, const=True))

    def in_out(self, node: ast.IODeclaration) -> None:
        name, type_ = node.identifier.name, self.type_of(node.type)
        if node.io_identifier is ast.IOKeyword.output:
            self.outputs.append(name)
            bits = tuple(self.build.bits(name, type_.word)) if type_.kind == "bit" else ()
            self.declare(name, Variable(type_, _empty(type_), 0, bits))
            return
        if name not in self.inputs:
            raise self.refuse(f"input {name} needs a value")
        given = self.inputs[name]
        if not fits(given, type_):
            raise self.refuse(f"input {name} cannot be {given!r}")
        self.asked.add(name)
        value = self.reckon.coerced(given, type_)
        self.declare(name, Variable(type_, value, 0))

    def _target(self, node: ast.Identifier | ast.IndexedIdentifier) -> tuple[Variable, list[int]]:
        """A variable, and which of its bits are written."""
        name = node.name.name if isinstance(node, ast.IndexedIdentifier) else node.name
        variable = self.find(name)
        if not isinstance(variable, Variable) or variable.const:
            raise self.refuse(f"{name} is no variable")
        places = list(range(len(variable.bits) or variable.type.word))
        for index in node.indices if isinstance(node, ast.IndexedIdentifier) else ():
            for each in [index] if isinstance(index, ast.DiscreteSet) else index:
                found = self._places(each, len(places))
                places = [places[n] for n in ([found] if isinstance(found, int) else found)]
        return variable, places

    def assignment(self, node: ast.ClassicalAssignment) -> None:
        value = self.value(node.rvalue)
        if node.op.name != "=":
            value = self.reckon.binary(node.op.name[:-1], self._read(node.lvalue), value)
        self.store(node.lvalue, value)

    def _read(self, node: ast.Identifier | ast.IndexedIdentifier) -> Value:
        if isinstance(node, ast.Identifier):
            return self._named_value(node.name)
        value = self._named_value(node.name.name)
        for index in node.indices:
            value = self._indexed(value, index)
        return value

    def store(self, node: ast.Identifier | ast.IndexedIdentifier, value: Value) -> None:
        """Assign to a variable or a part of it, under the conditions that hold here."""
        reckon, build = self.reckon, self.build
        name = node.name.name if isinstance(node, ast.IndexedIdentifier) else node.name
        variable = self.find(name)
        if isinstance(variable, Variable) and variable.type.dims:
            self._store_in_array(node, variable, value)
            return
        variable, places = self._target(node)
        part = isinstance(node, ast.IndexedIdentifier)
        if variable.bits:
            word = reckon.steady(reckon.coerced(value, Type("bit", len(places)))).word
            for place, truth in zip(places, word, strict=True):
                build.assign(variable.bits[place], truth)
            return
        if part:
            word = reckon.coerced(value, Type("bit", len(places))).word
            old = _empty(variable.type) if variable.value is None else variable.value
            changed = list(reckon.word(old, variable.type.word))
            for place, truth in zip(places, word, strict=True):
                changed[place] = truth
            value = Bits(changed, variable.type.kind)
        new = reckon.coerced(value, variable.type)
        variable.value = reckon.steady(self._merged(variable, new))

    def _merged(self, variable: Variable, new: Value) -> Value:
        """The new value where the conditions hold, else the old one."""
        build = self.build
        if build.depth <= variable.depth or variable.value is None:
            return new
        kind, width = variable.type.kind, variable.type.word
        if kind in ("float", "complex") or (kind == "angle" and variable.type.width is None):
            raise self.refuse(f"a {kind} that depends on a measurement")
        old = variable.value
        words = (self.reckon.word(new, width), self.reckon.word(old, width))
        return self.reckon.coerced(Bits(build.chosen(build.here(), *words), kind), variable.type)

    def _store_in_array(self, node: Any, variable: Variable, value: Value) -> None:
        if self.build.depth > variable.depth:
            raise self.refuse("an array is written where a measurement decides")
        indices = [
            each
            for index in (node.indices if isinstance(node, ast.IndexedIdentifier) else ())
            for each in ([index] if isinstance(index, ast.DiscreteSet) else index)
        ]
        inner = variable.type._replace(dims=variable.type.dims[len(indices) :])
        new = self.reckon.steady(self.reckon.coerced(value, inner))
        if not indices:
            variable.value = new
            return
        target = variable.value
        for each in indices[:-1]:
            target = target[self._place(each, len(target))]
        target[self._place(indices[-1], len(target))] = new

    def expression(self, node: ast.ExpressionStatement) -> None:
        self.value(node.expression)

    # --- control flow -----------------------------------------------------------------------------

    def under(self, truth: Truth, act: Callable[[], None], *, steady: bool = False) -> None:
        """Carry out what is known to happen, leave out what is known not to, guard the rest."""
        if truth is True:
            act()
        elif truth is not False:
            with self.build.where(truth, steady=steady):
                act()

    def block(self, listed: Sequence[ast.Statement]) -> None:
        with self.scope():
            self.statements(listed)

    def branch(self, node: ast.BranchingStatement) -> None:
        truth = self.reckon.truth(self.value(node.condition))
        steady = all(type(each) in _STEADY for each in (*node.if_block, *node.else_block))
        if not steady:
            truth = self.build.fixed(truth)
        self.under(truth, lambda: self.block(node.if_block), steady=steady)
        if node.else_block:
            other = self.build.negation(truth)
            self.under(other, lambda: self.block(node.else_block), steady=steady)

    def switch(self, node: ast.SwitchStatement) -> None:
        target = self.reckon.steady(self.value(node.target))
        left: Truth = True
        for values, body in node.cases:
            same = [
                self.reckon.truth(self.reckon.binary("==", target, self.value(each)))
                for each in values
            ]
            here = self.build.join("or", same)
            both = self.build.fixed(self.build.join("and", (left, here)))
            left = self.build.fixed(self.build.join("and", (left, self.build.negation(here))))
            self.under(both, partial(self.block, body.statements))
        if node.default is not None:
            self.under(left, partial(self.block, node.default.statements))

    def _loop_values(self, node: ast.ForInLoop) -> Sequence[Value]:
        over = node.set_declaration
        if isinstance(over, ast.RangeDefinition):
            values: Sequence[Value] = self._range(over)
        elif isinstance(over, ast.DiscreteSet):
            values = [self.value(each) for each in over.values]
        else:
            found = self.value(over)
            if isinstance(found, Bits) and found.kind == "bit":
                values = [Bits([each]) for each in found.word]
            elif isinstance(found, list):
                values = found
            else:
                raise self.refuse("a loop over what is no set, range, register or array")
        if len(values) > TURNS_MAX:
            raise self.refuse(f"{len(values):,} turns are more than {TURNS_MAX:,}")
        return values

    def loop(self, node: ast.ForInLoop) -> None:
        type_ = self.type_of(node.type)
        for value in self._loop_values(node):
            with self.scope() as names:
                held = self.reckon.coerced(value, type_)
                names[node.identifier.name] = Variable(type_, held, self.build.depth)
                if not self._turn(node.block):
                    return

    def _turn(self, listed: Sequence[ast.Statement]) -> bool:
        """One turn of a loop; False where it was the last."""
        self._step()
        self.loop_frames.append(self.build.depth)
        try:
            self.statements(listed)
        except _Continue:
            pass
        except _Break:
            return False
        finally:
            self.loop_frames.pop()
        return True

    def while_loop(self, node: ast.WhileLoop) -> None:
        turns = 0
        while True:
            self._stand_at(node, "while")
            truth = self.reckon.truth(self.value(node.while_condition))
            if not isinstance(truth, bool):
                why = "how often it turns is known only when it runs, and QVM has no loops"
                raise self.refuse(why)
            if not truth:
                return
            turns += 1
            if turns > TURNS_MAX:
                raise self.refuse(f"it turns more than {TURNS_MAX:,} times")
            with self.scope():
                if not self._turn(node.block):
                    return

    def leave(self, node: ast.BreakStatement | ast.ContinueStatement) -> None:
        if self.build.depth > self.loop_frames[-1]:
            raise self.refuse("a measurement decides whether the loop goes on")
        raise _Break if isinstance(node, ast.BreakStatement) else _Continue

    def end(self, node: ast.EndStatement) -> None:
        if self.build.conditional:
            raise self.refuse("a measurement decides whether the program ends")
        raise _End

    def compound(self, node: ast.CompoundStatement) -> None:
        self.block(node.statements)

    def box(self, node: ast.Box) -> None:
        if node.duration is not None:
            raise self.refuse("QVM has no time for a box to take")
        self.build.add("barrier")
        self.block(node.body)
        self._stand_at(node, "box")
        self.build.add("barrier")

    # --- subroutines ------------------------------------------------------------------------------

    def routine(self, node: ast.SubroutineDefinition) -> None:
        self.routines[node.name.name] = node

    def nothing(self, node: Any) -> None:
        """Declarations that matter only where they are used."""

    def _call(self, node: ast.FunctionCall) -> Value:
        name = node.name.name
        if name not in self.routines:
            values = [self.value(each) for each in node.arguments]
            if name in _BUILT_IN:
                return self.reckon.call(name, values)
            raise BadValue(f"{name} is no function that can be carried out here")
        routine = self.routines[name]
        if len(node.arguments) != len(routine.arguments):
            raise BadValue(f"{name} takes {len(routine.arguments)} arguments")
        if self.calls >= CALLS_MAX:
            raise BadValue(f"subroutines call one another more than {CALLS_MAX} deep")
        given = [
            self._argument(*pair) for pair in zip(routine.arguments, node.arguments, strict=True)
        ]
        at = self.build.at
        self.calls += 1
        self.call_frames.append(self.build.depth)
        try:
            with self.scope(fresh=True) as names:
                names.update(given)
                self.statements(routine.body)
        except _Return as returned:
            if routine.return_type is None or returned.value is None:
                return None
            return self.reckon.coerced(returned.value, self.type_of(routine.return_type))
        finally:
            self.call_frames.pop()
            self.calls -= 1
            self.build.at = at
        return None

    def _argument(self, wanted: Any, node: ast.Expression) -> tuple[str, Any]:
        if isinstance(wanted, ast.QuantumArgument):
            found = self.operand(node)
            if wanted.size is not None and self.integer(wanted.size) != len(found.numbers):
                raise BadValue(f"{wanted.name.name} takes {self.integer(wanted.size)} qubits")
            return wanted.name.name, found
        value = self.value(node)
        if isinstance(wanted.type, ast.ArrayReferenceType):
            if wanted.access is ast.AccessControl.mutable:
                raise BadValue("a subroutine that changes an array of its caller")
            return wanted.name.name, Variable(Type("array"), value, 0, const=True)
        type_ = self.type_of(wanted.type)
        held = self.reckon.steady(self.reckon.coerced(value, type_))
        return wanted.name.name, Variable(type_, held, self.build.depth)

    def returned(self, node: ast.ReturnStatement) -> None:
        if not self.call_frames:
            raise self.refuse("a return outside of a subroutine")
        if self.build.depth > self.call_frames[-1]:
            raise self.refuse("a measurement decides whether the subroutine returns here")
        value = None if node.expression is None else self.value(node.expression)
        raise _Return(self.reckon.steady(value))

    def include(self, node: ast.Include) -> None:
        known = INCLUDES.get(node.filename)
        if known is not None:
            if twice := sorted(self.defined & set(known) & set(_STDGATES)):
                raise self.refuse(f"the gate {twice[0]} is defined already")
            self.gates.update(known)
            return
        path = Path(self.file).parent / node.filename
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self.refuse(f"cannot read {node.filename}: {error}") from error
        outer, self.file = self.file, str(path)
        self.calls += 1
        if self.calls > CALLS_MAX:
            raise self.refuse(f"files include one another more than {CALLS_MAX} deep")
        self.statements(parse(text, self.file).statements)
        self.calls -= 1
        self.file = outer


def _is_place(node: Any) -> bool:
    """Whether the expression names bits, and reckons nothing."""
    if isinstance(node, ast.Concatenation):
        return _is_place(node.lhs) and _is_place(node.rhs)
    if isinstance(node, ast.IndexExpression):
        return _is_place(node.collection)
    return isinstance(node, ast.Identifier)


def _construct(node: ast.QASMNode) -> str:
    if isinstance(node, ast.QuantumGate):
        return str(node.name.name)
    return _CONSTRUCTS.get(type(node), type(node).__name__)


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


def _empty(type_: Type) -> Value:
    if type_.dims:
        inner = type_._replace(dims=type_.dims[1:])
        return [_empty(inner) for _ in range(type_.dims[0])]
    if type_.kind in ("float", "complex") or (type_.kind == "angle" and type_.width is None):
        return 0.0
    return False if type_.kind == "bool" else Bits([False] * type_.word, type_.kind)


class _Refusing(ErrorListener):  # type: ignore[misc]
    """Takes the place of the parser's own listener, which writes to the terminal."""

    def __init__(self, file: str) -> None:
        self.file = file

    def syntaxError(  # noqa: N802
        self, recognizer: Any, symbol: Any, line: int, column: int, message: str, error: Any
    ) -> None:
        construct = "" if symbol is None else repr(symbol.text)
        why = f"this is not OpenQASM 3: {message}"
        raise Unsupported(line, column + 1, construct, why, file=self.file)


def parse(source: str, file: str) -> ast.Program:
    """The syntax tree. Raises Unsupported where the source is no OpenQASM 3."""
    listener = _Refusing(file)
    lexer = qasm3Lexer(InputStream(source))
    stream = CommonTokenStream(lexer)
    parser = qasm3Parser(stream)
    for each in (lexer, parser):
        each.removeErrorListeners()
        each.addErrorListener(listener)
    stream.fill()
    if len(stream.tokens) == 1:
        raise Unsupported(0, 0, "", "it holds no statement", file=file)
    for each in stream.tokens:
        if each.stop - each.start >= TOKEN_MAX:
            why = f"a word or number of more than {TOKEN_MAX:,} characters"
            raise Unsupported(each.line, each.column + 1, "", why, file=file)
    try:
        visitor: Any = QASMNodeVisitor
        program: ast.Program = visitor().visitProgram(parser.program())
    except QASM3ParsingError as error:
        raise _misread(str(error), file) from error
    except RecursionError as error:
        line, column = _deepest(stream.tokens)
        raise Unsupported(line, column, "", "it nests too deep to be read", file=file) from error
    return program


def _deepest(tokens: Sequence[Any]) -> tuple[int, int]:
    """Line and column of the token before which most is open: brackets and their statement."""
    depth = length = most = 0
    place = (0, 0)
    for each in tokens:
        depth += (each.text in ("(", "[", "{")) - (each.text in (")", "]", "}"))
        length = 0 if each.text in (";", "{", "}") else length + 1
        if depth + length > most:
            most, place = depth + length, (each.line, each.column + 1)
    return place


def _misread(message: str, file: str) -> Unsupported:
    """What the visitor refuses, which it writes as `L{line}:C{column}: reason`."""
    place, colon, why = message.partition(": ")
    line, _, column = place.removeprefix("L").partition(":C")
    if colon and line.isdecimal() and column.isdecimal():
        return Unsupported(int(line), int(column) + 1, "", why, file=file)
    return Unsupported(0, 0, "", message or "this is not OpenQASM 3", file=file)


_ADDITIVE: Final = frozenset({
    "rx", "ry", "rz", "p", "phase", "u1", "cp", "cphase", "cu1", "crx", "cry", "crz", "rxx", "ryy",
    "rzz", "rzx",
})  # fmt: skip
"""Gates of one angle of which two in a row are one by the sum."""
_TWICE_ROUND: Final = frozenset({"crx", "cry", "crz"})
"""Those of them that a whole turn changes by more than a global phase."""
_STEADY: Final = frozenset(
    {ast.QuantumGate, ast.QuantumPhase, ast.QuantumReset, ast.QuantumBarrier}
)
"""Statements that surely write no classical bit."""
_TYPES: Final = {
    ast.IntType: "int", ast.UintType: "uint", ast.FloatType: "float", ast.AngleType: "angle",
    ast.BitType: "bit", ast.BoolType: "bool",
}  # fmt: skip
_VISITS: Final[dict[type, Callable[[_Reader, Any], None]]] = {
    ast.QubitDeclaration: _Reader.qubit_declaration,
    ast.AliasStatement: _Reader.alias,
    ast.QuantumGateDefinition: _Reader.gate_definition,
    ast.QuantumGate: _Reader.gate,
    ast.QuantumPhase: _Reader.phase,
    ast.QuantumMeasurementStatement: _Reader.measurement,
    ast.QuantumReset: _Reader.reset,
    ast.QuantumBarrier: _Reader.barrier,
    ast.ClassicalDeclaration: _Reader.declaration,
    ast.ConstantDeclaration: _Reader.constant,
    ast.IODeclaration: _Reader.in_out,
    ast.ClassicalAssignment: _Reader.assignment,
    ast.ExpressionStatement: _Reader.expression,
    ast.BranchingStatement: _Reader.branch,
    ast.SwitchStatement: _Reader.switch,
    ast.ForInLoop: _Reader.loop,
    ast.WhileLoop: _Reader.while_loop,
    ast.BreakStatement: _Reader.leave,
    ast.ContinueStatement: _Reader.leave,
    ast.EndStatement: _Reader.end,
    ast.CompoundStatement: _Reader.compound,
    ast.Box: _Reader.box,
    ast.SubroutineDefinition: _Reader.routine,
    ast.ReturnStatement: _Reader.returned,
    ast.ExternDeclaration: _Reader.nothing,
    ast.Include: _Reader.include,
}
_CONSTRUCTS: Final = {
    ast.QubitDeclaration: "qubit", ast.AliasStatement: "let", ast.QuantumGateDefinition: "gate",
    ast.QuantumPhase: "gphase", ast.QuantumMeasurementStatement: "measure",
    ast.QuantumMeasurement: "measure", ast.QuantumReset: "reset", ast.QuantumBarrier: "barrier",
    ast.ClassicalDeclaration: "declaration", ast.ConstantDeclaration: "const",
    ast.IODeclaration: "input/output", ast.ClassicalAssignment: "assignment",
    ast.ExpressionStatement: "expression", ast.BranchingStatement: "if",
    ast.SwitchStatement: "switch", ast.ForInLoop: "for", ast.WhileLoop: "while",
    ast.BreakStatement: "break", ast.ContinueStatement: "continue", ast.EndStatement: "end",
    ast.Box: "box", ast.SubroutineDefinition: "def", ast.ReturnStatement: "return",
    ast.ExternDeclaration: "extern", ast.Include: "include", ast.DelayInstruction: "delay",
    ast.CalibrationStatement: "cal", ast.CalibrationDefinition: "defcal",
    ast.CalibrationGrammarDeclaration: "defcalgrammar", ast.Pragma: "pragma",
    ast.DurationType: "duration", ast.StretchType: "stretch", ast.DurationLiteral: "a duration",
    ast.DurationOf: "durationof", ast.ArrayReferenceType: "an array reference",
}  # fmt: skip
_REFUSED: Final = {
    ast.DelayInstruction: "QVM has no time to wait for",
    ast.CalibrationStatement: "QVM has logical qubits, which have no pulses",
    ast.CalibrationDefinition: "QVM has logical qubits, which have no pulses",
    ast.CalibrationGrammarDeclaration: "QVM has logical qubits, which have no pulses",
    ast.Pragma: "what it asks for is not known here",
}
