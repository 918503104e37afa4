"""What LLVM's classical instructions compute, on Python numbers; for `qir.py`.

Integers are kept unsigned, below 2^width. A value that LLVM leaves undefined (a division by zero, a
shift by the width or more) is None, and so is all that is computed from it. Meanings after the LLVM
Language Reference Manual, https://llvm.org/docs/LangRef.html.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final

Number = int | float


def signed(value: int, width: int) -> int:
    """Two's complement."""
    return value - (1 << width) if value >> (width - 1) else value


def _truncating(a: int, b: int) -> int:
    """Division towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _signed(function: Callable[[int, int], Any]) -> Callable[[int, int, int], Any]:
    return lambda a, b, width: function(signed(a, width), signed(b, width))


def _unsigned(function: Callable[[int, int], Any]) -> Callable[[int, int, int], Any]:
    return lambda a, b, width: function(a, b)


def _shift(function: Callable[[int, int], int]) -> Callable[[int, int, int], int | None]:
    return lambda a, b, width: function(a, b) if b < width else None


INTEGER: Final[dict[str, Callable[[int, int, int], int | None]]] = {
    "ADD": _unsigned(operator.add),
    "SUB": _unsigned(operator.sub),
    "MUL": _unsigned(operator.mul),
    "AND": _unsigned(operator.and_),
    "OR": _unsigned(operator.or_),
    "XOR": _unsigned(operator.xor),
    "SHL": _shift(operator.lshift),
    "LSHR": _shift(operator.rshift),
    "ASHR": lambda a, b, width: signed(a, width) >> b if b < width else None,
    "UDIV": lambda a, b, width: a // b if b else None,
    "UREM": lambda a, b, width: a % b if b else None,
    "SDIV": lambda a, b, width: _signed(_truncating)(a, b, width) if b else None,
    "SREM": lambda a, b, width: (
        _signed(lambda x, y: x - y * _truncating(x, y))(a, b, width) if b else None
    ),
}
"""By opcode: of two values and their width, the result before it is cut to the width."""


def _finite(function: Callable[[float, float], float]) -> Callable[[float, float], float | None]:
    """Infinities and what is no number count as undefined here: no program needs them."""

    def computed(a: float, b: float) -> float | None:
        try:
            value = function(a, b)
        except (ArithmeticError, ValueError):
            return None
        return value if math.isfinite(value) else None

    return computed


def _whole(value: float, least: int, end: int) -> int | None:
    """Towards zero; undefined where the type cannot hold it."""
    if not math.isfinite(value):
        return None
    return found if least <= (found := math.trunc(value)) < end else None


FLOAT: Final[dict[str, Callable[[float, float], float | None]]] = {
    "FADD": _finite(operator.add),
    "FSUB": _finite(operator.sub),
    "FMUL": _finite(operator.mul),
    "FDIV": _finite(operator.truediv),
    "FREM": _finite(math.fmod),
}

COMPARE: Final[dict[str, Callable[[int, int, int], bool]]] = {
    "EQ": _unsigned(operator.eq),
    "NE": _unsigned(operator.ne),
    "UGT": _unsigned(operator.gt),
    "UGE": _unsigned(operator.ge),
    "ULT": _unsigned(operator.lt),
    "ULE": _unsigned(operator.le),
    "SGT": _signed(operator.gt),
    "SGE": _signed(operator.ge),
    "SLT": _signed(operator.lt),
    "SLE": _signed(operator.le),
}

FLOAT_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    "FALSE": lambda a, b: False,
    "TRUE": lambda a, b: True,
    "ORD": lambda a, b: True,
    "UNO": lambda a, b: False,
    **{
        order + name: function
        for order in "OU"
        for name, function in {
            "EQ": operator.eq,
            "NE": operator.ne,
            "GT": operator.gt,
            "GE": operator.ge,
            "LT": operator.lt,
            "LE": operator.le,
        }.items()
    },
}
"""Of numbers: no value here is a NaN, so ordered and unordered comparisons agree."""

CASTS: Final[dict[str, Callable[[Any, int, int], Any]]] = {
    "ZEXT": lambda a, width, wanted: a,
    "SEXT": lambda a, width, wanted: signed(a, width),
    "TRUNC": lambda a, width, wanted: a,
    "INT_TO_PTR": lambda a, width, wanted: a,
    "PTR_TO_INT": lambda a, width, wanted: a,
    "BIT_CAST": lambda a, width, wanted: a,
    "FREEZE": lambda a, width, wanted: a,
    "SI_TO_FP": lambda a, width, wanted: float(signed(a, width)),
    "UI_TO_FP": lambda a, width, wanted: float(a),
    "FP_TO_SI": lambda a, width, wanted: _whole(a, -(1 << wanted - 1), 1 << wanted - 1),
    "FP_TO_UI": lambda a, width, wanted: _whole(a, 0, 1 << wanted),
    "FP_EXT": lambda a, width, wanted: a,
}
"""By opcode: of a value and its width and the width wanted, before it is cut to that."""


def function(name: str, predicate: str, width: int, wanted: int) -> Callable[..., Any] | None:
    """What an instruction computes from its operands, or None where it is not known.

    predicate: of a comparison. width, wanted: bits of the first operand and of the result.
    """
    if name in INTEGER:
        whole = INTEGER[name]
        return lambda a, b: _cut(whole(a, b, wanted), wanted)
    if name in FLOAT:
        return FLOAT[name]
    if name == "FNEG":
        return lambda a: -a
    if name == "ICMP":
        test = COMPARE[predicate]
        return lambda a, b: int(test(a, b, width))
    if name == "FCMP":
        compare = FLOAT_COMPARE[predicate]
        return lambda a, b: int(compare(a, b))
    if name in CASTS:
        cast = CASTS[name]
        return lambda a: _cut(cast(a, width, wanted), wanted)
    return None


def _cut(value: Any, width: int) -> Any:
    return value & ((1 << width) - 1) if isinstance(value, int) else value
