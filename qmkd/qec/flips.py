"""Chances of flips that add up: the scale on which rounds are counted. Pure, and light to load."""

from __future__ import annotations

import math


def to_log(chance: float) -> float:
    """-ln(1 - 2 chance) / 2, which adds up over independent flips. Infinite from 1/2 on."""
    return math.inf if chance >= 0.5 else -math.log1p(-2 * chance) / 2


def from_log(length: float) -> float:
    """The chance that `to_log` makes this of."""
    return 0.5 if math.isinf(length) else -math.expm1(-2 * length) / 2
