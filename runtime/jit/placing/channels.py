"""From a circuit over blocks to a program that says where its qubits lie and opens its channels.

Between modules there is one channel for each link in use, however many gates go through it. It is
closed and opened again where its pair would have aged: a pair is made when its channel opens, and
costs the same whenever that is. The qubits of a module are allocated together, in whole blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from qvm.channels import settled
from qvm.isa import OPERANDS_MAX, OPS, Kind
from qvm.machine import Hardware, Link
from qvm.pairs import kept
from qvm.program import Graph, Node
from runtime.jit.circuit import Circuit, labels
from runtime.jit.emit import emit
from runtime.jit.factories.schedule import begins
from runtime.jit.placing.room import Room

STEPS_KEPT: Final = 32
"""A channel is opened again where its pair would be older, in logical steps: programs may have 256
kinds of pairs, and pairs of different ages are of different kinds."""
SEMANTICS: Final = {"APPLY_CNOT": "teleport_cnot", "APPLY_SWAP": "teleport_state"}
"""What is written between modules, and what it is with a pair. A swap is one with a block that
holds nothing."""
AGED: Final = 0.01
"""Of a pair's own error: what it may lose by waiting in its channel."""

Ends = tuple[int, int]


def channelled(
    circuit: Circuit,
    modules: Sequence[int],
    hardware: Hardware,
    room: Room,
    *,
    profile: str,
    asked: float = 0.0,
    patient: bool = True,
) -> Graph:
    """The program of the circuit. modules: of each of its qubits. asked: fidelity of pairs when
    they are consumed; 0 leaves it to the kernel. patient: whether a channel may stay open for the
    next gate; else every pair is fresh."""
    graph = emit(circuit, profile=profile)
    lies = dict(zip(labels(circuit.qubits), modules, strict=True))
    by_module: dict[int, list[str]] = {}
    for name in graph.resources.vqs:
        by_module.setdefault(lies[name], []).append(name)
    for module, names in by_module.items():
        names += _padding(names, room, module, lies)
    writer = _Writer(hardware, room, lies, asked, patient)
    inner = [node for node in graph.program.nodes if node.op not in ("ALLOC_LQ", "FREE_LQ")]
    for node, step in zip(inner, begins(inner), strict=True):
        writer.visit(node, step)
    parts = [part for module in sorted(by_module) for part in _parts(by_module[module])]
    nodes = [
        *(_node("ALLOC_LQ", part, {"n": len(part), "profile": profile}) for part in parts),
        *writer.nodes,
        *(_closed(name) for name in writer.open),
        *(_node("FREE_LQ", part) for part in parts),
    ]
    for at, node in enumerate(nodes):
        node.id = f"n{at}"
    placed = {room.names[module]: by_module[module] for module in sorted(by_module)}
    metadata = graph.metadata if isinstance(graph.metadata, dict) else {}
    return msgspec.structs.replace(
        graph,
        program=msgspec.structs.replace(graph.program, nodes=nodes),
        resources=msgspec.structs.replace(
            graph.resources,
            vqs=[name for part in parts for name in part],
            chs=sorted(writer.names),
        ),
        metadata=metadata | {"placed": placed},
    )


def _padding(names: Sequence[str], room: Room, module: int, lies: Mapping[str, int]) -> list[str]:
    """Names for the places that are left in the module's last block."""
    missing = -len(names) % room.block
    stem = f"left_{room.names[module]}"
    while any(name.startswith(f"{stem}[") for name in lies):
        stem += "_"
    return [f"{stem}[{at}]" for at in range(missing)]


def _parts(names: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), OPERANDS_MAX):
        yield list(names[start : start + OPERANDS_MAX])


def _node(op: str, vqs: list[str] | None = None, args: Any = UNSET, chs: Any = UNSET) -> Node:
    return Node(id="", op=op, args=args, vqs=UNSET if vqs is None else vqs, chs=chs)


def _closed(channel: str) -> Node:
    return _node("CLOSE_CHAN", chs=[channel])


class _Writer:
    """nodes: so far. open: channels that are, and from which step each has its pair."""

    def __init__(
        self,
        hardware: Hardware,
        room: Room,
        lies: Mapping[str, int],
        asked: float,
        patient: bool,
    ) -> None:
        self.hardware, self.room, self.lies, self.asked = hardware, room, lies, asked
        self.nodes: list[Node] = []
        self.open: dict[str, int] = {}
        self.names: set[str] = set()
        self.patience = {
            ends: _patience(link, room.distance, asked) if patient else -1
            for ends, link in hardware.links.items()
        }

    def visit(self, node: Node, step: int) -> None:
        vqs = node.vqs if isinstance(node.vqs, list) else []
        ends = {self.lies[name] for name in vqs}
        if len(ends) < 2 or OPS[node.op].kind is Kind.ORDER:
            self.nodes.append(node)
            return
        assert node.op in SEMANTICS, f"nothing else is written between modules: {node}"
        one, two = sorted(ends)
        channel = self._opened((one, two), vqs, step)
        args = {"semantic": SEMANTICS[node.op]}
        used = msgspec.structs.replace(node, op="USE_CHAN", args=args, chs=[channel])
        self.nodes.append(used)
        self.open[channel] = step + 1

    def _opened(self, ends: Ends, vqs: list[str], step: int) -> str:
        name = f"{self.room.names[ends[0]]}-{self.room.names[ends[1]]}"
        while name in self.lies:
            name += "_"
        ready = self.open.get(name)
        if ready is not None and step - ready <= self.patience[ends]:
            return name
        if ready is not None:
            self.nodes.append(_closed(name))
        args: dict[str, Any] = {"fidelity": self.asked} if self.asked else {"opts": {}}
        self.nodes.append(_node("OPEN_CHAN", list(vqs), args, [name]))
        self.names.add(name)
        return name


def _patience(link: Link, distance: int, asked: float) -> int:
    """For how many steps a pair may wait in its channel."""
    made, reachable = settled(asked, "", 0, link)
    allowed = AGED * (1 - (reachable if made is None else made.fidelity))
    for steps in range(STEPS_KEPT, 0, -1):
        if 1 - kept(steps * distance, link.lifetime) <= allowed:
            return steps
    return 0
