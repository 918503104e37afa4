"""`qmkctl faults`: what is wrong with the machine, what is done about it, rehearsals of both."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from runtime.client import Client
from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import console, print_json
from syscalls.fault import CYCLES_MAX, STRENGTH_MAX, FaultKind

HELP = "list what is wrong with the machine; inject faults, to rehearse, and clear them (CAP_ADMIN)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_actions(
        parser,
        ("list", "faults that are or will be, and the degraded modes in force", lambda _: None),
        ("inject", "behave as if a part of the machine failed", _add_terms),
        ("clear", "end an injected fault", lambda it: it.add_argument("fault", metavar="FAULT")),
    )


def _add_terms(action: argparse.ArgumentParser) -> None:
    kinds = [*map(str, FaultKind)]
    action.add_argument("kind", metavar="KIND", choices=kinds, help=", ".join(kinds))
    action.add_argument("what", metavar="MODULE", nargs="*", help="a module, or a link's two")
    cycles = common.integer(0, CYCLES_MAX)
    action.add_argument("--strength", metavar="X", type=_times, help="how many times worse")
    action.add_argument("--after", metavar="CYCLES", type=cycles, default=0, help="not at once")
    action.add_argument(
        "--for",
        metavar="CYCLES",
        dest="lasts",
        type=common.integer(1, CYCLES_MAX),
        help="end after so many of the machine's cycles; until cleared by default",
    )


def _times(text: str) -> float:
    return common.number(text, 1, STRENGTH_MAX)


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        if options.action == "inject":
            _inject(client, options)
        elif options.action == "clear":
            cleared = client.clear_fault(options.fault)
            print_json(cleared) if options.json else print(f"Over in cycle {cleared.cycle}.")
        else:
            _list(client, options)
    return Exit.OK


def _inject(client: Client, options: argparse.Namespace) -> None:
    reply = client.inject_fault(
        FaultKind(options.kind),
        *options.what,
        strength=options.strength,
        after_cycles=options.after,
        for_cycles=options.lasts,
    )
    print_json(reply) if options.json else print(reply.fault_id)


def _list(client: Client, options: argparse.Namespace) -> None:
    machine = client.telemetry(machine=True).machine
    assert machine is not None
    found = {name: machine[name] for name in ("cycles", "faults", "degraded")}
    if options.json:
        print_json(found)
        return
    print(f"Cycle {found['cycles']}.")
    if found["faults"]:
        console().print(_table(found))
    else:
        print("Nothing is wrong, and nothing is going to be.")


def _table(found: Mapping[str, Any]) -> Table:
    table = Table(box=None, header_style="bold")
    for column in ("fault", "kind", "what", "strength", "from", "to", "modes"):
        table.add_column(column, overflow="fold")
    for name, fault in found["faults"].items():
        modes = [each["mode"] for each in found["degraded"] if each["fault_id"] == name]
        table.add_row(
            name,
            fault["kind"],
            ", ".join(fault.get("what", ())),
            f"{fault['strength']:g}" if "strength" in fault else "",
            str(fault.get("from_cycle", 0)),
            str(fault.get("to_cycle", "")),
            ", ".join(modes) or "not yet",
        )
    return table
