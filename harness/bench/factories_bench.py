"""What programs wait for T states: the model of `runtime/jit/factories` beside simulated factories,
and beside what the kernel reckons.

Factories are simulated attempt by attempt. An attempt is accepted as often as the numerics' own
15-to-1 accepts, run on state vectors (`qmkd/qec/magic.py`), at a given error of the states that go
in. The kernel simulates no factory in time: it bills by their mean rate (`qvm/cycles.py`), which is
what many shots in a row come to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from harness.bench.rows import Row, row
from qmkd.qec.magic import sample_fifteen_to_one
from qvm.cycles import demand
from qvm.machine import Factory, Hardware, Module
from qvm.program import VerifiedProgram
from qvm.verify import verify
from runtime.jit.compiling import compile_circuit
from runtime.jit.factories.model import Waiting, due_cycles, waiting
from runtime.jit.factories.schedule import earliest
from runtime.jit.passes import Wishes

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
PROGRAMS: Final = ("grover.qasm", "phase_estimation.qasm", "qaoa_ring.qasm", "shor15.qasm")
PROFILE: Final = "logical:Surface(d=11)"
EPSILON: Final = 1e-4
FACTORIES: Final = ((1, 18.1), (1, 42.6), (4, 42.6), (6, 130.0))
"""How many, and cycles for a state: those of the shipped machines `lab`, `early`, `modular` and
`million`."""
ERRORS_IN: Final = (1e-3, 1e-2)
"""Of the states that are distilled."""
TRIALS: Final = 100_000
SHOTS: Final = 4_000
SHOTS_QUICK: Final = 1_000
WITHIN: Final = 0.02
"""Of a shot's length: how far the model may be off."""


class Case(NamedTuple):
    """waited: mean cycles that a shot waits in the simulation. billed: by the kernel."""

    name: str
    model: Waiting
    waited: float
    billed: int

    @property
    def off(self) -> float:
        """How far the model is from the simulation, as a share of a shot."""
        return abs(self.model.waited - self.waited) / (self.model.asap + self.waited)


def run(quick: bool) -> list[Row]:
    rows = []
    cases = list(_cases(SHOTS_QUICK if quick else SHOTS))
    for each in cases:
        model = each.model
        rows.append(
            row(
                f"{each.name}: {model.states} T states; waits {model.waited:,.0f}, simulated "
                f"{each.waited:,.0f}, of {model.first:,.0f} cycles; many shots {model.steady:,.0f}"
                f", kernel {each.billed:,}; off by",
                round(100 * each.off, 3),
                "% of a shot",
                at_most=100 * WITHIN,
            )
        )
    rows.append(row("the most", 100 * max(each.off for each in cases), "% of a shot"))
    return rows


def _cases(shots: int) -> Iterator[Case]:
    for name in PROGRAMS:
        program = _compiled(EXAMPLES / name)
        for number, cycles in FACTORIES:
            hardware = machine(number, cycles)
            for error in ERRORS_IN:
                sampled = sample_fifteen_to_one(error, TRIALS, seed=7)
                accepted = sampled.accepted / sampled.trials
                model = waiting(program, hardware, accepted=accepted)
                distance = program.summary.profiles[0].distance
                due = due_cycles(program, earliest(program), distance)
                found = simulated(due, number, cycles, accepted, shots, seed=11)
                about = f"{name}, {number} of {cycles:g} cycles, accepting {accepted:.3f}"
                yield Case(about, model, found, demand(program.summary, hardware).cycles)


def machine(number: int, cycles: float) -> Hardware:
    """One module with so many factories."""
    return Hardware(
        name="m",
        module=(Module(name="a", qubits=1_000_000),),
        factory=(Factory(module="a", qubits=810, cycles=cycles, number=number),),
    )


def _compiled(path: Path) -> VerifiedProgram:
    graph = compile_circuit(path, profile=PROFILE, wishes=Wishes(epsilon=EPSILON))
    found = verify(graph)
    assert isinstance(found, VerifiedProgram), found
    return found


def simulated(
    due: Sequence[float], number: int, cycles: float, accepted: float, shots: int, seed: int
) -> float:
    """Mean cycles that a shot waits which begins with an empty store, every factory making its own
    attempts one after the other, out of step."""
    chance = np.random.default_rng(seed)
    attempt = cycles * accepted
    rounds = math.ceil(len(due) / accepted / number * 2) + 40
    offsets = attempt * np.arange(1, number + 1) / number
    ends = (offsets[:, None] + attempt * np.arange(rounds)).ravel()
    waits = np.empty(shots)
    for shot in range(shots):
        made = np.sort(ends[chance.random(ends.size) < accepted])[: len(due)]
        assert made.size == len(due), "there are enough attempts"
        waits[shot] = max(0.0, float(np.max(made - due)))
    return float(waits.mean())
