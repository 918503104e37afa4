"""Pictures of a block as SVG: its checks, qubits, logical operators, and detectors that fired.

X is drawn in one colour and Z in another, and X also with dashed lines, so that the picture can be
read without colour. Returns text and writes no file. A caller hands in detectors as coordinates, as
`stim.Circuit.get_detector_coordinates` gives them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from qmkd.qec.codes.code import Basis, Code, Coord
from qmkd.qec.codes.honeycomb import Honeycomb

Shown = Literal["gauges", "stabilizers"]

STEP: Final = 48.0  # points between neighbours
MARGIN: Final = 0.9  # in steps
INK: Final = "#222222"
FILL: Final[dict[Basis, str]] = {"X": "#e8927c", "Z": "#8db4e2"}
LINE: Final[dict[Basis, str]] = {"X": "#b3402a", "Z": "#2f5f9e"}
DASH: Final[dict[Basis, str]] = {"X": ' stroke-dasharray="5 2"', "Z": ""}
HEXAGONS: Final = ("#e8927c", "#9bc49a", "#8db4e2")
FIRED: Final = "#d4a017"
QUBITS_MAX: Final = 4096
"""Above that a picture has more marks than anyone could tell apart."""


class DrawingLimit(ValueError):
    """The block is too large for a picture that anyone could read; the sentence says how."""


def block_svg(
    code: Code | Honeycomb,
    fired: Iterable[Sequence[float]] = (),
    shown: Shown = "gauges",
    logical: int = 0,
) -> str:
    """A block as an SVG document.

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
        marks += [_dot(at, 2.5, INK) for at in code.qubits[code.data :]]
    data = code.qubits if isinstance(code, Honeycomb) else code.qubits[: code.data]
    marks += [_dot(at, 5.5, "#ffffff") for at in data]
    marks += _fired(fired)
    places = [*code.qubits]
    if isinstance(code, Honeycomb):
        places += [each.at for each in code.hexagons]
    left, right = _reach(at[0] for at in places)
    top, bottom = _reach(at[1] for at in places)
    width, height = right - left, bottom - top
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg"'
            f' viewBox="{left:g} {top:g} {width:g} {height:g}" width="{width:g}"'
            f' height="{height:g}" font-family="sans-serif" font-size="11">',
            f"<title>{title}</title>",
            f'<rect x="{left:g}" y="{top:g}" width="100%" height="100%" fill="#ffffff"/>',
            *marks,
            "</svg>",
            "",
        ]
    )


def _reach(values: Iterable[float]) -> tuple[float, float]:
    found = list(values)
    return (min(found) - MARGIN) * STEP, (max(found) + MARGIN) * STEP


def _checks(code: Code, shown: Shown) -> list[str]:
    if shown == "gauges":
        checks = [(each.basis, each.support, each.at) for each in code.gauges]
    else:
        checks = [(each.basis, code.support(each), each.at) for each in code.stabilizers]
    return [
        _area([code.qubits[qubit] for qubit in support], at if shown == "gauges" else None, basis)
        for basis, support, at in checks
    ]


def _area(corners: list[Coord], at: Coord | None, basis: Basis) -> str:
    """A polygon around the corners, or a line; one that bulges where `at` lies beside the line."""
    outline = _hull(corners)
    if len(outline) == 2 and at is not None:
        outline = _hull([*outline, at])
    points = " ".join(f"{x * STEP:g},{y * STEP:g}" for x, y in outline)
    style = (
        f'fill="{FILL[basis]}" fill-opacity="0.45" stroke="{LINE[basis]}"{DASH[basis]}'
        ' stroke-linejoin="round"'
    )
    wide = ' stroke-width="7" stroke-opacity="0.5"' if len(outline) == 2 else ' stroke-width="1.5"'
    return f'<polygon class="check {basis}" points="{points}" {style}{wide}/>'


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


def _logicals(code: Code, number: int) -> list[str]:
    """Both operators of a logical qubit, as lines through their data qubits."""
    lines = []
    for basis in ("X", "Z"):
        points = " ".join(
            f"{x * STEP:g},{y * STEP:g}"
            for x, y in (code.qubits[qubit] for qubit in code.logical(basis)[number])
        )
        lines.append(
            f'<polyline class="logical {basis}" points="{points}" fill="none"'
            f' stroke="{LINE[basis]}"{DASH[basis]} stroke-width="3"/>'
        )
    return lines


def _honeycomb(code: Honeycomb) -> list[str]:
    """Hexagons by colour, and the edges that do not run around the torus."""
    marks = [_dot(each.at, 11, HEXAGONS[each.colour]) for each in code.hexagons]
    for edge in code.edges:
        one, two = (code.qubits[qubit] for qubit in edge.qubits)
        if math.dist(one, two) > 2.5:
            continue
        marks.append(
            f'<line class="check" x1="{one[0] * STEP:g}" y1="{one[1] * STEP:g}"'
            f' x2="{two[0] * STEP:g}" y2="{two[1] * STEP:g}"'
            f' stroke="{HEXAGONS[edge.colour]}" stroke-width="5"/>'
        )
    return marks


def _fired(fired: Iterable[Sequence[float]]) -> list[str]:
    """A diamond at each place where a detector fired, with the rounds in which it did."""
    rounds: dict[Coord, list[float]] = defaultdict(list)
    for x, y, when, *_ in fired:
        rounds[x, y].append(when)
    marks, labels = [], []
    for (x, y), times in sorted(rounds.items()):
        across, down = x * STEP, y * STEP
        marks.append(
            f'<path class="fired" d="M{across:g},{down - 9:g} l9,9 l-9,9 l-9,-9 z"'
            f' fill="{FIRED}" stroke="{INK}"/>'
        )
        label = " ".join(f"{time:g}" for time in sorted(times))
        labels.append(f'<text x="{across + 11:g}" y="{down + 4:g}" fill="{INK}">{label}</text>')
    return marks + labels


def _dot(at: Coord, radius: float, fill: str) -> str:
    x, y = at[0] * STEP, at[1] * STEP
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}" stroke="{INK}"/>'
