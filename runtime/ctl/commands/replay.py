"""`qmkctl replay`: run a job again from its record."""

from __future__ import annotations

import argparse

from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import console, print_json
from syscalls.checkpoint import Replay, Replayed
from syscalls.ids import JobId

HELP = "run a job again from its record, with the same bits, and say the new job's name"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_one(parser, "job")


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        call = Replay(session_id=client.session_id, job_id=JobId(options.job))
        replayed = client.call(call)
    assert isinstance(replayed, Replayed)
    print_json(replayed) if options.json else console().print(replayed.job_id, soft_wrap=True)
    return Exit.OK
