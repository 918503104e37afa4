"""What a lowered program comes to for engines: a dozen kinds of primitives, noise among them.

Measurements in other bases are turned to Z by gates before and after, injected states are prepared
by gates, and noise and readout flips stand where they happen. Every draw has its address here, so
engines that run the same primitives draw the same words. Nothing is optimised.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from qmkd.engine.chance import HISTORY_DRAW_FIRST, HISTORY_DRAWS, OWN_DRAWS, Strikes
from qmkd.engine.noise import Histories, NoiseModel, PauliChannel, Remembering
from qmkd.engine.prepared import BASES, GATES, PASSIVE, PAULIS, Numbered, numbered
from qmkd.engine.rows import Where
from qvm.program import Lowered, LoweredGuard, Step

Guard = LoweredGuard | None

CLIFFORDS: Final = frozenset({"H", "H_YZ", "S", "S_DAG", "X", "Y", "Z", "CX", "CZ", "SWAP"})
"""Gates by Stim's names. H_YZ exchanges Y and Z."""
TURNS: Final = frozenset({"T", "T_DAG", "RX", "RY", "RZ"})
"""Gates outside the Clifford group: T is diag(1, e^(i pi/4)), RX(a) is exp(-i a X / 2)."""


class Gate(NamedTuple):
    """A gate where the guard holds. angle: radians, for RX, RY and RZ."""

    name: str
    qubits: tuple[int, ...]
    guard: Guard
    angle: float = 0.0


class Pauli(NamedTuple):
    """A Pauli product, up to phase, where the guard holds and the parity of the events `xor` is
    odd, or where the guard holds if there are none.

    xs, zs: qubits that get an X, and those that get a Z.
    """

    xs: tuple[int, ...]
    zs: tuple[int, ...]
    guard: Guard
    xor: tuple[int, ...] = ()

    @property
    def qubits(self) -> tuple[int, ...]:
        return tuple(sorted({*self.xs, *self.zs}))


class Measure(NamedTuple):
    """Measure Z where the guard holds; the outcome is bit number `bit` of the event."""

    qubits: tuple[int]
    event: int
    bit: int
    guard: Guard
    at: Where


class Ran(NamedTuple):
    """The event has its value now, where the guard holds; elsewhere it stays absent."""

    event: int
    guard: Guard


class Flip(NamedTuple):
    """Bit number `bit` of the event is reported wrongly, with the probability of the strikes."""

    event: int
    bit: int
    guard: Guard
    of: Strikes
    at: Where


class Reset(NamedTuple):
    """Measure Z, forget the outcome, leave |0>; an unguarded one ends the qubit's life."""

    qubits: tuple[int]
    guard: Guard
    at: Where


Kinds = tuple[tuple[int, ...], ...]
"""Pauli products on some operands, each by its halves: 2 i for the X of operand i, 2 i + 1 for its
Z. Channels that differ in their qubits alone share one."""


class Noise(NamedTuple):
    """One of several Pauli products on the qubits may strike, in shots where the guard holds."""

    qubits: tuple[int, ...]
    kinds: Kinds
    guard: Guard
    of: Strikes
    at: Where


class History(NamedTuple):
    """Bits of events that no program names: they number on behind the program's own, and are there
    from now on in all shots."""

    events: tuple[int, ...]
    of: Histories
    at: Where


class Fence(NamedTuple):
    """The end of a program epoch."""

    epoch: int


Primitive = Gate | Pauli | Measure | Ran | Flip | Reset | Noise | History | Fence


def primitives(lowered: Lowered, noise: NoiseModel) -> Iterator[Primitive]:
    """The program in order, every draw addressed."""
    remembering = noise if isinstance(noise, Remembering) else None
    events = len(lowered.events)
    for each in numbered(lowered, noise):
        if remembering is not None:
            yield from _told(each.step, remembering, events)
        yield from _noise(each, each.before)
        if each.step.op not in PASSIVE:
            yield from _step(each)
        yield from _noise(each, each.after)
        if remembering is not None:
            yield from _begun(each, remembering, events)


def told_events(found: Iterable[Primitive]) -> int:
    """How many events there are that no program names."""
    return sum(len(each.events) for each in found if isinstance(each, History))


def _step(each: Numbered) -> Iterator[Primitive]:
    step = each.step
    at = Where(step.epoch, step.node, each.draw)
    if step.op in PAULIS and step.guard is not None:
        yield Pauli(*support(PAULIS[step.op], step.qubits), step.guard)
    elif step.op in GATES:
        yield Gate(GATES[step.op], step.qubits, step.guard)
    elif step.op in _TURNS:
        yield Gate(_TURNS[step.op], step.qubits, step.guard, step.angle)
    elif step.op == "COND_PAULI":
        xs, zs = support(step.pauli, step.qubits)
        if step.guard is None and not step.xor:
            for letter, qubit in zip(step.pauli, step.qubits, strict=True):
                if letter != "I":
                    yield Gate(letter, (qubit,), None)
        elif xs or zs:
            yield Pauli(xs, zs, step.guard, step.xor)
    elif step.op in BASES or step.op in ("MEASURE_ANGLE", "MEASURE_BELL"):
        yield from _measure(each, at)
    elif step.op in ("RESET", "FREE_LQ"):
        for place, qubit in enumerate(step.qubits):
            yield Reset((qubit,), step.guard, at._replace(draw=at.draw + place))
    elif step.op == "INJECT_T_STATE":
        for place, qubit in enumerate(step.qubits):
            yield Reset((qubit,), step.guard, at._replace(draw=at.draw + place))
            yield Gate("H", (qubit,), step.guard)
            yield Gate("T", (qubit,), step.guard)
    else:
        assert step.op == "FENCE_EPOCH", step.op
        yield Fence(step.epoch)


def _measure(each: Numbered, at: Where) -> Iterator[Primitive]:
    """Turn, measure, turn back. Turning needs no guard: where nothing is measured it is undone."""
    step = each.step
    turn, back = _turn(each)
    yield from turn
    bell = step.op == "MEASURE_BELL"
    if not bell:
        bits = [(step.events[0], 0)]
    elif len(step.events) == 1:
        bits = [(step.events[0], 1), (step.events[0], 0)]  # 2 * m0 + m1
    else:
        bits = [(event, 0) for event in step.events]
    for place, (qubit, (event, bit)) in enumerate(zip(step.qubits, bits, strict=True)):
        yield Measure((qubit,), event, bit, step.guard, at._replace(draw=at.draw + place))
    yield from back
    for event in step.events:
        yield Ran(event, step.guard)
    if each.flips is not None:
        for place, (event, bit) in enumerate(bits):
            flip_at = at._replace(draw=each.flip_draw + place)
            yield Flip(event, bit, step.guard, each.flips, flip_at)


def _turn(each: Numbered) -> tuple[list[Gate], list[Gate]]:
    """Gates that turn what is measured into Z of each qubit, and the gates back."""
    step = each.step
    if step.op == "MEASURE_Z":
        return [], []
    if step.op == "MEASURE_ANGLE":
        return (
            [Gate("RY", step.qubits, None, -step.angle)],
            [Gate("RY", step.qubits, None, step.angle)],
        )
    if step.op == "MEASURE_BELL":
        there = [Gate("CX", step.qubits, None), Gate("H", step.qubits[:1], None)]
    else:
        there = [Gate({"X": "H", "Y": "H_YZ"}[BASES[step.op]], step.qubits, None)]
    return there, there[::-1]


def _noise(each: Numbered, channels: tuple[tuple[int, PauliChannel], ...]) -> Iterator[Primitive]:
    """A channel at a fence strikes in all shots: a guarded fence is a fence for every shot."""
    step = each.step
    for draw, channel in channels:
        if (of := channel.strikes()) is not None:
            kinds = _kinds(tuple(letters for letters, _ in channel.terms))
            at = Where(step.epoch, step.node, draw)
            guard = None if channel.always or step.op == "FENCE_EPOCH" else step.guard
            yield Noise(channel.qubits, kinds, guard, of, at)


def _told(step: Step, noise: Remembering, events: int) -> Iterator[Pauli]:
    for qubit, letter, bits in noise.told(step):
        xs, zs = support(letter, (qubit,))
        yield Pauli(xs, zs, None, tuple(events + bit for bit in bits))


def _begun(each: Numbered, noise: Remembering, events: int) -> Iterator[History]:
    part = each.draw // OWN_DRAWS
    draw = HISTORY_DRAW_FIRST + part * HISTORY_DRAWS
    for of, first in noise.begun(each.step):
        at = Where(each.step.epoch, each.step.node, draw)
        yield History(tuple(range(events + first, events + first + of.bits)), of, at)
        draw += of.draws
    assert draw <= HISTORY_DRAW_FIRST + (part + 1) * HISTORY_DRAWS


@lru_cache(maxsize=1024)
def _kinds(terms: tuple[str, ...]) -> Kinds:
    halves = {"I": (), "X": (0,), "Y": (0, 1), "Z": (1,)}
    return tuple(
        tuple(2 * at + half for at, letter in enumerate(letters) for half in halves[letter])
        for letters in terms
    )


@lru_cache(maxsize=1024)
def halves(kinds: Kinds) -> frozenset[int]:
    """All that some kind names."""
    return frozenset(half for kind in kinds for half in kind)


def supports(
    qubits: tuple[int, ...], kinds: Kinds
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Of each Pauli product the qubits that get an X, and those that get a Z."""
    return tuple(
        (
            tuple(qubits[half >> 1] for half in kind if not half & 1),
            tuple(qubits[half >> 1] for half in kind if half & 1),
        )
        for kind in kinds
    )


def support(letters: str, qubits: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where a Pauli product has an X part and where a Z part."""
    pairs = list(zip(letters, qubits, strict=True))
    xs = tuple(qubit for letter, qubit in pairs if letter in "XY")
    return xs, tuple(qubit for letter, qubit in pairs if letter in "ZY")


_TURNS: Final = {
    "APPLY_T": "T",
    "APPLY_TDG": "T_DAG",
    "APPLY_RX": "RX",
    "APPLY_RY": "RY",
    "APPLY_RZ": "RZ",
}
EIGHTH: Final = math.pi / 4
"""The angle of T, as a rotation about Z up to phase."""
