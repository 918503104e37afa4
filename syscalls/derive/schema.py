"""JSON Schemas (draft 2020-12) of every request, reply, notification and error."""

import inspect
import json
from typing import Any

import msgspec

from syscalls.errors import ERRORS
from syscalls.registry import CALLS, NOTIFICATIONS
from syscalls.version import ABI_VERSION

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]


def as_text(document: Json) -> str:
    """A JSON document as it is committed: indented, one final newline."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def components(types: list[Any], template: str) -> tuple[list[Json], Json]:
    """Schemas of these types, and of all they refer to by `template`, sorted by name."""
    schemas, named = msgspec.json.schema_components(types, ref_template=template)
    return [_tidy(schema) for schema in schemas], {key: _tidy(named[key]) for key in sorted(named)}


def documents() -> dict[str, str]:
    """File name to text: one schema per request, reply and notification, and one of all errors."""
    files: dict[str, str] = {}
    for call in CALLS:
        files[f"{call.METHOD}.request.json"] = _document(f"{call.METHOD}.request", [call])
        files[f"{call.METHOD}.reply.json"] = _document(f"{call.METHOD}.reply", [call.REPLY])
    for method, event in NOTIFICATIONS.items():
        files[f"{method}.json"] = _document(method, [event])
    files["errors.json"] = _document("errors", list(ERRORS))
    return files


def _document(name: str, types: list[Any]) -> str:
    schemas, named = components(types, "#/$defs/{name}")
    body = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return as_text(
        {
            "$schema": DIALECT,
            "$id": f"urn:qmk:abi:{ABI_VERSION}:{name}",
            **body,
            "$defs": named,
        }
    )


def _tidy(node: Any) -> Any:
    """Take the indentation of the source out of descriptions that come from docstrings."""
    if isinstance(node, dict):
        return {
            key: inspect.cleandoc(value)
            if key == "description" and isinstance(value, str)
            else _tidy(value)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_tidy(value) for value in node]
    return node
