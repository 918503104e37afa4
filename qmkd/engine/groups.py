"""Clifford parts in which guards stand on gates, measurements or resets: shots in groups.

The state of a shot is V F phi, up to phase: V is the product of the unguarded gates so far, the
same for all shots; F the shot's own Pauli frame; phi a stabilizer state that it shares with its
group. V is known while compiling, so every Pauli is carried back through it (`pulled.py`), and
unguarded gates are never run. What is left:

- An error or a guarded Pauli P changes frames: F becomes F P.
- Measuring P: in a group it is certain or random. The expectation of a shot is that of its group,
  turned over where F anticommutes with P. A random outcome is drawn itself; where it differs from
  the expectation, the frame takes in a stabilizer of the group that anticommutes with P.
- A guarded gate is a few rotations about Paulis. Groups with shots on both sides of the guard are
  split, and the states of those inside are turned; but where the gate comes to a Pauli, as it does
  on a stabilizer, groups stay whole.

Shots with different histories often hold states that differ by no more than a Pauli. So now and
then groups are compared and merged, the Pauli between them going to the frames; a chain of guarded
teleportations stays at a few groups for good. Where histories explode, there are as many groups as
shots, and then a batch is as large as its tableaus may be.

Measurements after which nothing comes leave no states behind: for them it is enough to find out how
outcomes depend on one another. So measurements are put off until something else happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qmkd.engine.batch import BATCH_SHOTS_MIN, TooManyParts
from qmkd.engine.chance import Strikes, Words
from qmkd.engine.limits import GROUPS_BYTES_MAX, GROUPS_QUBITS_MAX
from qmkd.engine.native import _groups
from qmkd.engine.primitives import CLIFFORDS, Gate, Kinds
from qmkd.engine.pulled import ONE, Product, Pulled
from qmkd.engine.rows import FULL, Where
from qvm.parts import Shape

if TYPE_CHECKING:
    from qmkd.engine.batch import Batch, Builder

SLICED_QUBITS_MAX: Final = 12
"""Frames of so few qubits are kept in slices, as in `native/slices.h`, while groups are few."""
DIGITS: Final = 6
"""Of the numbers of groups in slices."""
CROWD: Final = 8
"""Shots per group below which a batch is better small, so that tableaus stay in the caches."""
CROWD_BYTES_MAX: Final = 16 << 20
"""Tableaus of a crowded batch, as GROUPS_BYTES_MAX of others."""
LOOK_LEAST: Final = 4
"""Groups from which on it may pay to look for some that are the same."""
LOOK_FEW: Final = 128
"""How many groups are looked at first: where one in two is superfluous, some pair shows."""
SCATTER: Final = np.uint64(0x9E3779B97F4A7C15)
WAITING_MAX: Final = 1024
"""Measurements that are put off at a time."""
SCRIPT_MAX: Final = 1 << 14
"""Numbers in a script: what happens to one tile of shots without asking whether to stop."""
LAST_LEAST: Final = 3
"""Last measurements from which on relating them is cheaper than projecting states."""

TURNS: Final = {
    "S": ((("Z", 0),), "I"),
    "S_DAG": ((("Z", 2),), "I"),
    "H": ((("Y", 0),), "X"),
    "H_YZ": ((("X", 0),), "Z"),
    "CX": ((("ZX", 0), ("ZI", 2), ("IX", 2)), "II"),
    "CZ": ((("ZZ", 0), ("ZI", 2), ("IZ", 2)), "II"),
    "SWAP": ((("XX", 0), ("YY", 0), ("ZZ", 0)), "II"),
}
"""Gates as rotations exp(-i pi/4 P) that commute, then a Pauli, up to phase. Of each P the letters,
and the power of i before them."""


_Numbers = NDArray[np.int32]
_Arrays = tuple[_Numbers, _Numbers, Words, Words, _Numbers, Words, Words]


def stride(qubits: int) -> int:
    """Words of a tableau, as in `native/tableau.h`."""
    half = -(-qubits // 64)
    columns = -(-(qubits + -(-qubits // 8) * 8) // 8) * 8
    return -(-2 * half * (columns + 1) // 8) * 8


def suits(shape: Shape) -> bool:
    """Whether a part can run here."""
    return not shape.turns and shape.qubits <= GROUPS_QUBITS_MAX


class _Measured(NamedTuple):
    """A measurement that is put off: of what, into which row or 0, and by what frames are changed
    where the outcome is 1."""

    what: Product
    into: int
    at: Where
    flip: Product | None


class Maker:
    """Compiles a part. What happens to frames waits in `script`, and after that, measurements in
    `waiting`."""

    def __init__(self, builder: Builder, shape: Shape, number: int) -> None:
        assert suits(shape), shape
        self.builder = builder
        self.number = number
        self.qubits = shape.qubits
        self.pulled = Pulled(shape.qubits)
        self.width = -(-2 * shape.qubits // 64)
        self.script = _Script(self.width)
        self.waiting: list[_Measured] = []

    def gate(self, gate: Gate, where: int | None) -> None:
        assert gate.name in CLIFFORDS
        if where is None:
            self.pulled.gate(gate.name, gate.qubits)
            return
        self._settle()
        letters, then = TURNS[gate.name]
        turns = []
        minus = ONE
        for each, phase in letters:
            found = self.pulled.pauli(each, gate.qubits)
            turns.append(Product(found.bits, found.phase + phase & 3))
            minus = self.pulled.times(minus, turns[-1])
        assert len(turns) == 1 or minus in (ONE, Product(0, 2)), "they multiply to one, up to sign"
        paulis = _words([*turns, self.pulled.pauli(then, gate.qubits)], self.width)
        self.builder.act(_turn, self.number, paulis, minus.phase // 2, where)

    def pauli(self, xs: tuple[int, ...], zs: tuple[int, ...], where: int) -> None:
        self._measure()
        self.script.take_in(self.pulled.bits(xs, zs), where)
        self._run()

    def measure(self, qubit: int, into: int, where: int | None, at: Where) -> None:
        self._put(_Measured(self.pulled.z[qubit], into, at, None), where)

    def reset(self, qubit: int, where: int | None, at: Where, ends: bool) -> None:
        self._put(_Measured(self.pulled.z[qubit], 0, at, self.pulled.x[qubit]), where)

    def noise(
        self, qubits: tuple[int, ...], kinds: Kinds, of: Strikes, at: Where, where: int | None
    ) -> None:
        letters = [(xs, zs) for qubit in qubits for xs, zs in (((qubit,), ()), ((), (qubit,)))]
        found = [self.pulled.bits(*letter) for letter in letters]
        if not all(
            self.pulled.commute(each.what.bits, bits) for each in self.waiting for bits in found
        ):
            self._measure()
        if len(self.script.code) >= SCRIPT_MAX:
            self._run()
        numbers = [self.script.pauli(each) for each in found]
        supports = [[numbers[half] for half in kind] for kind in kinds]
        self.script.strike(supports, of, at, FULL if where is None else where)
        if where is not None:
            self._run()

    def finish(self) -> None:
        """Of the measurements that wait, the last ones that commute need no projection."""
        last = self._last()
        tail = self.waiting[len(self.waiting) - last :]
        while tail and not tail[-1].into:
            tail.pop()  # Nothing comes after that reset.
        del self.waiting[len(self.waiting) - last :]
        if len(tail) < LAST_LEAST:
            self.waiting += tail
            self._settle(ends=True)
            return
        self._settle()
        what = _words([each.what for each in tail], self.width)
        into = np.array([each.into for each in tail], dtype=np.int32)
        addresses = _addresses([each.at for each in tail])
        self.builder.act(_last, self.number, (what, into, addresses))

    def shot_bits(self) -> int:
        return 64 * self.width + 32

    def start(self, batch: Batch) -> State:
        return State(batch, self.qubits)

    # --- what waits -------------------------------------------------------------------------------

    def _put(self, measured: _Measured, where: int | None) -> None:
        if where is not None:
            self._settle()
            self.waiting = [measured]
            self._measure(where=where)
            return
        if len(self.waiting) == WAITING_MAX:
            self._settle()
        self.waiting.append(measured)
        if measured.into:
            self.builder.put_off(measured.into, self._settle)

    def _last(self) -> int:
        """How many of those that wait, counted from the last, commute."""
        commute = self.pulled.commute
        for count, each in enumerate(reversed(self.waiting)):
            later = self.waiting[len(self.waiting) - count :]
            own = [each.what.bits] + ([each.flip.bits] if each.flip else [])
            if not all(commute(one, other.what.bits) for one in own for other in later):
                return count
        return len(self.waiting)

    def _settle(self, ends: bool = False) -> None:
        if not ends or self.waiting:
            self._run()
        self._measure(ends)

    def _run(self) -> None:
        """Change frames. Errors that came after a measurement that waits commute with it."""
        if self.script.code:
            self.builder.act(_run, self.number, self.script.arrays())
            self.script = _Script(self.width)

    def _measure(self, ends: bool = False, where: int = FULL) -> None:
        """Measure all that waits; if that `ends` the part, states matter no more after the last."""
        if not self.waiting:
            return
        self._run()
        paulis: list[Product] = []
        what = []
        for at, each in enumerate(self.waiting):
            flip = -1
            if each.flip is not None:
                flip = len(paulis)
                paulis.append(each.flip)
            last = ends and at == len(self.waiting) - 1
            what.append((len(paulis), each.into, where, at, flip, last))
            paulis.append(each.what)
        addresses = _addresses([each.at for each in self.waiting])
        arrays = (_words(paulis, self.width), np.array(what, dtype=np.int32), addresses)
        self.builder.act(_measure, self.number, arrays)
        self.waiting = []


class _Script:
    """What happens to frames alone, in the form that `native/_groups.c` runs."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.code: list[int] = []
        self.noises: list[int] = []
        self.gaps: dict[int, tuple[int, Words]] = {}
        self.bounds: list[Words] = []
        self.bounds_length = 0
        self.pool: list[int] = []
        self.paulis: dict[int, int] = {}
        self.addresses: list[Where] = []

    def pauli(self, bits: int) -> int:
        return self.paulis.setdefault(bits, len(self.paulis))

    def take_in(self, bits: int, where: int) -> None:
        self.code += (1, self.pauli(bits), 0, where)

    def strike(self, supports: list[list[int]], of: Strikes, at: Where, where: int) -> None:
        """supports: of each kind the Paulis whose product strikes."""
        assert len(supports) == len(of.bounds) + 1
        table, _ = self.gaps.setdefault(id(of.gaps), (len(self.gaps), of.gaps))
        place = len(self.pool)
        end = place + len(supports) + 1
        ends = [end]
        for support in supports:
            end += len(support)
            ends.append(end)
        self.pool += ends
        for support in supports:
            self.pool += support
        self.code += (0, len(self.noises) // 4, len(self.addresses), where)
        self.noises += (table, self.bounds_length, len(supports), place)
        self.bounds.append(of.bounds)
        self.bounds_length += len(of.bounds)
        self.addresses.append(at)

    def arrays(self) -> _Arrays:
        """code, noises, gaps, bounds, pool, paulis and addresses."""
        raw = b"".join(bits.to_bytes(8 * self.width, "little") for bits in self.paulis)
        return (
            np.array(self.code, dtype=np.int32),
            np.array(self.noises, dtype=np.int32),
            _joined([gaps for _, gaps in self.gaps.values()]),
            _joined(self.bounds),
            np.array(self.pool, dtype=np.int32),
            np.frombuffer(raw, dtype="<u8"),
            _addresses(self.addresses),
        )


class State:
    """A part of a batch.

    count: groups. tableaus: uint64, shape (room, words of a tableau), of groups that there are.
    groups: uint32, of each shot. frames: uint64, as `native/shots.h` lays them out; or groups is
    empty, and frames has both as `native/slices.h` does. look_at: the number of groups at which to
    look next for some that are the same.
    """

    def __init__(self, batch: Batch, qubits: int) -> None:
        words = batch.rows.shape[1]
        self.qubits = qubits
        self.count = 1
        self.tableaus: Words = np.empty((1, stride(qubits)), dtype=np.uint64)
        self.groups: NDArray[np.uint32] = np.empty(0, dtype=np.uint32)
        self.frames: Words = np.empty(0, dtype=np.uint64)
        if qubits <= SLICED_QUBITS_MAX:
            self.frames = np.zeros(words * (2 * qubits + DIGITS), dtype=np.uint64)
        else:
            self._lay_out(words)
            self.frames[:] = 0
            self.groups[:] = 0
        self.look_at = LOOK_LEAST
        _groups.begin(*self.part(batch))

    def _lay_out(self, words: int) -> None:
        """Make room at large."""
        self.groups = np.empty(words * 64, dtype=np.uint32)
        self.frames = np.empty(words * 64 * -(-2 * self.qubits // 64), dtype=np.uint64)

    def part(self, batch: Batch) -> tuple[int, int, Words, NDArray[np.uint32], Words, Words]:
        """What every native function wants."""
        return self.qubits, self.count, self.tableaus, self.groups, self.frames, batch.rows

    def split(self, batch: Batch, function: Any, *arguments: Any) -> None:
        """Call a native function that may split groups, until there is room for what it wants."""
        while (count := function(*self.part(batch), *arguments)) > len(self.tableaus):
            self._make_room(batch, count)
        grew = count > self.count
        self.count = count
        batch.note("groups_peak", count)
        if grew and count >= self.look_at:
            self.look(batch)

    def merge(self, batch: Batch) -> None:
        """Let groups be one whose states differ by a Pauli."""
        before = self.count
        hashes: Words = np.empty(before, dtype=np.uint64)
        _groups.hashes(*self.part(batch), np.arange(before, dtype=np.uint32), hashes, batch.poll)
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        if len(first) < before:
            self.count = _groups.merge(
                *self.part(batch), first[inverse].astype(np.int32), batch.poll
            )

    def look(self, batch: Batch) -> None:
        """Merge groups, if among a few there are any that are the same."""
        before = self.count
        few = (np.arange(LOOK_FEW, dtype=np.uint64) * SCATTER % np.uint64(before)).astype(np.uint32)
        few = np.unique(few) if before > LOOK_FEW else np.arange(before, dtype=np.uint32)
        hashes: Words = np.empty(len(few), dtype=np.uint64)
        _groups.hashes(*self.part(batch), few, hashes, batch.poll)
        if len(np.unique(hashes)) < len(few):
            self.merge(batch)
        self.look_at = max(LOOK_LEAST, 2 * self.count)

    def save(self) -> dict[str, Any]:
        return {
            "tableaus": self.tableaus[: self.count].copy(),
            "groups": self.groups.copy(),
            "frames": self.frames.copy(),
            "look_at": self.look_at,
        }

    def load(self, saved: dict[str, Any]) -> None:
        tableaus, groups, frames = saved["tableaus"], saved["groups"], saved["frames"]
        assert tableaus.shape[1:] == self.tableaus.shape[1:], "it is of the same form"
        if len(groups):
            self._lay_out(len(groups) // 64)
            assert groups.max() < len(tableaus)
        assert groups.shape == self.groups.shape
        assert frames.shape == self.frames.shape
        self.tableaus = tableaus.astype(np.uint64)
        self.groups = groups.astype(np.uint32)
        self.frames = frames.astype(np.uint64)
        self.count, self.look_at = len(tableaus), saved["look_at"]

    def _make_room(self, batch: Batch, wanted: int) -> None:
        """For so many groups, or fewer where some were the same. Raises `TooManyParts`."""
        if not len(self.groups) and wanted > 1 << DIGITS:
            part = self.part(batch)
            self._lay_out(batch.rows.shape[1])
            _groups.unslice(*part, self.groups, self.frames)
        size = self.tableaus.shape[1] * 8
        parts = [each for each in batch.states if isinstance(each, State)]
        held = sum(each.tableaus.nbytes for each in parts if each is not self) + wanted * size
        most = CROWD_BYTES_MAX if wanted * CROWD > batch.shots else GROUPS_BYTES_MAX
        if held > most and batch.shots > BATCH_SHOTS_MIN:
            before = self.count
            self.merge(batch)
            if self.count < before:
                return
            fit = CROWD_BYTES_MAX // (size * len(parts))
            raise TooManyParts(max(BATCH_SHOTS_MIN, fit))
        room = max(wanted, min(2 * len(self.tableaus), batch.shots))
        if not len(self.groups):
            room = min(room, 1 << DIGITS)
        grown = np.empty((room, size // 8), dtype=np.uint64)
        grown[: self.count] = self.tableaus[: self.count]
        self.tableaus = grown


# --- actions --------------------------------------------------------------------------------------


def _run(batch: Batch, number: int, script: _Arrays) -> None:
    state: State = batch.states[number]
    _groups.run(*state.part(batch), *script, batch.chance.seed, batch.shot_first, batch.poll)


def _turn(batch: Batch, number: int, paulis: Words, minus: int, where: int) -> None:
    batch.states[number].split(batch, _groups.turn, paulis, minus, where)


def _measure(batch: Batch, number: int, what: tuple[Words, _Numbers, Words]) -> None:
    state: State = batch.states[number]
    state.split(batch, _groups.measure, *what, batch.chance.seed, batch.shot_first, batch.poll)


def _last(batch: Batch, number: int, what: tuple[Words, _Numbers, Words]) -> None:
    state: State = batch.states[number]
    _groups.last(*state.part(batch), *what, batch.chance.seed, batch.shot_first, batch.poll)


# --- arrays ---------------------------------------------------------------------------------------


def _words(paulis: list[Product], width: int) -> Words:
    """Of each Pauli its bits, `width` words, and its phase, flat."""
    raw = b"".join(
        each.bits.to_bytes(8 * width, "little") + each.phase.to_bytes(8, "little")
        for each in paulis
    )
    return np.frombuffer(raw, dtype="<u8")


def _addresses(places: list[Where]) -> Words:
    return np.array(places, dtype=np.uint64).reshape(-1)


def _joined(parts: list[Words]) -> Words:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)
