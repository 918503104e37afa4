"""Timelines against spans made up for them, and `qmkctl trace` on files of these."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from runtime.ctl.__main__ import main
from runtime.ctl.exits import Exit
from runtime.ctl.timeline import BAR_COLUMNS, in_order, timeline
from syscalls.tracing import Span


def span(name: str, own: int, parent: int, start: int, end: int, **about: str) -> Span:
    return Span(
        name=name,
        trace_id="a" * 32,
        span_id=f"{own:016x}",
        parent_id=f"{parent:016x}" if parent else "",
        start_ns=start,
        end_ns=end,
        attributes=dict(about),
    )


def drawn(*spans: Span) -> list[str]:
    """The lines below title and head."""
    console = Console(width=160, file=io.StringIO())
    console.print(timeline(spans))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()[2:]]


def test_each_span_stands_under_its_parent_in_the_order_of_time() -> None:
    spans = [
        span("c", 3, 1, 5, 9),
        span("b", 2, 1, 2, 4),
        span("a", 1, 99, 0, 10),
        span("d", 4, 2, 2, 3),
    ]
    assert [(depth, each.name) for depth, each in in_order(spans)] == [
        (0, "a"),
        (1, "b"),
        (2, "d"),
        (1, "c"),
    ]


def test_spans_that_lie_in_each_other_are_drawn_once_each() -> None:
    ring = [span("a", 1, 2, 0, 1), span("b", 2, 1, 0, 1), span("c", 3, 3, 0, 1)]
    assert sorted(each.name for _, each in in_order(ring)) == ["a", "b", "c"]


def test_bars_lie_where_their_spans_lay() -> None:
    lines = drawn(
        span("whole", 1, 0, 0, 48_000_000),
        span("late", 2, 1, 24_000_000, 36_000_000),
        span("short", 3, 1, 24_000_000, 24_000_000),
    )
    whole, short, late = lines
    assert whole.endswith("█" * BAR_COLUMNS)
    assert late.count("█") == BAR_COLUMNS // 4
    assert late.index("█") - whole.index("█") == BAR_COLUMNS // 2
    assert short.index("▏") == late.index("█")


def test_a_trace_is_drawn_out_of_a_file_by_its_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spans = [
        span("q_submit", 1, 0, 0, 5),
        span("job", 2, 1, 1, 9, **{"qmk.job_id": "job_1"}),
        msgspec.structs.replace(span("other", 3, 0, 0, 1), trace_id="b" * 32),
    ]
    path = tmp_path / "spans.jsonl"
    path.write_bytes(msgspec.json.Encoder().encode_lines(spans) + b'{"name":"half')
    assert main(["trace", str(path), "job_1", "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)["trace"]
    assert [each["name"] for each in told] == ["q_submit", "job"]
    assert main(["trace", str(path)]) == Exit.OK
    assert "other" in capsys.readouterr().out
    assert main(["trace", str(path), "job_2"]) == Exit.USAGE
    assert "nothing of job_2" in capsys.readouterr().err
