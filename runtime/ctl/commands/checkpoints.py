"""`qmkctl checkpoints`: list the session's checkpoints, or drop some."""

from __future__ import annotations

import argparse

from rich.table import Table

from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import console, print_json
from syscalls.checkpoint import CheckpointKept, CheckpointsListed

HELP = "list the session's checkpoints, or drop some"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--drop", metavar="CHECKPOINT", nargs="+", default=[])
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        for name in options.drop:
            client.drop_checkpoint(name)
        found = client.checkpoints()
    if options.json:
        print_json(CheckpointsListed(checkpoints=found))
    else:
        console().print(_table(found))
    return Exit.OK


def _table(found: list[CheckpointKept]) -> Table:
    table = Table("checkpoint", "job", "epoch", "shots done", "bytes", "taken")
    for one in found:
        done = f"{one.shots_done} of {one.shots_total}"
        table.add_row(
            one.checkpoint_id, one.job_id, str(one.epoch), done, str(one.size_bytes), one.created_at
        )
    return table
