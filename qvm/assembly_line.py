"""One line of assembly text and a cursor over it: names, numbers, text, JSON, and located errors.

Knows the alphabet of the language, not its statements; those are in `assemble.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import msgspec

from qvm.expressions import ExpressionError, Value, evaluate

_BLANK: Final = re.compile(r"[ \t\r]*")
_FIRST: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*|\{")
_NEXT: Final = re.compile(r"[A-Za-z0-9_.]+|\{")
_TEXT: Final = re.compile(r"""[^\s,;()\[\]{}"@]+|[({]""")
_TEXT_INSIDE: Final = re.compile(r"""[^;()\[\]{}"@]+|[(){]""")
BARE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
"""A name that needs no quotes, unless it is a reserved word."""
IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""The name of a value in expressions, or of a macro."""
RESERVED: Final = frozenset({"if"})
LISTED_CHARS_MAX: Final = 200  # of the line that an error shows


class AsmError(ValueError):
    """Assembly text that cannot be understood: where, and one sentence why.

    line and column count from 1; both are 0 where no place in the text is to blame. source: the
    line itself.
    """

    def __init__(
        self, line: int, column: int, message: str, *, file: str = "", source: str = ""
    ) -> None:
        super().__init__(line, column, message)
        self.line = line
        self.column = column
        self.message = message
        self.file = file
        self.source = source

    def __str__(self) -> str:
        return f"{self.file or 'assembly'}:{self.line}:{self.column}: {self.message}"

    def listing(self) -> str:
        """The error with its line of text and a mark under the column.

        Of a long line, LISTED_CHARS_MAX characters about the column.
        """
        if not self.line:
            return str(self)
        at = self.column - 1
        begin = max(0, at - LISTED_CHARS_MAX // 2) if len(self.source) > LISTED_CHARS_MAX else 0
        shown = self.source[begin : begin + LISTED_CHARS_MAX]
        return f"{self}\n    {shown}\n    {' ' * (at - begin)}^"


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line of a file, numbered from 1."""

    file: str
    number: int
    text: str

    def error(self, column: int, message: str) -> NoReturn:
        """Raise the located error; `column` counts from 0."""
        # What a terminal would act on, tabs included, is shown as a blank of the same width.
        source = "".join(char if char.isprintable() else " " for char in self.text)
        raise AsmError(self.number, column + 1, message, file=self.file, source=source)


class Scope(msgspec.Struct, frozen=True):
    """What names stand for at one point of the expansion.

    values: in expressions. actuals: macro parameters, which also stand alone as operands.
    prefix: put before labels. depth: how many macros and files are open.
    """

    values: Mapping[str, Value]
    actuals: Mapping[str, str]
    prefix: str = ""
    depth: int = 0


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


_JSON: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


class Cursor:
    """Reads one line from left to right. `;` ends the line, except inside quotes and JSON."""

    __slots__ = ("column", "line", "scope", "text")

    def __init__(self, line: Line, scope: Scope, column: int = 0) -> None:
        self.line = line
        self.text = line.text
        self.scope = scope
        self.column = column
        self.skip()

    def skip(self) -> None:
        """Pass blanks."""
        match = _BLANK.match(self.text, self.column)
        assert match is not None
        self.column = match.end()

    def at_end(self) -> bool:
        return self.column >= len(self.text) or self.text[self.column] == ";"

    def sees(self, mark: str) -> bool:
        return self.text.startswith(mark, self.column)

    def take(self, mark: str) -> bool:
        """Pass `mark` and the blanks after it, if it stands here."""
        if not self.text.startswith(mark, self.column):
            return False
        self.column += len(mark)
        self.skip()
        return True

    def take_word(self, word: str) -> bool:
        """Pass a whole word, if it stands here."""
        match = BARE.match(self.text, self.column)
        if match is None or match[0] != word:
            return False
        return self.take(word)

    def error(self, message: str, column: int | None = None) -> NoReturn:
        self.line.error(self.column if column is None else column, message)

    def end(self) -> None:
        """Demand the end of the line."""
        if not self.at_end():
            self.error(f"this was not expected here: {self.text[self.column :].rstrip()!r}")

    def identifier(self, what: str) -> str:
        """A plain word without dots."""
        match = IDENTIFIER.match(self.text, self.column)
        if match is None:
            self.error(f"{what} was expected here")
        self.column = match.end()
        self.skip()
        return match[0]

    def name(self, what: str) -> str:
        """A name: quoted as JSON, a macro parameter, or letters, digits, `_`, `.` and `{expr}`."""
        if self.sees('"'):
            return self.string()
        start = self.column
        match = _FIRST.match(self.text, start)
        if match is None or match[0] in RESERVED:
            self.error(f"{what} was expected here")
        if not self.text.startswith("{", match.end()) and match[0] != "{":
            self.column = match.end()
            self.skip()
            return self.scope.actuals.get(match[0], match[0])
        parts = [self._piece(match)]
        while match := _NEXT.match(self.text, self.column):
            parts.append(self._piece(match))
        self.skip()
        return "".join(parts)

    def plain_text(self, what: str) -> str:
        """A text value: quoted as JSON, or up to the next comma or blank, with `{expr}` filled in.

        A comma inside parentheses belongs to the text.
        """
        if self.sees('"'):
            return self.string()
        parts: list[str] = []
        depth = 0
        while match := (_TEXT_INSIDE if depth else _TEXT).match(self.text, self.column):
            depth += {"(": 1, ")": -1}.get(match[0], 0)
            parts.append(self._piece(match))
        if depth:
            self.error("a closing parenthesis was expected here")
        if not parts:
            self.error(f"{what} was expected here")
        self.skip()
        found = "".join(parts)
        return self.scope.actuals.get(found, found)

    def _piece(self, match: re.Match[str]) -> str:
        """What was matched, or the value of the expression that begins here."""
        if match[0] == "{":
            return self._substituted()
        self.column = match.end()
        return match[0]

    def _substituted(self) -> str:
        start = self.column
        self.column += 1
        value = self.expression()
        if not self.sees("}"):
            self.error("a closing brace was expected here")
        self.column += 1
        if isinstance(value, float):
            self.error(f"{value!r} cannot stand in a name; a whole number or text can", start)
        return str(value)

    def expression(self, *, conjunctions: bool = True) -> Value:
        """An arithmetic expression in the values in scope."""
        try:
            value, self.column = evaluate(
                self.text, self.column, self.scope.values, conjunctions=conjunctions
            )
        except ExpressionError as error:
            self.error(error.message, error.column)
        self.skip()
        return value

    def whole(self, what: str) -> int:
        """An expression that must come to a whole number."""
        start = self.column
        value = self.expression(conjunctions=False)
        if not isinstance(value, int):
            self.error(f"{what} is a whole number, not {value!r}", start)
        return value

    def string(self) -> str:
        """A JSON string."""
        value = self.json("a quoted text")
        assert isinstance(value, str), "JSON that begins with a quote is a string"
        return value

    def json(self, what: str) -> Any:
        """Any JSON value."""
        try:
            value, self.column = _JSON.raw_decode(self.text, self.column)
        except json.JSONDecodeError as error:
            self.error(f"{what} was expected here: {error.msg}", min(error.pos, len(self.text)))
        except ValueError as error:
            self.error(f"{what} was expected here: {error}")
        except RecursionError:
            self.error(f"{what} nests too deep")
        self.skip()
        return value
