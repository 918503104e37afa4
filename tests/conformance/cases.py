"""Reads the cases and the requirements. Both are data: `cases/AREA/*.json`, docs/specification.md.

A file of cases is a list. A case has a `name`, the `requirements` that it tries, `steps` as
`runner` performs them, and perhaps `needs`. Its level is the highest of its requirements'. How
steps are written stands in cases/README.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
FOLDER: Final = HERE / "cases"
SPECIFICATION: Final = HERE.parents[1] / "docs" / "specification.md"
LEVELS: Final = ("core", "kernel", "extended")
_ROW: Final = re.compile(r"^\| ((?P<area>[A-Z]+)-\d+) \| (?P<level>\w+) \| (?P<text>.+) \|$", re.M)
_AREA: Final = re.compile(r"^## .*\(`(?P<area>\w+)`\)$", re.M)


@dataclass(frozen=True)
class Requirement:
    """One numbered sentence of the specification."""

    id: str
    area: str
    level: str
    text: str


@dataclass(frozen=True)
class Case:
    """One thing to try. name: `AREA/name`, unique."""

    name: str
    area: str
    level: str
    requirements: tuple[str, ...]
    steps: list[dict[str, Any]]
    needs: tuple[str, ...] = ()
    about: str = ""
    alarms: tuple[float, ...] = field(default=())


def requirements(path: Path = SPECIFICATION) -> dict[str, Requirement]:
    """Every requirement by its id, in the order of the page; the area is its section's."""
    text = path.read_text(encoding="utf-8")
    sections = [(found.start(), found["area"]) for found in _AREA.finditer(text)]
    found: dict[str, Requirement] = {}
    for row in _ROW.finditer(text):
        area = [name for start, name in sections if start < row.start()][-1]
        assert row[1] not in found, f"{row[1]} stands twice in the specification"
        assert row["level"] in LEVELS, f"{row[1]} has no level"
        found[row[1]] = Requirement(row[1], area, row["level"], row["text"])
    return found


def cases(known: dict[str, Requirement], folder: Path = FOLDER) -> list[Case]:
    """Every case, area by area. Raises AssertionError for one that is not whole."""
    found: dict[str, Case] = {}
    for path in sorted(folder.glob("*/*.json")):
        for given in json.loads(path.read_text(encoding="utf-8")):
            case = _case(given, path.parent.name, known)
            assert case.name not in found, f"{case.name} stands twice"
            found[case.name] = case
    return list(found.values())


def _case(given: dict[str, Any], area: str, known: dict[str, Requirement]) -> Case:
    name = f"{area}/{given['name']}"
    surplus = given.keys() - {"name", "about", "requirements", "needs", "steps"}
    assert not surplus, f"{name} has {surplus}"
    unknown = [each for each in given["requirements"] if each not in known]
    assert given["requirements"], f"{name} tries no requirement"
    assert not unknown, f"{name} names {unknown}, of which the specification knows nothing"
    levels = [LEVELS.index(known[each].level) for each in given["requirements"]]
    return Case(
        name=name,
        area=area,
        level=LEVELS[max(levels)],
        requirements=tuple(given["requirements"]),
        steps=given["steps"],
        needs=tuple(given.get("needs", ())),
        about=given.get("about", ""),
        alarms=tuple(_alarms(given["steps"])),
    )


def _alarms(steps: Iterable[dict[str, Any]]) -> Iterator[float]:
    for step in steps:
        if "exact" in step:
            yield float(step["false_alarm"])
        assert "exact" not in str(step.get("steps", "")), "a repeated step has no distribution"


def codes() -> dict[str, int]:
    """The number of every error, by name, as the suite expects it."""
    given = json.loads((FOLDER / "codes.json").read_text(encoding="utf-8"))
    return {str(name): int(code) for name, code in given.items()}
