"""How pictures look and how they are saved. Draws without a display, to PNG or SVG by the suffix.

The same picture gives the same SVG: no date, and ids that do not change from run to run.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")
PNG_DPI = 110
MARKS = "os^Dvp<>h"
FADED = 0.55
"""Opacity of what others published."""


class PictureRefused(ValueError):
    """A picture that cannot be drawn; the sentence says why."""


def suffix_of(path: Path) -> str:
    """Raises PictureRefused for what is neither PNG nor SVG."""
    if path.suffix not in SUFFIXES:
        raise PictureRefused(f"{path}: pictures are written as {' or '.join(SUFFIXES)}")
    return path.suffix


def save(figure: Figure, path: Path) -> None:
    """Raises PictureRefused, or OSError where the file cannot be written."""
    suffix = suffix_of(path)
    with rc_context({"svg.hashsalt": "qmkd", "svg.fonttype": "none"}):
        figure.savefig(path, dpi=PNG_DPI, metadata={"Date": None} if suffix == ".svg" else None)


def one_panel() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.4, 5.0), layout="constrained")
    return figure, figure.add_subplot()


def finish(axes: Axes, *, x: str, y: str, title: str) -> None:
    """Labels, a faint grid, no box."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(True, which="both", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)


def colours(keys: Iterable[Any]) -> dict[Any, str]:
    """From dark to light, readable on white, one for each key in order."""
    ordered = list(keys)
    scale = colormaps["viridis"]
    last = max(1, len(ordered) - 1)
    made: dict[Any, str] = {}
    for at, key in enumerate(ordered):
        red, green, blue, _ = scale(0.86 * at / last)
        made[key] = f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
    return made
