"""Bytes in, a `Graph` or all structural findings out.

The typed decoder is fast and stops at the first fault. Only when it refuses does a second, slow
walk compare the plain JSON value with the same types, so that every fault is found and located and
nothing is described twice. What the fields mean is not looked at here; read `verify.py` next.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from msgspec import inspect

from qvm.findings import Findings, field, shown
from qvm.program import Condition, Graph, Node
from syscalls.findings import Finding
from syscalls.version import QVM_VERSION

VERSION: Final = QVM_VERSION
"""The one version of the format that this build reads."""

_DECODER: Final = msgspec.json.Decoder(Graph)
_GRAPH_TYPE: Final = inspect.type_info(Graph)
_LOCATED: Final = re.compile(r" - at `(\$[^`]*)`$")
_NESTED: Final = ("type", "conditions")


def decode_graph(raw: bytes) -> Graph | list[Finding]:
    """Decode one JSON document. Never raises.

    Returns the graph, or a `Findings` list: at most FINDINGS_MAX findings, their number in `total`.
    """
    try:
        with collector_paused():
            return _DECODER.decode(raw)
    except RecursionError:
        return _too_deep()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        refusal = error
    found = _structural(raw)
    if not found:
        # The typed decoder and the walk disagree: keep the refusal, in the decoder's own words.
        found.error("structure.type", _path_in(str(refusal)), _LOCATED.sub("", str(refusal)))
    return found


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the cyclic collector from scanning a large tree that cannot hold a cycle.

    A third of the time, on a million nodes. Nothing that runs meanwhile makes cycles.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _too_deep() -> Findings:
    found = Findings()
    found.error("bounds.depth", "$", "the document nests too deep to be read")
    return found


def _path_in(message: str) -> str:
    located = _LOCATED.search(message)
    return located[1] if located else "$"


def _structural(raw: bytes) -> Findings:
    """Every structural fault of a document that the typed decoder refused."""
    found = Findings()
    try:
        document = msgspec.json.decode(raw)
    except RecursionError:
        return _too_deep()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        text = str(error)
        found.error("structure.json", _path_in(text), _LOCATED.sub("", text))
        return found
    if isinstance(document, dict):
        version = document.get("version")
        if isinstance(version, str) and version != VERSION:
            message = f"version {shown(version)} is not {VERSION!r}, which this build reads"
            found.error("version.unknown", "$.version", message)
    _walk(found, _GRAPH_TYPE, document, "$", None)
    return found


def _walk(found: Findings, kind: inspect.Type, value: Any, path: str, node: str | None) -> None:
    """Compare `value` with its type. Recursion is as deep as the types nest, not the value."""
    match kind:
        case inspect.AnyType():
            return
        case inspect.UnionType():
            if value is None and any(isinstance(each, inspect.NoneType) for each in kind.types):
                return
            given = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
            assert len(given) == 1, "no field of the format is a union of two things"
            _walk(found, given[0], value, path, node)
        case inspect.StructType():
            if isinstance(value, dict):
                _walk_fields(found, kind, value, path, node)
            else:
                _wrong(found, "an object", value, path, node)
        case inspect.ListType():
            if isinstance(value, list):
                for index, item in enumerate(value):
                    if not _fits(item, kind.item_type):
                        _walk(found, kind.item_type, item, f"{path}[{index}]", node)
            else:
                _wrong(found, "a list", value, path, node)
        case inspect.DictType():
            if not isinstance(value, dict):
                _wrong(found, "an object", value, path, node)
        case inspect.StrType():
            if not isinstance(value, str):
                _wrong(found, "a string", value, path, node)
        case inspect.IntType():
            if isinstance(value, bool) or not isinstance(value, int):
                _wrong(found, "a whole number", value, path, node)
        case _:
            raise AssertionError(f"the walk knows no type {kind}")


def _fits(item: Any, kind: inspect.Type) -> bool:
    """True where the item surely is of that type: a fast way past a million sound items."""
    if isinstance(kind, inspect.StrType):
        return type(item) is str
    if not isinstance(kind, inspect.StructType):
        return False
    try:
        msgspec.convert(item, type=kind.cls)
    except msgspec.ValidationError:
        return False
    return True


def _walk_fields(
    found: Findings, kind: inspect.StructType, value: dict[str, Any], path: str, node: str | None
) -> None:
    if kind.cls is Node and isinstance(value.get("id"), str):
        node = value["id"]
    known = {each.encode_name: each for each in kind.fields}
    for name, item in value.items():
        row = known.get(name)
        if row is not None:
            _walk(found, row.type, item, f"{path}.{name}", node)
        elif kind.cls is Condition and name in _NESTED:
            message = "a condition compares one event; guards do not nest"
            found.error("guard.nested", field(path, name), message, node)
        else:
            message = f"there is no field {shown(name)} here; there are {', '.join(known)}"
            found.error("structure.unknown_field", field(path, name), message, node)
    for name, row in known.items():
        if row.required and name not in value:
            found.error("structure.missing", path, f"the field {name!r} is missing", node)


def _wrong(found: Findings, expected: str, value: Any, path: str, node: str | None) -> None:
    found.error("structure.type", path, f"expected {expected}, found {shown(value)}", node)
