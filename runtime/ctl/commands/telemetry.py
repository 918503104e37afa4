"""`qmkctl telemetry`: what the session uses, what a job cost, how the machine is."""

from __future__ import annotations

import argparse

import msgspec

from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import console, pairs, print_json
from runtime.ctl.plans import plan_tables

BY_PLAN = ("plan", "cpu_ns", "spent_ns")  # shown as tables of their own
LISTED = ("degraded", "faults", "tenants", "worker_sandboxes")
"""By `qmkctl faults list`, `qmkctl top` and `qmkctl status --daemon`."""
CALLED = {"physical_qubits_available": "physical qubits left of the quota"}
HELP = "show what the session uses; also a job's cost, or the machine's figures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", nargs="?", help="also this job's cost")
    parser.add_argument(
        "--machine", action="store_true", help="also the whole machine (needs CAP_ADMIN)"
    )
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        figures = client.telemetry(options.job, machine=options.machine)
    if options.json:
        print_json(figures)
        return Exit.OK
    parts = {
        "session": figures.resource_usage,
        "jobs": figures.jobs,
        "job": figures.job,
        "machine": figures.machine,
    }
    for title, part in parts.items():
        if part is not None:
            rows = msgspec.to_builtins(part)
            shown = [
                (CALLED.get(name, name.replace("_", " ")), rows[name])
                for name in rows
                if name not in BY_PLAN + LISTED
            ]
            console().print(pairs(title, shown))
    for mode in figures.degraded:
        print(f"Degraded since cycle {mode.since_cycle}: {mode.mode}, because {mode.cause}.")
    if figures.job is not None and figures.job.plan is not None:
        console().print(*plan_tables(figures.job.plan, figures.job), sep="\n")
    return Exit.OK
