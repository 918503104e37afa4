"""A `Graph` in, assembly text out, so that `assemble(disassemble(graph)) == graph`.

A graph of any shape comes back, as long as its opcodes exist, no two nodes have the same id, what
nodes name is declared once, and every ALLOC_LQ states its `n`.
What the text has no words for (empty lists, node metadata, odd arguments) is written as JSON after
`@`. The grammar stands in `assemble.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import UNSET

from qvm.assembly_line import BARE, RESERVED
from qvm.expressions import WHOLE_MAX
from qvm.isa import OPS, ArgType, Op
from qvm.program import Graph, Guard, Node

LINE_CHARS: Final = 100  # declarations are broken at about this width


def disassemble(graph: Graph) -> str:
    """The text of a graph whose opcodes all exist (KeyError otherwise). Ends with a newline."""
    return "".join(f"{line}\n" for line in _lines(graph))


def _lines(graph: Graph) -> Iterator[str]:
    yield f".version {_name(graph.version, _PLAIN_TEXT)}"
    if isinstance(graph.description, str):
        yield f".description {_json(graph.description)}"
    if isinstance(graph.metadata, dict):
        yield f".meta {_json(graph.metadata)}"
    if isinstance(graph.caps, list):
        yield from _declaration("caps", graph.caps, always=True)
    for kind in ("vqs", "events", "chs"):
        yield from _declaration(kind, getattr(graph.resources, kind))
    yield ""
    for node in graph.program.nodes:
        yield _instruction(node)
        if node.op == "FENCE_EPOCH":
            yield ""


def _declaration(word: str, names: Iterable[str], *, always: bool = False) -> Iterator[str]:
    line = f".{word}"
    first = True
    for name in names:
        if not first and len(line) + len(name) > LINE_CHARS:
            yield line
            line = f".{word}"
        line += " " + _name(name)
        first = False
    if always or not first:
        yield line


def _instruction(node: Node) -> str:
    row = OPS[node.op]
    rest: dict[str, Any] = {}
    items = [*_arguments(row, node, rest), *_operands(row, node, rest)]
    parts = [f"{_name(node.id)}:", node.op]
    if items:
        parts.append(", ".join(items))
    for field, mark in (("inputs", "<-"), ("produces", "->")):
        names = _told(node, field, rest)
        if names and (field == "inputs" or row.produces.most):
            parts.append(f"{mark} {_named(names)}")
        elif names:
            rest[field] = names
    if row.name == "OPEN_CHAN" and node.chs:
        parts.append(f"-> {_named(node.chs)}")
    guard = _guard(node, rest)
    if guard:
        parts.append(f"if {guard}")
    if isinstance(node.caps, list):
        parts.append(f"[{_named(node.caps)}]")
    if node.metadata is not UNSET:
        rest["metadata"] = node.metadata
    if rest:
        parts.append(f"@{_json(rest)}")
    return " ".join(parts)


def _told(node: Node, field: str, rest: dict[str, Any]) -> list[str]:
    """The names in a list field; a list that is there but empty goes to `rest`."""
    names = getattr(node, field)
    if names is UNSET:
        return []
    if not names:
        rest[field] = []
    return list(names)


def _operands(row: Op, node: Node, rest: dict[str, Any]) -> list[str]:
    """Qubits, then the channel of an op that names it last."""
    qubits, channels = _told(node, "vqs", rest), _told(node, "chs", rest)
    if row.name == "OPEN_CHAN" and channels:
        return [_name(name) for name in qubits]
    if len(channels) != row.chs.least or (qubits and row.vqs.most == 0):
        # More or fewer channels than the op takes: the text could not tell them from qubits.
        for field, names in (("vqs", qubits), ("chs", channels)):
            if names or getattr(node, field) == []:
                rest[field] = names
        return []
    return [_name(name) for name in (*qubits, *channels)]


def _arguments(row: Op, node: Node, rest: dict[str, Any]) -> list[str]:
    """k=v for every argument that can be said so; the others go to `rest`."""
    if node.args is UNSET:
        return []
    known = {arg.name: arg for arg in row.args}
    said, unsaid = [], {}
    for name, value in node.args.items():
        text = _argument(known[name].type, value) if name in known else None
        if text is None:
            unsaid[name] = value
        else:
            said.append(f"{name}={text}")
    if unsaid or not node.args:
        rest["args"] = unsaid
    return said


_PLAIN_TEXT: Final = re.compile(r"[A-Za-z0-9_:.]+(\([A-Za-z0-9_=,]*\))?")
_NUMERIC: Final = (ArgType.INT, ArgType.NUMBER, ArgType.ANGLE)


def _argument(kind: ArgType, value: Any) -> str | None:
    """The argument's value as text, or None where only JSON will do."""
    if kind is ArgType.CHANNEL_OPTIONS:
        return _json(value)
    if isinstance(value, str):
        plain = kind not in _NUMERIC and _PLAIN_TEXT.fullmatch(value)
        return value if plain else _json(value)
    if isinstance(value, bool) or kind not in _NUMERIC:
        return None
    if isinstance(value, int) and abs(value) < WHOLE_MAX:
        return repr(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    return None


def _guard(node: Node, rest: dict[str, Any]) -> str:
    """The guard as text, or "" where there is none or only JSON will do."""
    guard = node.guard
    if guard is UNSET:
        return ""
    text = _plain_guard(guard) if guard is not None else ""
    if not text:
        rest["guard"] = msgspec.to_builtins(guard)
    return text


def _plain_guard(guard: Guard) -> str:
    """`a==1`, or two or more such conditions of an and/or; "" for any other shape."""
    if isinstance(guard.event, str):
        if guard.type is not UNSET or guard.conditions is not UNSET:
            return ""
        return _condition(guard.event, guard.equals)
    conditions = guard.conditions
    join = {"and": " && ", "or": " || "}.get(str(guard.type))
    if not isinstance(conditions, list) or len(conditions) < 2 or join is None:
        return ""
    if guard.equals is not UNSET or any(each.value is not UNSET for each in conditions):
        return ""
    tests = [_condition(each.event, each.equals) for each in conditions]
    return join.join(tests) if all(tests) else ""


def _condition(event: str, value: Any) -> str:
    if not isinstance(value, int) or abs(value) > WHOLE_MAX:
        return ""
    return f"{_name(event)}=={value}"


def _named(names: Iterable[str]) -> str:
    return ", ".join(_name(name) for name in names)


def _name(name: str, pattern: re.Pattern[str] = BARE) -> str:
    plain = pattern.fullmatch(name) is not None and name not in RESERVED
    return name if plain else _json(name)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
