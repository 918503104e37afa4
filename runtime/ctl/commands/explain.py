"""`qmkctl explain`: how a program would be run and what that should cost, without running it."""

from __future__ import annotations

import argparse

from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import console, print_json
from runtime.ctl.plans import plan_tables

HELP = "say how a program would be run, and what that should cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_program(parser)
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    policy = common.policy_of(options)
    graph = common.program_of(options)
    with common.client_of(options) as client:
        planned = client.plan(graph, **policy)
    if options.json:
        print_json(planned)
    else:
        console().print(*plan_tables(planned.plan), sep="\n")
    return Exit.OK
