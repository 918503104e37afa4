"""Runs many shots of a program at once: its parts in lockstep, each by an engine that suits it.

`Builder` compiles a program: it gives out rows of bits (`rows.py`) for events and for whatever the
engines keep there, says where guards hold, and collects actions. `Batch` is shots under way, and
goes through the actions in order. An engine is met twice: as a `Maker`, told the primitives of its
part one after another while compiling, and as the state that it makes for each batch.

Shots are cut into batches that fit in memory. No outcome depends on how shots are cut, so a batch
that would outgrow its memory is thrown away and a smaller one starts over. A batch that reaches
over the end of a SHOT_BLOCK ends with one, so that what is done of a torn block is whole batches.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import numpy as np

from qmkd.engine.chance import Chance, Strikes, Words, unpack
from qmkd.engine.layout import Packed, pack_bits
from qmkd.engine.noise import (
    SHOTS_FLIPPED,
    Figures,
    Histories,
    NoiseModel,
    Remembering,
    add_figures,
    figures_in,
)
from qmkd.engine.parts import Placed, Shape, cut
from qmkd.engine.prepared import ABSENT, Pause, Poll, Prepared, Rows, Stop, Stopped, never, polled
from qmkd.engine.primitives import (
    Fence,
    Flip,
    Gate,
    Guard,
    History,
    Kinds,
    Measure,
    Noise,
    Pauli,
    Ran,
    Reset,
    primitives,
    told_events,
)
from qmkd.engine.rows import FLIP, FULL, Block, Code, Where
from qmkd.engine.shot_data import add, data_of, nothing, rows_of
from qvm.program import EventField
from syscalls.results import SHOT_BLOCK

BATCH_SHOTS_MAX: Final = 1 << 19
BATCH_SHOTS_MIN: Final = 64
BATCH_BYTES_MAX: Final = 192 << 20  # rows, and what the engines hold per shot
ROWS: Final = "rows"  # whose actions are that belong to no engine
DECODER: Final = "decoder"  # and whose those are that find errors ahead
TRUTHS_KEPT: Final = 8  # rows with where a guard holds

assert BATCH_SHOTS_MAX % BATCH_SHOTS_MIN == 0
assert BATCH_SHOTS_MIN % 64 == 0


class TooManyParts(Exception):
    """The shots of a batch differ in so many ways that what is held for each would not fit.

    shots: how many at a time would surely do.
    """

    def __init__(self, shots: int) -> None:
        super().__init__(f"no more than {shots} shots at a time")
        self.shots = shots


class Stopwatch:
    """CPU time of this thread by what it went to. ns: name -> nanoseconds so far."""

    def __init__(self) -> None:
        self.ns: dict[str, int] = {}
        self._name = ""
        self._since = 0

    def turn_to(self, name: str) -> None:
        """What follows is for `name`; "" is for nothing."""
        if name == self._name:
            return
        now = time.thread_time_ns()
        if self._name:
            self.ns[self._name] = self.ns.get(self._name, 0) + now - self._since
        self._name, self._since = name, now


class State(Protocol):
    """A part of a batch. `save` returns arrays and plain numbers, from which `load` of the same
    maker's fresh state makes it again, bit for bit; both are called at fences only."""

    def save(self) -> dict[str, Any]: ...

    def load(self, saved: dict[str, Any]) -> None: ...


class Maker(Protocol):
    """Compiles the primitives of one part. Qubits are the part's own numbers.

    where: the row of the shots in which it is to happen, None for all. A row is only good until the
    next call; its bits are there once pending code has run, which `Builder.act` sees to.
    """

    def gate(self, gate: Gate, where: int | None) -> None: ...

    def pauli(self, xs: tuple[int, ...], zs: tuple[int, ...], where: int) -> None: ...

    def measure(self, qubit: int, into: int, where: int | None, at: Where) -> None:
        """Measure Z into row `into`, which is to be 0 in shots outside `where`."""

    def reset(self, qubit: int, where: int | None, at: Where, ends: bool) -> None: ...

    def noise(
        self, qubits: tuple[int, ...], kinds: Kinds, of: Strikes, at: Where, where: int | None
    ) -> None: ...

    def finish(self) -> None:
        """There is no more; whatever was put off is to be done."""

    def shot_bits(self) -> int:
        """How much a batch holds per shot, apart from rows."""

    def start(self, batch: Batch) -> State:
        """The state in which all qubits are |0>."""


class Builder:
    """A program being compiled.

    bits: of each event the rows of its value bits, low bit first. ran: of each event the row of the
    shots in which it is there; FULL, or None before its measurement. owner: the engine whose the
    next actions are. owners: whose each action is, or ROWS.
    """

    def __init__(self, events: tuple[EventField, ...]) -> None:
        self.code = Code()
        self.actions: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.owner = ROWS
        self.owners: list[str] = []
        self.rows = 1
        self._spare: list[int] = []
        self.bits = [tuple(self.row() for _ in range(event.bits)) for event in events]
        self.ran: list[int | None] = [None] * len(events)
        self._truths: OrderedDict[Any, int] = OrderedDict()
        self._put_off: dict[int, Callable[[], None]] = {}

    def row(self) -> int:
        """A row of its own, for good or until it is given back. What it holds is not said."""
        if self._spare:
            return self._spare.pop()
        self.rows += 1
        return self.rows - 1

    def give_back(self, row: int) -> None:
        assert row != FULL
        self._spare.append(row)

    def row_of(self, rows: list[int | None], qubit: int) -> int:
        """The row of a qubit, made of zeros if there is none."""
        row = rows[qubit]
        if row is None:
            row = rows[qubit] = self.row()
            self.code.zero(row)
        return row

    def add(self, rows: list[int | None], qubit: int, row: int | None) -> None:
        """Add a row, if it is one, to the row of a qubit."""
        if row is None:
            return
        mine = rows[qubit]
        if mine is None:
            mine = rows[qubit] = self.row()
            self.code.copy(mine, row)
        else:
            self.code.xor(mine, row)

    def carry(
        self, name: str, qubits: tuple[int, ...], x: list[int | None], z: list[int | None]
    ) -> None:
        """Move Pauli frames, of which qubits have these rows, behind a Clifford gate."""
        one, two = qubits[0], qubits[-1]
        match name:
            case "H":
                x[one], z[one] = z[one], x[one]
            case "S" | "S_DAG":
                self.add(z, one, x[one])
            case "H_YZ":
                self.add(x, one, z[one])
            case "CX":
                self.add(x, two, x[one])
                self.add(z, one, z[two])
            case "CZ":
                self.add(z, two, x[one])
                self.add(z, one, x[two])
            case "SWAP":
                x[one], x[two] = x[two], x[one]
                z[one], z[two] = z[two], z[one]

    def drop(self, rows: list[int | None], qubit: int) -> None:
        """The qubit has no row any more."""
        row = rows[qubit]
        if row is not None:
            self.give_back(row)
        rows[qubit] = None

    def put_off(self, row: int, settle: Callable[[], None]) -> None:
        """The bits of this row of an event come later, by exclusive or: when `settle` is called,
        which it is before a guard asks for them."""
        self._put_off[row] = settle

    def act(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call `function(batch, *arguments)`, after all code so far."""
        self._take_code()
        self.actions.append((function, arguments))
        self.owners.append(self.owner)

    def finish(self, poll: Callable[[], None]) -> None:
        """Make the code ready; what no event depends on is left out behind the last other action.

        Further ahead, engines may read any row.
        """
        self._take_code()
        events = {row for rows in self.bits for row in rows}
        live: set[int] | None = events | {row for row in self.ran if row is not None}
        for at in range(len(self.actions) - 1, -1, -1):
            act, arguments = self.actions[at]
            if act is Batch.run_code:
                (code,) = arguments
                if live is not None:
                    code.prune(live, poll)
                self.actions[at] = (act, (code.block(),))
            elif act is not Batch.fence:
                live = None

    def _take_code(self) -> None:
        if self.code:
            self.actions.append((Batch.run_code, (self.code,)))
            self.owners.append(ROWS)
            self.code = Code()

    def truth(self, guard: Guard, xor: tuple[int, ...] = ()) -> int | None:
        """The row of the shots in which the guard holds and the parity of events is odd, if any are
        given; None for all shots."""
        if guard is None and not xor:
            return None
        key = (guard, xor)
        if key in self._truths:
            self._truths.move_to_end(key)
            return self._truths[key]
        row = self.row()
        if guard is not None:
            self._guard(guard, row)
        if xor:
            odd = row if guard is None else self.row()
            self._parity(xor, odd)
            if guard is not None:
                self.code.both(row, row, odd)
                self.give_back(odd)
        self._truths[key] = row
        if len(self._truths) > TRUTHS_KEPT:
            self.give_back(self._truths.popitem(last=False)[1])
        return row

    def _guard(self, guard: Guard, into: int) -> None:
        """An absent event equals no value."""
        assert guard is not None
        held = self.row()
        for place, (event, wanted) in enumerate(guard.tests):
            self._equals(event, wanted, into if not place else held)
            if place:
                (self.code.either if guard.any else self.code.both)(into, into, held)
        self.give_back(held)

    def _equals(self, event: int, wanted: int, into: int) -> None:
        ran = self.ran[event]
        if ran is None:
            self.code.zero(into)
            return
        for at, bits in enumerate(self.bits[event]):
            self._settle(bits)
            keep = self.code.both if wanted >> at & 1 else self.code.but_not
            keep(into, into if at else ran, bits)

    def _parity(self, events: tuple[int, ...], into: int) -> None:
        """An absent event counts as 0, as its bits are."""
        self.code.zero(into)
        for event in events:
            if self.ran[event] is not None:
                self._settle(self.bits[event][0])
                self.code.xor(into, self.bits[event][0])

    def _settle(self, row: int) -> None:
        if settle := self._put_off.pop(row, None):
            settle()


class Form:
    """A program compiled for batches under one noise model.

    fences: places in `actions` just behind each fence. owners: whose each action is. watch: to
    whose actions the CPU time of batches went. batch_shots: shots at a time, lowered where
    they differed in too many ways.
    """

    def __init__(
        self,
        program: Prepared,
        noise: NoiseModel,
        choose: Callable[[Shape], Callable[[Builder, Shape, int], Maker]],
        poll: Callable[[], None] = lambda: None,
    ) -> None:
        """choose: for the shape of a part what makes its maker, of builder, shape and number.

        Calls `poll` now and then; what it raises leaves nothing behind.
        """
        lowered = program.lowered
        whole = list(polled(primitives(lowered, noise), poll))
        shapes, placed = cut(whole, lowered.slots, poll)
        self.shapes = shapes
        self.keeps = isinstance(noise, Remembering) and noise.keeps
        named, told = len(lowered.events), told_events(whole)
        builder = Builder((*lowered.events, *[EventField("", 1)] * told))
        self.makers = [choose(shape)(builder, shape, number) for number, shape in enumerate(shapes)]
        self.fences: list[int] = []
        for each in polled(placed, poll):
            self._place(builder, each)
        for maker in polled(self.makers, poll):
            builder.owner = _engine(maker)
            maker.finish()
        if told:
            builder.act(Batch.count_flipped, [row for (row,) in builder.bits[named:]])
        builder.finish(poll)
        self.actions = builder.actions
        self.owners = builder.owners
        self.watch = Stopwatch()
        self.rows = builder.rows
        self.bit_rows = builder.bits[:named]
        self.bits = [row for rows in self.bit_rows for row in rows]
        self.ran = builder.ran[:named]
        shot_bits = self.rows + sum(maker.shot_bits() for maker in self.makers)
        most = min(BATCH_SHOTS_MAX, BATCH_BYTES_MAX * 8 // shot_bits)
        self.batch_shots = max(BATCH_SHOTS_MIN, 1 << most.bit_length() - 1)

    def _place(self, builder: Builder, each: Placed) -> None:
        primitive, maker = each.primitive, self.makers[each.part] if each.part >= 0 else None
        if isinstance(primitive, Fence):
            builder.act(Batch.fence, primitive.epoch)
            self.fences.append(len(builder.actions))
            return
        if isinstance(primitive, History):
            into = [builder.bits[event][0] for event in primitive.events]
            for event in primitive.events:
                builder.ran[event] = FULL
            builder.owner = DECODER
            builder.act(Batch.find, primitive.of, primitive.at, into)
            return
        xor = primitive.xor if isinstance(primitive, Pauli) else ()
        where = builder.truth(primitive.guard, xor)
        if isinstance(primitive, Ran):
            if where is None:
                builder.ran[primitive.event] = FULL
            else:
                builder.ran[primitive.event] = row = builder.row()
                builder.code.copy(row, where)
        elif isinstance(primitive, Flip):
            row = builder.bits[primitive.event][primitive.bit]
            mask = FULL if where is None else where
            builder.code.strike([row], FLIP, primitive.of, primitive.at, mask)
        else:
            assert maker is not None
            builder.owner = _engine(maker)
            _tell(maker, primitive, where, builder, each.ends)


def _engine(maker: Maker) -> str:
    """By the name of its module."""
    return type(maker).__module__.rpartition(".")[2]


def _tell(
    maker: Maker,
    primitive: Gate | Pauli | Measure | Reset | Noise,
    where: int | None,
    builder: Builder,
    ends: bool,
) -> None:
    if isinstance(primitive, Gate):
        maker.gate(primitive, where)
    elif isinstance(primitive, Pauli):
        assert where is not None, "an unconditional Pauli is a gate"
        maker.pauli(primitive.xs, primitive.zs, where)
    elif isinstance(primitive, Measure):
        into = builder.bits[primitive.event][primitive.bit]
        maker.measure(primitive.qubits[0], into, where, primitive.at)
    elif isinstance(primitive, Reset):
        maker.reset(primitive.qubits[0], where, primitive.at, ends)
    else:
        maker.noise(primitive.qubits, primitive.kinds, primitive.of, primitive.at, where)


class Batch:
    """Shots [shot_first, shot_first + shots) under way; shot_first is a multiple of 64.

    rows: uint64, shape (rows, words), as in `rows.py`. states: one per part. notes: figures that
    the parts leave, such as their most groups. counts: figures of which the sums tell. data: of
    each shot what decoders knew, where that is kept.
    """

    def __init__(
        self,
        form: Form,
        chance: Chance,
        shot_first: int,
        shots: int,
        poll: Poll,
        only: slice | None = None,
    ) -> None:
        """only: of up to 64 shots, these alone are run; the others' bits are 0 or nothing."""
        assert shot_first % 64 == 0, shot_first
        self.form = form
        self.chance = chance
        self.shot_first = shot_first
        self.shots = shots
        self.poll = poll
        self.rows: Words = np.zeros((form.rows, -(-shots // 64)), dtype=np.uint64)
        self.rows[FULL] = ~np.uint64(0)
        if shots % 64:
            self.rows[FULL, -1] = (1 << shots % 64) - 1
        if only is not None:
            self.rows[FULL, 0] &= np.uint64((1 << only.stop) - (1 << only.start))
        self.notes: dict[str, int] = {}
        self.counts: Figures = {}
        self.data = nothing(shots) if form.keeps else None
        self.states: list[Any] = [maker.start(self) for maker in form.makers]
        self.done = 0

    @property
    def ended(self) -> bool:
        """Whether all is done."""
        return self.done == len(self.form.actions)

    def run(self, end: int | None = None) -> None:
        """Go through the actions up to number `end`, or all that are left."""
        actions, owners, watch = self.form.actions, self.form.owners, self.form.watch
        end = len(actions) if end is None else end
        while self.done < end:
            act, arguments = actions[self.done]
            watch.turn_to(owners[self.done])
            act(self, *arguments)
            self.done += 1
            self.poll()
        watch.turn_to("")

    def save(self) -> dict[str, Any]:
        """Rows, states and figures, at a fence, for `load`."""
        saved = {
            "rows": self.rows,
            "states": [state.save() for state in self.states],
            "notes": self.notes,
            "counts": self.counts,
        }
        return saved if self.data is None else saved | {"data": rows_of(self.data)}

    def load(self, saved: dict[str, Any]) -> None:
        rows = saved["rows"]
        assert rows.shape == self.rows.shape, "it is of the same form"
        assert rows.dtype == self.rows.dtype
        assert np.array_equal(rows[FULL], self.rows[FULL]), "it is of as many shots"
        self.rows = rows
        self.notes, self.counts = figures_in(saved["notes"]), figures_in(saved["counts"])
        if self.data is not None:
            self.data = data_of(saved["data"], self.shots)
        for state, its in zip(self.states, saved["states"], strict=True):
            state.load(its)

    def values(self) -> Rows:
        """The events of all shots so far."""
        columns: Rows = np.empty((len(self.form.ran), self.shots), dtype=np.uint8)
        for column, ran, bits in zip(columns, self.form.ran, self.form.bit_rows, strict=True):
            if ran is None:
                column[:] = ABSENT
                continue
            column[:] = unpack(self.rows[bits[0]], self.shots)
            for at, row in enumerate(bits[1:], 1):
                column += unpack(self.rows[row], self.shots) << np.uint8(at)
            if ran != FULL:
                column[unpack(self.rows[ran], self.shots) == 0] = ABSENT
        return np.ascontiguousarray(columns.T)

    def packed(self) -> Packed:
        """The same, packed."""
        return pack_bits(self.rows, self.form.bits, self.form.ran, self.shots)

    def note(self, name: str, value: int) -> None:
        """Leave a figure of which the most is kept."""
        self.notes[name] = max(value, self.notes.get(name, 0))

    def count(self, figures: Figures) -> None:
        """Leave figures of which the sums are kept."""
        add_figures(self.counts, figures)

    # --- actions ----------------------------------------------------------------------------------

    def run_code(self, block: Block) -> None:
        block.run(self.rows, self.chance.seed, self.shot_first, self.poll)

    def find(self, of: Histories, at: Where, into: list[int]) -> None:
        bits, figures = of.find(
            self.chance.seed, at, self.shot_first, self.rows[FULL], self.poll, self.data
        )
        self.rows[into] = bits
        self.count(figures)

    def count_flipped(self, told: list[int]) -> None:
        flipped = np.bitwise_or.reduce(self.rows[told], axis=0)
        self.count({SHOTS_FLIPPED: int(np.bitwise_count(flipped).sum())})

    def fence(self, epoch: int) -> None:
        self.poll.fence(epoch)


def run_batches(
    program: Prepared,
    form: Form,
    seed: int,
    shot_first: int,
    shots: int,
    stop: Stop,
    pause: Pause = never,
    begun: Batch | None = None,
) -> Iterator[Batch]:
    """The shots [shot_first, shot_first + shots), batch by batch, each run to its end; the first of
    them may have begun elsewhere.

    Where `pause()` is true at a fence, the batch that stands there comes as it is, and goes on when
    the next is asked for.

    Leaves in `program.notes` the most of what the batches noted, the sums of what they counted, and
    the CPU time that went to the actions of an engine, as `ENGINE_ns`, to decoders, as
    `decoder_ns`, and to rows, as `rows_ns`. Raises `Stopped` where `stop()` was true between
    batches or, now and then, between actions; a batch asks at its fences itself.
    """
    chance = Chance(seed)
    program.notes = {}
    form.watch = Stopwatch()
    first, end = shot_first, shot_first + shots
    while first < end:
        size = batch_shots(form, first, end) if begun is None else begun.shots
        try:
            if begun is None and form.batch_shots < min(size, BATCH_SHOTS_MIN):
                batch = _few_by_few(form, chance, first, size, stop)
            else:
                batch = begun or Batch(form, chance, first, size, Poll(stop))
                yield from _fences(batch, pause)
            begun = None
        except TooManyParts as too_many:
            begun = None
            at_once = min(form.batch_shots, size)
            fewer = min(too_many.shots, at_once // 2)
            form.batch_shots = fewer if fewer < BATCH_SHOTS_MIN else fewer // 64 * 64
            assert 1 <= form.batch_shots < at_once, "fewer shots differ in fewer ways"
            continue
        for name, value in batch.notes.items():
            program.notes[name] = max(value, program.notes.get(name, 0))
        add_figures(program.notes, batch.counts)
        for owner, ns in form.watch.ns.items():
            program.notes[f"{owner}_ns"] = ns
        yield batch
        first += size
        if first < end and stop():
            raise Stopped(0)


def batch_shots(form: Form, first: int, end: int) -> int:
    """How many shots of [first, end) the next batch has."""
    until = first + max(form.batch_shots, BATCH_SHOTS_MIN)
    if until >= end:
        return end - first
    block_end = until // SHOT_BLOCK * SHOT_BLOCK
    return (block_end if block_end > first else until) - first


def _fences(batch: Batch, pause: Pause) -> Iterator[Batch]:
    """Run it to its end; it comes at each fence at which `pause()` is true."""
    for fence in batch.form.fences:
        if fence > batch.done:
            batch.run(fence)
            if pause() and not batch.ended:
                yield batch
    batch.run()


def _few_by_few(form: Form, chance: Chance, first: int, size: int, stop: Stop) -> Batch:
    """A batch, run to its end, a few of its shots after the others, where all 64 of a word are too
    many for the widest of parts."""
    whole: Batch | None = None
    for start in range(0, size, form.batch_shots):
        only = slice(start, min(start + form.batch_shots, size))
        batch = Batch(form, chance, first, size, Poll(stop), only)
        batch.run()
        batch.rows &= batch.rows[FULL]
        if whole is not None:
            batch.rows |= whole.rows
            for name, value in whole.notes.items():
                batch.note(name, value)
            batch.count(whole.counts)
            if batch.data is not None and whole.data is not None:
                add(batch.data, whole.data)
        whole = batch
    assert whole is not None
    return whole
