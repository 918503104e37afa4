"""Clifford parts whose guards stand on Paulis only: Pauli frames around one reference state.

All shots of such a part hold the same state up to a Pauli, whatever they measured. So one reference
is run while compiling, on Stim, and tells of every measurement whether it is certain, and if not,
which Pauli leads from one outcome to the other. What is left to do for shots is row code: a frame
is a row for the X and a row for the Z of each qubit.

A random measurement draws the outcome of each shot itself. Where it differs from what reference and
frame say, the shot's frame takes in the Pauli that leads from one outcome to the other. So the bits
do not depend on how the reference happened to fall.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import stim

from qmkd.engine.chance import Strikes
from qmkd.engine.prepared import LINES_MAX, instruction, reference
from qmkd.engine.primitives import CLIFFORDS, Gate, Kinds, halves
from qmkd.engine.rows import FULL, Where
from qvm.parts import Shape

if TYPE_CHECKING:
    from qmkd.engine.batch import Batch, Builder


def suits(shape: Shape) -> bool:
    """Whether every shot holds the same state up to a Pauli."""
    return not shape.turns and not shape.branching


class State:
    """All that frames hold is in the rows of the batch."""

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, saved: dict[str, Any]) -> None:
        assert not saved


class Maker:
    """x, z: of each qubit the row where its frame has an X or Z; None where no shot has."""

    def __init__(self, builder: Builder, shape: Shape, number: int) -> None:
        self.builder = builder
        self.x: list[int | None] = [None] * shape.qubits
        self.z: list[int | None] = [None] * shape.qubits
        self.sim = reference(shape.qubits)
        self.lines: list[str] = []

    def gate(self, gate: Gate, where: int | None) -> None:
        assert gate.name in CLIFFORDS
        assert where is None, "guarded gates are Paulis here"
        self.lines.append(instruction(gate.name, gate.qubits))
        if len(self.lines) == LINES_MAX:
            self._run_reference()
        self.builder.carry(gate.name, gate.qubits, self.x, self.z)

    def pauli(self, xs: tuple[int, ...], zs: tuple[int, ...], where: int) -> None:
        for qubit in xs:
            self.builder.add(self.x, qubit, where)
        for qubit in zs:
            self.builder.add(self.z, qubit, where)

    def measure(self, qubit: int, into: int, where: int | None, at: Where) -> None:
        assert where is None, "a guarded measurement is not the same in all shots"
        self._project(qubit, into, at)
        self.builder.drop(self.z, qubit)  # Z does nothing to a qubit that was just measured.

    def reset(self, qubit: int, where: int | None, at: Where, ends: bool) -> None:
        assert where is None, "a guarded reset is not the same in all shots"
        outcome = self.builder.row()
        self._project(qubit, outcome, at)
        self.builder.give_back(outcome)
        self.builder.drop(self.x, qubit)
        self.builder.drop(self.z, qubit)
        if self.sim.peek_z(qubit) < 0:
            self.sim.x(qubit)

    def noise(
        self, qubits: tuple[int, ...], kinds: Kinds, of: Strikes, at: Where, where: int | None
    ) -> None:
        used, row_of = halves(kinds), self.builder.row_of
        rows = [
            row_of(self.z if half & 1 else self.x, qubits[half >> 1]) if half in used else FULL
            for half in range(2 * len(qubits))
        ]
        self.builder.code.strike(rows, kinds, of, at, FULL if where is None else where)

    def finish(self) -> None:
        pass

    def shot_bits(self) -> int:
        return 0

    def start(self, batch: Batch) -> State:
        return State()

    # --- rows -------------------------------------------------------------------------------------

    def _run_reference(self) -> None:
        if self.lines:
            self.sim.do(stim.Circuit("\n".join(self.lines)))
            self.lines = []

    def _project(self, qubit: int, into: int, at: Where) -> None:
        """Measure Z of all shots into a row."""
        self._run_reference()
        code, flipped = self.builder.code, self.x[qubit]
        expected = self.sim.peek_z(qubit)
        if expected:
            if flipped is None:
                code.zero(into)
            else:
                code.copy(into, flipped)
            if expected < 0:
                code.xor(into, FULL)
            return
        said, kick = self.sim.measure_kickback(qubit)
        code.coin(into, at)
        differs = self.builder.row()
        code.copy(differs, into)
        if flipped is not None:
            code.xor(differs, flipped)
        if said:
            code.xor(differs, FULL)
        xs, zs = kick.to_numpy()
        for rows, there in ((self.x, xs), (self.z, zs)):
            for at_qubit in there.nonzero()[0].tolist():
                self.builder.add(rows, at_qubit, differs)
        self.builder.give_back(differs)
