"""`qmkctl checkpoint`: keep a job as it stands at a fence."""

from __future__ import annotations

import argparse

from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import console, print_json

HELP = "keep a job as it stands at its next fence, and say under which name"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB")
    parser.add_argument(
        "--rollback", action="store_true", help="rather at the fence before, where that can be done"
    )
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        made = client.job(options.job).checkpoint(how="rollback" if options.rollback else "forward")
    print_json(made) if options.json else console().print(made.checkpoint_id, soft_wrap=True)
    return Exit.OK
