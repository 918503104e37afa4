"""`qmkctl discover`: the calls that the daemon answers."""

from __future__ import annotations

import argparse

from rich.table import Table

from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import console, print_json

HELP = "list the daemon's calls; with --json, its OpenRPC document"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        document = client.discover()
    if options.json:
        print_json(document)
        return Exit.OK
    table = Table(title=f"{document.info['title']} {document.info['version']}")
    table.add_column("call", no_wrap=True)
    table.add_column("what it does")
    for method in document.methods:
        table.add_row(method["name"], method.get("summary", ""))
    console().print(table)
    return Exit.OK
