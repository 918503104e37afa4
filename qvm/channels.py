"""What the Bell pairs of a program come to on a machine: where blocks lie, what each pair is like.

`broker` assigns a program's blocks to modules as on the empty machine (`assign.py`), so that the
two ends of a channel lie in different modules with a link between them, and writes down for each
node that consumes a pair what the pair costs and how it errs. That depends on the program and on
the machine's description alone, never on who else is there: so the errors of a job are the same
wherever it is placed later, as long as groups of blocks stay together and links are no worse. Pure;
nothing here finds room among other programs (`blocks.py`), or knows jobs.

A fidelity that is asked for holds when the pair is consumed, however long it was kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

import msgspec

from qvm.assign import assign
from qvm.cycles import Load, demand
from qvm.machine import Hardware, Link
from qvm.pairs import (
    PROTOCOLS,
    RAW_PAIRS_MAX,
    Purification,
    best,
    cheapest,
    purifications,
    werner,
)
from qvm.program import Kind, Span, Summary
from qvm.uses import USES_MAX, held_names
from syscalls.channel import ChannelTerms, RawPairs
from syscalls.plan import PLAN_ROWS_MAX, PairsRow

PAIR_FIDELITY: Final = 0.99
"""Of a pair for which nothing was asked, such as that of a TELEPORT_CNOT; or the most that the link
reaches, if that is less."""
KINDS_MAX: Final = 256
"""Of pairs in a program that differ in what is asked of them or in age."""
KINDS: Final = "kinds of Bell pairs in one program"
DIGITS: Final = 12
"""Of a chance: exponentials may differ in the last place between machines."""


class LinkClass(msgspec.Struct, frozen=True, kw_only=True):
    """Of a link what its pairs depend on, as `machine.Link` has it."""

    cycles: float
    fidelity: float
    lifetime: float | None = None

    def served_by(self, link: Link) -> bool:
        """Whether that one is at least as good."""
        lasting = math.inf if link.lifetime is None else link.lifetime
        return (
            link.cycles <= self.cycles
            and link.fidelity >= self.fidelity
            and lasting >= (math.inf if self.lifetime is None else self.lifetime)
        )


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Blocks that are to lie in one module, of each kind how many; module: on the empty machine."""

    module: int
    number: tuple[int, ...]


class Crossing(msgspec.Struct, frozen=True, kw_only=True):
    """Between two groups, by number: the link that their modules need, and the mean number of raw
    pairs that a shot takes of it if every guard holds."""

    groups: tuple[int, int]
    link: LinkClass
    raw_pairs: float


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs that are alike.

    nodes: that consume one each. crossing: its number. asked: fidelity, 0 for none. protocol: of
    `pairs.PROTOCOLS`, or RAW. raw_pairs, cycles: mean ones for such a pair. age: cycles for which
    it is kept. made: its fidelity before that; fidelity: when it is consumed. x, y, z: chances of
    these errors on one half of it when it is consumed.
    """

    nodes: tuple[int, ...]
    crossing: int
    asked: float
    type: str
    protocol: str
    rounds: int
    raw_pairs: float
    cycles: float
    age: int
    made: float
    fidelity: float
    x: float
    y: float
    z: float


class Brokered(msgspec.Struct, frozen=True, kw_only=True):
    """Where a program's blocks lie, and its pairs.

    groups, spans: empty where nothing is said of where blocks lie. spans: all blocks, by kind and
    then by number, with their groups.
    """

    groups: tuple[Group, ...] = ()
    spans: tuple[Span, ...] = ()
    crossings: tuple[Crossing, ...] = ()
    terms: tuple[Terms, ...] = ()

    @property
    def loads(self) -> tuple[Load, ...]:
        """What a shot takes of each link, for `cycles.demand`."""
        return tuple(Load(each.groups, each.raw_pairs, each.link.cycles) for each in self.crossings)

    @property
    def raw_pairs(self) -> float:
        """Mean number of raw pairs of a shot, if every guard holds."""
        return sum(each.raw_pairs for each in self.crossings)


class Unreachable(msgspec.Struct, frozen=True, kw_only=True):
    """No link makes pairs that are still as good as asked when `node` consumes them, after `age`
    cycles. reachable: the most there is."""

    node: int
    asked: float
    reachable: float
    age: int

    def __str__(self) -> str:
        kept = f" after {self.age} cycles of storage" if self.age else ""
        return (
            f"node {self.node} asks for a pair of fidelity {self.asked:g}; {self.reachable:.6g} is "
            f"reachable{kept}, with up to {RAW_PAIRS_MAX} raw pairs for one"
        )


class NotLinked(msgspec.Struct, frozen=True, kw_only=True):
    """The ends of the program's channels do not find different modules that are linked.

    ends: blocks that are an end of a channel. modules, links: that the machine has.
    """

    ends: int
    modules: int
    links: int

    def __str__(self) -> str:
        return (
            f"{self.ends} blocks are ends of channels, and there is no way to put the two ends of "
            f"each into different modules with a link between them; the machine has {self.modules} "
            f"modules and {self.links} links"
        )


class TooManyUses(msgspec.Struct, frozen=True, kw_only=True):
    """More nodes may consume pairs than are kept account of, or more kinds of pairs."""

    uses: int
    most: int = USES_MAX
    what: str = "uses of Bell pairs in one program"

    def __str__(self) -> str:
        return f"{self.uses} are more {self.what} than {self.most}, the most there may be"


Refusal = Unreachable | NotLinked | TooManyUses

NOTHING: Final = Brokered()


def broker(
    summary: Summary,
    hardware: Hardware,
    held: Sequence[int] = (),
    asked: Mapping[str, float] | None = None,
) -> Brokered | Refusal:
    """The pairs of a program. NOTHING on a machine of one module, where channels are local, and
    for a program without operations that take pairs.

    held: the modules of the qubits that sessions hold, in the order of `uses.held_names`. asked: of
    channels that sessions opened the fidelity that was asked for then; the program may ask more.
    """
    assert len(held) == len(held_names(summary.handles)), "each lies somewhere"
    if len(hardware.module) == 1 or not (summary.uses or summary.uses_left_out):
        return NOTHING
    summary = _asking(summary, asked or {})
    kinds = {use.kind for use in summary.uses}
    if len(kinds) > KINDS_MAX:
        return TooManyUses(what=KINDS, uses=len(kinds), most=KINDS_MAX)
    prices = _Prices(summary, hardware)
    modules = assign(summary, hardware, held, prices.price)
    if summary.uses_left_out and not _local(summary, modules):
        return TooManyUses(uses=len(summary.uses) + summary.uses_left_out)
    if modules is not None:
        return _written(summary, hardware, modules, prices)
    if assign(summary, hardware, held, lambda kind, link: 0.0) is not None:
        return prices.missed(summary)
    return NotLinked(
        ends=len({end for use in summary.uses if use.channel for end in use.ends}),
        modules=len(hardware.module),
        links=len(hardware.link),
    )


def _asking(summary: Summary, asked: Mapping[str, float]) -> Summary:
    """With what is asked of the sessions' channels."""
    uses = [
        use._replace(asked=max(use.asked, asked[use.channel])) if use.channel in asked else use
        for use in summary.uses
    ]
    return msgspec.structs.replace(summary, uses=tuple(uses))


def _local(summary: Summary, modules: Mapping[int, Sequence[int]] | None) -> bool:
    """Whether no node takes a pair, those that nothing is known of among them."""
    if modules is None or "USE_CHAN" in summary.ops:
        return False
    return len({module for kind in modules.values() for module in kind}) == 1


def settled(asked: float, type: str, age: int, link: Link) -> tuple[Purification | None, float]:
    """The cheapest pair of this link that is as good as asked when it is `age` cycles old, and the
    fidelity that is reachable. asked: 0 for the usual one. type: as `PairUse` has it."""
    named = type.upper()
    protocols = (named,) if named in PROTOCOLS else tuple(PROTOCOLS)
    ways = purifications(werner(link.fidelity), age, link.lifetime, protocols)
    reachable = best(ways).fidelity
    return cheapest(ways, asked or min(PAIR_FIDELITY, reachable)), reachable


class _Prices:
    """What pairs cost on each link, each kind of pair once."""

    def __init__(self, summary: Summary, hardware: Hardware) -> None:
        wants = demand(summary, hardware)
        self._links = {class_of(link): link for link in hardware.link}
        self._cycles, self._steps = wants.cycles, wants.steps
        self._known: dict[tuple[Kind, float, float | None], tuple[Purification | None, float]] = {}

    def age(self, kind: Kind) -> int:
        """In cycles: steps take as long as they do in the mean."""
        return -(-kind.age * self._cycles // self._steps)

    def price(self, kind: Kind, link: Link) -> float | None:
        found, _ = self.look_up(kind, link)
        return None if found is None else found.ladder.raw_pairs * link.cycles

    def look_up(self, kind: Kind, link: Link) -> tuple[Purification | None, float]:
        """As `settled`."""
        key = (kind, link.fidelity, link.lifetime)
        if key not in self._known:
            self._known[key] = settled(kind.asked, kind.type, self.age(kind), link)
        return self._known[key]

    def missed(self, summary: Summary) -> Unreachable:
        """The first node whose pair no link makes; or, of those that some link makes that is not
        to be had, the one that asks most."""
        node_of = {use.kind: use.node for use in reversed(summary.uses) if use.channel}
        reached = {
            kind: max((self.look_up(kind, link)[1] for link in self._links.values()), default=0.0)
            for kind in node_of
        }
        kind = max(reached, key=lambda each: (each.asked - reached[each], -node_of[each]))
        return Unreachable(
            node=node_of[kind], asked=kind.asked, reachable=reached[kind], age=self.age(kind)
        )


def terms_shown(found: Brokered, terms: Terms) -> ChannelTerms:
    """As callers are told of them."""
    link = found.crossings[terms.crossing].link
    return ChannelTerms(
        link=RawPairs(cycles=link.cycles, fidelity=link.fidelity, lifetime=link.lifetime),
        protocol=terms.protocol,
        rounds=terms.rounds,
        raw_pairs=terms.raw_pairs,
        cycles=terms.cycles,
        made=terms.made,
        age=terms.age,
        fidelity=terms.fidelity,
        x=terms.x,
        y=terms.y,
        z=terms.z,
    )


def pairs_shown(found: Brokered) -> list[PairsRow]:
    """For a plan: as many kinds of pairs as it has room for, the dearest first."""
    dearest = sorted(found.terms, key=lambda each: -len(each.nodes) * each.raw_pairs)
    return [
        PairsRow(uses=len(each.nodes), asked=each.asked, terms=terms_shown(found, each))
        for each in dearest[:PLAN_ROWS_MAX]
    ]


def class_of(link: Link) -> LinkClass:
    return LinkClass(cycles=link.cycles, fidelity=link.fidelity, lifetime=link.lifetime)


def _written(
    summary: Summary, hardware: Hardware, modules: Mapping[int, Sequence[int]], prices: _Prices
) -> Brokered:
    """The assignment in groups, one for each module in use, and what each pair is like."""
    used = sorted({module for kind in modules.values() for module in kind})
    group_of = {module: group for group, module in enumerate(used)}
    links = hardware.links
    alike: dict[tuple[tuple[int, int], Kind], list[int]] = {}
    for use in summary.uses:
        one, two = sorted(group_of[modules[kind][block]] for kind, block in use.ends)
        if one != two:
            alike.setdefault(((one, two), use.kind), []).append(use.node)
    between = sorted({groups for groups, *_ in alike})
    terms: list[Terms] = []
    raw_pairs = [0.0] * len(between)
    for (groups, kind), nodes in alike.items():
        link, crossing = links[used[groups[0]], used[groups[1]]], between.index(groups)
        found, _ = prices.look_up(kind, link)
        assert found is not None, "it was assigned to a link that makes such pairs"
        raw_pairs[crossing] += len(nodes) * found.ladder.raw_pairs
        _, x, y, z = [_rounded(each) for each in found.used.chances]
        terms.append(
            Terms(
                nodes=tuple(nodes),
                crossing=crossing,
                asked=kind.asked,
                type=kind.type,
                protocol=found.protocol,
                rounds=found.ladder.rounds,
                raw_pairs=found.ladder.raw_pairs,
                cycles=found.ladder.cycles(link.cycles),
                age=prices.age(kind),
                made=found.ladder.pair.fidelity,
                fidelity=found.fidelity,
                x=x,
                y=y,
                z=z,
            )
        )
    return Brokered(
        groups=tuple(
            Group(
                module=module,
                number=tuple(modules[kind].count(module) for kind in range(len(summary.blocks))),
            )
            for module in used
        ),
        spans=tuple(_spans(modules, group_of)),
        crossings=tuple(
            Crossing(
                groups=groups,
                link=class_of(links[used[groups[0]], used[groups[1]]]),
                raw_pairs=total,
            )
            for groups, total in zip(between, raw_pairs, strict=True)
        ),
        terms=tuple(terms),
    )


def _spans(modules: Mapping[int, Sequence[int]], group_of: Mapping[int, int]) -> Iterator[Span]:
    for kind, blocks in modules.items():
        first = 0
        for module, run in groupby(blocks):
            number = sum(1 for _ in run)
            yield Span(kind, first, number, group_of[module])
            first += number


def _rounded(chance: float) -> float:
    return float(f"{chance:.{DIGITS}g}")
