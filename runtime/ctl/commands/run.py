"""`qmkctl run`: submit a program, wait for it with a progress bar, show what it measured."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from runtime.client import Job, QmkError
from runtime.client.errors import DeadlinePassed
from runtime.client.operations import CLOSE_S
from runtime.client.operations import Progress as Progressed
from runtime.client.tracing import RecordedSpans
from runtime.ctl import options as common
from runtime.ctl.circuits import registers_of, registers_shown
from runtime.ctl.commands.plan import add_wishes, run_planned
from runtime.ctl.exits import Exit, Trouble
from runtime.ctl.output import console, pairs, print_json, stderr_console
from runtime.ctl.plans import plan_tables
from runtime.ctl.records import failures, require_mode
from runtime.ctl.timeline import job_spans, timeline
from syscalls.events import JobEvent
from syscalls.job import (
    IDEMPOTENCY_KEY_CHARS_MAX,
    PRIORITY_MAX,
    PRIORITY_MIN,
    SEED_MAX,
    CryptoMode,
    JobStatus,
)
from syscalls.tracing import Span

if TYPE_CHECKING:
    from runtime.client.results import Result

HINT_S = 2.0  # then somebody may wonder what a job waits for
HELP = "run a program: JSON, assembly, or a circuit; - reads standard input"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_program(parser)
    parser.add_argument(
        "--seed", metavar="S", type=common.integer(0, SEED_MAX), help="same seed, same bits"
    )
    parser.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="wait for the result (default), or print the job's id and leave",
    )
    parser.add_argument("--plot", metavar="OUT.png", type=Path, help="draw the counts")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="also show how it was run, and the predicted and the real cost",
    )
    parser.add_argument(
        "--trace",
        action="store_true",
        help="also show when its calls were made and when it ran; a daemon that tells spans to an "
        "exporter tells of it under the same trace",
    )
    parser.add_argument(
        "--priority",
        metavar="P",
        type=common.integer(PRIORITY_MIN, PRIORITY_MAX),
        default=0,
        help="higher runs first, among one's own jobs",
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=common.seconds, help="time the job may run for"
    )
    parser.add_argument("--key", help="submit once only under this key")
    parser.add_argument(
        "--crypto-mode",
        choices=get_args(CryptoMode),
        help="how its manifest is to be signed; nothing is run where nobody signs so",
    )
    add_wishes(parser.add_argument_group("by a plan (qmkctl plan)"))
    common.add_json(parser)
    common.add_connection(parser)


def execute(options: argparse.Namespace) -> Exit:
    if options.plot and not options.wait:
        raise Trouble(Exit.USAGE, "--plot needs the result, so it cannot go with --no-wait.")
    if not options.wait and options.no_session_cache:
        raise Trouble(
            Exit.USAGE, "--no-wait leaves a job behind, which needs a session that lasts."
        )
    if options.key is not None and not 1 <= len(options.key) <= IDEMPOTENCY_KEY_CHARS_MAX:
        raise Trouble(Exit.USAGE, f"--key has 1 to {IDEMPOTENCY_KEY_CHARS_MAX} characters.")
    if options.explain and not options.wait:
        raise Trouble(Exit.USAGE, "--explain needs the result, so it cannot go with --no-wait.")
    if options.trace and not options.wait:
        raise Trouble(Exit.USAGE, "--trace needs the end, so it cannot go with --no-wait.")
    if options.error_budget is not None:
        return _by_plan(options)
    spans = RecordedSpans() if options.trace else None
    policy = common.policy_of(options)
    policy["seed"] = options.seed
    policy["priority"] = options.priority
    policy["idempotency_key"] = options.key
    if options.timeout is not None:
        policy["timeout_ms"] = max(1, round(options.timeout * 1000))
    if options.crypto_mode is not None:
        policy["crypto_mode"] = options.crypto_mode
        with failures():
            require_mode(options.crypto_mode)
    graph = common.program_of(options)
    with common.client_of(options, spans=spans) as client, client.span("qmkctl run"):
        job = client.submit(graph, **policy)
        for warning in job.warnings:
            sys.stderr.write(f"qmkctl: warning: {warning.path}: {warning.message}\n")
        if not options.wait:
            assert job.submitted is not None, "this client submitted the job"
            print_json(job.submitted) if options.json else print(job.job_id)
            return Exit.OK
        wait_and_show(
            job,
            policy["shots"],
            as_json=options.json,
            plot=options.plot,
            explain=options.explain,
            spans=spans,
            program=graph,
        )
    return Exit.OK


def _by_plan(options: argparse.Namespace) -> Exit:
    """Run by the best plan, which is several jobs. Raises Trouble."""
    one = ("plot", "explain", "trace", "key", "decoder_data", "crypto_mode")
    asked = [name for name in one if getattr(options, name)]
    if not options.wait:
        asked.append("no_wait")
    if asked:
        flag = asked[0].replace("_", "-")
        why = f"--{flag} is of one job, and a run by --error-budget is several."
        raise Trouble(Exit.USAGE, why)
    return run_planned(options)


def wait_and_show(
    job: Job,
    shots: int | None,
    *,
    as_json: bool,
    plot: Path | None = None,
    timeout: float | None = None,
    cancel: bool = True,
    explain: bool = False,
    spans: RecordedSpans | None = None,
    program: bytes = b"",
) -> None:
    """Wait for a job and print its result. Raises what `Job.wait` raises.

    cancel: an interrupt cancels the job before it is passed on. explain: print its plan too; as
    JSON that is in the job's telemetry. spans: print these too; as JSON, as its `trace`.
    program: what was submitted; a compiled circuit's registers are shown as well.
    """
    try:
        with progress_bar(shots) as tell:
            result = _wait(job, timeout, tell)
    except KeyboardInterrupt:
        if cancel:
            sys.stderr.write(f"\nqmkctl: cancelling {job.job_id}\n")
            with suppress(QmkError):
                job.cancel(timeout=CLOSE_S)
        raise
    trace = [] if spans is None else _whole(spans, result.status)
    more = {"trace": trace} if trace else {}
    registers = registers_of(program, result)
    if as_json and (more or registers):
        status: dict[str, object] = msgspec.to_builtins(result.status)
        print_json(status | more | registers)
    elif as_json:
        print_json(result.status)
    else:
        if result.probabilities is None:
            result.counts  # noqa: B018 - counted here where the kernel left it out
        console().print(result)
        if registers:
            console().print(pairs("registers", registers_shown(registers["registers"])))
        if explain and (figures := result.telemetry).plan is not None:
            console().print(*plan_tables(figures.plan, figures), sep="\n")
        if trace:
            console().print(timeline(trace))
    if plot is not None:
        result.plot(plot)


def _wait(job: Job, timeout: float | None, tell: Progressed | None) -> Result:
    """Wait for the result; where nothing has begun after a while, say once what keeps it."""
    first = HINT_S if timeout is None else min(timeout, HINT_S)
    try:
        return job.wait(first, tell)
    except DeadlinePassed:
        if first == timeout:
            raise
    status = job.status()
    why = status.waits_for if status.queue is None else status.queue.reason
    if why is not None:
        sys.stderr.write(f"qmkctl: {job.job_id} is {status.state.value}: {why}\n")
    return job.wait(None if timeout is None else timeout - first, tell)


def _whole(spans: RecordedSpans, status: JobStatus) -> list[Span]:
    """The calls so far, and what the job says of itself under the one that made it."""
    made = [span for span in spans.finished if span.name == "q_submit"]
    return [*spans.finished, *job_spans(status, made[-1])]


@contextmanager
def progress_bar(shots: int | None) -> Iterator[Progressed | None]:
    """A bar of shots on standard error, if somebody looks at it."""
    if not sys.stderr.isatty():
        yield None
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("shots"),
        TimeElapsedColumn(),
        console=stderr_console(),
        transient=True,
    ) as bar:
        task = bar.add_task("QUEUED", total=shots)

        def tell(event: JobEvent) -> None:
            done = event.progress
            bar.update(
                task,
                description=event.state.value,
                completed=done.shots_done,
                total=done.shots_total,
            )

        yield tell
