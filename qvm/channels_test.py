"""Where the ends of channels lie, and what pairs are like, against rules checked one by one."""

from __future__ import annotations

import json
import math
import random
from itertools import combinations, product
from operator import le

import msgspec
import pytest

from qvm import channels, pairs
from qvm.blocks import Inventory
from qvm.channels import NOTHING, Brokered, LinkClass, NotLinked, TooManyUses, Unreachable, broker
from qvm.cycles import LinkRate, demand
from qvm.machine import Hardware, Link, Module, plain
from qvm.program import HELD, Summary, VerifiedProgram
from qvm.random_programs import Shape, shaped_program
from qvm.uses_test import alloc, op, opened, summary, used
from qvm.verify import verify_bytes

GOOD = 0.97


def machine(
    qubits: list[int],
    links: list[tuple[int, int]],
    fidelity: float = GOOD,
    cycles: float = 10.0,
    lifetime: float | None = None,
) -> Hardware:
    return Hardware(
        name="test",
        module=tuple(Module(name=f"m{at}", qubits=size) for at, size in enumerate(qubits)),
        link=tuple(
            Link(between=(f"m{a}", f"m{b}"), cycles=cycles, fidelity=fidelity, lifetime=lifetime)
            for a, b in links
        ),
    )


PAIR = machine([1000, 1000], [(0, 1)])
RING = machine([1000] * 3, [(0, 1), (1, 2), (2, 0)])
CHAIN = machine([1000] * 3, [(0, 1), (1, 2)])


def brokered(program: Summary, hardware: Hardware) -> Brokered:
    found = broker(program, hardware)
    assert isinstance(found, Brokered), found
    return found


def modules(found: Brokered) -> dict[tuple[int, int], int]:
    """(kind, block) -> module on the empty machine."""
    return {
        (span.kind, span.first + at): found.groups[span.group].module
        for span in found.spans
        for at in range(span.number)
    }


def two(fidelity: float = 0.999, wait: int = 0, kind: str = "") -> Summary:
    return summary(
        alloc("a", "b"),
        opened("x", "a", "b", fidelity=fidelity, **({"type": kind} if kind else {})),
        *[op("APPLY_H", "a")] * wait,
        used("x", "a", "b"),
    )


def test_on_a_machine_of_one_module_channels_are_local_and_cost_nothing() -> None:
    assert broker(two(), plain(1000)) == NOTHING
    assert NOTHING.loads == ()


def test_a_program_without_pairs_lies_anywhere() -> None:
    assert broker(summary(alloc("a", "b"), op("APPLY_CNOT", "a", "b")), RING) == NOTHING


def test_the_ends_of_a_channel_lie_in_different_modules() -> None:
    found = brokered(two(), PAIR)
    assert modules(found) == {(0, 0): 0, (0, 1): 1}
    assert [group.number for group in found.groups] == [(1,), (1,)]


def test_without_links_there_is_no_channel() -> None:
    assert broker(two(), machine([1000, 1000], [])) == NotLinked(ends=2, modules=2, links=0)


def test_three_blocks_with_channels_between_all_need_three_modules_with_links_between_all() -> None:
    names = "abc"
    channel = [opened(a + b, a, b) for a, b in combinations(names, 2)]
    use = [used(a + b, a, b) for a, b in combinations(names, 2)]
    program = summary(alloc(*names), *channel, *use)
    assert len(brokered(program, RING).groups) == 3
    assert isinstance(broker(program, CHAIN), NotLinked)
    assert isinstance(broker(program, PAIR), NotLinked)


def test_a_chain_of_channels_needs_two_modules_only() -> None:
    program = summary(
        alloc(*"abcd"),
        *[opened(a + b, a, b) for a, b in ("ab", "bc", "cd")],
        *[used(a + b, a, b) for a, b in ("ab", "bc", "cd")],
    )
    found = modules(brokered(program, RING))
    assert found[0, 0] == found[0, 2] != found[0, 1] == found[0, 3]


def test_blocks_that_are_joined_stay_with_the_end_that_they_are_joined_to() -> None:
    program = summary(
        alloc(*"abcdef"),
        *[op("APPLY_CNOT", *pair) for pair in ("ab", "bc", "de", "ef")],
        opened("x", "c", "d"),
        used("x", "c", "d"),
    )
    found = modules(brokered(program, PAIR))
    assert len({found[0, at] for at in (0, 1, 2)}) == len({found[0, at] for at in (3, 4, 5)}) == 1
    assert found[0, 0] != found[0, 5]


def test_joined_blocks_part_where_a_channel_or_room_asks_for_it() -> None:
    program = summary(
        alloc(*"ab"), op("APPLY_CNOT", "a", "b"), opened("x", "a", "b"), used("x", "a", "b")
    )
    assert len(brokered(program, PAIR).groups) == 2
    names = [f"q{at}" for at in range(12)]
    wide = summary(
        alloc(*names),
        *[op("APPLY_CNOT", *names[at : at + 2]) for at in range(11)],
        op("TELEPORT_CNOT", names[0], names[11]),
    )
    each = wide.blocks[0].physical
    small = machine([6 * each, 6 * each], [(0, 1)])
    assert [group.number for group in brokered(wide, small).groups] == [(6,), (6,)]


def test_where_the_first_choice_leaves_no_room_another_is_made() -> None:
    """The middle of a star would go into the wider module, where its two ends have to lie."""
    star = summary(
        alloc(*"abc"),
        *[opened(*each) for each in ("xab", "yac")],
        *[used(*each) for each in ("xab", "yac")],
    )
    each = star.blocks[0].physical
    found = modules(brokered(star, machine([each, 2 * each], [(0, 1)])))
    assert found == {(0, 0): 0, (0, 1): 1, (0, 2): 1}


def test_a_teleported_cnot_is_local_where_its_qubits_fit_into_one_module() -> None:
    program = summary(alloc("a", "b"), op("TELEPORT_CNOT", "a", "b"))
    found = brokered(program, PAIR)
    assert (len(found.groups), found.terms, found.raw_pairs) == (1, (), 0.0)
    each = program.blocks[0].physical
    apart = brokered(program, machine([each, each], [(0, 1)]))
    assert [terms.nodes for terms in apart.terms] == [(1,)]
    assert isinstance(broker(program, machine([each, each], [])), NotLinked)


def test_a_channel_inside_one_block_is_local() -> None:
    program = summary(
        alloc("a", "b", profile="SHYPS(d=4)"), opened("x", "a", "b"), used("x", "a", "b")
    )
    assert brokered(program, PAIR).terms == ()


def test_terms_are_those_of_the_cheapest_purification() -> None:
    found = brokered(two(0.999, wait=4), machine([1000] * 2, [(0, 1)], lifetime=1e6))
    expected = pairs.cheapest(pairs.purifications(pairs.werner(GOOD), 12, 1e6), 0.999)
    assert expected is not None
    (terms,) = found.terms
    assert (terms.nodes, terms.age, terms.asked) == ((6,), 12, 0.999)
    assert (terms.protocol, terms.rounds) == (expected.protocol, expected.ladder.rounds)
    assert terms.raw_pairs == expected.ladder.raw_pairs
    assert terms.cycles == pytest.approx(10 * terms.raw_pairs)
    assert (terms.made, terms.fidelity) == (expected.ladder.pair.fidelity, expected.used.fidelity)
    assert (terms.x, terms.y, terms.z) == pytest.approx(expected.used.chances[1:], rel=1e-11)
    assert found.raw_pairs == terms.raw_pairs


def test_a_type_that_names_a_protocol_leaves_the_other_out() -> None:
    for kind in ("BBPSSW", "dejmps"):
        (terms,) = brokered(two(0.999, kind=kind), PAIR).terms
        assert terms.protocol == kind.upper()
    (terms,) = brokered(two(0.96, kind="BBPSSW"), PAIR).terms
    assert (terms.protocol, terms.raw_pairs) == (pairs.RAW, 1.0)


def test_where_nothing_is_asked_the_usual_fidelity_holds_or_what_is_reachable() -> None:
    program = summary(alloc("a", "b"), opened("x", "a", "b", opts={}), used("x", "a", "b"))
    (terms,) = brokered(program, PAIR).terms
    assert terms.fidelity >= channels.PAIR_FIDELITY
    (terms,) = brokered(program, machine([1000] * 2, [(0, 1)], fidelity=0.4)).terms
    assert (terms.fidelity, terms.rounds) == (0.4, 0)


def test_what_is_out_of_reach_is_refused_with_what_is_not() -> None:
    hardware = machine([1000] * 2, [(0, 1)], lifetime=1000)
    found = broker(two(0.999, wait=10), hardware)
    ways = pairs.purifications(pairs.werner(GOOD), 30, 1000)
    reachable = pairs.best(ways).used.fidelity
    assert found == Unreachable(node=12, asked=0.999, reachable=reachable, age=30)
    assert "after 30 cycles" in str(found)
    ask = two(reachable, wait=10)
    assert brokered(ask, hardware).terms[0].fidelity == reachable


def test_a_link_that_reaches_what_is_asked_is_found_among_others() -> None:
    hardware = machine([1000] * 3, [(0, 1), (1, 2), (2, 0)], fidelity=0.5)
    better = msgspec.structs.replace(hardware.link[1], fidelity=0.99)
    hardware = msgspec.structs.replace(hardware, link=(hardware.link[0], better, hardware.link[2]))
    found = brokered(two(), hardware)
    assert {group.module for group in found.groups} == {1, 2}
    assert found.crossings[0].link.fidelity == 0.99


def test_of_links_that_reach_it_the_one_that_takes_fewest_cycles_is_taken() -> None:
    slow = machine([1000] * 3, [(0, 1), (1, 2), (2, 0)], cycles=100)
    fast = msgspec.structs.replace(slow.link[2], cycles=30.0)
    found = brokered(two(), msgspec.structs.replace(slow, link=(*slow.link[:2], fast)))
    assert {group.module for group in found.groups} == {0, 2}


def test_more_uses_than_are_kept_are_refused_where_any_may_take_a_pair() -> None:
    many = msgspec.structs.replace(two(), uses_left_out=7)
    assert broker(many, PAIR) == TooManyUses(uses=8)
    assert broker(many, plain(1000)) == NOTHING
    teleport = summary(alloc("a", "b"), op("TELEPORT_CNOT", "a", "b"))
    many = msgspec.structs.replace(teleport, uses=(), uses_left_out=7)
    assert brokered(many, PAIR).groups == (channels.Group(module=0, number=(2,)),)
    size = many.blocks[0].physical
    assert broker(many, machine([size, size], [(0, 1)])) == TooManyUses(uses=7)


def test_what_sessions_hold_stays_where_it_is_and_what_they_asked_for_holds() -> None:
    one, other = f"vq_{'1' * 32}", f"vq_{'2' * 32}"
    channel = f"chan_{'3' * 32}"
    program = summary(
        alloc(one, other, "a"),
        op("APPLY_CNOT", "a", other),
        opened(channel, one, other, fidelity=0.9),
        used(channel, one, other),
    )
    for held in ([0, 2], [2, 1]):
        found = broker(program, RING, held, {channel: 0.9999})
        assert isinstance(found, Brokered)
        where = modules(found)
        assert [where[HELD, 0], where[HELD, 1]] == held
        assert where[0, 0] == held[1], "it is joined to the second"
        assert found.terms[0].fidelity >= 0.9999
    assert isinstance(broker(program, CHAIN, [0, 2]), NotLinked)


def check(program: Summary, hardware: Hardware) -> bool:
    """Every rule, of whatever is answered. Returns whether there are terms."""
    found = broker(program, hardware)
    assert found == broker(program, hardware), "the same again"
    if not isinstance(found, Brokered) or found == NOTHING:
        return False
    where, room = modules(found), list(hardware.spare)
    blocks = [(k, at) for k, each in enumerate(program.blocks) for at in range(each.number)]
    assert list(where) == blocks
    for (kind, _), module in where.items():
        room[module] -= program.blocks[kind].physical
    assert min(room) >= 0
    totals = [sum(group.number) for group in found.groups]
    assert sum(totals) == len(blocks)
    terms = {node: each for each in found.terms for node in each.nodes}
    linked = {frozenset(each.between): each for each in hardware.link}
    for use in program.uses:
        ends = {where[end] for end in use.ends}
        if use.channel and use.ends[0] != use.ends[1]:
            assert len(ends) == 2
        assert (use.node in terms) == (len(ends) == 2)
        if len(ends) == 2:
            link = linked[frozenset(f"m{at}" for at in ends)]
            crossing = found.crossings[terms[use.node].crossing]
            assert crossing.link.served_by(link)
            assert {found.groups[each].module for each in crossing.groups} == ends
            assert terms[use.node].fidelity >= use.asked
    raw = sum(len(each.nodes) * each.raw_pairs for each in found.terms)
    assert found.raw_pairs == pytest.approx(raw)
    return bool(terms)


def possible(program: Summary, hardware: Hardware) -> bool:
    """Whether any assignment at all, to modules that links join, keeps the rules."""
    blocks = [(k, at) for k, each in enumerate(program.blocks) for at in range(each.number)]
    near = hardware.neighbours
    for chosen in product(range(len(near)), repeat=len(blocks)):
        where, held = dict(zip(blocks, chosen, strict=True)), [0] * len(near)
        for (kind, _), module in zip(blocks, chosen, strict=True):
            held[module] += program.blocks[kind].physical
        if all(map(le, held, hardware.spare)) and Inventory(hardware).joined(set(chosen)):
            pairs_of = [(use, [where[end] for end in use.ends]) for use in program.uses]
            if all(
                two in near[one] or (one == two and not (use.channel and len({*use.ends}) == 2))
                for use, (one, two) in pairs_of
            ):
                return True
    return False


def test_whatever_a_program_and_a_machine_are_like_the_rules_hold() -> None:
    with_terms = refused = 0
    for seed in range(1000):
        rng = random.Random(seed)
        count = rng.randint(2, 4)
        links = [each for each in combinations(range(count), 2) if rng.random() < 0.4]
        sizes = [rng.randint(1, 800) for _ in range(count)]
        hardware = machine(sizes, links, fidelity=rng.uniform(0.6, 0.999))
        shape = Shape(channels=True, qubits_max=6)
        program = verify_bytes(json.dumps(shaped_program(rng, shape)).encode())
        assert isinstance(program, VerifiedProgram)
        with_terms += check(program.summary, hardware)
        if isinstance(broker(program.summary, hardware), NotLinked):
            refused += 1
            assert not possible(program.summary, hardware), seed
    assert with_terms > 80
    assert refused > 40


def test_links_that_make_pairs_too_slowly_make_a_shot_longer_and_are_used_up() -> None:
    program = two(0.999)
    fast, slow = (
        machine([1000] * 2, [(0, 1)], cycles=0.01),
        machine([1000] * 2, [(0, 1)], cycles=500),
    )
    found = brokered(program, fast)
    wants = demand(program, fast, found.loads)
    assert (wants.cycles, wants.slowed) == (demand(program, fast).cycles, "")
    (load,) = found.loads
    assert wants.links == (LinkRate((0, 1), math.ceil(load.raw_pairs * 1_000_000 / 3)),)
    found = brokered(program, slow)
    wants = demand(program, slow, found.loads)
    assert wants.cycles == pytest.approx(500 * found.raw_pairs, abs=1)
    assert (wants.slowed, wants.links) == ("links", (LinkRate((0, 1), slow.link[0].rate),))


def test_a_link_serves_a_class_that_it_is_no_worse_than() -> None:
    wanted = LinkClass(cycles=10, fidelity=0.9, lifetime=100)
    link = Link(between=("a", "b"), cycles=10, fidelity=0.9, lifetime=100)
    assert wanted.served_by(link)
    assert wanted.served_by(msgspec.structs.replace(link, lifetime=None, cycles=9.0))
    for worse in ({"cycles": 11.0}, {"fidelity": 0.89}, {"lifetime": 99.0}):
        assert not wanted.served_by(msgspec.structs.replace(link, **worse))
    endless = msgspec.structs.replace(wanted, lifetime=None)
    assert not endless.served_by(link)


def test_a_plan_shows_the_dearest_kinds_of_pairs_with_their_link() -> None:
    waits = [each for _ in range(20) for each in (op("APPLY_H", "a"), used("x", "a", "b"))]
    program = summary(
        alloc("a", "b"),
        opened("x", "a", "b", fidelity=0.99),
        *[op("APPLY_H", "a")] * 30,
        used("x", "a", "b"),
        *waits,
    )
    found = brokered(program, machine([1000] * 2, [(0, 1)], lifetime=1e5))
    assert sorted(len(each.nodes) for each in found.terms) == [1, 20]
    first, second = channels.pairs_shown(found)
    assert (first.uses, second.uses) == (20, 1)
    assert first.terms.raw_pairs * 20 + second.terms.raw_pairs == pytest.approx(found.raw_pairs)
    assert first.terms.link is not None
    assert msgspec.structs.asdict(first.terms.link) == msgspec.structs.asdict(
        found.crossings[0].link
    )
    (terms,) = [each for each in found.terms if len(each.nodes) == 1]
    shown = msgspec.structs.asdict(second.terms)
    assert {name: getattr(terms, name) for name in shown if name != "link"} == {
        name: value for name, value in shown.items() if name != "link"
    }


def test_more_kinds_of_pairs_than_are_told_apart_are_refused() -> None:
    start = [alloc("a", "b"), opened("x", "a", "b", fidelity=0.9)]
    many: list[dict[str, object]] = []
    for wait in range(channels.KINDS_MAX + 1):
        many += [op("APPLY_H", "a")] * wait + [used("x", "a", "b")]
    found = broker(summary(*start, *many), PAIR)
    assert found == TooManyUses(what=channels.KINDS, uses=257, most=256)
    assert "257 are more kinds" in str(found)
