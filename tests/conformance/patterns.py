"""Whether what a server said is what a case expects.

A scalar expects itself, a list a list of that length, an object at least these members. An object
with one key that begins with `$` is an operator, one of `OPERATORS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    "string": lambda got: isinstance(got, str),
    "integer": lambda got: isinstance(got, int) and not isinstance(got, bool),
    "number": lambda got: isinstance(got, int | float) and not isinstance(got, bool),
    "boolean": lambda got: isinstance(got, bool),
    "object": lambda got: isinstance(got, dict),
    "array": lambda got: isinstance(got, list),
    "null": lambda got: got is None,
}


def mismatch(expected: Any, got: Any, path: str = "$") -> str | None:
    """What does not fit, in a sentence; None where all of it does."""
    if isinstance(expected, dict):
        if len(expected) == 1 and (operator := next(iter(expected))).startswith("$"):
            return OPERATORS[operator](expected[operator], got, path)
        return _members(expected, got, path)
    if isinstance(expected, list):
        if not isinstance(got, list) or len(got) != len(expected):
            return f"{path} is {shown(got)}, not a list of {len(expected)}"
        each = enumerate(zip(expected, got, strict=True))
        return _first(mismatch(want, have, f"{path}[{i}]") for i, (want, have) in each)
    alike = expected == got and isinstance(expected, bool) == isinstance(got, bool)
    return None if alike else f"{path} is {shown(got)}, not {shown(expected)}"


def shown(value: Any) -> str:
    """A value, short enough for a report."""
    text = repr(value)
    return text if len(text) <= 300 else text[:297] + "..."


def _members(expected: dict[str, Any], got: Any, path: str) -> str | None:
    if not isinstance(got, dict):
        return f"{path} is {shown(got)}, not an object"
    for key, want in expected.items():
        if key not in got:
            return f"{path} has no member {key!r}: {shown(got)}"
        if (wrong := mismatch(want, got[key], f"{path}.{key}")) is not None:
            return wrong
    return None


def _first(sentences: Any) -> str | None:
    return next((each for each in sentences if each is not None), None)


def _kind(kind: str, got: Any, path: str) -> str | None:
    return None if KINDS[kind](got) else f"{path} is {shown(got)}, no {kind}"


def _number(holds: Callable[[Any, Any], bool], words: str) -> Callable[[Any, Any, str], str | None]:
    def check(bound: Any, got: Any, path: str) -> str | None:
        if KINDS["number"](got) and holds(got, bound):
            return None
        return f"{path} is {shown(got)}, not {words} {bound}"

    return check


def _length(expected: Any, got: Any, path: str) -> str | None:
    if not isinstance(got, list | dict | str):
        return f"{path} is {shown(got)}, which has no length"
    return mismatch(expected, len(got), f"the length of {path}")


def _matches(pattern: str, got: Any, path: str) -> str | None:
    if isinstance(got, str) and re.fullmatch(pattern, got, re.DOTALL):
        return None
    return f"{path} is {shown(got)}, which does not match {pattern}"


def _has(expected: list[Any], got: Any, path: str) -> str | None:
    if not isinstance(got, list):
        return f"{path} is {shown(got)}, not a list"
    for want in expected:
        if all(mismatch(want, each) is not None for each in got):
            return f"{path} has nothing that fits {shown(want)}: {shown(got)}"
    return None


def _each(expected: Any, got: Any, path: str) -> str | None:
    if not isinstance(got, list | dict):
        return f"{path} is {shown(got)}, neither list nor object"
    pairs = got.items() if isinstance(got, dict) else enumerate(got)
    return _first(mismatch(expected, each, f"{path}[{key!r}]") for key, each in pairs)


def _lacks(names: list[str], got: Any, path: str) -> str | None:
    there = [name for name in names if name in got]
    return f"{path} has {there}" if there else None


def _not(expected: Any, got: Any, path: str) -> str | None:
    fits = mismatch(expected, got) is None
    return f"{path} is {shown(got)}, which fits {shown(expected)}" if fits else None


def _any(expected: list[Any], got: Any, path: str) -> str | None:
    wrong = [mismatch(want, got, path) for want in expected]
    return None if None in wrong else "; ".join(filter(None, wrong))


def _all(expected: list[Any], got: Any, path: str) -> str | None:
    return _first(mismatch(want, got, path) for want in expected)


def _exactly(expected: Any, got: Any, path: str) -> str | None:
    return None if expected == got else f"{path} is {shown(got)}, not exactly {shown(expected)}"


OPERATORS: Final[dict[str, Callable[[Any, Any, str], str | None]]] = {
    "$kind": _kind,
    "$least": _number(lambda got, bound: got >= bound, "at least"),
    "$most": _number(lambda got, bound: got <= bound, "at most"),
    "$near": lambda want, got, path: (
        None
        if KINDS["number"](got) and abs(got - want) <= 1e-9
        else f"{path} is {shown(got)}, not {want} within 1e-9"
    ),
    "$length": _length,
    "$matches": _matches,
    "$has": _has,
    "$each": _each,
    "$lacks": _lacks,
    "$not": _not,
    "$any": _any,
    "$all": _all,
    "$exactly": _exactly,
}
