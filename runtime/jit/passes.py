"""What is done to a circuit between front end and emission: optimised, lowered, fenced.

Tries the ways there are (with temporary ANDs, where ancillas are allowed, and without), keeps the
cheapest. Read `lower/` and `optimise/` for the passes themselves, `costs.py` for what is cheaper.
"""

from __future__ import annotations

from typing import Final

import msgspec

from runtime.jit.circuit import Circuit, expanded
from runtime.jit.costs import Counts, counts
from runtime.jit.fences import fenced
from runtime.jit.lower import clifford_t
from runtime.jit.lower.ands import with_ands
from runtime.jit.lower.clifford_t import to_clifford_t
from runtime.jit.optimise import portfolio
from runtime.jit.optimise.edges import without_unseen
from runtime.jit.optimise.portfolio import optimised
from runtime.jit.optimise.stretches import about_z


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """Which passes a circuit goes through; none, unless asked.

    epsilon: write rotations in Clifford and T gates, to this error in operator norm over all of
    them; None leaves them. optimise: leave out what no measurement tells, and rewrite unitary
    stretches; the circuit then does the same to |0>, but for the global phase. ancillas: so many
    qubits may be added for temporary ANDs, which take measurements and decisions within the shot.
    fence_every: no chain of more operations without a fence.
    """

    epsilon: float | None = None
    optimise: bool = False
    ancillas: int = 0
    fence_every: int | None = None

    def __post_init__(self) -> None:
        assert self.ancillas >= 0
        assert self.fence_every is None or self.fence_every >= 1


NOTHING: Final = Wishes()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """before, between, after: what the circuit costs, of gates that have opcodes; `between` stands
    behind the optimiser and before rotations are written in T gates. ands: whether gates with two
    controls go through temporary ANDs. optimised, lowered: of the passes that ran."""

    before: Counts
    between: Counts
    after: Counts
    ands: bool
    optimised: portfolio.Report | None = None
    lowered: clifford_t.Report | None = None


class Passed(msgspec.Struct, frozen=True, kw_only=True):
    """A circuit that does the same, within the error that its report names."""

    circuit: Circuit
    report: Report


def passed(circuit: Circuit, wishes: Wishes) -> Passed:
    """The circuit after the passes asked for.

    Raises `Unreachable` where the rotations that there are would need a smaller error each than can
    be had.
    """
    epsilon = wishes.epsilon
    before = counts(about_z(expanded(circuit.operations)))
    if wishes.optimise:
        circuit = circuit.with_operations(without_unseen(circuit.operations))
    ways = [circuit]
    if wishes.ancillas and (through := with_ands(circuit, wishes.ancillas)) is not circuit:
        ways.append(through)
    found = []
    for way in ways:
        made, first, second = way, None, None
        if wishes.optimise:
            done = optimised(way) if epsilon is None else optimised(way, epsilon=epsilon)
            # Engines bring phases to where nobody sees them.
            made, first = done.circuit, done.report
            made = made.with_operations(without_unseen(made.operations))
        between = after = counts(about_z(expanded(made.operations)))
        if epsilon is not None:
            lowered = to_clifford_t(made, epsilon)
            made, second = lowered.circuit, lowered.report
            after = counts(made.operations)
        report = Report(
            before=before,
            between=between,
            after=after,
            ands=way is not circuit,
            optimised=first,
            lowered=second,
        )
        found.append(Passed(circuit=made, report=report))
    weight = portfolio.EPSILON if epsilon is None else epsilon
    best = min(found, key=lambda each: each.report.after.key(weight))
    if wishes.fence_every is None:
        return best
    return msgspec.structs.replace(best, circuit=fenced(best.circuit, wishes.fence_every))
