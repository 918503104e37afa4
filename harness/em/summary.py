"""What rows say together: errors by method and family, harm, and what changed between two runs.

Errors are shares of an observable's spread. Gains are geometric means over circuits, so that no
family outweighs others, with an interval from drawing circuits again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np

from harness.em.records.rows import Row

DRAWS: Final = 1000
ERROR_MIN: Final = 1e-3
"""Below, a ratio of errors is chance."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Of one method, or of one method and family.

    rmse, rmse_none: with and without it, at as many shots. gain: without / with, the geometric mean
    over circuits; low and high hold it in 95 % of draws. harm: share of rows farther off than none
    beyond noise. covered: share whose interval of 95 % holds the exact value.
    """

    method: str
    family: str
    rows: int
    circuits: int
    shots: float
    rmse: float
    rmse_none: float
    error_p95: float
    fidelity: float
    fidelity_none: float
    gain: float
    gain_low: float
    gain_high: float
    harm: float
    clipped: int
    covered: float
    notes: int


def lines(rows: Iterable[Row], *, by_family: bool = False) -> list[Line]:
    """One for each method, and for each family of it if asked."""
    parts: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        parts.setdefault((row.method_text, row.family if by_family else ""), []).append(row)
    return [_line(name, family, part) for (name, family), part in parts.items()]


def _line(name: str, family: str, rows: Sequence[Row]) -> Line:
    errors = np.array([row.error for row in rows])
    plain = np.array([row.unmitigated_error for row in rows])
    names = sorted({row.circuit_id for row in rows})
    ratios = np.array([_ratio([r for r in rows if r.circuit_id == name]) for name in names])
    rng = np.random.Generator(np.random.PCG64(1))
    drawn = rng.choice(ratios, (DRAWS, len(ratios))).mean(axis=1)
    low, high = np.exp(np.quantile(drawn, [0.025, 0.975]))
    return Line(
        method=name,
        family=family,
        rows=len(rows),
        circuits=len(names),
        shots=float(np.mean([row.shots for row in rows])),
        rmse=rms(errors),
        rmse_none=rms(plain),
        error_p95=float(np.quantile(errors, 0.95)),
        fidelity=float(np.mean([row.mitigated_fidelity for row in rows])),
        fidelity_none=float(np.mean([row.unmitigated_fidelity for row in rows])),
        gain=float(np.exp(ratios.mean())),
        gain_low=float(low),
        gain_high=float(high),
        harm=float(np.mean([row.harm for row in rows])),
        clipped=sum(row.clipped for row in rows),
        covered=float(np.mean([row.ci_low <= row.exact <= row.ci_high for row in rows])),
        notes=sum(bool(row.note) for row in rows),
    )


def rms(errors: np.ndarray | Sequence[float]) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(np.square(errors))))


def _ratio(rows: Sequence[Row]) -> float:
    """The logarithm of a circuit's gain."""
    plain = rms([row.unmitigated_error for row in rows])
    return math.log(max(plain, ERROR_MIN) / max(rms([row.error for row in rows]), ERROR_MIN))


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A row in two runs. sigmas: how much farther off it is in the second, in standard errors."""

    task: str
    backend: str
    method: str
    first: float
    second: float
    sigmas: float


def changes(first: Iterable[Row], second: Iterable[Row]) -> list[Change]:
    """Rows that both runs have, the one that got worse most first; equal ones are left out."""
    there = {(r.circuit_id, r.backend, r.method_text, r.repeat): r for r in first}
    found = []
    for row in second:
        other = there.get((row.circuit_id, row.backend, row.method_text, row.repeat))
        if other is None or other.value == row.value:
            continue
        noise = math.hypot(row.std_err, other.std_err) / row.spread
        found.append(
            Change(
                task=row.task,
                backend=row.backend,
                method=row.method_text,
                first=other.error,
                second=row.error,
                sigmas=(row.error - other.error) / max(noise, 1e-12),
            )
        )
    return sorted(found, key=lambda change: -change.sigmas)
