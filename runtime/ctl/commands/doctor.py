"""`qmkctl doctor`: what is wrong with this host's installation, and what to do about it.

Only the daemon's own program knows what it needs; this shows what that found.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import msgspec
from rich.text import Text

from runtime.ctl import options as common
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.output import console, print_json

HELP = "explain what is wrong with the installation"
MARKS = {"fine": ("ok", "green"), "warning": ("warning", "yellow"), "fault": ("fault", "red")}


class Finding(msgspec.Struct, frozen=True):
    check: str
    severity: str
    message: str
    remedy: str


class Findings(msgspec.Struct, frozen=True):
    findings: list[Finding]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="the daemon's configuration (default: as it finds it)"
    )
    common.add_json(parser)


def execute(options: argparse.Namespace) -> Exit:
    more = () if options.config is None else ("--config", options.config)
    done = subprocess.run(
        [sys.executable, "-m", "qmkd.shell.doctor", *more],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    try:
        found = msgspec.json.decode(done.stdout, type=Findings).findings
    except msgspec.DecodeError as error:
        raise Trouble(Exit.UNHEALTHY, f"It cannot be looked at: {done.stderr.strip()}") from error
    faults = any(each.severity == "fault" for each in found)
    if options.json:
        print_json({"ok": not faults, "findings": found})
    else:
        for each in found:
            mark, colour = MARKS[each.severity]
            line = Text(f"{mark:>7}", style=colour)
            console().print(line.append(f"  {each.check}: {each.message}", style="default"))
            if each.remedy:
                console().print(f"{'':9}{each.remedy}")
    return Exit.UNHEALTHY if faults else Exit.OK
