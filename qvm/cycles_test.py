"""Cycles of a shot, by hand."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

from qvm.cycles import SPANS_MAX, Vacancy, demand, earliest, steps_of
from qvm.machine import Factory, Hardware, Module, plain
from qvm.program import Summary, VerifiedProgram
from qvm.verify import verify_bytes

PLAIN = plain(1_000_000)


def summary(*nodes: dict[str, Any], qubits: int = 2, profile: str = "Surface(d=5)") -> Summary:
    names = [f"q{at}" for at in range(qubits)]
    alloc = {"op": "ALLOC_LQ", "args": {"n": qubits, "profile": f"logical:{profile}"}, "vqs": names}
    listed = [{"id": f"n{at}", **node} for at, node in enumerate([alloc, *nodes])]
    resources = {"vqs": names, "events": []}
    text = json.dumps({"version": "0.1", "program": {"nodes": listed}, "resources": resources})
    found = verify_bytes(text.encode())
    assert isinstance(found, VerifiedProgram), found
    return found.summary


H = [{"op": "APPLY_H", "vqs": ["q0"]}, {"op": "APPLY_H", "vqs": ["q1"]}]
CNOT = {"op": "APPLY_CNOT", "vqs": ["q0", "q1"]}
T = {"op": "APPLY_T", "vqs": ["q0"]}
FENCE = {"op": "FENCE_EPOCH"}


def test_an_operation_takes_a_step_of_as_many_cycles_as_the_distance() -> None:
    # Two qubits, one part: H, H, CNOT are three operations, in two steps of five cycles.
    one = summary(*H, CNOT)
    assert steps_of(one) == 2
    assert demand(one, PLAIN).cycles == 10


def test_parts_run_side_by_side() -> None:
    assert demand(summary(*H * 3), PLAIN).cycles == demand(summary(*H[:1] * 3), PLAIN).cycles == 15


def test_an_epoch_takes_a_step_at_least() -> None:
    assert demand(summary(*[FENCE] * 6), PLAIN).cycles == 7 * 5


def test_an_ideal_qubit_takes_a_cycle_for_an_operation() -> None:
    assert demand(summary(*H, CNOT, profile="ideal"), PLAIN).cycles == 2


def test_the_largest_distance_sets_the_pace() -> None:
    assert demand(summary(CNOT, profile="SHYPS(d=5)"), PLAIN).cycles == 8


def made(cycles: float, number: int = 1, blocks: int | None = None) -> Hardware:
    module = Module(name="m", qubits=10_000)
    factory = Factory(module="m", qubits=100, cycles=cycles, number=number)
    return Hardware(name="t", module=(module,), factory=(factory,), decoder_blocks=blocks)


@pytest.mark.parametrize(
    ("cycles", "number", "shot"), [(1.0, 1, 20), (40.0, 1, 160), (40.0, 4, 40)]
)
def test_a_shot_takes_as_long_as_factories_need_for_its_t_states(
    cycles: float, number: int, shot: int
) -> None:
    found = demand(summary(*[T] * 4), made(cycles, number))
    assert found.cycles == shot
    assert found.slowed == ("T states" if shot > 20 else "")
    # It never takes more than there is, and all it takes comes to what the program consumes.
    rate = made(cycles, number).t_rate
    assert rate is not None
    assert 4_000_000 <= found.t_rate * found.cycles < 4_000_000 + found.cycles
    assert found.t_rate <= rate


def test_without_factories_t_states_are_without_limit() -> None:
    found = demand(summary(*[T] * 4), PLAIN)
    assert (found.cycles, found.t_rate, found.slowed) == (20, 0, "")


def test_a_decoder_with_too_few_blocks_makes_a_shot_longer_in_proportion() -> None:
    program = summary(CNOT, qubits=6)
    assert demand(program, made(1.0, blocks=6)).cycles == 5
    slow = demand(program, made(1.0, blocks=4))
    assert (slow.cycles, slow.blocks, slow.slowed) == (8, 4, "decoding")
    ideal = demand(summary(CNOT, qubits=6, profile="ideal"), made(1.0, blocks=4))
    assert (ideal.cycles, ideal.blocks) == (1, 0)


@pytest.mark.parametrize("factories", [True, False])
def test_no_program_takes_more_than_there_is(factories: bool) -> None:
    machine = made(50.0, blocks=4)
    if not factories:
        machine = msgspec.structs.replace(machine, factory=())
    found = demand(summary(CNOT, *[T] * 3, qubits=9), machine)
    assert found.blocks == 4
    assert found.t_rate <= (machine.t_rate or 0)


def test_blocks_are_whole_and_counted_at_their_most() -> None:
    (one,) = summary(qubits=10, profile="SHYPS(d=4)").blocks
    assert (one.number, one.logical, one.physical) == (2, 9, 147)
    assert msgspec.to_builtins(one)["code"] == "SHYPS"


def test_blocks_of_each_kind_are_counted_at_their_own_most() -> None:
    def alloc(name: str, profile: str) -> dict[str, Any]:
        args = {"n": 1, "profile": f"logical:{profile}"}
        return {"op": "ALLOC_LQ", "args": args, "vqs": [name]}

    listed = [
        alloc("a", "Surface(d=3)"),
        alloc("b", "Surface(d=3)"),
        {"op": "FREE_LQ", "vqs": ["a"]},
        alloc("c", "Surface(d=5)"),
        {"op": "FREE_LQ", "vqs": ["b", "c"]},
    ]
    nodes = [{"id": f"n{at}", **node} for at, node in enumerate(listed)]
    document = {
        "version": "0.1",
        "program": {"nodes": nodes},
        "resources": {"vqs": ["a", "b", "c"], "events": []},
    }
    found = verify_bytes(json.dumps(document).encode())
    assert isinstance(found, VerifiedProgram), found
    kinds = [(each.distance, each.number) for each in found.summary.blocks]
    assert kinds == [(5, 1), (3, 2)]
    assert found.summary.peak_physical == 17 + 49


@pytest.mark.parametrize("seed", range(30))
def test_the_earliest_start_is_that_of_a_machine_watched_cycle_by_cycle(seed: int) -> None:
    rng = random.Random(seed)
    total = 20
    ends, free = [], total
    while free > 3:
        qubits = rng.randint(1, free)
        free -= qubits
        ends.append((rng.randint(0, 30), qubits))
    wants = [(rng.randint(1, total), rng.randint(1, 9)) for _ in range(rng.randint(1, 6))]
    now, running, waiting, start = 5, list(ends), list(wants), 0
    while waiting:
        back = [each for each in running if each[0] <= now]
        running = [each for each in running if each[0] > now]
        free += sum(qubits for _, qubits in back)
        while waiting and waiting[0][0] <= free:
            qubits, cycles = waiting.pop(0)
            free -= qubits
            running.append((now + cycles, qubits))
            start = now
        now += 1
    idle = total - sum(qubits for _, qubits in ends)
    assert earliest(5, idle, ends, wants) == start


def test_what_was_free_longest_is_taken_first() -> None:
    vacancy = Vacancy([(0, 5)])
    vacancy.give(30, 4)
    vacancy.give(20, 3)
    assert vacancy.take(2) == 0
    assert vacancy.take(5) == 20
    assert vacancy.take(0) == 0
    assert vacancy.free == 5
    assert vacancy.take(5) == 30
    assert vacancy.free == 0


def test_of_many_spans_the_oldest_become_one_and_nothing_is_free_too_early() -> None:
    vacancy = Vacancy([(0, 1)])
    for since in range(1, 3 * SPANS_MAX):
        vacancy.give(since, 1)
        assert len(vacancy.spans) <= SPANS_MAX
    assert vacancy.free == 3 * SPANS_MAX
    assert vacancy.take(1) == 2 * SPANS_MAX
