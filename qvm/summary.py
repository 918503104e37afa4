"""What a verified program comes to: what it needs, holds at the most, names and writes.

The last thing that the verifier (`verify.py`) does, and with no more to refuse. What is kept of it
is `program.Summary`, by which the kernel admits jobs without looking at their nodes again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import UNSET

from qvm import isa
from qvm.arguments import Arguments
from qvm.events import Events
from qvm.isa import OPS, Kind
from qvm.profiles import Profile
from qvm.program import (
    Blocks,
    EventField,
    Graph,
    NamedChannel,
    NamedQubit,
    Node,
    Summary,
)
from qvm.shapes import part_shapes
from qvm.uses import CONSUMING, Uses, pair_uses
from syscalls.ids import is_channel, is_handle
from syscalls.rights import Right

DIGEST_CHUNK_NODES: Final = 4096
_JOINING: Final = frozenset(
    op.name
    for op in isa.TABLE
    if op.vqs.most == 2 and op.kind in (Kind.UNITARY, Kind.MEASURE, Kind.CHANNEL)
)
"""Operations that may entangle two qubits."""


def summary(
    graph: Graph,
    order: Sequence[int],
    ops: Counter[str],
    arguments: Arguments,
    events: Events,
    lifetimes: Sequence[int],
) -> Summary:
    """Of a verified program. order: of execution. ops: how many nodes of each opcode. lifetimes:
    the nodes that begin or end one, in list order."""
    nodes, of_node = graph.program.nodes, arguments.profiles
    peak_logical, others, peak_physical, peak_channels, blocks = _peaks(
        nodes, order, of_node, lifetimes
    )
    handles, brokered = _named(graph, of_node)
    profiles = {profile.asked: profile for profile in of_node.values()}
    uses = Uses()
    if any(name in ops for name in CONSUMING):
        uses = pair_uses(nodes, order, of_node, blocks, handles)
    return Summary(
        digest=program_digest(graph),
        nodes=len(nodes),
        epochs=arguments.fences + 1,
        rights=tuple(rights_of(ops)),
        families=tuple(sorted({OPS[name].family for name in ops})),
        profiles=tuple(profiles[asked] for asked in sorted(profiles)),
        events=tuple(
            EventField(name, 2 if name in events.wide else 1) for name in graph.resources.events
        ),
        ops=dict(sorted(ops.items())),
        peak_logical=peak_logical,
        peak_physical=peak_physical,
        peak_channels=peak_channels,
        blocks=blocks,
        t_states=sum(number for name, number in ops.items() if OPS[name].right is Right.MAGIC),
        clifford=all(OPS[name].clifford for name in ops),
        pauli_guards=not events.branching_guards,
        branching_guards=events.branching_guards,
        ideal=all(profile.code == "ideal" for profile in of_node.values()),
        parts=part_shapes(map(nodes.__getitem__, order)),
        handles=handles,
        brokered=brokered,
        others_logical=others if handles else None,
        uses=uses.uses,
        uses_left_out=uses.left_out,
        joined=uses.joined,
        priority=max(arguments.priorities, default=None),
        deadline=min(arguments.deadlines, default=None),
    )


def program_digest(graph: Graph) -> str:
    """`sha256:` + hex over the compact JSON of {version, nodes, resources}, metadata left out.

    The order of nodes and fields is kept. Missing fields stay missing; `resources.chs` is always
    there.
    """
    encode = msgspec.json.encode
    sha = hashlib.sha256(b'{"version":' + encode(graph.version) + b',"nodes":[')
    nodes = graph.program.nodes
    for start in range(0, len(nodes), DIGEST_CHUNK_NODES):
        chunk = [
            node if node.metadata is UNSET else msgspec.structs.replace(node, metadata=UNSET)
            for node in nodes[start : start + DIGEST_CHUNK_NODES]
        ]
        sha.update((b"," if start else b"") + encode(chunk)[1:-1])
    sha.update(b'],"resources":' + encode(graph.resources) + b"}")
    return f"sha256:{sha.hexdigest()}"


def rights_of(ops: Counter[str]) -> list[str]:
    """The capabilities that these opcodes need, sorted."""
    rights = {OPS[name].right for name in ops if name in OPS}
    return sorted(right.value for right in rights if right is not None)


def _named(
    graph: Graph, profiles: Mapping[int, Profile]
) -> tuple[tuple[NamedQubit, ...], tuple[NamedChannel, ...]]:
    """The qubits and channels that sessions hold, and what is done between them."""
    given: set[tuple[str, Profile]] = set()
    local: set[str] = set()
    ends: dict[str, tuple[str, ...]] = {}
    astray: set[str] = set()
    declared = graph.resources
    if not (any(map(is_handle, declared.vqs)) or any(map(is_channel, declared.chs))):
        return (), ()
    for index, node in enumerate(graph.program.nodes):
        vqs = tuple(sorted(node.vqs or ()))
        channel = node.chs[0] if node.chs and is_channel(node.chs[0]) else ""
        if node.op == "ALLOC_LQ":
            given |= {(name, profiles[index]) for name in vqs if is_handle(name)}
        elif node.op == "OPEN_CHAN" and channel:
            if ends.setdefault(channel, vqs) != vqs:
                astray.add(channel)
        elif node.op == "USE_CHAN" and channel:
            if ends[channel] != vqs:
                astray.add(channel)
        elif node.op in _JOINING:
            local.update(filter(is_handle, vqs))
    return (
        tuple(
            NamedQubit(name=name, profile=profile, local=name in local)
            for name, profile in sorted(given, key=lambda each: (each[0], each[1].asked))
        ),
        tuple(
            NamedChannel(name=name, ends=(pair[0], pair[1]), astray=name in astray)
            for name, pair in sorted(ends.items())
        ),
    )


def _peaks(
    nodes: Sequence[Node],
    order: Sequence[int],
    profiles: Mapping[int, Profile],
    lifetimes: Sequence[int],
) -> tuple[int, int, int, int, tuple[Blocks, ...]]:
    """The largest numbers of logical qubits, of those that no session holds, and of physical
    qubits, channels and blocks beside what sessions hold, at one time."""
    if not isinstance(order, range):
        place = {index: at for at, index in enumerate(order)}
        lifetimes = sorted(lifetimes, key=place.__getitem__)
    held: dict[str, Profile] = {}
    live: Counter[tuple[str, int]] = Counter()
    most: dict[tuple[str, int], int] = {}
    kinds: dict[tuple[str, int], Profile] = {}
    physical = channels = handles = 0
    peaks = [0, 0, 0, 0]
    for index in lifetimes:
        node = nodes[index]
        own = [name for name in node.chs or () if not is_channel(name)]
        channels += len(own) * (1 if node.op == "OPEN_CHAN" else -1)
        vqs = () if node.chs else node.vqs or ()
        begins = node.op == "ALLOC_LQ"
        if begins:
            profile = profiles[index]
            held |= dict.fromkeys(vqs, profile)
            kind = (profile.code, profile.distance)
            fresh = sum(not is_handle(name) for name in vqs)
            if fresh:
                kinds[kind] = profile
                most[kind] = max(most.get(kind, 0), live[kind] + fresh)
        for name in vqs:
            profile = held[name] if begins else held.pop(name)
            if is_handle(name):
                handles += 1 if begins else -1
                continue
            kind = (profile.code, profile.distance)
            physical -= profile.physical(live[kind])
            live[kind] += 1 if begins else -1
            physical += profile.physical(live[kind])
        now = (len(held), len(held) - handles, physical, channels)
        peaks = [max(pair) for pair in zip(peaks, now, strict=True)]
    blocks = (_blocks(profile, most[kind]) for kind, profile in kinds.items())
    in_order = sorted(blocks, key=lambda each: (-each.physical, each.code, each.distance))
    return peaks[0], peaks[1], peaks[2], peaks[3], tuple(in_order)


def _blocks(profile: Profile, logical: int) -> Blocks:
    return Blocks(
        code=profile.code,
        distance=profile.distance,
        logical=profile.block,
        physical=profile.block_physical,
        number=-(-logical // profile.block),
    )
