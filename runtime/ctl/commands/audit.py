"""`qmkctl audit`: verify the audit chain, copy it out, name its head, look at its last entries."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.table import Table

from runtime.ctl import options as common
from runtime.ctl import state
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.output import console, print_json
from syscalls.audit import HASH_BYTES, AuditBody, Entry, entry_of, verify

HELP = "verify the daemon's audit chain, or show or export it"
SHOWN = 20  # entries, unless asked for another number
SHOWN_MAX = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["verify", "export", "head", "show"])
    source = parser.add_mutually_exclusive_group()
    state.add_state_dir(source)
    source.add_argument("--file", metavar="FILE", type=Path, help="an exported chain instead")
    parser.add_argument(
        "--head",
        metavar="HEX",
        type=_head,
        help="verify: a head kept elsewhere; without it, a chain cut off at its end looks whole",
    )
    parser.add_argument(
        "--head-file",
        metavar="FILE",
        type=Path,
        help="verify: the same, kept in a file; one that holds only `-` holds none",
    )
    parser.add_argument(
        "--last",
        metavar="N",
        type=common.integer(1, SHOWN_MAX),
        default=SHOWN,
        help=f"show: how many entries (default: {SHOWN})",
    )
    common.add_json(parser)


def execute(options: argparse.Namespace) -> Exit:
    if options.what != "verify" and (options.head or options.head_file):
        raise Trouble(Exit.USAGE, "--head goes with verify alone.")
    if options.head is None and options.head_file is not None:
        options.head = _head_in(options.head_file)
    with _lines(options) as lines:
        if options.what == "export":
            for line in lines:
                sys.stdout.write(line.decode(errors="replace"))
            return Exit.OK
        last: deque[Entry] = deque(maxlen=options.last if options.what == "show" else 1)
        entries = _remembered((entry_of(line, place) for place, line in enumerate(lines, 1)), last)
        if options.what == "verify":
            broken = verify(entries, options.head)
            for _ in lines:
                pass  # to the end, so that the one who prints them can end
        else:
            broken = None
            for _ in entries:
                pass
    number, _, head = last[-1] if last else (0, b"", b"")
    if options.what == "show":
        _show(last, as_json=options.json)
    elif broken is not None:
        if options.json:
            print_json({"ok": False, "break": broken})
        else:
            print(f"The chain does not hold at entry {broken.number}: {broken.message}.")
        return Exit.DAMAGED
    elif options.json:
        print_json({"ok": True, "entries": number, "head": head.hex()})
    elif options.what == "head":
        print(head.hex())
    else:
        print(f"The chain holds from its first entry to its last, {number}. Head: {head.hex()}")
    return Exit.OK


@contextmanager
def _lines(options: argparse.Namespace) -> Iterator[Iterator[bytes]]:
    if options.file is None:
        with state.audit_lines(options) as lines:
            yield lines
        return
    with options.file.open("rb") as file:
        yield iter(file)


def _remembered(entries: Iterator[Entry], last: deque[Entry]) -> Iterator[Entry]:
    for entry in entries:
        last.append(entry)
        yield entry


def _show(entries: deque[Entry], *, as_json: bool) -> None:
    """A line for each; what is not an entry is left out, as `verify` finds it."""
    bodies = []
    for _, encoded, _ in entries:
        try:
            bodies.append(msgspec.json.decode(encoded, type=AuditBody))
        except msgspec.DecodeError:
            continue
    if as_json:
        print_json({"entries": bodies})
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("entry", "epoch", "time (UTC)", "what", "with"):
        table.add_column(name, no_wrap=name != "with")
    for body in bodies:
        at = datetime.fromtimestamp(body.at_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
        fields = ", ".join(f"{name} {_shown(body.fields[name])}" for name in body.fields)
        table.add_row(str(body.number), str(body.epoch), at, body.kind, fields)
    console().print(table)


def _shown(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _head_in(file: Path) -> bytes | None:
    text = file.read_text(encoding="ascii", errors="replace").strip()
    if text == "-":
        return None
    try:
        return _hash(text)
    except ValueError:
        raise Trouble(Exit.USAGE, f"{file}: there is no head in it.") from None


def _head(text: str) -> bytes:
    """A head, for argparse."""
    try:
        return _hash(text)
    except ValueError:
        digits = 2 * HASH_BYTES
        raise argparse.ArgumentTypeError(f"{text!r} is no head: {digits} hex digits") from None


def _hash(text: str) -> bytes:
    """A hash in hex. Raises ValueError."""
    value = bytes.fromhex(text)
    if len(value) != HASH_BYTES:
        raise ValueError("not a hash")
    return value
