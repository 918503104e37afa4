"""What jobs say of themselves: of each batch of shots, how it went beside what was predicted.

The kernel tells a job its noise, its cycles and what slowed it; under `decoded` noise what decoders
did, too. Under `calibrated` noise nothing tells logical errors but the outcomes themselves: of a
program that was followed, shots among the outcomes that come out too often (`predict.Excess`) are
counted; for another program a small one whose answer is known runs in the same code beside it
(`known_answer`). `judge` says what follows for a prediction, with a bound on false alarms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from qvm.assemble import assemble
from runtime.client.results import Result
from runtime.jit.planning.machine import noise_of
from runtime.jit.planning.predict import Cost, Excess
from runtime.jit.planning.variants import Built, Way, built, read

FALSE_ALARMS: Final = 0.01
"""Chance that any test of a whole run refutes a prediction that is right, at most."""
TAIL_TERMS_MAX: Final = 1 << 22
KNOWN_WAITS: Final = 8
KNOWN_QUBITS: Final = 4


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """One job. cycles: a shot. waited: of these, beyond its operations. slowed_by: for what. queue:
    cycles before it had its place. among: shots among the outcomes of `Excess`, None where that is
    not known; of: how many shots. raw_pairs: a shot.

    decoder_load: of the time that decoders had, the part in which they worked. logical_errors: per
    history that was decoded. Both None where nothing was decoded.
    """

    shots: int
    cycles: float
    waited: float
    slowed_by: str
    queue: int
    noise: str
    calibration: str
    times: float
    among: int | None = None
    of: int = 0
    raw_pairs: float = 0.0
    decoder_load: float | None = None
    logical_errors: float | None = None


def observed(
    result: Result, cost: Cost, counts: Mapping[str, int], excess: Excess | None
) -> Observed:
    """What a job tells. counts: by what users look at (`predict.keyed`). Raises NotNoisy."""
    figures, context = result.telemetry, result.execution_context
    noise, calibration = noise_of(result)
    cycles = figures.machine_cycles / result.shots
    load = errors = None
    if (decoder := figures.decoder) is not None and decoder.machine_ns and decoder.histories:
        load = decoder.busy_ns / (decoder.machine_ns * 2 * max(1, context.width))
        errors = decoder.errors / decoder.histories
    return Observed(
        shots=result.shots,
        cycles=cycles,
        waited=max(0.0, cycles - cost.own_cycles),
        slowed_by=figures.slowed_by,
        queue=figures.queue_cycles,
        noise=noise,
        calibration=calibration,
        times=context.noise.times,
        among=None if excess is None else sum(counts.get(key, 0) for key in excess.keys),
        of=0 if excess is None else result.shots,
        raw_pairs=figures.raw_pairs / result.shots,
        decoder_load=load,
        logical_errors=errors,
    )


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What shots say of a prediction. p_value: of seeing so many, or so few, were it right. alarm:
    below which p-value it is refuted. factor: by how many times more codes err than predicted, the
    best guess, where it is refuted; else 1. why: in words, empty where it stands."""

    p_value: float = 1.0
    alarm: float = 0.0
    factor: float = 1.0
    why: str = ""


STANDS: Final = Verdict()


def judge(excess: Excess, among: int, of: int, look: int) -> Verdict:
    """Whether so many shots among the outcomes of `excess` refute it.

    look: how often was looked before in this run. A right prediction is a number within its
    interval: the number of shots is then binomial, and the chance of one so far out on either side
    is at most the p-value. Look number n may spend FALSE_ALARMS / ((n + 1) (n + 2)), which add up
    to FALSE_ALARMS over all looks, however the counts depend on each other.
    """
    alarm = FALSE_ALARMS / ((look + 1) * (look + 2))
    above = upper_tail(among, of, excess.high)
    below = upper_tail(of - among, of, 1 - excess.low)
    p_value = min(1.0, 2 * min(above, below))
    predicted = excess.predicted - excess.quiet
    if p_value >= alarm or predicted <= 0:
        return Verdict(p_value=p_value, alarm=alarm)
    factor = max(0.01, (among / of - excess.quiet) / predicted)
    way = "more" if above < below else "fewer"
    why = (
        f"{among:,} of {of:,} shots are among outcomes that should have {excess.predicted:.3g} of "
        f"them, {way} than chance allows (p = {p_value:.1g})"
    )
    return Verdict(p_value=p_value, alarm=alarm, factor=factor, why=why)


def upper_tail(least: int, trials: int, chance: float) -> float:
    """Chance of `least` successes or more among independent trials, exact but for rounding."""
    if least <= 0:
        return 1.0
    if chance <= 0 or least > trials:
        return 0.0
    if chance >= 1:
        return 1.0
    if least < trials * chance:
        # The sum would be long; its complement starts beyond the mean as well.
        return 1.0 - upper_tail(trials - least + 1, trials, 1 - chance)
    first = (
        math.lgamma(trials + 1)
        - math.lgamma(least + 1)
        - math.lgamma(trials - least + 1)
        + least * math.log(chance)
        + (trials - least) * math.log1p(-chance)
    )
    spread = math.sqrt(trials * chance * (1 - chance))
    terms = min(trials - least, TAIL_TERMS_MAX, int(40 * spread) + 100)
    k = np.arange(least, least + terms, dtype=np.float64)
    steps = np.log((trials - k) / (k + 1)) + math.log(chance) - math.log1p(-chance)
    logs = first + np.concatenate([[0.0], np.cumsum(steps)])
    return float(min(1.0, np.exp(logs).sum()))


def known_answer() -> Built:
    """A small program whose answer is known, in which each error of memory shows: all bits are 0.

    It runs in the code of a program that was not followed, so that what codes err is seen at all.
    """
    names = [f"q{number}" for number in range(KNOWN_QUBITS)]
    turns = [f"APPLY_{op} {name}" for op in ("S", "SDG") * KNOWN_WAITS for name in names]
    turned = [f"APPLY_H {name}" for name in names[: KNOWN_QUBITS // 2]]
    lines = [
        f'ALLOC_LQ n={KNOWN_QUBITS}, profile="Surface(d=3)", {", ".join(names)}',
        *turned,
        *turns,
        *turned,
        *(f"MEASURE_Z {name} -> m{name}" for name in names),
        f"FREE_LQ {', '.join(names)}",
    ]
    source = read(assemble("\n".join([*lines, ""])))
    return built(source, Way())
