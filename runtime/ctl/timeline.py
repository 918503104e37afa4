"""Spans of one trace as a picture for a terminal: a line for each, a bar where it lay in time."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from math import ceil, floor

from rich.table import Table
from rich.text import Text

from syscalls.job import JobStatus
from syscalls.tracing import Span

BAR_COLUMNS = 48
EIGHTHS = " ▏▎▍▌▋▊▉█"
STYLES = {"client": "cyan", "server": "magenta", "internal": "blue"}
TOLD = ("qmk.job_id", "qmk.engine", "qmk.worker", "qmk.shots", "qmk.machine_cycles")


def timeline(spans: Sequence[Span]) -> Table:
    """All of them, each under its parent, in the order in which they began; at least one."""
    first = min(span.start_ns for span in spans)
    whole = max(1, max(span.end_ns for span in spans) - first)
    table = Table(title=f"trace {spans[0].trace_id}", title_justify="left", box=None)
    table.add_column("", no_wrap=True)
    table.add_column("at ms", justify="right", no_wrap=True)
    table.add_column("took ms", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="ellipsis")
    for depth, span in in_order(spans):
        table.add_row(
            "  " * depth + span.name,
            f"{(span.start_ns - first) / 1e6:.1f}",
            f"{(span.end_ns - span.start_ns) / 1e6:.1f}",
            Text(_bar(span, first, whole), style="red" if span.error else STYLES[span.kind]),
            span.error or _about(span),
        )
    return table


def in_order(spans: Sequence[Span]) -> Iterator[tuple[int, Span]]:
    """With how deep each lies. One whose parent is not there, or that lies in itself, is a root."""
    below: dict[str, list[Span]] = defaultdict(list)
    known = {span.span_id for span in spans}
    for span in sorted(spans, key=lambda span: (span.start_ns, span.end_ns)):
        below[span.parent_id if span.parent_id in known else ""].append(span)
    waiting = [(0, span) for span in reversed(below.pop("", []))]
    while waiting or below:
        if not waiting:  # a ring: break it anywhere
            waiting = [(0, span) for span in reversed(below.pop(next(iter(below))))]
        depth, span = waiting.pop()
        yield depth, span
        inner = below.pop(span.span_id, [])
        waiting += [(depth + 1, each) for each in reversed(inner)]


def _bar(span: Span, first: int, whole: int) -> str:
    """A bar in its place, to an eighth of a column; never less than that."""
    begin = floor((span.start_ns - first) * BAR_COLUMNS * 8 / whole)
    end = max(begin + 1, ceil((span.end_ns - first) * BAR_COLUMNS * 8 / whole))
    # A block begins at the left of its column, so what begins within one is drawn from its left.
    column, eighths = begin // 8, end - begin // 8 * 8
    bar = EIGHTHS[8] * (eighths // 8) + EIGHTHS[eighths % 8].strip()
    return " " * min(column, BAR_COLUMNS - 1) + bar


def _about(span: Span) -> str:
    told = ((name.removeprefix("qmk."), span.attributes.get(name)) for name in TOLD)
    return "  ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in told if value is not None
    )


def job_spans(status: JobStatus, call: Span) -> list[Span]:
    """What a job that is over tells of itself, under the call that made it: to the millisecond."""
    begun, ended = _ns(status.created_at), _ns(status.completed_at or status.created_at)
    started = ended if status.started_at is None else _ns(status.started_at)

    def span(name: str, parent: str, start_ns: int, end_ns: int, **about: str | int) -> Span:
        return Span(
            name=name,
            trace_id=call.trace_id,
            span_id=secrets.token_hex(8),
            parent_id=parent,
            start_ns=start_ns,
            end_ns=max(start_ns, end_ns),
            error=status.error.type if status.error is not None and name == "job" else "",
            attributes={f"qmk.{key}": value for key, value in about.items()},
        )

    told = status.telemetry
    job = span("job", call.span_id, begun, ended, job_id=status.job_id)
    found = [job, span("queued", job.span_id, begun, started)]
    if status.started_at is not None:
        engine = "" if status.execution_context is None else status.execution_context.engine
        shots, cycles = status.progress.shots_done, told.machine_cycles
        place = span(
            "running", job.span_id, started, ended,
            engine=engine, shots=shots, machine_cycles=cycles,
        )  # fmt: skip
        found.append(place)
    return found


def _ns(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000) * 1_000_000
