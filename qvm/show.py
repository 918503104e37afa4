"""A program as a picture: in text for terminals, in SVG for pages.

What stands where is decided in `drawing.py`; this module only spends ink. Names are escaped in SVG
and cut where they are long; the pictures refer to nothing outside themselves.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from typing import Final

from qvm.drawing import Cell, Column, Drawing, Role, draw
from qvm.program import VerifiedProgram

WIDTH_DEFAULT: Final = 100
WIDTH_MIN: Final = 40
NAME_CHARS_MAX: Final = 20

_NOT_XML: Final = re.compile("[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Band = tuple[int, int]
"""First column and one past the last, of what fits side by side."""


def show_text(program: VerifiedProgram, width: int = WIDTH_DEFAULT) -> str:
    """The program as lines of at most `width` characters, where a single column is no wider.

    Raises `DrawingLimit`.
    """
    drawing = draw(program)
    names = [_cut(name) for name in drawing.rows]
    margin = max((_cells_wide(name) for name in names), default=0) + 1
    widths = [_column_wide(column) for column in drawing.columns]
    alive = _alive(drawing)
    bands = []
    for band in _bands(widths, max(width, WIDTH_MIN) - margin):
        lines = [_headers(drawing.columns, widths, band)]
        for row, name in enumerate(names):
            wires = "".join(
                _wire(drawing.columns[at], row, widths[at], (row, at) in alive)
                for at in range(*band)
            )
            lines.append(_padded(name, margin) + wires)
        lines.append(_segments(drawing.columns, widths, band))
        lines[0], lines[-1] = " " * margin + lines[0], " " * margin + lines[-1]
        bands.append("\n".join(line.rstrip() for line in lines if line.strip()))
    return "\n\n".join(bands) + "\n"


def _alive(drawing: Drawing) -> set[tuple[int, int]]:
    """(row, column) wherever the row's qubit lives."""
    return {(row, at) for row, first, last in drawing.lives for at in range(first, last + 1)}


def _bands(widths: Sequence[float], room: float) -> Iterator[Band]:
    """Break columns into as few bands as fit."""
    first, used = 0, 0.0
    for at, width in enumerate(widths):
        if at > first and used + width > room:
            yield first, at
            first, used = at, 0.0
        used += width
    if first < len(widths):
        yield first, len(widths)


def _cells_wide(text: str) -> int:
    """Terminal cells that the text fills."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def _padded(text: str, width: int, fill: str = " ") -> str:
    return text + fill * (width - _cells_wide(text))


def _cut(name: str) -> str:
    return name if len(name) <= NAME_CHARS_MAX else name[: NAME_CHARS_MAX - 1] + "…"


def _column_wide(column: Column) -> int:
    inside = [_cells_wide(cell.symbol + cell.label) + 2 for cell in column.cells.values()]
    return max([3, _cells_wide(column.header) + 1 if column.header else 0, *inside])


def _wire(column: Column, row: int, width: int, alive: bool) -> str:
    """The part of a row's line that lies in a column."""
    line = "─" if alive else " "
    cell = column.cells.get(row)
    if column.fence:
        return _padded(line + "║", width, line)
    if cell is not None:
        after = " " if cell.role is Role.END else line
        before = " " if cell.symbol == "|0⟩" else line
        return _padded(before + cell.symbol + cell.label, width, after)
    if any(top < row < bottom for top, bottom in column.links):
        return _padded(line + ("┼" if alive else "│"), width, line)
    return line * width


def _headers(columns: Sequence[Column], widths: Sequence[int], band: Band) -> str:
    return "".join(_padded(columns[at].header, widths[at]) for at in range(*band))


def _segments(columns: Sequence[Column], widths: Sequence[int], band: Band) -> str:
    """A brace under every REV segment."""
    parts = []
    for number, group in groupby(range(*band), key=lambda at: columns[at].segment):
        width = sum(widths[at] for at in group)
        if not number:
            parts.append(" " * width)
            continue
        label = next(
            text for text in (f" REV {number} ", f"{number}", "") if len(text) <= width - 3
        )
        parts.append("╰" + label.center(width - 3, "─") + "╯ ")
    return "".join(parts)


CHAR_PX: Final = 7.2
ROW_PX: Final = 44
BOX_PX: Final = 24
HEAD_PX: Final = 34
FOOT_PX: Final = 30
SVG_WIDTH_PX: Final = 1400

_STYLE: Final = (
    "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1b1f24;text-anchor:middle}"
    ".name{text-anchor:end}.small{font-size:10px;fill:#57606a}"
    ".w{stroke:#8c959f}.l{stroke:#1b1f24;stroke-width:1.4}.f{stroke:#9a3b1f;stroke-width:2.5}"
    ".b{stroke:#8c959f;stroke-dasharray:3 3}.r{stroke:#1a6b54;fill:none;stroke-width:1.4}"
    ".gate{fill:#e8f0fb;stroke:#2f5d9b}.measure{fill:#fdf1dc;stroke:#a8701a}"
    ".prepare{fill:#eaf5ec;stroke:#3c7a4a}.end{fill:#f3f4f6;stroke:#8c959f}"
    ".dot{fill:#1b1f24}.ring{fill:#fff;stroke:#1b1f24;stroke-width:1.4}"
)


def show_svg(program: VerifiedProgram) -> str:
    """The program as one self-contained SVG document. Raises `DrawingLimit`."""
    drawing = draw(program)
    margin = 16 + CHAR_PX * max((_cells_wide(_cut(name)) for name in drawing.rows), default=0)
    widths = [_column_px(column) for column in drawing.columns]
    bands = list(_bands(widths, SVG_WIDTH_PX - margin))
    band_px = HEAD_PX + ROW_PX * len(drawing.rows) + FOOT_PX
    width = margin + max((sum(widths[first:last]) for first, last in bands), default=0) + 12
    height = max(1, len(bands)) * band_px
    alive = _alive(drawing)
    title = drawing_title(program)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img">',
        f"<title>{_xml(title)}</title><style>{_STYLE}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for i, band in enumerate(bands):
        parts.append(f'<g transform="translate(0 {i * band_px:.0f})">')
        parts += _svg_band(drawing, widths, band, margin, alive)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def drawing_title(program: VerifiedProgram) -> str:
    """One line that says what is drawn."""
    description = program.graph.description
    if isinstance(description, str) and description:
        return description
    return f"A program of {program.summary.nodes} nodes in {program.summary.epochs} epochs"


def _column_px(column: Column) -> float:
    inside = [
        max(CHAR_PX * _cells_wide(cell.symbol) + 22, 6.2 * _cells_wide(cell.label) + 10)
        for cell in column.cells.values()
    ]
    return max([24.0, 6.2 * _cells_wide(column.header) + 10 if column.header else 0, *inside])


def _svg_band(
    drawing: Drawing,
    widths: Sequence[float],
    band: Band,
    margin: float,
    alive: set[tuple[int, int]],
) -> Iterator[str]:
    """Wires first, then lines between rows, then what stands on them."""
    rows = len(drawing.rows)
    for row, name in enumerate(drawing.rows):
        y = _row_y(row) + 4
        yield f'<text class="name" x="{margin - 8:.1f}" y="{y}">{_xml(_cut(name))}</text>'
    left = margin
    for at in range(*band):
        column, right = drawing.columns[at], left + widths[at]
        middle = (left + right) / 2
        for row in range(rows):
            if (row, at) in alive:
                yield _line("w", *_wire_ends(column.cells.get(row), left, middle, right), row)
        if column.header:
            y = HEAD_PX - 20
            yield f'<text class="small" x="{middle:.1f}" y="{y}">{_xml(column.header)}</text>'
        if column.fence:
            yield _vertical("f", middle, HEAD_PX - 14, _row_y(rows) - ROW_PX / 2)
        for top, bottom in column.links:
            yield _vertical("l", middle, _row_y(top), _row_y(bottom))
        for row, cell in column.cells.items():
            yield from _svg_cell(cell, middle, _row_y(row))
        left = right
    yield from _svg_segments(drawing, widths, band, margin, _row_y(rows) - ROW_PX / 2 + 6)


def _xml(text: str) -> str:
    """Text as XML content: escaped, and without the characters that XML cannot hold."""
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text))


def _row_y(row: int) -> float:
    return HEAD_PX + ROW_PX * row + ROW_PX / 2 - 6


def _wire_ends(cell: Cell | None, left: float, middle: float, right: float) -> tuple[float, float]:
    if cell is not None and cell.role is Role.END:
        return left, middle
    if cell is not None and cell.symbol == "|0⟩":
        return middle, right
    return left, right


def _line(style: str, left: float, right: float, row: int) -> str:
    y = _row_y(row)
    return f'<line class="{style}" x1="{left:.1f}" y1="{y}" x2="{right:.1f}" y2="{y}"/>'


def _vertical(style: str, x: float, top: float, bottom: float) -> str:
    return f'<line class="{style}" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>'


def _svg_cell(cell: Cell, x: float, y: float) -> Iterator[str]:
    half = BOX_PX / 2
    if cell.role is Role.CONTROL:
        yield f'<circle class="dot" cx="{x:.1f}" cy="{y}" r="4.5"/>'
    elif cell.role is Role.TARGET:
        yield f'<circle class="ring" cx="{x:.1f}" cy="{y}" r="9"/>'
        yield f'<path class="l" d="M{x - 9:.1f} {y}h18M{x:.1f} {y - 9}v18"/>'
    elif cell.role is Role.SWAP:
        yield f'<path class="l" d="M{x - 6:.1f} {y - 6}l12 12m0 -12l-12 12"/>'
    elif cell.role is Role.BAR:
        yield _vertical("b", x, y - ROW_PX / 2, y + ROW_PX / 2)
    else:
        width = CHAR_PX * _cells_wide(cell.symbol) + 12
        yield (
            f'<rect class="{cell.role}" x="{x - width / 2:.1f}" y="{y - half}" '
            f'width="{width:.1f}" height="{BOX_PX}" rx="3"/>'
        )
        yield f'<text x="{x:.1f}" y="{y + 4}">{_xml(cell.symbol)}</text>'
    if cell.label:
        label = _xml(cell.label.strip())
        yield f'<text class="small" x="{x:.1f}" y="{y + half + 11}">{label}</text>'


def _svg_segments(
    drawing: Drawing, widths: Sequence[float], band: Band, margin: float, y: float
) -> Iterator[str]:
    left = margin
    for number, group in groupby(range(*band), key=lambda at: drawing.columns[at].segment):
        right = left + sum(widths[at] for at in group)
        if number:
            span = right - left - 8
            yield f'<path class="r" d="M{left + 4:.1f} {y}v6h{span:.1f}v-6"/>'
            x = (left + right) / 2
            yield f'<text class="small" x="{x:.1f}" y="{y + 17}">REV {number}</text>'
        left = right
