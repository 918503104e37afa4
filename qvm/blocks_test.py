"""Room is found, taken once and given back whole; what fits is placed."""

from __future__ import annotations

import random

import pytest

from qvm.blocks import Inventory, Place, qubits_of
from qvm.machine import Factory, Hardware, Link, Module
from qvm.program import Blocks


def machine(*qubits: int, links: tuple[tuple[int, int], ...] = (), factory: int = 0) -> Hardware:
    made = Factory(module="m0", qubits=factory, cycles=10.0)
    return Hardware(
        name="test",
        module=tuple(Module(name=f"m{at}", qubits=each) for at, each in enumerate(qubits)),
        link=tuple(Link(between=(f"m{a}", f"m{b}"), cycles=10.0, fidelity=0.9) for a, b in links),
        factory=(made,) if factory else (),
    )


def blocks(*kinds: tuple[int, int]) -> tuple[Blocks, ...]:
    """(physical qubits of a block, how many) of each kind."""
    return tuple(
        Blocks(code="Surface", distance=3, logical=1, physical=size, number=number)
        for size, number in kinds
    )


def qubits(place: Place) -> list[int]:
    return [each for run in place for each in range(run.first, run.first + run.qubits)]


def modules(place: Place) -> set[int]:
    return {run.module for run in place}


def test_a_whole_program_goes_into_the_module_that_it_fills_best() -> None:
    inventory = Inventory(machine(100, 40, 60))
    place = inventory.find(blocks((17, 2)))
    assert place is not None
    assert modules(place) == {1}
    assert qubits(place) == list(range(100, 134))


def test_blocks_are_never_cut() -> None:
    inventory = Inventory(machine(30, 30, links=((0, 1),)))
    place = inventory.find(blocks((17, 2)))
    assert place is not None
    assert sorted((run.module, run.qubits) for run in place) == [(0, 17), (1, 17)]
    assert inventory.find(blocks((17, 3))) is None


def test_a_program_is_split_only_over_modules_that_links_join() -> None:
    need = blocks((10, 9))
    assert Inventory(machine(50, 50)).find(need) is None
    place = Inventory(machine(50, 10, 50, links=((0, 1), (1, 2)))).find(need)
    assert place is not None
    assert modules(place) == {0, 1, 2}
    assert Inventory(machine(50, 10, 50, links=((0, 1),))).find(need) is None


def test_a_full_module_joins_nothing() -> None:
    inventory = Inventory(machine(20, 20, 20, links=((0, 1), (1, 2))))
    middle = inventory.find(blocks((20, 1)))
    assert middle is not None
    inventory.take(tuple(run._replace(module=1, first=20) for run in middle))
    assert inventory.find(blocks((20, 2))) is None


def test_modules_are_joined_by_links_among_themselves() -> None:
    chain = Inventory(machine(9, 9, 9, links=((0, 1), (1, 2))))
    assert chain.joined([])
    assert chain.joined([2])
    assert chain.joined([0, 1, 2])
    assert not chain.joined([0, 2])


def test_the_qubits_of_factories_are_never_free() -> None:
    inventory = Inventory(machine(50, factory=20))
    assert inventory.total == 30
    place = inventory.find(blocks((10, 3)))
    assert place is not None
    assert qubits(place) == list(range(20, 50))
    assert inventory.find(blocks((10, 4))) is None


def test_taking_what_is_taken_or_giving_what_is_free_is_our_mistake() -> None:
    inventory = Inventory(machine(50))
    place = inventory.find(blocks((10, 3)))
    assert place is not None
    inventory.take(place)
    with pytest.raises(AssertionError):
        inventory.take(place)
    inventory.give(place)
    with pytest.raises(AssertionError):
        inventory.give(place)


@pytest.mark.parametrize("seed", range(30))
def test_no_qubit_is_taken_twice_and_all_come_back(seed: int) -> None:
    """Beside a set of single qubits, which knows nothing of ranges."""
    rng = random.Random(seed)
    sizes = [rng.randint(20, 120) for _ in range(rng.randint(1, 4))]
    pairs = [(a, b) for b in range(len(sizes)) for a in range(b) if rng.random() < 0.6]
    hardware = machine(*sizes, links=tuple(pairs), factory=rng.choice((0, 15)))
    inventory = Inventory(hardware)
    free = set(range(15 if hardware.factory else 0, sum(sizes)))
    held: list[Place] = []
    for _ in range(300):
        if held and rng.random() < 0.45:
            place = held.pop(rng.randrange(len(held)))
            inventory.give(place)
            assert free.isdisjoint(qubits(place))
            free.update(qubits(place))
        else:
            need = blocks(
                *sorted(
                    ((rng.choice((1, 5, 17)), rng.randint(1, 4)) for _ in range(rng.randint(1, 2))),
                    reverse=True,
                )
            )
            found = inventory.find(need)
            if found is None:
                continue
            mine = qubits(found)
            assert len(mine) == len(set(mine)) == qubits_of(need)
            assert free.issuperset(mine)
            for kind, each in enumerate(need):
                assert sum(run.number for run in found if run.kind == kind) == each.number
                assert all(run.size == each.physical for run in found if run.kind == kind)
            inventory.take(found)
            free.difference_update(mine)
            held.append(found)
        holes = [(first, size) for module in inventory.holes for first, size in module]
        assert {each for first, size in holes for each in range(first, first + size)} == free
        assert sum(inventory.free) == len(free)
        for module in inventory.holes:
            ends = [sum(hole) for hole in module]
            starts = [first for first, _ in module[1:]]
            assert all(end < start for end, start in zip(ends, starts, strict=False))
    for place in held:
        inventory.give(place)
    assert inventory.holes == Inventory(hardware).holes


def test_packing_anew_makes_room_that_holes_do_not() -> None:
    hardware = machine(100)
    inventory = Inventory(hardware)
    held = []
    for _ in range(10):
        place = inventory.find(blocks((10, 1)))
        assert place is not None
        inventory.take(place)
        held.append(place)
    for place in held[::2]:
        inventory.give(place)
    assert inventory.free == [50]
    assert inventory.find(blocks((50, 1))) is None
    anew = Inventory(hardware)
    for need in [blocks((50, 1))] + 5 * [blocks((10, 1))]:
        place = anew.find(need)
        assert place is not None
        anew.take(place)
    assert anew.free == [0]
