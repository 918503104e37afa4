"""`runtime/client/stubs.py`: one typed function per call, which builds its request."""

import inspect
import types
from enum import Enum
from typing import Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT, UNSET

from syscalls.registry import CALLS
from syscalls.syscall import Syscall

HEADER = '''# Generated from syscalls/ by `make regen`; change the types, not this file.
# ruff: noqa: B006, B008 (nobody changes these defaults)
"""One typed function per call of the ABI, which builds the request and does nothing else.

Clients wrap these: sending, waiting and retrying are theirs. The calls are in `syscalls`.
"""
'''
INDENT = " " * 4


def stubs() -> str:
    """The module's source, formatted as `ruff format` would."""
    used: set[tuple[str, str]] = set()
    methods = [_method(call, used) for call in CALLS]
    groups = [
        [line for line in _imports(used) if _rank(line) == rank] for rank in range(len(RANKS) + 1)
    ]
    imports = "\n".join("".join(group) for group in groups if group)
    head = f'class Calls:\n{INDENT}"""Requests, by the name of their call."""\n\n'
    return f"{HEADER}\n{imports}\n\n{head}" + "\n".join(methods)


LINE_CHARS_MAX = 100  # as the formatter has it
RANKS = ("from typing", "from msgspec")


def _rank(line: str) -> int:
    """Which group of imports a line belongs to: the standard library's, others', ours."""
    return next((i for i, start in enumerate(RANKS) if line.startswith(start)), len(RANKS))


def _imports(used: set[tuple[str, str]]) -> list[str]:
    lines = []
    for module in sorted({module for module, _ in used}):
        # As ruff orders them: constants, then classes, then the rest.
        names = sorted(
            {name for at, name in used if at == module},
            key=lambda name: (not name.isupper(), not name[0].isupper(), name),
        )
        line = f"from {module} import {', '.join(names)}\n"
        if len(line) > LINE_CHARS_MAX + 1:
            line = f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")\n"
        lines.append(line)
    return lines


def _method(call: type[Syscall], used: set[tuple[str, str]]) -> str:
    name = call.METHOD.removeprefix("q_").removeprefix("rpc.")
    hints = get_type_hints(call)
    used.add((call.__module__, call.__name__))
    fields = msgspec.structs.fields(call)
    parameters = [
        f"{field.name}: {_hint(hints[field.name], used)}{_default(field, used)}" for field in fields
    ]
    arguments = [f"{field.name}={field.name}" for field in fields]
    lines = (inspect.getdoc(call) or "").splitlines()
    closing = f'\n{INDENT * 2}"""' if len(lines) > 1 else '"""'
    doc = "\n".join(f"{INDENT * 2}{line}".rstrip() for line in lines).strip() + closing
    given = ["*", *parameters] if parameters else []
    head = _listed(INDENT, f"def {name}(", given, f") -> {call.__name__}:")
    made = _listed(INDENT * 2, f"return {call.__name__}(", arguments, ")")
    return f'{INDENT}@staticmethod\n{head}{INDENT * 2}"""{doc}\n{made}'


def _listed(indent: str, opening: str, parts: list[str], closing: str) -> str:
    """Parts between brackets: on one line, else on one of their own, else each on one."""
    whole = f"{indent}{opening}{', '.join(parts)}{closing}\n"
    if len(whole) <= LINE_CHARS_MAX + 1:
        return whole
    inner = f"{indent}{INDENT}{', '.join(parts)}\n"
    if len(inner) > LINE_CHARS_MAX + 1:
        inner = "".join(f"{indent}{INDENT}{part},\n" for part in parts)
    return f"{indent}{opening}\n{inner}{indent}{closing}\n"


def _default(field: msgspec.structs.FieldInfo, used: set[tuple[str, str]]) -> str:
    if field.default is UNSET:
        used.add(("msgspec", "UNSET"))
        return " = UNSET"
    if isinstance(field.default, msgspec.Struct):
        return f" = {type(field.default).__name__}()"
    if field.default is not NODEFAULT:
        return f" = {_literal(field.default)}"
    if field.default_factory is not NODEFAULT:
        made = field.default_factory()
        assert made == type(made)(), "a default made afresh is an empty one"
        return f" = {made!r}" if isinstance(made, list | dict) else f" = {type(made).__name__}()"
    return ""


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _hint(hint: Any, used: set[tuple[str, str]]) -> str:
    """The source text of a type, its imports noted in `used`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        used.add(("typing", "Literal"))
        return f"Literal[{', '.join(_literal(value) for value in inner)}]"
    if origin in (Union, types.UnionType):
        return " | ".join(_hint(option, used) for option in inner)
    if origin is not None:
        return f"{origin.__name__}[{', '.join(_hint(option, used) for option in inner)}]"
    if hint is type(None):
        return "None"
    if isinstance(hint, NewType) or issubclass(hint, msgspec.Struct | Enum):
        used.add((hint.__module__, hint.__name__))
    elif hint.__module__ != "builtins":
        used.add(("msgspec", hint.__name__))
    return str(hint.__name__)
