"""Options that several subcommands share, and what they stand for."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from pathlib import Path

from runtime.client import Client
from runtime.client.address import socket_path
from runtime.client.operations import TIMEOUT_S
from runtime.ctl.session_cache import open_client

SECONDS_MAX = 30 * 24 * 3600


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="write one JSON object")


def add_connection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--socket",
        metavar="PATH",
        help="the daemon's socket (default: $QMK_SOCKET, the user's own, the system's)",
    )
    parser.add_argument(
        "--no-session-cache",
        action="store_true",
        help="open a session for this command alone; its jobs end with it",
    )


def socket_of(options: argparse.Namespace) -> Path:
    return socket_path(options.socket)


def client_of(
    options: argparse.Namespace, timeout: float | None = TIMEOUT_S
) -> AbstractContextManager[Client]:
    """The client that the options ask for."""
    return open_client(socket_of(options), cached=not options.no_session_cache, timeout=timeout)


def seconds(text: str) -> float:
    """A number of seconds, for argparse."""
    value = float(text)
    if not 0 < value <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {SECONDS_MAX} seconds")
    return value


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
