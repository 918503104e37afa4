"""Logical error rates of memories against physical strength and against distance.

Filled marks are ours, with 95 % intervals: the table's, and longer counts of 4d rounds. Lines are
what a look-up answers: solid between measured points, dashed where the law extrapolates. Open marks
are published counts. Counts per shot are spread over its rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.pictures.style import FADED, MARKS, PictureRefused, colours, finish, one_panel
from qmkd.qec.calibration import ERRS, Basis, NotKnown, Table
from qmkd.qec.data import Count
from qmkd.qec.sampling import clopper_pearson, piece_rate

EXPERIMENTS = {"Surface": "rotated surface, 4-CX", "BaconShor": "Bacon-Shor"}
"""What published counts of a code are called."""
RATE_LEAST = 1e-13
STEPS = 60
"""Of a law's line."""
P_FROM, P_TO = 1e-4, 5e-3
DISTANCE_TO = 15
FILLED: dict[str, Any] = {"markersize": 5, "elinewidth": 1, "capsize": 2}
OPEN: dict[str, Any] = {
    "markersize": 9, "elinewidth": 0.8, "markerfacecolor": "none", "alpha": FADED,
}  # fmt: skip

Corner = Literal["lower left", "lower right"]


class Asked(NamedTuple):
    """Which memories. noise: a model's name, as in the table."""

    code: str
    noise: str
    basis: Basis

    def __str__(self) -> str:
        return f"{self.code} memory in {self.basis}, {self.noise} noise"


class Counts(NamedTuple):
    """Beside the table."""

    ours: Sequence[Count]
    published: Sequence[Count]


class Measured(NamedTuple):
    distance: int
    p: float
    rate: float
    low: float
    high: float


def ours(table: Table, asked: Asked) -> list[Measured]:
    """Entries of the table, rates per round. Raises PictureRefused where there are none."""
    found = [
        Measured(key.distance, key.p, term.rate, term.low, term.high)
        for key, entry in sorted(table.entries.items())
        if (key.code, key.noise, key.gadget, key.basis)
        == (asked.code, asked.noise, "memory", asked.basis)
        for term in entry.terms
        if term.rate > 0
    ]
    if not found:
        known = sorted({(key.code, key.noise) for key in table.entries})
        raise PictureRefused(f"no {asked} in the table; it has " + ", ".join(map(str, known)))
    return found


def spread(counts: Iterable[Count], asked: Asked) -> list[Measured]:
    """Rates per round of counts per shot, where errors were seen. All are of uniform noise."""
    found = []
    for count in counts:
        wanted = (EXPERIMENTS.get(asked.code), asked.basis, "uniform")
        if (count.experiment, count.basis, asked.noise) != wanted or not count.errors:
            continue
        low, high = clopper_pearson(count.errors, count.shots)
        chances = (count.errors / count.shots, low, high)
        rate, low, high = (piece_rate(chance, count.rounds) for chance in chances)
        found.append(Measured(count.distance, count.p, rate, low, high))
    return found


def by_strength(table: Table, counts: Counts, asked: Asked) -> Figure:
    """One line per odd distance, or per distance where there is none."""
    points = ours(table, asked) + spread(counts.ours, asked)
    distances = sorted({each.distance for each in points} | set(range(3, DISTANCE_TO + 1, 2)))
    distances = [each for each in distances if each % 2] or distances
    published = [each for each in spread(counts.published, asked) if P_FROM <= each.p <= P_TO]
    figure, axes = one_panel()
    grid = np.geomspace(P_FROM, P_TO, STEPS).tolist()
    for distance, mark in zip(distances, _marks(), strict=False):
        colour = colours(distances)[distance]
        _line(axes, table, asked, [(distance, p) for p in grid], lambda at: at[1], colour)
        mine = [each for each in points if each.distance == distance]
        theirs = [each for each in published if each.distance == distance]
        _marked(axes, mine, theirs, "p", colour, mark)
        axes.plot([], [], mark, color=colour, label=f"d = {distance}")
    axes.set_xscale("log")
    axes.set_xlim(P_FROM / 1.2, P_TO * 1.2)
    _finish(axes, asked, "physical error strength p", "lower right", bool(published))
    return figure


def by_distance(table: Table, counts: Counts, asked: Asked) -> Figure:
    """One line per strength of the table."""
    points = ours(table, asked)
    strengths = sorted({each.p for each in points})
    points += spread(counts.ours, asked)
    reach = range(3, DISTANCE_TO + 1)
    published = [each for each in spread(counts.published, asked) if each.distance in reach]
    figure, axes = one_panel()
    for p, mark in zip(strengths, _marks(), strict=False):
        colour = colours(strengths)[p]
        odd = [(distance, p) for distance in reach if distance % 2]
        _line(axes, table, asked, odd, lambda at: at[0], colour)
        mine = [each for each in points if each.p == p]
        theirs = [each for each in published if each.p == p]
        _marked(axes, mine, theirs, "distance", colour, mark)
        axes.plot([], [], mark, color=colour, label=f"p = {p:g}")
    axes.set_xticks(list(reach))
    _finish(axes, asked, "code distance d", "lower left", bool(published))
    return figure


def _marks() -> Iterable[str]:
    while True:
        yield from MARKS


def _line(
    axes: Axes,
    table: Table,
    asked: Asked,
    places: Sequence[tuple[int, float]],
    across: Callable[[tuple[int, float]], float],
    colour: str,
) -> None:
    """What a look-up answers at these distances and strengths; where it refuses, no line."""
    runs: list[tuple[str, list[tuple[float, float]]]] = []
    for place in places:
        try:
            answer = table.look_up(asked.code, place[0], asked.noise, place[1], "memory")
        except NotKnown:
            runs.append(("", []))
            continue
        here = (across(place), answer.rate(ERRS[asked.basis]))
        style = "--" if answer.how == "extrapolated" else "-"
        if not runs or runs[-1][0] != style:
            # A line that changes its style goes on from where it was.
            runs.append((style, runs[-1][1][-1:] if runs else []))
        runs[-1][1].append(here)
    for style, points in runs:
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, linewidth=1)


def _marked(
    axes: Axes,
    mine: Sequence[Measured],
    theirs: Sequence[Measured],
    across: str,
    colour: str,
    mark: str,
) -> None:
    for points, style in ((mine, FILLED), (theirs, OPEN)):
        axes.errorbar(
            [getattr(each, across) for each in points],
            [each.rate for each in points],
            yerr=_intervals(points),
            fmt=mark,
            color=colour,
            **style,
        )


def _intervals(points: Sequence[Measured]) -> list[list[float]]:
    return [
        [max(0.0, each.rate - each.low) for each in points],
        [max(0.0, each.high - each.rate) for each in points],
    ]


def _finish(axes: Axes, asked: Asked, x: str, legend_at: Corner, published: bool) -> None:
    axes.set_yscale("log")
    axes.set_ylim(bottom=max(RATE_LEAST, axes.get_ylim()[0]), top=0.1)
    finish(axes, x=x, y=f"logical {ERRS[asked.basis]} errors per round", title=str(asked))
    axes.plot([], [], "-", color="grey", label="between measured")
    axes.plot([], [], "--", color="grey", label="law, extrapolated")
    if published:
        axes.plot(
            [], [], "o", color="grey", markerfacecolor="none", markersize=9, label="published"
        )
    axes.legend(frameon=False, fontsize=8, ncols=2, loc=legend_at)
