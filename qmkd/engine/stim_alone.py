"""Stim alone, one shot after another, with its own chance: what engines are compared with.

Nothing that serves jobs imports it. It takes lowered steps and a noise model, and shares nothing
else with the engines: no primitives, no words of ours. A guard is a look at the shot's events.
What lies between two guards is one circuit, noise included, so it is as quick as Stim is here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import stim

from qmkd.engine.noise import NoiseModel, PauliChannel
from qmkd.engine.prepared import ABSENT, PASSIVE, Rows
from qvm.program import Lowered, LoweredGuard, Step

_STIM: Final = {
    "APPLY_H": "H", "APPLY_S": "S", "APPLY_SDG": "S_DAG", "APPLY_X": "X", "APPLY_Y": "Y",
    "APPLY_Z": "Z", "APPLY_CNOT": "CX", "TELEPORT_CNOT": "CX", "APPLY_CZ": "CZ",
    "APPLY_SWAP": "SWAP", "RESET": "R", "FREE_LQ": "R", "MEASURE_Z": "MZ", "MEASURE_X": "MX",
    "MEASURE_Y": "MY",
}  # fmt: skip


class _Part(NamedTuple):
    """Lines of a circuit that run where the guard holds and the parity of events `xor` is odd.

    writes: of each outcome that the circuit records, its event and which bit of its value it is.
    """

    guard: LoweredGuard | None
    xor: tuple[int, ...]
    lines: tuple[str, ...]
    writes: tuple[tuple[int, int], ...]


class StimAlone:
    """A Clifford program under noise. seed: of Stim, whose bits change with its version."""

    def __init__(self, lowered: Lowered, noise: NoiseModel, seed: int) -> None:
        self._events = len(lowered.events)
        self._seed = seed
        self._parts = [
            (part.guard, part.xor, stim.Circuit("\n".join(part.lines)), part.writes)
            for part in _joined(part for step in lowered.steps for part in _parts(step, noise))
        ]

    def rows(self, shots: int) -> Rows:
        """More shots, as engines give them."""
        return np.array([self.shot() for _ in range(shots)], dtype=np.uint8)

    def shot(self) -> list[int]:
        """The events of one more shot."""
        self._seed += 1
        sim = stim.TableauSimulator(seed=self._seed)
        events = [ABSENT] * self._events
        for guard, xor, circuit, writes in self._parts:
            if guard is not None and not _holds(guard, events):
                continue
            if xor and not sum(events[event] == 1 for event in xor) & 1:
                continue
            sim.do(circuit)
            if writes:
                record = sim.current_measurement_record()[-len(writes) :]
                for (event, bit), said in zip(writes, record, strict=True):
                    before = events[event]
                    events[event] = said << bit | (0 if before == ABSENT else before)
        return events


def _holds(guard: LoweredGuard, events: list[int]) -> bool:
    tests = (events[event] == wanted for event, wanted in guard.tests)
    return any(tests) if guard.any else all(tests)


def lines_of(step: Step, noise: NoiseModel) -> tuple[tuple[str, ...], ...]:
    """Lines of a Stim circuit: errors before a step, the step itself, errors after it."""
    before, after = noise.before(step), noise.after(step)
    return (
        tuple(line for channel in before for line in _channel(channel)),
        _operation(step, noise.flips(step) if step.events else 0.0),
        tuple(line for channel in after for line in _channel(channel)),
    )


def _parts(step: Step, noise: NoiseModel) -> Iterator[_Part]:
    """At a fence errors strike in every shot."""
    _, lines, _ = lines_of(step, noise)
    yield from (_errors(step, channel) for channel in noise.before(step))
    if lines:
        yield _Part(step.guard, step.xor, lines, _writes(step))
    yield from (_errors(step, channel) for channel in noise.after(step))


def _errors(step: Step, channel: PauliChannel) -> _Part:
    always = channel.always or step.op == "FENCE_EPOCH"
    return _Part(None if always else step.guard, (), tuple(_channel(channel)), ())


def _joined(parts: Iterator[_Part]) -> Iterator[_Part]:
    """Parts without conditions that follow one another become one."""
    for free, some in itertools.groupby(parts, lambda part: part.guard is None and not part.xor):
        if free:
            held = list(some)
            lines = tuple(line for part in held for line in part.lines)
            yield _Part(None, (), lines, tuple(write for part in held for write in part.writes))
        else:
            yield from some


def _operation(step: Step, flip: float) -> tuple[str, ...]:
    """flip: how often an outcome is recorded wrongly."""
    if step.op in PASSIVE or step.op == "FENCE_EPOCH":
        return ()
    targets = " ".join(map(str, step.qubits))
    if step.op == "MEASURE_BELL":
        return f"MXX({flip}) {targets}", f"MZZ({flip}) {targets}"
    if step.op == "COND_PAULI":
        pairs = zip(step.pauli, step.qubits, strict=True)
        return tuple(f"{letter} {qubit}" for letter, qubit in pairs)
    return (f"{_STIM[step.op]}{f'({flip})' if step.events else ''} {targets}",)


def _writes(step: Step) -> tuple[tuple[int, int], ...]:
    """Of each outcome its event and which bit of its value it is."""
    if step.op == "MEASURE_BELL" and len(step.events) == 1:
        return (step.events[0], 1), (step.events[0], 0)
    return tuple((event, 0) for event in step.events)


def _channel(channel: PauliChannel) -> tuple[str, ...]:
    """At most one of its terms strikes: each only where none before it did, if not all alike."""
    chances = {chance for _, chance in channel.terms}
    if len(chances) == 1 and len(channel.terms) == 4 ** len(channel.qubits) - 1:
        (chance,), width = chances, len(channel.qubits)
        targets = " ".join(map(str, channel.qubits))
        return (f"DEPOLARIZE{width}({chance * len(channel.terms)}) {targets}",)
    lines: list[str] = []
    left = 1.0
    for letters, chance in channel.terms:
        pairs = zip(letters, channel.qubits, strict=True)
        targets = " ".join(f"{letter}{qubit}" for letter, qubit in pairs if letter != "I")
        name = "ELSE_CORRELATED_ERROR" if lines else "E"
        lines.append(f"{name}({min(1.0, chance / left) if left > 0 else 0.0}) {targets}")
        left -= chance
    return tuple(lines)
