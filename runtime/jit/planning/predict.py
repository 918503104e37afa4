"""How often a program goes wrong in a code, how long it takes and what it holds.

What goes wrong is the total variation between what the program's measurements come out as on the
machine and what they should: half the sum of the differences of all probabilities. No test on one
shot tells the two apart by more, and no quantity that is averaged over shots, with values from 0 to
1, is off by more. It covers errors of codes, of T states and of Bell pairs, and rotations that were
approximated.

Where the program can be followed (`exact.py`) that is worked out, else it is bounded from above by
the light cone of what is measured (`cones.py`). The interval is that of the codes' rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from qvm.blocks import qubits_of
from qvm.channels import Brokered, broker
from qvm.cycles import demand
from qvm.machine import Hardware
from qvm.program import VerifiedProgram
from qvm.verify import verify
from runtime.jit.planning.cones import seen_errors
from runtime.jit.planning.exact import TooLarge, affordable, outcomes
from runtime.jit.planning.rates import CodeRates
from runtime.jit.planning.timeline import timeline
from runtime.jit.planning.variants import Built, coded, in_code
from runtime.jit.readout import register_counts

_Choice = dict[str, CodeRates | None]
How = Literal["exact", "light cone"]
HOWS: Final[dict[How, str]] = {"exact": "", "light cone": "at most "}
"""What is written before such a figure."""


HARDLY: Final = 1.1


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """error: total variation from what the program should give; low, high: with the rates at the
    ends of their intervals, low being 0 where `how` is a bound. noise: of the codes' errors alone.
    synthesis: of the rotations alone."""

    error: float
    low: float
    high: float
    noise: float
    synthesis: float
    how: How
    rates: str


class Excess(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes that come out more often than they should, and how often: as they should, without
    errors of codes, and as predicted, with an interval. What shots say about a prediction is said
    by how many of them are among these."""

    keys: list[str]
    ideal: float
    quiet: float
    predicted: float
    low: float
    high: float


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a shot takes. cycles: of the machine, as the kernel bills them. own_cycles: of its
    operations alone. slowed: what makes the difference. logical, physical: qubits. blocks: of
    codes. t_states. raw_pairs: of links. unfenced: cycles between two fences, in the mean."""

    cycles: int
    own_cycles: int
    slowed: str
    logical: int
    physical: int
    blocks: int
    t_states: int
    raw_pairs: float
    unfenced: int


def cost(built: Built, profile: str, hardware: Hardware) -> Cost | str:
    """What a shot takes in this code, or one sentence why the machine cannot run it."""
    program = verify(in_code(built.graph, profile))
    if not isinstance(program, VerifiedProgram):
        return program[0].message
    summary = program.summary
    brokered = broker(summary, hardware)
    if not isinstance(brokered, Brokered):
        return str(brokered)
    wants = demand(summary, hardware, brokered.loads)
    distance = max((1, *(each.distance for each in summary.profiles)))
    return Cost(
        cycles=wants.cycles,
        own_cycles=wants.steps * distance,
        slowed=wants.slowed,
        logical=summary.peak_logical,
        physical=qubits_of(summary.blocks),
        blocks=sum(each.number for each in summary.blocks if each.coded),
        t_states=summary.t_states,
        raw_pairs=brokered.raw_pairs,
        unfenced=-(-wants.cycles // summary.epochs),
    )


def pairs_of(built: Built, profile: str, hardware: Hardware) -> Brokered:
    """The Bell pairs that the program consumes in this code; empty on one module."""
    if len(hardware.module) == 1:
        return Brokered()
    program = verify(in_code(built.graph, profile))
    assert isinstance(program, VerifiedProgram), "its cost was worked out"
    found = broker(program.summary, hardware)
    return found if isinstance(found, Brokered) else Brokered()


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """Of one code. excess: where the program was followed."""

    prediction: Prediction
    excess: Excess | None = None


def predict(
    built: Built,
    choices: Mapping[str, CodeRates],
    hardware: Hardware,
    truth: Mapping[str, float] | None,
) -> dict[str, Predicted]:
    """What goes wrong in each of these codes, by profile.

    truth: what the program should give, keyed as `keyed` keys it, where that is known.
    """
    if not choices:
        return {}
    if truth is not None and affordable(built.lowered, 2 * len(choices) + 1):
        try:
            return _all_followed(built, choices, hardware, truth)
        except TooLarge:
            pass
        try:  # one code after the other takes less room
            return {
                name: _all_followed(built, {name: rates}, hardware, truth)[name]
                for name, rates in choices.items()
            }
        except TooLarge:
            pass
    _, wanted, pairs = _wanted(built, choices, hardware)
    errors = seen_errors(timeline(built.lowered, wanted, pairs)).tolist()
    return {
        name: _bounded(errors[2 * at], errors[2 * at + 1], built.synthesis, rates.how)
        for at, (name, rates) in enumerate(choices.items())
    }


def _wanted(
    built: Built, choices: Mapping[str, CodeRates], hardware: Hardware
) -> tuple[_Choice, list[_Choice], list[Brokered]]:
    """No errors at all; of each code what is likely, then what is at most; and their pairs."""
    replaced = coded(built.graph)
    none: _Choice = dict.fromkeys(each.asked for each in built.lowered.alloc_profiles.values())
    both = [rates for found in choices.values() for rates in (found, found.at_most)]
    wanted = [none | dict.fromkeys(replaced, rates) for rates in both]
    pairs = [pairs_of(built, name, hardware) for name in choices]
    return none, wanted, [each for each in pairs for _ in range(2)]


def _all_followed(
    built: Built,
    choices: Mapping[str, CodeRates],
    hardware: Hardware,
    truth: Mapping[str, float],
) -> dict[str, Predicted]:
    """Raises TooLarge."""
    none, wanted, pairs = _wanted(built, choices, hardware)
    line = timeline(built.lowered, [none, *wanted], [Brokered(), *pairs])
    found = outcomes(built.lowered, line, told(built))
    given = [keyed(built, found.of(at)) for at in range(len(wanted) + 1)]
    return {
        name: _followed(given[2 * at + 1], given[2 * at + 2], given[0], truth, rates.how)
        for at, (name, rates) in enumerate(choices.items())
    }


def truth_of(program: Built) -> dict[str, float] | None:
    """What a program gives without errors; None where it is too large to be followed."""
    if not affordable(program.lowered, 1):
        return None
    named = {each.asked for each in program.lowered.alloc_profiles.values()}
    try:
        line = timeline(program.lowered, [dict.fromkeys(named)])
        found = outcomes(program.lowered, line, told(program))
    except TooLarge:
        return None
    return keyed(program, found.of(0))


def told(built: Built) -> frozenset[int] | None:
    """The events from which a circuit's registers follow; None where all are told."""
    if not built.registers:
        return None
    assert isinstance(built.graph.metadata, dict), "emitted"
    number = {field.name: at for at, field in enumerate(built.lowered.events)}
    found = set()
    for register in built.graph.metadata["registers"]:
        odd = register.get("bits", {})
        for index in range(register["size"]):
            how = odd.get(str(index))
            if how is None:
                found.add(f"{register['name']}[{index}]")
            elif "xor" in how:
                found.update(how["xor"])
            else:
                found.update(event for cube in how["any"] for event, _ in cube)
    return frozenset(number[name] for name in found)


def keyed(built: Built, chances: Mapping[str, float]) -> dict[str, float]:
    """Probabilities or counts by what users look at: registers of a circuit, else events."""
    return register_counts(built.graph, chances) if built.registers else dict(chances)


def variation(one: Mapping[str, float], two: Mapping[str, float]) -> float:
    """Total variation between two distributions."""
    keys = one.keys() | two.keys()
    return math.fsum(abs(one.get(key, 0.0) - two.get(key, 0.0)) for key in keys) / 2


def _bounded(error: float, high: float, synthesis: float, rates: str) -> Predicted:
    return Predicted(
        prediction=Prediction(
            error=min(1.0, error + synthesis),
            low=0.0,
            high=min(1.0, high + synthesis),
            noise=error,
            synthesis=synthesis,
            how="light cone",
            rates=rates,
        )
    )


def _followed(
    given: Mapping[str, float],
    at_most: Mapping[str, float],
    noiseless: Mapping[str, float],
    truth: Mapping[str, float],
    rates: str,
) -> Predicted:
    """Of a program that was followed. The interval reaches as far down as up, as a factor."""
    error, noise = variation(given, truth), variation(given, noiseless)
    high = max(error, variation(at_most, truth))
    more = [key for key, chance in given.items() if chance > truth.get(key, 0.0)]
    quiet, predicted, most = (
        math.fsum(each.get(key, 0.0) for key in more) for each in (noiseless, given, at_most)
    )
    most = max(most, predicted)
    return Predicted(
        prediction=Prediction(
            error=error,
            low=max(0.0, error - noise * (1 - _part(noise, noise + high - error))),
            high=high,
            noise=noise,
            synthesis=variation(noiseless, truth),
            how="exact",
            rates=rates,
        ),
        excess=Excess(
            keys=more,
            ideal=math.fsum(truth.get(key, 0.0) for key in more),
            quiet=quiet,
            predicted=predicted,
            low=max(0.0, quiet + (predicted - quiet) * _part(predicted - quiet, most - quiet)),
            high=min(1.0, most),
        ),
    )


def _part(one: float, whole: float) -> float:
    return one / whole if whole > 0 else 1.0


def enough(
    built: Built, codes: Sequence[str], rates: Mapping[str, CodeRates], budget: float
) -> int:
    """Of codes in the order of their distance, the place of the first that keeps within the budget
    by its light cone; or, where none does, of the first that hardly errs more than the last."""
    replaced = coded(built.graph)
    named = {each.asked for each in built.lowered.alloc_profiles.values()}

    def bound(at: int) -> float:
        choice: _Choice = dict.fromkeys(named)
        choice |= dict.fromkeys(replaced, rates[codes[at]])
        return float(seen_errors(timeline(built.lowered, [choice]))[0]) + built.synthesis

    low, high = 0, len(codes) - 1
    budget = max(budget, HARDLY * bound(high))
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if bound(middle) <= budget else (middle + 1, high)
    return low
