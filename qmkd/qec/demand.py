"""Points that a program needs and no table knows, measured when they are asked for.

A point is a code at a distance under a noise of some strength. What is measured is its memory, in
both bases; what gates err beyond the rounds they take needs far longer to tell from nothing. The
effort is stated and small, so rates are known to some 10 %. Seeds follow from what is measured
(`measuring.py`), so the same versions give the same counts, whoever asks and when.

`Layered` puts such points below what a table knows: they are used where the table reaches nowhere,
each for itself, and tell no law of others. So a job's rates do not depend on what else was
measured.
"""

from __future__ import annotations

from typing import Final

from qmkd.qec import noise
from qmkd.qec.calibration import ERRS, Answer, Basis, Entry, Key, NotKnown, Table
from qmkd.qec.codes.code import CodeError
from qmkd.qec.decoders import Undecodable
from qmkd.qec.measuring import CODES, Effort, measure_memory

COMMAND: Final = "measured when asked for"
EFFORT: Final = Effort(seconds=4.0, errors=800)
"""Of each experiment. There are two for each basis, and rarely more."""
RATE_MAX: Final = 0.05
"""Errors a round, beyond which a logical qubit is none, and its measured rate no estimate."""
BASES: Final[tuple[Basis, ...]] = ("Z", "X")


class Unmeasurable(ValueError):
    """The point cannot be measured with this effort; the sentence says why."""


def measure(
    code: str,
    distance: int,
    model: str,
    strength: float,
    gadget: str = "memory",
    effort: Effort = EFFORT,
) -> list[Entry]:
    """Everything that is measured of a point. Raises `Unmeasurable`."""
    if gadget != "memory":
        raise Unmeasurable(f"{gadget} is not measured when asked for")
    if code not in CODES or model not in noise.PRESETS:
        raise Unmeasurable(f"there is no code {code!r} or no noise {model!r}")
    try:
        made, errors = CODES[code](distance), noise.PRESETS[model](strength)
    except (CodeError, noise.NoiseError) as problem:
        raise Unmeasurable(str(problem)) from problem
    if not made.matchable:
        raise Unmeasurable(f"decoding {code} is too slow to measure it when asked for")
    memories: list[Entry] = []
    for basis in BASES:
        try:
            entry = measure_memory(made, errors, basis, effort)
        except Undecodable as problem:
            raise Unmeasurable(f"{code} under {model} noise: {problem}") from problem
        if entry is None:
            raise Unmeasurable(
                f"in the time that is spent on it, a memory of {code} d={distance} under {model} "
                f"noise of {strength:g} shows too few errors to tell, or nothing else"
            )
        if not entry.terms[0].high <= RATE_MAX:  # what has forgotten all has no number
            raise Unmeasurable(
                f"a memory of {code} d={distance} under {model} noise of {strength:g} errs more "
                f"often than once in {1 / RATE_MAX:.0f} rounds"
            )
        memories.append(entry)
    return memories


class Layered(Table):
    """What a table knows and, where that reaches nowhere, points that were measured since."""

    def __init__(self, table: Table, points: Table) -> None:
        super().__init__(table.entries.values(), table.versions)
        self._points = points

    def look_up(self, code: str, distance: int, noise: str, p: float, gadget: str) -> Answer:
        """As `Table.look_up`; of points only what was measured at that very one."""
        try:
            return super().look_up(code, distance, noise, p, gadget)
        except NotKnown:
            keys = (Key(code, distance, noise, p, gadget, basis) for basis in ERRS)
            if not all(key in self._points.entries for key in keys):
                raise
            return self._points.look_up(code, distance, noise, p, gadget)
