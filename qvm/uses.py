"""Which nodes of a verified program consume Bell pairs where their ends lie in different modules.

Of each: where its ends lie, what was asked of its channel, how old its pair is. Time is counted in
logical steps, of which every operation on qubits takes one, from when its operands and the events
that it reads are there; a fence waits for all. It is time at the least, as in `cycles.py`. A
channel has a pair as soon as it is open, and the next as soon as that is used; TELEPORT_CNOT's is
made when it is wanted. Which module is whose, and what a pair is like then, is in `channels.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from msgspec import UNSET

from qvm.homes import Home, Places
from qvm.isa import OPS, Kind
from qvm.parts import Lives
from qvm.profiles import Profile
from qvm.program import HELD, Blocks, NamedQubit, Node, PairUse, Span

USES_MAX: Final = 4096
"""Nodes that a summary names, and spans of blocks."""
ALONE: Final = -1
"""The group of a block that no operation joins with another."""
CONSUMING: Final = ("USE_CHAN", "TELEPORT_CNOT")

_TIMELESS: Final = frozenset(
    op.name for op in OPS.values() if op.kind in (Kind.LIFETIME, Kind.ORDER, Kind.ADMIN)
)
_JOINING: Final = frozenset(
    op.name for op in OPS.values() if op.kind in (Kind.UNITARY, Kind.MEASURE) and op.vqs.least == 2
)


class Uses(NamedTuple):
    """What the summary says of them. left_out: its `uses_left_out`."""

    uses: tuple[PairUse, ...] = ()
    left_out: int = 0
    joined: tuple[Span, ...] = ()


def pair_uses(
    nodes: Sequence[Node],
    order: Sequence[int],
    profiles: Mapping[int, Profile],
    blocks: Sequence[Blocks],
    handles: Sequence[NamedQubit],
) -> Uses:
    """nodes: of a verified program. order: of execution. profiles: of each ALLOC_LQ, by index.
    blocks, handles: of its summary."""
    walk = _Walk(blocks, held_names(handles))
    for index in order:
        walk.visit(index, nodes[index], profiles.get(index))
    joined = walk.joined()
    if len(joined) > USES_MAX:
        return Uses(left_out=len(walk.uses))
    return Uses(tuple(walk.uses[:USES_MAX]), max(0, len(walk.uses) - USES_MAX), joined)


class _Channel:
    """One that is open. ready: the step from which its pair is there."""

    def __init__(self, ends: tuple[Home, Home], node: Node, ready: int) -> None:
        args = node.args or {}
        given = args.get("opts", args)
        self.ends = ends
        self.asked = float(given.get("fidelity", 0))
        self.type = str(given.get("type", ""))
        self.ready = ready


class _Walk:
    """What is known at one point of the program.

    free: of each live qubit, and of each event, the step from which it is there.
    """

    def __init__(self, blocks: Sequence[Blocks], held: Sequence[str]) -> None:
        self.places = Places(blocks)
        self.places.found |= {name: (HELD, at) for at, name in enumerate(held)}
        self.channels: dict[str, _Channel] = {}
        self.free: dict[str, int] = {}
        self.events: dict[str, int] = {}
        self.fence = 0
        self.last = 0
        self.uses: list[PairUse] = []
        self.numbers = {kind: each.number for kind, each in enumerate(blocks)} | {HELD: len(held)}
        ends = accumulate(self.numbers.values(), initial=0)
        self.firsts = dict(zip(self.numbers, ends, strict=False))
        self.lives = Lives()
        for _ in range(sum(self.numbers.values())):
            self.lives.begin()

    def visit(self, index: int, node: Node, profile: Profile | None) -> None:
        vqs: Sequence[str] = node.vqs or ()
        if profile is not None:
            self.places.take(profile, vqs)
            self.free.update(dict.fromkeys(vqs, self.fence))
        elif node.op == "FREE_LQ":
            self.places.free(vqs)
        elif node.op == "FENCE_EPOCH":
            self.fence = self.last
        elif node.op == "OPEN_CHAN":
            one, two = [self.places.found[name] for name in vqs]
            self.channels[(node.chs or [""])[0]] = _Channel((one, two), node, self._from(node))
        elif node.op not in _TIMELESS and node.op != "CLOSE_CHAN":
            self._operate(index, node, vqs)

    def _from(self, node: Node) -> int:
        """The step in which it can begin."""
        known = [self.free[name] for name in node.vqs or ()]
        known += [self.events.get(name, 0) for name in (*_read(node), *(node.inputs or ()))]
        return max(known, default=0) if max(known, default=0) > self.fence else self.fence

    def _operate(self, index: int, node: Node, vqs: Sequence[str]) -> None:
        begin = self._from(node)
        if node.op in CONSUMING:
            begin = self._consume(index, node, begin)
        elif node.op in _JOINING:
            one, two = [self._number(self.places.found[name]) for name in vqs]
            self.lives.join(one, two)
        self.last = max(self.last, begin + 1)
        self.free.update(dict.fromkeys(vqs, begin + 1))
        self.events.update(dict.fromkeys(node.produces or (), begin + 1))

    def _consume(self, index: int, node: Node, begin: int) -> int:
        """Note it; returns the step in which it begins."""
        ends = [self.places.found[name] for name in node.vqs or ()]
        if node.op == "TELEPORT_CNOT":
            self.uses.append(PairUse(index, (ends[0], ends[1]), "", 0.0, "", 0))
            return begin
        name = (node.chs or [""])[0]
        channel = self.channels[name]
        begin = max(begin, channel.ready)
        # With one qubit, which moves, the channel alone says between which modules.
        apart = (ends[0], ends[1]) if len(ends) == 2 else channel.ends
        age = begin - channel.ready
        self.uses.append(PairUse(index, apart, name, channel.asked, channel.type, age))
        channel.ready = begin + 1
        return begin

    def _number(self, home: Home) -> int:
        kind, block = home
        return self.firsts[kind] + block

    def joined(self) -> tuple[Span, ...]:
        """All blocks, in order, neighbours of one group together."""
        roots = [self.lives.root(each) for each in range(len(self.lives))]
        sizes: dict[int, int] = {}
        for root in roots:
            sizes[root] = sizes.get(root, 0) + 1
        groups: dict[int, int] = {}
        spans: list[Span] = []
        for kind, number in self.numbers.items():
            for block in range(number):
                root = roots[self.firsts[kind] + block]
                group = groups.setdefault(root, len(groups)) if sizes[root] > 1 else ALONE
                if block and spans[-1].group == group:
                    spans[-1] = spans[-1]._replace(number=spans[-1].number + 1)
                else:
                    spans.append(Span(kind, block, 1, group))
        return tuple(spans)


def held_names(handles: Iterable[NamedQubit]) -> list[str]:
    """Of the qubits that sessions hold, in the order in which they are numbered."""
    return sorted({each.name for each in handles})


def _read(node: Node) -> tuple[str, ...]:
    """The events of its guard."""
    guard = node.guard or None
    if guard is None:
        return ()
    if guard.event is not UNSET:
        return (guard.event,)
    return tuple(condition.event for condition in guard.conditions or ())
