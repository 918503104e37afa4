"""A block with the detectors that fired in one sampled shot of a memory.

The distance of a honeycomb is its size in hexagons.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon

from harness.pictures.style import PictureRefused, save, suffix_of
from qmkd.qec import noise
from qmkd.qec.circuits import honeycomb_memory, memory
from qmkd.qec.codes.code import Code, CodeError
from qmkd.qec.codes.honeycomb import Honeycomb, honeycomb
from qmkd.qec.codes.repetition import repetition
from qmkd.qec.draw import (
    FONT_POINTS,
    Drawing,
    DrawingLimit,
    Shape,
    Shown,
    as_svg,
    block_drawing,
)
from qmkd.qec.measuring import CODES

CODES_DRAWN: dict[str, Callable[[int], Code | Honeycomb]] = {
    **CODES, "Repetition": repetition, "Honeycomb": honeycomb,
}  # fmt: skip
POINTS_PER_INCH = 72


def patch(code: str, distance: int, rounds: int, p: float, seed: int, shown: Shown) -> Drawing:
    """Fired in a memory of so many rounds under uniform noise. Raises PictureRefused."""
    try:
        block = CODES_DRAWN[code](distance)
        fired = _fired(block, rounds, p, seed)
        return block_drawing(block, fired, shown)
    except (CodeError, noise.NoiseError, DrawingLimit) as problem:
        raise PictureRefused(str(problem)) from problem


def _fired(block: Code | Honeycomb, rounds: int, p: float, seed: int) -> list[list[float]]:
    if isinstance(block, Honeycomb):
        clean = honeycomb_memory(block, rounds)
    else:
        clean = memory(block, rounds, block.protects[0])
    circuit = noise.apply(clean, noise.uniform(p))
    places = circuit.get_detector_coordinates()
    (shot,) = circuit.compile_detector_sampler(seed=seed).sample(1)
    return [places[detector] for detector, fires in enumerate(shot) if fires]


def save_drawing(drawing: Drawing, path: Path) -> None:
    """As SVG, element for shape; as PNG by matplotlib. Raises PictureRefused, OSError."""
    if suffix_of(path) == ".svg":
        path.write_text(as_svg(drawing), encoding="utf-8")
        return
    figure = Figure(figsize=(drawing.width / POINTS_PER_INCH, drawing.height / POINTS_PER_INCH))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(drawing.left, drawing.left + drawing.width)
    axes.set_ylim(drawing.top + drawing.height, drawing.top)
    axes.set_axis_off()
    for order, shape in enumerate(drawing.shapes):
        _draw(axes, shape, order)
    save(figure, path)


def _draw(axes: Axes, shape: Shape, order: int) -> None:
    edge = (shape.stroke, shape.stroke_opacity) if shape.stroke != "none" else "none"
    style = (0, (5 / shape.width, 2 / shape.width)) if shape.dashed else "-"
    face = (shape.fill, shape.fill_opacity) if shape.fill != "none" else "none"
    x, y = shape.points[0]
    look = {"edgecolor": edge, "facecolor": face, "linewidth": shape.width, "zorder": order}
    match shape.kind:
        case "area":
            axes.add_patch(Polygon(shape.points, closed=True, linestyle=style, **look))
        case "dot":
            axes.add_patch(Circle((x, y), shape.radius, **look))
        case "diamond":
            ends = ((0, -1), (1, 0), (0, 1), (-1, 0))
            corners = [(x + dx * shape.radius, y + dy * shape.radius) for dx, dy in ends]
            axes.add_patch(Polygon(corners, closed=True, **look))
        case "line":
            across, down = zip(*shape.points, strict=True)
            axes.plot(
                across, down, linestyle=style, color=edge, linewidth=shape.width, zorder=order
            )
        case "text":
            axes.text(x, y, shape.text, color=shape.fill, fontsize=FONT_POINTS, zorder=order)
