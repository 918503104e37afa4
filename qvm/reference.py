"""The slow, exact interpreter: what a program's record of events is distributed as.

It follows every branch of every measurement with complex128 state vectors and works on the graph
as written, by name, so that it shares nothing with `lower.py` or with an engine; it is the oracle
those are tested against. It never samples and knows no noise. Read `isa.py` for what each opcode
means.

How it holds a state: a *record* is one assignment of values to events. Each record owns a few
unnormalised vectors over the live qubits; their outer products add up to the record's unnormalised
density matrix, whose trace is the record's probability. Discarding information (RESET, FREE_LQ,
INJECT_T_STATE) adds vectors; `_fewest` then replaces them by eigenvectors, so a record on k qubits
never owns more than 2^k of them and equal or dependent vectors merge exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from qvm.isa import OPS, Kind
from qvm.program import EventField, Guard, Node, VerifiedProgram

QUBITS_MAX: Final = 12  # live at once
BRANCHES_MAX: Final = 1 << 16  # vectors over all records
AMPLITUDES_MAX: Final = 1 << 23  # branches times 2^(live qubits): 128 MiB of complex128
PROBABILITY_MIN: Final = 1e-14  # a branch below this is dropped
TOTAL_TOLERANCE: Final = 1e-9  # how far the sum of all probabilities may be from 1

assert 1 << QUBITS_MAX <= AMPLITUDES_MAX, "one branch of the widest program fits"
assert PROBABILITY_MIN * BRANCHES_MAX < TOTAL_TOLERANCE, "pruning cannot be seen in the total"

ABSENT: Final = -1  # the value of an event whose measurement did not run

Vectors = NDArray[np.complex128]
Matrix = NDArray[np.complex128]


class ReferenceLimit(Exception):
    """The program is legal but beyond this interpreter; the sentence says how."""


class Distribution(msgspec.Struct, frozen=True):
    """Exact probabilities of the records a program can leave.

    probabilities: keyed as `counts` on the wire: one character per declared event, in the order of
        `resources.events`; `-` where the measurement did not run. Sorted by key; sums to 1.
    events: the declared events, in that order.
    """

    probabilities: dict[str, float]
    events: tuple[EventField, ...]


def distribution(program: VerifiedProgram) -> Distribution:
    """Follow every branch of `program`.

    Raises `ReferenceLimit` where it is too large or uses a channel.
    """
    machine = _Machine(program)
    for index in program.order:
        machine.run(index)
    return Distribution(machine.probabilities(), program.summary.events)


class _Machine:
    """All branches at one point of the program.

    live: names of the live qubits; live[i] is bit i of a vector's index, the lowest bit first.
    records: int8, shape (records, events), values 0..3 or ABSENT.
    vectors: complex128, shape (branches, 2^live).
    owner: intp, shape (branches,), the record of each branch, ascending.
    """

    def __init__(self, program: VerifiedProgram) -> None:
        self._nodes = program.graph.program.nodes
        self._angles = program.angles
        self._columns = {name: i for i, name in enumerate(program.graph.resources.events)}
        self.live: list[str] = []
        self.records = np.full((1, len(self._columns)), ABSENT, dtype=np.int8)
        self.vectors: Vectors = np.ones((1, 1), dtype=np.complex128)
        self.owner = np.zeros(1, dtype=np.intp)

    def run(self, index: int) -> None:
        """Carry out the node at `index`."""
        node = self._nodes[index]
        kind = OPS[node.op].kind
        chosen = self._guarded(node)
        qubits = _names(node.vqs)
        angle = self._angles.get(index, 0.0)
        if node.op == "ALLOC_LQ":
            self._allocate(qubits)
        elif node.op == "FREE_LQ":
            for name in qubits:
                self._operate(_forget(), [name], chosen)
                self.live.remove(name)
        elif node.op == "COND_PAULI":
            chosen = chosen & self._odd(_names(node.inputs))
            for letter, name in zip(_letters(node), qubits, strict=True):
                self._operate([_PAULIS[letter]], [name], chosen)
        elif kind is Kind.UNITARY:
            self._operate([_unitary(node, angle)], qubits, chosen)
        elif kind is Kind.PREPARE:
            self._operate(_prepare(node.op), qubits, chosen)
        elif kind is Kind.MEASURE:
            self._operate(_projectors(node.op, angle), qubits, chosen, _names(node.produces))
        elif kind is Kind.CHANNEL:
            raise ReferenceLimit(f"node {node.id!r}: the reference does not run {node.op}")
        else:
            assert kind in (Kind.ORDER, Kind.ADMIN), kind

    def probabilities(self) -> dict[str, float]:
        """The probability of each record, keyed as on the wire."""
        weight = np.zeros(len(self.records))
        np.add.at(weight, self.owner, _norms(self.vectors))
        total = float(weight.sum())
        assert abs(total - 1) < TOTAL_TOLERANCE, f"probabilities add up to {total}"
        keys = ["".join("-0123"[value + 1] for value in row) for row in self.records.tolist()]
        assert len(set(keys)) == len(keys), "records are distinct"
        return dict(sorted(zip(keys, (weight / total).tolist(), strict=True)))

    def _guarded(self, node: Node) -> NDArray[np.bool_]:
        """Which records satisfy the node's guard: bool, shape (records,)."""
        if not isinstance(node.guard, Guard):
            return np.ones(len(self.records), dtype=np.bool_)
        guard = node.guard
        if not isinstance(guard.conditions, list):
            return self._equal(guard.event, guard.equals)
        tests = [
            self._equal(each.event, each.equals if each.equals is not msgspec.UNSET else each.value)
            for each in guard.conditions
        ]
        join = np.logical_or if guard.type == "or" else np.logical_and
        return np.asarray(join.reduce(tests), dtype=np.bool_)

    def _equal(self, event: Any, value: Any) -> NDArray[np.bool_]:
        return np.asarray(self.records[:, self._columns[event]] == value, dtype=np.bool_)

    def _odd(self, inputs: Sequence[str]) -> NDArray[np.bool_]:
        """Records in which the XOR of the inputs is 1 (absent counts 0); all, without inputs."""
        if not inputs:
            return np.ones(len(self.records), dtype=np.bool_)
        values = np.maximum(self.records[:, [self._columns[name] for name in inputs]], 0)
        return np.asarray(np.bitwise_xor.reduce(values, axis=1) == 1, dtype=np.bool_)

    def _allocate(self, names: Sequence[str]) -> None:
        """Append qubits in |0>. They become the most significant bits of the index."""
        self.live += names
        if len(self.live) > QUBITS_MAX:
            raise ReferenceLimit(
                f"{len(self.live)} qubits are live at once; the reference holds {QUBITS_MAX}"
            )
        self._check_room(len(self.vectors))
        branches, size = self.vectors.shape
        wider = np.zeros((branches, 1 << len(self.live)), dtype=np.complex128)
        wider[:, :size] = self.vectors
        self.vectors = wider

    def _operate(
        self,
        operators: Sequence[Matrix],
        qubits: Sequence[str],
        chosen: NDArray[np.bool_],
        events: Sequence[str] | None = None,
    ) -> None:
        """Apply a set of Kraus operators to the chosen records; the others stay as they are.

        With `events`, operator number m is outcome m and splits records; without, which operator
        acted is forgotten.
        """
        if not chosen.any():
            return
        inside = chosen[self.owner]
        acted = self.vectors[inside]
        branches = len(self.vectors) + (len(operators) - 1) * len(acted)
        self._check_room(branches)
        bits = [self.live.index(name) for name in qubits]
        parts = [_apply(each, acted, bits) for each in operators]
        if len(parts) == 1:
            if inside.all():
                self.vectors = parts[0]
            else:
                self.vectors[inside] = parts[0]
            return
        outcome = np.repeat(np.arange(len(parts)), len(acted))
        owner = np.tile(self.owner[inside], len(parts))
        if not inside.all():
            parts.append(self.vectors[~inside])
            outcome = np.concatenate([outcome, np.zeros(len(parts[-1]), dtype=np.intp)])
            owner = np.concatenate([owner, self.owner[~inside]])
        self._settle(np.concatenate(parts), owner, outcome, chosen, events)

    def _settle(
        self,
        vectors: Vectors,
        owner: NDArray[np.intp],
        outcome: NDArray[np.intp],
        chosen: NDArray[np.bool_],
        events: Sequence[str] | None,
    ) -> None:
        """Take the branches after an operation: drop the improbable, split records, merge."""
        keep = _norms(vectors) >= PROBABILITY_MIN
        vectors, owner, outcome = vectors[keep], owner[keep], outcome[keep]
        if events is None:
            outcome = np.zeros_like(outcome)
        split, owner = np.unique(owner * 4 + outcome, return_inverse=True)
        parent, value = split // 4, (split % 4).astype(np.int8)
        records = self.records[parent]
        if events is not None:
            written = chosen[parent]
            for place, name in enumerate(events):
                column = records[:, self._columns[name]]
                part = value if len(events) == 1 else (value >> (len(events) - 1 - place)) & 1
                column[written] = part[written]
        self.records = records
        self.vectors, self.owner = _fewest(vectors, owner)

    def _check_room(self, branches: int) -> None:
        amplitudes = branches << len(self.live)
        if branches > BRANCHES_MAX or amplitudes > AMPLITUDES_MAX:
            raise ReferenceLimit(
                f"{branches} branches over {len(self.live)} live qubits; the reference holds "
                f"{BRANCHES_MAX} branches and {AMPLITUDES_MAX} amplitudes"
            )


def _names(value: list[str] | msgspec.UnsetType) -> list[str]:
    return [] if value is msgspec.UNSET else value


def _norms(vectors: Vectors) -> NDArray[np.float64]:
    """Squared length of each row."""
    return np.asarray(np.einsum("ij,ij->i", vectors, vectors.conj()).real)


def _apply(operator: Matrix, vectors: Vectors, bits: Sequence[int]) -> Vectors:
    """Apply a 2^m-column operator to the given bits of every row.

    The first bit named is the operator's least significant. A one-row operator removes its bit.
    """
    branches = len(vectors)
    width = vectors.shape[1].bit_length() - 1
    cube = vectors.reshape((branches,) + (2,) * width)
    # Axis 0 counts branches; bit 0 is the last axis.
    axes = [width - bit for bit in reversed(bits)]
    rest = [axis for axis in range(width + 1) if axis not in axes]
    flat = cube.transpose(rest + axes).reshape(-1, operator.shape[1])
    moved = flat @ operator.T
    if operator.shape[0] == 1:
        return moved.reshape(branches, -1)
    back = np.argsort(rest + axes)
    return moved.reshape((branches,) + (2,) * width).transpose(back).reshape(branches, -1)


def _fewest(vectors: Vectors, owner: NDArray[np.intp]) -> tuple[Vectors, NDArray[np.intp]]:
    """Replace each record's vectors by as few orthogonal ones with the same density matrix.

    The rows V of one record enter only as V^T V*. With V V^+ = U diag(w) U^+, the rows of U^+ V say
    the same, and those with w = 0 vanish. Records with equally many vectors are solved together.
    """
    order = np.argsort(owner, kind="stable")
    vectors, owner = vectors[order], owner[order]
    sizes = np.bincount(owner)
    if sizes.max(initial=0) <= 1:
        return vectors, owner
    starts = np.cumsum(sizes) - sizes
    rows, owners = [], []
    for size in np.unique(sizes):
        which = np.flatnonzero(sizes == size)
        stack = vectors[starts[which, None] + np.arange(size)]
        if size > 1:
            stack = _orthogonal(stack)
        rows.append(stack.reshape(-1, vectors.shape[1]))
        owners.append(np.repeat(which, stack.shape[1]))
    vectors, owner = np.concatenate(rows), np.concatenate(owners)
    keep = _norms(vectors) >= PROBABILITY_MIN
    vectors, owner = vectors[keep], owner[keep]
    order = np.argsort(owner, kind="stable")
    return vectors[order], owner[order]


def _orthogonal(stack: Vectors) -> Vectors:
    """shape (records, vectors, amplitudes): each record's vectors, made orthogonal."""
    if stack.shape[1] > stack.shape[2]:
        # More vectors than dimensions: the triangular factor holds them in fewer rows first.
        stack = np.asarray(np.linalg.qr(stack, mode="r"))
    gram = stack @ stack.conj().transpose(0, 2, 1)
    _, basis = np.linalg.eigh(gram)
    return np.asarray(basis.conj().transpose(0, 2, 1) @ stack)


_I: Final[Matrix] = np.eye(2, dtype=np.complex128)
_X: Final[Matrix] = np.array([[0, 1], [1, 0]], dtype=np.complex128)
_Y: Final[Matrix] = np.array([[0, -1j], [1j, 0]], dtype=np.complex128)
_Z: Final[Matrix] = np.array([[1, 0], [0, -1]], dtype=np.complex128)
_PAULIS: Final[dict[str, Matrix]] = {"I": _I, "X": _X, "Y": _Y, "Z": _Z}


@cache
def _forget() -> tuple[Matrix, ...]:
    """Measure one qubit away: <0| and <1|."""
    return tuple(row.reshape(1, 2) for row in _I)


@cache
def _prepare(op: str) -> tuple[Matrix, ...]:
    """Lose what the qubit held, then hold a known state: |p><0| and |p><1|."""
    states = {
        "RESET": np.array([1, 0], dtype=np.complex128),
        "INJECT_T_STATE": np.array([1, np.exp(0.25j * math.pi)]) / math.sqrt(2),
    }
    return tuple(np.asarray(np.outer(states[op], bra)) for bra in _I)


@cache
def _fixed(op: str) -> Matrix:
    return np.array(OPS[op].matrix, dtype=np.complex128)


_AXES: Final[dict[str, Matrix]] = {"APPLY_RX": _X, "APPLY_RY": _Y, "APPLY_RZ": _Z}


def _unitary(node: Node, angle: float) -> Matrix:
    if node.op in _AXES:
        return math.cos(angle / 2) * _I - 1j * math.sin(angle / 2) * _AXES[node.op]
    return _fixed(node.op)


def _letters(node: Node) -> str:
    """One Pauli letter per qubit of a COND_PAULI."""
    assert isinstance(node.args, dict)
    text = str(node.args["pauli"] if "pauli" in node.args else node.args["mask"])
    return text * len(_names(node.vqs)) if len(text) == 1 else text


_OBSERVABLES: Final[dict[str, Callable[[float], tuple[Matrix, ...]]]] = {
    "MEASURE_Z": lambda angle: (_Z,),
    "MEASURE_X": lambda angle: (_X,),
    "MEASURE_Y": lambda angle: (_Y,),
    "MEASURE_ANGLE": lambda angle: (math.cos(angle) * _Z + math.sin(angle) * _X,),
    "MEASURE_BELL": lambda angle: (np.asarray(np.kron(_X, _X)), np.asarray(np.kron(_Z, _Z))),
}


@lru_cache(maxsize=1024)
def _projectors(op: str, angle: float) -> tuple[Matrix, ...]:
    """The projector of each outcome; the first observable is the outcome's highest bit.

    Outcome bit 0 is eigenvalue +1, bit 1 is eigenvalue -1.
    """
    observables = _OBSERVABLES[op](angle)
    one: Matrix = np.eye(len(observables[0]), dtype=np.complex128)
    found = [one]
    for observable in observables:
        halves = [(one + observable) / 2, (one - observable) / 2]
        found = [before @ half for before in found for half in halves]
    return tuple(found)
