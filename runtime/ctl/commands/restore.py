"""`qmkctl restore`: go on from a checkpoint."""

from __future__ import annotations

import argparse

from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import console, print_json
from syscalls.checkpoint import Restore
from syscalls.ids import CheckpointId

HELP = "go on from a checkpoint, as a new job, and say its name"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_one(parser, "checkpoint")


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        if options.json:
            name = CheckpointId(options.checkpoint)
            print_json(client.call(Restore(session_id=client.session_id, checkpoint_id=name)))
        else:
            console().print(client.restore(options.checkpoint).job_id, soft_wrap=True)
    return Exit.OK
