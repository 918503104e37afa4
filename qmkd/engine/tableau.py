"""Clifford programs one shot at a time: a Stim tableau per shot, with our own random bits.

Stim only propagates. It is asked whether an outcome is certain and, if not, told the outcome that
`chance.py` gives, so nothing depends on Stim's generator. For one or a few shots; `batch.py` runs
the same programs over many shots and gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import stim

from qmkd.engine.chance import Chance, Strikes
from qmkd.engine.layout import Packed, pack_rows
from qmkd.engine.noise import NoiseModel
from qmkd.engine.prepared import (
    ABSENT,
    Poll,
    Prepared,
    Rows,
    Stop,
    Stopped,
    Unable,
    instruction,
    reference,
)
from qmkd.engine.primitives import (
    CLIFFORDS,
    Fence,
    Flip,
    Gate,
    Guard,
    Measure,
    Noise,
    Pauli,
    Primitive,
    Ran,
    Reset,
    primitives,
)
from qmkd.engine.rows import Where

_Action = tuple[Callable[..., None], tuple[Any, ...]]


def run(
    program: Prepared, seed: int, shot_first: int, shots: int, noise: NoiseModel, stop: Stop
) -> Rows:
    """Run shots [shot_first, shot_first + shots).

    Raises `Unable` where an opcode is no Clifford op, `Stopped` where `stop()` was true at a fence,
    between shots or some time between operations.
    """
    actions = program.form(_compile, noise)
    chance = Chance(seed)
    program.notes = {}
    rows: Rows = np.empty((shots, len(program.lowered.events)), dtype=np.uint8)
    for at in range(shots):
        poll = Poll(stop)
        shot = _Shot(program, chance, shot_first + at, poll)
        for act, arguments in actions:
            act(shot, *arguments)
            poll()
        rows[at] = np.frombuffer(shot.events, dtype=np.uint8)
        if at + 1 < shots and stop():
            raise Stopped(0)
    return rows


def run_packed(
    program: Prepared, seed: int, shot_first: int, shots: int, noise: NoiseModel, stop: Stop
) -> Packed:
    """As `run`, but the rows packed."""
    return pack_rows(run(program, seed, shot_first, shots, noise, stop), program.lowered.events)


class _Shot:
    """One shot under way. events: one byte per event, ABSENT until written."""

    def __init__(self, program: Prepared, chance: Chance, shot: int, poll: Poll) -> None:
        self.chance = chance
        self.shot = shot
        self.poll = poll
        self.events = bytearray([ABSENT]) * len(program.lowered.events)
        self.sim = reference(program.lowered.slots)

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
        bit = self.chance.coin(*at, self.shot)
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
        if self.holds(guard) and self.chance.strike(*at, self.shot, of) is not None:
            self.events[event] ^= 1 << bit

    def reset(self, qubit: int, guard: Guard, at: Where) -> None:
        if self.holds(guard) and self.outcome(qubit, at):
            self.sim.x(qubit)

    def noise(
        self, circuits: tuple[stim.Circuit, ...], guard: Guard, of: Strikes, at: Where
    ) -> None:
        kind = self.chance.strike(*at, self.shot, of)
        if kind is not None and self.holds(guard):
            self.sim.do(circuits[kind])

    def fence(self, epoch: int) -> None:
        self.poll.fence(epoch)


def _compile(program: Prepared, noise: NoiseModel) -> list[_Action]:
    """Actions on a `_Shot`; unguarded gates that follow one another become one Stim circuit."""
    actions: list[_Action] = []
    lines: list[str] = []

    def flush() -> None:
        if lines:
            actions.append((_Shot.gates, (stim.Circuit("\n".join(lines)),)))
            lines.clear()

    for each in primitives(program.lowered, noise):
        if isinstance(each, Gate) and each.guard is None and each.name in CLIFFORDS:
            lines.append(instruction(each.name, each.qubits))
        elif not isinstance(each, Ran):
            flush()
            actions.append(_act(each))
    flush()
    return actions


def _act(each: Primitive) -> _Action:
    match each:
        case Gate():
            if each.name not in CLIFFORDS:
                raise Unable(f"{each.name} is no Clifford gate")
            circuit = stim.Circuit(instruction(each.name, each.qubits))
            return _Shot.guarded, (circuit, each.guard, ())
        case Pauli():
            return _Shot.guarded, (_paulis(each.xs, each.zs), each.guard, each.xor)
        case Measure():
            return _Shot.measure, (each.qubits[0], each.event, each.bit, each.guard, each.at)
        case Flip():
            return _Shot.flip, (each.event, each.bit, each.guard, each.of, each.at)
        case Reset():
            return _Shot.reset, (each.qubits[0], each.guard, each.at)
        case Noise():
            circuits = tuple(_paulis(xs, zs) for xs, zs in each.kinds)
            return _Shot.noise, (circuits, each.guard, each.of, each.at)
        case Fence():
            return _Shot.fence, (each.epoch,)
        case Ran():
            raise AssertionError("an event is there as soon as it is measured")


def _paulis(xs: Iterable[int], zs: Iterable[int]) -> stim.Circuit:
    """A Pauli product, up to phase."""
    return stim.Circuit("\n".join([f"X {qubit}" for qubit in xs] + [f"Z {qubit}" for qubit in zs]))
