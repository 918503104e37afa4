"""Questions about resources and their answers, as JSON values: what `python -m qmkd.qec` speaks.

Pure: one request in, one answer out. The other side is `qmkctl estimate`, which may not import this
room (docs/decisions/0011-estimates.md). What the answers mean is in `resources.py`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from qmkd.qec import azure, resources, settings
from qmkd.qec.azure import Counts, EstimateError
from qmkd.qec.resources import ErrorRates, Machine
from syscalls.findings import Finding

POINTS_MAX: Final = 512
AROUND: Final = 4
"""How far beyond the distances of the two answers others are looked at."""
NS: Final = 1e-9
UNIFORM_NOTE: Final = "rates are looked up for uniform noise as strong as the worst of these rates"


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question.

    counts: of the program; without, only `error_wanted` is answered. failure: allowed to the whole
    program. qubit, scheme: by Azure's names. code, p, round_ns: the machine whose rates are asked
    for; p and round_ns default to those of the qubit. settings: a document as in `settings.py`, in
    place of all five. frontier: also what trades qubits for time. distances: also the program at
    each of these, however often it fails there; an empty list for those around the two answers.
    error_wanted: also the smallest distance that errs no more than this in d rounds; with
    `distance`, the strongest noise too.
    """

    counts: Counts | None = None
    failure: float = 1e-3
    qubit: str = "qubit_gate_ns_e3"
    scheme: str = "surface_code"
    code: str = "Surface"
    p: float | None = None
    round_ns: float | None = None
    settings: dict[str, Any] | None = None
    frontier: bool = False
    distances: list[int] | None = None
    error_wanted: float | None = None
    distance: int | None = None


class _Setup(msgspec.Struct, frozen=True):
    qubit: azure.Qubit
    scheme: azure.Scheme
    machine: Machine
    notes: tuple[tuple[str, str], ...] = ()
    warnings: tuple[Finding, ...] = ()


def answer(raw: bytes, rates: ErrorRates) -> dict[str, Any]:
    """The answer to a `Request` in JSON. Never raises on what a user may write.

    Holds `refused`, a sentence, or `findings`, or else what was asked for.
    """
    try:
        request = msgspec.json.decode(raw, type=Request)
        return _answered(request, rates)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return {"refused": f"the question cannot be read: {error}"}
    except EstimateError as error:
        return {"refused": str(error)}


def _answered(request: Request, rates: ErrorRates) -> dict[str, Any]:
    setup = _setup(request)
    if isinstance(setup, list):
        return {"findings": msgspec.to_builtins(setup)}
    machine = setup.machine
    found: dict[str, Any] = {
        "notes": [list(note) for note in setup.notes],
        "warnings": [msgspec.to_builtins(each) for each in setup.warnings],
        "machine": msgspec.to_builtins(machine),
    }
    if request.error_wanted is not None:
        found["inverse"] = _inverse(request, machine, rates)
    if request.counts is None:
        if request.error_wanted is None:
            raise EstimateError("a question names a program's counts or an error wanted")
        return found
    budget = azure.split_budget(request.failure, request.counts)
    both = resources.compare(request.counts, budget, setup.qubit, setup.scheme, machine, rates)
    found |= {
        "optimism": both.optimism,
        "azure": _refusal(both.azure) if isinstance(both.azure, str) else _closed(both.azure),
        "measured": (
            _refusal(both.measured) if isinstance(both.measured, str) else _measured(both.measured)
        ),
    }
    if isinstance(both.azure, azure.Estimate):
        found["azure_fields"] = both.azure.as_azure()
    if request.frontier:
        found["frontier"] = _frontiers(request.counts, budget, setup, rates, both)
    if request.distances is not None:
        found["distances"] = _at_distances(request.distances, setup, rates, both)
    return found


def _setup(request: Request) -> _Setup | list[Finding]:
    if request.settings is not None:
        return _from_settings(request)
    if request.qubit not in azure.QUBITS:
        raise EstimateError(f"there are {', '.join(azure.QUBITS)}, not {request.qubit!r}")
    qubit = azure.QUBITS[request.qubit]
    scheme = azure.scheme_named(request.scheme, qubit)
    machine = Machine(
        code=resources.footprint(request.code, 9).code,
        p=qubit.physical_error if request.p is None else request.p,
        round_ns=scheme.cycle_ns(qubit, 1) if request.round_ns is None else request.round_ns,
    )
    _check_machine(machine)
    return _Setup(qubit, scheme, machine)


def _from_settings(request: Request) -> _Setup | list[Finding]:
    read = settings.read_settings(msgspec.json.encode(request.settings))
    if not isinstance(read, settings.Settings):
        return read
    terms = settings.to_azure(read)
    round_us = read.round_us
    machine = Machine(
        code=read.profile.code,
        p=terms.qubit.physical_error,
        round_ns=terms.scheme.cycle_ns(terms.qubit, 1) if round_us is None else 1e3 * round_us,
    )
    _check_machine(machine)
    notes = (*terms.notes, ("$.error_budget", UNIFORM_NOTE))
    return _Setup(terms.qubit, terms.scheme, machine, notes, read.warnings)


def _check_machine(machine: Machine) -> None:
    if not 0 < machine.p < 0.5:
        raise EstimateError(f"a noise strength is between 0 and 1/2, not {machine.p}")
    if not 0 < machine.round_ns < 1e15:
        raise EstimateError(f"a round takes some time, not {machine.round_ns} ns")


def _refusal(sentence: str) -> dict[str, Any]:
    return {"refused": sentence}


def _closed(found: azure.Estimate) -> dict[str, Any]:
    factory = found.factory
    states = found.counts.states(found.budget.rotations)
    wrong = found.counts.tiles * found.cycles * found.patch.error + found.budget.rotations
    return {
        "physical_qubits": found.physical_qubits,
        "seconds": found.runtime_ns * NS,
        "cycles": found.cycles,
        "distance": found.patch.distance,
        "t_states": states,
        "t_states_per_rotation": found.counts.states_per_rotation(found.budget.rotations),
        "error_per_cycle": found.patch.error,
        "error_source": "closed form",
        "qubits_for_program": found.qubits_for_program,
        "qubits_for_magic": found.qubits_for_factories,
        "magic": None if factory is None else " into ".join(e.name for e in factory.rounds),
        "magic_copies": found.factories,
        "magic_error": None if factory is None else factory.error,
        "failure": wrong + (0.0 if factory is None else states * factory.error),
    }


def _measured(found: resources.Measured) -> dict[str, Any]:
    source, counts, rotations = found.source, found.counts, found.budget.rotations
    return {
        "physical_qubits": found.physical_qubits,
        "seconds": found.runtime_ns * NS,
        "cycles": found.cycles,
        "distance": found.distance,
        "t_states": counts.states(rotations),
        "t_states_per_rotation": counts.states_per_rotation(rotations),
        "error_per_cycle": found.rate.value,
        "error_low": found.rate.low,
        "error_high": found.rate.high,
        "error_how": found.rate.how,
        "error_source": found.rate.source,
        "qubits_for_program": found.qubits_for_program,
        "qubits_for_magic": found.qubits_for_sources,
        "magic": None if source is None else source.name,
        "magic_copies": found.sources,
        "magic_error": None if source is None else source.error,
        "magic_source": None if source is None else source.origin,
        "failure": found.failure,
    }


def _inverse(request: Request, machine: Machine, rates: ErrorRates) -> dict[str, Any]:
    wanted = request.error_wanted
    assert wanted is not None, "asked only where an error is wanted"
    if not 0 < wanted < 1:
        raise EstimateError(f"an error wanted is between 0 and 1, not {wanted}")
    distance, rate = resources.smallest_distance(rates, machine.code, machine.p, wanted)
    block = resources.footprint(machine.code, distance)
    found = {
        "error_wanted": wanted,
        "distance": distance,
        "error_per_cycle": rate.value,
        "error_low": rate.low,
        "error_high": rate.high,
        "error_how": rate.how,
        "error_source": rate.source,
        "physical_qubits_per_block": block.block_physical,
        "logical_qubits_per_block": block.block,
    }
    if request.distance is not None:
        found["strongest_noise"] = resources.strongest_noise(
            rates, machine.code, request.distance, wanted
        )
    return found


def _frontiers(
    counts: Counts,
    budget: azure.Budget,
    setup: _Setup,
    rates: ErrorRates,
    both: resources.Comparison,
) -> dict[str, list[dict[str, Any]]]:
    """Points of both frontiers, each thinned to POINTS_MAX."""
    closed = (
        []
        if isinstance(both.azure, str)
        else [_closed(e) for e in azure.frontier(counts, setup.qubit, setup.scheme, budget)]
    )
    measured = (
        []
        if isinstance(both.measured, str)
        else [
            _measured(e) for e in resources.measured_frontier(counts, budget, setup.machine, rates)
        ]
    )
    return {"azure": _thinned(closed), "measured": _thinned(measured)}


def _at_distances(
    asked: list[int], setup: _Setup, rates: ErrorRates, both: resources.Comparison
) -> dict[str, list[dict[str, Any]]]:
    """The program at each distance, by both ways of estimating; without those unknown to one.

    Raises EstimateError where a distance asked for is none.
    """
    wrong = [each for each in asked if not 1 <= each <= resources.DISTANCE_MAX]
    if wrong:
        raise EstimateError(f"a distance is from 1 to {resources.DISTANCE_MAX}, not {wrong[0]}")
    closed, measured = both.azure, both.measured
    chosen = [] if isinstance(closed, str) else [closed.patch.distance]
    chosen += [] if isinstance(measured, str) else [measured.distance]
    around = range(max(3, min(chosen, default=3) - AROUND), max(chosen, default=3) + AROUND + 1, 2)
    wanted = sorted(set(asked)) or list(around)
    found: dict[str, list[dict[str, Any]]] = {"azure": [], "measured": []}
    for distance in wanted:
        if not isinstance(closed, str):
            found["azure"].append(
                _closed(azure.at_distance(closed, setup.qubit, setup.scheme, distance))
            )
        if not isinstance(measured, str):
            there = resources.at_distance(measured, rates, distance)
            found["measured"] += [] if there is None else [_measured(there)]
    return found


def _thinned(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(points) <= POINTS_MAX:
        return points
    step = (len(points) - 1) / (POINTS_MAX - 1)
    return [points[round(step * index)] for index in range(POINTS_MAX)]
