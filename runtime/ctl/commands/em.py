"""`qmkctl em`: run circuits by methods of error mitigation, compare them, look at what came out.

The harness does all of it, in a process of its own (`python -m harness.em`): this room may not
import it, and starting must stay quick. Here are the options, which that process reads as well.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from runtime.ctl.exits import Exit
from runtime.ctl.options import add_json, integer

HELP = "run, compare and report error mitigation"
SHOTS_MAX = 100_000_000
FOLDER = "a folder that `em run` wrote"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    run = parts.add_parser("run", help="run circuits by methods on backends, and keep all of it")
    run.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where records go")
    run.add_argument(
        "--family", action="append", metavar="NAME", help="again for more (default: all families)"
    )
    run.add_argument(
        "--method",
        action="append",
        metavar="METHOD",
        help="as zne:fit=linear,scales=1+3; again for more (default: none, zne)",
    )
    run.add_argument(
        "--backend",
        action="append",
        metavar="BACKEND",
        help="as physical:seed=3 or logical:d=5+7; again for more (default: physical)",
    )
    run.add_argument("--circuits", type=integer(1, 10_000), default=1, help="of each family")
    run.add_argument("--first-seed", type=integer(0, 2**31), default=1, help="of these circuits")
    run.add_argument("--qubits", type=integer(1, 1024), default=4)
    run.add_argument("--depth", type=integer(1, 10_000), help="default: usual for the family")
    run.add_argument(
        "--shots", type=integer(10, SHOTS_MAX), default=12_000, help="of each row, all included"
    )
    run.add_argument("--repeats", type=integer(1, 10_000), default=1)
    run.add_argument("--seed", type=integer(0, 2**63 - 1), default=1, help="of all random choices")
    compare = parts.add_parser("compare", help="methods beside each other, or two runs")
    compare.add_argument("folder", type=Path, metavar="FOLDER", help=FOLDER)
    compare.add_argument("other", type=Path, nargs="?", metavar="OTHER", help="a later one")
    compare.add_argument("--by-family", action="store_true", help="a line for each family")
    report = parts.add_parser("report", help="what a run was made of, and what came out")
    report.add_argument("folder", type=Path, metavar="FOLDER", help=FOLDER)
    report.add_argument(
        "--verify", action="store_true", help="reckon every number again from its histograms"
    )
    nightly = parts.add_parser("nightly", help="run tonight's workload, and say what has changed")
    nightly.add_argument(
        "--state", type=Path, required=True, metavar="FOLDER", help="what all nights share"
    )
    nightly.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML (default: two simulated machines)"
    )
    nightly.add_argument(
        "--nights", type=integer(1, 3650), default=1, help="so many, one behind another"
    )
    nightly.add_argument("--processes", type=integer(1, 64), default=1)
    names = parts.add_parser("list", help="families, methods and backends that there are")
    for part in (run, compare, report, nightly, names):
        add_json(part)


def execute(options: argparse.Namespace) -> Exit:
    command = [sys.executable, "-m", "harness.em", "--asked", asked(options)]
    return Exit(subprocess.run(command).returncode)


def asked(options: argparse.Namespace) -> str:
    """The options as JSON."""
    found: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name not in ("execute", "command")
    }
    return msgspec.json.encode(found).decode()
