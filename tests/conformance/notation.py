"""How cases write programs: a list of lines, one a node, made into a QVM graph.

A line is `OP operands [key=value ...] [<- inputs] [-> events] [if event==0]`, values in JSON. Names
that begin with `@` are channels. An ALLOC_LQ counts its operands and takes `logical:ideal` unless
it says otherwise. A node given as an object is taken as it is. This is a notation of the cases
alone; a server never sees it, and it leaves out what a case can write as an object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

PROFILE = "logical:ideal"


def graph(lines: Iterable[str | dict[str, Any]], caps: list[str] | None = None) -> dict[str, Any]:
    """The graph of these lines, with what they name declared in the order of first use."""
    nodes = [dict(line) if isinstance(line, dict) else node(line) for line in lines]
    for number, each in enumerate(nodes):
        each.setdefault("id", f"n{number}")
    resources = {
        "vqs": _first_uses(nodes, "vqs"),
        "chs": _first_uses(nodes, "chs"),
        "events": _first_uses(nodes, "produces"),
    }
    made: dict[str, Any] = {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}
    if caps is not None:
        made["caps"] = caps
    return made


def node(line: str) -> dict[str, Any]:
    """One line's node, without its id."""
    line, _, guard = line.partition(" if ")
    op, *words = line.split()
    made: dict[str, Any] = {"op": op}
    args: dict[str, Any] = {}
    field = "vqs"
    for word in words:
        if word in ("->", "<-"):
            field = {"->": "produces", "<-": "inputs"}[word]
        elif "=" in word:
            key, _, value = word.partition("=")
            args[key] = json.loads(value)
        elif word.startswith("@"):
            made.setdefault("chs", []).append(word[1:])
        else:
            made.setdefault(field, []).append(word)
    if op == "ALLOC_LQ":
        args = {"n": len(made["vqs"]), "profile": PROFILE} | args
    if args:
        made["args"] = args
    if guard:
        made["guard"] = _guard(guard)
    return made


def _guard(text: str) -> dict[str, Any]:
    for sign, kind in (("&&", "and"), ("||", "or")):
        if sign in text:
            return {"type": kind, "conditions": [_guard(part) for part in text.split(sign)]}
    event, _, value = text.partition("==")
    return {"event": event.strip(), "equals": int(value)}


def _first_uses(nodes: list[dict[str, Any]], field: str) -> list[str]:
    return list(dict.fromkeys(name for each in nodes for name in each.get(field, ())))
