"""What `qmkctl` writes: answers on standard output, everything else on standard error.

With `--json` an answer is one JSON object on one line, and so is an error. Colour is rich's
business, which leaves it out where NO_COLOR is set or nobody looks.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runtime.client import errors
from syscalls.job import JobState, JobStatus

PIPE_COLUMNS = 240

STATE_STYLES = {
    JobState.COMPLETED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "yellow",
}


def console() -> Console:
    """For tables on standard output; into a pipe nothing is cut to the width of a screen."""
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    return Console(highlight=False, emoji=False, markup=False, width=width)


def stderr_console() -> Console:
    """For progress and messages."""
    return Console(stderr=True, highlight=False, emoji=False, markup=False)


def print_json(value: Any) -> None:
    """One JSON object, on one line."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def print_error(error: Exception, *, as_json: bool) -> None:
    """Why it did not work, on standard error."""
    if not as_json:
        sys.stderr.write(f"qmkctl: {_sentence(error)}\n")
        return
    body: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, errors.Refused):
        body |= {"code": error.code, "type": error.error.name, "data": error.data}
    sys.stderr.write(msgspec.json.encode({"error": body}).decode() + "\n")


def _sentence(error: Exception) -> str:
    """What a person reads: where it helps, with what to do next."""
    if isinstance(error, errors.Unreachable):
        return (
            f"{error}\nqmkctl: `qmkctl doctor`, on the daemon's host, says what to do; "
            "--socket and --remote name another daemon."
        )
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return str(error)


def pairs(title: str, rows: list[tuple[str, object]]) -> Table:
    """A table of names and values."""
    table = Table(title=title or None, show_header=False, title_justify="left")
    table.min_width = len(title)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if isinstance(value, dict):
            value = _flat(value)
        elif isinstance(value, list):
            lines = [_flat(each) if isinstance(each, dict) else str(each) for each in value]
            value = "\n".join(lines)
        if value is not None:
            table.add_row(name, str(value))
    return table


def _flat(value: dict[str, Any]) -> str:
    return ", ".join(f"{each} {value[each]}" for each in value)


def status_table(status: JobStatus) -> Table:
    """All that matters about one job."""
    done, stopped = status.progress, status.cancelled_at_epoch
    epoch = f"{done.current_epoch} of {done.total_epochs}"
    if stopped is not None:
        epoch = f"stopped in {stopped} of {done.total_epochs}"
        epoch = epoch if status.started_at else "none begun"
    context = status.execution_context
    rows: list[tuple[str, object]] = [
        ("state", status.state.value),
        ("shots", f"{done.shots_done} of {done.shots_total}"),
        ("epoch", epoch),
        ("created", status.created_at),
        ("started", status.started_at),
        ("completed", status.completed_at),
        ("waits for", status.waits_for if status.queue is None else status.queue.reason),
        ("for cycles", None if status.queue is None else status.queue.cycles or None),
        ("seed", None if context is None else context.seed),
        ("engine", None if context is None else f"{context.engine}: {context.why}"),
        ("outcomes", None if status.counts is None else len(status.counts)),
        ("error", None if status.error is None else status.error.message),
    ]
    return pairs(status.job_id, rows)


def jobs_table(jobs: list[JobStatus]) -> Table:
    """One line per job, within 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("job", "state", "shots", "created (UTC)"):
        table.add_column(name, no_wrap=True)
    for job in jobs:
        state = Text(job.state.value, style=STATE_STYLES.get(job.state, ""))
        created = job.created_at[:19].replace("T", " ")
        table.add_row(job.job_id, state, str(job.progress.shots_total), created)
    return table
