"""Parts of few qubits, by state vectors, with any gates under any guards.

Shots that hold the same state share one vector, a *branch*, so the cost of a gate grows with the
number of different states, not of shots. What shots hold is a vector up to a Pauli: each qubit has
a *frame* as in `frames.py`, a row for X and one for Z. Noise is row code that way, and so are
Paulis where a guard holds in some shots of a branch and not in others. A gate outside the Clifford
group turns the other way where the frame anticommutes with its axis.

A vector has the qubits that are not known to be in |0> up to the frame: those that were neither
just reset nor just measured. So a measurement halves the vectors, and the frame has its outcome.

Gates are put off until an outcome depends on them, and then run together. Whether a guard holds for
a branch is then looked up, and branches in which it holds for some of the shots are split. A random
outcome is drawn by shot, and splits too. Whenever branches changed in different ways, those that
hold the same state are joined again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from qmkd.engine import vectors
from qmkd.engine.batch import TooManyParts
from qmkd.engine.chance import HALF, Strikes, Words, quantise
from qmkd.engine.limits import DENSE_BYTES_MAX, DENSE_QUBITS_MAX
from qmkd.engine.native import _branches
from qmkd.engine.primitives import Gate, Kinds, halves
from qmkd.engine.rows import FULL, Where
from qmkd.engine.vectors import CLEAR, CX, CZ, DROP, MATRICES, STAY, Circuit, Matrix, Vectors
from qvm.parts import Shape

if TYPE_CHECKING:
    from qmkd.engine.batch import Batch, Builder

CONTROLS_MAX: Final = 60  # rows that guard gates which are put off together
SHOT_BITS: Final = 32  # its branch
NORM_ERROR_MAX: Final = 1e-6  # of a vector; rounding over a million gates comes to less

_NO_ROW: Final[Words] = np.empty(0, dtype=np.uint64)
_DIAGONAL: Final = frozenset({"S", "S_DAG", "Z", "T", "T_DAG", "RZ"})
_AXES: Final = {"T": "Z", "T_DAG": "Z", "RX": "X", "RY": "Y", "RZ": "Z"}


def suits(shape: Shape) -> bool:
    """Whether one vector always fits."""
    return shape.qubits <= DENSE_QUBITS_MAX


class Maker:
    """x, z: of each qubit the row where its frame has an X or Z; None where no shot has.

    place: of each qubit its place in the vectors; None where it is |0> up to X, and then its frame
    has no Z. gates: put off, on vectors of `width` qubits. controls: rows that guard them.
    """

    def __init__(self, builder: Builder, shape: Shape, number: int) -> None:
        assert suits(shape), shape
        self.builder = builder
        self.number = number
        self.qubits = shape.qubits
        self.x: list[int | None] = [None] * shape.qubits
        self.z: list[int | None] = [None] * shape.qubits
        self.place: list[int | None] = [None] * shape.qubits
        self.width = 0
        self.gates: list[vectors.Gate] = []
        self.controls: list[int] = []

    # --- told by the batch ------------------------------------------------------------------------

    def gate(self, gate: Gate, where: int | None) -> None:
        if len(gate.qubits) == 2:
            self._pair(gate.name, *gate.qubits, where)
            return
        name, (qubit,) = gate.name, gate.qubits
        if self.place[qubit] is None:
            if name in _DIAGONAL:
                return
            if name in ("X", "Y"):
                self._add(self.x, qubit, FULL if where is None else where)
                return
        here = self._placed(qubit)
        if name in _AXES:
            self._turn(_AXES[name], qubit, _matrix(gate), where)
            return
        control = self._control(where)
        self.gates.append(vectors.Gate(0, here, here, MATRICES[name], control))
        if name == "H" and where is not None:
            self._exchange(self.x, qubit, self.z, qubit, where)
        elif name == "H":
            self.x[qubit], self.z[qubit] = self.z[qubit], self.x[qubit]
        elif name in ("S", "S_DAG"):
            self._add(self.z, qubit, self.x[qubit], where)
        elif name == "H_YZ":
            self._add(self.x, qubit, self.z[qubit], where)

    def pauli(self, xs: tuple[int, ...], zs: tuple[int, ...], where: int) -> None:
        for qubit in xs:
            if self.place[qubit] is None:
                self._add(self.x, qubit, where)
        paulis = [
            vectors.Gate(0, here, here, MATRICES[name], 0)
            for name, qubits in (("X", xs), ("Z", zs))
            for qubit in qubits
            if (here := self.place[qubit]) is not None
        ]
        if not paulis:
            return
        left = self.builder.row()
        self._flush()
        circuit = vectors.compiled(paulis, self.width)
        self.builder.act(act_pauli, self.number, circuit, where, left)
        for rows, qubits in ((self.x, xs), (self.z, zs)):
            for qubit in qubits:
                if self.place[qubit] is not None:
                    self._add(rows, qubit, left)
        self.builder.give_back(left)

    def measure(self, qubit: int, into: int, where: int | None, at: Where) -> None:
        known = self.x[qubit]
        if self.place[qubit] is not None:
            self._project(qubit, STAY if where is not None else DROP, into, where, at)
            if where is None:
                self._add(self.x, qubit, into)
        elif known is None:
            self.builder.code.zero(into)
        else:
            self.builder.code.both(into, known, FULL if where is None else where)

    def reset(self, qubit: int, where: int | None, at: Where, ends: bool) -> None:
        if self.place[qubit] is not None:
            outcome = self.builder.row()
            self._project(qubit, CLEAR if where is not None else DROP, outcome, where, at)
            self.builder.give_back(outcome)
        for rows in (self.x, self.z):
            row = rows[qubit]
            if where is None:
                self.builder.drop(rows, qubit)
            elif row is not None:
                self.builder.code.but_not(row, row, where)

    def noise(
        self, qubits: tuple[int, ...], kinds: Kinds, of: Strikes, at: Where, where: int | None
    ) -> None:
        """Z does nothing to a qubit that is known."""
        used = halves(kinds)
        rows = [FULL] * (2 * len(qubits))
        for place, qubit in enumerate(qubits):
            if 2 * place in used:
                rows[2 * place] = self.builder.row_of(self.x, qubit)
            if 2 * place + 1 in used and self.place[qubit] is not None:
                rows[2 * place + 1] = self.builder.row_of(self.z, qubit)
        if any(rows):
            self.builder.code.strike(rows, kinds, of, at, FULL if where is None else where)

    def finish(self) -> None:
        """No outcome depends on gates that are still put off."""

    def shot_bits(self) -> int:
        return SHOT_BITS

    def start(self, batch: Batch) -> State:
        return State(batch, self.qubits)

    # --- gates ------------------------------------------------------------------------------------

    def _pair(self, name: str, one: int, two: int, where: int | None) -> None:
        """A qubit that is known controls what the frame of the other takes in, and no vector."""
        known_one, known_two = self.place[one] is None, self.place[two] is None
        if name == "SWAP":
            self._swap(one, two, where)
        elif name == "CX":
            if not known_one:
                control = self._control(where)
                places = self._placed(one), self._placed(two)
                self.gates.append(vectors.Gate(CX, *places, control=control))
                self._add(self.z, one, self.z[two], where)
            self._add(self.x, two, self.x[one], where)
        else:
            assert name == "CZ", name
            if not (known_one or known_two):
                control = self._control(where)
                places = self._placed(one), self._placed(two)
                self.gates.append(vectors.Gate(CZ, *places, control=control))
            if not known_one:
                self._add(self.z, one, self.x[two], where)
            if not known_two:
                self._add(self.z, two, self.x[one], where)

    def _swap(self, one: int, two: int, where: int | None) -> None:
        if where is None:
            for each in (self.place, self.x, self.z):
                each[one], each[two] = each[two], each[one]
            return
        self._exchange(self.x, one, self.x, two, where)
        if self.place[one] is None and self.place[two] is None:
            return
        control = self._control(where)
        there = self._placed(one), self._placed(two)
        for places in (there, there[::-1], there):
            self.gates.append(vectors.Gate(CX, *places, control=control))
        self._exchange(self.z, one, self.z, two, where)

    def _turn(self, axis: str, qubit: int, matrix: Matrix, where: int | None) -> None:
        """A turn about an axis, the other way in shots whose frame anticommutes with the axis."""
        here, back = self._placed(qubit), vectors.adjoint(matrix)
        x, z = self.x[qubit], self.z[qubit]
        against = {"X": z, "Y": z if x is None else x, "Z": x}[axis]
        if against is None:
            self.gates.append(vectors.Gate(0, here, here, matrix, self._control(where)))
            return
        row = self.builder.row()
        self.builder.code.copy(row, against)
        if axis == "Y" and x is not None and z is not None:
            self.builder.code.xor(row, z)
        if where is None:
            control = self._control(row)
            self.gates.append(vectors.Gate(0, here, here, matrix, control, 0))
            self.gates.append(vectors.Gate(0, here, here, back, control, 1))
        else:
            self.builder.code.both(row, row, where)
            self.gates.append(vectors.Gate(0, here, here, back, self._control(row)))
            self.builder.code.but_not(row, where, row)
            self.gates.append(vectors.Gate(0, here, here, matrix, self._control(row)))
        self.builder.give_back(row)

    def _placed(self, qubit: int) -> int:
        """Its place in the vectors; behind the others where it had none."""
        place = self.place[qubit]
        if place is None:
            place = self.place[qubit] = self.width
            self.width += 1
        return place

    def _control(self, where: int | None) -> int:
        """The number of a row that guards gates which are put off; -1 for none."""
        if where is None:
            return -1
        if len(self.controls) == CONTROLS_MAX:
            self._flush()
        row = self.builder.row()
        self.builder.code.copy(row, where)
        self.controls.append(row)
        return len(self.controls) - 1

    def _flush(self) -> None:
        """Run what was put off."""
        if self.gates:
            circuit = vectors.compiled(self.gates, self.width)
            self.builder.act(act_run, self.number, circuit, tuple(self.controls))
        for row in self.controls:
            self.builder.give_back(row)
        self.gates, self.controls = [], []

    def _project(self, qubit: int, mode: int, into: int, where: int | None, at: Where) -> None:
        self._flush()
        place = self.place[qubit]
        self.builder.act(
            act_project, self.number, place, mode, into, where, self.x[qubit], at, self.width
        )
        if mode == DROP:
            self.builder.drop(self.x, qubit)
            self.builder.drop(self.z, qubit)
            assert place is not None
            self.place[qubit] = None
            self.width -= 1
            for other, its in enumerate(self.place):
                if its is not None and its > place:
                    self.place[other] = its - 1

    # --- frames -----------------------------------------------------------------------------------

    def _add(
        self, rows: list[int | None], qubit: int, row: int | None, where: int | None = None
    ) -> None:
        """The frame takes in a row, where the guard holds."""
        if row is None:
            return
        code, had = self.builder.code, rows[qubit] is not None
        into = self.builder.row_of(rows, qubit) if had else self.builder.row()
        rows[qubit] = into
        if where is None:
            (code.xor if had else code.copy)(into, row)
        else:
            (code.xor_both if had else code.both)(into, row, where)

    def _exchange(
        self, ones: list[int | None], one: int, twos: list[int | None], two: int, where: int
    ) -> None:
        """Exchange two rows of frames where the guard holds."""
        if ones[one] is None and twos[two] is None:
            return
        builder = self.builder
        code, first, second = builder.code, builder.row_of(ones, one), builder.row_of(twos, two)
        differ = self.builder.row()
        code.copy(differ, first)
        code.xor(differ, second)
        code.xor_both(first, differ, where)
        code.xor_both(second, differ, where)
        self.builder.give_back(differ)


def _matrix(gate: Gate) -> Matrix:
    return (
        vectors.rotation(gate.name[1], gate.angle) if gate.name[0] == "R" else MATRICES[gate.name]
    )


class State:
    """The branches of a batch.

    of: uint32, shape (64 * words,): the branch of each shot. sizes: int64, shape (branches,): how
    many shots are in each.
    """

    def __init__(self, batch: Batch, qubits: int) -> None:
        self.batch = batch
        self.qubits = qubits
        self.vectors = Vectors()
        self.of = np.zeros(64 * batch.rows.shape[1], dtype=np.uint32)
        self.sizes = np.zeros(1, dtype=np.int64)
        _branches.count(self.of, batch.rows[FULL], self.sizes)

    def save(self) -> dict[str, Any]:
        return {
            "psi": self.vectors.psi,
            "width": self.vectors.width,
            "of": self.of,
            "sizes": self.sizes,
        }

    def load(self, saved: dict[str, Any]) -> None:
        """What loops in C take for granted is seen to here, since others may have written it."""
        psi, width, of, sizes = saved["psi"], saved["width"], saved["of"], saved["sizes"]
        assert (psi.dtype, of.dtype, sizes.dtype) == (np.float64, np.uint32, np.int64)
        assert 0 <= width <= self.qubits
        assert psi.shape == (len(sizes), vectors.doubles(width))
        assert of.shape == self.of.shape
        assert of.max() < len(sizes)
        norms = np.einsum("ij,ij->i", psi, psi)
        assert np.allclose(norms, 1, rtol=0, atol=NORM_ERROR_MAX), "vectors of norm 1"
        counted = np.zeros_like(sizes)
        _branches.count(of, self.batch.rows[FULL], counted)
        assert np.array_equal(counted, sizes)
        self.vectors.width = width
        self.vectors.psi = vectors.aligned(*psi.shape)
        self.vectors.psi[:] = psi
        self.of, self.sizes = of.copy(), sizes.copy()

    def counted(self, row: Words) -> NDArray[np.int64]:
        """Of each branch, how many of its shots are in the row."""
        found = np.empty(len(self.sizes), dtype=np.int64)
        _branches.count(self.of, row, found)
        return found

    def split(self, row: Words) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Split off the shots of the row where a branch has others too.

        Returns of the new branches, which come behind the others, those that they were in; and of
        all branches, whether their shots are in the row.
        """
        counts = self.counted(row)
        mixed = np.flatnonzero((counts > 0) & (counts < self.sizes))
        inside = np.concatenate([counts == self.sizes, mixed >= 0])
        if len(mixed):
            before = len(self.sizes)
            to = np.arange(before, dtype=np.uint32)
            to[mixed] = np.arange(before, before + len(mixed))
            _branches.move(self.of, row, to)
            self.sizes[mixed] -= counts[mixed]
            self.sizes = np.concatenate([self.sizes, counts[mixed]])
        return mixed, inside

    def separate(self, rows: tuple[int, ...], width: int) -> NDArray[np.uint64]:
        """Split branches until each is in or out of each row; their patterns, bit i for row i."""
        patterns = np.zeros(len(self.sizes), dtype=np.uint64)
        parents = np.arange(len(self.sizes))
        for bit, number in enumerate(rows):
            mixed, inside = self.split(self.batch.rows[number])
            if len(mixed):
                self.check(width)
                parents = np.concatenate([parents, parents[mixed]])
                patterns = np.concatenate([patterns, patterns[mixed]])
            patterns[inside] |= np.uint64(1 << bit)
        if len(parents) > len(self.vectors):
            self.vectors.take(parents)
        return patterns

    def check(self, width: int) -> None:
        """Raises `TooManyParts` where vectors as wide as this do not fit beside other parts'.

        One branch of each part always does, or the program would not have been let in.
        """
        branches = len(self.sizes)
        self.batch.note("branches_peak", branches)
        states = [each for each in self.batch.states if isinstance(each, State)]
        needed = branches * vectors.bytes_of(width)
        needed += sum(each.vectors.psi.nbytes for each in states if each is not self)
        if branches > 1 and needed > DENSE_BYTES_MAX:
            each_shot = sum(vectors.bytes_of(each.qubits) for each in states)
            raise TooManyParts(max(1, DENSE_BYTES_MAX // each_shot))

    def join(self) -> None:
        """Join branches that hold the same state."""
        if len(self.sizes) == 1:
            return
        same = self.vectors.same()
        if same is None:
            return
        kept = np.flatnonzero(same == np.arange(len(same)))
        number = np.empty(len(same), dtype=np.uint32)
        number[kept] = np.arange(len(kept))
        to = number[same]
        _branches.relabel(self.of, to)
        sizes = np.zeros(len(kept), dtype=np.int64)
        np.add.at(sizes, to, self.sizes)
        self.sizes = sizes
        self.vectors.take(kept)

    def run(self, circuit: Circuit, controls: tuple[int, ...]) -> None:
        patterns = self.separate(controls, circuit.width)
        if circuit.width > self.vectors.width:
            self.check(circuit.width)
            self.vectors.widen(circuit.width)
        self.vectors.run(circuit, patterns, self.batch.poll)
        if (patterns != patterns[0]).any():
            self.join()

    def pauli(self, circuit: Circuit, where: int, left: int) -> None:
        """To the branches most of whose shots are in `where`; row `left` is those for which that
        was wrong."""
        row, full = self.batch.rows[where], self.batch.rows[FULL]
        counts = self.counted(row)
        done = 2 * counts > self.sizes
        if ((counts == 0) | (counts == self.sizes)).all():
            self.batch.rows[left] = 0
        else:
            _branches.differ(self.of, full, row, done.view(np.uint8), self.batch.rows[left])
        if done.any():
            self.vectors.run(circuit, done.astype(np.uint64))
            if not done.all():
                self.join()

    def project(
        self,
        place: int,
        mode: int,
        into: int,
        where: int | None,
        flipped: int | None,
        at: Where,
        width: int,
    ) -> None:
        """Measure Z of the qubit at `place` in the shots of `where`, into row `into`."""
        rows, batch = self.batch.rows, self.batch
        inside = np.ones(len(self.sizes), dtype=np.bool_)
        if where is not None:
            inside = self.separate((where,), width) == 1
        if not inside.any():
            rows[into] = 0
            return
        weights = self.vectors.weights(place)
        chances = quantise(weights[:, 1] / (weights[:, 0] + weights[:, 1]))
        drawn = np.empty_like(rows[into])
        _branches.draw(
            batch.chance.seed, *at, batch.shot_first, rows[FULL],
            _NO_ROW if where is None else rows[where],
            _NO_ROW if flipped is None else rows[flipped],
            self.of, np.where(inside, chances, np.uint64(HALF)), rows[into], drawn,
        )  # fmt: skip
        mixed, outcomes = self.split(drawn)
        self.check(width - (mode == DROP))
        sources = np.concatenate([np.arange(len(inside)), mixed])
        kept = weights[sources, outcomes.astype(np.intp)]
        measured = inside[sources]
        self.vectors.project(
            place,
            mode,
            sources.astype(np.int32),
            np.where(measured, outcomes, vectors.BOTH).astype(np.uint8),
            1 / np.sqrt(np.where(measured, kept, 1.0)),
        )
        self.join()


def act_run(batch: Batch, number: int, circuit: Circuit, controls: tuple[int, ...]) -> None:
    batch.states[number].run(circuit, controls)


def act_pauli(batch: Batch, number: int, circuit: Circuit, where: int, left: int) -> None:
    batch.states[number].pauli(circuit, where, left)


def act_project(batch: Batch, number: int, *arguments: Any) -> None:
    batch.states[number].project(*arguments)
