"""`qmkctl trace`: a trace out of a file that the exporter writes, as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from runtime.ctl import options as common
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.output import console, print_json
from runtime.ctl.timeline import timeline
from syscalls.tracing import Span

HELP = "draw a trace out of a file of spans, as `python -m runtime.tracing --file` writes it"
BYTES_MAX = 256 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="spans, one JSON object a line")
    parser.add_argument(
        "which", metavar="ID", nargs="?", help="of this trace, or of this job (default: the last)"
    )
    common.add_json(parser)


def execute(options: argparse.Namespace) -> Exit:
    spans = read(options.file)
    traces = [
        span.trace_id
        for span in spans
        if options.which in (None, span.trace_id, span.attributes.get("qmk.job_id"))
    ]
    if not traces:
        raise Trouble(Exit.USAGE, f"{options.file} has nothing of {options.which or 'a trace'}.")
    found = [span for span in spans if span.trace_id == traces[-1]]
    if options.json:
        print_json({"trace": found})
    else:
        console().print(timeline(found))
    return Exit.OK


def read(path: Path) -> list[Span]:
    """All spans of a file; what its writer has not ended is left out. Raises Trouble."""
    if path.stat().st_size > BYTES_MAX:
        raise Trouble(Exit.USAGE, f"{path} has more than {BYTES_MAX} bytes.")
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    try:
        return msgspec.json.Decoder(Span).decode_lines(whole)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Trouble(Exit.USAGE, f"{path} is no file of spans: {error}.") from error
