"""Angles of gates: radians, and the exact multiple of pi where there is one.

Holds the one type and how it is reckoned with. Lowering asks `of_pi` whether a rotation is exactly
a Clifford or T gate; nothing else decides that.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import Final

import msgspec

DENOMINATOR_MAX: Final = 1 << 16
"""Of a multiple of pi that is recognised in a float."""

_CLOSE: Final = 4 * 2.0**-53


class Angle(msgspec.Struct, frozen=True, gc=False):
    """radians: as a float. of_pi: the angle divided by pi, or None where no rational is known."""

    radians: float
    of_pi: Fraction | None = None

    def __neg__(self) -> Angle:
        return Angle(-self.radians, None if self.of_pi is None else -self.of_pi)

    def __add__(self, other: Angle) -> Angle:
        if self.of_pi is None or other.of_pi is None:
            return Angle(self.radians + other.radians)
        return turn(self.of_pi + other.of_pi)

    def __sub__(self, other: Angle) -> Angle:
        return self + -other

    def __mul__(self, factor: int | Fraction) -> Angle:
        if self.of_pi is None:
            return Angle(self.radians * factor.numerator / factor.denominator)
        return turn(self.of_pi * factor)

    def __truediv__(self, divisor: int) -> Angle:
        return self * Fraction(1, divisor)

    @property
    def eighths(self) -> int | None:
        """How often the angle holds pi/4, where that is a whole number; else None."""
        if self.of_pi is None:
            return None
        times = self.of_pi * 4
        return times.numerator if times.denominator == 1 else None


def turn(of_pi: Fraction | int) -> Angle:
    """The angle that is this multiple of pi."""
    return Angle(math.pi * of_pi.numerator / of_pi.denominator, Fraction(of_pi))


ZERO: Final = turn(0)


@lru_cache(maxsize=4096)
def angle(radians: float) -> Angle:
    """The angle of a float, which is taken for a multiple of pi where it can hardly be another.

    That is k pi / d with d a divisor of 2^16, or at most 64, to four units in the last place:
    what is lost so is as small as what the float has lost already. Raises ValueError where the
    float is not finite.
    """
    if not math.isfinite(radians):
        raise ValueError(f"{radians} is no angle")
    ratio = radians / math.pi
    for near in (Fraction(ratio).limit_denominator(64), _binary(ratio)):
        if abs(float(near) - ratio) <= _CLOSE * abs(ratio):
            return Angle(radians, near)
    return Angle(radians)


def _binary(ratio: float) -> Fraction:
    return Fraction(round(ratio * DENOMINATOR_MAX), DENOMINATOR_MAX)
