"""A record as a person reads it: JSON with line breaks, or YAML. What is signed is neither."""

from __future__ import annotations

from typing import Any

import msgspec

INDENT = "  "


def as_json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def as_yaml(value: Any) -> str:
    """YAML 1.2 in blocks. Every string is quoted as JSON does it, which YAML reads the same way,
    so that none is taken for a number, a date or a truth value."""
    return "\n".join(_lines(msgspec.to_builtins(value))) + "\n"


def _lines(value: Any) -> list[str]:
    if isinstance(value, dict) and value:
        return [line for key, each in value.items() for line in _entry(f"{_scalar(key)}:", each)]
    if isinstance(value, list) and value:
        return [line for each in value for line in _entry("-", each)]
    return [_scalar(value)]


def _entry(head: str, value: Any) -> list[str]:
    inner = _lines(value)
    if not isinstance(value, dict | list) or not value:
        return [f"{head} {inner[0]}"]
    if head == "-":
        return [f"- {inner[0]}", *(INDENT + line for line in inner[1:])]
    return [head, *(INDENT + line for line in inner)]


def _scalar(value: Any) -> str:
    return msgspec.json.encode(value).decode()
