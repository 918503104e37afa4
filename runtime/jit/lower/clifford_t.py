"""A whole circuit in Clifford and T gates, within one error for all its rotations together.

Multiples of pi/4 stay exact. The error of a circuit is at most the sum of its rotations' errors in
operator norm, so the sum is what is kept within what was asked. Measurements, conditions, barriers
and the order of everything stay as they are. Read `synthesis.py` for the single rotation, `ands.py`
for what may be done with measurements before.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from runtime.jit.angles import Angle, turn
from runtime.jit.circuit import Circuit, Operation, defined
from runtime.jit.costs import ROTATIONS, counts
from runtime.jit.gates import FRAMES, GATES, by_eighths
from runtime.jit.lower.synthesis import canonical, check_epsilon, z_rotation


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How a circuit was lowered.

    epsilon: error asked for. error: sum of the measured errors in operator norm, never more.
    rotations: how many were synthesised. distinct: how many different words that took, inverses and
    Clifford gates aside. t_count: T and inverse T gates of the lowered circuit, those of rotations
    among them in t_rotations.
    """

    epsilon: float
    error: float
    rotations: int
    distinct: int
    t_count: int
    t_rotations: int


class Lowered(msgspec.Struct, frozen=True, kw_only=True):
    """A circuit without rotations, and how it came about."""

    circuit: Circuit
    report: Report


def to_clifford_t(circuit: Circuit, epsilon: float) -> Lowered:
    """The circuit with every gate taken apart, and every rotation in Clifford and T gates.

    Raises `Unreachable` where a rotation would have to be synthesised more precisely than can be.
    """
    phase, operations = _taken_apart(circuit)
    wanted = Counter(
        canonical(each.angles[0])
        for each in operations
        if each.name in ROTATIONS and each.angles[0].eighths is None
    )
    allowed, error = _shared(wanted, epsilon)
    made: list[Operation] = []
    t_rotations = 0
    for each in operations:
        if each.name not in ROTATIONS:
            made.append(each)
            continue
        names, shift = _written(each.name, each.angles[0], allowed)
        made.extend(Operation(name, each.qubits, (), (), each.condition, each.at) for name in names)
        if each.condition is None:
            phase += shift
        if each.angles[0].eighths is None:
            t_rotations += sum(name in ("t", "tdg") for name in names)
    report = Report(
        epsilon=epsilon,
        error=error,
        rotations=wanted.total(),
        distinct=len(wanted),
        t_count=counts(made).t,
        t_rotations=t_rotations,
    )
    assert report.error <= epsilon or not wanted, "each was synthesised within its share"
    return Lowered(circuit=circuit.with_operations(made, phase), report=report)


def _taken_apart(circuit: Circuit) -> tuple[Angle, list[Operation]]:
    """The global phase, and the operations by gates that have opcodes."""
    phase, made = circuit.phase, []
    ahead = list(reversed(circuit.operations))
    while ahead:
        each = ahead.pop()
        row = GATES.get(each.name)
        if row is None or row.definition is None:
            made.append(each)
            continue
        parts, left = defined(each)
        ahead.extend(reversed(parts))
        # Under a condition, a phase belongs to that branch alone, where nobody can see it.
        if each.condition is None and left.radians:
            phase += left
    return phase, made


def _shared(wanted: Counter[Angle], epsilon: float) -> tuple[dict[Angle, float], float]:
    """How near each angle is to be synthesised, and the sum of the errors then.

    What a word does not use of its share is left to the ones after it.
    """
    left, room = wanted.total(), epsilon
    allowed = {}
    for angle, times in wanted.items():
        share = room / left
        check_epsilon(share)
        allowed[angle] = share
        room -= times * z_rotation(angle, share).error
        left -= times
    return allowed, epsilon - room


def _written(name: str, angle: Angle, allowed: dict[Angle, float]) -> tuple[tuple[str, ...], Angle]:
    """The gates of one rotation in order, and the global phase in front of them."""
    if angle.eighths is not None:
        return by_eighths(name, angle.eighths)
    word = z_rotation(angle, allowed[canonical(angle)])
    before, after = FRAMES[name]
    return (*before, *word.gates, *after), turn(word.phase)
