"""From what a caller has (a path, a dict, JSON, assembly, a `Graph`) to the JSON that is submitted.

Reads files; verifies nothing, that is `qvm.verify` and the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from qvm.assemble import assemble
from qvm.assembly_line import AsmError
from qvm.program import Graph
from runtime.client.errors import BadProgram

Program = str | bytes | os.PathLike[str] | Mapping[str, Any] | Graph
"""A path; or the text of a program, JSON or assembly; or the graph as a dict or a `Graph`."""


def graph_json(program: Program) -> bytes:
    """The program as JSON bytes. Raises `BadProgram`, which says what is wrong with the source.

    A string with a line break in it, or that begins with `{`, is a program's text; any other
    string is a path. Text that begins with `{` is JSON, any other text is assembly.
    """
    if isinstance(program, os.PathLike):
        return _from_file(Path(program))
    if isinstance(program, str):
        if "\n" in program or program.lstrip().startswith("{"):
            return from_text(program, file="", folder=Path())
        return _from_file(Path(program))
    if isinstance(program, bytes):
        return from_text(_decoded(program, "the program"), file="", folder=Path())
    try:
        return msgspec.json.encode(program)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadProgram(f"The program cannot be written as JSON: {error}.") from error


def from_text(text: str, *, file: str, folder: Path) -> bytes:
    """JSON is put on one line; assembly is assembled, with includes relative to `folder`."""
    if text.lstrip().startswith("{"):
        try:
            # A request is one line, so the program in it must not hold line breaks.
            return msgspec.json.format(text.encode(), indent=-1)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise BadProgram(f"{file or 'The program'} is not JSON: {error}.") from error

    def include(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    try:
        return msgspec.json.encode(assemble(text, include=include, file=file))
    except AsmError as error:
        raise BadProgram(error.listing()) from error


def _from_file(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadProgram(f"Cannot read {path}: {error.strerror}.") from error
    return from_text(_decoded(raw, str(path)), file=str(path), folder=path.parent)


def _decoded(raw: bytes, what: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadProgram(f"{what} is not UTF-8 text (byte {error.start}).") from error
