"""What qmkctl reads of a state directory: by the daemon's own program, never by itself.

Only `qmkd` knows its files; the program prints text that anybody may read.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.ctl.exits import Exit, Trouble

CANNOT_LOOK = 2  # with which it ends where there is nothing to look at


def add_state_dir(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        help="the daemon's state directory, or its database alone (default: as configured)",
    )


def check(options: argparse.Namespace) -> tuple[str, bool]:
    """What the program says of the database, and whether all is well. Raises Trouble."""
    more = ("--json",) if options.json else ()
    done = subprocess.run(
        _command("check", options, *more), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode == CANNOT_LOOK or not done.stdout:
        raise Trouble(Exit.USAGE, _with_advice(done.stderr.strip(), options))
    return done.stdout, done.returncode == 0


@contextmanager
def audit_lines(options: argparse.Namespace) -> Iterator[Iterator[bytes]]:
    """The audit chain's lines, to be read to their end. Raises Trouble."""
    with subprocess.Popen(
        _command("audit", options),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        yield iter(process.stdout)
        process.stdout.close()
        said = process.stderr.read().decode(errors="replace").strip()
    if said:
        looked = process.returncode != CANNOT_LOOK
        if looked:
            raise Trouble(Exit.DAMAGED, said)
        raise Trouble(Exit.USAGE, _with_advice(said, options))


def _with_advice(said: str, options: argparse.Namespace) -> str:
    if options.state_dir is not None:
        return said
    return f"{said}\nqmkctl: --state-dir, or QMKD_STATE_DIR, names the daemon's state directory."


def _command(what: str, options: argparse.Namespace, *more: str) -> list[str]:
    place = () if options.state_dir is None else (options.state_dir,)
    return [sys.executable, "-m", "qmkd.shell.store", what, *more, *place]
