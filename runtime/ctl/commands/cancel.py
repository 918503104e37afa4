"""`qmkctl cancel`: stop a job."""

from __future__ import annotations

import argparse

from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import console, print_json, status_table

HELP = "stop a job, and say where it stopped"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_one(parser, "job")


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        status = client.job(options.job).cancel()
    print_json(status) if options.json else console().print(status_table(status))
    return Exit.OK
