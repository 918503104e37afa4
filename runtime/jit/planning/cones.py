"""A bound on how often errors are seen, for programs too large to be followed: light cones.

Backwards through the program, of each qubit it is known whether an X or a Z there could change any
outcome of a measurement from there on. Errors that could are counted, all others are not. That is
an upper bound on the total variation from the ideal distribution: errors may cancel, may be
corrected by the program itself, or change outcomes that are random anyway. Linear in the program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from qvm.program import Step
from runtime.jit.planning.timeline import Factors, Letters, Timeline, chances


class Seen(NamedTuple):
    """Whether an X, or a Z, could change an outcome."""

    x: bool
    z: bool

    def of(self, letter: str) -> bool:
        """Y is both, and could as soon as either could."""
        return (self.x and letter in "XY") or (self.z and letter in "YZ")


UNSEEN: Final = Seen(False, False)
AT_ONCE: Final = 1 << 14
_LETTERS: Final = {
    seen: tuple(seen.of(letter) for letter in Letters)
    for seen in (Seen(x, z) for x in (False, True) for z in (False, True))
}


def _any(one: Seen, two: Seen) -> Seen:
    return Seen(one.x or two.x, one.z or two.z)


def _mixed(seen: Seen) -> Seen:
    either = seen.x or seen.z
    return Seen(either, either)


_ONE: Final[Mapping[str, Callable[[Seen], Seen]]] = {
    "APPLY_H": lambda after: Seen(after.z, after.x),
    "APPLY_RX": lambda after: Seen(after.x, after.x or after.z),
    "APPLY_RY": _mixed,
    "MEASURE_Z": lambda after: Seen(True, False),
    "MEASURE_X": lambda after: Seen(False, True),
    "MEASURE_Y": lambda after: Seen(True, True),
    "MEASURE_ANGLE": lambda after: Seen(True, True),
    "RESET": lambda after: UNSEEN,
    "INJECT_T_STATE": lambda after: UNSEEN,
    "ALLOC_LQ": lambda after: UNSEEN,
    "FREE_LQ": lambda after: UNSEEN,
    **dict.fromkeys(
        ("APPLY_S", "APPLY_SDG", "APPLY_T", "APPLY_TDG", "APPLY_RZ"),
        lambda after: Seen(after.x or after.z, after.z),
    ),
}
"""What is seen before an operation, by what is seen behind it."""

_Pair = tuple[Seen, Seen]


def _cnot(control: Seen, target: Seen) -> _Pair:
    return Seen(control.x or target.x, control.z), Seen(target.x, target.z or control.z)


_TWO: Final[Mapping[str, Callable[[Seen, Seen], _Pair]]] = {
    "APPLY_CNOT": _cnot,
    "TELEPORT_CNOT": _cnot,
    "APPLY_CZ": lambda a, b: (Seen(a.x or b.z, a.z), Seen(b.x or a.z, b.z)),
    "APPLY_SWAP": lambda a, b: (b, a),
    "MEASURE_BELL": lambda a, b: (Seen(True, True), Seen(True, True)),
}


def seen_errors(line: Timeline) -> Factors:
    """Of each choice of codes, at most the chance that any error of a shot is seen."""
    spared = _Spared(line.codes)
    seen: dict[int, Seen] = {}
    for step, around in zip(reversed(line.steps), reversed(line.around), strict=True):
        for strike in around.struck:
            spared.add(strike.factors, [seen.get(qubit, UNSEEN) for qubit in strike.qubits])
        for qubit, factors in around.after.items():
            spared.add(factors, [seen.get(qubit, UNSEEN)])
        _back(step, seen)
        for qubit, factors in around.before.items():
            spared.add(factors, [seen.get(qubit, UNSEEN)])
    found: Factors = -np.expm1(spared.total())
    return found


class _Spared:
    """Logarithms of the chances that nothing strikes that is seen, added up many at a time."""

    def __init__(self, codes: int) -> None:
        self.sum = np.zeros(codes)
        self.waiting: dict[int, list[tuple[Factors, tuple[bool, ...]]]] = {1: [], 2: []}

    def add(self, factors: Factors, seen: Sequence[Seen]) -> None:
        letters = [_LETTERS[each] for each in seen]
        mask = letters[0]
        if len(letters) == 2:
            mask = tuple(a or b for a in letters[0] for b in letters[1])
        if any(mask):
            waiting = self.waiting[len(letters)]
            waiting.append((factors, mask))
            if len(waiting) >= AT_ONCE:
                self._flush(waiting)

    def total(self) -> Factors:
        for waiting in self.waiting.values():
            self._flush(waiting)
        return self.sum

    def _flush(self, waiting: list[tuple[Factors, tuple[bool, ...]]]) -> None:
        if waiting:
            factors, masks = (np.array(each) for each in zip(*waiting, strict=True))
            struck = (chances(factors) * masks[:, None, :]).sum(axis=2)
            self.sum += np.log1p(-np.minimum(struck, 1 - 1e-12)).sum(axis=0)
            waiting.clear()


def _back(step: Step, seen: dict[int, Seen]) -> None:
    """What is seen before the step."""
    behind = [seen.get(qubit, UNSEEN) for qubit in step.qubits]
    if step.op in _TWO:
        before = list(_TWO[step.op](*behind))
    elif step.op in _ONE:
        before = [_ONE[step.op](each) for each in behind]
    else:
        before = behind  # Paulis, and what touches no state
    for qubit, new, old in zip(step.qubits, before, behind, strict=True):
        seen[qubit] = _any(new, old) if step.guard is not None else new
