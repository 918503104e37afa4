"""The suite is whole, our daemon passes all of it, and it fails servers that break a rule."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import __main__ as command
from tests.conformance.cases import HERE, cases, requirements
from tests.conformance.catching import CONFIG, TENANTS
from tests.conformance.chance import FALSE_ALARMS_MAX, unlikely
from tests.conformance.notation import graph
from tests.conformance.patterns import mismatch
from tests.conformance.runner import Server, run_case
from tests.daemon import Daemon, running_daemon

KNOWN = requirements()
CASES = cases(KNOWN)
OURS = ("conformance_test", "wire_test", "mutants", "mutants_test", "catching")
"""What in this folder is about our daemon; the rest knows nothing of it."""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon(config=CONFIG) as one:
        yield one


def test_every_requirement_has_a_case() -> None:
    tried = {name for case in CASES for name in case.requirements}
    assert KNOWN.keys() - tried == set()


def test_every_area_of_the_specification_has_cases_and_no_other_has() -> None:
    assert {case.area for case in CASES} == {each.area for each in KNOWN.values()}
    for case in CASES:
        assert case.area in {KNOWN[name].area for name in case.requirements}, case.name


def test_numbers_of_requirements_have_no_gaps() -> None:
    by_prefix: dict[str, list[int]] = {}
    for name in KNOWN:
        prefix, number = name.split("-")
        by_prefix.setdefault(prefix, []).append(int(number))
    assert all(found == list(range(1, len(found) + 1)) for found in by_prefix.values())


def test_a_whole_run_calls_a_right_server_wrong_less_than_once_in_a_million() -> None:
    alarms = [alarm for case in CASES for alarm in case.alarms]
    assert alarms
    assert 0 < sum(alarms) < FALSE_ALARMS_MAX


def test_the_suite_imports_nothing_but_the_standard_library_and_itself() -> None:
    for path in HERE.glob("*.py"):
        if path.stem in OURS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                standard = name.split(".")[0] in sys.stdlib_module_names
                assert standard or name.startswith("tests.conformance"), f"{path.name}: {name}"


def test_our_daemon_keeps_every_requirement(daemon: Daemon, tmp_path: Path) -> None:
    reports = [tmp_path / "out.json", tmp_path / "out.html"]
    socket, tenants = str(daemon.socket), ",".join(TENANTS)
    given = ["--socket", socket, "--tenants", tenants]
    status = command.main([*given, *(f"--report={path}" for path in reports)])
    report = json.loads(reports[0].read_text())
    wrong = {
        name: row for name, row in report["requirements"].items() if row["verdict"] != "passed"
    }
    assert not wrong
    assert status == 0
    assert report["totals"]["passed"] == len(KNOWN)
    assert all(name in reports[1].read_text() for name in KNOWN)


def test_our_daemon_keeps_what_can_be_tried_by_single_undelimited_requests(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--socket", str(daemon.socket), "--single", "--only", "capabilities", "--verbose"]
    assert command.main(given) == 0
    told = capsys.readouterr().out
    assert "passed   capabilities/gates are free" in told
    assert "not run  capabilities/to another tenant" in told, "no tenants were named"


def test_a_server_that_is_not_there_fails_every_case(tmp_path: Path) -> None:
    server = Server(str(tmp_path / "nobody"), TENANTS)
    assert {run_case(server, case).verdict for case in CASES} == {"failed"}


def test_counts_that_chance_does_not_explain_are_refused() -> None:
    fair = {"0": 0.5, "1": 0.5}
    assert unlikely({"0": 2050, "1": 1950}, fair, 1e-9) is None
    assert unlikely({"0": 2400, "1": 1600}, fair, 1e-9) is not None
    assert unlikely({"0": 4000}, fair, 1e-9) is not None
    assert unlikely({"0": 2000, "1": 1999, "2": 1}, fair, 1e-9) is not None
    assert unlikely({"0": 50}, {"0": 1.0}, 1e-9) is None


def test_patterns_refuse_what_does_not_fit() -> None:
    assert mismatch({"a": [1, {"$kind": "string"}]}, {"a": [1, "x"], "b": 2}) is None
    for expected, got in [
        (1, True), ({"a": 1}, {}), ([1], [1, 2]), ({"$least": 2}, 1), ({"$has": [3]}, [1, 2]),
        ({"$exactly": {}}, {"a": 1}), ({"$not": 1}, 1), ({"$each": 1}, [1, 2]),
        ({"$length": 2}, "x"), ({"$matches": "a"}, "aa"), ({"$any": [1, 2]}, 3),
    ]:  # fmt: skip
        assert mismatch(expected, got) is not None, (expected, got)


def test_the_notation_of_programs_makes_graphs() -> None:
    made = graph(["ALLOC_LQ a", "MEASURE_Z a -> m", "APPLY_X a if m==1"])
    assert made["resources"] == {"vqs": ["a"], "chs": [], "events": ["m"]}
    assert made["program"]["nodes"][0]["args"] == {"n": 1, "profile": "logical:ideal"}
    assert made["program"]["nodes"][2]["guard"] == {"event": "m", "equals": 1}
