"""The model beside factories that are simulated attempt by attempt, and beside the kernel's bill.

An attempt is accepted as often as the numerics' 15-to-1, run on state vectors, accepts
(`qmkd/qec/magic.py`). The kernel itself simulates no factory in time: it reckons with their rate
(`qvm/cycles.py`), which the steady figure of the model has to equal.
"""

from __future__ import annotations

import pytest

from harness.bench.factories_bench import machine, simulated
from qmkd.qec.magic import sample_fifteen_to_one
from qvm.assemble import assemble
from qvm.cycles import demand
from qvm.machine import Hardware, Module
from qvm.program import VerifiedProgram
from qvm.verify import verify
from runtime.jit.factories.model import Factories, mean_wait, throughput, waiting
from runtime.jit.factories.queue import taken, waited
from runtime.jit.factories.schedule import earliest

SHOTS = 4000
DISTANCE = 5
WITHIN = 0.02
"""Of the length of a shot: how far the mean of the model may be from that of the simulation."""


def verified(text: str) -> VerifiedProgram:
    found = verify(assemble(text))
    assert isinstance(found, VerifiedProgram), found
    return found


def chain(length: int, qubits: int = 1) -> VerifiedProgram:
    """So many layers of T gates on all qubits."""
    names = [f"q{at}" for at in range(qubits)]
    lines = [f'ALLOC_LQ n={qubits}, profile="Surface(d={DISTANCE})", {", ".join(names)}']
    lines += [f"APPLY_T {name}" for _ in range(length) for name in names]
    return verified("\n".join([*lines, f"FREE_LQ {', '.join(names)}", ""]))


@pytest.mark.parametrize("p", [2e-3, 2e-2])
@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize(("apart", "burst"), [(18.1, 1), (4.6, 1), (9.0, 1), (40.0, 8)])
def test_the_model_waits_as_long_as_simulated_factories_do(
    p: float, number: int, apart: float, burst: int
) -> None:
    sampled = sample_fifteen_to_one(p, 100_000, seed=7)
    accepted = sampled.accepted / sampled.trials
    due = [at // burst * burst * apart for at in range(120)]
    model = mean_wait(due, Factories(18.1 / number, accepted))
    found = simulated(due, number, 18.1, accepted, SHOTS, seed=11)
    assert abs(model - found) <= WITHIN * (due[-1] + found)


def test_without_chance_the_wait_is_that_of_the_recursion() -> None:
    due = [0.0, 1.0, 50.0, 51.0]
    assert mean_wait(due, Factories(10.0)) == waited(due, 10.0) == 19
    assert taken(due, 10.0) == [10.0, 20.0, 69.0, 70.0]


def test_a_small_store_makes_bursts_wait() -> None:
    due = [100.0] * 4
    assert waited(due, 10.0) == 0
    assert waited(due, 10.0, store=4) == 0
    assert waited(due, 10.0, store=2) == 20
    assert taken(due, 10.0, store=1) == [100.0, 110.0, 120.0, 130.0]


@pytest.mark.parametrize("program", [chain(40), chain(3, qubits=20), chain(1), chain(200)])
@pytest.mark.parametrize("number", [1, 3, 40])
def test_many_shots_in_a_row_take_as_long_as_the_kernel_reckons(
    program: VerifiedProgram, number: int
) -> None:
    hardware = machine(number, 18.1)
    found = waiting(program, hardware)
    bill = demand(program.summary, hardware)
    # The kernel's rates are whole numbers per million cycles, and to it a release is a step too.
    assert found.steady == pytest.approx(bill.cycles, rel=1e-4, abs=DISTANCE + 1)
    assert found.slowed == (bill.slowed == "T states") or bill.cycles <= found.asap + DISTANCE
    assert found.first >= found.steady - 1
    assert found.states == program.summary.t_states


def test_a_share_of_the_factories_gives_a_share_of_the_states() -> None:
    hardware = machine(2, 18.1)
    assert throughput(hardware) == pytest.approx(2 / 18.1)
    whole, half = waiting(chain(200), hardware), waiting(chain(200), hardware, share=0.5)
    assert half.steady == pytest.approx(2 * whole.steady)


def test_a_machine_without_factories_keeps_nobody_waiting() -> None:
    hardware = Hardware(name="m", module=(Module(name="a", qubits=1000),))
    found = waiting(chain(10), hardware)
    assert found.first == found.steady == found.asap == 50
    assert throughput(hardware) is None


def test_an_operation_begins_when_operands_events_and_fences_are_there() -> None:
    program = verified(
        'ALLOC_LQ n=3, profile="ideal", a, b, c\n'
        "APPLY_H a\nAPPLY_CNOT a, b\nMEASURE_Z b -> m\nAPPLY_X c if m==1\n"
        "FENCE_EPOCH\nAPPLY_T a\nFREE_LQ a, b, c\n"
    )
    schedule = earliest(program)
    assert schedule.begins[1:7] == (0, 1, 2, 3, 0, 4)
    assert schedule.steps == 5
