"""More noise by digital folding: gates followed by their inverses (arXiv:2005.10921).

Global folding repeats the whole circuit, U (U+ U)^k, and a last part of it for scales between odd
numbers. Local folding repeats gates one by one, so that waits grow evenly. Measurements and turns
of the frame (`tasks.VIRTUAL`) add no noise; the former are never folded, the latter not by
themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from harness.em.circuits.tasks import VIRTUAL
from runtime.jit.circuit import Circuit, Operation
from runtime.jit.gates import inverted

SCALE_MAX: Final = 25.0
_OWN_INVERSE: Final = frozenset({"x", "y", "z", "h", "cx", "cz", "swap"})
FOLDINGS: Final = ("global", "local")


class CannotFold(Exception):
    """This scale cannot be had; says why."""


def undo(operations: Sequence[Operation]) -> list[Operation]:
    """The gates that undo these, in their order."""
    return [_undone(each) for each in reversed(operations)]


def _undone(each: Operation) -> Operation:
    if each.name in _OWN_INVERSE:
        return each
    name, angles = inverted(each.name, each.angles)
    return Operation(name, each.qubits, angles)


def folded(body: Circuit, scale: float, how: str = "global", seed: int = 0) -> Circuit:
    """The same unitary with `scale` times the noisy gates, as nearly as whole gates allow.

    seed: which gates local folding takes where not all are taken alike. Raises CannotFold.
    """
    if not 1 <= scale <= SCALE_MAX:
        raise CannotFold(f"Noise is scaled by 1 to {SCALE_MAX:g}, not by {scale:g}.")
    gates = body.operations
    if scale == 1:
        return body
    if how == "global":
        return body.with_operations(_globally(gates, scale))
    if how == "local":
        return body.with_operations(_locally(gates, scale, seed))
    raise CannotFold(f"Folding is {' or '.join(FOLDINGS)}, not {how!r}.")


def noisy(operations: Sequence[Operation]) -> int:
    """How many of them err."""
    return sum(each.name not in VIRTUAL for each in operations)


def _globally(gates: Sequence[Operation], scale: float) -> list[Operation]:
    whole = int((scale - 1) // 2)
    back = undo(gates)
    made = list(gates)
    for _ in range(whole):
        made += back
        made += gates
    last = round((scale - 1 - 2 * whole) / 2 * noisy(gates))
    if last:
        # The circuit's last gates, undone and done again.
        start, seen = len(gates), 0
        while seen < last:
            start -= 1
            seen += gates[start].name not in VIRTUAL
        made += back[: len(gates) - start]
        made += gates[start:]
    return made


def _locally(gates: Sequence[Operation], scale: float, seed: int) -> list[Operation]:
    whole = int((scale - 1) // 2)
    places = [at for at, each in enumerate(gates) if each.name not in VIRTUAL]
    more = round((scale - 1 - 2 * whole) / 2 * len(places))
    rng = np.random.Generator(np.random.PCG64(seed))
    chosen = set(rng.choice(places, size=more, replace=False).tolist()) if more else set()
    times = dict.fromkeys(places, whole)
    for at in chosen:
        times[at] += 1
    made: list[Operation] = []
    for at, each in enumerate(gates):
        made.append(each)
        if number := times.get(at, 0):
            made += [_undone(each), each] * number
    return made
