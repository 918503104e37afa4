"""Clifford programs over many shots, with any guards: Pauli frames around shared reference states.

The shots of a batch are split into groups. A group has one Stim tableau, its reference state; each
of its shots is the reference times that shot's Pauli frame. Frames are kept for the whole batch as
bit-packed rows, so a gate that every shot runs costs two words of arithmetic per 64 shots, and a
guarded Pauli is an XOR with the guard's truth. Only a guarded operation that is no Pauli splits a
group by that truth. Groups are merged again when their stabilizers agree up to sign: then their
references differ by a Pauli, which goes into the frames.

A random measurement draws the outcome of each shot itself. Where it differs from what reference and
frame say, the shot's frame takes in the Pauli that leads from one outcome to the other
(`measure_kickback`). So the bits do not depend on how the reference happened to fall, nor on the
grouping, and are those of `tableau.py`.

Packed rows are uint64, shape (words,), shot i of the batch at bit i % 64 of word i // 64; `None`
stands for a row of zeros, which makes what no chance has touched cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import stim
from numpy.typing import NDArray

from qmkd.engine.batches import Action, TooManyParts, Where, run_batches
from qmkd.engine.chance import Chance, Words, pack, unpack
from qmkd.engine.common import PAIRS, Common, Moves, Support, carry
from qmkd.engine.last import CONSTANT, LAST_MAX, relations
from qmkd.engine.layout import Packed, pack_bits, turn_bits
from qmkd.engine.limits import GROUP_BYTES_MAX
from qmkd.engine.noise import NoiseModel, PauliChannel, flipped, struck
from qmkd.engine.prepared import (
    ABSENT,
    BASES,
    GATES,
    PASSIVE,
    PAULIS,
    Numbered,
    Poll,
    Prepared,
    Rows,
    Stop,
    Unable,
    instruction,
    make_room,
    numbered,
    reference,
    tableau_bytes,
)
from qvm.program import LoweredGuard, Step

BATCH_SHOTS: Final = 1 << 16
BATCH_SHOTS_MAX: Final = 1 << 19  # where there may be many groups: each is paid for per batch
BATCH_SHOTS_MIN: Final = 64
FRAME_BYTES_MAX: Final = 64 << 20  # frames and events of one batch
LAST_SHOTS_LEAST: Final = 4096  # from here on one group's last measurements are done together
LAST_SLOTS_MAX: Final = 2048  # up to here a copy of a tableau is small
FOLDS_MAX: Final = 48  # groups up to which folding one by one is cheaper than by table

assert BATCH_SHOTS % BATCH_SHOTS_MIN == 0

_Row = Words | None
_Mask = NDArray[np.bool_]
_Part = tuple[int, int, Where, Where]
"""What is measured: qubit, bit row, word, word of its flip."""


def run(
    program: Prepared, seed: int, shot_first: int, shots: int, noise: NoiseModel, stop: Stop
) -> Rows:
    """Run shots [shot_first, shot_first + shots).

    Raises `Unable` where an opcode is no Clifford op, `Stopped` where `stop()` was true at a fence,
    between batches or some time between operations.
    """
    parts = [each.rows() for each in _batches(program, seed, shot_first, shots, noise, stop)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def run_packed(
    program: Prepared, seed: int, shot_first: int, shots: int, noise: NoiseModel, stop: Stop
) -> Packed:
    """As `run`, but the rows packed."""
    parts = [each.packed() for each in _batches(program, seed, shot_first, shots, noise, stop)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _batches(
    program: Prepared, seed: int, shot_first: int, shots: int, noise: NoiseModel, stop: Stop
) -> Iterator[_Batch]:
    form = program.form(_Form, noise)
    return run_batches(program, form, _Batch, seed, shot_first, shots, stop, "groups_peak")


class _Guard(NamedTuple):
    """A guard on bit rows. tests: (event, ((bit row, wanted bit), ...))."""

    any: bool
    tests: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


class _Group:
    """Shots that share a reference state. mask: packed, which shots of the batch."""

    __slots__ = ("mask", "sim")

    def __init__(self, sim: stim.TableauSimulator, mask: Words) -> None:
        self.sim = sim
        self.mask = mask


class _Batch:
    """Shots under way.

    x, z: one row per slot: where the frame has an X or Z there. bits: one row per event bit, low
    bit first. ran: one row per event: in which shots its measurement ran. common: stabilizers of
    all groups, where there are several. alike: whether groups may have become the same.
    """

    def __init__(
        self, form: _Form, chance: Chance, shot_first: int, shots: int, poll: Poll
    ) -> None:
        self.form = form
        self.chance = chance
        self.shot_first = shot_first
        self.shots = shots
        self.poll = poll
        self.full = np.full(-(-shots // 64), ~np.uint64(0))
        if shots % 64:
            self.full[-1] = (1 << shots % 64) - 1
        self.x: list[_Row] = [None] * form.slots
        self.z: list[_Row] = [None] * form.slots
        self.bits: list[_Row] = [None] * form.bit_rows
        self.ran: list[_Row] = [None] * len(form.starts)
        self.groups = [_Group(reference(form.slots), self.full)]
        self.of = np.zeros(shots, dtype=np.int32)
        self.parts_peak = 1
        self.merge_at = 2
        self.common: Common | None = None
        self.alike = False

    def rows(self) -> Rows:
        """The events of all shots so far."""
        shots, starts = self.shots, self.form.starts
        columns: Rows = np.empty((len(starts), shots), dtype=np.uint8)
        for event, (start, width) in enumerate(starts):
            ran, column = self.ran[event], columns[event]
            if ran is None:
                column[:] = ABSENT
                continue
            low = self.bits[start]
            column[:] = 0 if low is None else unpack(low, shots)
            if width > 1 and (high := self.bits[start + 1]) is not None:
                column += unpack(high, shots) << np.uint8(1)
            if ran is not self.full:
                column[unpack(ran, shots) == 0] = ABSENT
        return np.ascontiguousarray(columns.T)

    def packed(self) -> Packed:
        """The same, packed."""
        return pack_bits(self.bits, self.ran, self.shots)

    # --- frames -----------------------------------------------------------------------------------

    def truth(self, guard: _Guard | None) -> Words | None:
        """In which shots the guard holds; None for all."""
        if guard is None:
            return None
        whole = None
        for event, wants in guard.tests:
            held = self.ran[event]
            for row, wanted in wants:
                if held is None:
                    break
                bits = self.bits[row]
                if bits is None:
                    held = None if wanted else held
                else:
                    held = held & bits if wanted else held & ~bits
            if held is None:
                if not guard.any:
                    return np.zeros_like(self.full)
            elif whole is None:
                whole = held
            else:
                whole = whole | held if guard.any else whole & held
        return np.zeros_like(self.full) if whole is None else whole

    def fold(self, difference: Words, xs: Iterable[int], zs: Iterable[int]) -> None:
        """Multiply the frames of the shots in `difference` by X on `xs` and Z on `zs`."""
        x, z = self.x, self.z
        for at in xs:
            row = x[at]
            x[at] = difference if row is None else row ^ difference
        for at in zs:
            row = z[at]
            z[at] = difference if row is None else row ^ difference

    def move(self, moves: Moves) -> None:
        """Carry the frames of all shots through gates. Rows are never changed in place."""
        carry(self.x, self.z, moves)

    def move_where(self, gate: str, one: int, two: int, where: Words) -> None:
        """Carry the frames of the shots in `where` through one gate."""
        x, z = self.x, self.z
        before = x[one], z[one], x[two], z[two]
        self.move(((gate, one, two),))
        after = x[one], z[one], x[two], z[two]
        for rows, at, old, new in zip(
            (x, z, x, z), (one, one, two, two), before, after, strict=True
        ):
            if old is not new:
                rows[at] = _choose(where, new, old)

    def split(self, where: Words) -> list[_Group]:
        """Cut every group in two along `where`; returns the groups inside."""
        inside, moved = [], {}
        if self.common is None:
            make_room(3 * tableau_bytes(self.form.slots))
            self.common = Common(self.groups[0].sim)
        for number, group in enumerate(self.groups[:]):
            chosen = group.mask & where
            if not chosen.any():
                continue
            inside.append(group)
            if not np.array_equal(chosen, group.mask):
                if len(self.groups) >= self.form.parts_max:
                    raise TooManyParts
                make_room(2 * tableau_bytes(self.form.slots))
                moved[number] = len(self.groups)
                self.groups.append(_Group(group.sim.copy(), group.mask & ~where))
                group.mask = chosen
        if moved:
            outside = np.arange(len(self.groups), dtype=np.int32)
            outside[list(moved)] = list(moved.values())
            there = unpack(where, self.shots).view(np.bool_)
            self.of = np.where(there, self.of, outside[self.of])
            self.parts_peak = max(self.parts_peak, len(self.groups))
        return inside

    def project(self, qubit: int, where: Words | None, at: Where) -> Words:
        """Measure Z of `qubit` in the shots of `where` (None for all): their outcomes, packed."""
        kick = self.common.kick(qubit) if self.common is not None else None
        if kick is not None:
            return self.project_alike(qubit, where, at, kick)
        ones: _Row = None
        uncertain = []
        for group in self.groups:
            expected = group.sim.peek_z(qubit)
            if expected < 0:
                ones = group.mask if ones is None else ones | group.mask
            elif expected == 0:
                uncertain.append(group)
        if uncertain and where is not None:
            uncertain = [group for group in self.split(where) if not group.sim.peek_z(qubit)]
        if uncertain:
            coins = self.chance.coins(*at, self.shot_first, self.shots)
            fell = self.collapse(qubit, uncertain, coins, ones)
            ones = _xor(ones, fell)
            if self.common is not None:
                self.common.project(qubit, everywhere=where is None)
                self.alike = True
        outcome = _xor(self.x[qubit], ones)
        if outcome is None:
            return np.zeros_like(self.full)
        return outcome if where is None else outcome & where

    def project_alike(self, qubit: int, where: Words | None, at: Where, kick: Support) -> Words:
        """As `project`, where `kick` stabilizes every group and anticommutes with the Z.

        Different groups stay different: of what is left of each, all that commutes with `kick` was
        there before, and with `kick` it is all that was there before.
        """
        assert self.common is not None
        for group in self.groups if where is None else self.split(where):
            group.sim.postselect_z(qubit, desired_value=False)
        self.common.project(qubit, everywhere=where is None)
        coins = self.chance.coins(*at, self.shot_first, self.shots)
        differs = coins if (row := self.x[qubit]) is None else coins ^ row
        if where is None:
            self.fold(differs, *kick)
            return coins
        self.fold(differs & where, *kick)
        return coins & where

    def collapse(self, qubit: int, groups: list[_Group], coins: Words, ones: _Row) -> _Row:
        """Measure Z of `qubit`, uncertain in `groups`, so that their shots get `coins`.

        ones: shots of the other groups whose reference says 1. Returns those of these groups.
        """
        fell, kicks = [], []
        for group in groups:
            self.poll()
            one, kick = group.sim.measure_kickback(qubit)
            fell.append(one)
            kicks.append(kick.to_numpy())
        if len(groups) <= FOLDS_MAX:
            said: _Row = None
            for group, one in zip(groups, fell, strict=True):
                if one:
                    said = _xor(said, group.mask)
            differs = _xor(coins, _xor(_xor(said, ones), self.x[qubit]))
            assert differs is not None
            for group, (xs, zs) in zip(groups, kicks, strict=True):
                mine = differs & group.mask if len(self.groups) > 1 else differs
                self.fold(mine, xs.nonzero()[0].tolist(), zs.nonzero()[0].tolist())
            return said
        # Many groups: look every shot's own kick up, row by row.
        number = {id(group): at for at, group in enumerate(groups)}
        mine = np.array([number.get(id(group), len(groups)) for group in self.groups])[self.of]
        table = np.zeros((2, self.form.slots, len(groups) + 1), dtype=np.bool_)
        table[:, :, :-1] = np.array(kicks).transpose(1, 2, 0)
        said = pack(np.array([*fell, False])[mine])
        differs = coins ^ said
        for row in (ones, self.x[qubit]):
            differs = differs if row is None else differs ^ row
        for rows, kicked in zip((self.x, self.z), table, strict=True):
            for at in np.flatnonzero(kicked.any(axis=1)).tolist():
                rows[at] = _xor(rows[at], pack(kicked[at][mine]) & differs)
        return said

    # --- actions ----------------------------------------------------------------------------------

    def gates(self, circuit: stim.Circuit, moves: Moves) -> None:
        for group in self.groups:
            group.sim.do(circuit)
        self.move(moves)
        if self.common is not None:
            self.common.move(moves)

    def guarded_gate(
        self, circuit: stim.Circuit, move: tuple[str, int, int], guard: _Guard
    ) -> None:
        where = self.truth(guard)
        assert where is not None
        inside = self.split(where)
        for group in inside:
            group.sim.do(circuit)
        if len(inside) == len(self.groups):
            self.move((move,))
            if self.common is not None:
                self.common.move((move,))
        elif inside:
            self.move_where(*move, where)
            assert self.common is not None
            # A stabilizer and what H or S make of it anticommute, so no group has both.
            if not self.common.restrict(*move) or move[0] in PAIRS:
                self.alike = True

    def pauli(
        self, xs: tuple[int, ...], zs: tuple[int, ...], xor: tuple[int, ...], guard: _Guard | None
    ) -> None:
        """Paulis where the guard holds and the parity of the event bits `xor`, if any, is odd."""
        where = self.truth(guard)
        if xor:
            odd: _Row = None
            for row in xor:
                odd = _xor(odd, self.bits[row])
            if odd is None:
                return
            where = odd if where is None else odd & where
        assert where is not None
        self.fold(where, xs, zs)

    def measure(
        self,
        turns: tuple[tuple[stim.Circuit, Moves], tuple[stim.Circuit, Moves]] | None,
        parts: tuple[_Part, ...],
        events: tuple[int, ...],
        guard: _Guard | None,
        flip: float,
    ) -> None:
        """Turn the basis, measure the parts, turn back."""
        where = self.truth(guard)
        if where is not None and not where.any():
            return
        if turns is not None:
            self.gates(*turns[0])
        for qubit, row, at, flip_at in parts:
            outcome = self.project(qubit, where, at)
            if flip:
                wrong = self.wrong(flip, flip_at)
                outcome = outcome ^ (wrong if where is None else wrong & where)
            self.bits[row] = outcome
        if turns is not None:
            self.gates(*turns[1])
        for event in events:
            self.ran[event] = self.full if where is None else where
        self.merge()

    def wrong(self, flip: float, at: Where) -> Words:
        """Where a readout flips."""
        return pack(flipped(flip, self.chance.words(*at, self.shot_first, self.shots)))

    def measure_last(self, parts: tuple[_Part, ...], events: tuple[int, ...], flip: float) -> None:
        """Measure Z of different qubits, in all shots, after which the states do not matter."""
        few = len(self.groups) == 1 and self.shots < LAST_SHOTS_LEAST
        if few or self.form.slots > LAST_SLOTS_MAX:
            for part, event in zip(parts, events, strict=True):
                self.measure(None, (part,), (event,), None, flip)
            return
        sims = [group.sim for group in self.groups]
        certain, parities = relations(sims, tuple(qubit for qubit, *_ in parts))
        followers: list[int] = []
        free: list[_Row] = [None] * 64  # by measurement: outcome, less what the frame makes of it
        free[CONSTANT] = self.full
        for place, (qubit, row, at, _) in enumerate(parts):
            if certain[place].any():
                followers.append(place)
            if not certain[place].all():
                self.bits[row] = coins = self.chance.coins(*at, self.shot_first, self.shots)
                free[place] = _xor(coins, self.x[qubit])
        follow = self.follower(free) if followers else None
        for place in followers:
            assert follow is not None
            qubit, row, *_ = parts[place]
            outcome = _xor(follow(certain[place], parities[place]), self.x[qubit])
            if not certain[place].all():
                there = pack(certain[place][self.of])
                outcome = _choose(there, outcome, self.bits[row])
            self.bits[row] = outcome
        for (_, row, _, flip_at), event in zip(parts, events, strict=True):
            if flip:
                self.bits[row] = _xor(self.bits[row], self.wrong(flip, flip_at))
            self.ran[event] = self.full

    def follower(self, free: list[_Row]) -> Callable[[_Mask, Words], _Row]:
        """What gives, in the groups of a mask, the parity that is asked for of the rows `free`."""
        turned: list[Words] = []

        def follow(there: _Mask, parities: Words) -> _Row:
            asked = parities[there]
            if (asked == asked[0]).all():
                total: _Row = None
                for place, row in enumerate(free):
                    if int(asked[0]) >> place & 1:
                        total = _xor(total, row)
                return total
            if not turned:
                by_shot = np.empty((len(self.full) * 64, 8), dtype=np.uint8)
                turn_bits(free, by_shot)
                turned.append(by_shot[: self.shots].view("<u8")[:, 0])
            return pack((np.bitwise_count(turned[0] & parities[self.of]) & 1).view(np.bool_))

        return follow

    def reset(self, qubits: tuple[int, ...], at: Where, guard: _Guard | None) -> None:
        where = self.truth(guard)
        if where is not None and not where.any():
            return
        for place, qubit in enumerate(qubits):
            outcome = self.project(qubit, where, at._replace(draw=at.draw + place))
            # The reference keeps its |0> or |1>; X in the frame where that is |1> makes it |0>.
            self.x[qubit] = _xor(self.x[qubit], outcome)
            if where is None:
                self.z[qubit] = None
                self.x[qubit] = None
                for group in self.groups:
                    if group.sim.peek_z(qubit) < 0:
                        group.sim.x(qubit)
            elif (row := self.z[qubit]) is not None:
                self.z[qubit] = row & ~where
        self.merge()

    def fence(self, epoch: int) -> None:
        self.poll.fence(epoch)
        self.merge()

    def noise(
        self,
        thresholds: Words,
        supports: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...],
        guard: _Guard | None,
        at: Where,
    ) -> None:
        where = self.truth(guard)
        term_of = struck(thresholds, self.chance.words(*at, self.shot_first, self.shots))
        for term, (xs, zs) in enumerate(supports):
            hit = term_of == term
            if hit.any():
                packed = pack(hit)
                self.fold(packed if where is None else packed & where, xs, zs)

    # --- merging ----------------------------------------------------------------------------------

    def merge(self) -> None:
        """Join groups whose references differ by a Pauli, if it may be worth looking.

        Looking costs O(slots^2) a group. It is done when the groups are twice as many as were left
        the last time, or four times where nothing merged, so the splitting in between pays for it.
        """
        if not self.alike or len(self.groups) < self.merge_at:
            return
        self.alike = False
        seen: dict[tuple[bytes, ...], tuple[_Group, _Reference]] = {}
        place: dict[int, int] = {}
        into = []
        for group in self.groups:
            self.poll()
            state = _Reference(group.sim)
            first, other = seen.setdefault(state.key, (group, state))
            into.append(place.setdefault(id(first), len(place)))
            if first is not group:
                xs, zs = other.difference(state)
                self.fold(group.mask, xs, zs)
                first.mask = first.mask | group.mask
        merged = len(self.groups) - len(seen)
        if merged:
            self.groups = [group for group, _ in seen.values()]
            self.of = np.array(into, dtype=np.int32)[self.of]
            if len(self.groups) == 1:
                self.common = None
        self.merge_at = (2 if merged else 4) * len(self.groups)


class _Reference:
    """Canonical stabilizers of a reference state. key: without signs."""

    def __init__(self, sim: stim.TableauSimulator) -> None:
        self.stabilizers = sim.canonical_stabilizers()
        self.key = tuple(
            part.tobytes() for each in self.stabilizers for part in each.to_numpy(bit_packed=True)
        )
        self._destabilizers: stim.Tableau | None = None

    def difference(self, other: _Reference) -> tuple[list[int], list[int]]:
        """X and Z support of a Pauli that turns this state into `other`, up to phase."""
        if self._destabilizers is None:
            self._destabilizers = stim.Tableau.from_stabilizers(self.stabilizers)
        total = stim.PauliString(len(self.stabilizers))
        for at, (mine, its) in enumerate(zip(self.stabilizers, other.stabilizers, strict=True)):
            if mine.sign != its.sign:
                total *= self._destabilizers.x_output(at)
        xs, zs = total.to_numpy()
        return xs.nonzero()[0].tolist(), zs.nonzero()[0].tolist()


def _xor(one: _Row, two: _Row) -> _Row:
    if one is None:
        return two
    return one if two is None else one ^ two


def _choose(where: Words, yes: _Row, no: _Row) -> _Row:
    """`yes` in the shots of `where`, `no` in the others."""
    if yes is None:
        return None if no is None else no & ~where
    return yes & where if no is None else (yes & where) | (no & ~where)


class _Form:
    """A program compiled for this engine under one noise model.

    starts: (first bit row, bits) of each event. parts_max: references at a time. batch_shots:
    shots at a time, lowered where they needed more references.
    """

    def __init__(self, program: Prepared, noise: NoiseModel) -> None:
        self.slots = program.lowered.slots
        self.starts: list[tuple[int, int]] = []
        self.bit_rows = 0
        for field in program.lowered.events:
            self.starts.append((self.bit_rows, field.bits))
            self.bit_rows += field.bits
        self.actions: list[Action] = []
        self._lines: list[str] = []
        self._moves: list[tuple[str, int, int]] = []
        for each in numbered(program.lowered, noise):
            self._noisy(each, each.before)
            if each.step.op not in PASSIVE:
                self._add(each)
            self._noisy(each, each.after)
        self._flush()
        self._join_last()
        row_bits = 2 * self.slots + self.bit_rows + 9 * len(self.starts)
        wanted = min(BATCH_SHOTS_MAX, BATCH_SHOTS << min(16, program.summary.branching_guards))
        most = min(wanted, FRAME_BYTES_MAX * 8 // max(1, row_bits))
        self.batch_shots = max(BATCH_SHOTS_MIN, most // 64 * 64)
        group_bytes = tableau_bytes(self.slots) + self.batch_shots // 8
        self.parts_max = max(1, GROUP_BYTES_MAX // group_bytes)

    def _flush(self) -> None:
        if self._lines:
            circuit = stim.Circuit("\n".join(self._lines))
            self.actions.append((_Batch.gates, (circuit, tuple(self._moves))))
            self._lines, self._moves = [], []

    def _join_last(self) -> None:
        """Make one action of the measurements at the end."""
        parts: list[_Part] = []
        events: list[int] = []
        flips: set[float] = set()
        while self.actions and len(parts) < LAST_MAX:
            act, arguments = self.actions[-1]
            if act is not _Batch.measure:
                break
            turns, (part, *more), (event, *_), guard, flip = arguments
            again = part[0] in (qubit for qubit, *_ in parts)
            if turns is not None or more or guard is not None or again or {flip} | flips != {flip}:
                break
            parts.append(part)
            events.append(event)
            flips.add(flip)
            self.actions.pop()
        if parts:
            arguments = (tuple(parts[::-1]), tuple(events[::-1]), flips.pop())
            self.actions.append((_Batch.measure_last, arguments))

    def _do(self, act: Callable[..., None], *arguments: Any) -> None:
        self._flush()
        self.actions.append((act, arguments))

    def _guard(self, guard: LoweredGuard | None) -> _Guard | None:
        if guard is None:
            return None
        tests = []
        for event, wanted in guard.tests:
            start, width = self.starts[event]
            tests.append((event, tuple((start + at, wanted >> at & 1) for at in range(width))))
        return _Guard(guard.any, tuple(tests))

    def _noisy(self, each: Numbered, channels: tuple[tuple[int, PauliChannel], ...]) -> None:
        step = each.step
        guard = None if step.op == "FENCE_EPOCH" else self._guard(step.guard)
        for draw, channel in channels:
            supports = tuple(_support(letters, channel.qubits) for letters, _ in channel.terms)
            at = Where(step.epoch, step.node, draw)
            self._do(_Batch.noise, channel.thresholds(), supports, guard, at)

    def _add(self, each: Numbered) -> None:
        step = each.step
        guard = self._guard(step.guard)
        where = Where(step.epoch, step.node, each.draw)
        if step.op in PAULIS and guard is not None:
            self._do(_Batch.pauli, *_support(PAULIS[step.op], step.qubits), (), guard)
        elif step.op in GATES:
            gate, line = GATES[step.op], instruction(GATES[step.op], step.qubits)
            if guard is not None:
                self._do(_Batch.guarded_gate, stim.Circuit(line), _move(gate, step.qubits), guard)
                return
            self._lines.append(line)
            if step.op not in PAULIS:
                self._moves.append(_move(gate, step.qubits))
        elif step.op == "COND_PAULI":
            if guard is None and not step.xor:
                letters = zip(step.pauli, step.qubits, strict=True)
                self._lines += [f"{letter} {qubit}" for letter, qubit in letters]
                return
            xor = tuple(self.starts[event][0] for event in step.xor)
            self._do(_Batch.pauli, *_support(step.pauli, step.qubits), xor, guard)
        elif step.op in BASES or step.op == "MEASURE_BELL":
            self._measure(each, guard)
        elif step.op in ("RESET", "FREE_LQ"):
            self._do(_Batch.reset, step.qubits, where, guard)
        elif step.op == "FENCE_EPOCH":
            self._do(_Batch.fence, step.epoch)
        else:
            raise Unable(f"{step.op} is no Clifford op")

    def _measure(self, each: Numbered, guard: _Guard | None) -> None:
        step = each.step
        where = Where(step.epoch, step.node, each.draw)
        flip_where = Where(step.epoch, step.node, each.flip_draw)
        if step.op == "MEASURE_BELL":
            starts = [self.starts[event][0] for event in step.events]
            rows = [starts[0] + 1, starts[0]] if len(starts) == 1 else starts
        else:
            rows = [self.starts[step.events[0]][0]]
        parts = tuple(
            (
                qubit,
                row,
                where._replace(draw=where.draw + at),
                flip_where._replace(draw=flip_where.draw + at),
            )
            for at, (qubit, row) in enumerate(zip(step.qubits, rows, strict=True))
        )
        self._do(_Batch.measure, _turns(step), parts, step.events, guard, each.flip)


def _support(letters: str, qubits: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where a Pauli product has an X part and where a Z part."""
    pairs = list(zip(letters, qubits, strict=True))
    xs = tuple(qubit for letter, qubit in pairs if letter in "XY")
    return xs, tuple(qubit for letter, qubit in pairs if letter in "ZY")


def _move(gate: str, qubits: tuple[int, ...]) -> tuple[str, int, int]:
    """A gate as `_Batch.move` takes it. A frame has no phase, so S and its inverse are one."""
    return "S" if gate == "S_DAG" else gate, qubits[0], qubits[-1]


def _turns(
    step: Step,
) -> tuple[tuple[stim.Circuit, Moves], tuple[stim.Circuit, Moves]] | None:
    """Gates that turn the measured observables into Z of each qubit, and the gates back."""
    if step.op == "MEASURE_Z":
        return None
    if step.op == "MEASURE_BELL":
        there = [("CX", step.qubits), ("H", step.qubits[:1])]
    else:
        there = [({"X": "H", "Y": "H_YZ"}[BASES[step.op]], step.qubits)]

    def form(gates: list[tuple[str, tuple[int, ...]]]) -> tuple[stim.Circuit, Moves]:
        circuit = stim.Circuit("\n".join(instruction(*each) for each in gates))
        return circuit, tuple(_move(*each) for each in gates)

    return form(there), form(there[::-1])
