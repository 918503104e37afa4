"""Parts too wide for state vectors that hold few gates outside the Clifford group.

What all shots of a part hold is F W (phi on k active qubits, |0> on the others). W is a Clifford
operation, known while compiling; F a Pauli frame per shot, in rows as in `frames.py`; phi a vector
per branch of shots, as in `dense.py`; what happens to amplitudes is in `paulis.py`. The qubits that
W acts on are *inner* qubits (`inner.py`): as many as the part has, but none of them stands for one
of its own. A Clifford gate changes W. A gate outside the group is a turn about a Pauli; pulled back
through W, it is one about a product of inner Paulis. Measuring is the same with a projection. Where
the product has an X or Y on an inner qubit that is not active, a turn makes that one active, and an
outcome is a fair coin that moves W and F alone. Otherwise it is about active qubits only, since Z
does nothing to |0>; and what is measured there is active no more. So the cost is 2^k, however many
qubits, turns and measurements there are. The idea is that of Pauli-based computation (Bravyi, Smith
and Smolin, "Trading classical and quantum computational resources", 2016), with a vector for what
is active.

W does not depend on outcomes, which F takes in, nor on guards: Clifford gates under guards are
turns by a right angle, so they may make qubits active too. So k is known while compiling.

Turns wait until something is measured that does not commute with them, nor with those after them
that have to come first; many never come.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from qmkd.engine import dense
from qmkd.engine.batch import TooManyParts
from qmkd.engine.chance import HALF, Strikes, Words, quantise
from qmkd.engine.groups import TURNS
from qmkd.engine.inner import Inner, Turn, lowest
from qmkd.engine.limits import MAGIC_QUBITS_MAX, MAGIC_TURNS_MAX, MAGIC_WIDTH_MAX
from qmkd.engine.native import _branches
from qmkd.engine.paulis import Letters, Measured, PauliVectors, angles
from qmkd.engine.prepared import Unable
from qmkd.engine.primitives import CLIFFORDS, EIGHTH, Gate, Kinds, halves
from qmkd.engine.pulled import Product
from qmkd.engine.rows import FULL, Where
from qmkd.engine.vectors import BOTH, CLEAR, DROP, STAY, bytes_of
from qvm.parts import Shape

if TYPE_CHECKING:
    from qmkd.engine.batch import Batch, Builder

NEAR_BYTES: Final = 64 << 20
"""Vectors of a batch that are not too far: an operation needs as much again."""
RIGHT: Final = math.pi / 2
CLOSE: Final = 1e-12  # to a multiple of a right angle, in radians: no outcome can tell
SHOT_BITS: Final = 32  # its branch

_NO_ROW: Final[Words] = np.empty(0, dtype=np.uint64)
_BASES: Final = {"X": "H", "Y": "H_YZ"}  # what turns Z into another axis and back
_QUARTERS: Final = ("", "S", "Z", "S_DAG")


def suits(shape: Shape) -> bool:
    """Whether a part may be tried here. Where `choose.active_max` exceeds MAGIC_WIDTH_MAX,
    compiling may still raise `Unable`."""
    few_turns = 0 < shape.turns <= MAGIC_TURNS_MAX and shape.qubits <= MAGIC_QUBITS_MAX
    return shape.qubits <= MAGIC_WIDTH_MAX or few_turns


class State(dense.State):
    """The branches of a batch."""

    vectors: PauliVectors

    def __init__(self, batch: Batch, width_peak: int) -> None:
        super().__init__(batch, width_peak)
        self.vectors = PauliVectors()

    def check(self, width: int) -> None:
        """Raises `TooManyParts` where vectors as wide as this do not fit, or are beyond the caches
        and hardly shared, so that fewer at a time are faster. Far more may fit than surely do."""
        shots = int(self.sizes.sum())
        surely = NEAR_BYTES // bytes_of(self.qubits)
        try:
            super().check(width)
            branches = len(self.sizes)
            if branches == 1 or branches * bytes_of(width) <= NEAR_BYTES or 2 * branches <= shots:
                return
        except TooManyParts as too_many:
            surely = min(surely, too_many.shots)
        raise TooManyParts(max(1, surely, shots // 4))

    def turn(self, what: Letters, angle: float, against: int | None, where: int | None) -> None:
        """Turn about a product in the shots of `where`, the other way round in those of `against`,
        which are among them."""
        sources, factors = self._factors(against, where, self.vectors.width)
        if len(sources) > len(self.vectors):
            self.vectors.take(sources)
        self.vectors.turn(what, angles(angle, factors))
        if (factors != factors[0]).any():
            self.join()

    def grow(self, letter: str, angle: float, against: int | None, where: int | None) -> None:
        """The same about X or Y of a qubit in |0> that was not in the vectors. What was different
        stays different."""
        width = self.vectors.width + 1
        sources, factors = self._factors(against, where, width)
        self.check(width)
        self.vectors.grow(letter, sources.astype(np.int32), angles(angle, factors))

    def observe(
        self,
        what: Measured,
        mode: int,
        into: int,
        where: int | None,
        flipped: int | None,
        at: Where,
    ) -> None:
        """Measure a product in the shots of `where`, into row `into`; it becomes the Z of its pivot
        in all shots."""
        rows, batch, width = self.batch.rows, self.batch, self.vectors.width
        sources, inside = self._factors(None, where, width)
        if len(sources) > len(self.vectors):
            self.vectors.take(sources)
        weights = self.vectors.weigh(what.product)[:, :: -1 if what.minus else 1]
        chances = quantise(weights[:, 1] / (weights[:, 0] + weights[:, 1]))
        drawn = np.empty_like(rows[into])
        _branches.draw(
            batch.chance.seed, *at, batch.shot_first, rows[FULL],
            _NO_ROW if where is None else rows[where],
            _NO_ROW if flipped is None else rows[flipped],
            self.of, np.where(inside > 0, chances, np.uint64(HALF)), rows[into], drawn,
        )  # fmt: skip
        mixed, outcomes = self.split(drawn)
        self.check(width - (mode == DROP))
        sources = np.concatenate([np.arange(len(inside)), mixed])
        measured = inside[sources] > 0
        kept = weights[sources, outcomes.astype(np.intp)]
        self.vectors.fold(
            what,
            mode,
            sources.astype(np.int32),
            np.where(measured, outcomes, BOTH).astype(np.uint8),
            1 / np.sqrt(np.where(measured, kept, 1.0)),
        )
        self.join()

    def _factors(
        self, against: int | None, where: int | None, width: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Split branches until each is in or out of both rows. Of each branch that there is then,
        what it came from, and 1, or 0 outside `where`, or -1 in `against`."""
        sources, factors = np.arange(len(self.sizes)), np.ones(len(self.sizes))
        for row, within, without in ((where, 1, 0), (against, -1, 1)):
            if row is not None:
                mixed, inside = self.split(self.batch.rows[row])
                if len(mixed):
                    self.check(width)
                sources = np.concatenate([sources, sources[mixed]])
                factors = np.concatenate([factors, factors[mixed]])
                factors *= np.where(inside, within, without)
        return sources, factors


def act_turn(batch: Batch, number: int, *arguments: Any) -> None:
    batch.states[number].turn(*arguments)


def act_grow(batch: Batch, number: int, *arguments: Any) -> None:
    batch.states[number].grow(*arguments)


def act_observe(batch: Batch, number: int, *arguments: Any) -> None:
    batch.states[number].observe(*arguments)


class Maker:
    """Compiles a part.

    x, z: of each qubit the row where its frame has an X or Z; None where no shot has. active: the
    inner qubits in the vectors, by place. width_peak: the most there were. resets: put off; nothing
    came after them yet.
    """

    def __init__(self, builder: Builder, shape: Shape, number: int) -> None:
        self.builder = builder
        self.number = number
        self.qubits = shape.qubits
        self.inner = Inner(shape.qubits)
        self.x: list[int | None] = [None] * shape.qubits
        self.z: list[int | None] = [None] * shape.qubits
        self.active: list[int] = []
        self.width_peak = 0
        self.resets: list[tuple[int, Where]] = []

    # --- told by the batch ------------------------------------------------------------------------

    def gate(self, gate: Gate, where: int | None) -> None:
        self._settle()
        if gate.name not in CLIFFORDS:
            self._turn(gate, where)
        elif where is None:
            self._clifford(gate.name, gate.qubits)
        else:
            self._guarded(gate.name, gate.qubits, where)

    def pauli(self, xs: tuple[int, ...], zs: tuple[int, ...], where: int) -> None:
        self._settle()
        for qubit in xs:
            self.builder.add(self.x, qubit, where)
        for qubit in zs:
            self.builder.add(self.z, qubit, where)

    def measure(self, qubit: int, into: int, where: int | None, at: Where) -> None:
        self._settle()
        self._project(qubit, into, where, at, STAY if where is not None else DROP)
        if where is None:
            self.builder.drop(self.z, qubit)  # Z does nothing to a qubit that was just measured.

    def reset(self, qubit: int, where: int | None, at: Where, ends: bool) -> None:
        if where is None:
            self.resets.append((qubit, at))
            return
        self._settle()
        outcome = self.builder.row()
        cleared = self._project(qubit, outcome, where, at, CLEAR)
        x, z = self.x[qubit], self.z[qubit]
        if not cleared:
            self.builder.add(self.x, qubit, outcome)
        elif x is not None:
            self.builder.code.but_not(x, x, where)
        if z is not None:
            self.builder.code.but_not(z, z, where)
        self.builder.give_back(outcome)

    def noise(
        self, qubits: tuple[int, ...], kinds: Kinds, of: Strikes, at: Where, where: int | None
    ) -> None:
        self._settle()
        used, row_of = halves(kinds), self.builder.row_of
        rows = [
            row_of(self.z if half & 1 else self.x, qubits[half >> 1]) if half in used else FULL
            for half in range(2 * len(qubits))
        ]
        self.builder.code.strike(rows, kinds, of, at, FULL if where is None else where)

    def finish(self) -> None:
        """No outcome depends on what is still put off."""

    def shot_bits(self) -> int:
        return SHOT_BITS

    def start(self, batch: Batch) -> State:
        batch.note("width_peak", self.width_peak)
        return State(batch, self.width_peak)

    # --- gates ------------------------------------------------------------------------------------

    def _clifford(self, name: str, qubits: tuple[int, ...]) -> None:
        self.inner.gate(name, qubits)
        self.builder.carry(name, qubits, self.x, self.z)

    def _guarded(self, name: str, qubits: tuple[int, ...], where: int) -> None:
        """A Clifford gate under a guard, as turns by a right angle. The other way round such a turn
        differs from itself by its own Pauli, so frames take that in and no branch is split."""
        rotations, then = TURNS[name]
        for letters, phase in rotations:
            against = self._meets(letters, qubits)
            if against is not None:
                self.builder.code.both(against, against, where)
                self._take_in(letters, qubits, against)
                self.builder.give_back(against)
            what = self.inner.times(Product(0, phase), self.inner.pauli(letters, qubits))
            self.inner.turns.append(Turn(what, RIGHT, None, self._copy(where)))
        self._take_in(then, qubits, where)

    def _turn(self, gate: Gate, where: int | None) -> None:
        axis, angle = "Z", {"T": EIGHTH, "T_DAG": -EIGHTH}.get(gate.name, gate.angle)
        if gate.name[0] == "R":
            axis = gate.name[1]
        quarters = round(angle / RIGHT)
        if abs(angle - quarters * RIGHT) < CLOSE:
            self._quarters(axis, gate.qubits, quarters % 4, where)
            return
        what = self.inner.pauli(axis, gate.qubits)
        against = self._meets(axis, gate.qubits)
        its = None if where is None else self._copy(where)
        self.inner.turns.append(Turn(what, angle, against, its))

    def _quarters(
        self, axis: str, qubits: tuple[int, ...], quarters: int, where: int | None
    ) -> None:
        """A turn by so many right angles is a Clifford gate."""
        name = _QUARTERS[quarters]
        if not name:
            return
        if axis in _BASES:
            self._clifford(_BASES[axis], qubits)
        if where is None:
            self._clifford(name, qubits)
        elif name == "Z":
            self.builder.add(self.z, qubits[0], where)
        else:
            self._guarded(name, qubits, where)
        if axis in _BASES:
            self._clifford(_BASES[axis], qubits)

    # --- measuring --------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Do resets that were put off."""
        resets, self.resets = self.resets, []
        for qubit, at in resets:
            outcome = self.builder.row()
            self._project(qubit, outcome, None, at, DROP)
            self.builder.give_back(outcome)
            self.builder.drop(self.x, qubit)
            self.builder.drop(self.z, qubit)
            if self.inner.z[qubit].phase:
                self.inner.gate("X", (qubit,))

    def _project(self, qubit: int, into: int, where: int | None, at: Where, mode: int) -> bool:
        """Measure Z in the shots of `where`, into row `into`. mode: what then becomes of the qubit;
        returns whether CLEAR was done, so that it is |0> but for the frame."""
        inner = self.inner
        also = (inner.x[qubit],) if mode == CLEAR else ()
        for turn in inner.needed(inner.z[qubit], *also):
            self._run(turn)
        if self._beyond(inner.z[qubit]):
            if where is None:
                self._collapse(qubit, into, at)
                return False
            self._activate(inner.z[qubit])
            self.builder.act(act_grow, self.number, "X", 0.0, None, None)
        if inner.z[qubit].bits & self._active_bits():
            return self._observe(qubit, into, where, at, mode)
        self._tell(self.x[qubit], bool(inner.z[qubit].phase), into, where)
        return False

    def _tell(self, flipped: int | None, minus: bool, into: int, where: int | None) -> None:
        """An outcome that is certain but for the frame."""
        code, all_of = self.builder.code, FULL if where is None else where
        if flipped is None and minus:
            code.copy(into, all_of)
        elif flipped is None:
            code.zero(into)
        elif minus:
            code.but_not(into, all_of, flipped)
        else:
            code.both(into, flipped, all_of)

    def _collapse(self, qubit: int, into: int, at: Where) -> None:
        """The outcome is a coin. The Z of an inner qubit, which does not commute with what is
        measured, leads from one outcome to the other; and what is measured takes its place."""
        what = self.inner.z[qubit]
        spent = self.inner.single("Z", lowest(self._beyond(what)))
        self.builder.code.coin(into, at)
        differs = self._differ(into, self.x[qubit])
        self._kick(spent, differs)
        self.builder.give_back(differs)
        self.inner.exchange(spent, what)
        self._strip(spent)

    def _observe(self, qubit: int, into: int, where: int | None, at: Where, mode: int) -> bool:
        """Measure what is about active qubits only, and make it the Z of one of them. X of the
        qubit becomes the X of that one as far as it can, so that the states after either outcome
        are alike where they can be. Returns whether CLEAR was done."""
        inner, what = self.inner, self.inner.z[qubit]
        product = self._letters(what)
        pivot = (product.x or product.z).bit_length() - 1
        here = self.active[pivot]
        z, own = inner.single("Z", here), inner.single(inner.letter(what, here), here)
        if product.x:
            inner.control(z, inner.times(own, what))
            inner.exchange(z, own)
        else:
            inner.control(inner.single("X", here), inner.times(own, what))
        self.active.remove(here)
        after = inner.positive(inner.kept(inner.x[qubit], self._mask()))
        inner.control(z, after)
        if mode == CLEAR and self._beyond(inner.x[qubit]) != 1 << here:
            mode = STAY
        flipped, minus = self.x[qubit], what != inner.positive(what)
        measured = Measured(product, minus, pivot, self._letters(after))
        self.builder.act(act_observe, self.number, measured, mode, into, where, flipped, at)
        if mode != DROP:
            self.active.append(here)
            return mode == CLEAR
        differs = self._differ(into, flipped)
        self._kick(inner.single("X", here), differs)
        self.builder.give_back(differs)
        self._strip(z)
        return False

    def _kick(self, what: Product, row: int) -> None:
        """Where the row says, an inner Pauli struck before the turns that wait."""
        commute, inner = self.inner.commute, self.inner
        for turn in inner.turns:
            if not commute(turn.what.bits, what.bits):
                if turn.against is None:
                    turn.against = self._copy(row)
                else:
                    self.builder.code.xor(turn.against, row)
        for qubit in range(self.qubits):
            if not commute(inner.z[qubit].bits, what.bits):
                self.builder.add(self.x, qubit, row)
            if not commute(inner.x[qubit].bits, what.bits):
                self.builder.add(self.z, qubit, row)

    def _strip(self, z: Product) -> None:
        """All turns that wait commute with this Z, which does nothing."""
        for turn in self.inner.turns:
            turn.what = Product(turn.what.bits & ~z.bits, turn.what.phase)

    # --- inner qubits and vectors -----------------------------------------------------------------

    def _run(self, turn: Turn) -> None:
        """Turn the vectors. What is about qubits in |0> only is a phase."""
        inner = self.inner
        if turn.against is not None and turn.where is not None:
            self.builder.code.both(turn.against, turn.against, turn.where)
        if self._beyond(turn.what):
            here = self._activate(turn.what)
            letter = inner.letter(turn.what, here)
            self._act_turn(act_grow, letter, turn.angle, turn)
        elif turn.what.bits & self._active_bits():
            minus = turn.what != inner.positive(turn.what)
            angle = -turn.angle if minus else turn.angle
            self._act_turn(act_turn, self._letters(turn.what), angle, turn)
        inner.turns.remove(turn)
        for row in (turn.against, turn.where):
            if row is not None:
                self.builder.give_back(row)

    def _act_turn(
        self, act: Callable[..., None], what: str | Letters, angle: float, turn: Turn
    ) -> None:
        self.builder.act(act, self.number, what, angle, turn.against, turn.where)

    def _activate(self, what: Product) -> int:
        """Make an inner qubit active, such that the product, with X or Y there, becomes that alone:
        control by a qubit in |0> does nothing. The vectors are yet to grow."""
        inner, here = self.inner, lowest(self._beyond(what))
        if len(self.active) == MAGIC_WIDTH_MAX:
            raise Unable(
                f"a part of {self.qubits} qubits has more than {MAGIC_WIDTH_MAX} at a time in "
                "states outside the Clifford group"
            )
        own = inner.single(inner.letter(what, here), here)
        inner.control(inner.single("Z", here), inner.times(own, what))
        self.active.append(here)
        self.width_peak = max(self.width_peak, len(self.active))
        return here

    def _letters(self, what: Product) -> Letters:
        """What a product is on active qubits, by place."""
        x, z = 0, 0
        for place, qubit in enumerate(self.active):
            x |= (what.bits >> qubit & 1) << place
            z |= (what.bits >> self.qubits + qubit & 1) << place
        return Letters(x, z)

    def _mask(self) -> int:
        return sum(1 << each for each in self.active)

    def _active_bits(self) -> int:
        mask = self._mask()
        return mask | mask << self.qubits

    def _beyond(self, what: Product) -> int:
        """The inner qubits that are not active where the product has X or Y, a mask."""
        return what.bits & self.inner.x_bits & ~self._mask()

    # --- frames -----------------------------------------------------------------------------------

    def _meets(self, letters: str, qubits: tuple[int, ...]) -> int | None:
        """A new row of the shots whose frame does not commute with a product; None for none."""
        rows = [self.z[qubit] for each, qubit in zip(letters, qubits, strict=True) if each in "XY"]
        rows += [self.x[qubit] for each, qubit in zip(letters, qubits, strict=True) if each in "YZ"]
        there = [row for row in rows if row is not None]
        if not there:
            return None
        found = self._copy(there[0])
        for row in there[1:]:
            self.builder.code.xor(found, row)
        return found

    def _take_in(self, letters: str, qubits: tuple[int, ...], row: int) -> None:
        for each, qubit in zip(letters, qubits, strict=True):
            if each in "XY":
                self.builder.add(self.x, qubit, row)
            if each in "YZ":
                self.builder.add(self.z, qubit, row)

    def _copy(self, row: int) -> int:
        """A new row with the same bits."""
        found = self.builder.row()
        self.builder.code.copy(found, row)
        return found

    def _differ(self, one: int, two: int | None) -> int:
        """A new row of where two differ."""
        found = self._copy(one)
        if two is not None:
            self.builder.code.xor(found, two)
        return found
