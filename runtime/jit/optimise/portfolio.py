"""The optimiser: every engine is asked, and the best answer that is shown to be equal is taken.

It refuses nothing. An engine that fails, is not installed or answers what is not equal is noted in
the report, and the circuit stays as it was where nobody knows better. Read `engines.py` for who is
asked, `costs.py` for what is better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from runtime.jit.circuit import Circuit, Operation, expanded
from runtime.jit.costs import Counts, counts
from runtime.jit.optimise.engines import ALL, QUICK, WIDE, Engine, NotForThis
from runtime.jit.optimise.equivalence import Twin, Witness
from runtime.jit.optimise.stretches import QUBITS_MAX, Stretch, about_z, cut, placed

ROUNDS_MAX: Final = 3
EPSILON: Final = 1e-6
"""Of all rotations together, by default: it decides what a rotation weighs against a T gate."""
WIDE_GATES_MAX: Final = 4000
"""Of a circuit that is also looked at as a whole, however many qubits it has."""
THOROUGH_GATES_MAX: Final = 20_000
"""Of a circuit for which the slow engines are asked."""

Key = Callable[[Counts], tuple[float, ...]]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to a circuit.

    before, after: what all of it costs. stretches: how many were looked at, and improved how many.
    chosen: of the improved stretches, how often an engine had the last word. checked: how equality
    was found, of the improved. refused: whose better answers were not taken and why, and how often.
    skipped: who did not answer, as the question was none for that engine.
    """

    before: Counts
    after: Counts
    stretches: int
    improved: int
    chosen: dict[str, int]
    checked: dict[str, int]
    refused: dict[str, int]
    skipped: dict[str, int]


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
    run = _Run(key)
    made = small
    if circuit.width > QUBITS_MAX and len(small) <= WIDE_GATES_MAX:
        made = run.over(made, circuit.width, _among(WIDE, engines))
    if len(small) > THOROUGH_GATES_MAX:
        engines = _among(QUICK, engines)
    made = run.over(made, QUBITS_MAX, engines)
    report = Report(
        before=counts(small),
        after=counts(made),
        stretches=run.stretches,
        improved=run.chosen.total(),
        chosen=dict(run.chosen),
        checked=dict(run.checked),
        refused=dict(run.refused),
        skipped=dict(run.skipped),
    )
    return Optimised(circuit=circuit.with_operations(made), report=report)


def _among(names: Sequence[str], engines: Mapping[str, Engine]) -> Mapping[str, Engine]:
    return {name: engine for name, engine in engines.items() if name in names}


class _Run:
    """What has been found so far."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.stretches = 0
        self.chosen: Counter[str] = Counter()
        self.checked: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()

    def over(
        self, operations: Sequence[Operation], qubits: int, engines: Mapping[str, Engine]
    ) -> list[Operation]:
        """The operations with each stretch of up to so many qubits at its best."""
        made: list[Operation] = []
        for part in cut(operations, qubits=max(2, qubits)):
            if not isinstance(part, Stretch):
                made.append(part)
                continue
            self.stretches += 1
            best = self._best(part, engines)
            made += placed(part, best.gates)
            if best.proof is not None:
                self.chosen[best.engine] += 1
                self.checked[best.proof] += 1
        return made

    def _best(self, stretch: Stretch, engines: Mapping[str, Engine]) -> _Answer:
        """The best of all answers; engines are asked again about it as long as that helps."""
        best = _Answer(self.key(counts(stretch.gates)), "", stretch.gates, None)
        twin = Twin(stretch.gates, len(stretch.qubits))
        for _ in range(ROUNDS_MAX):
            better = self._better(twin, best, engines)
            if better is None:
                break
            best = better
        return best

    def _better(self, twin: Twin, best: _Answer, engines: Mapping[str, Engine]) -> _Answer | None:
        """The best answer to the best so far that equals the input; None where none is better."""
        answers = []
        for name, engine in engines.items():
            if name == best.engine:
                continue
            try:
                gates = tuple(engine(best.gates, twin.width))
            except NotForThis as reason:
                self.skipped[f"{name}: {reason}"] += 1
            except ImportError as reason:
                self.refused[f"{name}: {reason.name} is not installed"] += 1
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as reason:  # also a panic of Rust, which is no Exception
                self.refused[f"{name}: {type(reason).__name__}"] += 1
            else:
                answers.append(_Answer(self.key(counts(gates)), name, gates, None))
        for answer in sorted(answers, key=lambda each: each.cost):
            if answer.cost >= best.cost:
                return None
            # Beside the input, not the last answer: so what checks let through cannot add up.
            proof = twin.witness(answer.gates)
            if proof is not None:
                return answer._replace(proof=proof)
            self.refused[f"{answer.engine}: not shown to be equal"] += 1
        return None
