"""`qmkctl status`: where a job stands, how the daemon is, or what a remote connection agreed."""

from __future__ import annotations

import argparse
from typing import Any

from runtime.ctl import options as common
from runtime.ctl.commands.remote import show_connection
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.output import console, pairs, print_json, status_table

HELP = "say where a job stands, how the daemon is, or what a remote connection agreed"
SANDBOXES = "worker_sandboxes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", nargs="?")
    parser.add_argument(
        "--daemon",
        action="store_true",
        help="how the machine is, and what its workers are held in by (needs CAP_ADMIN)",
    )
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    if not options.daemon and options.job is None and options.remote:
        show_connection(options)
        return Exit.OK
    if options.daemon == (options.job is not None):
        raise Trouble(Exit.USAGE, "Name a job, or say --daemon; with --remote alone, say neither.")
    with common.client_of(options) as client:
        if options.daemon:
            machine = client.telemetry(machine=True).machine
            assert machine is not None, "it was asked for"
            print_json(machine) if options.json else _show(machine)
            return Exit.OK
        status = client.job(options.job).status()
    print_json(status) if options.json else console().print(status_table(status))
    return Exit.OK


def _show(machine: dict[str, Any]) -> None:
    plain = [(name, value) for name, value in machine.items() if not isinstance(value, list)]
    console().print(pairs("daemon", [(name.replace("_", " "), value) for name, value in plain]))
    for title, rows in _sandboxes(machine[SANDBOXES]).items():
        console().print(pairs(title, rows))


def _sandboxes(told: list[dict[str, dict[str, str]] | None]) -> dict[str, list[tuple[str, object]]]:
    """Workers with the same sandbox stand together, by number."""
    tables: dict[str, list[tuple[str, object]]] = {}
    for one in [each for place, each in enumerate(told) if each not in told[:place]]:
        numbers = ", ".join(str(number) for number, each in enumerate(told) if each == one)
        rows: list[tuple[str, object]] = []
        if one is None:
            rows.append(("state", "not ready"))
        else:
            rows += list(one["in_force"].items())
            rows += [(name, f"not in force: {why}") for name, why in one["lacking"].items()]
        tables[f"sandbox of workers {numbers}"] = rows
    return tables
