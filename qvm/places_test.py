"""Groups of blocks find modules where there are any, as trying all shows, and only such as fit."""

from __future__ import annotations

import random
from collections import Counter
from itertools import permutations

import pytest

from qvm.blocks import Inventory, Place
from qvm.channels import Brokered, Crossing, Group, LinkClass, class_of
from qvm.cycles import LinkRate
from qvm.machine import Hardware, Link, Module
from qvm.places import Pair, crossed, find_apart, pair
from qvm.program import HELD, Blocks, Span

KINDS = (3, 2)  # physical qubits of a block of each kind
GOOD, POOR = 0.9, 0.7


def machine(rng: random.Random) -> Hardware:
    modules = tuple(Module(name=f"m{at}", qubits=rng.randint(5, 12)) for at in range(4))
    ends = [(a, b) for a in range(4) for b in range(a) if rng.random() < 0.6]
    return Hardware(
        name="test",
        module=modules,
        link=tuple(
            Link(
                between=(f"m{a}", f"m{b}"),
                cycles=rng.choice((2.0, 4.0)),
                fidelity=rng.choice((GOOD, POOR)),
            )
            for a, b in ends
        ),
    )


def program(rng: random.Random, held: list[int]) -> tuple[Brokered, list[LinkRate]]:
    """Up to three groups, of which the first may hold what a session does."""
    groups, spans, at = [], [], Counter[int]()
    for group in range(rng.randint(1, 3)):
        number = tuple(rng.randint(0, 2) for _ in KINDS)
        groups.append(Group(module=group, number=number))
        for kind, blocks in enumerate(number):
            for _ in range(blocks):
                spans.append(Span(kind, at[kind], 1, group))
                at[kind] += 1
    if held:
        spans.append(Span(HELD, 0, 1, 0))
    crossings = [
        Crossing(
            groups=(one, two),
            link=LinkClass(cycles=4.0, fidelity=rng.choice((GOOD, POOR))),
            raw_pairs=1.0,
        )
        for two in range(len(groups))
        for one in range(two)
        if rng.random() < 0.7
    ]
    rng.shuffle(spans)
    found = Brokered(groups=tuple(groups), spans=tuple(spans), crossings=tuple(crossings))
    return found, [LinkRate(each.groups, rng.choice((100_000, 400_000))) for each in crossings]


def fits(
    hardware: Hardware,
    brokered: Brokered,
    rates: list[LinkRate],
    spare: dict[Pair, int],
    held: list[int],
    modules: tuple[int, ...],
) -> bool:
    """Whether groups may lie in these modules, each by itself and each pair by its link."""
    for group, module in zip(brokered.groups, modules, strict=True):
        asked = sum(size * number for size, number in zip(KINDS, group.number, strict=True))
        if asked > hardware.spare[module]:
            return False
    if held and modules[0] != held[0]:
        return False
    for crossing, taken in zip(brokered.crossings, rates, strict=True):
        ends = pair(*(modules[group] for group in crossing.groups))
        link = hardware.links.get(ends)
        if link is None or not crossing.link.served_by(link) or spare[ends] < taken.rate:
            return False
    return True


def lies(brokered: Brokered, place: Place) -> list[set[int]]:
    """Of each group the modules in which its blocks lie."""
    found: list[set[int]] = [set() for _ in brokered.groups]
    every = {
        kind: [run.module for run in place if run.kind == kind for _ in range(run.number)]
        for kind in range(len(KINDS))
    }
    for kind, first, number, group in brokered.spans:
        if kind != HELD:
            found[group].update(every[kind][first : first + number])
    return found


@pytest.mark.parametrize("seed", range(150))
def test_there_is_a_place_exactly_where_trying_all_modules_finds_one(seed: int) -> None:
    rng = random.Random(seed)
    hardware = machine(rng)
    held = [rng.randrange(4)] if rng.random() < 0.4 else []
    brokered, rates = program(rng, held)
    spare = {ends: rng.choice((150_000, link.rate)) for ends, link in hardware.links.items()}
    need = [
        Blocks(
            code="x",
            distance=size,
            logical=1,
            physical=size,
            number=sum(group.number[kind] for group in brokered.groups),
        )
        for kind, size in enumerate(KINDS)
    ]
    spare = {pair(*ends): rate for ends, rate in spare.items()}
    inventory = Inventory(hardware)
    place = find_apart(inventory, need, brokered, held, hardware.links, spare, rates)
    every = permutations(range(4), len(brokered.groups))
    assert (place is not None) == any(
        fits(hardware, brokered, rates, spare, held, modules) for modules in every
    )
    if place is None:
        return
    inventory.take(place)
    for kind, each in enumerate(need):
        assert sum(run.number for run in place if run.kind == kind) == each.number
    modules = lies(brokered, place)
    assert all(len(each) <= 1 for each in modules)
    used = [module for each in modules for module in each]
    assert len(used) == len(set(used)), "each group has a module of its own"
    if all(modules):
        expected = [pair(*(min(modules[g]) for g in each.groups)) for each in brokered.crossings]
        assert crossed(brokered, place, held) == expected
        for crossing, ends in zip(brokered.crossings, expected, strict=True):
            assert crossing.link.served_by(hardware.links[ends])


def test_a_link_is_served_by_one_that_is_no_worse() -> None:
    link = Link(between=("a", "b"), cycles=4.0, fidelity=GOOD)
    assert class_of(link).served_by(link)
    assert not LinkClass(cycles=3.0, fidelity=GOOD).served_by(link)
    assert not LinkClass(cycles=4.0, fidelity=0.95).served_by(link)
