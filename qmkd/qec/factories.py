"""T factories of the Azure Quantum Resource Estimator: rounds of 15-to-1, searched exhaustively.

A factory is a pipeline of rounds; each round runs copies of one distillation unit on patches of one
distance. The search looks at every sequence of units and, by bisection and then by walking along
the border, at the distances that reach the wanted error, and keeps what is best in qubits per state
or in time. Model: Beverland et al., arXiv:2211.07629, appendix C. The order of the search, and with
it the choice among equals, is that of `qdk` 1.33.1, so that results agree field by field; see
`azure.py`. What real distillation circuits do is in `magic.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product
from statistics import NormalDist
from typing import Final, Generic, TypeVar

import msgspec

ROUNDS_MAX: Final = 3
ROUNDS_EXTRA_MAX: Final = 4  # tried where no factory of up to ROUNDS_MAX rounds is good enough
FAILURE_MAX: Final = 0.01  # chance that a factory yields too few states, shared among its rounds
UNITS_MAX: Final = 10**15
FILTER_EVERY: Final = 1000
UNITS_LARGE: Final = 1000  # from here on the estimator's library approximates binomial quantiles
VARIANCE_LARGE: Final = 80.0

_Item = TypeVar("_Item")

assert ROUNDS_MAX <= ROUNDS_EXTRA_MAX


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One way to distil: 15 states in, one out, on bare qubits or on patches.

    qubits and cycles: of a unit on bare qubits (T gate times), and on patches (logical cycles).
    """

    name: str
    inputs: int
    outputs: int
    qubits_bare: int
    cycles_bare: int
    qubits_coded: int
    cycles_coded: int


UNITS: Final = (
    Unit(
        name="15-to-1 RM prep",
        inputs=15,
        outputs=1,
        qubits_bare=31,
        cycles_bare=24,
        qubits_coded=31,
        cycles_coded=11,
    ),
    Unit(
        name="15-to-1 space efficient",
        inputs=15,
        outputs=1,
        qubits_bare=12,
        cycles_bare=45,
        qubits_coded=20,
        cycles_coded=13,
    ),
)


def unit_failure(input_error: float, clifford_error: float) -> float:
    """Chance that a 15-to-1 unit rejects, to first order."""
    return 15.0 * input_error + 356.0 * clifford_error


def unit_output(input_error: float, clifford_error: float) -> float:
    """Error of the state that a 15-to-1 unit gives, to leading order."""
    return 35.0 * (input_error * input_error * input_error) + 7.1 * clifford_error


class Patch(msgspec.Struct, frozen=True, kw_only=True):
    """A logical qubit at some distance, as the search sees it; cycle_ns is one logical cycle."""

    distance: int
    physical_qubits: int
    cycle_ns: int
    error: float


class Bare(msgspec.Struct, frozen=True, kw_only=True):
    """What the search must know of the physical qubits."""

    t_gate_ns: int
    t_error: float
    clifford_error: float


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One round: so many copies of a unit at one distance (1 in the first round: bare qubits)."""

    name: str
    units: int
    distance: int
    unit_qubits: int
    duration_ns: int
    inputs: int

    @property
    def physical_qubits(self) -> int:
        return self.units * self.unit_qubits


class Factory(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline of rounds that share their qubits.

    states: T states that one run yields, save with a chance of FAILURE_MAX. error: of each.
    """

    rounds: tuple[Round, ...]
    states: int
    error: float

    @property
    def physical_qubits(self) -> int:
        return max(each.physical_qubits for each in self.rounds)

    @property
    def duration_ns(self) -> int:
        return sum(each.duration_ns for each in self.rounds)

    @property
    def inputs(self) -> int:
        return self.rounds[0].inputs * self.rounds[0].units

    @property
    def distance_last(self) -> int:
        return self.rounds[-1].distance

    @property
    def qubits_per_state(self) -> float:
        return self.physical_qubits / self.states

    @property
    def volume_per_state(self) -> float:
        return (self.physical_qubits * self.duration_ns) / self.states


def trivial_factory(patch: Patch, t_error: float) -> Factory:
    """For states that are good enough as they are: a patch to hold them."""
    only = Round(
        name="trivial 1-to-1",
        units=1,
        distance=patch.distance,
        unit_qubits=patch.physical_qubits,
        duration_ns=patch.cycle_ns,
        inputs=1,
    )
    return Factory(rounds=(only,), states=1, error=t_error)


@lru_cache(maxsize=1 << 14)
def yield_of(units: int, failure: float, shortfall: float) -> int:
    """How many of `units` succeed at least, but for a chance of `shortfall`.

    The smallest x with P(successes <= x) >= shortfall, each failing with chance `failure`. From
    UNITS_LARGE on it is what the estimator's library for distributions returns in its place.
    """
    if units < UNITS_LARGE:
        return _quantile(units, failure, shortfall)
    if units * (1 - failure) * failure > VARIANCE_LARGE:
        return _yield_expanded(units, 1 - failure, shortfall)
    return _yield_from_mode(units, failure, shortfall)


def _quantile(units: int, failure: float, shortfall: float) -> int:
    # Summed from the end whose first term is the larger, which is never too small for a number.
    if failure > 0.5:
        total = term = math.exp(units * math.log(failure))
        successes = 0
        while total < shortfall and successes < units:
            successes += 1
            term *= (units - successes + 1) / successes * (1 - failure) / failure
            total += term
        return successes
    # P(successes <= x) >= s is P(failures <= units - x - 1) <= 1 - s.
    total = term = math.exp(units * math.log1p(-failure))
    failures = 0
    while total <= 1 - shortfall and failures < units:
        failures += 1
        term *= (units - failures + 1) / failures * failure / (1 - failure)
        total += term
    return units - failures


def _yield_from_mode(units: int, failure: float, shortfall: float) -> int:
    """Newton's method from the mode, which stops within half a step of the quantile.

    Between two neighbours that each point to the other, the one with the shorter step. Where the
    steps go round among more (the estimator then never answers), the quantile itself.
    """
    from scipy.special import bdtr  # half a second, for what few questions come to

    success = 1 - failure
    edge = success * (units + 1)
    here = int(edge) - (edge == int(edge))
    steps: dict[int, float] = {}
    before = None
    while here not in steps and 0 <= here <= units:
        mass = math.exp(
            math.lgamma(units + 1)
            - math.lgamma(here + 1)
            - math.lgamma(units - here + 1)
            + here * math.log(success)
            + (units - here) * math.log(failure)
        )
        steps[here] = step = (shortfall - float(bdtr(here, units, success))) / mass
        if -0.5 < step < 0.5:
            return here
        there = here + int(math.copysign(math.floor(abs(step) + 0.5), step))
        if there == before:
            return min(here, there, key=lambda each: abs(steps[each]))
        before, here = here, there
    return _quantile(units, failure, shortfall)


def _yield_expanded(units: int, success: float, shortfall: float) -> int:
    """Moorhead's expansion about the normal quantile (Oxford, 2013, page 7).

    In the published expansion the whole bracket of the third correction is divided by 1620; the
    estimator's library divides only its last term, and so do we: yields are off by up to five.
    """
    w = NormalDist().inv_cdf(shortfall)
    p, variance = success, units * success * (1 - success)
    spread = math.sqrt(variance)
    centre = units * p + spread * w + (p + 1) / 3 - (2 * p - 1) * w**2 / 6
    first = (w**3 * (2 * p**2 - 2 * p - 1) / 72) / spread - w * (7 * p**2 - 7 * p + 1) / 36
    second = (2 * p - 1) * (p + 1) * (p - 2) * (3 * w**4 + 7 * w**2 - 16 / 1620) / variance
    third = (
        w**5 * (4 * p**4 - 8 * p**3 - 48 * p**2 + 52 * p - 23) / 17280
        + w**3 * (256 * p**4 - 512 * p**3 - 147 * p**2 + 403 * p - 137) / 38880
        - w * (433 * p**4 - 866 * p**3 - 921 * p**2 + 1354 * p - 671) / 38880
    ) / (spread * variance)
    fourth = (
        w**6 * (2 * p - 1) * (p**2 - p + 1) * (p**2 - p + 19) / 34020
        + w**4 * (2 * p - 1) * (9 * p**4 - 18 * p**3 - 35 * p**2 + 44 * p - 25) / 15120
        + w**2 * (2 * p - 1) * (923 * p**4 - 1846 * p**3 + 5271 * p**2 - 4348 * p + 5189) / 408240
        - 4 * (2 * p - 1) * (p + 1) * (p - 2) * (23 * p**2 - 23 * p + 2) / 25515
    ) / variance**2
    return max(0, math.floor(centre + first + second + third + fourth))


def _units_needed(wanted: int, outputs: int, failure: float, shortfall: float) -> int | None:
    """The fewest units that yield `wanted` states; None beyond UNITS_MAX."""
    upper = math.ceil(wanted / outputs)
    while yield_of(upper, failure, shortfall) * outputs < wanted:
        upper *= 2
        if upper >= UNITS_MAX:
            return None
    lower = upper // 2
    while lower < upper:
        middle = (lower + upper) // 2
        if yield_of(middle, failure, shortfall) * outputs >= wanted:
            upper = middle
        else:
            lower = middle + 1
    return upper


class _Placed(msgspec.Struct, frozen=True):
    """A unit on qubits of one distance."""

    unit: Unit
    distance: int
    clifford_error: float
    qubits: int
    duration_ns: int
    valid: bool


def _placed(unit: Unit, patch: Patch | None, bare: Bare) -> _Placed:
    """The unit on patches, or on bare qubits where there is no patch."""
    if patch is None:
        return _Placed(
            unit,
            1,
            bare.clifford_error,
            unit.qubits_bare,
            unit.cycles_bare * bare.t_gate_ns,
            bare.clifford_error <= 0.1 * bare.t_error,
        )
    return _Placed(
        unit,
        patch.distance,
        patch.error,
        unit.qubits_coded * patch.physical_qubits,
        unit.cycles_coded * patch.cycle_ns,
        patch.error <= 0.1 * bare.t_error,
    )


def build(pipeline: Sequence[_Placed], t_error: float) -> Factory | bool:
    """The factory that runs these units in turn, each round as wide as the next one needs.

    Otherwise whether larger distances may help: False only where a unit cannot fail at all.
    """
    shortfall = FAILURE_MAX / len(pipeline)
    errors = [t_error]
    for each in pipeline:
        output = unit_output(errors[-1], each.clifford_error)
        if output > errors[-1]:
            return True
        errors.append(output)
    wanted = pipeline[-1].unit.outputs
    rounds: list[Round] = []
    states = 0
    for each, error in zip(reversed(pipeline), reversed(errors[:-1]), strict=True):
        failure = unit_failure(error, each.clifford_error)
        if failure <= 0.0:
            return False
        if failure >= 1.0:
            return True
        units = _units_needed(wanted, each.unit.outputs, failure, shortfall)
        if units is None:
            return True
        if not rounds:
            states = yield_of(units, failure, shortfall) * each.unit.outputs
        rounds.append(
            Round(
                name=each.unit.name,
                units=units,
                distance=each.distance,
                unit_qubits=each.qubits,
                duration_ns=each.duration_ns,
                inputs=each.unit.inputs,
            )
        )
        wanted = each.unit.inputs * units
    return Factory(rounds=tuple(reversed(rounds)), states=states, error=errors[-1])


class Front(Generic[_Item]):
    """What no other item beats in both costs, kept in the estimator's own order."""

    def __init__(self, cost: Callable[[_Item], tuple[float, float]]) -> None:
        self._cost = cost
        self._items: list[tuple[float, float, _Item]] = []
        self._since = 0

    def __len__(self) -> int:
        return len(self._items)

    def beats(self, item: _Item) -> bool:
        """True where an item kept is at least as good in both costs and better in one."""
        return self._beaten(*self._cost(item))

    def _beaten(self, first: float, second: float) -> bool:
        return any(
            (a <= first and b <= second) and (a < first or b < second) for a, b, _ in self._items
        )

    def add(self, item: _Item) -> None:
        self._items.append((*self._cost(item), item))
        if self._since <= FILTER_EVERY:
            self._since += 1
        else:
            self._filter()

    def _filter(self) -> None:
        # Beaten items are swapped to the end, which reorders equals: the order decides later which
        # of two equally good factories is taken.
        items, at, end = self._items, 0, len(self._items)
        while at < end:
            if self._beaten(items[at][0], items[at][1]):
                end -= 1
                items[at], items[end] = items[end], items[at]
            else:
                at += 1
        del items[end:]
        self._since = 0

    def sorted(self) -> list[_Item]:
        """The unbeaten ones, costliest first."""
        self._filter()
        self._items.sort(key=lambda entry: entry[:2], reverse=True)
        return [item for _, _, item in self._items]


def find_factories(
    patches: Sequence[Patch], bare: Bare, error_wanted: float, rounds_max: int = ROUNDS_MAX
) -> list[Factory]:
    """Factories whose states err by at most `error_wanted`, best in qubits per state or in time.

    patches: at distances 1, 3, 5, ... up to the algorithm's own.
    """
    if error_wanted > bare.t_error:
        return [trivial_factory(patches[-1], bare.t_error)]
    front: Front[Factory] = Front(lambda factory: (factory.qubits_per_state, factory.duration_ns))
    places = _Places(patches, bare)

    def may_improve(choice: Sequence[int], indexes: Sequence[int]) -> bool:
        """Try these distances; True where larger ones are worth a look."""
        built = build(places.pipeline(choice, indexes), bare.t_error)
        if isinstance(built, bool):
            return built
        if front.beats(built):
            return False
        if built.error <= error_wanted:
            front.add(built)
            return False
        return True

    for count in range(1, ROUNDS_EXTRA_MAX + 1):
        if count > rounds_max and len(front):
            break
        for choice in product(range(len(UNITS)), repeat=count):
            _search(places, choice, may_improve)
    return front.sorted()


class _Places:
    """Every unit at every distance, and where it is fit for use."""

    def __init__(self, patches: Sequence[Patch], bare: Bare) -> None:
        self.count = len(patches)
        self._bare = [_placed(unit, None, bare) for unit in UNITS]
        self._coded = [[_placed(unit, patch, bare) for unit in UNITS] for patch in patches]
        self._first_valid = [
            next((i for i, row in enumerate(self._coded) if row[kind].valid), self.count)
            for kind in range(len(UNITS))
        ]

    def lowest(self, choice: Sequence[int]) -> list[int]:
        """The smallest distance, as an index, of each round; never smaller than the one before."""
        found: list[int] = []
        for position, kind in enumerate(choice):
            least = self._first_valid[kind]
            if position == 0:
                least = 0 if self._bare[kind].valid else max(1, least)
            found.append(max([least, *found[-1:]]))
        return found

    def pipeline(self, choice: Sequence[int], indexes: Sequence[int]) -> list[_Placed]:
        """The units of each round; distance 1 in the first round stands for bare qubits."""
        return [
            self._bare[kind] if index == 0 and position == 0 else self._coded[index][kind]
            for position, (kind, index) in enumerate(zip(choice, indexes, strict=True))
        ]


_Check = Callable[[Sequence[int], Sequence[int]], bool]


def _search(places: _Places, choice: Sequence[int], may_improve: _Check) -> None:
    """Look at all distances of one sequence of units that are worth it."""
    low, high = places.lowest(choice), [places.count - 1] * len(choice)
    if may_improve(choice, high) or max(low) >= places.count or not may_improve(choice, low):
        return
    current = _bisected(choice, low, high, may_improve)
    current = [max(each, least) for each, least in zip(current, low, strict=True)]
    going = _incomparable(current, low, high)
    while going:
        # The next larger distances where that may help, else the next ones not all larger.
        step = _larger if may_improve(choice, current) else _incomparable
        going = step(current, low, high)


def _bisected(
    choice: Sequence[int], low: list[int], high: list[int], may_improve: _Check
) -> list[int]:
    """For each round in turn the smallest distance that still suffices."""
    right, middle = list(high), list(high)
    for at in range(len(choice)):
        left = low[at] if at == 0 else middle[at - 1]
        while left + 1 < right[at]:
            middle[at] = (left + right[at]) // 2
            if may_improve(choice, middle):
                left = middle[at] + 1
            else:
                right[at] = middle[at]
        if left + 1 == right[at]:
            middle[at] = left
            if may_improve(choice, middle):
                middle[at] = right[at]
        else:
            middle[at] = right[at]
    return middle


def _larger(current: list[int], low: list[int], high: list[int]) -> bool:
    """Step to the next distances in order; False where there are none."""
    at = len(current) - 1
    current[at] += 1
    while current[at] > high[at]:
        if at == 0:
            return False
        at -= 1
        current[at] += 1
    for later in range(at + 1, len(current)):
        current[later] = max(current[later - 1], low[later])
    return True


def _incomparable(current: list[int], low: list[int], high: list[int]) -> bool:
    """Step to the next distances that are not all larger: 1, 2, 10 becomes 1, 3, 3."""
    at = len(current) - 1
    while at > 0 and (current[at] <= current[at - 1] + 1 or current[at - 1] == high[at - 1]):
        at -= 1
    if at == 0:
        return False
    current[at - 1] += 1
    for later in range(at, len(current)):
        current[later] = max(current[later - 1], low[later])
    return True
