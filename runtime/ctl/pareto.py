"""Variants of a program by what they err and how long they take, as a picture with matplotlib.

Opens no window. What a variant is: `runtime/jit/planning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime.client.errors import PlottingUnavailable
from runtime.jit.planning.choose import Choice, Considered, Plan

OURS = "#3b6ea5"
TAKEN = "#c05a3c"


def front(considered: Sequence[Considered]) -> list[Considered]:
    """Those that no other beats in machine time and error at once, the quickest first."""
    found: list[Considered] = []
    for each in sorted(considered, key=lambda one: (one.machine_s, one.prediction.error)):
        if not found or each.prediction.error < found[-1].prediction.error:
            found.append(each)
    return found


def draw_choice(choice: Choice, path: Path) -> None:
    """Error against machine time, with the budget and the chosen variant; PNG or SVG by suffix.

    Raises PlottingUnavailable.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise PlottingUnavailable(
            "Drawing needs matplotlib, which is not installed: pip install 'qmkd[plot]'."
        ) from error
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    points = [each for each in choice.considered if each.prediction.error > 0]
    if points:
        axes.errorbar(
            [each.machine_s for each in points],
            [each.prediction.error for each in points],
            yerr=[
                [each.prediction.error - each.prediction.low for each in points],
                [each.prediction.high - each.prediction.error for each in points],
            ],
            fmt="o", color=OURS, alpha=0.35, markersize=3, elinewidth=0.7, label="weighed",
        )  # fmt: skip
    best = front(points)
    axes.plot(
        [each.machine_s for each in best],
        [each.prediction.error for each in best],
        "-", color=OURS, linewidth=1, label="beaten by none",
    )  # fmt: skip
    axes.axhline(choice.aims.error_budget, color="black", linewidth=0.8, linestyle="--")
    if isinstance(choice, Plan):
        taken = choice.chosen
        label = f"taken: {taken.profile}, {taken.way}"
        height = max(taken.prediction.error, choice.aims.error_budget / 1e6)
        axes.plot([taken.machine_s], [height], "s", color=TAKEN, markersize=7, label=label)
    if choice.aims.deadline_s is not None:
        axes.axvline(choice.aims.deadline_s, color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(f"seconds of machine time, {choice.aims.shots:,} shots")
    axes.set_ylabel("total variation from what the program should give")
    axes.grid(True, which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:
        raise PlottingUnavailable(f"Cannot draw {path}: {error}.") from error
