"""One rotation about Z in Clifford and T gates, as near as is asked.

The search is Ross and Selinger's (arXiv:1403.2975), by Qiskit's library, which is loaded when it is
first needed. What comes back is trusted for nothing: every word is multiplied out in exact
arithmetic, and its error is that of the product. Read `clifford_t.py` for whole circuits.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from runtime.jit.angles import Angle, turn
from runtime.jit.gates import by_eighths

EPSILON_MIN: Final = 1e-14
"""Of one rotation: below it, an angle's own rounding as a float is no longer small beside it."""
EPSILON_MAX: Final = 1.0
WORDS_MAX: Final = 1 << 14

INVERSES: Final = {
    "h": "h", "x": "x", "y": "y", "z": "z", "s": "sdg", "sdg": "s", "t": "tdg", "tdg": "t",
}  # fmt: skip
_EIGHTHS: Final = {"z": 4, "s": 2, "sdg": 6, "t": 1, "tdg": 7}


class Unreachable(Exception):
    """The precision asked for is beyond what can be synthesised; the sentence says by how much."""


class Word(NamedTuple):
    """gates: in the order in which they are carried out. t_count: T and inverse T among them.

    error: operator norm of the difference from the rotation, at the global phase that is best.
    phase: of pi; e^(i pi phase) times the product of the gates is nearest to the rotation.
    """

    gates: tuple[str, ...]
    t_count: int
    error: float
    phase: Fraction


def z_rotation(angle: Angle, epsilon: float) -> Word:
    """exp(-i angle Z/2) within `epsilon`; exactly, with a T gate at most, for multiples of pi/4.

    Raises `Unreachable` where epsilon is below EPSILON_MIN, except for those multiples.
    """
    if angle.eighths is not None:
        gates, phase = by_eighths("rz", angle.eighths)
        assert phase.of_pi is not None, "multiples of pi/4 leave multiples of pi/8"
        return Word(gates, sum(each in ("t", "tdg") for each in gates), 0.0, phase.of_pi)
    quarters, part = _reduced(angle)
    word = _searched(
        Angle(abs(part.radians), None if part.of_pi is None else abs(part.of_pi)), epsilon
    )
    gates = word.gates if part.radians >= 0 else _undone(word.gates)
    clifford, _ = by_eighths("rz", 2 * quarters)
    return _measured((*clifford, *gates), angle)


def check_epsilon(epsilon: float) -> None:
    """Raises `Unreachable` where no rotation can be synthesised that near."""
    if not EPSILON_MIN <= epsilon < math.inf:
        raise Unreachable(
            f"a rotation can be synthesised within {EPSILON_MIN:g} at best; {epsilon:g} is asked"
        )


def canonical(angle: Angle) -> Angle:
    """The angle between 0 and pi/4 whose word, or the inverse of it, serves this one too."""
    _, part = _reduced(angle)
    return -part if part.radians < 0 else part


def _reduced(angle: Angle) -> tuple[int, Angle]:
    """angle = quarters * pi/2 + part, with part from -pi/4 to pi/4."""
    if angle.of_pi is not None:
        quarters = round(angle.of_pi * 2)
        return quarters, turn(angle.of_pi - Fraction(quarters, 2))
    quarters = round(angle.radians / (math.pi / 2))
    return quarters, Angle(math.remainder(angle.radians, math.pi / 2))


def _undone(gates: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(INVERSES[each] for each in reversed(gates))


@lru_cache(maxsize=WORDS_MAX)
def _searched(angle: Angle, epsilon: float) -> Word:
    """The word for an angle from 0 to pi/4."""
    # Qiskit is an optional extra, and heavy to import.
    from qiskit.synthesis import gridsynth_rz

    check_epsilon(epsilon)
    reach = min(epsilon, EPSILON_MAX)
    # The library means the distance of the channels, 2 sin(a) for eigenvalues e^(+-ia); the norm of
    # the difference is 2 sin(a/2). Asked for the latter's value, it finds words half as far away as
    # they may be, with three T gates too many.
    for asked in (2 * reach * math.sqrt(1 - reach * reach / 4), reach):
        found = gridsynth_rz(angle.radians, asked)
        gates = tuple(each.operation.name for each in found.data)
        word = _measured(gates, angle)
        if word.error <= epsilon:
            return word
    raise Unreachable(f"no word within {epsilon:g} of {angle.radians!r}: {word.error:g} at best")


def _measured(gates: tuple[str, ...], angle: Angle) -> Word:
    """The word with its error and phase, from the product of its gates in Z[i, sqrt(2)]."""
    upper, lower, halvings, eighths = _column(gates)
    scale = math.sqrt(2.0) ** -halvings
    # A unitary is its first column (u, t) and its determinant, here e^(i pi eighths / 4).
    half = math.pi * eighths / 8
    u = _complex(upper, scale) * complex(math.cos(half), -math.sin(half))
    turned = u * complex(math.cos(angle.radians / 2), math.sin(angle.radians / 2))
    sine = math.hypot(turned.imag, abs(_complex(lower, scale)))
    cosine = abs(turned.real)
    return Word(
        gates,
        sum(each in ("t", "tdg") for each in gates),
        2 * math.sin(math.atan2(sine, cosine) / 2),
        Fraction(-eighths, 8) + (1 if turned.real < 0 else 0),
    )


_Ring = tuple[int, int, int, int]
"""a + b w + c w^2 + d w^3 with w = e^(i pi/4)."""


def _column(gates: tuple[str, ...]) -> tuple[_Ring, _Ring, int, int]:
    """First column of the product, times sqrt(2)^halvings; log of the determinant to base w."""
    upper: _Ring = (1, 0, 0, 0)
    lower: _Ring = (0, 0, 0, 0)
    halvings = eighths = 0
    for gate in gates:
        if gate == "h":
            upper, lower = _sum(upper, lower, 1), _sum(upper, lower, -1)
            halvings += 1
            eighths += 4
        elif gate == "x":
            upper, lower = lower, upper
            eighths += 4
        elif gate == "y":
            upper, lower = _turned(lower, 6), _turned(upper, 2)
            eighths += 4
        else:
            lower = _turned(lower, _EIGHTHS[gate])
            eighths += _EIGHTHS[gate]
    return upper, lower, halvings, eighths % 8


def _sum(one: _Ring, other: _Ring, sign: int) -> _Ring:
    a, b, c, d = one
    e, f, g, h = other
    return (a + sign * e, b + sign * f, c + sign * g, d + sign * h)


def _turned(value: _Ring, eighths: int) -> _Ring:
    """Times w^eighths."""
    for _ in range(eighths):
        a, b, c, d = value
        value = (-d, a, b, c)
    return value


def _complex(value: _Ring, scale: float) -> complex:
    a, b, c, d = value
    root = math.sqrt(0.5)
    return complex((a + (b - d) * root) * scale, (c + (b + d) * root) * scale)
