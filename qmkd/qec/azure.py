"""Resource estimates by the closed forms of the Azure Quantum Resource Estimator.

Logical counts of a program, a qubit, a code and a budget go in; distance, qubits, factories and
time come out. Nothing is simulated: a logical qubit errs with
`prefactor * (p/threshold)^((d+1)/2)`, which at the default prefactor of 0.03 lies an order of
magnitude below what circuits with idle noise show (docs/estimate.md). The model is Beverland et
al., arXiv:2211.07629; every field agrees with `qdk` 1.33.1 (`azure_test.py`). Where that program
runs for ever, because no factory can reach the error wanted, this one refuses. The factories are
searched in `factories.py`; estimates from measured tables, beside these, are in `resources.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import msgspec

from qmkd.qec.factories import (
    ROUNDS_MAX,
    Bare,
    Factory,
    Front,
    Patch,
    find_factories,
)
from qvm.expressions import ExpressionError, evaluate

PAULI_MEASUREMENTS_PER_TOFFOLI: Final = 3
STATES_PER_TOFFOLI: Final = 4
SYNTHESIS_SLOPE: Final = 0.53  # T states per rotation: Kliuchnikov et al., arXiv:2203.10064
SYNTHESIS_OFFSET: Final = 4.86
DISTANCE_MAX: Final = 50
PREFACTOR_MAX: Final = 0.5
COUNT_MAX: Final = (1 << 64) - 1
CYCLES_MAX: Final = 1 << 53  # beyond, one cycle more is no longer another number


class EstimateError(ValueError):
    """There is no estimate for this input, and why."""


class Counts(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What a program needs before layout. ccz and ccix: doubly controlled Z and iX."""

    num_qubits: int
    t_count: int = 0
    rotation_count: int = 0
    rotation_depth: int = 0
    ccz_count: int = 0
    ccix_count: int = 0
    measurement_count: int = 0

    @property
    def toffolis(self) -> int:
        return self.ccz_count + self.ccix_count

    @property
    def needs_states(self) -> bool:
        return bool(self.t_count or self.toffolis or self.rotation_count)

    @property
    def tiles(self) -> int:
        """Logical qubits once laid out: two rows for each row of data, and a border."""
        return 2 * self.num_qubits + math.ceil(math.sqrt(8 * self.num_qubits)) + 1

    def states_per_rotation(self, rotation_error: float) -> int | None:
        """T states that approximate one rotation; None without rotations."""
        if not self.rotation_count:
            return None
        bits = math.log2(self.rotation_count / rotation_error)
        return max(0, math.ceil(SYNTHESIS_SLOPE * bits + SYNTHESIS_OFFSET))

    def depth(self, rotation_error: float) -> int:
        """Logical cycles of the laid-out program, one for each multi-qubit Pauli measurement."""
        return (
            self.measurement_count
            + self.rotation_count
            + self.t_count
            + PAULI_MEASUREMENTS_PER_TOFFOLI * self.toffolis
            + (self.states_per_rotation(rotation_error) or 0) * self.rotation_depth
        )

    def states(self, rotation_error: float) -> int:
        """T states that the program consumes."""
        return (
            STATES_PER_TOFFOLI * self.toffolis
            + self.t_count
            + (self.states_per_rotation(rotation_error) or 0) * self.rotation_count
        )


class Qubit(msgspec.Struct, frozen=True, kw_only=True):
    """A physical qubit. Times in whole nanoseconds, rates as probabilities.

    majorana: it is driven by joint measurements; `gate` then counts for nothing, and `pair` is the
    two-qubit measurement. Otherwise `pair` is the two-qubit gate.
    """

    name: str
    majorana: bool = False
    measure_ns: int
    gate_ns: int
    pair_ns: int
    t_gate_ns: int
    measure_error: float
    gate_error: float
    pair_error: float
    t_error: float
    idle_error: float

    @property
    def clifford_error(self) -> float:
        """The worst of gates and waiting; for joint measurements, of what they do to the state."""
        own = self.measure_error if self.majorana else self.gate_error
        return max(own, self.pair_error, self.idle_error)

    @property
    def physical_error(self) -> float:
        """The rate that the code must correct: the worst of everything, readout included."""
        return max(self.clifford_error, self.measure_error)


def _gate_qubit(name: str, fast: bool, error: float, t_error: float) -> Qubit:
    return Qubit(
        name=name,
        measure_ns=100 if fast else 100_000,
        gate_ns=50 if fast else 100_000,
        pair_ns=50 if fast else 100_000,
        t_gate_ns=50 if fast else 100_000,
        measure_error=error,
        gate_error=error,
        pair_error=error,
        t_error=t_error,
        idle_error=error,
    )


def _majorana_qubit(name: str, error: float, t_error: float) -> Qubit:
    return Qubit(
        name=name,
        majorana=True,
        measure_ns=100,
        gate_ns=100,
        pair_ns=100,
        t_gate_ns=100,
        measure_error=error,
        gate_error=error,
        pair_error=error,
        t_error=t_error,
        idle_error=error,
    )


QUBITS: Final[Mapping[str, Qubit]] = MappingProxyType(
    {
        qubit.name: qubit
        for qubit in (
            _gate_qubit("qubit_gate_ns_e3", True, 1e-3, 1e-3),
            _gate_qubit("qubit_gate_ns_e4", True, 1e-4, 1e-4),
            _gate_qubit("qubit_gate_us_e3", False, 1e-3, 1e-6),
            _gate_qubit("qubit_gate_us_e4", False, 1e-4, 1e-6),
            _majorana_qubit("qubit_maj_ns_e4", 1e-4, 0.05),
            _majorana_qubit("qubit_maj_ns_e6", 1e-6, 0.01),
        )
    }
)
"""The estimator's own qubits, by name."""


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """A code: `prefactor * d^power * (p/threshold)^((d+1)/2)` errors per logical cycle of d rounds.

    cycle_time: formula for the nanoseconds of one logical cycle, over codeDistance,
    oneQubitMeasurementTime and, by the kind of qubit, oneQubitGateTime and twoQubitGateTime or
    twoQubitJointMeasurementTime; the result is rounded. qubits: formula over codeDistance; the
    result is cut to a whole number.
    """

    name: str
    threshold: float
    prefactor: float
    power: int = 0
    cycle_time: str
    qubits: str
    distance_max: int = DISTANCE_MAX

    def physical_qubits(self, distance: int) -> int:
        """Physical qubits of one patch. Raises EstimateError where the formula gives none."""
        return int(_value(self.qubits, ("codeDistance",), (distance,)))

    def cycle_ns(self, qubit: Qubit, distance: int) -> int:
        """Nanoseconds of one logical cycle. Raises EstimateError as `physical_qubits`."""
        names: tuple[str, ...]
        times: tuple[int, ...]
        if qubit.majorana:
            names = ("codeDistance", "oneQubitMeasurementTime", "twoQubitJointMeasurementTime")
            times = (distance, qubit.measure_ns, qubit.pair_ns)
        else:
            names = (
                "codeDistance",
                "oneQubitMeasurementTime",
                "oneQubitGateTime",
                "twoQubitGateTime",
            )
            times = (distance, qubit.measure_ns, qubit.gate_ns, qubit.pair_ns)
        return math.floor(_value(self.cycle_time, names, times) + 0.5)

    def error(self, p: float, distance: int) -> float:
        """Chance of a logical error per qubit and logical cycle."""
        scale = self.prefactor * float(distance**self.power)
        return scale * _power(p / self.threshold, (distance + 1) // 2)

    def distance(self, p: float, error_wanted: float) -> int:
        """The smallest odd distance that errs no more than wanted. Raises EstimateError."""
        if self.power:
            for distance in range(1, self.distance_max + 1, 2):
                if self.error(p, distance) <= error_wanted:
                    return distance
            raise EstimateError(f"no distance up to {self.distance_max} errs as little as needed")
        ratio = 2.0 * math.log(self.prefactor / error_wanted) / math.log(self.threshold / p)
        distance = max(0, math.ceil(ratio - 1.0)) | 1
        if distance > self.distance_max:
            raise EstimateError(
                f"a distance of {distance} would be needed; the largest allowed is "
                f"{self.distance_max}"
            )
        return distance

    def patch(self, qubit: Qubit, distance: int) -> Patch:
        """A logical qubit of this distance."""
        return Patch(
            distance=distance,
            physical_qubits=self.physical_qubits(distance),
            cycle_ns=self.cycle_ns(qubit, distance),
            error=self.error(qubit.physical_error, distance),
        )


def _power(base: float, exponent: int) -> float:
    """base**exponent by squaring from the lowest bit: the roundings of compiled powi."""
    result = 1.0
    while True:
        if exponent & 1:
            result *= base
        exponent >>= 1
        if not exponent:
            return result
        base *= base


@lru_cache(maxsize=1 << 12)
def _value(formula: str, names: tuple[str, ...], values: tuple[int, ...]) -> float:
    try:
        value, end = evaluate(formula, 0, dict(zip(names, values, strict=True)))
    except ExpressionError as error:
        raise EstimateError(f"{formula!r}: {error.message}") from error
    if isinstance(value, str) or formula[end:].strip():
        raise EstimateError(f"{formula!r} is no formula for a number")
    if value < 1:
        raise EstimateError(f"{formula!r} gives {value}, which is less than one")
    return float(value)


SURFACE_GATES: Final = Scheme(
    name="surface_code",
    threshold=0.01,
    prefactor=0.03,
    cycle_time="(4 * twoQubitGateTime + 2 * oneQubitMeasurementTime) * codeDistance",
    qubits="2 * codeDistance * codeDistance",
)
"""Fowler et al., arXiv:1208.0928, equations 11 and 13."""
SURFACE_MEASUREMENTS: Final = Scheme(
    name="surface_code",
    threshold=0.0015,
    prefactor=0.08,
    cycle_time="20 * oneQubitMeasurementTime * codeDistance",
    qubits="2 * codeDistance * codeDistance",
)
"""Chao et al., arXiv:2007.00307, equation 1."""
FLOQUET: Final = Scheme(
    name="floquet_code",
    threshold=0.01,
    prefactor=0.07,
    cycle_time="3 * oneQubitMeasurementTime * codeDistance",
    qubits="4 * codeDistance * codeDistance + 8 * (codeDistance - 1)",
)
"""Paetznick et al., arXiv:2202.11829, table 2: the honeycomb code of Hastings and Haah."""


def scheme_named(name: str, qubit: Qubit) -> Scheme:
    """The estimator's own code of that name for this kind of qubit. Raises EstimateError."""
    if name == "surface_code":
        return SURFACE_MEASUREMENTS if qubit.majorana else SURFACE_GATES
    if name == "floquet_code" and qubit.majorana:
        return FLOQUET
    if name == "floquet_code":
        raise EstimateError("the estimator has floquet_code only for qubits driven by measurements")
    raise EstimateError(f"the estimator knows surface_code and floquet_code, not {name!r}")


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """The chance of failure allowed: of logical errors, of bad T states, of rough rotations."""

    logical: float
    states: float
    rotations: float


def split_budget(total: float, counts: Counts) -> Budget:
    """Equal shares for what the program has. Raises EstimateError unless 0 < total < 1."""
    if not 0 < total < 1:
        raise EstimateError(f"an allowed failure probability is between 0 and 1, not {total}")
    if counts.rotation_count:
        return Budget(logical=total / 3, states=total / 3, rotations=total / 3)
    if counts.needs_states:
        return Budget(logical=total / 2, states=total / 2, rotations=0.0)
    return Budget(logical=total, states=0.0, rotations=0.0)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Constraints of the estimator. depth_factor: idle cycles that the program is stretched by."""

    depth_factor: float = 1.0
    factories_max: int | None = None
    rounds_max: int = ROUNDS_MAX


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run the program. cycles: logical cycles performed; factory: None where unneeded.

    factories: copies of the factory, running side by side. error_wanted and state_error_wanted:
    the budget per tile and cycle, and per T state.
    """

    counts: Counts
    budget: Budget
    patch: Patch
    cycles: int
    error_wanted: float
    clifford_error: float
    factory: Factory | None
    factories: int
    state_error_wanted: float | None

    @property
    def runtime_ns(self) -> int:
        return self.cycles * self.patch.cycle_ns

    @property
    def qubits_for_program(self) -> int:
        return self.counts.tiles * self.patch.physical_qubits

    @property
    def qubits_for_factories(self) -> int:
        return self.factories * self.factory.physical_qubits if self.factory else 0

    @property
    def physical_qubits(self) -> int:
        return self.qubits_for_program + self.qubits_for_factories

    @property
    def factory_runs(self) -> int:
        if self.factory is None:
            return 0
        states = self.counts.states(self.budget.rotations)
        return -(-states // (self.factories * self.factory.states))

    @property
    def cycles_per_second(self) -> float:
        return 1e9 / self.patch.cycle_ns

    def as_azure(self) -> dict[str, Any]:
        """The same under the estimator's names: all of its numbers, none of its prose."""
        found = {
            "physicalCounts": {
                "physicalQubits": self.physical_qubits,
                "runtime": self.runtime_ns,
                "rqops": math.ceil(self.counts.tiles * self.cycles_per_second),
                "breakdown": self._breakdown(),
            },
            "logicalQubit": {
                "codeDistance": self.patch.distance,
                "physicalQubits": self.patch.physical_qubits,
                "logicalCycleTime": self.patch.cycle_ns,
                "logicalErrorRate": self.patch.error,
            },
            "errorBudget": {
                "logical": self.budget.logical,
                "tstates": self.budget.states,
                "rotations": self.budget.rotations,
            },
            "logicalCounts": msgspec.to_builtins(self.counts),
        }
        if self.factory is not None:
            found["tfactory"] = _factory_as_azure(self.factory)
        return found

    def _breakdown(self) -> dict[str, Any]:
        rotations = self.budget.rotations
        return {
            "algorithmicLogicalQubits": self.counts.tiles,
            "algorithmicLogicalDepth": self.counts.depth(rotations),
            "logicalDepth": self.cycles,
            "numTstates": self.counts.states(rotations),
            "clockFrequency": self.cycles_per_second,
            "numTfactories": self.factories,
            "numTfactoryRuns": self.factory_runs,
            "physicalQubitsForTfactories": self.qubits_for_factories,
            "physicalQubitsForAlgorithm": self.qubits_for_program,
            "requiredLogicalQubitErrorRate": self.error_wanted,
            "requiredLogicalTstateErrorRate": self.state_error_wanted,
            "numTsPerRotation": self.counts.states_per_rotation(rotations),
            "cliffordErrorRate": self.clifford_error,
        }


def _factory_as_azure(factory: Factory) -> dict[str, Any]:
    rounds = factory.rounds
    return {
        "physicalQubits": factory.physical_qubits,
        "runtime": factory.duration_ns,
        "numTstates": factory.states,
        "numInputTstates": factory.inputs,
        "numRounds": len(rounds),
        "numUnitsPerRound": [each.units for each in rounds],
        "unitNamePerRound": [each.name for each in rounds],
        "codeDistancePerRound": [each.distance for each in rounds],
        "physicalQubitsPerRound": [each.physical_qubits for each in rounds],
        "runtimePerRound": [each.duration_ns for each in rounds],
        "logicalErrorRate": factory.error,
    }


def check(counts: Counts, qubit: Qubit, scheme: Scheme, budget: Budget, limits: Limits) -> None:
    """Refuse, with EstimateError, what has no estimate."""
    if qubit.physical_error >= scheme.threshold:
        raise EstimateError(
            f"the error rate {qubit.physical_error} is not below the threshold {scheme.threshold}"
        )
    if not 0 < scheme.prefactor <= PREFACTOR_MAX:
        raise EstimateError(f"the prefactor {scheme.prefactor} is outside 0..{PREFACTOR_MAX}")
    if counts.num_qubits < 1 or min(msgspec.structs.astuple(counts)) < 0:
        raise EstimateError("a program has a qubit or more, and no negative counts")
    if limits.depth_factor < 1:
        raise EstimateError(f"a depth factor is at least 1, not {limits.depth_factor}")
    if limits.factories_max is not None and limits.factories_max < 1:
        raise EstimateError("a program that needs T states needs a factory")
    if not (budget.logical > 0 and budget.logical + budget.states + budget.rotations < 1):
        raise EstimateError("the shares of a budget are positive and add up to less than 1")
    if counts.needs_states and not budget.states > 0:
        raise EstimateError("the program needs T states, and the budget gives them no share")
    if counts.rotation_count and not budget.rotations > 0:
        raise EstimateError("the program has rotations, and the budget gives them no share")


def estimate(
    counts: Counts,
    qubit: Qubit,
    scheme: Scheme,
    budget: Budget,
    limits: Limits | None = None,
) -> Estimate:
    """The estimator's single point. Raises EstimateError.

    The program takes its own depth if some factory keeps up, else the fewest cycles in which the
    cheapest does.
    """
    limits = limits or Limits()
    check(counts, qubit, scheme, budget, limits)
    states = counts.states(budget.rotations)
    cycles = _cycles_at_least(counts, budget, limits)
    while True:
        error_wanted = budget.logical / (counts.tiles * cycles) if cycles else math.inf
        distance = scheme.distance(qubit.physical_error, error_wanted)
        patch = scheme.patch(qubit, distance)
        if not states:
            return Estimate(
                counts=counts,
                budget=budget,
                patch=patch,
                cycles=cycles,
                error_wanted=error_wanted,
                clifford_error=qubit.clifford_error,
                factory=None,
                factories=0,
                state_error_wanted=None,
            )
        cycles_max = _cycles_at_most(counts, budget, patch)
        state_error_wanted = budget.states / states
        found = find_factories(
            _patches(scheme, qubit, distance), _bare(qubit), state_error_wanted, limits.rounds_max
        )
        picked = _pick(found, patch, states, cycles, cycles_max, limits.factories_max)
        if picked is not None:
            factory, cycles = picked
            return Estimate(
                counts=counts,
                budget=budget,
                patch=patch,
                cycles=cycles,
                error_wanted=error_wanted,
                clifford_error=qubit.clifford_error,
                factory=factory,
                factories=copies(factory, patch, states, cycles),
                state_error_wanted=state_error_wanted,
            )
        if not found and not _factory_at_all(scheme, qubit, state_error_wanted, limits):
            raise EstimateError(
                f"no factory of up to {scheme.distance_max} in distance makes T states that err by "
                f"no more than {state_error_wanted:.3g} from ones that err by {qubit.t_error:.3g}"
            )
        cycles = max(cycles_max, cycles) + 1
        if cycles > CYCLES_MAX:
            raise EstimateError(f"the program would take more than {CYCLES_MAX} logical cycles")


def at_distance(found: Estimate, qubit: Qubit, scheme: Scheme, distance: int) -> Estimate:
    """The same program with the same factory at another distance, whatever it fails with there; in
    as many cycles as it has of its own, or as one run of the factory takes. Ours, not Azure's."""
    patch, factory = scheme.patch(qubit, distance), found.factory
    cycles = _cycles_at_least(found.counts, found.budget, Limits())
    number = 0
    if factory is not None:
        cycles = max(cycles, -(-factory.duration_ns // patch.cycle_ns))
        number = copies(factory, patch, found.counts.states(found.budget.rotations), cycles)
    return msgspec.structs.replace(found, patch=patch, cycles=cycles, factories=number)


def frontier(
    counts: Counts,
    qubit: Qubit,
    scheme: Scheme,
    budget: Budget,
    limits: Limits | None = None,
) -> list[Estimate]:
    """What no other way to run the program beats in both qubits and time, fastest first.

    Distances from the smallest that keeps the budget, factories from as few as fit to as many as
    keep up with the program. Raises EstimateError.
    """
    limits = limits or Limits()
    check(counts, qubit, scheme, budget, limits)
    states = counts.states(budget.rotations)
    if not states:
        return [estimate(counts, qubit, scheme, budget, limits)]
    cycles_min = _cycles_at_least(counts, budget, limits)
    error_wanted = budget.logical / (counts.tiles * cycles_min) if cycles_min else math.inf
    least = scheme.distance(qubit.physical_error, error_wanted)
    state_error_wanted = budget.states / states
    front: Front[Estimate] = Front(lambda found: (found.physical_qubits, found.runtime_ns))
    factories: list[Factory] = []
    searched_below: int | None = None
    distances = range(least, scheme.distance_max + 1, 2)
    for distance in reversed(distances):
        patch = scheme.patch(qubit, distance)
        # Factories found for a larger distance serve as long as their own distances fit.
        if searched_below is None or searched_below > distance:
            factories = find_factories(
                _patches(scheme, qubit, distance),
                _bare(qubit),
                state_error_wanted,
                limits.rounds_max,
            )
            searched_below = max((each.distance_last for each in factories), default=None)
        cycles_max = _cycles_at_most(counts, budget, patch)
        if cycles_max < cycles_min:
            continue
        for factory in factories:
            if -(-factory.duration_ns // patch.cycle_ns) > cycles_max:
                continue
            number = copies(factory, patch, states, cycles_max)
            while True:
                needed = _cycles_for(factory, patch, states, number)
                point = Estimate(
                    counts=counts,
                    budget=budget,
                    patch=patch,
                    cycles=max(needed, cycles_min),
                    error_wanted=error_wanted,
                    clifford_error=qubit.clifford_error,
                    factory=factory,
                    factories=number,
                    state_error_wanted=state_error_wanted,
                )
                front.add(point)
                if needed <= cycles_min or point.factory_runs <= 1:
                    break
                number += 1
    return sorted(front.sorted(), key=lambda found: found.runtime_ns)


@lru_cache(maxsize=64)
def _patches(scheme: Scheme, qubit: Qubit, distance: int) -> tuple[Patch, ...]:
    return tuple(scheme.patch(qubit, each) for each in range(1, distance + 1, 2))


def _bare(qubit: Qubit) -> Bare:
    return Bare(
        t_gate_ns=qubit.t_gate_ns, t_error=qubit.t_error, clifford_error=qubit.clifford_error
    )


def _factory_at_all(scheme: Scheme, qubit: Qubit, error_wanted: float, limits: Limits) -> bool:
    """Whether some distance that the code allows has a factory that is good enough."""
    largest = scheme.distance_max - 1 | 1
    patches = _patches(scheme, qubit, largest)
    return bool(find_factories(patches, _bare(qubit), error_wanted, limits.rounds_max))


def _cycles_at_least(counts: Counts, budget: Budget, limits: Limits) -> int:
    depth = counts.depth(budget.rotations)
    cycles = math.ceil(depth * limits.depth_factor) if limits.depth_factor != 1 else depth
    if not cycles and not counts.states(budget.rotations):
        raise EstimateError("the program has neither measurements nor gates that cost anything")
    return cycles


def _cycles_at_most(counts: Counts, budget: Budget, patch: Patch) -> int:
    """Cycles that keep within the budget at this distance."""
    return min(COUNT_MAX, math.floor(budget.logical / (counts.tiles * patch.error)))


def copies(factory: Factory, patch: Patch, states: int, cycles: int) -> int:
    """How many of the factory make `states` in `cycles`."""
    total_ns = cycles * patch.cycle_ns
    if total_ns <= COUNT_MAX:
        return -(-states // (total_ns // factory.duration_ns * factory.states))
    return math.ceil(states / (factory.states * cycles) * (factory.duration_ns / patch.cycle_ns))


def _cycles_for(factory: Factory, patch: Patch, states: int, number: int) -> int:
    """Cycles in which `number` factories make `states`."""
    runs = -(-states // (number * factory.states))
    return -(-(runs * factory.duration_ns) // patch.cycle_ns)


def _pick(
    found: list[Factory],
    patch: Patch,
    states: int,
    cycles: int,
    cycles_max: int,
    number_max: int | None,
) -> tuple[Factory, int] | None:
    """The factory of least volume per state, and the cycles it makes the program take."""

    def fits(factory: Factory) -> bool:
        if factory.duration_ns > cycles * patch.cycle_ns:
            return False
        return number_max is None or copies(factory, patch, states, cycles) <= number_max

    now = [factory for factory in found if fits(factory)]
    if now:
        return min(now, key=lambda factory: factory.volume_per_state), cycles
    later: list[tuple[Factory, int]] = []
    for factory in found:
        if number_max is None:
            needed = -(-factory.duration_ns // patch.cycle_ns)
        else:
            needed = _cycles_for(factory, patch, states, number_max)
        if needed <= cycles_max:
            later.append((factory, needed))
    return min(later, key=lambda pair: (pair[0].volume_per_state, pair[1]), default=None)
