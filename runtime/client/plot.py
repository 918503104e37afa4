"""Drawing counts and probabilities with matplotlib, where it is installed.

Opens no window and needs no display.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runtime.client.errors import PlottingUnavailable

BARS_MAX = 32  # outcomes drawn one by one; the rest is one bar
LABEL_CHARS_MAX = 28


def shorten(label: str) -> str:
    """A label that fits beside a bar: a long one keeps both ends."""
    if len(label) <= LABEL_CHARS_MAX:
        return label
    half = (LABEL_CHARS_MAX - 1) // 2
    return f"{label[:half]}…{label[-half:]}"


def draw_bars(sizes: Mapping[str, float], path: Path, *, title: str, of: str) -> None:
    """One horizontal bar per outcome, ordered by outcome; the rarest share one bar.

    sizes: outcome -> what there is of it. of: what that is, such as "shots".
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise PlottingUnavailable(
            "Drawing needs matplotlib, which is not installed: pip install 'qmkd[plot]'."
        ) from error
    ranked = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    bars = [(shorten(key) or "(no events)", size) for key, size in sorted(ranked[:BARS_MAX])]
    if rest := ranked[BARS_MAX:]:
        bars.append((f"{len(rest)} others", sum(size for _, size in rest)))
    figure = Figure(figsize=(7, 1.4 + 0.28 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(bars))
    drawn = axes.barh(places, [size for _, size in bars], color="#3b6ea5", height=0.7)
    axes.bar_label(drawn, padding=3, fontsize=8)
    axes.set_yticks(places, [label for label, _ in bars], family="monospace", fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(of)
    axes.set_title(title, fontsize=10, loc="left")
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:
        raise PlottingUnavailable(f"Cannot draw {path}: {error}.") from error
