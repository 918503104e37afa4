"""`python -m qvm`: verify, assemble, disassemble, draw and solve programs from files.

The only part of this room that reads and writes files. A FILE is JSON where its first character is
`{` and assembly text otherwise; `-` is standard input. Exit status: 0 all is well (warnings may
have been printed); 1 the program or its text has errors, which are printed with their places; 2 the
command line is wrong, a file cannot be read or written, or the program is too large for what was
asked. With `--json` every command prints one JSON object, also when it fails.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from qvm.assemble import AsmError, Include, assemble_located, parse_param
from qvm.decode import decode_graph
from qvm.disassemble import disassemble
from qvm.drawing import DrawingLimit, draw
from qvm.expressions import Value
from qvm.isa import OPS
from qvm.program import Graph, VerifiedProgram
from qvm.reference import Distribution, ReferenceLimit, distribution
from qvm.rev import NotUndoable, rev_segments, uncomputed
from qvm.show import WIDTH_DEFAULT, show_svg, show_text
from qvm.verify import verify
from syscalls.findings import Finding

OK: Final = 0
FINDINGS: Final = 1
UNUSABLE: Final = 2

FILE_BYTES_MAX: Final = 1 << 29
LISTED_MAX: Final = 20  # names, segments or epochs that a summary lists before it counts the rest


class _Refused(Exception):
    """Stop with an exit status. told: sentences for people. body: the same for programs."""

    def __init__(self, status: int, told: Sequence[str], body: dict[str, Any]) -> None:
        super().__init__(status)
        self.status = status
        self.told = told
        self.body = body


class _Source(msgspec.Struct, frozen=True):
    """A graph as read. origins: the line of assembly text that each node came from, if any."""

    name: str
    graph: Graph
    origins: list[tuple[str, int]] | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. A wrong command line raises SystemExit(2)."""
    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        status = command(options)
        sys.stdout.flush()
        return status
    except OSError as error:
        print(f"the output cannot be written: {_reason(error)}", file=sys.stderr)
        return UNUSABLE
    except _Refused as refused:
        if options.json:
            _print_json({"ok": False, **refused.body})
        else:
            for line in refused.told:
                print(line, file=sys.stderr)
        return refused.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m qvm",
        description="Verify, assemble, disassemble, draw and solve QVM programs.",
        epilog="exit status: 0 all is well; 1 the program or its text has errors; "
        "2 wrong usage, an unreadable file, or a program too large for what was asked",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("verify", _verify, "check a program and say what it needs"),
        ("asm", _asm, "assembly text to JSON"),
        ("disasm", _disasm, "JSON to assembly text"),
        ("show", _show, "draw the program as a circuit"),
        ("undo", _undo, "undo a REV segment by running it backwards further down"),
        ("exact", _exact, "print the exact distribution of the program's record"),
    ):
        each = commands.add_parser(name, help=text, description=text)
        each.set_defaults(run=run)
        each.add_argument(
            "file", metavar="FILE", help="JSON or assembly text; - for standard input"
        )
        each.add_argument("--json", action="store_true", help="print one JSON object")
        each.add_argument(
            "-p", dest="params", metavar="NAME=VALUE", action="append", type=_param, default=[],
            help="a value for a .param of assembly text",
        )  # fmt: skip
        if name == "undo":
            each.add_argument(
                "--segment", metavar="N", type=int, required=True,
                help="which segment, as `verify` numbers them, from 1",
            )  # fmt: skip
            each.add_argument(
                "--before", metavar="NODE",
                help="undo it just before this node (default: where its qubits are freed)",
            )  # fmt: skip
            each.add_argument(
                "--witness", action="store_true",
                help="measure the qubits that are undone before freeing them: all must be 0",
            )  # fmt: skip
        if name in ("asm", "disasm", "undo"):
            each.add_argument("-o", dest="out", metavar="OUT", help="write to a file")
        if name == "show":
            each.add_argument("--svg", metavar="OUT", help="write an SVG drawing to a file")
            each.add_argument(
                "--width", metavar="N", type=int, default=WIDTH_DEFAULT, help="characters a line"
            )
    return parser


def _param(text: str) -> tuple[str, Value]:
    try:
        return parse_param(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# Commands.


def _verify(options: argparse.Namespace) -> int:
    source = _read(options)
    program = _verified(source)
    if options.json:
        _print_json(
            {
                "ok": True,
                "summary": program.summary,
                "segments": [
                    {"epoch": each.epoch, "nodes": [node.id for node in each.nodes]}
                    for each in rev_segments(program)
                ],
                "epoch_nodes": _epoch_sizes(program),
                "findings": program.warnings,
            }
        )
        return OK
    print(f"{source.name}: sound")
    for key, value in _summary(program):
        print(f"  {key:<10} {value}")
    for line in _told(source, program.warnings):
        print(line)
    return OK


def _asm(options: argparse.Namespace) -> int:
    source = _read(options)
    program = _verified(source)
    for line in _told(source, program.warnings):
        print(line, file=sys.stderr)
    if options.out:
        _write(options.out, format_graph(source.graph))
    if options.json:
        body = {"out": options.out} if options.out else {"graph": source.graph}
        _print_json({"ok": True, **body, "findings": program.warnings})
    elif not options.out:
        print(format_graph(source.graph), end="")
    return OK


def _disasm(options: argparse.Namespace) -> int:
    source = _read(options)
    if not all(node.op in OPS for node in source.graph.program.nodes):
        _verified(source)
    text = disassemble(source.graph)
    if options.out:
        _write(options.out, text)
    if options.json:
        _print_json({"ok": True, **({"out": options.out} if options.out else {"text": text})})
    elif not options.out:
        print(text, end="")
    return OK


def _show(options: argparse.Namespace) -> int:
    program = _verified(_read(options))
    try:
        text, svg = show_text(program, options.width), show_svg(program) if options.svg else ""
    except DrawingLimit as limit:
        raise _unusable(str(limit)) from None
    if options.svg:
        _write(options.svg, svg)
    if options.json:
        body = {"svg": options.svg} if options.svg else {}
        _print_json({"ok": True, **body, "drawing": draw(program)})
    elif not options.svg:
        print(text, end="")
    return OK


def _undo(options: argparse.Namespace) -> int:
    source = _read(options)
    program = _verified(source)
    segments = rev_segments(program)
    if not 1 <= options.segment <= len(segments):
        raise _unusable(f"the program has {len(segments)} REV segments, counted from 1")
    try:
        graph = uncomputed(program, segments[options.segment - 1], options.before, options.witness)
    except KeyError:
        raise _unusable(f"the program has no node {options.before!r}") from None
    except NotUndoable as refusal:
        body = {"error": {"node": refusal.node, "message": str(refusal)}}
        raise _Refused(FINDINGS, [str(refusal)], body) from None
    _verified(_Source(source.name, graph))
    if options.out:
        _write(options.out, format_graph(graph))
    if options.json:
        _print_json({"ok": True, **({"out": options.out} if options.out else {"graph": graph})})
    elif not options.out:
        print(format_graph(graph), end="")
    return OK


def _exact(options: argparse.Namespace) -> int:
    program = _verified(_read(options))
    try:
        found = distribution(program)
    except ReferenceLimit as limit:
        raise _unusable(str(limit)) from None
    if options.json:
        events, probabilities = found.events, found.probabilities
        _print_json({"ok": True, "events": events, "probabilities": probabilities})
        return OK
    for line in _table(found):
        print(line)
    return OK


# Reading and writing.


def _read(options: argparse.Namespace) -> _Source:
    """The graph in the file, assembled or decoded."""
    raw = _bytes(options.file)
    name = "standard input" if options.file == "-" else options.file
    if raw.lstrip(b" \t\r\n")[:1] == b"{" and options.run is not _asm:
        if options.params:
            raise _unusable("-p sets a .param of assembly text; this file is JSON")
        graph = decode_graph(raw)
        if not isinstance(graph, Graph):
            raise _found(_Source(name, _NOTHING), graph)
        return _Source(name, graph)
    include = None if options.file == "-" else _including(Path(options.file).parent)
    try:
        assembly = assemble_located(
            _text(raw, name), params=dict(options.params), include=include, file=name
        )
    except AsmError as error:
        place = {"file": error.file, "line": error.line, "column": error.column}
        body = {"error": {**place, "message": error.message}}
        raise _Refused(FINDINGS, [error.listing()], body) from None
    return _Source(name, assembly.graph, assembly.origins)


_NOTHING: Final = msgspec.convert(
    {"version": "", "program": {"nodes": []}, "resources": {"vqs": [], "events": []}}, Graph
)


def _bytes(name: str) -> bytes:
    try:
        if name == "-":
            raw = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with Path(name).open("rb") as file:
                raw = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise _unusable(f"{name!r} cannot be read: {_reason(error)}") from None
    if len(raw) > FILE_BYTES_MAX:
        raise _unusable(f"{name!r} is larger than {FILE_BYTES_MAX} bytes")
    return raw


def _text(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unusable(f"{name!r} is not UTF-8 text: byte {error.start} is wrong") from None


def _including(directory: Path) -> Include:
    """A loader of files in `directory` or below it, wherever links and dots lead."""

    def include(name: str) -> str:
        base = directory.resolve()
        path = (base / name).resolve()
        if not path.is_relative_to(base):
            raise ValueError("it lies outside the directory of the including file")
        try:
            with path.open("rb") as file:
                raw = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise ValueError(_reason(error)) from None
        if len(raw) > FILE_BYTES_MAX:
            raise ValueError(f"it is larger than {FILE_BYTES_MAX} bytes")
        return raw.decode()

    return include


def _write(name: str, text: str) -> None:
    try:
        Path(name).write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _unusable(f"{name!r} cannot be written: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _unusable(message: str) -> _Refused:
    return _Refused(UNUSABLE, [message], {"error": {"message": message}})


def _verified(source: _Source) -> VerifiedProgram:
    program = verify(source.graph)
    if isinstance(program, VerifiedProgram):
        return program
    raise _found(source, program)


def _found(source: _Source, findings: Sequence[Finding]) -> _Refused:
    total = getattr(findings, "total", len(findings))
    told = [*_told(source, findings), f"{source.name}: {total} finding{'s' if total > 1 else ''}"]
    body = {"findings": list(findings), "findings_total": total}
    return _Refused(FINDINGS, told, body)


def _told(source: _Source, findings: Sequence[Finding]) -> list[str]:
    """One line for each finding: severity, node, path, sentence, rule."""
    places: dict[str, str] = {}
    if source.origins is not None:
        nodes = source.graph.program.nodes
        for written, (file, line) in zip(nodes, source.origins, strict=True):
            places[written.id] = f"{file}:{line}: "
    lines = []
    for each in findings:
        node = "" if each.node is None else f"node {each.node!r}, "
        place = places.get(each.node or "", "")
        lines.append(f"{place}{each.severity}: {node}{each.path}: {each.message} [{each.rule}]")
    return lines


# Summaries.


def _summary(program: VerifiedProgram) -> list[tuple[str, str]]:
    it = program.summary
    profiles = [
        f"{each.asked} (runs at d={each.distance})" if each.distance != each.asked_distance
        else each.asked
        for each in it.profiles
    ]  # fmt: skip
    rows = [
        ("digest", it.digest),
        ("nodes", f"{it.nodes} in {it.epochs} epochs"),
        ("peaks", f"{it.peak_logical} logical qubits, {it.peak_physical} physical, "
                  f"{it.peak_channels} channels"),
        ("T states", f"{it.t_states}, if every guard holds"),
        ("rights", _some(it.rights)),
        ("families", _some(it.families)),
        ("profiles", _some(profiles)),
        ("events", _some([each.name for each in it.events])),
        ("opcodes", _some([f"{name} {number}" for name, number in sorted(it.ops.items())])),
        ("class", "Clifford" if it.clifford else "not Clifford"),
        ("epochs", _some([f"{i}: {n} nodes" for i, n in enumerate(_epoch_sizes(program))])),
    ]  # fmt: skip
    segments = rev_segments(program)
    for i, each in enumerate(segments[:LISTED_MAX], 1):
        ids = [node.id for node in each.nodes]
        span = ids[0] if len(ids) == 1 else f"{ids[0]} … {ids[-1]}"
        rows.append((f"REV {i}", f"epoch {each.epoch}, {len(ids)} nodes: {span}"))
    if len(segments) > LISTED_MAX:
        rows.append(("", f"and {len(segments) - LISTED_MAX} more REV segments"))
    return rows


def _epoch_sizes(program: VerifiedProgram) -> list[int]:
    sizes = Counter(program.epoch)
    return [sizes[epoch] for epoch in range(program.summary.epochs)]


def _some(words: Sequence[str]) -> str:
    shown = ", ".join(words[:LISTED_MAX])
    if len(words) > LISTED_MAX:
        return f"{shown} and {len(words) - LISTED_MAX} more"
    return shown or "none"


def _table(found: Distribution) -> list[str]:
    """Records and probabilities, the most probable first."""
    head = "events: " + " ".join(each.name for each in found.events)
    rows = sorted(found.probabilities.items(), key=lambda row: (-round(row[1], 12), row[0]))
    return [head, *(f"{record}  {probability:.12f}" for record, probability in rows)]


def format_graph(graph: Graph) -> str:
    """The graph as JSON with one node a line, ending with a newline."""
    plain = msgspec.to_builtins(graph)
    nodes = ",\n".join(f"      {_json(node)}" for node in plain["program"]["nodes"])
    body = f'"nodes": [\n{nodes}\n    ]' if nodes else '"nodes": []'
    fields = {key: _json(value) for key, value in plain.items()}
    fields["program"] = f"{{\n    {body}\n  }}"
    return "{\n" + ",\n".join(f'  "{key}": {text}' for key, text in fields.items()) + "\n}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _print_json(body: dict[str, Any]) -> None:
    print(_json(msgspec.to_builtins(body, str_keys=True)))


def run() -> NoReturn:
    """The whole process: `main` and its exit status."""
    status = main()
    try:
        sys.stdout.flush()
    except OSError:
        # Said already. What the interpreter would try to write once more at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)
