"""Options that several subcommands share, and what they stand for."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from runtime.client import Client
from runtime.client.address import (
    REMOTE_VARIABLE,
    Address,
    TlsMode,
    address_of,
    remote_address,
)
from runtime.client.operations import TIMEOUT_S, PolicyOptions
from runtime.client.programs import from_text, graph_json
from runtime.client.tracing import Spans
from runtime.ctl.circuits import add_circuit, circuit_json
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.session_cache import open_client
from runtime.jit.frontends import SUFFIXES
from syscalls.job import SHOTS_MAX, Noise

SHOTS = 1024
SECONDS_MAX = 30 * 24 * 3600


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="write one JSON object")


def add_connection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--socket",
        metavar="PATH",
        help="the daemon's socket (default: $QMK_SOCKET, the user's own, the system's)",
    )
    add_remote(parser)
    parser.add_argument(
        "--no-session-cache",
        action="store_true",
        help="open a session for this command alone; its jobs end with it",
    )


def add_one(parser: argparse.ArgumentParser, what: str) -> None:
    """The name of one job or checkpoint, for a command that takes nothing else."""
    parser.add_argument(what, metavar=what.upper())
    add_json(parser)
    add_connection(parser)


def add_remote(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--remote",
        metavar="HOST[:PORT]",
        help="a daemon on another host, by its `qmkctl serve-remote` (default: $QMK_REMOTE)",
    )
    parser.add_argument(
        "--credentials",
        metavar="DIR",
        help="with --remote: certificates (default: $QMK_REMOTE_CREDENTIALS, ~/.config/qmk/remote)",
    )
    parser.add_argument(
        "--tls-mode",
        choices=[each.value for each in TlsMode],
        help="with --remote: the cryptography to insist on (default: hybrid)",
    )


Action = tuple[str, str, Callable[[argparse.ArgumentParser], object]]
"""Its name, its help, and what adds its own arguments."""


def add_actions(parser: argparse.ArgumentParser, *actions: Action) -> None:
    """What a command does, one of which is named as `options.action`."""
    parts = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text, add_own in actions:
        action = parts.add_parser(name, help=text, description=text)
        add_own(action)
        add_json(action)
        add_connection(action)


def add_program(parser: argparse.ArgumentParser) -> None:
    """A program, and what decides how it is run."""
    parser.add_argument(
        "file", metavar="FILE", help="*.qvm.json, *.qvm assembly, a circuit (*.qasm ...), or -"
    )
    add_circuit(parser)
    parser.add_argument(
        "--shots", metavar="N", type=integer(1, SHOTS_MAX), help=f"default: {SHOTS}"
    )
    parser.add_argument("--exact", action="store_true", help="exact probabilities instead of shots")
    parser.add_argument("--noise", choices=[each.value for each in Noise])
    parser.add_argument(
        "--decoder-data",
        action="store_true",
        help="keep what decoders knew of each shot, for `qmkctl results --decoder`",
    )
    parser.add_argument(
        "--raise-distance",
        action="store_true",
        help="larger codes while the machine errs more often than it should",
    )


def policy_of(options: argparse.Namespace) -> PolicyOptions:
    """What `add_program` was told."""
    if options.exact and options.shots is not None:
        raise Trouble(Exit.USAGE, "--exact runs no shots, so --shots cannot go with it.")
    shots = 1 if options.exact else options.shots or SHOTS
    return {
        "shots": shots,
        "exact": options.exact,
        "noise": options.noise,
        "decoder_data": options.decoder_data,
        "raise_distance": options.raise_distance,
    }


def program_of(options: argparse.Namespace) -> bytes:
    """The program in a file, or on standard input; a circuit is compiled."""
    if options.file != "-":
        return file_json(options.file, options)
    raw = sys.stdin.buffer.read()
    if options.format is not None:
        return circuit_json(raw, "standard input", options)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Trouble(Exit.INVALID_PROGRAM, f"Standard input is not UTF-8: {error}.") from error
    return from_text(text, file="standard input", folder=Path())


def file_json(file: str, options: argparse.Namespace | None = None) -> bytes:
    """The program in a file; a circuit is compiled, as the options of `add_circuit` say."""
    if Path(file).suffix.lower() in SUFFIXES or (
        options is not None and options.format is not None
    ):
        return circuit_json(Path(file), file, options)
    return graph_json(Path(file))


def server_of(options: argparse.Namespace) -> Address:
    """Where the daemon is that the options of `add_connection` name. Raises Trouble."""
    remote = options.remote or (None if options.socket else os.environ.get(REMOTE_VARIABLE))
    try:
        if remote:
            mode = options.tls_mode or TlsMode.HYBRID
            return address_of(options.socket, remote_address(remote, options.credentials, mode))
        if options.credentials or options.tls_mode:
            raise ValueError("--credentials and --tls-mode are for --remote.")
        return address_of(options.socket)
    except ValueError as error:
        raise Trouble(Exit.USAGE, str(error)) from error


def client_of(
    options: argparse.Namespace, timeout: float | None = TIMEOUT_S, spans: Spans | None = None
) -> AbstractContextManager[Client]:
    """The client that the options ask for."""
    cached = not options.no_session_cache
    return open_client(server_of(options), cached=cached, timeout=timeout, spans=spans)


def needs(*modules: str, extra: str) -> None:
    """Raises Trouble where a library is missing that an extra of the package brings."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise Trouble(Exit.USAGE, f"This needs {name}: install `qmkd[{extra}]`.") from error


def number(text: str, above: float, most: float, unit: str = "") -> float:
    """A number above one bound and up to another, for argparse."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number{unit and f' of {unit}'}") from None
    if not above < value <= most:
        what = f"{text} is not above {above:g} and up to {most:,.9g} {unit}"
        raise argparse.ArgumentTypeError(what.rstrip())
    return value


def seconds(text: str) -> float:
    """A number of seconds, for argparse."""
    return number(text, 0, SECONDS_MAX, "seconds")


def integer(low: int, high: int) -> Integer:
    """An integer within bounds, for argparse."""
    return Integer(low, high)


class Integer:
    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def __call__(self, text: str) -> int:
        try:
            value = int(text, 0)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no integer") from None
        if not self.low <= value <= self.high:
            raise argparse.ArgumentTypeError(f"{text} is not within {self.low}..{self.high}")
        return value
