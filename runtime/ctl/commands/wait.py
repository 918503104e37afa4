"""`qmkctl wait`: wait for a job that was submitted before, and show its result."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.ctl import options as common
from runtime.ctl.commands.run import wait_and_show
from runtime.ctl.exits import Exit

HELP = "wait for a job and show its result; an interrupt leaves the job running"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=common.seconds, help="how long to wait at most"
    )
    parser.add_argument("--plot", metavar="OUT.png", type=Path, help="draw the counts")
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        wait_and_show(
            client.job(options.job),
            None,
            as_json=options.json,
            plot=options.plot,
            timeout=options.timeout,
            cancel=False,
        )
    return Exit.OK
