"""What of a circuit may be rewritten: its unitary stretches, each small enough for an engine.

A stretch holds gates alone: no measurement, reset, barrier or fence, and nothing under a condition.
Those stay as they are, in their order; a gate may only change places with them where it shares no
qubit with them nor with anything that has to stay behind them. Read `portfolio.py` next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from runtime.jit.angles import DENOMINATOR_MAX, Angle
from runtime.jit.circuit import Operation
from runtime.jit.costs import ROTATIONS
from runtime.jit.gates import FRAMES, GATES, by_eighths

GATES_MAX: Final = 1500
"""In one stretch. Engines are quadratic or worse; bounded stretches keep the whole linear."""
QUBITS_MAX: Final = 16
"""In one stretch: as many as a state can be followed for at any time."""


class Stretch(msgspec.Struct, frozen=True):
    """Gates on qubits 0, 1, ..., which stand for `qubits` of the circuit."""

    qubits: tuple[int, ...]
    gates: tuple[Operation, ...]


def cut(
    operations: Sequence[Operation], gates: int = GATES_MAX, qubits: int = QUBITS_MAX
) -> Iterator[Stretch | Operation]:
    """The operations in an order that means the same: stretches, and what stands between them.

    gates, qubits: of one stretch, at most.

    Every gate is one that an engine knows (`about_z`).
    """
    assert gates >= 1
    assert qubits >= 2
    ahead = list(reversed(operations))
    while ahead:
        taken, held = _pass(ahead, gates, qubits)
        if taken:
            yield _numbered(taken)
        ahead.extend(reversed(held))
        while ahead and not _rewritable(ahead[-1]):
            yield ahead.pop()


def _pass(
    ahead: list[Operation], gates: int, qubits: int
) -> tuple[list[Operation], list[Operation]]:
    """Takes up to `gates` operations off `ahead`: a stretch, and what has to stay behind it."""
    taken: list[Operation] = []
    held: list[Operation] = []
    inside: set[int] = set()
    blocked: set[int] = set()
    for _ in range(min(gates, len(ahead))):
        each = ahead.pop()
        if not each.qubits and each.name in ("barrier", "fence"):
            held.append(each)
            break
        if _rewritable(each) and blocked.isdisjoint(each.qubits):
            wider = inside.union(each.qubits)
            if len(wider) <= qubits:
                inside = wider
                taken.append(each)
                continue
        held.append(each)
        blocked.update(each.qubits)
    return taken, held


def _rewritable(each: Operation) -> bool:
    return each.condition is None and each.name in GATES


def _numbered(gates: Sequence[Operation]) -> Stretch:
    qubits = tuple(sorted({qubit for each in gates for qubit in each.qubits}))
    place = {qubit: at for at, qubit in enumerate(qubits)}
    made = (
        Operation(each.name, tuple(place[qubit] for qubit in each.qubits), each.angles)
        for each in gates
    )
    return Stretch(qubits, tuple(made))


def about_z(operations: Iterable[Operation]) -> Iterator[Operation]:
    """The operations with all rotations about Z, and multiples of pi/4 as Clifford and T gates."""
    for each in operations:
        if each.name not in ROTATIONS:
            yield each
            continue
        eighths = each.angles[0].eighths
        if eighths is not None:
            for name in by_eighths(each.name, eighths)[0]:
                yield msgspec.structs.replace(each, name=name, angles=())
            continue
        before, after = FRAMES[each.name]
        for name in (*before, "rz", *after):
            angles = each.angles if name == "rz" else ()
            yield msgspec.structs.replace(each, name=name, angles=angles)


def placed(stretch: Stretch, gates: Sequence[Operation]) -> Iterator[Operation]:
    """Gates on the stretch's numbers, on the circuit's qubits.

    Engines reckon with floats as with the fractions that they are; here they are floats again.
    """
    for each in gates:
        angles = tuple(value if _known(value) else Angle(value.radians) for value in each.angles)
        yield Operation(each.name, tuple(stretch.qubits[at] for at in each.qubits), angles)


def _known(value: Angle) -> bool:
    return value.of_pi is not None and value.of_pi.denominator <= DENOMINATOR_MAX
