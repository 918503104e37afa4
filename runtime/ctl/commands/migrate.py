"""`qmkctl migrate`: move a job to another module of the machine."""

from __future__ import annotations

import argparse

from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import console, print_json

HELP = "move a job to another module at its next fence"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("target", metavar="MODULE")
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        moved = client.job(options.job).migrate(options.target)
    print_json(moved) if options.json else console().print(moved.placement, soft_wrap=True)
    return Exit.OK
