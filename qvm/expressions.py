"""The assembler's arithmetic: whole numbers, real numbers and text, with the variables in scope.

A small precedence-climbing parser, bounded in depth and in the size of its numbers; nothing is ever
evaluated as code. It reads a prefix of a line and says where it stopped, so that `assemble.py` can
go on from there. Truth is 1 and 0. From loosest to tightest:

    ||   &&   == != < <= > >=   + -   * / // %   unary - + !   **
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Final

Value = int | float | str

DEPTH_MAX: Final = 64
WHOLE_MAX: Final = 1 << 64  # a whole number beyond this is an error, not a long computation
POWER_MAX: Final = 64

assert 2**POWER_MAX <= WHOLE_MAX

_TOKEN: Final = re.compile(
    r"[ \t]*(?:"
    r"(?P<real>(?:[0-9]+\.(?!\.)[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+)"
    r"|(?P<whole>[0-9]+)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r'|(?P<text>"[^"\\\n]*")'
    r"|(?P<mark>\|\||&&|==|!=|<=|>=|\*\*|//|[-+*/%()<>!])"
    r")"
)


class ExpressionError(ValueError):
    """The text is no expression, or has no value. column: where, counted from 0."""

    def __init__(self, column: int, message: str) -> None:
        super().__init__(message)
        self.column = column
        self.message = message


def evaluate(
    text: str, start: int, names: Mapping[str, Value], *, conjunctions: bool = True
) -> tuple[Value, int]:
    """The value of the longest expression at `start`, and the column after it.

    conjunctions: False stops before `&&`, `||` and comparisons, which then belong to the caller.
    Raises `ExpressionError`.
    """
    reader = _Reader(text, start, names)
    value = reader.expression(0 if conjunctions else _LEVELS["+"], 0)
    return value, reader.column


def _power(left: float, right: float) -> float:
    if abs(right) > POWER_MAX:
        raise ArithmeticError(f"a power has an exponent of at most {POWER_MAX}")
    found = operator.pow(left, right)
    if not isinstance(found, int | float):
        raise ArithmeticError("the power is not a real number")
    return found


_LEVELS: Final[dict[str, int]] = {
    "||": 1,
    "&&": 2,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "//", "%"), 5),
    "**": 7,
}
_UNARY_LEVEL: Final = 6
_COMPARE: Final[dict[str, Callable[[Value, Value], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
}
_ARITHMETIC: Final[dict[str, Callable[..., Value]]] = {
    "||": lambda left, right: int(bool(left) or bool(right)),
    "&&": lambda left, right: int(bool(left) and bool(right)),
    "<": lambda left, right: int(left < right),
    "<=": lambda left, right: int(left <= right),
    ">": lambda left, right: int(left > right),
    ">=": lambda left, right: int(left >= right),
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": _power,
}
assert set(_LEVELS) == set(_ARITHMETIC) | set(_COMPARE)


class _Reader:
    """Reads from left to right. column: the end of what belongs to the expression so far."""

    def __init__(self, text: str, start: int, names: Mapping[str, Value]) -> None:
        self._text = text
        self._names = names
        self.column = start

    def expression(self, level: int, depth: int) -> Value:
        """An expression all of whose operators bind tighter than `level`."""
        if depth > DEPTH_MAX:
            raise self._error(f"an expression nests at most {DEPTH_MAX} deep")
        value = self._operand(depth)
        while True:
            mark = self._peek_mark()
            found = _LEVELS.get(mark, -1)
            if found < max(level, 1):
                return value
            at = self._after_blank()
            self._skip(mark)
            # Powers group to the right: -2 ** 3 ** 2 is -(2 ** (3 ** 2)).
            right = self.expression(found if mark == "**" else found + 1, depth + 1)
            value = self._apply(mark, value, right, at)

    def _operand(self, depth: int) -> Value:
        match = _TOKEN.match(self._text, self.column)
        at = self._after_blank()
        if match is None:
            raise ExpressionError(at, "a value was expected here")
        if match["mark"]:
            return self._marked(match["mark"], at, depth)
        self.column = match.end()
        if match["name"]:
            return self._named(match["name"], at)
        if match["text"]:
            return match["text"][1:-1]
        if match["real"]:
            return self._bounded(float(match["real"]), at)
        if len(match["whole"]) > len(str(WHOLE_MAX)):
            raise ExpressionError(at, "the number is too large")
        return self._bounded(int(match["whole"]), at)

    def _marked(self, mark: str, at: int, depth: int) -> Value:
        if mark not in ("(", "-", "+", "!"):
            raise ExpressionError(at, f"a value was expected before {mark!r}")
        self._skip(mark)
        if mark == "(":
            value = self.expression(0, depth + 1)
            if self._peek_mark() != ")":
                raise self._error("a closing parenthesis was expected here")
            self._skip(")")
            return value
        value = self.expression(_UNARY_LEVEL + 1, depth + 1)
        if mark == "!":
            return int(not value)
        return self._apply(mark, 0 if isinstance(value, int) else -0.0, value, at)

    def _named(self, name: str, at: int) -> Value:
        if name in self._names:
            return self._names[name]
        if name == "pi":
            return math.pi
        known = ", ".join([*self._names, "pi"])
        raise ExpressionError(at, f"no value is named {name!r} here; there are {known}")

    def _apply(self, mark: str, left: Value, right: Value, at: int) -> Value:
        if mark in _COMPARE:
            return int(_COMPARE[mark](left, right))
        if isinstance(left, str) or isinstance(right, str):
            raise ExpressionError(at, f"text cannot stand beside {mark!r}; only == and != take it")
        try:
            return self._bounded(_ARITHMETIC[mark](left, right), at)
        except ZeroDivisionError:
            raise ExpressionError(at, "this divides by zero") from None
        except OverflowError:
            raise ExpressionError(at, "the number is too large") from None
        except ArithmeticError as error:
            raise ExpressionError(at, str(error)) from None

    def _bounded(self, value: Value, at: int) -> Value:
        if isinstance(value, int) and abs(value) > WHOLE_MAX:
            raise ExpressionError(at, "the number is too large")
        if isinstance(value, float) and not math.isfinite(value):
            raise ExpressionError(at, "the number is too large")
        return value

    def _peek_mark(self) -> str:
        match = _TOKEN.match(self._text, self.column)
        return match["mark"] or "" if match else ""

    def _skip(self, mark: str) -> None:
        at = self._after_blank()
        assert self._text.startswith(mark, at), "a mark is skipped where it was seen"
        self.column = at + len(mark)

    def _after_blank(self) -> int:
        rest = self._text[self.column :]
        return self.column + len(rest) - len(rest.lstrip(" \t"))

    def _error(self, message: str) -> ExpressionError:
        return ExpressionError(self._after_blank(), message)
