"""The OpenRPC 1.3 document that `rpc.discover` answers with.

Beyond the standard: `x-available` says whether this build performs the call, `x-needs` which
right it takes, `x-notifications` what the kernel sends unasked.
"""

import inspect
from typing import Any

from syscalls.derive.samples import sample
from syscalls.derive.schema import Json, components
from syscalls.errors import ERRORS, KernelError
from syscalls.registry import CALLS, NOTIFICATIONS, WIRE_ERRORS
from syscalls.syscall import Syscall
from syscalls.version import ABI_VERSION, QVM_VERSION

OPENRPC_VERSION = "1.3.2"
_TEMPLATE = "#/components/schemas/{name}"


def document() -> Json:
    """Describe the whole ABI."""
    types: list[Any] = [*CALLS, *(call.REPLY for call in CALLS), *NOTIFICATIONS.values(), *ERRORS]
    _, schemas = components(types, _TEMPLATE)
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {
            "title": "The qSyscall ABI",
            "version": ABI_VERSION,
            "description": (
                "Calls to one fault-tolerant quantum machine's kernel: newline-delimited "
                f"JSON-RPC 2.0 over a Unix socket. Programs are QVM graphs, version {QVM_VERSION}."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "methods": [_method(call, schemas) for call in CALLS],
        "components": {
            "schemas": schemas,
            "errors": {error.__name__: _error(error) for error in ERRORS},
        },
        "x-notifications": [
            {"name": name, "schema": _reference(event)} for name, event in NOTIFICATIONS.items()
        ],
    }


def _method(call: type[Syscall], schemas: Json) -> Json:
    summary, _, rest = inspect.getdoc(call).partition("\n\n")  # type: ignore[union-attr]
    schema = schemas[call.__name__]
    reply = {"name": call.REPLY.__name__, "schema": _reference(call.REPLY)}
    method: Json = {"name": call.METHOD, "summary": " ".join(summary.split())}
    if rest:
        method["description"] = rest
    return method | {
        "paramStructure": "by-name",
        "params": [
            _parameter(name, property_, name in schema["required"])
            for name, property_ in schema["properties"].items()
        ],
        "result": reply,
        "errors": [
            {"$ref": f"#/components/errors/{error.__name__}"}
            for error in ERRORS
            if error in WIRE_ERRORS or error in call.ERRORS
        ],
        "examples": [_example(call)],
        "x-available": call.AVAILABLE,
        "x-needs": call.NEEDS,
    }


def _parameter(name: str, schema: Json, required: bool) -> Json:
    parameter = {"name": name, "required": required, "schema": schema}
    if "description" in schema:
        parameter["description"] = schema["description"]
    return parameter


def _example(call: type[Syscall]) -> Json:
    params = sample(call)
    return {
        "name": call.METHOD,
        "params": [{"name": name, "value": value} for name, value in params.items()],
        "result": {"name": call.REPLY.__name__, "value": sample(call.REPLY)},
    }


def _error(error: type[KernelError]) -> Json:
    return {"code": error.CODE, "message": error.NAME, "data": _reference(error)}


def _reference(wire_type: type[Any]) -> Json:
    return {"$ref": _TEMPLATE.format(name=wire_type.__name__)}
