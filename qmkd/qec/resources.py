"""What a program costs: qubits, cycles, time, sources of T states, chance of failure.

Two answers side by side: Azure's closed forms (`azure.py`), and an estimate whose logical error
rates come from whoever measures them (`ErrorRates`). Both share the layout and the budget, so that
what differs is the machine underneath: rate, footprint, T states. Inverse questions are answered
from the rates alone. Whether a rate was measured or extrapolated travels with every answer. The
program's own compilation is not looked at; `python -m qmkd.qec` serves these answers to others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from qmkd.qec import azure
from qmkd.qec.azure import Budget, Counts, EstimateError, Limits
from qmkd.qec.factories import UNITS, Front, Patch
from qmkd.qec.magic import MagicSource, cultivation, distillery
from qvm.profiles import Profile, parse_profile

DISTANCE_MAX: Final = 49
SOURCES_TRIED_MAX: Final = 64  # numbers of sources between one and enough, for the frontier
NOISE_LEAST: Final = 1e-9
NOISE_TRIED: Final = tuple(NOISE_LEAST * 10**each for each in range(8))
"""Ascending: the weakest noise at which rates are known is looked for here."""
BISECTIONS: Final = 60


How = Literal["measured", "interpolated", "extrapolated"]


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Chance of a logical error of one logical qubit in d rounds, X and Z errors together.

    low, high: a 95 % interval, or the spread of a fit. how: whether it was measured at this
    distance and noise, or lies between or beyond what was. source: where it comes from.
    """

    value: float
    low: float
    high: float
    how: How
    source: str


class ErrorRates(Protocol):
    """Whoever knows logical error rates."""

    def rate(self, code: str, distance: int, p: float) -> Rate | None:
        """code: as in `Profile.code`. None where nothing is known."""


class PublishedLaw(msgspec.Struct, frozen=True, kw_only=True):
    """A law through published counts: `prefactor * (p / threshold)^((d+1)/2)` in d rounds, X and Z.

    Fitted to the 22 points with 5 <= d <= 15 and p <= 3e-3 of McEwen, Bacon and Gidney
    (arXiv:2302.02192; github.com/Strilanc/midout, assets/stats.csv): rotated surface code, uniform
    circuit noise with idling, correlated matching. The points lie within 0.63 and 1.82 of it. It
    stands in where our own table does not reach (`table_rates.py`).
    """

    prefactor: float = 0.566
    threshold: float = 0.0105
    spread: tuple[float, float] = (0.63, 1.82)
    p_max: float = 3e-3
    d_min: int = 5
    d_max: int = 15

    def rate(self, code: str, distance: int, p: float) -> Rate | None:
        """See `ErrorRates`; None for other codes, and for noise above `p_max`."""
        if code != "Surface" or distance < 3 or not 0 < p <= self.p_max:
            return None
        value = self.prefactor * (p / self.threshold) ** ((distance + 1) / 2)
        return Rate(
            value=value,
            low=self.spread[0] * value,
            high=self.spread[1] * value,
            how="interpolated" if self.d_min <= distance <= self.d_max else "extrapolated",
            source="law through published counts (arXiv:2302.02192)",
        )


class FirstThatKnows(msgspec.Struct, frozen=True):
    """Rates of several, the first that knows one. Tables are in `table_rates.py`."""

    several: tuple[ErrorRates, ...]

    def rate(self, code: str, distance: int, p: float) -> Rate | None:
        """See `ErrorRates`."""
        found = (each.rate(code, distance, p) for each in self.several)
        return next((rate for rate in found if rate is not None), None)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the program runs. p: strength of the noise that the rates are asked for.

    round_ns: one round of syndrome extraction. injected_error: of a T state before distillation;
    None: as p, which is Azure's assumption too.
    """

    code: str = "Surface"
    p: float = 1e-3
    round_ns: float = 1000.0
    injected_error: float | None = None


@lru_cache(maxsize=256)
def footprint(code: str, distance: int) -> Profile:
    """The block of a code at a distance, or at the next one it has. Raises EstimateError."""
    found = parse_profile(f"logical:{code}(d={distance})")
    if isinstance(found, str):
        raise EstimateError(found)
    return found


def distances(code: str) -> list[int]:
    """The distances that the code has, odd ones where it has all. Raises EstimateError."""
    found = {footprint(code, 2).distance}
    for each in range(3, DISTANCE_MAX + 1, 2):
        profile = parse_profile(f"logical:{code}(d={each})")
        if isinstance(profile, Profile):
            found.add(profile.distance)
    if 3 in found:
        found.discard(2)  # a code that has every distance is asked for odd ones
    return sorted(found)


def smallest_distance(
    rates: ErrorRates, code: str, p: float, error_wanted: float
) -> tuple[int, Rate]:
    """The smallest distance that errs no more than wanted in d rounds. Raises EstimateError."""
    for distance in distances(code):
        rate = rates.rate(code, distance, p)
        if rate is not None and rate.value <= error_wanted:
            return distance, rate
    raise EstimateError(
        f"no known distance of {code} errs as little as {error_wanted:.3g} at p={p:g}"
    )


def strongest_noise(rates: ErrorRates, code: str, distance: int, error_wanted: float) -> float:
    """The strongest noise at which this distance errs no more than wanted. Raises EstimateError."""

    def good(p: float) -> bool:
        rate = rates.rate(code, distance, p)
        return rate is not None and rate.value <= error_wanted

    known = (p for p in NOISE_TRIED if rates.rate(code, distance, p) is not None)
    low, high = next(known, NOISE_LEAST), 0.5
    if not good(low):
        raise EstimateError(f"{code} at d={distance} does not err as little as {error_wanted:.3g}")
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if good(middle) else (low, middle)
    return low


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run the program on a machine whose rates are known.

    cycles: logical cycles of `distance` rounds. block: footprint of the code. sources: how many of
    `source` run side by side; 0 where the program needs no T states.
    """

    counts: Counts
    budget: Budget
    machine: Machine
    distance: int
    rate: Rate
    block: Profile
    cycles: int
    source: MagicSource | None
    sources: int

    @property
    def runtime_ns(self) -> float:
        return self.cycles * self.distance * self.machine.round_ns

    @property
    def qubits_for_program(self) -> int:
        return self.block.physical(self.counts.tiles)

    @property
    def qubits_for_sources(self) -> int:
        return self.sources * self.source.qubits if self.source else 0

    @property
    def physical_qubits(self) -> int:
        return self.qubits_for_program + self.qubits_for_sources

    @property
    def failure(self) -> float:
        """Chance that anything goes wrong: logical errors, T states, rough rotations."""
        states = self.counts.states(self.budget.rotations)
        right = self.counts.tiles * self.cycles * math.log1p(-self.rate.value)
        if self.source is not None:
            right += states * math.log1p(-self.source.error)
        if self.counts.rotation_count:
            right += math.log1p(-self.budget.rotations)
        return -math.expm1(right)


def _source(
    machine: Machine, rates: ErrorRates, error_wanted: float, distance_max: int
) -> MagicSource:
    """The source of least qubit-rounds per state that is good enough. Raises EstimateError."""
    injected = machine.p if machine.injected_error is None else machine.injected_error
    patches = []
    for distance in distances(machine.code):
        rate = rates.rate(machine.code, distance, machine.p)
        if rate is not None and distance <= distance_max:
            block = footprint(machine.code, distance)
            patches.append(
                Patch(
                    distance=distance,
                    physical_qubits=math.ceil(block.block_physical / block.block),
                    cycle_ns=math.ceil(distance * machine.round_ns),
                    error=rate.value,
                )
            )
    first = [*_distilled(patches, injected), *_grown(machine, error_wanted)]
    second = [
        cascade
        for feed in [*_distilled(patches, injected), *_grown(machine, 1.0)]
        for cascade in _cascades(patches, feed)
    ]
    fit = [source for source in [*first, *second] if source.error <= error_wanted]
    if not fit:
        raise EstimateError(
            f"no source up to d={distance_max} makes T states that err by {error_wanted:.3g}"
        )
    return min(fit, key=lambda source: source.qubits * source.rounds_per_state)


def _grown(machine: Machine, error_wanted: float) -> list[MagicSource]:
    """Cultivation, which is published for the surface code."""
    found = cultivation(machine.p, error_wanted) if machine.code == "Surface" else None
    return [] if found is None else [found]


def _distilled(patches: Iterable[Patch], injected: float) -> list[MagicSource]:
    return [
        distillery(unit, patch, injected)
        for unit in UNITS
        for patch in patches
        if 356 * patch.error < 0.5
    ]


def _cascades(patches: Iterable[Patch], feed: MagicSource) -> list[MagicSource]:
    """15-to-1 fed by as many of `feed` as keep up with it."""
    found = []
    for unit in UNITS:
        for patch in patches:
            if 356 * patch.error >= 0.5 or feed.error > 0.05:
                continue
            last = distillery(unit, patch, feed.error)
            busy = unit.cycles_coded * patch.distance
            feeds = math.ceil(unit.inputs * feed.rounds_per_state / busy)
            found.append(
                MagicSource(
                    name=f"{feeds} x ({feed.name}) into {last.name}",
                    error=last.error,
                    qubits=feeds * feed.qubits + last.qubits,
                    rounds_per_state=last.rounds_per_state,
                    origin=f"{feed.origin}; then {last.origin}",
                )
            )
    return found


def _sources_needed(source: MagicSource, states: int, cycles: int, distance: int) -> int:
    return max(1, math.ceil(states * source.rounds_per_state / (cycles * distance)))


def measured_estimate(
    counts: Counts, budget: Budget, machine: Machine, rates: ErrorRates
) -> Measured:
    """The smallest distance that keeps the budget at the program's own depth, and its T states.

    Raises EstimateError.
    """
    _check(counts, budget)
    cycles = max(1, counts.depth(budget.rotations))
    states = counts.states(budget.rotations)
    distance, rate = smallest_distance(
        rates, machine.code, machine.p, budget.logical / (counts.tiles * cycles)
    )
    source, number = None, 0
    if states:
        source = _source(machine, rates, budget.states / states, DISTANCE_MAX)
        number = _sources_needed(source, states, cycles, distance)
    return Measured(
        counts=counts,
        budget=budget,
        machine=machine,
        distance=distance,
        rate=rate,
        block=footprint(machine.code, distance),
        cycles=cycles,
        source=source,
        sources=number,
    )


def at_distance(found: Measured, rates: ErrorRates, distance: int) -> Measured | None:
    """The same program, with the same sources, at another distance, whatever it fails with there.

    Enough sources run for the program not to wait. A code that lacks the distance takes the next
    one. None where no rate is known. Raises EstimateError where the code has no such distance.
    """
    machine = found.machine
    block = footprint(machine.code, distance)
    rate = rates.rate(machine.code, block.distance, machine.p)
    if rate is None:
        return None
    number = 0
    if found.source is not None:
        states = found.counts.states(found.budget.rotations)
        number = _sources_needed(found.source, states, found.cycles, block.distance)
    return msgspec.structs.replace(
        found, distance=block.distance, rate=rate, block=block, sources=number
    )


def measured_frontier(
    counts: Counts, budget: Budget, machine: Machine, rates: ErrorRates
) -> list[Measured]:
    """What no other choice of distance and number of sources beats, fastest first.

    Fewer sources make the program wait for T states, and waiting may need a larger distance.
    Raises EstimateError.
    """
    fastest = measured_estimate(counts, budget, machine, rates)
    if fastest.source is None:
        return [fastest]
    states = counts.states(budget.rotations)
    front: Front[Measured] = Front(lambda point: (point.physical_qubits, point.runtime_ns))
    for distance in distances(machine.code):
        rate = rates.rate(machine.code, distance, machine.p)
        if rate is None or distance < fastest.distance:
            continue
        enough = _sources_needed(fastest.source, states, fastest.cycles, distance)
        for number in _numbers(enough):
            wait = math.ceil(states * fastest.source.rounds_per_state / (number * distance))
            cycles = max(fastest.cycles, wait)
            if counts.tiles * cycles * rate.value <= budget.logical:
                front.add(
                    msgspec.structs.replace(
                        fastest,
                        distance=distance,
                        rate=rate,
                        block=footprint(machine.code, distance),
                        cycles=cycles,
                        sources=number,
                    )
                )
    return sorted(front.sorted(), key=lambda point: point.runtime_ns)


def _numbers(enough: int) -> Sequence[int]:
    """Numbers from 1 to `enough`: all, or a geometric choice of them."""
    if enough <= SOURCES_TRIED_MAX:
        return range(1, enough + 1)
    steps = SOURCES_TRIED_MAX - 1
    return sorted({round(enough ** (step / steps)) for step in range(steps + 1)})


def _check(counts: Counts, budget: Budget) -> None:
    """Refuse what has no estimate; Azure's conditions on counts and budget hold here too."""
    any_qubit = azure.QUBITS["qubit_gate_ns_e4"]
    azure.check(counts, any_qubit, azure.SURFACE_GATES, budget, Limits())
    if not counts.depth(budget.rotations) and not counts.states(budget.rotations):
        raise EstimateError("the program has neither measurements nor gates that cost anything")


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Both answers to one question; in place of an answer, the sentence that refuses it.

    optimism: how many times more often a logical qubit errs by the rates than by Azure's law, at
    Azure's distance; None where either does not say, or where Azure's law is not that of a surface
    code of gates, which the rates are of.
    """

    azure: azure.Estimate | str
    measured: Measured | str
    optimism: float | None


def compare(
    counts: Counts,
    budget: Budget,
    qubit: azure.Qubit,
    scheme: azure.Scheme,
    machine: Machine,
    rates: ErrorRates,
) -> Comparison:
    """Estimate the same program by the closed forms and from rates."""
    closed = _or_reason(lambda: azure.estimate(counts, qubit, scheme, budget))
    measured = _or_reason(lambda: measured_estimate(counts, budget, machine, rates))
    optimism = None
    if isinstance(closed, azure.Estimate) and scheme == azure.SURFACE_GATES:
        rate = rates.rate(machine.code, closed.patch.distance, machine.p)
        if rate is not None:
            optimism = rate.value / closed.patch.error
    return Comparison(azure=closed, measured=measured, optimism=optimism)


_Answer = TypeVar("_Answer")


def _or_reason(ask: Callable[[], _Answer]) -> _Answer | str:
    try:
        return ask()
    except EstimateError as error:
        return str(error)
