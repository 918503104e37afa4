"""One instruction of assembly text, after its label and opcode, read into a `Node`.

Operands, arguments and clauses are told apart by the instruction table; whether they are right is
for `verify.py` to say. The grammar stands in `assemble.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from qvm.assembly_line import BARE, Cursor
from qvm.isa import Arg, ArgType, Op
from qvm.program import Condition, Guard, Node

Use = Callable[[Cursor, str, str, int], None]


"""Notes that the name of this kind (vqs, chs, events) is used at the column."""


def read_instruction(cursor: Cursor, row: Op, name: str, use: Use) -> Node:
    """The node called `name`: reads to the end of the line. Raises `AsmError`."""
    return _Reader(cursor, row, use).node(name)


class _Reader:
    """Reads the rest of an instruction after its opcode."""

    def __init__(self, cursor: Cursor, row: Op, use: Use) -> None:
        self._cursor = cursor
        self._row = row
        self._use = use
        self._args: dict[str, Any] = {}
        self._operands: list[tuple[str, int]] = []
        self._fields: dict[str, Any] = {}

    def node(self, name: str) -> Node:
        """The node, once the whole line is read."""
        cursor = self._cursor
        if not (cursor.at_end() or self._clause()):
            self._item()
            while cursor.take(","):
                self._item()
        while not cursor.at_end():
            if not self._clause():
                cursor.error("a comma, '->', '<-', 'if', '[', '@' or the end was expected here")
        self._settle_operands()
        if self._row.name == "ALLOC_LQ" and "n" not in self._args:
            self._args["n"] = len(self._fields.get("vqs", ()))
        if self._args:
            self._fields["args"] = {**self._args, **self._fields.get("args", {})}
        return Node(id=name, op=self._row.name, **self._fields)

    def _item(self) -> None:
        """An argument k=v or an operand."""
        cursor = self._cursor
        start = cursor.column
        match = BARE.match(cursor.text, start)
        if match is not None:
            cursor.column = match.end()
            cursor.skip()
            if cursor.sees("=") and not cursor.sees("=="):
                cursor.take("=")
                self._argument(match[0], start)
                return
            cursor.column = start
        self._operands.append((cursor.name("an operand"), start))

    def _argument(self, name: str, start: int) -> None:
        arg = next((each for each in self._row.args if each.name == name), None)
        if arg is None:
            known = ", ".join(each.name for each in self._row.args) or "none"
            self._cursor.error(
                f"{self._row.name} takes no argument {name!r}; there are: {known}", start
            )
        if name in self._args:
            self._cursor.error(f"the argument {name!r} is given twice", start)
        self._args[name] = _argument_value(self._cursor, arg)

    def _clause(self) -> bool:
        """Read one clause, if one begins here."""
        cursor = self._cursor
        start = cursor.column
        if cursor.take("->"):
            self._outputs(_names(cursor), start)
        elif cursor.take("<-"):
            self._once("inputs", self._used("events", _names(cursor)), start)
        elif cursor.take_word("if"):
            self._once("guard", self._guard(), start)
        elif cursor.take("["):
            names = [] if cursor.sees("]") else [name for name, _ in _names(cursor)]
            if not cursor.take("]"):
                cursor.error("a closing bracket was expected here")
            self._once("caps", names, start)
        elif cursor.take("@"):
            self._as_written(cursor.json("a JSON object"), start)
        else:
            return False
        return True

    def _once(self, field: str, value: Any, start: int) -> None:
        if field in self._fields:
            self._cursor.error(f"{field} stands twice on this line", start)
        self._fields[field] = value

    def _used(self, kind: str, names: Sequence[tuple[str, int]]) -> list[str]:
        for name, column in names:
            self._use(self._cursor, kind, name, column)
        return [name for name, _ in names]

    def _outputs(self, names: Sequence[tuple[str, int]], start: int) -> None:
        if self._row.name == "ALLOC_LQ":
            self._operands += names
        elif self._row.name == "OPEN_CHAN":
            self._once("chs", self._used("chs", names), start)
        elif self._row.produces.most == 0:
            self._cursor.error(f"{self._row.name} writes no events", start)
        else:
            self._once("produces", self._used("events", names), start)

    def _settle_operands(self) -> None:
        """Tell qubits from channels: an op with a channel names it last."""
        row, operands = self._row, self._operands
        if row.chs.least and "chs" not in self._fields and operands:
            self._fields["chs"] = self._used("chs", operands[-row.chs.least :])
            operands = operands[: -row.chs.least]
        if operands:
            column = operands[0][1]
            self._once("vqs", self._used("vqs", operands), column)

    def _guard(self) -> Guard:
        cursor = self._cursor
        conditions = [self._condition()]
        join = next((mark for mark in ("&&", "||") if cursor.sees(mark)), None)
        while join is not None and cursor.take(join):
            conditions.append(self._condition())
        if cursor.sees("&&") or cursor.sees("||"):
            cursor.error("a guard joins its conditions by && or by ||, not by both")
        if join is None:
            return Guard(event=conditions[0].event, equals=conditions[0].equals)
        return Guard(type="and" if join == "&&" else "or", conditions=conditions)

    def _condition(self) -> Condition:
        cursor = self._cursor
        column = cursor.column
        event = cursor.name("an event")
        self._use(cursor, "events", event, column)
        if not cursor.take("=="):
            cursor.error("'==' was expected here")
        return Condition(event=event, equals=cursor.whole("an event's value"))

    def _as_written(self, found: Any, start: int) -> None:
        """Take over fields given as JSON, after checking their types."""
        cursor = self._cursor
        if not isinstance(found, dict) or {"id", "op"} & set(found):
            cursor.error("a JSON object of fields other than id and op was expected here", start)
        try:
            node = msgspec.convert({**found, "id": "", "op": ""}, Node)
        except msgspec.ValidationError as error:
            cursor.error(f"these fields do not fit: {error}", start)
        for field in found:
            value = getattr(node, field)
            self._once(field, value, start)
            if field in ("vqs", "chs"):
                self._used(field, [(name, start) for name in value])
            elif field in ("inputs", "produces"):
                self._used("events", [(name, start) for name in value])
            elif field == "guard" and value is not None:
                self._used("events", [(name, start) for name in _guard_events(value)])


def _guard_events(guard: Guard) -> Iterator[str]:
    if isinstance(guard.event, str):
        yield guard.event
    for condition in guard.conditions or ():
        yield condition.event


def _names(cursor: Cursor) -> list[tuple[str, int]]:
    """Names with commas between them, each with its column."""
    found = []
    while True:
        column = cursor.column
        found.append((cursor.name("a name"), column))
        if not cursor.take(","):
            return found


_NUMERIC: Final = (ArgType.INT, ArgType.NUMBER, ArgType.ANGLE)


def _argument_value(cursor: Cursor, arg: Arg) -> Any:
    if arg.type is ArgType.CHANNEL_OPTIONS:
        return cursor.json("a JSON object")
    if cursor.sees('"'):
        return cursor.string()
    if arg.type in _NUMERIC:
        return cursor.expression(conjunctions=False)
    return cursor.plain_text("a value")
