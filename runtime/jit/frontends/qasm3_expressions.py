"""Names, types and expressions of OpenQASM 3, and where in the source they stand.

What an expression yields is one of the values of `qasm3_values.py`, or qubits. Measurements and
calls, which have effects, are left to whoever carries out statements: `qasm3.py`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from openqasm3 import ast

from runtime.jit.circuit import Position, Unsupported
from runtime.jit.frontends.building import BITS_MAX, Builder, Truth
from runtime.jit.frontends.qasm3_syntax import CONSTRUCTS
from runtime.jit.frontends.qasm3_values import (
    CONSTANTS,
    BadValue,
    Bits,
    Qubits,
    Reckoner,
    Type,
    Value,
    literal,
    register,
    whole,
)

TURNS_MAX: Final = 1_000_000
"""Of one loop."""
STEPS_MAX: Final = 4_000_000
"""Statements and turns of loops that are carried out, and gates that one gate stands for."""
WIDTH_MAX: Final = 512
"""Of a number or an angle."""

_TYPES: Final = {
    ast.IntType: "int", ast.UintType: "uint", ast.FloatType: "float", ast.AngleType: "angle",
    ast.BitType: "bit", ast.BoolType: "bool",
}  # fmt: skip


class Variable:
    """A name's value. bits: of the circuit, where it is a register that is read at the end."""

    def __init__(
        self, type_: Type, value: Value, depth: int, bits: tuple[int, ...] = (), const: bool = False
    ) -> None:
        self.type, self.value, self.depth, self.bits, self.const = type_, value, depth, bits, const


class Expressions(ABC):
    """What has been declared and built so far, and what expressions say of it."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.build = Builder(file)
        self.reckon = Reckoner(self.build)
        self.scopes: list[dict[str, Any]] = [{}]
        self.physical: dict[str, Qubits] = {}
        self.steps = 0

    @abstractmethod
    def measured(self, node: ast.QuantumMeasurement) -> Bits:
        """Measure into hidden bits."""

    @abstractmethod
    def called(self, node: ast.FunctionCall) -> Value:
        """Carry out a subroutine or a function of the language."""

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

    def _need_room(self, gates: int) -> None:
        if gates > STEPS_MAX:
            raise self.refuse(f"the gate stands for more than {STEPS_MAX:,} gates")

    def under(self, truth: Truth, act: Callable[[], None], *, steady: bool = False) -> None:
        """Carry out what is known to happen, leave out what is known not to, guard the rest."""
        if truth is True:
            act()
        elif truth is not False:
            with self.build.where(truth, steady=steady):
                act()

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
            raise self.refuse(f"QVM has nothing like {CONSTRUCTS.get(type(node), 'this type')}")
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
            return self.called(node)
        if isinstance(node, ast.Concatenation):
            return self._concatenated(self.value(node.lhs), self.value(node.rhs))
        if isinstance(node, ast.ArrayLiteral):
            return [self.value(each) for each in node.values]
        if isinstance(node, ast.QuantumMeasurement):
            return self.measured(node)
        if isinstance(node, ast.SizeOf):
            return self._size_of(node)
        raise BadValue(f"{CONSTRUCTS.get(type(node), type(node).__name__)} has no value in QVM")

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
