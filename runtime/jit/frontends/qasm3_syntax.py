"""OpenQASM 3 as text in, its syntax tree out, by the language's reference parser.

What a construct is called where it is refused stands here too. What the tree means is read in
`qasm3.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from antlr4 import CommonTokenStream, InputStream
from antlr4.error.ErrorListener import ErrorListener
from openqasm3 import ast
from openqasm3._antlr.qasm3Lexer import qasm3Lexer
from openqasm3._antlr.qasm3Parser import qasm3Parser
from openqasm3.parser import QASM3ParsingError, QASMNodeVisitor

from runtime.jit.circuit import Unsupported

TOKEN_MAX: Final = 4096
"""Characters of one word or number."""

CONSTRUCTS: Final = {
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


def construct_of(node: ast.QASMNode) -> str:
    """What a refusal calls the statement or expression."""
    if isinstance(node, ast.QuantumGate):
        return str(node.name.name)
    return CONSTRUCTS.get(type(node), type(node).__name__)


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
