"""`python -m qmkd.shell.store`: look at a database without a daemon, or beside one.

Exit status: 0 nothing is wrong, 1 something is, 2 it cannot be looked at. `qmkctl db` and
`qmkctl audit` run this.
"""

from __future__ import annotations

import argparse
import os
import select
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from qmkd.shell.config import BadConfig, load
from qmkd.shell.store.check import Report, audit_entries, check
from qmkd.shell.store.schema import DATABASE_NAME, CannotOpen, open_to_read
from syscalls.audit import line_of

FAULTS_SHOWN_MAX = 100
LOOK_S = 0.25  # between two looks whether the chain has grown


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m qmkd.shell.store", description=__doc__)
    parts = parser.add_subparsers(dest="what", required=True)
    for name, does in (("check", "look for damage"), ("audit", "print the audit chain")):
        part = parts.add_parser(name, help=does)
        part.add_argument(
            "path",
            nargs="?",
            type=Path,
            help="a database, or a state directory (default: the configured one)",
        )
        part.add_argument("--json", action="store_true", help="write one JSON object")
        if name == "audit":
            part.add_argument("--after", type=int, default=0, help="leave out entries up to this")
            part.add_argument(
                "--follow", action="store_true", help="go on as it grows, until standard input ends"
            )
    options = parser.parse_args(arguments)
    try:
        path = options.path or Path(load({}, os.environ).state_dir)
        if path.is_dir():
            path /= DATABASE_NAME
        if not path.exists():
            raise CannotOpen(f"{path}: there is no such database")
        if options.what == "check":
            return _show(check(path), as_json=options.json)
        return _print_audit(path, options.after, follow=options.follow)
    except (CannotOpen, BadConfig) as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _show(report: Report, *, as_json: bool) -> int:
    if as_json:
        found = msgspec.to_builtins(report) | {"ok": report.ok}
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        return 0 if report.ok else 1
    for fault in report.faults[:FAULTS_SHOWN_MAX]:
        print(f"{fault.where}: {fault.message}")
    if len(report.faults) > FAULTS_SHOWN_MAX:
        print(f"... and {len(report.faults) - FAULTS_SHOWN_MAX} more, which --json lists.")
    looked = ", ".join(f"{count} {name}" for name, count in report.checked.items())
    print(f"{report.path}: looked at {looked}.")
    print("Nothing is damaged." if report.ok else f"{len(report.faults)} faults.")
    return 0 if report.ok else 1


def _print_audit(path: Path, after: int, *, follow: bool) -> int:
    """Each entry as a line, as `syscalls.audit` says."""
    db = open_to_read(path)
    try:
        while True:
            for entry in audit_entries(db, after):
                sys.stdout.buffer.write(line_of(entry) + b"\n")
                after = entry[0]
            sys.stdout.buffer.flush()
            if not follow or select.select([sys.stdin], [], [], LOOK_S)[0]:
                return 0
    except sqlite3.Error as error:
        sys.stderr.write(f"{path}: the chain cannot be read to its end: {error}\n")
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        db.close()


if __name__ == "__main__":
    sys.exit(main())
