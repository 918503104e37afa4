"""Where the curves of all distances cross: our counts, the published ones, and both fits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.pictures.style import FADED, MARKS, colours, finish, one_panel
from qmkd.qec.data import Count
from qmkd.qec.thresholds import Crossing, Near, fit_crossing, near
from qmkd.qec.validate import around_threshold

CROSSING = "#b5301c"
STEPS = 80


def threshold(counts: Sequence[Count], published: Sequence[Count]) -> Figure:
    """Surface memories per d rounds, X and Z together, as (shots, errors) were counted."""
    points = near(around_threshold(counts))
    others = near(around_threshold(published))
    ours, theirs = fit_crossing(points), fit_crossing(others)
    figure, axes = one_panel()
    distances = sorted({each.distance for each in points})
    grid = np.geomspace(
        min(each.p for each in points) * 0.95, max(each.p for each in points) * 1.05, STEPS
    )
    for distance, mark in zip(distances, MARKS, strict=False):
        colour = colours(distances)[distance]
        fitted = [math.exp(ours.log(distance, p)) for p in grid]
        axes.plot(grid, fitted, "-", color=colour, linewidth=1)
        _marks(axes, [each for each in points if each.distance == distance], colour, mark)
        _marks(axes, [each for each in others if each.distance == distance], colour, mark, True)
        axes.plot([], [], mark, color=colour, label=f"d = {distance}")
    axes.axvspan(ours.low, ours.high, color=CROSSING, alpha=0.15, linewidth=0)
    axes.axvline(ours.p, color=CROSSING, linewidth=1, label=f"crossing {_written(ours)}")
    axes.plot(
        [], [], "o", color="grey", markerfacecolor="none", markersize=9,
        label=f"published, crossing {_written(theirs)}",
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({each.p for each in points})
    axes.set_xticks(ticks, [f"{1e3 * p:g}e-3" for p in ticks])
    axes.set_xticks([], minor=True)
    finish(
        axes,
        x="physical error strength p",
        y="-ln(1 - 2 failures) / 2 per d rounds, X + Z",
        title="Surface memory, uniform noise, correlated matching",
    )
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _written(found: Crossing) -> str:
    return f"{100 * found.p:.3f} % ({100 * found.low:.3f} to {100 * found.high:.3f})"


def _marks(
    axes: Axes, points: Sequence[Near], colour: str, mark: str, published: bool = False
) -> None:
    """With two standard deviations."""
    values = [math.exp(each.log) for each in points]
    axes.errorbar(
        [each.p for each in points],
        values,
        yerr=[2 * each.deviation * value for each, value in zip(points, values, strict=True)],
        fmt=mark,
        color=colour,
        markerfacecolor="none" if published else colour,
        markersize=9 if published else 5,
        alpha=FADED if published else 1.0,
        elinewidth=1,
        capsize=2,
    )
