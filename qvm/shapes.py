"""The shapes of a verified graph's parts, found in one pass over its nodes.

Counts exactly what the engines' primitives come to without noise (`qmkd/engine/parts.py`), so that
the kernel can plan a run without holding the program. What parts are stands in `parts.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from qvm import isa
from qvm.isa import Kind
from qvm.parts import Alike, Lives, Shape, bounded
from qvm.program import Node

# What an opcode does to lives.
_PASSIVE: Final = 0
_GATE: Final = 1  # operands come together
_PAULI: Final = 2  # operands stay apart
_BEGIN: Final = 3
_RESET: Final = 4
_INJECT: Final = 5
_TELEPORT: Final = 6

# Four counts in one integer: operations, measured, turns, branching.
_FIELD: Final = 32
_MASK: Final = (1 << _FIELD) - 1


def _weight(operations: int, measured: int = 0, turns: int = 0, branching: int = 0) -> int:
    return operations | measured << _FIELD | turns << 2 * _FIELD | branching << 3 * _FIELD


def part_shapes(nodes: Iterable[Node]) -> tuple[Alike, ...]:
    """The shapes of the parts, `bounded`. nodes: of a verified program, in execution order."""
    return bounded(_Tally().run(nodes))


class _Tally:
    """What is known of each life so far.

    now: qubit -> its life. counts: of each life the weight of the operations whose first qubit it
    is; None before it is first touched. touched: lives as they are first touched, and ~life where
    one ends. products: lives of each Pauli on several qubits, which counts once in every part.
    """

    def __init__(self) -> None:
        self.lives = Lives()
        self.now: dict[str, int] = {}
        self.counts: list[int | None] = []
        self.touched: list[int] = []
        self.products: list[list[int]] = []

    def run(self, nodes: Iterable[Node]) -> Counter[Shape]:
        """Visit every node. What is common stands inline."""
        rows, now, counts, touched = _ROWS, self.now, self.counts, self.touched
        parent, join = self.lives.parent, self.lives.join
        for node in nodes:
            kind, plain, guarded = rows[node.op]
            if kind != _GATE:
                if kind != _PASSIVE:
                    self._special(kind, node)
                continue
            vqs: Sequence[str] = node.vqs or ()
            life = now[vqs[0]]
            count = counts[life]
            if count is None:
                touched.append(life)
                count = 0
            counts[life] = count + (guarded if node.guard else plain)
            if len(vqs) > 1:
                other = now[vqs[1]]
                if counts[other] is None:
                    touched.append(other)
                    counts[other] = 0
                if parent[life] != parent[other]:
                    join(life, other)
        return self._shapes()

    def _special(self, kind: int, node: Node) -> None:
        vqs: Sequence[str] = node.vqs or ()
        if kind == _BEGIN:
            for name in vqs:
                self._begin(name)
        elif kind == _PAULI:
            self._pauli(node)
        elif kind == _TELEPORT:
            self._teleport(node)
        else:
            for name in vqs:
                self._reset(name, bool(node.guard))
                if kind == _INJECT:
                    self._touch(name, _GUARDED_T if node.guard else _H_AND_T)

    def _begin(self, name: str) -> None:
        self.now[name] = self.lives.begin()
        self.counts.append(None)

    def _touch(self, name: str, weight: int) -> int:
        life = self.now[name]
        count = self.counts[life]
        if count is None:
            self.touched.append(life)
            count = 0
        self.counts[life] = count + weight
        return life

    def _reset(self, name: str, guarded: bool) -> None:
        """An unguarded reset ends a life and begins the next; FREE_LQ's next is never touched. To
        a qubit that was never touched a reset does nothing."""
        if self.counts[self.now[name]] is None:
            return
        if guarded:
            self._touch(name, _weight(1, measured=1, branching=1))
        else:
            self.touched.append(~self._touch(name, _weight(1, measured=1)))
            self._begin(name)

    def _pauli(self, node: Node) -> None:
        args, vqs = node.args or {}, node.vqs or []
        letters = args["pauli"] if "pauli" in args else args["mask"]
        if len(letters) == 1:
            letters *= len(vqs)
        names = [name for letter, name in zip(letters, vqs, strict=True) if letter != "I"]
        if len(names) == 1:
            self._touch(names[0], 1)
        elif names:
            self.products.append([self._touch(name, 0) for name in names])

    def _teleport(self, node: Node) -> None:
        """USE_CHAN, as `lower.py` says what it comes to."""
        vqs: Sequence[str] = node.vqs or ()
        if len(vqs) == 1:
            return
        if (node.args or {})["semantic"] == "teleport_state":
            self._reset(vqs[1], bool(node.guard))
        life = self._touch(vqs[0], _weight(1, branching=1 if node.guard else 0))
        self.lives.join(life, self._touch(vqs[1], 0))

    def _shapes(self) -> Counter[Shape]:
        """How many parts have each shape."""
        root = self.lives.root
        totals: dict[int, int] = {}
        for life, count in enumerate(self.counts):
            if count is not None:
                part = root(life)
                totals[part] = totals.get(part, 0) + count
        for product in self.products:
            for part in set(map(root, product)):
                totals[part] += 1
        held, peaks = dict.fromkeys(totals, 0), dict.fromkeys(totals, 0)
        for life in self.touched:
            part = root(max(life, ~life))
            held[part] += 1 if life >= 0 else -1
            if held[part] > peaks[part]:
                peaks[part] = held[part]
        return Counter(
            Shape(
                peaks[part],
                total & _MASK,
                total >> _FIELD & _MASK,
                total >> 2 * _FIELD & _MASK,
                total >> 3 * _FIELD,
            )
            for part, total in totals.items()
        )


_H_AND_T: Final = _weight(2, turns=1)
_GUARDED_T: Final = _weight(2, turns=1, branching=2)
_TURNING: Final = {
    "MEASURE_Z": 0,
    "MEASURE_X": 1,
    "MEASURE_Y": 1,
    "MEASURE_ANGLE": 1,
    "MEASURE_BELL": 2,
}
"""Gates before a measurement that turn it into Z, and as many after it turn back."""
_KINDS: Final = {
    "ALLOC_LQ": _BEGIN,
    "FREE_LQ": _RESET,
    "RESET": _RESET,
    "INJECT_T_STATE": _INJECT,
    "COND_PAULI": _PAULI,
    "OPEN_CHAN": _PASSIVE,
    "CLOSE_CHAN": _PASSIVE,
    "USE_CHAN": _TELEPORT,
}


def _row(op: isa.Op) -> tuple[int, int, int]:
    """What it does to lives; the weight of a gate or measurement, and with a guard."""
    if op.name in _KINDS or op.kind in (Kind.ORDER, Kind.ADMIN):
        return _KINDS.get(op.name, _PASSIVE), 0, 0
    turns = 0 if op.clifford else 1
    if op.kind is Kind.UNITARY:
        pauli = op.name in ("APPLY_X", "APPLY_Y", "APPLY_Z")
        return _GATE, _weight(1, 0, turns), _weight(1, 0, turns, 0 if pauli else 1)
    assert op.kind is Kind.MEASURE, op.name
    measured, turning = op.vqs.most, 2 * _TURNING[op.name]
    operations = measured + turning
    turns *= turning
    return (
        _GATE,
        _weight(operations, measured, turns),
        _weight(operations, measured, turns, measured),
    )


_ROWS: Final = {op.name: _row(op) for op in isa.TABLE}

assert isa.NODES_MAX * isa.OPERANDS_MAX <= _MASK, "no count runs over into the next"
assert {op.name for op in isa.TABLE if op.kind is Kind.MEASURE} == set(_TURNING)
assert all(op.vqs.most <= 2 for op in isa.TABLE if _ROWS[op.name][0] == _GATE)
