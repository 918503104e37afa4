"""Writes what follows from the format's types and tables: the JSON Schema and the reference pages.

    python -m qvm.schema            write the files
    python -m qvm.schema --check    change nothing; exit status 1 and their names if any is stale

The schema says what JSON Schema can say: structure, operands, arguments, capabilities. Whatever it
refuses, the verifier refuses too; what it accepts may still break a rule about the whole program.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from qvm import isa
from qvm.angles import ANGLE_CHARS_MAX
from qvm.decode import VERSION
from qvm.isa import Arg, ArgType, Count, Kind, Op
from qvm.names import NAME_PATTERN
from qvm.profiles import PROFILE_CHARS_MAX
from qvm.program import Graph
from qvm.reference_pages import pages
from syscalls.rights import Right

ROOT: Final = Path(__file__).resolve().parents[1]
SCHEMA_FILE: Final = f"qvm/schema/qvm-{VERSION}.schema.json"

Schema = dict[str, Any]

_LISTS: Final = ("vqs", "chs", "inputs", "produces")
_GUARDED: Final[Schema] = {"required": ["guard"], "properties": {"guard": {"type": "object"}}}
_UNGUARDED: Final[Schema] = {"properties": {"guard": {"type": "null"}}}


def graph_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a graph."""
    made = msgspec.json.schema(Graph)
    rows: dict[str, Schema] = made["$defs"]
    for row in rows.values():
        row.pop("title", None)
        row.pop("description", None)
    _refine_head(rows["Graph"]["properties"], rows["Resources"]["properties"])
    rows["Body"]["properties"]["nodes"]["maxItems"] = isa.NODES_MAX
    _refine_node(rows["Node"])
    _refine_guard(rows)
    rows["Name"] = {"type": "string", "pattern": NAME_PATTERN}
    rows["Capability"] = {"enum": [right.value for right in Right]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"QVM graph, version {VERSION}",
        "$ref": "#/$defs/Graph",
        "$defs": dict(sorted(rows.items())),
    }


def _names(most: int) -> Schema:
    return {"type": "array", "items": {"$ref": "#/$defs/Name"}, "maxItems": most}


def _refine_head(graph: Schema, resources: Schema) -> None:
    graph["version"] = {"const": VERSION}
    graph["caps"]["items"] = {"$ref": "#/$defs/Capability"}
    for kind, most in (
        ("vqs", isa.QUBITS_MAX),
        ("chs", isa.CHANNELS_MAX),
        ("events", isa.EVENTS_MAX),
    ):
        resources[kind] = {**_names(most), "uniqueItems": True}


def _refine_node(node: Schema) -> None:
    fields = node["properties"]
    fields["id"] = {"$ref": "#/$defs/Name"}
    fields["op"] = {"enum": [op.name for op in isa.TABLE]}
    fields["caps"]["items"] = {"$ref": "#/$defs/Capability"}
    for kind in _LISTS:
        fields[kind] = {**_names(isa.OPERANDS_MAX), "uniqueItems": kind != "inputs"}
    node["allOf"] = [
        {"if": {"properties": {"op": {"const": op.name}}}, "then": op_schema(op)}
        for op in isa.TABLE
    ]


def _refine_guard(rows: dict[str, Schema]) -> None:
    value = {"type": "integer", "minimum": 0, "maximum": 3}
    name = {"$ref": "#/$defs/Name"}
    rows["Condition"]["properties"] = {"event": name, "equals": value, "value": value}
    rows["Condition"]["oneOf"] = [{"required": ["equals"]}, {"required": ["value"]}]
    conditions = {
        "type": "array",
        "items": {"$ref": "#/$defs/Condition"},
        "minItems": 1,
        "maxItems": isa.CONDITIONS_MAX,
    }
    rows["Guard"] = {
        "oneOf": [
            _object({"event": name, "equals": value}),
            _object({"type": {"enum": ["and", "or"]}, "conditions": conditions}),
        ]
    }


def _object(fields: Schema) -> Schema:
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def op_schema(op: Op) -> Schema:
    """What one opcode asks of the node it stands in."""
    counts = {kind: getattr(op, kind) for kind in _LISTS if kind != "inputs"}
    fields: Schema = {kind: _counted(count) for kind, count in counts.items()}
    required = [kind for kind, count in counts.items() if count.least > 0]
    fields["args"] = args = _args_schema(op)
    if args.get("required") or args.get("minProperties") or args.get("oneOf"):
        required.append("args")
    schema: Schema = {"properties": fields, "required": required}
    if not op.guardable:
        schema["allOf"] = [_UNGUARDED, {"properties": {"inputs": {"maxItems": 0}}}]
    elif op.inputs.most:
        some = {"required": ["inputs"], "properties": {"inputs": {"minItems": 1}}}
        schema["anyOf"] = [some, _GUARDED]
        fields["inputs"] = {"uniqueItems": True}
    else:
        # A node may repeat the events of its guard as inputs, and no others.
        schema |= {"if": _UNGUARDED, "then": {"properties": {"inputs": {"maxItems": 0}}}}
    return schema


def _counted(count: Count) -> Schema:
    return {"minItems": count.least, "maxItems": count.most}


def _args_schema(op: Op) -> Schema:
    schema: Schema = {
        "properties": {row.name: arg_schema(row) for row in op.args},
        "additionalProperties": False,
    }
    if required := [row.name for row in op.args if row.required]:
        schema["required"] = required
    groups = sorted({row.group for row in op.args} - {""})
    for group in groups:
        members = [row.name for row in op.args if row.group == group]
        schema["oneOf"] = [{"required": [name]} for name in members]
    if op.name == "OPEN_CHAN":
        apart = {"not": {"required": ["opts"]}, "required": ["fidelity"]}
        schema["oneOf"] = [{"required": ["opts"], "maxProperties": 1}, apart]
    if op.kind is Kind.ADMIN:
        schema["minProperties"] = 1
    return schema


def arg_schema(row: Arg) -> Schema:
    """The JSON Schema of one argument."""
    made: Schema
    match row.type:
        case ArgType.INT | ArgType.NUMBER:
            made = {"type": "integer" if row.type is ArgType.INT else "number"}
            made |= {"minimum": row.minimum} if math.isfinite(row.minimum) else {}
            made |= {"maximum": row.maximum} if math.isfinite(row.maximum) else {}
        case ArgType.ANGLE:
            made = {"type": ["number", "string"], "minLength": 1, "maxLength": ANGLE_CHARS_MAX}
        case ArgType.TEXT:
            made = {"type": "string", "minLength": 1, "maxLength": isa.TEXT_CHARS_MAX}
        case ArgType.PROFILE:
            made = {"type": "string", "minLength": 1, "maxLength": PROFILE_CHARS_MAX}
        case ArgType.PAULI:
            made = {"type": "string", "pattern": "^[IXYZ]+$"}
        case ArgType.CHOICE:
            made = {"enum": list(row.choices)}
        case ArgType.CHANNEL_OPTIONS:
            inner = {each.name: arg_schema(each) for each in isa.CHANNEL_OPTIONS}
            made = {"type": "object", "properties": inner, "additionalProperties": False}
    return made | ({"description": row.help} if row.help else {})


def generated() -> dict[str, str]:
    """Path below the repository's root -> text, of every file that is generated here."""
    schema = json.dumps(graph_schema(), indent=2) + "\n"
    return {SCHEMA_FILE: schema, **pages()}


def stale() -> list[str]:
    """Paths of generated files that are missing or differ."""
    return [
        path
        for path, text in generated().items()
        if not (ROOT / path).is_file() or (ROOT / path).read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    """Write the stale files; with `--check`, name them instead. Returns the exit status."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m qvm.schema [--check]", file=sys.stderr)
        return 2
    old = stale()
    for path in old:
        if arguments:
            print(f"{path} is stale: run `make regen`", file=sys.stderr)
            continue
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(generated()[path], encoding="utf-8")
        print(f"wrote {path}")
    return 1 if arguments and old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
