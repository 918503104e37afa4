"""OpenQASM 2 in, through Qiskit's importer, which is fast and knows `qelib1.inc`.

The importer keeps no places, so an operation knows its construct but not its line; what is refused
is looked up in the tokens of the text again, so that errors name the line. The version of the
language: Cross et al., arXiv:1707.03429.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from runtime.jit.circuit import Circuit, Unsupported
from runtime.jit.frontends import qiskit as qiskit_circuits

SIZE_MAX: Final = 1_000_000
"""Qubits or bits of all registers together; a number in brackets may be no larger."""
INCLUDES_MAX: Final = 8
"""Files that include one another."""
_APART: Final = re.compile(r'"[^"\n]*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_INCLUDED: Final = re.compile(r'\binclude\s*"([^"\n]*)"\s*;')
_DEFINED: Final = re.compile(r"\bgate\s+(\w+)")
_SIZED: Final = re.compile(r"(\b[qc]reg\b[^;\[]*)?\[\s*([0-9]+)")


def load(source: str, *, file: str = "") -> Circuit:
    """Read OpenQASM 2 text; includes are looked for beside the file. Raises Unsupported.

    Comments may be written as in version 3 too.
    """
    import qiskit
    from qiskit import qasm2

    source = _APART.sub(_uncommented, source)
    if file:
        source = _inlined(source, Path(file).parent)
    _bound(source, file)
    folders = [str(Path(file).parent)] if file else []
    own = set(_DEFINED.findall(source))
    try:
        found = qasm2.loads(
            source,
            include_path=[*qasm2.LEGACY_INCLUDE_PATH, *folders],
            # In place of a gate with such a name the importer takes its own, whatever is defined.
            custom_instructions=[
                each for each in qasm2.LEGACY_CUSTOM_INSTRUCTIONS if each.name not in own
            ],
            custom_classical=qasm2.LEGACY_CUSTOM_CLASSICAL,
        )
    except qasm2.QASM2ParseError as error:
        raise _located(str(error.message), file) from error
    except (qiskit.QiskitError, IndexError, ValueError) as error:
        # It takes a gate called `store` for an instruction of its own, for one.
        why = f"Qiskit's importer fails on it: {error!r}"
        raise Unsupported(0, 0, "", why, file=file) from error
    found.name = Path(file).stem
    try:
        return qiskit_circuits.load(found, file=file)
    except Unsupported as error:
        line, column = _place(source, error.construct)
        raise Unsupported(line, column, error.construct, error.why, file=file) from error


def _uncommented(found: re.Match[str]) -> str:
    """Blanks, as many and on as many lines, for a comment; a string stays."""
    text = found[0]
    return text if text.startswith('"') else re.sub(r"[^\n]", " ", text)


def _inlined(source: str, folder: Path, depth: int = 0) -> str:
    """The text with the files that it includes in their places, each on one line.

    The importer of Qiskit 2.6 takes the parameters in an included file from behind the `include`.
    """

    def text_of(found: re.Match[str]) -> str:
        path = folder / found[1]
        if found[1] == "qelib1.inc" or depth == INCLUDES_MAX or not path.is_file():
            return found[0]  # the importer knows the first, and says where others stand
        text = _APART.sub(_uncommented, path.read_text(encoding="utf-8", errors="replace"))
        return " ".join(_inlined(text, folder, depth + 1).split("\n"))

    return _INCLUDED.sub(text_of, source)


def _bound(source: str, file: str) -> None:
    """Refuse sizes and indices that the importer dies of. Raises Unsupported."""
    sizes = {"qreg": 0, "creg": 0}
    for found in _SIZED.finditer(source):
        declared, written = found[1], found[2].lstrip("0") or "0"
        number = int(written) if len(written) <= len(str(SIZE_MAX)) else SIZE_MAX + 1
        if declared is not None:
            sizes[declared[:4]] += number
            number = sizes[declared[:4]]
        if number > SIZE_MAX:
            line = source.count("\n", 0, found.start()) + 1
            column = found.start() - source.rfind("\n", 0, found.start())
            why = f"registers hold {SIZE_MAX:,} qubits, and as many bits, at most"
            raise Unsupported(line, column, found[0][:64] + "]", why, file=file)


def _located(message: str, file: str) -> Unsupported:
    """The importer writes `"FILE:LINE,COLUMN: reason"`, its columns from 0."""
    place, colon, why = message.strip("'\"").partition(": ")
    _, _, numbers = place.rpartition(":")
    line, comma, column = numbers.partition(",")
    if colon and comma and line.isdecimal() and column.isdecimal():
        return Unsupported(int(line), int(column) + 1, "", why, file=file)
    return Unsupported(0, 0, "", message, file=file)


@dataclasses.dataclass(frozen=True)
class _Token:
    text: str
    line: int
    column: int


def _place(source: str, construct: str) -> tuple[int, int]:
    """Line and column of the first statement that begins with the construct; 0 where none does."""
    before = ";"
    for token in _tokens(source):
        if token.text == construct and before in (";", "}", "{", ")"):
            return token.line, token.column
        before = token.text
    return 0, 0


def _tokens(source: str) -> Iterator[_Token]:
    from antlr4 import InputStream, Token
    from openqasm3._antlr.qasm3Lexer import qasm3Lexer

    lexer = qasm3Lexer(InputStream(source))
    lexer.removeErrorListeners()
    while (token := lexer.nextToken()).type != Token.EOF:
        if token.channel == Token.DEFAULT_CHANNEL:
            yield _Token(token.text, token.line, token.column + 1)
