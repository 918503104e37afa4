"""Clifford programs one shot at a time: a Stim tableau per shot, with our own random bits.

Stim only propagates. It is asked whether an outcome is certain and, if not, told the outcome that
`chance.py` gives, so nothing depends on Stim's generator. For one or a few shots; `batch.py` runs
the same programs over many shots and gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import stim

from qmkd.engine.chance import Chance, Strikes
from qmkd.engine.layout import CHUNK_SHOTS_MAX, Packed, chunk_shots, pack_rows, packed_row_bytes
from qmkd.engine.noise import (
    SHOTS_FLIPPED,
    Figures,
    Histories,
    NoiseModel,
    Remembering,
    add_figures,
    figures_in,
)
from qmkd.engine.prepared import (
    ABSENT,
    LINES_MAX,
    Pause,
    Poll,
    Prepared,
    Rows,
    Stop,
    Stopped,
    Unable,
    instruction,
    never,
    polled,
    reference,
)
from qmkd.engine.primitives import (
    CLIFFORDS,
    Fence,
    Flip,
    Gate,
    Guard,
    History,
    Measure,
    Noise,
    Pauli,
    Primitive,
    Ran,
    Reset,
    primitives,
    supports,
    told_events,
)
from qmkd.engine.rows import Where
from qmkd.engine.shot_data import ShotData, add, data_of, nothing, rows_of

_Action = tuple[Callable[..., None], tuple[Any, ...]]


def run(
    program: Prepared,
    seed: int,
    shot_first: int,
    shots: int,
    noise: NoiseModel,
    stop: Stop,
) -> Rows:
    """Run shots [shot_first, shot_first + shots). Raises as `run_shots` does."""
    runs = run_shots(program, noise, seed, shot_first, shots, stop)
    return np.concatenate([run.rows() for run in runs if isinstance(run, Shots)])


def run_shots(
    program: Prepared,
    noise: NoiseModel,
    seed: int,
    shot_first: int,
    shots: int,
    stop: Stop,
    pause: Pause = never,
    back: Stop = never,
    begun: Shot | None = None,
) -> Iterator[Shots | Shot | None]:
    """Shots [shot_first, shot_first + shots) in portions; the first may have begun elsewhere.

    Where `pause()` is true, what is done comes first, and then the shot that stands at a fence, or
    None between shots; it goes on when the next is asked for. Where `back()` is, the same happens
    at the fence before, once what was run since is undone, if it has an inverse.

    Raises `Unable` where an opcode is no Clifford op, `Stopped` where `stop()` was true at a fence,
    between shots or some time between operations.
    """
    form = program.form(compiled, noise, stop)
    chance, end = Chance(seed), shot_first + shots
    most = chunk_shots(packed_row_bytes(program.lowered.events), CHUNK_SHOTS_MAX)
    program.notes = {}
    done = Shots(program, form, shot_first)
    for number in range(shot_first, end):
        shot = begun or Shot(program, form, chance, number, Poll(stop))
        begun = None
        for _ in _fences(shot, pause, back):
            if done.shots:
                yield done
                done = Shots(program, form, number)
            yield shot if shot.done else None
        done.add(shot)
        if shot.counts:
            add_figures(program.notes, shot.counts)
        left, paused = number + 1 < end, pause()
        if not left or paused or (number + 1) % most == 0:
            yield done
            done = Shots(program, form, number + 1)
        if left and paused:
            yield None
        if left and stop():
            raise Stopped(0)


def _fences(shot: Shot, pause: Pause, back: Stop) -> Iterator[None]:
    """Run it to its end, but for the fences at which it is to be left."""
    ends = shot.form.ends
    at = 0
    while at < len(ends):
        if ends[at] <= shot.done:
            at += 1
            continue
        shot.run(ends[at], back)
        if shot.done == ends[at]:
            if shot.done < ends[-1] and pause():
                yield
        else:
            back = never
            if shot.turn_back():
                yield


class Shots:
    """Some shots that are done, as a batch is when it has ended."""

    ended = True

    def __init__(self, program: Prepared, form: Form, shot_first: int) -> None:
        self.shot_first = shot_first
        self.counts: Figures = {}
        self._fields = program.lowered.events
        self._rows: list[Rows] = []
        self._data: list[ShotData] | None = [] if form.keeps else None

    @property
    def shots(self) -> int:
        """How many."""
        return len(self._rows)

    def add(self, shot: Shot) -> None:
        """The next, which is done."""
        assert shot.shot_first == self.shot_first + len(self._rows)
        self._rows.append(shot.row())
        if shot.counts:
            add_figures(self.counts, shot.counts)
        if self._data is not None and shot.data is not None:
            self._data.append(shot.data)

    def rows(self) -> Rows:
        """Their events."""
        return np.array(self._rows, dtype=np.uint8).reshape(self.shots, len(self._fields))

    @property
    def data(self) -> ShotData | None:
        """What decoders knew, where that is kept."""
        return None if self._data is None else np.concatenate(self._data)

    def packed(self) -> Packed:
        """Their events, packed."""
        return pack_rows(self.rows(), self._fields)


class Form:
    """A program compiled for this engine.

    fences: places in `actions` just behind each fence. ends: these, and that behind all. told:
    events that no program names.
    keeps: of each shot what decoders knew.
    """

    def __init__(self, actions: list[_Action], told: int, keeps: bool) -> None:
        self.actions = actions
        self.told = told
        self.keeps = keeps
        self.fences = [at + 1 for at, (act, _) in enumerate(actions) if act is Shot.fence]
        self.ends = sorted({*self.fences, len(actions)})


class Shot:
    """One shot under way.

    events: one byte per event, ABSENT until written; the program's own come first. counts: figures
    of which the sums over shots tell. data: what decoders knew, where that is kept.
    """

    shots = 1

    def __init__(
        self, program: Prepared, form: Form, chance: Chance, shot: int, poll: Poll
    ) -> None:
        self.form = form
        self.fields = program.lowered.events
        self.chance = chance
        self.shot_first = shot
        self.poll = poll
        self.events = bytearray([ABSENT]) * (len(self.fields) + form.told)
        self.counts: Figures = {}
        self.data = nothing(1) if form.keeps else None
        self.sim = reference(program.lowered.slots)
        self.done = 0

    @property
    def ended(self) -> bool:
        """Whether all is done."""
        return self.done == len(self.form.actions)

    def run(self, end: int | None = None, back: Stop = never) -> None:
        """Go through the actions up to number `end`, or all that are left, or until `back()`."""
        actions, poll = self.form.actions, self.poll
        end = len(actions) if end is None else end
        for at in range(self.done, end):
            act, arguments = actions[at]
            act(self, *arguments)
            poll()
            if back():
                self.done = at + 1
                return
        self.done = end

    def turn_back(self) -> bool:
        """Undo what was run since the last fence, where all of it has an inverse; False where not.

        Before the first fence nothing need be undone: it is a shot that has not begun. Signs and
        all, the tableau is then what it was, for it says what was done to all states and not to
        one alone.
        """
        last = max((fence for fence in self.form.fences if fence <= self.done), default=0)
        since = self.form.actions[last : self.done]
        if last and not all(act in (Shot.gates, Shot.guarded) for act, _ in since):
            return False
        for act, (circuit, *conditions) in reversed(since if last else ()):
            act(self, circuit.inverse(), *conditions)
        self.done = last
        return True

    def packed(self) -> Packed:
        """The events so far, as a packed row."""
        return pack_rows(self.row()[None], self.fields)

    def row(self) -> Rows:
        """The program's events so far: shape (events,)."""
        return np.frombuffer(bytes(self.events[: len(self.fields)]), dtype=np.uint8)

    def save(self) -> dict[str, Any]:
        """Events, tableau and figures, for `load`."""
        names = ("x2x", "x2z", "z2x", "z2z", "x_signs", "z_signs")
        parts = self.sim.current_inverse_tableau().to_numpy(bit_packed=True)
        saved = {
            "events": bytes(self.events),
            "counts": self.counts,
            **dict(zip(names, parts, strict=True)),
        }
        return saved if self.data is None else saved | {"data": rows_of(self.data)}

    def load(self, saved: dict[str, Any]) -> None:
        self.events = bytearray(saved.pop("events"))
        self.counts = figures_in(saved.pop("counts"))
        if self.data is not None:
            self.data = data_of(saved.pop("data"), 1)
        self.sim.set_inverse_tableau(stim.Tableau.from_numpy(**saved))

    def holds(self, guard: Guard) -> bool:
        """An absent event equals no value."""
        if guard is None:
            return True
        events = self.events
        if guard.any:
            return any(events[event] == wanted for event, wanted in guard.tests)
        return all(events[event] == wanted for event, wanted in guard.tests)

    def outcome(self, qubit: int, at: Where) -> int:
        """Measure Z, projecting."""
        expected = self.sim.peek_z(qubit)
        if expected:
            return int(expected < 0)
        bit = self.chance.coin(*at, self.shot_first)
        self.sim.postselect_z(qubit, desired_value=bool(bit))
        return bit

    # --- actions ----------------------------------------------------------------------------------

    def gates(self, circuit: stim.Circuit) -> None:
        self.sim.do(circuit)

    def guarded(self, circuit: stim.Circuit, guard: Guard, xor: tuple[int, ...]) -> None:
        odd = not xor or sum(self.events[event] == 1 for event in xor) & 1
        if odd and self.holds(guard):
            self.sim.do(circuit)

    def measure(self, qubit: int, event: int, bit: int, guard: Guard, at: Where) -> None:
        if self.holds(guard):
            before = self.events[event]
            value = self.outcome(qubit, at) << bit
            self.events[event] = value if before == ABSENT else before | value

    def flip(self, event: int, bit: int, guard: Guard, of: Strikes, at: Where) -> None:
        if self.holds(guard) and self.chance.strike(*at, self.shot_first, of) is not None:
            self.events[event] ^= 1 << bit

    def reset(self, qubit: int, guard: Guard, at: Where) -> None:
        if self.holds(guard) and self.outcome(qubit, at):
            self.sim.x(qubit)

    def noise(
        self, circuits: tuple[stim.Circuit, ...], guard: Guard, of: Strikes, at: Where
    ) -> None:
        kind = self.chance.strike(*at, self.shot_first, of)
        if kind is not None and self.holds(guard):
            self.sim.do(circuits[kind])

    def find(self, of: Histories, events: tuple[int, ...], at: Where) -> None:
        wanted = np.array([1 << self.shot_first % 64], dtype=np.uint64)
        first = self.shot_first // 64 * 64
        records = None if self.data is None else nothing(64)
        bits, figures = of.find(self.chance.seed, at, first, wanted, self.poll, records)
        if self.data is not None and records is not None:
            add(self.data, records[self.shot_first % 64 :][:1])
        add_figures(self.counts, figures)
        for event, (word,) in zip(events, bits, strict=True):
            self.events[event] = int(word != 0)

    def count_flipped(self) -> None:
        add_figures(self.counts, {SHOTS_FLIPPED: int(1 in self.events[len(self.fields) :])})

    def fence(self, epoch: int) -> None:
        self.poll.fence(epoch)


def compiled(program: Prepared, noise: NoiseModel, poll: Poll) -> Form:
    """Actions on a `Shot`; unguarded gates that follow one another become one Stim circuit, or
    several where they take long."""
    actions: list[_Action] = []
    lines: list[str] = []

    def flush() -> None:
        if lines:
            actions.append((Shot.gates, (stim.Circuit("\n".join(lines)),)))
            lines.clear()

    whole = list(polled(primitives(program.lowered, noise), poll))
    for each in polled(whole, poll):
        if isinstance(each, Gate) and each.guard is None and each.name in CLIFFORDS:
            lines.append(instruction(each.name, each.qubits))
            if len(lines) == LINES_MAX:
                flush()
        elif not isinstance(each, Ran):
            flush()
            actions.append(_act(each))
    flush()
    if told := told_events(whole):
        actions.append((Shot.count_flipped, ()))
    return Form(actions, told, isinstance(noise, Remembering) and noise.keeps)


def _act(each: Primitive) -> _Action:
    match each:
        case Gate():
            if each.name not in CLIFFORDS:
                raise Unable(f"{each.name} is no Clifford gate")
            circuit = stim.Circuit(instruction(each.name, each.qubits))
            return Shot.guarded, (circuit, each.guard, ())
        case Pauli():
            return Shot.guarded, (_paulis(each.xs, each.zs), each.guard, each.xor)
        case Measure():
            return Shot.measure, (each.qubits[0], each.event, each.bit, each.guard, each.at)
        case Flip():
            return Shot.flip, (each.event, each.bit, each.guard, each.of, each.at)
        case Reset():
            return Shot.reset, (each.qubits[0], each.guard, each.at)
        case Noise():
            circuits = tuple(_paulis(xs, zs) for xs, zs in supports(each.qubits, each.kinds))
            return Shot.noise, (circuits, each.guard, each.of, each.at)
        case History():
            return Shot.find, (each.of, each.events, each.at)
        case Fence():
            return Shot.fence, (each.epoch,)
        case Ran():
            raise AssertionError("an event is there as soon as it is measured")


def _paulis(xs: Iterable[int], zs: Iterable[int]) -> stim.Circuit:
    """A Pauli product, up to phase."""
    return stim.Circuit("\n".join([f"X {qubit}" for qubit in xs] + [f"Z {qubit}" for qubit in zs]))
