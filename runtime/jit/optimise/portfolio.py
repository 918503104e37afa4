"""The optimiser: every engine is asked, and the best answer that is shown to be equal is taken.

It refuses nothing. An engine that fails, is not installed or answers what is not equal is noted in
the report, and the circuit stays as it was where nobody knows better. Read `engines.py` for who is
asked, `costs.py` for what is better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from runtime.jit.circuit import Circuit, Operation, expanded
from runtime.jit.costs import Counts, counts
from runtime.jit.optimise.engines import ALL, Engine, NotForThis
from runtime.jit.optimise.equivalence import Twin, Witness
from runtime.jit.optimise.stretches import Stretch, about_z, cut, placed

ROUNDS_MAX: Final = 3
EPSILON: Final = 1e-6
"""Of all rotations together, by default: it decides what a rotation weighs against a T gate."""

Key = Callable[[Counts], tuple[float, ...]]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to a circuit.

    before, after: what all of it costs. stretches: how many were looked at, and improved how many.
    chosen: of the improved stretches, how often an engine had the last word. checked: how equality
    was found, of the improved. refused: why answers were not taken, and how often; among them what
    engines could not do.
    """

    before: Counts
    after: Counts
    stretches: int
    improved: int
    chosen: dict[str, int]
    checked: dict[str, int]
    refused: dict[str, int]


class Optimised(msgspec.Struct, frozen=True, kw_only=True):
    """A circuit that does the same but for the global phase, and how it came about."""

    circuit: Circuit
    report: Report


class _Answer(NamedTuple):
    """cost: by the key. engine: the last one that had a hand in it. proof: None for the input."""

    cost: tuple[float, ...]
    engine: str
    gates: tuple[Operation, ...]
    proof: Witness | None


def optimised(
    circuit: Circuit,
    *,
    epsilon: float = EPSILON,
    engines: Mapping[str, Engine] = ALL,
) -> Optimised:
    """The circuit with its unitary stretches rewritten, where that makes them cheaper.

    Cheaper is fewer T states (a rotation counts as the T gates that it will take, if all rotations
    are to stay within `epsilon` together), then fewer two-qubit gates and steps of depth together,
    then fewer two-qubit gates. Measurements, resets, conditions, barriers and fences stay; the
    global phase is not kept. Never raises for what an engine does.
    """

    def key(found: Counts) -> tuple[float, ...]:
        return found.key(epsilon)

    small = list(about_z(expanded(circuit.operations)))
    made: list[Operation] = []
    chosen: Counter[str] = Counter()
    checked: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    stretches = 0
    for part in cut(small):
        if not isinstance(part, Stretch):
            made.append(part)
            continue
        stretches += 1
        best = _best(part, key, engines, refused)
        made += placed(part, best.gates)
        if best.proof is not None:
            chosen[best.engine] += 1
            checked[best.proof] += 1
    report = Report(
        before=counts(small),
        after=counts(made),
        stretches=stretches,
        improved=chosen.total(),
        chosen=dict(chosen),
        checked=dict(checked),
        refused=dict(refused),
    )
    return Optimised(circuit=circuit.with_operations(made), report=report)


def _best(
    stretch: Stretch, key: Key, engines: Mapping[str, Engine], refused: Counter[str]
) -> _Answer:
    """The best of all answers; engines are asked again about it as long as that helps."""
    best = _Answer(key(counts(stretch.gates)), "", stretch.gates, None)
    twin = Twin(stretch.gates, len(stretch.qubits))
    for _ in range(ROUNDS_MAX):
        better = _round(twin, best, key, engines, refused)
        if better is None:
            break
        best = better
    return best


def _round(
    twin: Twin,
    best: _Answer,
    key: Key,
    engines: Mapping[str, Engine],
    refused: Counter[str],
) -> _Answer | None:
    """The best equal answer to the best so far; None where there is no better one."""
    answers = []
    for name, engine in engines.items():
        try:
            gates = tuple(engine(best.gates, twin.width))
            answers.append(_Answer(key(counts(gates)), name, gates, None))
        except NotForThis as reason:
            refused[f"{name}: {reason}"] += 1
        except ImportError as reason:
            refused[f"{name}: {reason.name} is not installed"] += 1
        except Exception as reason:  # whatever a library does wrong is no reason to stop
            refused[f"{name}: {type(reason).__name__}"] += 1
    for answer in sorted(answers, key=lambda each: each.cost):
        if answer.cost >= best.cost:
            return None
        # Against the input, not against the last answer: so errors of checks cannot add up.
        proof = twin.witness(answer.gates)
        if proof is not None:
            return answer._replace(proof=proof)
        refused[f"{answer.engine}: equality not shown"] += 1
    return None
