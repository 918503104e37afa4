"""Parameters of every call: what is read fits the published schema, and what does not is not read.

An input is the number of a method and the JSON of its parameters. The schema is judged by another
library, which shares no code with the reader.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec

from syscalls.derive.samples import sample
from syscalls.derive.schema import documents
from syscalls.errors import InvalidParams, InvalidRequest, ParseError
from syscalls.jsonrpc import LARGE_BYTES_MIN, Failure, Request, parse
from syscalls.registry import METHODS
from tests.fuzz.targets.wire import check_message

BYTES_MAX = 2000
CODEC = "json"
HEAD_BYTES = 1

_NAMES = sorted(METHODS)
_SCHEMAS = {
    name: jsonschema.Draft202012Validator(msgspec.json.decode(documents()[f"{name}.request.json"]))
    for name in _NAMES
}


def check(data: bytes) -> None:
    if not data:
        return
    method, params = _NAMES[data[0] % len(_NAMES)], data[HEAD_BYTES:]
    head = b'{"jsonrpc":"2.0","id":1,"method":"' + method.encode() + b'","params":'
    message = parse(head + params + b"}")
    padded = parse(head + params + b" " * LARGE_BYTES_MIN + b"}")
    if not (isinstance(message, Failure) and isinstance(message.error, ParseError)):
        assert padded == message, "a message means the same in one pass and in two"
    match message:
        case Request(call=call):
            assert type(call) is METHODS[method]
            document = sole(params)
            if document is not None:
                _SCHEMAS[method].validate(document)
        case Failure(error=error):
            assert isinstance(error, (InvalidParams, InvalidRequest, ParseError)), error
            document = sole(params)
            if isinstance(document, dict) and not odd(document):
                assert isinstance(error, InvalidParams)
                assert not _SCHEMAS[method].is_valid(document), error.sentence()
    check_message(message)


def sole(params: bytes) -> Any:
    """The JSON value; None where the bytes are not one value, for then they may end the message, or
    where keys come twice, for then each value must fit and the schema only sees the last."""
    try:
        msgspec.json.decode(params)
        return json.loads(params, object_pairs_hook=once)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError where a key comes twice."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key comes twice")
    return dict(pairs)


def odd(value: Any) -> bool:
    """Whether it holds numbers that JSON has and the ABI does not take: beyond what 64 bits and a
    double hold, or whole ones written with a point."""
    if isinstance(value, dict):
        return any(map(odd, value.values()))
    if isinstance(value, list):
        return any(map(odd, value))
    if isinstance(value, float):
        return value.is_integer() or not math.isfinite(value)
    return isinstance(value, int) and not -(2**63) <= value < 2**64


def seeds() -> Iterator[bytes]:
    for number, name in enumerate(_NAMES):
        for full in (False, True):
            yield bytes([number]) + msgspec.json.encode(sample(METHODS[name], full=full))
