"""Angles as programs write them: a number, or arithmetic in `pi` such as `"-3*pi/4"`.

A small recursive-descent parser, bounded in length and depth; nothing is ever evaluated as code.
Used by the verifier and the assembler.

    sum     = product { ("+" | "-") product }
    product = factor { ("*" | "/") factor }
    factor  = { "+" | "-" } ( number | "pi" | "π" | "(" sum ")" )
"""

from __future__ import annotations

import math
import re
from typing import Final

ANGLE_CHARS_MAX: Final = 128
ANGLE_DEPTH_MAX: Final = 16

# ASCII digits only: `\d` would admit the digits of every script.
_NUMBER: Final = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_TOKEN: Final = re.compile(rf"[ \t]*(?:({_NUMBER})|(pi(?![A-Za-z0-9_])|π)|([-+*/()]))")
_END: Final = ""


class _Bad(ValueError):
    """The text is no angle; the message says why."""


def angle_radians(value: object) -> float | str:
    """Radians of an angle argument, or one sentence saying why it is none. Never raises."""
    if isinstance(value, str):
        return parse_angle(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "an angle is a number or a string holding an expression in pi"
    try:
        radians = float(value)
    except OverflowError:
        return "the angle is too large"
    return radians if math.isfinite(radians) else "the angle is not finite"


def parse_angle(text: str) -> float | str:
    """Radians that the expression stands for, or one sentence saying why it stands for none."""
    if len(text) > ANGLE_CHARS_MAX:
        return f"an angle expression has at most {ANGLE_CHARS_MAX} characters"
    try:
        parser = _Parser(_tokens(text))
        radians = parser.sum(0)
        if parser.next != _END:
            raise _Bad(f"an operator is missing before {parser.next!r}")
    except _Bad as bad:
        return str(bad)
    except ZeroDivisionError:
        return "the angle divides by zero"
    return radians if math.isfinite(radians) else "the angle is not finite"


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    at, end = 0, len(text.rstrip(" \t"))
    while at < end:
        match = _TOKEN.match(text, at, end)
        if match is None:
            raise _Bad(f"{text[at:end].lstrip()[:1]!r} does not belong in an angle")
        tokens.append(match[1] or match[3] or "pi")
        at = match.end()
    return tokens


class _Parser:
    """Reads tokens from left to right, one ahead."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def _take(self) -> str:
        token = self.next
        self._at += 1
        return token

    def sum(self, depth: int) -> float:
        if depth > ANGLE_DEPTH_MAX:
            raise _Bad(f"parentheses nest deeper than {ANGLE_DEPTH_MAX}")
        total = self._product(depth)
        while self.next in ("+", "-"):
            if self._take() == "+":
                total += self._product(depth)
            else:
                total -= self._product(depth)
        return total

    def _product(self, depth: int) -> float:
        total = self._factor(depth)
        while self.next in ("*", "/"):
            if self._take() == "*":
                total *= self._factor(depth)
            else:
                total /= self._factor(depth)
        return total

    def _factor(self, depth: int) -> float:
        sign = 1.0
        while self.next in ("+", "-"):
            sign = -sign if self._take() == "-" else sign
        token = self._take()
        if token == "pi":
            return sign * math.pi
        if token == "(":
            value = self.sum(depth + 1)
            if self._take() != ")":
                raise _Bad("a parenthesis is not closed")
            return sign * value
        if token == _END:
            raise _Bad("the angle ends where a number was expected")
        if token in ("*", "/", ")"):
            raise _Bad(f"a number was expected before {token!r}")
        return sign * float(token)
