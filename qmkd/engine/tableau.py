"""Clifford programs one shot at a time: a Stim tableau per shot, with our own random bits.

Stim only propagates. It is asked whether an outcome is certain and, if not, told the outcome that
`chance.py` gives, so nothing depends on Stim's generator. For one or a few shots; `frames.py` runs
the same programs over many shots and gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import stim

from qmkd.engine.batches import Where
from qmkd.engine.chance import Chance
from qmkd.engine.layout import Packed, pack_rows
from qmkd.engine.noise import NoiseModel, PauliChannel, flipped, struck
from qmkd.engine.prepared import (
    ABSENT,
    BASES,
    GATES,
    PASSIVE,
    Numbered,
    Poll,
    Prepared,
    Rows,
    Stop,
    Stopped,
    Unable,
    instruction,
    numbered,
    reference,
)
from qvm.program import LoweredGuard, Step

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

    def holds(self, guard: LoweredGuard) -> bool:
        """An absent event equals no value."""
        events = self.events
        if guard.any:
            return any(events[event] == wanted for event, wanted in guard.tests)
        return all(events[event] == wanted for event, wanted in guard.tests)

    def outcome(self, qubit: int, where: Where) -> int:
        """Measure Z, projecting."""
        expected = self.sim.peek_z(qubit)
        if expected:
            return int(expected < 0)
        bit = self.chance.coin(*where, self.shot)
        self.sim.postselect_z(qubit, desired_value=bool(bit))
        return bit

    # --- actions ----------------------------------------------------------------------------------

    def gates(self, circuit: stim.Circuit) -> None:
        self.sim.do(circuit)

    def guarded_gates(self, circuit: stim.Circuit, guard: LoweredGuard) -> None:
        if self.holds(guard):
            self.sim.do(circuit)

    def cond_pauli(
        self, circuit: stim.Circuit, xor: tuple[int, ...], guard: LoweredGuard | None
    ) -> None:
        if sum(self.events[event] == 1 for event in xor) & 1 and (
            guard is None or self.holds(guard)
        ):
            self.sim.do(circuit)

    def measure(self, basis: str, step: Step, where: Where, flip: float, flip_where: Where) -> None:
        if step.guard is not None and not self.holds(step.guard):
            return
        (qubit,) = step.qubits
        if basis == "Z":
            bit = self.outcome(qubit, where)
        else:
            turn = self.sim.h if basis == "X" else self.sim.h_yz
            turn(qubit)
            bit = self.outcome(qubit, where)
            turn(qubit)
        self.events[step.events[0]] = bit ^ self.flips(flip, flip_where)

    def bell(self, step: Step, where: Where, flip: float, flip_where: Where) -> None:
        if step.guard is not None and not self.holds(step.guard):
            return
        one, two = step.qubits
        self.sim.cnot(one, two)
        self.sim.h(one)
        m0 = self.outcome(one, where)
        m1 = self.outcome(two, where._replace(draw=where.draw + 1))
        self.sim.h(one)
        self.sim.cnot(one, two)
        m0 ^= self.flips(flip, flip_where)
        m1 ^= self.flips(flip, flip_where._replace(draw=flip_where.draw + 1))
        if len(step.events) == 1:
            self.events[step.events[0]] = 2 * m0 + m1
        else:
            self.events[step.events[0]], self.events[step.events[1]] = m0, m1

    def reset(self, step: Step, where: Where) -> None:
        if step.guard is not None and not self.holds(step.guard):
            return
        for at, qubit in enumerate(step.qubits):
            if self.outcome(qubit, where._replace(draw=where.draw + at)):
                self.sim.x(qubit)

    def fence(self, epoch: int) -> None:
        self.poll.fence(epoch)

    def noise(
        self, channel: PauliChannel, thresholds: Any, guard: LoweredGuard | None, where: Where
    ) -> None:
        if guard is not None and not self.holds(guard):
            return
        term = int(struck(thresholds, self.chance.words(*where, self.shot, 1))[0])
        if term < len(channel.terms):
            for letter, qubit in zip(channel.terms[term][0], channel.qubits, strict=True):
                if letter != "I":
                    self.sim.do(stim.Circuit(f"{letter} {qubit}"))

    def flips(self, probability: float, where: Where) -> int:
        if not probability:
            return 0
        return int(flipped(probability, self.chance.words(*where, self.shot, 1))[0])


def _compile(program: Prepared, noise: NoiseModel) -> list[_Action]:
    """Actions on a `_Shot`; unguarded gates that follow one another become one Stim circuit."""
    actions: list[_Action] = []
    lines: list[str] = []

    def flush() -> None:
        if lines:
            actions.append((_Shot.gates, (stim.Circuit("\n".join(lines)),)))
            lines.clear()

    for each in numbered(program.lowered, noise):
        step = each.step
        if step.guard is None and step.op in GATES and not each.before and not each.after:
            lines.append(instruction(GATES[step.op], step.qubits))
            continue
        flush()
        actions += _noisy(each, each.before)
        if step.op not in PASSIVE:
            actions += _act(each)
        actions += _noisy(each, each.after)
    flush()
    return actions


def _noisy(each: Numbered, channels: tuple[tuple[int, PauliChannel], ...]) -> list[_Action]:
    step = each.step
    guard = None if step.op == "FENCE_EPOCH" else step.guard
    return [
        (
            _Shot.noise,
            (channel, channel.thresholds(), guard, Where(step.epoch, step.node, draw)),
        )
        for draw, channel in channels
    ]


def _act(each: Numbered) -> list[_Action]:
    step = each.step
    where = Where(step.epoch, step.node, each.draw)
    flip = (each.flip, Where(step.epoch, step.node, each.flip_draw))
    if step.op in GATES:
        circuit = stim.Circuit(instruction(GATES[step.op], step.qubits))
        if step.guard is None:
            return [(_Shot.gates, (circuit,))]
        return [(_Shot.guarded_gates, (circuit, step.guard))]
    if step.op == "COND_PAULI":
        letters = zip(step.pauli, step.qubits, strict=True)
        circuit = stim.Circuit("\n".join(f"{letter} {qubit}" for letter, qubit in letters))
        if step.xor:
            return [(_Shot.cond_pauli, (circuit, step.xor, step.guard))]
        if step.guard is None:
            return [(_Shot.gates, (circuit,))]
        return [(_Shot.guarded_gates, (circuit, step.guard))]
    if step.op in BASES:
        return [(_Shot.measure, (BASES[step.op], step, where, *flip))]
    if step.op == "MEASURE_BELL":
        return [(_Shot.bell, (step, where, *flip))]
    if step.op in ("RESET", "FREE_LQ"):
        return [(_Shot.reset, (step, where))]
    if step.op == "FENCE_EPOCH":
        return [(_Shot.fence, (step.epoch,))]
    raise Unable(f"{step.op} is no Clifford op")
