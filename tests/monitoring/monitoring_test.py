"""The rules and the dashboard hold together, and a real Prometheus answers every query of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qmkd.core.figures import figures
from qmkd.core.kernel import Kernel
from qmkd.core.ports import Machine, TenantRule
from qmkd.engine.choose import plan
from qmkd.shell.metrics.counting import Counts
from qmkd.shell.metrics.families import Outside, families
from tests.daemon import Line
from tests.monitoring.watched import (
    MONITORING,
    ROOT,
    ask,
    chosen,
    here,
    panels,
    series_named,
    watched,
    work,
)

NEEDS = pytest.mark.skipif(
    not here("prometheus", "promtool"),
    reason="needs Prometheus: on Debian and Ubuntu, apt-get install prometheus",
)
SEEN_S_MAX = 60.0
# What happens neither in this work nor where all is well: their series have no samples.
SILENT = {"qmkd_keep_failures_total"}


def offered() -> set[str]:
    """Every name under which a daemon offers samples."""
    machine = Machine(
        physical_qubits=100,
        workers=1,
        worker_bytes=1 << 30,
        tenants=(TenantRule(name="a", uids=frozenset({1})),),
        versions={},
    )
    kernel = Kernel(machine, plan)
    outside = Outside(
        versions={}, connections=0, store_backlog_bytes=0, store_bytes=0, scrapes=0, scrape_s=0,
        started_s=0,
    )  # fmt: skip
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""],
                "info": ["_info"]}  # fmt: skip
    made = families(Counts(kernel.step, 4), figures(kernel.state), outside)
    return {family.name + suffix for family in made for suffix in suffixes[family.type]}


def test_the_dashboard_is_the_one_that_would_be_written_now() -> None:
    command = [sys.executable, str(MONITORING / "dashboard.py"), "--check"]
    assert subprocess.run(command).returncode == 0


def test_panels_have_titles_units_and_places_of_their_own() -> None:
    found = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    drawn = [panel for panel in found if panel["type"] != "row"]
    assert len({panel["title"] for panel in drawn}) == len(drawn)
    assert len({panel["id"] for panel in found}) == len(found)
    cells: set[tuple[int, int]] = set()
    for panel in found:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        taken = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        cells |= taken
    for panel in drawn:
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]


def test_every_series_that_rules_and_panels_read_is_one_that_daemons_offer() -> None:
    rules = (MONITORING / "rules.yml").read_text()
    asked = {name for line in rules.splitlines() if "expr:" in line for name in series_named(line)}
    asked |= {name for each in panels().values() for expr, _ in each for name in series_named(expr)}
    assert asked - offered() == set()


def test_the_operators_page_names_every_series() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    stripped = {name.removesuffix("_bucket").removesuffix("_count") for name in offered()}
    assert {name for name in stripped if not name.endswith("_sum") and name not in page} == set()


@NEEDS
def test_promtool_accepts_the_rules_and_each_alert_fires_in_its_test() -> None:
    for command in (
        ["check", "rules", "rules.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "rules_test.yml"],
    ):
        done = subprocess.run(
            ["promtool", *command], cwd=MONITORING, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    rules, tests = ((MONITORING / name).read_text() for name in ("rules.yml", "rules_test.yml"))
    alerts = [line.split()[-1] for line in rules.splitlines() if "- alert:" in line]
    assert alerts
    assert [name for name in alerts if f"- alertname: {name}\n" not in tests] == []


@NEEDS
def test_a_prometheus_answers_every_query_of_the_dashboard_and_the_rules(tmp_path: Path) -> None:
    expressions = {chosen(expr) for each in panels().values() for expr, _ in each}
    with watched(tmp_path) as (daemon, address), Line(daemon.socket) as line:
        session = line.session()
        missing, deadline, seed = expressions, time.monotonic() + SEEN_S_MAX, 0
        while missing:
            assert time.monotonic() < deadline, f"no answer to {sorted(missing)}"
            seed += 1
            work(line, session, seed)
            missing = {each for each in missing if not ask(address, "query", query=each)["result"]}
        groups = ask(address, "rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len(rules) == 15
        assert [rule["lastError"] for rule in rules if rule.get("lastError")] == []
        firing = [rule["name"] for rule in rules if rule.get("state") == "firing"]
        assert firing == [], "all is well with this daemon"
        (target,) = ask(address, "targets")["activeTargets"]
        assert target["health"] == "up", target
        found = ask(address, "series", **{"match[]": '{__name__=~"qmkd_.+"}'})
        names = {series["__name__"] for series in found}
        assert names <= offered()
        assert offered() - names <= SILENT
        jobs = ask(
            address, "query_exemplars", query="qmkd_job_run_seconds_bucket",
            start=str(time.time() - 600), end=str(time.time() + 5),
        )  # fmt: skip
        labels = [each["labels"] for series in jobs for each in series["exemplars"]]
        assert labels
        assert all(each["job_id"].startswith("job_") for each in labels)
