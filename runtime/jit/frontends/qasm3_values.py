"""Values of OpenQASM 3: what expressions yield, and how types hold it.

Literals and what has no width are plain Python numbers. What has a width is `Bits`, known or
waiting for a measurement, and wraps; measured gate angles may also be `Turning`. Operands of two
types meet by the rules of C. Nothing here knows statements; read `qasm3.py` next.
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
from runtime.jit.frontends.building import COMPARISONS, Builder, Truth, Word, known, word_of

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
    """An angle that measurements decide: `constant` plus the radians of every term that holds.

    wraps: the angle is meant modulo a whole turn, which the sum has not been reduced by.
    """

    constant: float
    terms: tuple[tuple[Truth, float], ...]
    wraps: bool = False


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


def fits(given: Any, type_: Type) -> bool:
    """Whether a value from outside can be held as it is, neither rounded nor wrapped."""
    if type_.dims:
        return isinstance(given, list) and all(
            fits(each, type_._replace(dims=type_.dims[1:])) for each in given
        )
    if type_.kind not in ("bit", "bool", "int", "uint"):
        return True
    if not isinstance(given, int | float) or given != given // 1:
        return False
    low, high = 0, 1 << type_.word
    if type_.kind == "int":
        low, high = -high // 2, high // 2
    return low <= given < high


class BadValue(Exception):
    """An expression has no value here; the sentence says why."""


CONSTANTS: Final[dict[str, float]] = {
    "pi": math.pi, "π": math.pi, "tau": math.tau, "τ": math.tau, "euler": math.e, "ℇ": math.e,
}  # fmt: skip
INTEGER_MAX: Final = 1 << 13
"""Bits of an integer without a width."""


def remainder(left: Any, right: Any) -> Any:
    """What truncated division leaves: it has the sign of `left`, as in C."""
    if isinstance(left, int) and isinstance(right, int):
        return abs(left) % abs(right) * (-1 if left < 0 else 1)
    return math.fmod(left, right)


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "arcsin": math.asin, "arccos": math.acos,
    "arctan": math.atan, "exp": math.exp, "log": math.log, "sqrt": math.sqrt, "floor": math.floor,
    "ceiling": math.ceil, "mod": remainder, "pow": operator.pow, "real": lambda z: z.real,
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
    if isinstance(number, complex) or not math.isfinite(number) or int(number) != number:
        raise BadValue(f"{number} is no integer")
    return int(number)


def real(value: Value) -> float:
    number = plain(value)
    if isinstance(number, complex):
        raise BadValue(f"{number} is not real")
    try:
        found = float(number)
    except OverflowError as error:
        raise BadValue("it is too large for a float") from error
    _finite(found)
    return found


def _finite(number: Any) -> Any:
    """The number. Raises BadValue where it is infinite, none, or an integer beyond all reason."""
    if isinstance(number, int):
        if number.bit_length() > INTEGER_MAX:
            raise BadValue(f"an integer of more than {INTEGER_MAX:,} bits")
    elif not cmath.isfinite(number):
        raise BadValue(f"{number} is no finite number")
    return number


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

    def truth_value(self, value: Value) -> Value:
        """Whether the value counts as true, as a bool of the language."""
        return self._known_bool(self.truth(value))

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
        if kind == "angle":
            return self._as_angle(value, type_.width)
        if kind == "bool":
            return self.truth_value(value)
        if kind == "bit":
            width = type_.word
            if isinstance(value, Bits) and len(value.word) != width and value.kind == "bit":
                raise BadValue(f"{len(value.word)} bits do not fit {width}")
            return Bits(self.word(value, width), kind)
        if kind in ("int", "uint"):
            if isinstance(value, float):
                value = int(_finite(value))
            if isinstance(value, Bits) and value.kind == "angle" and len(value.word) != type_.word:
                raise BadValue(f"an angle of {len(value.word)} bits is no {kind}")
            return Bits(self.word(value, type_.word), kind)
        raise BadValue(f"QVM holds no {kind}")

    def _as_angle(self, value: Value, width: int | None) -> Value:
        """As an angle of so many bits, or of any precision. Raises BadValue."""
        if isinstance(value, Turning):
            if width is not None:
                raise BadValue("a sum of measured angles is kept only without a width")
            return value
        if not isinstance(value, Bits) or (value.kind in ("int", "uint") and _static(value)):
            return _on_grid(real(value), width)
        if value.kind == "angle":
            if width is not None:
                return _resized(value, width)
            turning = turning_of(value)
            return plain(value) if turning is None else turning
        if value.kind != "bit":
            raise BadValue(f"a measured {value.kind} is no angle; cast it to bits first")
        if len(value.word) != (width or WIDTH):
            raise BadValue(f"{len(value.word)} bits do not fit {width or WIDTH}")
        return Bits(value.word, "angle")

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
        if (turning := turning_of(value)) is not None:
            return _scaled(turning, -1.0)._replace(wraps=turning.wraps or isinstance(value, Bits))
        if isinstance(value, Bits):
            if value.kind in ("bit", "bool"):
                raise BadValue(f"a {value.kind} has no -; cast it to a number")
            zero: Word = [False] * len(value.word)
            return Bits(self.build.difference(zero, value.word), value.kind)
        return -plain(value)

    def binary(self, op: str, left: Value, right: Value) -> Value:
        if op in ("&&", "||"):
            how = "and" if op == "&&" else "or"
            return self._known_bool(self.build.join(how, (self.truth(left), self.truth(right))))
        if op in ("<<", ">>") and isinstance(left, Bits):
            return _shifted(op, left, whole(right))
        if op not in _BITWISE and (_sized_angle(left) or _sized_angle(right)):
            return self._angle_binary(op, left, right)
        if _static(left) and _static(right):
            return self._static_binary(op, left, right)
        turned = _turned(op, left, right)
        if turned is not None:
            return turned
        return self._dynamic_binary(op, left, right)

    def _static_binary(self, op: str, left: Value, right: Value) -> Value:
        widths = [len(v.word) for v in (left, right) if isinstance(v, Bits)]
        integers = all(isinstance(v, Bits | int) for v in (left, right))
        if not widths or not integers or op in ("<<", ">>", "**"):
            found = _reckoned(op, plain(left), plain(right), self.division)
            if op == "**" and isinstance(left, Bits) and isinstance(found, int):
                return Bits(word_of(found, len(left.word)), left.kind)
            return found
        kind, width = _common(left, right)
        self._refuse_mixed(op, kind, left, right)
        numbers = [
            known(self.word(v, width), signed=kind == "int") if isinstance(v, Bits) else v
            for v in (left, right)
        ]
        one, other = (0 if number is None else number for number in numbers)
        found = _reckoned(op, one, other, self.division)
        if isinstance(found, bool) and op not in _BITWISE:
            return found
        if op not in _BITWISE and kind == "bit":
            return found
        return Bits(word_of(found, width), kind) if isinstance(found, int) else found

    def _refuse_mixed(self, op: str, kind: str, left: Value, right: Value) -> None:
        """Where a negative literal would silently become a large unsigned number."""
        negative = any(isinstance(v, int) and v < 0 for v in (left, right))
        if negative and kind != "int" and op not in ("+", "-", "*", *_BITWISE):
            raise BadValue(f"{op} of an unsigned value and a negative number")

    def _angle_binary(self, op: str, left: Value, right: Value) -> Value:
        """Of an angle with a width, which is a whole number of steps modulo a turn."""
        if op in ("*", "/"):
            return self._angle_times(op, left, right)
        if op in ("%", "**"):
            raise BadValue(f"an angle has no {op}")
        if isinstance(left, Turning) or isinstance(right, Turning):
            turned = _turned(op, left, right)
            if turned is None:
                raise BadValue(f"{op} of a sum of measured angles")
            return turned._replace(wraps=True)
        width = max(len(v.word) for v in (left, right) if _sized_angle(v))
        one, other = (_on_steps(v, width) for v in (left, right))
        if _static(one) and _static(other) and op in ("+", "-"):
            how = self.build.sum if op == "+" else self.build.difference
            return Bits(how(one.word, other.word), "angle")
        if op in ("+", "-"):
            turned = _turned(op, one, other)
            assert turned is not None, "one of them is measured"
            return turned._replace(wraps=True)
        return self._dynamic_binary(op, one, other)

    def _angle_times(self, op: str, left: Value, right: Value) -> Value:
        by, turned = (left, right) if op == "*" and not _sized_angle(left) else (right, left)
        if not _sized_angle(turned) or _sized_angle(by) or not _static(by):
            raise BadValue(f"an angle has {op} with numbers only that are known")
        factor = plain(by)
        if isinstance(factor, int) and op == "/":
            if factor <= 0 or factor & (factor - 1):
                raise BadValue("an angle with a width is divided by powers of two only")
            places = factor.bit_length() - 1
            if any(each is not False for each in turned.word[:places]):
                raise BadValue(f"divided by {factor} it may lie between the angles of its width")
            return _shifted(">>", turned, places)
        if (turning := turning_of(turned)) is not None:
            found = _turned(op, turning, factor)
            assert found is not None, "one of them is measured"
            return found._replace(wraps=isinstance(factor, int))
        if isinstance(factor, int):
            number = known(turned.word) or 0
            return turned._replace(word=word_of(number * factor, len(turned.word)))
        return _reckoned(op, plain(turned), factor, self.division)

    def _dynamic_binary(self, op: str, left: Value, right: Value) -> Value:
        build = self.build
        for side in (left, right):
            if not isinstance(side, Bits | bool | int):
                raise BadValue(f"{op} of a measured value and one that is no integer")
        if op in ("<<", ">>"):
            raise BadValue(f"{op} by a measured number")
        kind, held = _common(left, right)
        self._refuse_mixed(op, kind, left, right)
        signed, width = kind == "int", held
        for side in (left, right):
            # A literal may be too large for the bits it is compared with: they then differ.
            if isinstance(side, int):
                width = max(width, side.bit_length() + int(signed or side < 0))
        a, b = self._extended(left, held, kind, width), self._extended(right, held, kind, width)
        if op in ("&", "|", "^"):
            how = {"&": "and", "|": "or", "^": "xor"}[op]
            word = [build.join(how, pair) for pair in zip(a, b, strict=True)]
            return Bits(word[:held], kind)
        if op in ("+", "-", "*"):
            if kind in ("bit", "bool"):
                raise BadValue(f"bits have no {op}; cast them to a number")
            how_ = {"+": build.sum, "-": build.difference, "*": build.product}[op]
            return Bits(how_(a[:held], b[:held]), kind)
        if op not in COMPARISONS:
            raise BadValue(f"{op} of a measured value")
        return self._known_bool(build.compared(op, a, b, signed=signed))

    def _extended(self, value: Value, held: int, kind: str, width: int) -> Word:
        """The operand as the common type has it, and that as so many bits."""
        if not isinstance(value, Bits):
            return word_of(value, width)
        return self.word(Bits(self.word(value, held), kind), width)

    def cast(self, value: Value, type_: Type) -> Value:
        """An explicit cast; between bits and numbers of one width the bits stay."""
        if isinstance(value, Bits) and type_.kind in ("int", "uint", "bit", "angle"):
            if type_.kind == "bit" and type_.word != len(value.word):
                raise BadValue(f"{len(value.word)} bits do not fit {type_.word}")
            if value.kind in ("bit", "angle") and type_.width is None and type_.kind != "bit":
                type_ = type_._replace(width=len(value.word))
            if value.kind == "angle" and type_.kind == "bit":
                return Bits(value.word)
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
            return Bits(total, "uint")
        if name in ("rotl", "rotr"):
            by = whole(arguments[1])
            by = (-by if name == "rotl" else by) % len(bits.word)
            return bits._replace(word=bits.word[by:] + bits.word[:by])
        numbers = [plain(each) for each in arguments]
        try:
            if any(isinstance(each, complex) for each in numbers) and hasattr(cmath, name):
                return _finite(getattr(cmath, name)(*numbers))
            return _finite(FUNCTIONS[name](*numbers))
        except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
            raise BadValue(f"{name} has no value here: {error}") from error


def _static(value: Value) -> bool:
    if isinstance(value, Turning):
        return False
    return not isinstance(value, Bits) or known(value.word) is not None


_BITWISE: Final = ("<<", ">>", "&", "|", "^")
_OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "**": operator.pow, "%": remainder,
    "&": operator.and_, "|": operator.or_, "^": operator.xor, "<<": operator.lshift,
    ">>": operator.rshift, "==": operator.eq, "!=": operator.ne, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def _reckoned(op: str, left: Number, right: Number, division: str) -> Any:
    try:
        if op == "/":
            if isinstance(left, int) and isinstance(right, int) and division != "real":
                if left % right and division == "refused":
                    why = f"{left}/{right} is a quotient of integers; write {left}.0/{right}"
                    raise BadValue(why)
                quotient = abs(left) // abs(right)
                return quotient if (left < 0) == (right < 0) else -quotient
            return _finite(left / right)
        if op in ("**", "<<") and isinstance(right, int) and abs(right) > 4096:
            raise BadValue(f"{op} by {right} is too large")
        return _finite(_OPERATORS[op](left, right))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise BadValue(f"{op} has no value here: {error}") from error


def _common(left: Value, right: Value) -> tuple[str, int]:
    """The kind and width in which two operands meet, as in C; literals take what they are given.

    The wider one decides, and of equally wide ones the unsigned one.
    """
    sides = [each for each in (left, right) if isinstance(each, Bits)]
    width = max(len(each.word) for each in sides)
    kinds = {each.kind for each in sides}
    if len(kinds) == 1:
        return kinds.pop(), width
    if kinds <= {"bit", "bool"}:
        return "bit", width
    unsigned = max((len(each.word) for each in sides if each.kind != "int"), default=0)
    return ("uint" if unsigned == width else "int"), width


def _shifted(op: str, value: Bits, by: int) -> Bits:
    """By at least the width nothing is left but zeros, or copies of an int's sign."""
    if by < 0:
        raise BadValue(f"{op} by {by}")
    width = len(value.word)
    by = min(by, width)
    if op == "<<":
        return value._replace(word=[*[False] * by, *value.word][:width])
    fill: Truth = value.word[-1] if value.kind == "int" else False
    return value._replace(word=[*value.word[by:], *[fill] * by])


def _sized_angle(value: Value) -> bool:
    return isinstance(value, Bits) and value.kind == "angle"


def _resized(value: Bits, width: int) -> Bits:
    """The same angle in another width: its highest bit stays half a turn. Raises BadValue."""
    more = width - len(value.word)
    if any(each is not False for each in value.word[: max(0, -more)]):
        raise BadValue(f"an angle of {len(value.word)} bits is cut to {width}")
    return value._replace(word=[*[False] * more, *value.word[max(0, -more) :]])


def _on_steps(value: Value, width: int) -> Bits:
    """An operand beside an angle of so many bits. Raises BadValue where they cannot hold it."""
    if isinstance(value, Bits):
        if value.kind != "angle":
            raise BadValue(f"an angle and a {value.kind}; cast one of them")
        return _resized(value, width)
    radians = real(value)
    steps = radians / math.tau * (1 << width)
    if abs(steps - round(steps)) > 1e-6:
        raise BadValue(f"{radians:.6g} is between the angles that {width} bits hold")
    return Bits(word_of(round(steps) % (1 << width), width), "angle")


def _on_grid(radians: float, width: int | None) -> Value:
    """The nearest angle that so many bits hold, as those bits."""
    if width is None:
        return radians
    steps = 1 << width
    return Bits(word_of(round(radians / math.tau * steps) % steps, width), "angle")


def turning_of(value: Value) -> Turning | None:
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
    return Turning(_finite(turning.constant * factor), terms, turning.wraps)


def _turned(op: str, left: Value, right: Value) -> Turning | None:
    """Sums of measured angles, and their multiples by known numbers; None for anything else."""
    one, other = turning_of(left), turning_of(right)
    if op in ("+", "-") and (one is not None or other is not None):
        one = one if one is not None else Turning(real(left), ())
        other = other if other is not None else Turning(real(right), ())
        other = _scaled(other, -1.0) if op == "-" else other
        whole_ = one.constant + other.constant
        return Turning(whole_, one.terms + other.terms, one.wraps or other.wraps)
    turning, by = (other, left) if one is None else (one, right)
    if op not in ("*", "/") or turning is None or not _static(by) or (op == "/" and one is None):
        return None
    if turning.wraps and (op == "/" or not isinstance(plain(by), int)):
        raise BadValue("a broken multiple of an angle that is known but for whole turns")
    return _scaled(turning, _reckoned("/", 1.0, real(by), "real") if op == "/" else real(by))


def register(bits: tuple[int, ...]) -> Bits:
    """What bits of the circuit hold now."""
    return Bits([bit_is(bit) for bit in bits])


def literal(node: ast.Expression) -> Value:
    """The value of a literal; None where the node is none."""
    if isinstance(node, ast.IntegerLiteral | ast.FloatLiteral):
        return _finite(node.value)
    if isinstance(node, ast.BooleanLiteral):
        return node.value
    if isinstance(node, ast.BitstringLiteral):
        return Bits(word_of(node.value, node.width))
    if isinstance(node, ast.ImaginaryLiteral):
        return complex(0, node.value)
    return None
