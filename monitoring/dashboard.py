#!/usr/bin/env python3
"""Writes `dashboard.json`, for Grafana 10 and later: every panel is a row of the table here.

`--check` says whether the file is what would be written. Needs the standard library alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
FILE = HERE / "dashboard.json"
WIDTH, HEIGHT, COLUMNS = 8, 7, 24
SOURCE = {"type": "prometheus", "uid": "${source}"}
CHOSEN = 'instance=~"$instance"'
OF_TENANT = f'{CHOSEN}, tenant=~"$tenant"'


class Panel(NamedTuple):
    """queries: (PromQL, legend). unit: as Grafana names it."""

    title: str
    about: str
    unit: str
    queries: list[tuple[str, str]]


def rate(name: str, by: str = "", chosen: str = CHOSEN) -> str:
    """Of a counter, per second, summed over all labels but `by`."""
    return f"sum by ({by}) (rate({name}{{{chosen}}}[$__rate_interval]))"


def quantile(share: float, name: str, by: str, chosen: str) -> str:
    return f"histogram_quantile({share}, {rate(f'{name}_bucket', f'le, {by}', chosen)})"


ROWS: dict[str, list[Panel]] = {
    "Calls": [
        Panel("Calls", "Answered, by method.", "reqps",
              [(rate("qmkd_syscalls_total", "method"), "{{method}}")]),
        Panel("Latency, 99th percentile", "From the kernel's first sight to the answer.", "s",
              [(quantile(0.99, "qmkd_syscall_duration_seconds", "method", CHOSEN), "{{method}}")]),
        Panel("Refusals", "By reason.", "reqps",
              [(rate("qmkd_refusals_total", "reason"), "{{reason}}")]),
    ],
    "Jobs": [
        Panel("Jobs ended", "By state.", "ops",
              [(rate("qmkd_jobs_ended_total", "state", OF_TENANT), "{{state}}")]),
        Panel("Jobs that wait for the machine", "By tenant.", "short",
              [(f"qmkd_tenant_jobs_waiting{{{OF_TENANT}}}", "{{tenant}}")]),
        Panel("Time in the queue", "Median and 90th percentile.", "s",
              [(quantile(0.5, "qmkd_job_queue_seconds", "tenant", OF_TENANT), "{{tenant}} median"),
               (quantile(0.9, "qmkd_job_queue_seconds", "tenant", OF_TENANT), "{{tenant}} 90 %")]),
        Panel("Run time", "Median.", "s",
              [(quantile(0.5, "qmkd_job_run_seconds", "tenant", OF_TENANT), "{{tenant}}")]),
        Panel("Shots", "Done, by tenant.", "ops",
              [(rate("qmkd_shots_total", "tenant", OF_TENANT), "{{tenant}}")]),
        Panel("Workers' CPU time", "Cores, by tenant.", "short",
              [(rate("qmkd_job_cpu_seconds_total", "tenant", OF_TENANT), "{{tenant}}")]),
    ],
    "Machine": [
        Panel("Utilization", "Qubit cycles held, of those offered.", "percentunit",
              [(f"{rate('qmkd_machine_used_qubit_cycles_total')}"
                f" / {rate('qmkd_machine_offered_qubit_cycles_total')}", "utilization")]),
        Panel("Physical qubits", "Held, by tenant.", "short",
              [(f"qmkd_tenant_physical_qubits{{{OF_TENANT}}}", "{{tenant}}"),
               (f"qmkd_physical_qubits{{{CHOSEN}}}", "all there are")]),
        Panel("Machine cycles", "Held by jobs that ended, by tenant.", "ops",
              [(rate("qmkd_job_machine_cycles_total", "tenant", OF_TENANT), "{{tenant}}")]),
        Panel("T states and Bell pairs", "Of the shots done.", "ops",
              [(rate("qmkd_t_states_total", "", OF_TENANT), "T states"),
               (rate("qmkd_link_pairs_total", "", OF_TENANT), "pairs"),
               (rate("qmkd_link_raw_pairs_total", "", OF_TENANT), "raw pairs")]),
        Panel("Epochs", "Of the machine, per second.", "ops",
              [(f"deriv(qmkd_epoch{{{CHOSEN}}}[$__rate_interval])", "epochs")]),
        Panel("Degraded modes", "In force.", "short",
              [(f"qmkd_degraded{{{CHOSEN}}}", "{{mode}}")]),
    ],
    "Decoding": [
        Panel("Logical errors per history", "Estimate and 95 % interval, since the start.",
              "percentunit",
              [(f"qmkd_logical_error_ratio{{{OF_TENANT}}}", "{{tenant}} {{bound}}")]),
        Panel("Rounds decoded per epoch", "Of programs.", "short",
              [(f"{rate('qmkd_decoder_rounds_total', 'tenant', OF_TENANT)}"
                f" / {rate('qmkd_program_epochs_total', 'tenant', OF_TENANT)}", "{{tenant}}")]),
        Panel("Backlog and stalls", "The most windows at once, and time held back.", "short",
              [(f"qmkd_decoder_backlog_windows_max{{{OF_TENANT}}}", "{{tenant}} windows"),
               (rate("qmkd_decoder_stalled_seconds_total", "tenant", OF_TENANT),
                "{{tenant}} stalled")]),
    ],
    "Daemon": [
        Panel("Time to be durable", "Median and 99th percentile.", "s",
              [(quantile(0.5, "qmkd_commit_seconds", "instance", CHOSEN), "median"),
               (quantile(0.99, "qmkd_commit_seconds", "instance", CHOSEN), "99 %")]),
        Panel("Store", "Bytes of the database, and to be written.", "bytes",
              [(f"qmkd_store_bytes{{{CHOSEN}}}", "database"),
               (f"qmkd_store_backlog_bytes{{{CHOSEN}}}", "to be written")]),
        Panel("Workers", "By state, and how many ended.", "short",
              [(f"qmkd_workers{{{CHOSEN}}}", "{{state}}"),
               (f"increase(qmkd_worker_ends_total{{{CHOSEN}}}[15m])", "ended in 15 min")]),
    ],
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """As Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        place = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "gridPos": place,
                       "collapsed": False, "panels": []})  # fmt: skip
        y += 1
        for number, panel in enumerate(row):
            x = number * WIDTH % COLUMNS
            panels.append(_panel(panel, len(panels) + 1, x, y))
            if x + WIDTH == COLUMNS or number == len(row) - 1:
                y += HEIGHT
    return {
        "uid": "qmkd",
        "title": "qmkd",
        "description": "A quantum microkernel: calls, jobs, machine, decoding, daemon.",
        "tags": ["qmkd"],
        "schemaVersion": 38,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "annotations": {"list": []},
        "templating": {"list": [_source(), _variable("instance"), _variable("tenant")]},
        "panels": panels,
    }


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": "ABCDEF"[place], "datasource": SOURCE, "expr": expr, "legendFormat": legend}
            for place, (expr, legend) in enumerate(panel.queries)
        ],
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "type": "datasource", "query": "prometheus", "label": "Data source"}


def _variable(label: str) -> dict[str, Any]:
    series = {"instance": "qmkd_build_info", "tenant": "qmkd_tenant_sessions"}[label]
    query = f"label_values({series}, {label})"
    return {"name": label, "type": "query", "label": label.capitalize(), "datasource": SOURCE,
            "query": query, "definition": query, "refresh": 2, "multi": True, "includeAll": True,
            "allValue": ".*", "current": {"text": "All", "value": "$__all"}}  # fmt: skip


def text() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


def main() -> int:
    if "--check" in sys.argv[1:]:
        fresh = FILE.exists() and FILE.read_text() == text()
        if not fresh:
            sys.stderr.write(f"{FILE.name} is stale: run monitoring/dashboard.py\n")
        return int(not fresh)
    FILE.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
