"""`python -m runtime.tracing`: listens where the daemon tells its spans, and hands them on.

Runs until SIGTERM or SIGINT. What the collector did not take for `--hold` seconds is given up, so
that one batch that it refuses does not stand in the way of all others.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from runtime.tracing.inbox import Inbox
from syscalls.tracing import Span

TRY_S = 10.0
PAUSE_S = 1.0
GRACE_S = 2.0
LOOK_S = 0.5  # between two looks whether to stop
HOLD_S = 60.0

_log = logging.getLogger("qmk.tracing")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with Inbox(options.socket) as inbox:
            return (
                _to_file(inbox, options.file, stop)
                if options.file
                else _to_otlp(inbox, options.otlp, options.hold, stop)
            )
    except OSError as error:
        sys.stderr.write(f"{error.filename or options.socket}: {error.strerror}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime.tracing", description=__doc__)
    parser.add_argument(
        "--socket", type=Path, required=True, help="the daemon's `traces_socket`; made here"
    )
    places = parser.add_mutually_exclusive_group()
    places.add_argument(
        "--otlp",
        metavar="URL",
        help="a collector, as http://localhost:4318/v1/traces (default: OTEL_EXPORTER_OTLP_*)",
    )
    places.add_argument("--file", type=Path, help="append spans here, one JSON object a line")
    parser.add_argument(
        "--hold",
        type=float,
        default=HOLD_S,
        metavar="SECONDS",
        help=f"give up what the collector did not take for so long (default: {HOLD_S:g})",
    )
    return parser


def _to_file(inbox: Inbox, path: Path, stop: threading.Event) -> int:
    with open(path, "ab") as file:
        _log.info("listening, for %s", path)
        while not stop.is_set():
            _write(file, inbox.take(LOOK_S))
        _write(file, inbox.take(0))
    return 0


def _write(file: BinaryIO, spans: list[Span]) -> None:
    if spans:
        file.write(msgspec.json.Encoder().encode_lines(spans))
        file.flush()


def _to_otlp(inbox: Inbox, url: str | None, hold_s: float, stop: threading.Event) -> int:
    try:
        from runtime.tracing.otlp import Otlp
    except ImportError:
        sys.stderr.write("This needs OpenTelemetry: pip install 'qmkd[otel]'.\n")
        return 1
    collector, sent, given_up = Otlp(url, TRY_S), 0, 0

    def hurry() -> None:
        """A try that is under way when this is to end has little time left."""
        stop.wait()
        time.sleep(GRACE_S)
        collector.close()

    threading.Thread(target=hurry, daemon=True).start()
    _log.info("listening, for a collector")
    ending = False
    while not ending:
        ending = stop.is_set()
        spans = inbox.take(0 if ending else LOOK_S)
        if not spans:
            continue
        until = time.monotonic() + hold_s
        while not (taken := collector.send(spans)) and time.monotonic() < until:
            if stop.wait(PAUSE_S):
                break
        if taken:
            sent += len(spans)
        else:
            given_up += len(spans)
            _log.warning("%d spans given up, %d in all", len(spans), given_up)
    _log.info("sent %d spans, gave up %d, bad %d", sent, given_up, inbox.bad + collector.bad)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
