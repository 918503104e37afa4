"""One measured figure with its goal, and the table of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal, TypedDict

from rich.console import Console
from rich.table import Table


class Row(TypedDict):
    """goal: None where the figure is context for others. ok: None where there is no goal."""

    metric: str
    value: float
    unit: str
    goal: str | None
    ok: bool | None


def row(
    metric: str,
    value: float,
    unit: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Row:
    """A row whose goal, if any, is one bound."""
    assert at_most is None or at_least is None
    if at_most is not None:
        return Row(
            metric=metric, value=value, unit=unit, goal=f"<= {at_most:g}", ok=value <= at_most
        )
    if at_least is not None:
        return Row(
            metric=metric, value=value, unit=unit, goal=f">= {at_least:g}", ok=value >= at_least
        )
    return Row(metric=metric, value=value, unit=unit, goal=None, ok=None)


def missing(metric: str, why: str) -> Row:
    """A row without a figure, which says why there is none."""
    return Row(metric=f"{metric}: {why}", value=math.nan, unit="", goal=None, ok=None)


def median_ratio(tops: Sequence[float], bottoms: Sequence[float]) -> float:
    """Median of the ratios of interleaved rounds, which a drifting machine moves least."""
    return statistics.median(
        top / bottom for top, bottom in zip(tops, bottoms, strict=True) if bottom
    )


def figure(value: float) -> str:
    """Three significant digits, with thousands apart."""
    if math.isnan(value):
        return "-"
    if value == 0 or math.isinf(value):
        return str(value)
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def print_rows(title: str, rows: Sequence[Row], console: Console) -> None:
    table = Table(title=title, title_justify="left", show_edge=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("goal", justify="right")
    table.add_column("")
    marks: dict[bool | None, Literal["", "met", "MISSED"]] = {
        None: "",
        True: "met",
        False: "MISSED",
    }
    for one in rows:
        table.add_row(
            one["metric"], figure(one["value"]), one["unit"], one["goal"] or "", marks[one["ok"]]
        )
    console.print(table)
    console.print()
