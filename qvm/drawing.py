"""A program laid out as a circuit: one row per qubit, one column per moment.

Decides what stands where and nothing about ink; `show.py` draws it as text and as SVG. A node takes
the first column after everything it waits for. Fences, barriers and REV segments of two nodes or
more keep their columns to themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from qvm.isa import OPS, Kind
from qvm.order import fences_all, reads
from qvm.program import Guard, Node, VerifiedProgram
from qvm.rev import rev_segments

NODES_MAX: Final = 20_000
ROWS_MAX: Final = 500
LABEL_CHARS_MAX: Final = 40
SEGMENT_NODES_MIN: Final = 2  # a single gate can always be undone; marking it would only be noise


class DrawingLimit(Exception):
    """The program is too large for a picture that anyone could read; the sentence says how."""


class Role(StrEnum):
    """What a cell looks like."""

    GATE = "gate"
    CONTROL = "control"
    TARGET = "target"
    SWAP = "swap"
    MEASURE = "measure"
    PREPARE = "prepare"
    END = "end"
    BAR = "bar"


class Cell(msgspec.Struct, frozen=True):
    """One operand of one node. label: guard, inputs or events, or ""."""

    symbol: str
    role: Role
    label: str = ""


class Column(msgspec.Struct):
    """One moment. cells: row -> cell. links: (top row, bottom row) joined by a vertical line.

    header: written above. fence: a line through every row. segment: number of the REV segment that
    owns the column, from 1, or 0.
    """

    cells: dict[int, Cell] = {}
    links: list[tuple[int, int]] = []
    header: str = ""
    fence: bool = False
    segment: int = 0


class Drawing(msgspec.Struct, frozen=True):
    """rows: qubit names, top to bottom. lives: (row, first column, last column) of each life."""

    rows: list[str]
    columns: list[Column]
    lives: list[tuple[int, int, int]]


def draw(program: VerifiedProgram) -> Drawing:
    """Lay out a program. Raises `DrawingLimit`."""
    nodes, rows = program.graph.program.nodes, program.graph.resources.vqs
    if len(nodes) > NODES_MAX or len(rows) > ROWS_MAX:
        raise DrawingLimit(
            f"a drawing holds {NODES_MAX} nodes and {ROWS_MAX} qubits; "
            f"the program has {len(nodes)} and {len(rows)}"
        )
    pen = _Pen(rows)
    segments = enumerate(rev_segments(program), 1)
    marked = {i: each for i, each in segments if len(each.nodes) >= SEGMENT_NODES_MIN}
    number_at = {each.first: i for i, each in marked.items()}
    last_of = {i: each.last for i, each in marked.items()}
    for position, index in enumerate(program.order):
        if position in number_at:
            pen.open_segment(number_at[position])
        pen.place(nodes[index])
        if position == last_of.get(pen.segment):
            pen.close_segment()
    return pen.finish()


class _Pen:
    """Places nodes one after another. segment: the REV segment being drawn, or 0."""

    def __init__(self, rows: Sequence[str]) -> None:
        self.segment = 0
        self._rows = list(rows)
        self._row = {name: i for i, name in enumerate(rows)}
        self._columns: list[Column] = []
        self._free = [0] * len(rows)
        self._floor = 0
        self._written: dict[str, int] = {}
        self._born: dict[int, int] = {}
        self._lives: list[tuple[int, int, int]] = []
        self._epoch = 0

    def open_segment(self, number: int) -> None:
        self._floor = len(self._columns)
        self.segment = number

    def close_segment(self) -> None:
        for column in self._columns[self._floor :]:
            column.segment = self.segment
        self._floor = len(self._columns)
        self.segment = 0

    def place(self, node: Node) -> None:
        """Draw a node in the first column that has room after all it waits for."""
        named = [self._row[name] for name in node.vqs or ()]
        if fences_all(node) or not named:
            self._across(node)
            return
        linked = len(named) > 1 and OPS[node.op].kind in (Kind.UNITARY, Kind.MEASURE, Kind.CHANNEL)
        rows = list(range(min(named), max(named) + 1)) if linked else named
        earliest = max(self._free[row] for row in rows)
        known = max((self._written[event] + 1 for event in reads(node)), default=0)
        at = max(earliest, known, self._floor)
        column = self._column(at)
        for row, cell in zip(named, _cells(node), strict=True):
            column.cells[row] = cell
        if linked:
            column.links.append((rows[0], rows[-1]))
        for row in rows:
            self._free[row] = at + 1
        self._written.update(dict.fromkeys(node.produces or (), at))
        self._lifetimes(node, named, at)

    def finish(self) -> Drawing:
        for row, start in self._born.items():
            self._lives.append((row, start, len(self._columns) - 1))
        return Drawing(self._rows, self._columns, sorted(self._lives))

    def _across(self, node: Node) -> None:
        """Draw a node that concerns no qubit, or all of them, in a column of its own."""
        column = self._column(len(self._columns))
        if node.op == "FENCE_EPOCH":
            self._epoch += 1
            column.header, column.fence = f"epoch {self._epoch}", True
        elif node.op == "BAR_REGION":
            column.header = _cut(str((node.args or {})["tag"]))
            column.cells = {row: Cell("┊", Role.BAR) for row in range(len(self._rows))}
        else:
            words = [f"{key}={value}" for key, value in (node.args or {}).items()]
            name = {"SET_POLICY": "policy", "CLOSE_CHAN": "close"}[node.op]
            column.header = _cut(" ".join([name, *(node.chs or ()), *words]))
        if node.op != "SET_POLICY":
            self._floor = len(self._columns)

    def _column(self, at: int) -> Column:
        while len(self._columns) <= at:
            self._columns.append(Column())
        return self._columns[at]

    def _lifetimes(self, node: Node, rows: Sequence[int], at: int) -> None:
        if node.op == "ALLOC_LQ":
            self._born.update(dict.fromkeys(rows, at))
        elif node.op == "FREE_LQ":
            self._lives += [(row, self._born.pop(row), at) for row in rows]


_CROSS: Final = "\N{MULTIPLICATION SIGN}"
_PAIRS: Final = {
    "APPLY_CNOT": (("●", Role.CONTROL), ("⊕", Role.TARGET)),
    "APPLY_CZ": (("●", Role.CONTROL), ("●", Role.CONTROL)),
    "APPLY_SWAP": ((_CROSS, Role.SWAP), (_CROSS, Role.SWAP)),
    "TELEPORT_CNOT": (("●", Role.CONTROL), ("⊕", Role.TARGET)),
}
_SINGLE: Final = {
    "ALLOC_LQ": ("|0⟩", Role.PREPARE),
    "FREE_LQ": ("⊣", Role.END),
    "RESET": ("→|0⟩", Role.PREPARE),
    "INJECT_T_STATE": ("→|T⟩", Role.PREPARE),
    "FENCE_EPOCH": ("║", Role.BAR),
    "BAR_REGION": ("┊", Role.BAR),
    "APPLY_SDG": ("S†", Role.GATE),
    "APPLY_TDG": ("T†", Role.GATE),
}


def _cells(node: Node) -> list[Cell]:
    """One cell for each qubit; what the whole node depends on or writes stands on the last."""
    symbols = _symbols(node)
    teleported = " tele" if node.op == "TELEPORT_CNOT" else ""
    label = _cut(teleported + _condition(node) + _outcome(node))
    last = len(symbols) - 1
    return [
        Cell(symbol, role, label if i == last else "") for i, (symbol, role) in enumerate(symbols)
    ]


def _symbols(node: Node) -> list[tuple[str, Role]]:
    args, count = node.args or {}, len(node.vqs or ())
    if node.op in _PAIRS:
        return list(_PAIRS[node.op])
    if node.op in _SINGLE:
        return [_SINGLE[node.op]] * count
    kind = OPS[node.op].kind
    if node.op == "COND_PAULI":
        letters = str(args["pauli"] if "pauli" in args else args["mask"])
        return [(each, Role.GATE) for each in (letters * count if len(letters) == 1 else letters)]
    if kind is Kind.CHANNEL:
        word = {"OPEN_CHAN": "open", "USE_CHAN": str(args.get("semantic"))}[node.op]
        return [(f"{word}({', '.join(node.chs or ())})", Role.GATE)] * count
    name = node.op.removeprefix("APPLY_")
    if kind is Kind.MEASURE:
        basis = node.op.removeprefix("MEASURE_")
        name = {"BELL": "Bell", "ANGLE": f"∠{_angle(args.get('angle'))}"}.get(basis, f"M{basis}")
    elif "theta" in args:
        name = f"{name}({_angle(args['theta'])})"
    return [(_cut(name), Role.MEASURE if kind is Kind.MEASURE else Role.GATE)] * count


def _angle(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _outcome(node: Node) -> str:
    return f"→{','.join(node.produces)}" if node.produces else ""


def _condition(node: Node) -> str:
    parity = "⊕".join(node.inputs or ())
    parts = [part for part in (parity, _guard(node.guard or None)) if part]
    return f"[{' & '.join(parts)}]" if parts else ""


def _guard(guard: Guard | None) -> str:
    if guard is None:
        return ""
    if isinstance(guard.event, str):
        return f"{guard.event}={guard.equals}"
    tests = [
        f"{each.event}={each.equals if isinstance(each.equals, int) else each.value}"
        for each in guard.conditions or ()
    ]
    return (" or " if guard.type == "or" else " & ").join(tests)


def _cut(text: str) -> str:
    return text if len(text) <= LABEL_CHARS_MAX else text[: LABEL_CHARS_MAX - 1] + "…"
