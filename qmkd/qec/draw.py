"""Pictures of a block: its checks, qubits, logical operators, and detectors that fired.

A picture is a list of shapes, which `block_svg` writes as SVG and others may draw otherwise
(`harness.pictures`). X is drawn in one colour and Z in another, and X also with dashed lines, so
that the picture can be read without colour. Returns values and writes no file. A caller hands in
detectors as coordinates, as `stim.Circuit.get_detector_coordinates` gives them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from qmkd.qec.codes.code import Basis, Code, Coord
from qmkd.qec.codes.honeycomb import Honeycomb

Shown = Literal["gauges", "stabilizers"]

STEP: Final = 48.0  # points between neighbours
MARGIN: Final = 0.9  # in steps
INK: Final = "#222222"
PAPER: Final = "#ffffff"
FILL: Final[dict[Basis, str]] = {"X": "#e8927c", "Z": "#8db4e2"}
LINE: Final[dict[Basis, str]] = {"X": "#b3402a", "Z": "#2f5f9e"}
HEXAGONS: Final = ("#e8927c", "#9bc49a", "#8db4e2")
FIRED: Final = "#d4a017"
FONT_POINTS: Final = 11
QUBITS_MAX: Final = 4096
"""Above that a picture has more marks than anyone could tell apart."""


class DrawingLimit(ValueError):
    """The block is too large for a picture that anyone could read; the sentence says how."""


class Shape(NamedTuple):
    """A mark. role: what it stands for, in words; places are in points, y downwards.

    points: corners of an area, ends of a line, or the place of a dot, a diamond or a text, which
    begins there at the height of its line's foot. radius: of a dot.
    """

    kind: Literal["area", "line", "dot", "diamond", "text"]
    role: str
    points: tuple[Coord, ...]
    fill: str = "none"
    stroke: str = "none"
    width: float = 1.0
    dashed: bool = False
    fill_opacity: float = 1.0
    stroke_opacity: float = 1.0
    radius: float = 0.0
    text: str = ""


class Drawing(NamedTuple):
    """left, top, width, height: in points. Later shapes lie on earlier ones."""

    title: str
    left: float
    top: float
    width: float
    height: float
    shapes: tuple[Shape, ...]


def block_drawing(
    code: Code | Honeycomb,
    fired: Iterable[Sequence[float]] = (),
    shown: Shown = "gauges",
    logical: int = 0,
) -> Drawing:
    """A block as shapes.

    fired: coordinates (x, y, round, ...) of detectors, marked at their place with their rounds.
    shown: draw what is measured, or the stabilizers. logical: whose operators are drawn as lines.
    Raises DrawingLimit above QUBITS_MAX qubits.
    """
    if len(code.qubits) > QUBITS_MAX:
        raise DrawingLimit(
            f"the block has {len(code.qubits)} qubits; at most {QUBITS_MAX} are drawn"
        )
    if isinstance(code, Honeycomb):
        marks = _honeycomb(code)
        title = f"honeycomb, {code.size} x {code.size} hexagons"
    else:
        marks = _checks(code, shown) + _logicals(code, logical)
        title = f"{code.variant}, distance {code.distance}"
        marks += [_dot("ancilla", at, 2.5, INK) for at in code.qubits[code.data :]]
    data = code.qubits if isinstance(code, Honeycomb) else code.qubits[: code.data]
    marks += [_dot("data", at, 5.5, PAPER) for at in data]
    marks += _fired(fired)
    places = [*code.qubits]
    if isinstance(code, Honeycomb):
        places += [each.at for each in code.hexagons]
    left, right = _reach(at[0] for at in places)
    top, bottom = _reach(at[1] for at in places)
    return Drawing(title, left, top, right - left, bottom - top, tuple(marks))


def block_svg(
    code: Code | Honeycomb,
    fired: Iterable[Sequence[float]] = (),
    shown: Shown = "gauges",
    logical: int = 0,
) -> str:
    """`block_drawing` as an SVG document. Raises DrawingLimit."""
    return as_svg(block_drawing(code, fired, shown, logical))


def as_svg(drawing: Drawing) -> str:
    """Each shape as one element whose class is its role."""
    title, left, top, width, height, shapes = drawing
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg"'
            f' viewBox="{left:g} {top:g} {width:g} {height:g}" width="{width:g}"'
            f' height="{height:g}" font-family="sans-serif" font-size="{FONT_POINTS}">',
            f"<title>{title}</title>",
            f'<rect x="{left:g}" y="{top:g}" width="100%" height="100%" fill="{PAPER}"/>',
            *map(_element, shapes),
            "</svg>",
            "",
        ]
    )


def _element(shape: Shape) -> str:
    look = f'class="{shape.role}" fill="{shape.fill}"'
    if shape.fill_opacity < 1:
        look += f' fill-opacity="{shape.fill_opacity:g}"'
    if shape.stroke != "none":
        look += f' stroke="{shape.stroke}" stroke-width="{shape.width:g}"'
        look += ' stroke-dasharray="5 2"' if shape.dashed else ""
        look += f' stroke-opacity="{shape.stroke_opacity:g}"' if shape.stroke_opacity < 1 else ""
    x, y = shape.points[0]
    corners = " ".join(f"{x:g},{y:g}" for x, y in shape.points)
    match shape.kind:
        case "area":
            return f'<polygon {look} stroke-linejoin="round" points="{corners}"/>'
        case "line":
            return f'<polyline {look} points="{corners}"/>'
        case "dot":
            return f'<circle {look} cx="{x:g}" cy="{y:g}" r="{shape.radius:g}"/>'
        case "diamond":
            size = f"{shape.radius:g}"
            path = f"M{x:g},{y - shape.radius:g} l{size},{size} l-{size},{size} l-{size},-{size} z"
            return f'<path {look} d="{path}"/>'
        case "text":
            return f'<text {look} x="{x:g}" y="{y:g}">{shape.text}</text>'


def _reach(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    return (min(found) - MARGIN) * STEP, (max(found) + MARGIN) * STEP


def _placed(at: Coord) -> Coord:
    return at[0] * STEP, at[1] * STEP


def _checks(code: Code, shown: Shown) -> list[Shape]:
    if shown == "gauges":
        checks = [(each.basis, each.support, each.at) for each in code.gauges]
    else:
        checks = [(each.basis, code.support(each), each.at) for each in code.stabilizers]
    return [
        _area([code.qubits[qubit] for qubit in support], at if shown == "gauges" else None, basis)
        for basis, support, at in checks
    ]


def _area(corners: list[Coord], at: Coord | None, basis: Basis) -> Shape:
    """A polygon around the corners, or a line; one that bulges where `at` lies beside the line."""
    outline = _hull(corners)
    if len(outline) == 2 and at is not None:
        outline = _hull([*outline, at])
    flat = len(outline) == 2
    return Shape(
        "area",
        f"check {basis}",
        tuple(map(_placed, outline)),
        fill=FILL[basis],
        fill_opacity=0.45,
        stroke=LINE[basis],
        width=7 if flat else 1.5,
        stroke_opacity=0.5 if flat else 1.0,
        dashed=basis == "X",
    )


def _hull(points: Iterable[Coord]) -> list[Coord]:
    """The corners of the convex hull, in order; two for points on a line (monotone chain)."""
    ordered = sorted(set(points))
    halves = []
    for row in (ordered, ordered[::-1]):
        half: list[Coord] = []
        for point in row:
            while len(half) > 1 and _turn(half[-2], half[-1], point) <= 0:
                half.pop()
            half.append(point)
        halves.append(half[:-1])
    return halves[0] + halves[1]


def _turn(one: Coord, two: Coord, three: Coord) -> float:
    return (two[0] - one[0]) * (three[1] - one[1]) - (two[1] - one[1]) * (three[0] - one[0])


def _logicals(code: Code, number: int) -> list[Shape]:
    """Both operators of a logical qubit, as lines through their data qubits."""
    bases: tuple[Basis, ...] = ("X", "Z")
    return [
        Shape(
            "line",
            f"logical {basis}",
            tuple(_placed(code.qubits[qubit]) for qubit in code.logical(basis)[number]),
            stroke=LINE[basis],
            width=3,
            dashed=basis == "X",
        )
        for basis in bases
    ]


def _honeycomb(code: Honeycomb) -> list[Shape]:
    """Hexagons by colour, and the edges that do not run around the torus."""
    marks = [_dot("hexagon", each.at, 11, HEXAGONS[each.colour]) for each in code.hexagons]
    for edge in code.edges:
        one, two = (code.qubits[qubit] for qubit in edge.qubits)
        if math.dist(one, two) > 2.5:
            continue
        colour = HEXAGONS[edge.colour]
        marks.append(Shape("line", "check", (_placed(one), _placed(two)), stroke=colour, width=5))
    return marks


def _fired(fired: Iterable[Sequence[float]]) -> list[Shape]:
    """A diamond at each place where a detector fired, with the rounds in which it did."""
    rounds: dict[Coord, list[float]] = defaultdict(list)
    for x, y, when, *_ in fired:
        rounds[x, y].append(when)
    marks, labels = [], []
    for at, times in sorted(rounds.items()):
        across, down = _placed(at)
        marks.append(Shape("diamond", "fired", ((across, down),), fill=FIRED, stroke=INK, radius=9))
        label = " ".join(f"{time:g}" for time in sorted(times))
        labels.append(Shape("text", "rounds", ((across + 11, down + 4),), fill=INK, text=label))
    return marks + labels


def _dot(role: str, at: Coord, radius: float, fill: str) -> Shape:
    return Shape("dot", role, (_placed(at),), fill=fill, stroke=INK, radius=radius)
