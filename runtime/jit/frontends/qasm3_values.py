"""Values of OpenQASM 3: what expressions yield, and how types hold it.

What is known at compile time is a plain Python number; what waits for a measurement is `Bits`, or
for gate angles `Turning`. Nothing here knows statements; read `qasm3.py` next.
"""

from __future__ import annotations

import cmath
import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from openqasm3 import ast

from runtime.jit.circuit import bit_is
from runtime.jit.frontends.building import Builder, Truth, Word, known, word_of

WIDTH: Final = 32
"""Of an int or uint that states none."""


class Bits(NamedTuple):
    """Truths, the lowest bit first. kind: bit, bool, int, uint or angle."""

    word: Word
    kind: str = "bit"


class Qubits(NamedTuple):
    """Numbers of qubits. single: one qubit, not a register of one."""

    numbers: tuple[int, ...]
    single: bool


class Turning(NamedTuple):
    """An angle that measurements decide: `constant` plus the radians of every term that holds."""

    constant: float
    terms: tuple[tuple[Truth, float], ...]


Number = bool | int | float | complex
Value = Any
"""Number | Bits | Qubits | Turning | str (a duration) | list of values (an array)."""


class Type(NamedTuple):
    """A classical type; dims: of an array."""

    kind: str
    width: int | None = None
    dims: tuple[int, ...] = ()

    @property
    def word(self) -> int:
        return 1 if self.kind in ("bit", "bool") and self.width is None else self.width or WIDTH


class BadValue(Exception):
    """An expression has no value here; the sentence says why."""


CONSTANTS: Final[dict[str, float]] = {
    "pi": math.pi, "π": math.pi, "tau": math.tau, "τ": math.tau, "euler": math.e, "ℇ": math.e,
}  # fmt: skip
FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "arcsin": math.asin, "arccos": math.acos,
    "arctan": math.atan, "exp": math.exp, "log": math.log, "sqrt": math.sqrt, "floor": math.floor,
    "ceiling": math.ceil, "mod": operator.mod, "pow": operator.pow, "real": lambda z: z.real,
    "imag": lambda z: z.imag,
}  # fmt: skip


def plain(value: Value) -> Number:
    """A number that is known now. Raises BadValue."""
    if isinstance(value, bool | int | float | complex):
        return value
    if isinstance(value, Bits):
        number = known(value.word, signed=value.kind == "int")
        if number is None:
            raise BadValue("its value is known only when the program runs")
        if value.kind == "angle":
            return math.tau * number / (1 << len(value.word))
        return bool(number) if value.kind == "bool" else number
    if isinstance(value, Turning):
        raise BadValue("its value is known only when the program runs")
    if value is None:
        raise BadValue("it has no value yet")
    raise BadValue("it is no number")


def whole(value: Value) -> int:
    """An integer that is known now. Raises BadValue."""
    number = plain(value)
    if isinstance(number, complex) or int(number) != number:
        raise BadValue(f"{number} is no integer")
    return int(number)


def real(value: Value) -> float:
    number = plain(value)
    if isinstance(number, complex):
        raise BadValue(f"{number} is not real")
    return float(number)


class Reckoner:
    """Operators on values. Where a value waits for a measurement, hidden bits go into `build`."""

    def __init__(self, build: Builder) -> None:
        self.build = build
        self.division = "whole"

    @contextmanager
    def dividing(self, how: str) -> Iterator[None]:
        """What a quotient of integers with a remainder is inside: `whole`, `real` or `refused`."""
        outer, self.division = self.division, how
        try:
            yield
        finally:
            self.division = outer

    def truth(self, value: Value) -> Truth:
        """Whether the value counts as true."""
        if isinstance(value, Bits):
            return self.build.join("or", value.word)
        return bool(plain(value))

    def word(self, value: Value, width: int) -> Word:
        """The value as bits, wrapped or extended to `width`."""
        if isinstance(value, Bits):
            sign: Truth = value.word[-1] if value.kind == "int" and value.word else False
            return (value.word + [sign] * (width - len(value.word)))[:width]
        return word_of(whole(value), width)

    def coerced(self, value: Value, type_: Type) -> Value:
        """What a variable of the type holds once the value is assigned. Raises BadValue."""
        if type_.dims:
            if not isinstance(value, list) or len(value) != type_.dims[0]:
                raise BadValue(f"an array of {type_.dims[0]} is wanted")
            inner = type_._replace(dims=type_.dims[1:])
            return [self.coerced(each, inner) for each in value]
        kind = type_.kind
        if kind in ("float", "complex"):
            return real(value) if kind == "float" else complex(plain(value))
        if kind == "angle" and not isinstance(value, Bits | Turning):
            return _on_grid(real(value), type_.width)
        if kind == "angle" and isinstance(value, Turning):
            if type_.width is not None:
                raise BadValue("a sum of measured angles is kept only without a width")
            return value
        if kind == "bool":
            return self._known_bool(self.truth(value))
        if kind in ("bit", "angle"):
            width = type_.word
            if isinstance(value, Bits) and len(value.word) != width and value.kind == "bit":
                raise BadValue(f"{len(value.word)} bits do not fit {width}")
            return Bits(self.word(value, width), kind)
        if kind in ("int", "uint"):
            if isinstance(value, float):
                value = int(value)
            word = self.word(value, type_.word)
            number = known(word, signed=kind == "int")
            return Bits(word, kind) if number is None else number
        raise BadValue(f"QVM holds no {kind}")

    def _known_bool(self, truth: Truth) -> Value:
        return truth if isinstance(truth, bool) else Bits([truth], "bool")

    def steady(self, value: Value) -> Value:
        """The same value whatever is written later."""
        if isinstance(value, Bits):
            return value._replace(word=[self.build.fixed(each) for each in value.word])
        if isinstance(value, Turning):
            return value._replace(
                terms=tuple((self.build.fixed(truth), angle) for truth, angle in value.terms)
            )
        return [self.steady(each) for each in value] if isinstance(value, list) else value

    # --- operators --------------------------------------------------------------------------------

    def unary(self, op: str, value: Value) -> Value:
        if op == "!":
            return self._known_bool(self.build.negation(self.truth(value)))
        if op == "~":
            if not isinstance(value, Bits):
                return ~whole(value)
            return value._replace(word=[self.build.negation(each) for each in value.word])
        if (turning := _turning(value)) is not None:
            return _scaled(turning, -1.0)
        if isinstance(value, Bits) and known(value.word) is None:
            zero: Word = [False] * len(value.word)
            return Bits(self.build.difference(zero, value.word), value.kind)
        return -plain(value)

    def binary(self, op: str, left: Value, right: Value) -> Value:
        if op in ("&&", "||"):
            how = "and" if op == "&&" else "or"
            return self._known_bool(self.build.join(how, (self.truth(left), self.truth(right))))
        angles = any(isinstance(v, Bits) and v.kind == "angle" for v in (left, right))
        if _static(left) and _static(right) and not (angles and op in _BITWISE):
            return self._static_binary(op, left, right)
        turned = _turned(op, left, right)
        if turned is not None:
            return turned
        return self._dynamic_binary(op, left, right)

    def _static_binary(self, op: str, left: Value, right: Value) -> Value:
        bits = next((v for v in (left, right) if isinstance(v, Bits) and v.kind == "bit"), None)
        found = _reckoned(op, plain(left), plain(right), self.division)
        if bits is not None and op in ("&", "|", "^", "<<", ">>"):
            return Bits(word_of(whole(found), len(bits.word)))
        return found

    def _dynamic_binary(self, op: str, left: Value, right: Value) -> Value:
        build = self.build
        for side in (left, right):
            if not isinstance(side, Bits | bool | int):
                raise BadValue(f"{op} of a measured value and one that is no integer")
        widths = [len(side.word) for side in (left, right) if isinstance(side, Bits)]
        width = max(widths)
        kinds = [side.kind for side in (left, right) if isinstance(side, Bits)]
        kind = kinds[0]
        if op in ("<<", ">>"):
            by = whole(right)
            zeros: Word = [False] * min(by, width)
            word = self.word(left, width)
            moved = (zeros + word)[:width] if op == "<<" else (word + zeros)[by : by + width]
            return Bits(moved, kind)
        signed = "int" in kinds
        for side in (left, right):
            # A literal may be too large for the bits it is compared with: they then differ.
            if isinstance(side, int):
                width = max(width, side.bit_length() + int(signed or side < 0))
        a, b = self.word(left, width), self.word(right, width)
        if op in ("&", "|", "^"):
            how = {"&": "and", "|": "or", "^": "xor"}[op]
            word = [build.join(how, pair) for pair in zip(a, b, strict=True)]
            return Bits(word[: max(widths)], kind)
        if op in ("+", "-", "*"):
            if kind == "bit":
                raise BadValue(f"bits have no {op}; cast them to a number")
            how_ = {"+": build.sum, "-": build.difference, "*": build.product}[op]
            return Bits(how_(a, b)[: max(widths)], kind)
        tests: dict[str, Callable[[], Truth]] = {
            "==": lambda: build.equal(a, b),
            "!=": lambda: build.negation(build.equal(a, b)),
            "<": lambda: build.below(a, b, signed=signed),
            ">=": lambda: build.negation(build.below(a, b, signed=signed)),
            ">": lambda: build.below(b, a, signed=signed),
            "<=": lambda: build.negation(build.below(b, a, signed=signed)),
        }
        if op not in tests:
            raise BadValue(f"{op} of a measured value")
        return self._known_bool(tests[op]())

    def cast(self, value: Value, type_: Type) -> Value:
        """An explicit cast; between bits and numbers of one width the bits stay."""
        if isinstance(value, Bits) and type_.kind in ("int", "uint", "bit", "angle"):
            if type_.kind == "bit" and type_.word != len(value.word):
                raise BadValue(f"{len(value.word)} bits do not fit {type_.word}")
            width = type_.width or (len(value.word) if type_.kind != "bit" else type_.word)
            word = self.word(value, width)
            number = known(word, signed=type_.kind == "int")
            if number is None or type_.kind in ("bit", "angle"):
                return Bits(word, type_.kind)
            return number
        return self.coerced(value, type_)

    def call(self, name: str, arguments: list[Value]) -> Value:
        """A built-in function."""
        build = self.build
        wanted = {"popcount": 1, "rotl": 2, "rotr": 2}.get(name)
        if wanted is not None:
            if len(arguments) != wanted or not isinstance(arguments[0], Bits):
                raise BadValue(f"{name} takes {wanted} arguments, the first made of bits")
            bits = arguments[0]
        if name == "popcount":
            width = len(bits.word).bit_length()
            total: Word = [False] * width
            for each in bits.word:
                total = build.sum(total, [each] + [False] * (width - 1))
            number = known(total)
            return Bits(total, "uint") if number is None else number
        if name in ("rotl", "rotr"):
            by = whole(arguments[1])
            by = (-by if name == "rotl" else by) % len(bits.word)
            return bits._replace(word=bits.word[by:] + bits.word[:by])
        numbers = [plain(each) for each in arguments]
        try:
            if any(isinstance(each, complex) for each in numbers) and hasattr(cmath, name):
                return getattr(cmath, name)(*numbers)
            return FUNCTIONS[name](*numbers)
        except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
            raise BadValue(f"{name} has no value here: {error}") from error


def _static(value: Value) -> bool:
    if isinstance(value, Turning):
        return False
    return not isinstance(value, Bits) or known(value.word) is not None


_BITWISE: Final = ("<<", ">>", "&", "|", "^")
_OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "**": operator.pow, "%": operator.mod,
    "&": operator.and_, "|": operator.or_, "^": operator.xor, "<<": operator.lshift,
    ">>": operator.rshift, "==": operator.eq, "!=": operator.ne, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def _reckoned(op: str, left: Number, right: Number, division: str) -> Number:
    try:
        if op == "/":
            if isinstance(left, int) and isinstance(right, int) and division != "real":
                if left % right and division == "refused":
                    why = f"{left}/{right} is a quotient of integers; write {left}.0/{right}"
                    raise BadValue(why)
                quotient = abs(left) // abs(right)
                return quotient if (left < 0) == (right < 0) else -quotient
            return left / right
        if op in ("**", "<<") and isinstance(right, int) and abs(right) > 4096:
            raise BadValue(f"{op} by {right} is too large")
        found: Number = _OPERATORS[op](left, right)
        return found
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise BadValue(f"{op} has no value here: {error}") from error


def _on_grid(radians: float, width: int | None) -> Value:
    """The nearest angle that so many bits hold, as those bits."""
    if width is None:
        return radians
    steps = 1 << width
    return Bits(word_of(round(radians / math.tau * steps) % steps, width), "angle")


def _turning(value: Value) -> Turning | None:
    """A measured angle as a sum; None for whatever is no measured angle."""
    if isinstance(value, Turning):
        return value
    if isinstance(value, Bits) and value.kind == "angle" and known(value.word) is None:
        steps = 1 << len(value.word)
        terms = tuple((bit, math.tau * (1 << at) / steps) for at, bit in enumerate(value.word))
        return Turning(0.0, tuple(term for term in terms if term[0] is not False))
    return None


def _scaled(turning: Turning, factor: float) -> Turning:
    terms = tuple((truth, radians * factor) for truth, radians in turning.terms)
    return Turning(turning.constant * factor, terms)


def _turned(op: str, left: Value, right: Value) -> Turning | None:
    """Sums of measured angles, and their multiples by known numbers; None for anything else."""
    one, other = _turning(left), _turning(right)
    if op in ("+", "-") and (one is not None or other is not None):
        one = one if one is not None else Turning(real(left), ())
        other = other if other is not None else Turning(real(right), ())
        other = _scaled(other, -1.0) if op == "-" else other
        return Turning(one.constant + other.constant, one.terms + other.terms)
    if op == "*" and one is not None and _static(right):
        return _scaled(one, real(right))
    if op == "*" and other is not None and _static(left):
        return _scaled(other, real(left))
    if op == "/" and one is not None and _static(right):
        return _scaled(one, 1 / real(right))
    return None


turning_of = _turning
"""A measured angle as a sum; None for whatever is no measured angle."""


def register(bits: tuple[int, ...]) -> Bits:
    """What bits of the circuit hold now."""
    return Bits([bit_is(bit) for bit in bits])


def literal(node: ast.Expression) -> Value:
    """The value of a literal; None where the node is none."""
    if isinstance(node, ast.IntegerLiteral | ast.FloatLiteral | ast.BooleanLiteral):
        return node.value
    if isinstance(node, ast.BitstringLiteral):
        return Bits(word_of(node.value, node.width))
    if isinstance(node, ast.ImaginaryLiteral):
        return complex(0, node.value)
    return None
