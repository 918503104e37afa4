"""`python -m tests.conformance --socket PATH`: whether a server keeps the ABI.

Needs nothing but Python. Exit status: 0 if no requirement failed, 1 if one did, 2 for bad usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conformance import report
from tests.conformance.cases import LEVELS, Case, cases, requirements
from tests.conformance.runner import Outcome, Server, run_case


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for. Returns the exit status."""
    known = requirements()
    every = cases(known)
    given = _parser(sorted({case.area for case in every})).parse_args(arguments)
    server = Server(given.socket, tuple(filter(None, given.tenants.split(","))), given.single)
    levels = LEVELS[: LEVELS.index(given.level) + 1]
    chosen = [each for each in every if _wanted(each, given, levels)]
    outcomes = []
    for case in chosen:
        outcomes.append(run_case(server, case))
        _tell(outcomes[-1], given.verbose)
    wanted = {name for case in chosen for name in case.requirements}
    rows = report.verdicts(known, outcomes, [name for name in known if name in wanted])
    whole: dict[str, Any] = {
        "totals": report.totals(rows),
        "false_alarms": sum(alarm for case in chosen for alarm in case.alarms),
        "requirements": rows,
    }
    for path in map(Path, given.report):
        html = path.suffix == ".html"
        text = report.page(whole) if html else json.dumps(whole, indent=1) + "\n"
        path.write_text(text, encoding="utf-8")
    counts = ", ".join(f"{count} {verdict}" for verdict, count in whole["totals"].items())
    sys.stdout.write(f"requirements: {counts} ({len(outcomes)} cases)\n")
    return 1 if any(each.verdict == "failed" for each in outcomes) else 0


def _parser(areas: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Tries whether a server keeps the qSyscall ABI, requirement by requirement.",
        epilog=f"Areas: {', '.join(areas)}.",
    )
    parser.add_argument("--socket", required=True, metavar="PATH", help="the server's socket")
    parser.add_argument("--only", choices=areas, metavar="AREA", help="this area alone")
    parser.add_argument("--case", metavar="AREA/NAME", help="this case alone")
    parser.add_argument("--level", choices=LEVELS, default=LEVELS[-1], help="up to this level")
    parser.add_argument(
        "--tenants", default="", metavar="A,B", help="tenants that the caller may act for"
    )
    parser.add_argument(
        "--single", action="store_true", help="one undelimited request on each connection"
    )
    parser.add_argument(
        "--report", action="append", default=[], metavar="OUT", help="OUT.json or OUT.html"
    )
    parser.add_argument("--verbose", action="store_true", help="tell of cases that passed too")
    return parser


def _wanted(case: Case, given: argparse.Namespace, levels: Sequence[str]) -> bool:
    one = given.case is None or case.name == given.case
    return one and given.only in (None, case.area) and case.level in levels


def _tell(outcome: Outcome, verbose: bool) -> None:
    if verbose or outcome.verdict != "passed":
        line = f"{outcome.verdict:8} {outcome.case.name} ({outcome.seconds:.2f} s)"
        sys.stdout.write(f"{line} {outcome.why}\n")


if __name__ == "__main__":
    sys.exit(main())
