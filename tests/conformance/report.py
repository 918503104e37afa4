"""The report of a run: a verdict per requirement, as JSON and as one page to read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from tests.conformance.cases import Requirement
from tests.conformance.runner import Outcome

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Conformance</title><style>
body {{ font: 15px/1.5 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ border-bottom: 1px solid #ccc; padding: .3em .6em; text-align: left; }}
td {{ vertical-align: top; }}
.passed {{ color: #06652a; }} .failed {{ color: #b00020; font-weight: bold; }}
.not-run {{ color: #666; }} small {{ color: #555; }}
</style></head><body><h1>Conformance to the qSyscall ABI</h1>
<p>{summary}</p>{tables}</body></html>
"""


def verdicts(
    known: Mapping[str, Requirement], outcomes: Iterable[Outcome], chosen: Iterable[str]
) -> dict[str, Any]:
    """What became of each requirement in `chosen`, with its cases.

    A requirement failed if a case of its failed, passed if one passed and none failed, and was not
    run otherwise.
    """
    tried: dict[str, list[Outcome]] = {name: [] for name in chosen}
    for outcome in outcomes:
        for name in outcome.case.requirements:
            if name in tried:
                tried[name].append(outcome)
    return {
        name: {
            "area": known[name].area,
            "level": known[name].level,
            "text": known[name].text,
            "verdict": _verdict(found),
            "cases": [
                {"case": each.case.name, "verdict": each.verdict, "why": each.why} for each in found
            ],
        }
        for name, found in tried.items()
    }


def _verdict(outcomes: list[Outcome]) -> str:
    there = {each.verdict for each in outcomes}
    return next((each for each in ("failed", "passed") if each in there), "not run")


def totals(rows: Mapping[str, Any]) -> dict[str, int]:
    """How many requirements have which verdict."""
    found = {"passed": 0, "failed": 0, "not run": 0}
    for row in rows.values():
        found[row["verdict"]] += 1
    return found


def page(report: Mapping[str, Any]) -> str:
    """The report as one HTML page that needs nothing else."""
    rows = report["requirements"]
    areas = dict.fromkeys(row["area"] for row in rows.values())
    tables = "".join(_table(area, rows) for area in areas)
    count = report["totals"]
    tried = count["passed"] + count["failed"]
    summary = (
        f"{count['passed']} of {tried} requirements that were tried hold; {count['failed']} do not;"
        f" {count['not run']} were not tried. A server that is right is called wrong in less than"
        f" one run of {1 / report['false_alarms']:.0e}."
        if report["false_alarms"]
        else f"{count['passed']} of {tried} requirements that were tried hold;"
        f" {count['failed']} do not; {count['not run']} were not tried."
    )
    return _PAGE.format(summary=escape(summary), tables=tables)


def _table(area: str, rows: Mapping[str, Any]) -> str:
    lines = []
    for name, row in rows.items():
        if row["area"] == area:
            told = [each for each in row["cases"] if each["verdict"] != "passed"] or row["cases"]
            cases = "<br>".join(
                f"{escape(each['case'])} <small>{escape(each['why'])}</small>" for each in told
            )
            verdict = row["verdict"]
            lines.append(
                f"<tr><td>{name}</td><td>{row['level']}</td><td>{escape(row['text'])}</td>"
                f'<td class="{verdict.replace(" ", "-")}">{verdict}</td><td>{cases}</td></tr>'
            )
    head = "<tr><th>id</th><th>level</th><th>requirement</th><th>verdict</th><th>cases</th></tr>"
    return f"<h2>{escape(area)}</h2><table>{head}{''.join(lines)}</table>"
