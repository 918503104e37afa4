"""The safe rules: mitigation by closed forms of damping, shots and known limits. No training.

Gates damp a value by exp(-a) where noise is like Pauli noise, a being the sum of their error rates;
folding by s makes that exp(-s a); readout damps by itself, is not folded, and is corrected beside.
So the bias of every extrapolation is a closed form, and so is its variance at the best split of
shots, (sum |c|)^2 / N for coefficients c. Beside expectation there is a bound: the error rates may
be off, and a calibration drifts by about a tenth in a day (medians of a year of daily calibrations
of four IBM devices: 7 to 12 per cent).

What is never done: extrapolate where the bias is below two standard errors, or fit the suppression
of a code from the data that it corrects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from policy.api import METHODS, Advice, Alternative, Asked, BackendFeatures, Past, check

SOURCE: Final = "rules-1"
INSTEAD: Final = "rules-1:instead"
"""Where they answer for an engine or a model that could not be asked, which nobody can ask
again."""

BIAS_SE_MIN: Final = 2.0
ERROR_RATES_OFF: Final = 0.25
"""Relative, one standard deviation, of a damping that was reckoned from a fresh calibration."""
READOUT_LEFT: Final = 0.1
"""Of what readout takes away, what its correction leaves, which is calibrated along with the
runs."""
CALIBRATION_SHARE: Final = 0.1
"""Of all shots, for the two circuits of that calibration."""
KEPT_MIN: Final = 0.05
NOT_DAMPING: Final = 0.15
"""Of the bias without mitigation, what is coherent and no extrapolation removes, one deviation."""
DRIFT_PER_DAY: Final = 0.10
DRIFT_MAX: Final = 1.0
UNKNOWN_AGE_DRIFT: Final = 0.5
ONE_SIDED_95: Final = 1.645
GAP_LEFT: Final = 0.25
"""Of the bias that decoder confidence leaves, at the most, with noise a fifth above the
calibrated."""
HISTORY_WEIGHT: Final = 8.0
DAY_S: Final = 86400.0

Folds = tuple[tuple[int, float], ...]

FOLDS: Final[dict[str, Folds]] = {
    "none": ((1, 1.0),),
    "zne": ((1, 3 / 2), (3, -1 / 2)),
    "richardson": ((1, 15 / 8), (3, -10 / 8), (5, 3 / 8)),
}
"""Scale of the noise and coefficient of each circuit. All but `none` also correct readout."""


class Effect(NamedTuple):
    """bias: expected. spread: one standard deviation of what the bias may be beside that.
    variance: of the value, times shots. circuits: run in all. depth: of a shot, on average, in that
    of the plain circuit."""

    bias: float
    spread: float
    variance: float
    circuits: int
    params: dict[str, Any]
    depth: float = 1.0


def damping(asked: Asked) -> tuple[float, float]:
    """The exponent of the gates that the observable sees, and the factor of its readout."""
    circuit, backend = asked.circuit, asked.backend
    exponent = circuit.gates_1q * backend.error_1q + circuit.gates_2q * backend.error_2q
    if backend.t1_s and backend.t2_s:
        waiting = max(0, circuit.qubits * circuit.depth - 2 * circuit.gates_2q) * backend.layer_s
        exponent += waiting * (0.5 / backend.t1_s + 0.5 / backend.t2_s)
    readout = max(0.0, 1 - 2 * backend.readout_error) ** (circuit.measurements * circuit.reach)
    return exponent * circuit.reach, readout


def drift(backend: BackendFeatures) -> float:
    """One standard deviation of how far error rates are off, relative."""
    if backend.calibration_age_s is None:
        return math.hypot(ERROR_RATES_OFF, UNKNOWN_AGE_DRIFT)
    days = backend.calibration_age_s / DAY_S
    return math.hypot(ERROR_RATES_OFF, min(DRIFT_MAX, DRIFT_PER_DAY * math.sqrt(days)))


def variance(method: str, readout: float) -> float:
    """Of a folding method's value, times all its shots. readout: what readout leaves of the
    value."""
    norm = math.fsum(abs(c) for _, c in FOLDS[method])
    if method == "none":
        return 1.0
    return norm**2 / max(KEPT_MIN, readout) ** 2 / (1 - CALIBRATION_SHARE)


def depth(method: str) -> float:
    """Of a shot, on average, in that of the plain circuit; calibration has next to none."""
    folds = FOLDS[method]
    shots = 1.0 if method == "none" else 1 - CALIBRATION_SHARE
    norm = math.fsum(abs(c) for _, c in folds)
    return shots * math.fsum(scale * abs(c) for scale, c in folds) / norm


def effects(asked: Asked) -> dict[str, Effect]:
    """What every method that can be offered would do."""
    exponent, readout = damping(asked)
    signal, off = asked.circuit.signal, drift(asked.backend)
    found = {}
    other = 0.0
    for method, folds in FOLDS.items():
        corrected = method != "none"
        params = {"scales": [scale for scale, _ in folds], "readout": True} if corrected else {}

        def left(times: float, folds: Folds = folds, corrected: bool = corrected) -> float:
            read = math.pow(readout, times)
            if corrected:
                read = 1 - READOUT_LEFT * (1 - read)
            kept = math.fsum(c * math.exp(-scale * exponent * times) for scale, c in folds)
            return signal * (1 - read * kept)

        spread = abs(left(1 + off) - left(max(0.0, 1 - off))) / 2
        if not corrected:
            other = NOT_DAMPING * abs(left(1))
        found[method] = Effect(
            bias=abs(left(1)),
            spread=math.hypot(spread, other),
            variance=variance(method, readout),
            circuits=len(folds) + 2 * corrected,
            params=params,
            depth=depth(method),
        )
    none = found["none"]
    if asked.backend.gaps:
        # The signed mean is divided by what the decoder expects to be left of it.
        kept = max(KEPT_MIN, 1 - none.bias)
        found["gap"] = Effect(GAP_LEFT / 2 * none.bias, GAP_LEFT * none.bias, 1 / kept**2, 1, {})
    scaled = _distances(asked, none)
    if scaled is not None:
        found["ds-zne"] = scaled
    return found


def _distances(asked: Asked, none: Effect) -> Effect | None:
    """Extrapolation from the two largest distances, by their calibrated ratio; None if it is idle.

    b(d) = k r(d) with known rates r, so v = (r_low v_high - r_high v_low) / (r_low - r_high).
    """
    rates = sorted(
        ((int(distance), rate) for distance, rate in asked.backend.by_distance.items()),
        reverse=True,
    )[:2]
    if len(rates) < 2 or not 0 < 2 * rates[0][1] <= rates[1][1]:
        return None
    (high, r_high), (low, r_low) = rates
    weight = r_high / (r_low - r_high)
    norm = (1 + weight) + weight
    # Rates that are off by a tenth of their ratio move the value by about that share of the bias.
    return Effect(
        0.05 * none.bias,
        0.1 * none.bias,
        norm**2,
        2,
        {"distances": [low, high], "rates": [r_low, r_high]},
    )


def fidelity(bias: float, spread: float, deviation: float) -> tuple[float, float]:
    """Mean and lower bound. deviation: standard error of the value."""
    width = math.hypot(spread, deviation)
    mean = math.hypot(bias, math.sqrt(2 / math.pi) * width)
    low = bias + ONE_SIDED_95 * width
    return max(0.0, 1 - mean / 2), max(0.0, 1 - low / 2)


def alternative(method: str, effect: Effect, asked: Asked) -> Alternative:
    """What a method comes to under the budget, corrected by what it came to before."""
    wanted = math.ceil(asked.budget.shots * effect.variance)
    shots = wanted if asked.budget.shots_max is None else min(wanted, asked.budget.shots_max)
    corrected = effect.bias * _by_history(method, asked.history)
    mean, low = fidelity(corrected, effect.spread, math.sqrt(effect.variance / shots))
    return Alternative(
        method=method,
        params=effect.params,
        shot_multiplier=effect.variance,
        shots=shots,
        circuits=effect.circuits,
        depth=effect.depth,
        expected_fidelity=mean,
        fidelity_low=low,
    )


def _by_history(method: str, history: Sequence[Past]) -> float:
    """How much larger errors were than expected, drawn to 1 where few runs say so."""
    runs = sum(past.runs for past in history if past.method == method)
    if runs == 0:
        return 1.0
    ratios = sum(
        past.runs * min(4.0, past.found_error / max(past.expected_error, 1e-6))
        for past in history
        if past.method == method
    )
    return (ratios + HISTORY_WEIGHT) / (runs + HISTORY_WEIGHT)


def standard_error(asked: Asked) -> float:
    """Of no mitigation with the shots that were asked for."""
    return 1 / math.sqrt(asked.budget.shots)


def biased(asked: Asked, bias: float) -> bool:
    """Whether there is a bias worth removing."""
    return bias >= BIAS_SE_MIN * standard_error(asked)


class Rules:
    """The safe rules as a policy engine."""

    def recommend(self, asked: Sequence[Asked]) -> list[Advice]:
        return [advise(each) for each in asked]


def advise(asked: Asked) -> Advice:
    """The rules' answer. Raises BadFeatures."""
    check(asked)
    found = effects(asked)
    limit = asked.budget.circuits_max
    offered = [
        alternative(method, found[method], asked)
        for method in METHODS
        if method in found and (limit is None or found[method].circuits <= max(1, limit))
    ]
    offered.sort(key=lambda each: (-each.expected_fidelity, METHODS.index(each.method)))
    none = next(each for each in offered if each.method == "none")
    because = []
    if asked.backend.calibration_age_s is None:
        because.append("The age of the calibration is unknown, so bounds are wide.")
    bias = found["none"].bias
    if not biased(asked, bias):
        best = none
        because.append(
            f"The expected bias, {bias:.2g}, is below {BIAS_SE_MIN:g} standard errors, "
            f"{standard_error(asked):.2g} each: mitigation would add noise for nothing."
        )
    else:
        best = offered[0]
        because.append(
            f"Of an expected bias of {bias:.2g}, {best.method} leaves the least error with "
            f"{best.shots:,} shots."
        )
    return answer(best, offered, because=because, source=SOURCE, confidence=_sure(best, offered))


def _sure(best: Alternative, offered: Sequence[Alternative]) -> float:
    """By how far the best stands before the others, in what the bounds leave open."""
    others = [each.expected_fidelity for each in offered if each.method != best.method]
    if not others:
        return 1.0
    ahead = best.expected_fidelity - max(others)
    open_ = max(1e-9, best.expected_fidelity - best.fidelity_low)
    return 0.5 * (1 + math.erf(ahead / open_))


def answer(
    best: Alternative,
    offered: Sequence[Alternative],
    *,
    because: Sequence[str],
    source: str,
    confidence: float,
    ood: float | None = None,
    abstained: bool = False,
) -> Advice:
    """The advice to take one of those that were offered."""
    return Advice(
        method=best.method,
        params=best.params,
        shot_multiplier=best.shot_multiplier,
        expected_fidelity=best.expected_fidelity,
        confidence=confidence,
        fidelity_low=best.fidelity_low,
        shots=best.shots,
        ood=ood,
        abstained=abstained,
        source=source,
        because=tuple(because),
        alternatives=tuple(offered),
    )
