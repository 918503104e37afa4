"""T states: what factories give in a cycle, and how much longer a program takes for want of them.

Assumptions. Factories that are alike work out of step, evenly, so F of them are one that is F times
as fast; factories that differ are taken for one of their rate altogether. An attempt takes
`accepted * cycles` cycles, gives a state with the chance `accepted`, else nothing, and all are
independent. States wait in a store without limit, do not age, and go to the program in the order in
which it wants them. A program that waits stands still. With `accepted` 1, which is what a machine's
description knows, nothing is random.

Under these, the k-th state of one shot is there after a sum of k independent geometric times, and
what the shot waits is the largest lead of these sums over the program's own times. Its mean is
taken by the formulas of Clark (Operations Research 9, 145 (1961)) for the larger of two normal
numbers, one state after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import msgspec

from qvm.machine import Hardware
from qvm.program import VerifiedProgram
from runtime.jit.factories.queue import waited
from runtime.jit.factories.schedule import Schedule, earliest, magic_steps

_NORMAL: Final = NormalDist()


class Factories(msgspec.Struct, frozen=True):
    """All T factories of a machine as one.

    interval: mean cycles between two T states. accepted: chance that an attempt gives one.
    """

    interval: float
    accepted: float = 1.0

    @property
    def throughput(self) -> float:
        """T states a cycle."""
        return 1 / self.interval

    @property
    def variance(self) -> float:
        """Of the cycles between two T states."""
        return self.interval**2 * (1 - self.accepted)


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What a program's T states come to on a machine, in cycles.

    states: consumed if every guard holds. asap: of a shot if states were always there. first: mean
    of one shot that begins with no state in store; waited: of these, for states. steady: mean of
    each of many shots in a row, where states that one shot leaves serve the next ones. slowed:
    whether that is more than `asap`. throughput: T states a cycle, None without limit.
    """

    states: int
    asap: int
    first: float
    waited: float
    steady: float
    slowed: bool
    throughput: float | None


def factories(hardware: Hardware, accepted: float = 1.0) -> Factories | None:
    """Those of the machine; None where T states are without limit."""
    assert 0 < accepted <= 1
    if not hardware.factory:
        return None
    rate = sum(each.number / each.cycles for each in hardware.factory)
    return Factories(1 / rate, accepted)


def throughput(hardware: Hardware) -> float | None:
    """T states that the machine's factories give in a cycle; None without limit."""
    found = factories(hardware)
    return None if found is None else found.throughput


def waiting(
    program: VerifiedProgram, hardware: Hardware, *, accepted: float = 1.0, share: float = 1.0
) -> Waiting:
    """What the program waits for T states on the machine.

    accepted: chance that an attempt of a factory gives a state. share: of all states, for a program
    that is not alone.
    """
    assert 0 < share <= 1
    schedule = earliest(program)
    distance = max((1, *(each.distance for each in program.summary.profiles)))
    asap = schedule.steps * distance
    due = due_cycles(program, schedule, distance)
    all_of_them = factories(hardware, accepted)
    if all_of_them is None or not due:
        return Waiting(
            states=len(due), asap=asap, first=asap, waited=0.0, steady=asap, slowed=False,
            throughput=None if all_of_them is None else all_of_them.throughput * share,
        )  # fmt: skip
    ours = Factories(all_of_them.interval / share, accepted)
    wait = mean_wait(due, ours)
    steady = max(float(asap), len(due) * ours.interval)
    return Waiting(
        states=len(due),
        asap=asap,
        first=asap + wait,
        waited=wait,
        steady=steady,
        slowed=steady > asap,
        throughput=ours.throughput,
    )


def due_cycles(program: VerifiedProgram, schedule: Schedule, distance: int) -> list[float]:
    """When each T state is wanted, in cycles from the start of a shot; ascending."""
    return [float(step * distance) for step in magic_steps(program, schedule)]


def mean_wait(due: Sequence[float], made: Factories) -> float:
    """Mean cycles that one shot is longer for want of T states, from an empty store."""
    if made.accepted == 1:
        return waited(due, made.interval)
    # `longest` is the largest lead of supply over demand so far, `lead` the latest one.
    longest = spread = shared = 0.0
    for number, when in enumerate(due, start=1):
        lead, variance = number * made.interval - when, number * made.variance
        longest, spread, shared = _larger(longest, spread, lead, variance, shared)
    return longest


def _larger(
    one: float, spread: float, other: float, variance: float, shared: float
) -> tuple[float, float, float]:
    """Mean and variance of the larger of two normal numbers, and its covariance with the second.

    one, spread: mean and variance of the first; other, variance: of the second; shared: covariance.
    """
    apart = math.sqrt(max(0.0, spread + variance - 2 * shared))
    if apart == 0:
        return (one, spread, shared) if one >= other else (other, variance, variance)
    ratio = (one - other) / apart
    first, second = _NORMAL.cdf(ratio), _NORMAL.cdf(-ratio)
    density = _NORMAL.pdf(ratio)
    mean = one * first + other * second + apart * density
    square = (
        (one**2 + spread) * first + (other**2 + variance) * second + (one + other) * apart * density
    )
    return mean, max(0.0, square - mean**2), shared * first + variance * second
