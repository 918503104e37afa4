"""`qmkctl jobs`: the session's jobs, oldest first."""

from __future__ import annotations

import argparse

from runtime.client import Client
from runtime.ctl import options as common
from runtime.ctl.exits import Exit
from runtime.ctl.output import console, jobs_table, print_json
from syscalls.job import JobStatus, Status

HELP = "list the jobs of qmkctl's session"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    with common.client_of(options) as client:
        jobs = _jobs(client)
    if options.json:
        print_json({"jobs": jobs})
    elif jobs:
        console().print(jobs_table(jobs))
    else:
        print("No jobs.")
    return Exit.OK


def _jobs(client: Client) -> list[JobStatus]:
    """The status of every job. One that is forgotten between the two questions is left out."""
    known = client.telemetry(list_jobs=True).job_ids or []
    session = client.session_id
    answers = client.call_all([Status(session_id=session, job_id=job_id) for job_id in known])
    return [answer for answer in answers if isinstance(answer, JobStatus)]
