"""The one picture of the demonstration: a histogram per program, and when each job ran.

Draws with matplotlib's Agg, without a display. What is drawn was measured: times are those the
daemon reported, in its own clock, to the millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from harness.demo.runs import Run
from runtime.client.plot import shorten

COLUMNS = 2
OUTCOMES_MAX = 12  # drawn one by one, per program
MEASURED = "#4c86c6"
EXACT = "#b5301c"
QUEUED = "#d9d9d9"
RUNNING = "#3b8f5a"
EPOCHS = "#7a5195"
ROW_INCHES = 0.27  # height of one bar
PANEL_INCHES = 0.85  # height of a panel's title and axis
TIMELINE_ROW_INCHES = 0.3
EPOCHS_INCHES = 1.5


def draw(runs: Sequence[Run], path: Path, *, title: str) -> None:
    """Write the picture as PNG."""
    rows = [runs[at : at + COLUMNS] for at in range(0, len(runs), COLUMNS)]
    heights = [PANEL_INCHES + ROW_INCHES * max(_bars(run) for run in row) for row in rows]
    heights += [0.6 + TIMELINE_ROW_INCHES * len(runs), EPOCHS_INCHES]
    figure = Figure(
        figsize=(12, sum(heights) + 1.2),
        layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.1, hspace=0.02, wspace=0.03),
    )
    figure.suptitle(title, fontsize=14, fontweight="bold", x=0.012, ha="left")
    grid = figure.add_gridspec(len(heights), COLUMNS, height_ratios=heights)
    for at, row in enumerate(rows):
        most = max(_bars(run) for run in row)
        for column, run in enumerate(row):
            _histogram(figure.add_subplot(grid[at, column]), run, most)
    jobs = figure.add_subplot(grid[-2, :])
    epochs = figure.add_subplot(grid[-1, :], sharex=jobs)
    ordered = sorted(runs, key=lambda run: run.times()[1:])
    zero = min(run.times()[0] for run in runs)
    _timeline(jobs, ordered, zero)
    _epochs_closed(epochs, ordered, zero)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    figure.savefig(path, dpi=110)


def _bars(run: Run) -> int:
    return min(len(run.program.exact.keys() | run.counts.keys()), OUTCOMES_MAX + 1)


def _histogram(axes: Axes, run: Run, most: int) -> None:
    """Shares of shots as bars, exact probabilities as marks with five standard deviations.

    most: bars in the fullest panel of this row; bars are as thick as there.
    """
    exact, shots = run.program.exact, run.verdict.shots
    ranked = sorted(exact.keys() | run.counts.keys(), key=lambda key: (-exact.get(key, 0.0), key))
    shown = [(shorten(key), [key]) for key in sorted(ranked[:OUTCOMES_MAX])]
    if rest := ranked[OUTCOMES_MAX:]:
        shown.append((f"{len(rest)} others", rest))
    seen = [sum(run.counts.get(key, 0) for key in keys) / shots for _, keys in shown]
    wanted = [sum(exact.get(key, 0.0) for key in keys) for _, keys in shown]
    spread = [5 * math.sqrt(max(0.0, p * (1 - p)) / shots) for p in wanted]
    places = range(len(shown))
    axes.barh(places, seen, height=0.68 * len(shown) / most, color=MEASURED)
    axes.errorbar(
        wanted, places, xerr=spread, fmt="|", color=EXACT, markersize=11, markeredgewidth=1.8,
        elinewidth=1, capsize=2,
    )  # fmt: skip
    for place, share, probability, width in zip(places, seen, wanted, spread, strict=True):
        axes.annotate(
            f"{share:.4f}", (max(share, probability + width), place), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=8, color="#333333",
        )  # fmt: skip
    axes.set_yticks(places, [label for label, _ in shown], family="monospace", fontsize=9)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlim(0, 1.18 * max(p + w for p, w in zip(wanted, spread, strict=True)))
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    verdict = run.verdict
    sign, colour = ("inside", "#2a6e43") if verdict.inside else ("OUTSIDE", EXACT)
    axes.set_title(run.program.name.replace("_", " "), loc="left", fontsize=11, fontweight="bold")
    axes.set_title(
        f"TVD {verdict.distance:.4f} ≤ {verdict.distance_max:.4f}, p = {verdict.p:.3g}: {sign}"
        if verdict.inside
        else f"TVD {verdict.distance:.4f}, bound {verdict.distance_max:.4f}: {sign}",
        loc="right", fontsize=8.5, color=colour,
    )  # fmt: skip


def _timeline(axes: Axes, runs: Sequence[Run], zero: datetime) -> None:
    """When each job waited and ran, with a mark for every notification of the daemon."""
    end = max(_ms(run.times()[2], zero) for run in runs)
    for place, run in enumerate(runs):
        created, started, completed = (_ms(each, zero) for each in run.times())
        axes.barh(place, started - created, left=created, height=0.5, color=QUEUED)
        axes.barh(place, completed - started, left=started, height=0.5, color=RUNNING)
        told = [_ms(datetime.fromisoformat(event.at), zero) for event in run.events]
        axes.plot(told, [place] * len(told), "|", color="black", markersize=9, markeredgewidth=0.9)
        epochs = run.status.progress.total_epochs
        axes.annotate(
            f"{epochs} epochs, engine {run.engine}", (completed, place), xytext=(7, 0),
            textcoords="offset points", va="center", fontsize=8, color="#333333",
        )  # fmt: skip
    names = [run.program.name.replace("_", " ") for run in runs]
    axes.set_yticks(range(len(runs)), names, fontsize=9)
    axes.set_ylim(len(runs) - 0.4, -0.6)
    axes.set_xlim(-0.01 * end, 1.2 * end + 1)
    axes.tick_params(axis="x", labelbottom=False)
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("epoch timeline", loc="left", fontsize=11, fontweight="bold")


def _epochs_closed(axes: Axes, runs: Sequence[Run], zero: datetime) -> None:
    """A step up by a job's epochs when it completes, on the timeline's own axis."""
    times, closed = [0.0], [0]
    for run in sorted(runs, key=lambda run: run.times()[2]):
        times.append(_ms(run.times()[2], zero))
        closed.append(closed[-1] + run.status.progress.total_epochs)
    axes.step(times, closed, where="post", color=EPOCHS, linewidth=1.6)
    axes.fill_between(times, closed, step="post", color=EPOCHS, alpha=0.15)
    axes.set_ylabel("program epochs\nclosed, all jobs", fontsize=9)
    axes.set_xlabel("milliseconds since the first job was accepted", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.set_ylim(0, 1.08 * max(1, closed[-1]))
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend() -> list[Artist]:
    return [
        Patch(color=MEASURED, label="measured share"),
        Line2D([], [], color=EXACT, marker="|", label="exact, ± 5 standard deviations"),
        Patch(color=QUEUED, label="queued"),
        Patch(color=RUNNING, label="running"),
        Line2D([], [], color="black", marker="|", linestyle="", label="notification"),
    ]


def _ms(at: datetime, zero: datetime) -> float:
    return (at - zero).total_seconds() * 1000
