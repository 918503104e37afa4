"""Assembly text in, a `Graph` out. The graph is not verified here; see `verify.py` for that.

An instruction is one line, and everything after its opcode but the operands may be left out:

    label: OP k=v, q0, q1 <- inputs -> m0 if e==1 && f==0 [CAP_X] @{"metadata": {}}   ; comment

    ->    events written; for ALLOC_LQ the qubits, for OPEN_CHAN the channel
    <-    events read by COND_PAULI
    if    a guard: conditions joined by && or by ||, never both
    [ ]   capabilities the node names
    @     JSON fields taken as they are, for what the text has no other way to say

USE_CHAN and CLOSE_CHAN name their channel last. Angles and numbers are expressions; an angle in
quotes is kept as text. A name is quoted as JSON or made of letters, digits, `_` and `.`; `{expr}`
inside it stands for a value. A node without a label is called n1, n2, ... by its place. ALLOC_LQ
may leave out `n`.

    .version 0.1                .param name=value          .for i in 0..4
    .caps CAP_ALLOC CAP_MAGIC   .include "file"            .if expr
    .vqs q0 q1                  .macro NAME a b            .else
    .events m0                  .description "text"        .end
    .chs c0                     .meta {json}

`.vqs`, `.events` and `.chs` fix the declared names and their order; without them names are declared
by their first use. `0..4` counts 0, 1, 2, 3 and `0..=4` goes on to 4. A macro is called like an
opcode: `NAME q0, 1/2`; a label on the call is put before every label inside, with a dot. Every
expansion is bounded.
"""

from __future__ import annotations

import difflib
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from qvm.assembly_instruction import read_instruction
from qvm.assembly_line import BARE, IDENTIFIER, AsmError, Cursor, Line, Scope
from qvm.expressions import ExpressionError, Value, evaluate
from qvm.isa import NODES_MAX, OPS, Op
from qvm.program import Body, Graph, Node, Resources
from syscalls.version import QVM_VERSION

__all__ = ["AsmError", "Assembly", "assemble", "assemble_located"]

DEPTH_MAX: Final = 32  # macros and files open at once, and blocks inside one another
STEPS_MAX: Final = 4 * NODES_MAX  # lines carried out, counting every turn of every loop
TEXT_CHARS_MAX: Final = 256 * NODES_MAX  # of one file

assert STEPS_MAX > NODES_MAX, "the largest program can be written"

Include = Callable[[str], str]
"""The text of the file of that name; raises OSError or ValueError with a sentence."""


class Assembly(msgspec.Struct, frozen=True):
    """A graph, and for each node the (file, line number) it was written at."""

    graph: Graph
    origins: list[tuple[str, int]]


def assemble(
    text: str,
    *,
    params: Mapping[str, Value] | None = None,
    include: Include | None = None,
    file: str = "",
) -> Graph:
    """The graph that `text` describes. params override `.param`. Raises `AsmError`."""
    return assemble_located(text, params=params, include=include, file=file).graph


def assemble_located(
    text: str,
    *,
    params: Mapping[str, Value] | None = None,
    include: Include | None = None,
    file: str = "",
) -> Assembly:
    """As `assemble`, with the place of every node."""
    assembler = _Assembler(params or {}, include)
    scope = Scope(values=assembler.params, actuals={})
    assembler.run(_blocks(text, file), scope)
    return assembler.finish(file)


class _Block(msgspec.Struct, gc=False):
    """A line, and what stands between it and its `.end`. word: the directive, or ""."""

    line: Line
    word: str
    column: int
    body: list[_Block] = []
    otherwise: list[_Block] | None = None


_OPENING: Final = ("for", "if", "macro")


def _blocks(text: str, file: str) -> list[_Block]:
    """Sort lines into blocks. Looks at the first word of each line only."""
    if len(text) > TEXT_CHARS_MAX:
        raise AsmError(0, 0, f"a file has at most {TEXT_CHARS_MAX} characters", file=file)
    top: list[_Block] = []
    open_blocks: list[_Block] = []
    target = top
    for number, source in enumerate(text.split("\n"), 1):
        stripped = source.strip()
        if not stripped or stripped[0] == ";":
            continue
        line = Line(file, number, source.rstrip("\r"))
        column = len(source) - len(source.lstrip())
        match = BARE.match(source, column + 1) if stripped[0] == "." else None
        word = match[0] if match else ""
        after = match.end() if match else column
        if stripped[0] == "." and word not in _DIRECTIVES:
            line.error(column, f"there is no directive .{word}; there are {_listed(_DIRECTIVES)}")
        if word in ("end", "else"):
            if not open_blocks:
                line.error(column, f".{word} without a block to belong to")
            Cursor(line, _EMPTY, after).end()
        if word == "end":
            open_blocks.pop()
        elif word == "else":
            if open_blocks[-1].word != "if" or open_blocks[-1].otherwise is not None:
                line.error(column, ".else belongs to an .if, once")
            open_blocks[-1].otherwise = []
        else:
            block = _Block(line, word, after)
            target.append(block)
            if word in _OPENING:
                open_blocks.append(block)
        if len(open_blocks) > DEPTH_MAX:
            line.error(column, f"blocks nest at most {DEPTH_MAX} deep")
        target = _inside(open_blocks[-1]) if open_blocks else top
    if open_blocks:
        opened = open_blocks[-1]
        opened.line.error(0, f"this .{opened.word} has no .end")
    return top


def _inside(block: _Block) -> list[_Block]:
    return block.body if block.otherwise is None else block.otherwise


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(f".{name}" for name in names)


_EMPTY: Final = Scope(values={}, actuals={})


class _Macro(msgspec.Struct, frozen=True):
    parameters: list[str]
    body: list[_Block]


class _Assembler:
    """Carries out blocks in order and gathers the graph."""

    def __init__(self, overrides: Mapping[str, Value], include: Include | None) -> None:
        self.params: dict[str, Value] = {}
        self._overrides = overrides
        self._include = include
        self._macros: dict[str, _Macro] = {}
        self._steps = 0
        self._version = QVM_VERSION
        self._caps: list[str] | None = None
        self._metadata: dict[str, Any] | None = None
        self._description: str | None = None
        self._nodes: list[Node] = []
        self._origins: list[tuple[str, int]] = []
        self._labels: dict[str, Line] = {}
        self._declared: dict[str, dict[str, None]] = {"vqs": {}, "events": {}, "chs": {}}
        self._fixed: set[str] = set()

    def run(self, blocks: Sequence[_Block], scope: Scope) -> None:
        """Carry out one sequence of lines."""
        for block in blocks:
            self._step(block.line, block.column)
            cursor = Cursor(block.line, scope, block.column)
            if block.word:
                _DIRECTIVES[block.word](self, cursor, block)
            else:
                self._instruction(cursor)

    def finish(self, file: str) -> Assembly:
        """The graph gathered so far."""
        for name in self._overrides:
            if name not in self.params:
                known = ", ".join(self.params) or "none"
                raise AsmError(0, 0, f"no .param is named {name!r}; there are: {known}", file=file)
        graph = Graph(
            version=self._version,
            program=Body(nodes=self._nodes),
            resources=Resources(
                vqs=list(self._declared["vqs"]),
                events=list(self._declared["events"]),
                chs=list(self._declared["chs"]),
            ),
            caps=UNSET if self._caps is None else self._caps,
            metadata=UNSET if self._metadata is None else self._metadata,
            description=UNSET if self._description is None else self._description,
        )
        return Assembly(graph, self._origins)

    def _step(self, line: Line, column: int) -> None:
        self._steps += 1
        if self._steps > STEPS_MAX:
            line.error(column, f"the text expands to more than {STEPS_MAX} lines")

    # Directives.

    def _do_version(self, cursor: Cursor, block: _Block) -> None:
        self._version = cursor.plain_text("a version")
        cursor.end()

    def _do_caps(self, cursor: Cursor, block: _Block) -> None:
        self._caps = (self._caps or []) + list(_spaced(cursor, "a capability"))

    def _do_declare(self, cursor: Cursor, block: _Block) -> None:
        known = self._declared[block.word]
        if known and block.word not in self._fixed:
            cursor.error(f".{block.word} stands before the first name is used")
        self._fixed.add(block.word)
        column = cursor.column
        for name in _spaced(cursor, "a name"):
            if name in known:
                cursor.error(f"{name!r} is declared twice", column)
            known[name] = None
            column = cursor.column

    def _do_description(self, cursor: Cursor, block: _Block) -> None:
        if self._description is not None:
            cursor.error("the description is given twice")
        self._description = (
            cursor.string()
            if cursor.sees('"')
            else cursor.error("text in quotes was expected here")
        )
        cursor.end()

    def _do_meta(self, cursor: Cursor, block: _Block) -> None:
        column = cursor.column
        found = cursor.json("a JSON object")
        if not isinstance(found, dict):
            cursor.error("a JSON object was expected here", column)
        self._metadata = {**(self._metadata or {}), **found}
        cursor.end()

    def _do_param(self, cursor: Cursor, block: _Block) -> None:
        column = cursor.column
        name = cursor.identifier("a name")
        if name in self.params or name in _CONSTANTS:
            cursor.error(f"{name!r} already has a value", column)
        if not cursor.take("="):
            cursor.error("an equals sign was expected here")
        value = _value(cursor)
        cursor.end()
        self.params[name] = self._overrides.get(name, value)

    def _do_for(self, cursor: Cursor, block: _Block) -> None:
        name = cursor.identifier("a name")
        if not cursor.take_word("in"):
            cursor.error("the word 'in' was expected here")
        first = cursor.whole("the first value")
        if not cursor.take(".."):
            cursor.error("'..' was expected here")
        extra = 1 if cursor.take("=") else 0
        last = cursor.whole("the last value") + extra
        cursor.end()
        scope = cursor.scope
        for value in range(first, last):
            self._step(block.line, block.column)
            inner: Mapping[str, Value] = ChainMap({name: value}, scope.values)  # type: ignore[arg-type]
            self.run(block.body, msgspec.structs.replace(scope, values=inner))

    def _do_if(self, cursor: Cursor, block: _Block) -> None:
        holds = cursor.expression()
        cursor.end()
        self.run(block.body if holds else block.otherwise or [], cursor.scope)

    def _do_macro(self, cursor: Cursor, block: _Block) -> None:
        column = cursor.column
        name = cursor.identifier("a name")
        if name in OPS or name in self._macros:
            cursor.error(f"{name!r} is already an opcode or a macro", column)
        parameters = list(_spaced(cursor, "a parameter", plain=True))
        if len(set(parameters)) < len(parameters):
            cursor.error("two parameters have the same name", column)
        self._macros[name] = _Macro(parameters, block.body)

    def _do_include(self, cursor: Cursor, block: _Block) -> None:
        column = cursor.column
        name = (
            cursor.string()
            if cursor.sees('"')
            else cursor.error("a file name in quotes was expected here")
        )
        cursor.end()
        if self._include is None:
            cursor.error("files cannot be included here", column)
        scope = self._deeper(cursor, column)
        try:
            text = self._include(name)
        except (OSError, ValueError) as error:
            cursor.error(f"{name!r} cannot be included: {error}", column)
        self.run(_blocks(text, name), scope)

    def _deeper(self, cursor: Cursor, column: int) -> Scope:
        if cursor.scope.depth >= DEPTH_MAX:
            cursor.error(f"macros and files open at most {DEPTH_MAX} deep", column)
        return msgspec.structs.replace(cursor.scope, depth=cursor.scope.depth + 1)

    # Instructions.

    def _instruction(self, cursor: Cursor) -> None:
        start = cursor.column
        label, quoted = None, cursor.sees('"')
        word = cursor.name("an opcode or a label")
        if cursor.take(":"):
            label = cursor.scope.prefix + word
            start, quoted = cursor.column, cursor.sees('"')
            word = cursor.name("an opcode")
        if not quoted and word in self._macros:
            self._call(cursor, self._macros[word], label, start)
            return
        row = OPS.get(word)
        if row is None:
            close = difflib.get_close_matches(word, [*OPS, *self._macros], 1, 0.5)
            hint = f"; is it {close[0]}?" if close else ""
            cursor.error(f"there is no opcode or macro {word!r}{hint}", start)
        self._add(cursor, row, label, start)

    def _call(self, cursor: Cursor, macro: _Macro, label: str | None, start: int) -> None:
        actuals: list[Value] = []
        while not cursor.at_end():
            if actuals and not cursor.take(","):
                cursor.error("a comma was expected here")
            actuals.append(_actual(cursor))
        if len(actuals) != len(macro.parameters):
            needed = len(macro.parameters)
            cursor.error(f"the macro takes {needed} values and is given {len(actuals)}", start)
        bound = dict(zip(macro.parameters, actuals, strict=True))
        outer = self._deeper(cursor, start)
        scope = Scope(
            values=ChainMap(bound, self.params),
            actuals={name: str(value) for name, value in bound.items()},
            prefix=outer.prefix if label is None else f"{label}.",
            depth=outer.depth,
        )
        self.run(macro.body, scope)

    def _add(self, cursor: Cursor, row: Op, label: str | None, start: int) -> None:
        if len(self._nodes) >= NODES_MAX:
            cursor.error(f"a program has at most {NODES_MAX} nodes", start)
        name = f"n{len(self._nodes) + 1}" if label is None else label
        if name in self._labels:
            earlier = self._labels[name]
            where = f"line {earlier.number}" + (f" of {earlier.file}" if earlier.file else "")
            cursor.error(f"the label {name!r} already stands on {where}", start)
        self._labels[name] = cursor.line
        node = read_instruction(cursor, row, name, self._use)
        self._nodes.append(node)
        self._origins.append((cursor.line.file, cursor.line.number))

    def _use(self, cursor: Cursor, kind: str, name: str, column: int) -> None:
        """Note that `name` is used; declare it, unless the declared names are fixed."""
        known = self._declared[kind]
        if name in known:
            return
        if kind in self._fixed:
            cursor.error(f"{name!r} is not declared by .{kind}", column)
        known[name] = None


def _spaced(cursor: Cursor, what: str, *, plain: bool = False) -> Iterator[str]:
    """Names to the end of the line, with blanks or commas between them."""
    while not cursor.at_end():
        yield cursor.identifier(what) if plain else cursor.name(what)
        cursor.take(",")


def _value(cursor: Cursor) -> Value:
    """A number or quoted text."""
    return cursor.string() if cursor.sees('"') else cursor.expression()


def _actual(cursor: Cursor) -> Value:
    """What a macro parameter is to stand for: text in quotes, a name, or a number.

    A word that has a value in scope stands for the value, any other word for itself.
    """
    start = cursor.column
    if cursor.sees('"'):
        return cursor.string()
    match = BARE.match(cursor.text, start)
    values = cursor.scope.values
    known = match is None or match[0] in values or match[0] in _CONSTANTS
    if known and not cursor.sees("{"):
        return cursor.expression()
    return cursor.name("a value")


_CONSTANTS: Final = ("pi",)

_Directive = Callable[[_Assembler, Cursor, _Block], None]
_DIRECTIVES: Final[dict[str, _Directive]] = {
    "version": _Assembler._do_version,
    "caps": _Assembler._do_caps,
    "vqs": _Assembler._do_declare,
    "events": _Assembler._do_declare,
    "chs": _Assembler._do_declare,
    "description": _Assembler._do_description,
    "meta": _Assembler._do_meta,
    "param": _Assembler._do_param,
    "include": _Assembler._do_include,
    "macro": _Assembler._do_macro,
    "for": _Assembler._do_for,
    "if": _Assembler._do_if,
    "else": _Assembler._do_if,
    "end": _Assembler._do_if,
}


def parse_param(text: str) -> tuple[str, Value]:
    """`name=value` as given on a command line: a number where it is one, otherwise text.

    Raises ValueError with a sentence.
    """
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not equals or not IDENTIFIER.fullmatch(name):
        raise ValueError(f"a parameter is given as name=value, not {text!r}")
    try:
        found, end = evaluate(value, 0, {})
    except ExpressionError:
        return name, value
    return name, found if end == len(value) else value
