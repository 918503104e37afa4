"""`qmkctl db check`: whether everything in the daemon's database is as it was written."""

from __future__ import annotations

import argparse
import sys

from runtime.ctl import options as common
from runtime.ctl import state
from runtime.ctl.exits import Exit

HELP = "check the daemon's database, beside the daemon or without it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["check"])
    state.add_state_dir(parser)
    common.add_json(parser)


def execute(options: argparse.Namespace) -> Exit:
    said, fine = state.check(options)
    sys.stdout.write(said)
    return Exit.OK if fine else Exit.DAMAGED
