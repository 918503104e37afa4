"""`qmkctl events`: what happens to jobs, as the kernel tells it, one line each."""

from __future__ import annotations

import argparse
import sys

from runtime.client import Client
from runtime.client.errors import Unreachable
from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import print_json
from syscalls.events import JobEvent
from syscalls.job import FINAL_STATES

HELP = "tell what happens to the session's jobs, or to one job, line by line"
TURN_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "job", metavar="JOB", nargs="?", help="this one; with CAP_ADMIN, of any session"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="go on until interrupted, not until the jobs there are now are over",
    )
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        Teller(client, options.job, as_json=options.json).tell(forever=options.follow)
    return Exit.OK


class Teller:
    """Writes events as they come, each line at once. left: jobs not over, of those known."""

    def __init__(self, client: Client, job: str | None, *, as_json: bool) -> None:
        self._client = client
        self._as_json = as_json
        self._over: set[str] = set()
        self._seen: set[str] = set()
        client.subscribe(self._heard, job)
        if job is None:
            self._seen.update(client.telemetry(list_jobs=True).job_ids or ())
        else:
            self._seen.add(job)
        # One that was over before is told of no more.
        for each in list(self._seen):
            if client.job(each).status().state in FINAL_STATES:
                self._over.add(each)

    def tell(self, *, forever: bool) -> None:
        """Raises Unreachable where the connection is lost: what came after would be missing."""
        while forever or self._seen - self._over:
            if not self._client.listen(TURN_S):
                raise Unreachable("The daemon closed the connection; what came since is not told.")

    def _heard(self, event: JobEvent) -> None:
        self._seen.add(event.job_id)
        if event.state in FINAL_STATES:
            self._over.add(event.job_id)
        if self._as_json:
            print_json(event)
        else:
            sys.stdout.write(line(event) + "\n")
        sys.stdout.flush()


def line(event: JobEvent) -> str:
    """An event for a person: when, which job, what."""
    done = event.progress
    what: str = event.kind
    if event.kind == "degraded":
        modes = ", ".join(f"{each.mode} ({each.cause})" for each in event.degraded or ())
        what = f"degraded: {modes or 'no more'}"
    shots = f"{done.shots_done}/{done.shots_total} shots"
    return f"{event.at} {event.job_id} {event.state.value:<9} {shots} {what}"
