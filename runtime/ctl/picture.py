"""Pictures of estimates with matplotlib, where it is installed. Opens no window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime.client.errors import PlottingUnavailable

LABELS = {"azure": "closed form (Azure)", "measured": "from rates"}
COLOURS = {"azure": "#c05a3c", "measured": "#3b6ea5"}


def draw_frontier(frontier: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Physical qubits against time, one line per way of estimating; PNG or SVG by the suffix."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise PlottingUnavailable(
            "Drawing needs matplotlib, which is not installed: pip install 'qmkd[plot]'."
        ) from error
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for name, points in frontier.items():
        seconds = [point["seconds"] for point in points]
        qubits = [point["physical_qubits"] for point in points]
        if points:
            axes.plot(seconds, qubits, "o-", color=COLOURS[name], label=LABELS[name], markersize=4)
            for place in {0, len(points) - 1}:
                axes.annotate(
                    f"d={points[place]['distance']}",
                    (seconds[place], qubits[place]),
                    textcoords="offset points",
                    xytext=(5, 5),
                    fontsize=8,
                )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("seconds")
    axes.set_ylabel("physical qubits")
    axes.grid(True, which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if any(frontier.values()):
        axes.legend(frameon=False)
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:
        raise PlottingUnavailable(f"Cannot draw {path}: {error}.") from error
