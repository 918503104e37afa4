"""REV segments: the stretches of a program that can be undone by running them backwards.

A segment is a longest run, in execution order, of nodes whose opcodes have inverses: unitaries and
ALLOC_LQ. Measurements, resets, injected states, teleports, channels, FREE_LQ, fences and barriers
end it. Noise is not undone, and consumed T states and epochs do not come back: to undo a T gate
takes another T state.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET

from qvm.angles import angle_radians
from qvm.isa import OPS, ArgType
from qvm.order import reads
from qvm.program import Body, Graph, Node, Resources, VerifiedProgram


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """first, last: positions in execution order, both within. nodes: in that order. epoch: theirs.

    Every guard and every parity in a segment reads events that were written before it began, so it
    has the same value forwards and backwards.
    """

    first: int
    last: int
    nodes: tuple[Node, ...]
    epoch: int


def rev_segments(program: VerifiedProgram) -> list[Segment]:
    """All segments of a program, in execution order."""
    segments: list[Segment] = []
    nodes = program.graph.program.nodes
    run: list[int] = []
    written: set[str] = set()
    for position, index in enumerate(program.order):
        node = nodes[index]
        if OPS[node.op].reversible:
            # Only measurements write events, and they end a segment.
            assert all(event in written for event in reads(node)), "writers run before readers"
            run.append(index)
            continue
        written.update(node.produces or ())
        if run:
            segments.append(_segment(program, run, position))
            run = []
    if run:
        segments.append(_segment(program, run, len(nodes)))
    return segments


def _segment(program: VerifiedProgram, run: list[int], end: int) -> Segment:
    nodes = program.graph.program.nodes
    return Segment(
        first=end - len(run),
        last=end - 1,
        nodes=tuple(nodes[index] for index in run),
        epoch=program.epoch[run[0]],
    )


def inverse(segment: Segment) -> list[Node]:
    """The nodes that undo a segment, in the order in which they run.

    Guards and inputs stay as they are; ALLOC_LQ becomes FREE_LQ, of qubits that are then in |0>.
    Ids are `undo-0`, `undo-1`, ...: whoever puts the nodes in a program makes them fit there.
    """
    return [_undo(at, node) for at, node in enumerate(reversed(segment.nodes))]


class NotUndoable(Exception):
    """The segment cannot be undone there. node: the id of the node that stands against it."""

    def __init__(self, node: str, why: str) -> None:
        super().__init__(f"node {node!r} {why}")
        self.node = node


def uncomputed(
    program: VerifiedProgram, segment: Segment, before: str | None = None, witness: bool = False
) -> Graph:
    """The program with `segment` undone just before node `before`, or at the end.

    Qubits that the segment allocates are freed there, and not again where the program does. What
    lies between may use the segment's qubits, by reversible ops; if these leave them such that the
    inverse brings |0> back (controls do), nothing is left behind. witness: measure each such qubit
    before it is freed, into event `undo-NAME`, which is then 0 in every shot.

    Nodes come in execution order. Raises `NotUndoable` where the segment's qubits are measured or
    otherwise spent before that place or used after it, `KeyError` where there is no such node.
    """
    nodes = [program.graph.program.nodes[index] for index in program.order]
    place = len(nodes) if before is None else _position(nodes, before)
    if place <= segment.last:
        raise NotUndoable(nodes[place].id, "comes before the segment has ended")
    made = {name for node in segment.nodes if node.op == "ALLOC_LQ" for name in node.vqs or ()}
    if before is None:
        place = _first_free(nodes, made, segment.last + 1)
    held = {name for node in segment.nodes for name in node.vqs or ()}
    for node in nodes[segment.last + 1 : place]:
        spent = held.intersection(node.vqs or ())
        if spent and not OPS[node.op].reversible and OPS[node.op].name != "BAR_REGION":
            raise NotUndoable(node.id, f"does what cannot be undone to {min(spent)!r}")
    undo = inverse(segment)
    tail = list(_without(nodes[place:], made))
    events = list(program.graph.resources.events)
    if witness:
        undo = [each for node in undo for each in _witnessed(node, events)]
    old = program.graph
    resources = Resources(old.resources.vqs, events, old.resources.chs)
    return Graph(old.version, Body([*nodes[:place], *undo, *tail]), resources, old.caps)


def _position(nodes: list[Node], identity: str) -> int:
    for at, node in enumerate(nodes):
        if node.id == identity:
            return at
    raise KeyError(identity)


def _first_free(nodes: list[Node], names: set[str], start: int) -> int:
    """Where the first of the qubits is freed; the end where none is."""
    for at in range(start, len(nodes)):
        if nodes[at].op == "FREE_LQ" and names.intersection(nodes[at].vqs or ()):
            return at
    return len(nodes)


def _without(nodes: list[Node], gone: set[str]) -> Iterator[Node]:
    """The nodes, but qubits that are gone are not freed. Raises `NotUndoable` where one is used.

    A name that is allocated again is another qubit.
    """
    gone = set(gone)
    for node in nodes:
        names = gone.intersection(node.vqs or ())
        if node.op == "ALLOC_LQ":
            gone -= names
        elif node.op == "FREE_LQ" and names:
            gone -= names
            if left := [name for name in node.vqs or () if name not in names]:
                yield msgspec.structs.replace(node, vqs=left)
            continue
        elif names:
            raise NotUndoable(node.id, f"still uses {min(names)!r}, which would be undone by then")
        yield node


def _witnessed(node: Node, events: list[str]) -> Iterator[Node]:
    """A node that frees qubits, after measurements of them."""
    if node.op == "FREE_LQ":
        for name in node.vqs or ():
            event = f"undo-{name}"
            while event in events:
                event += "-again"
            events.append(event)
            yield Node(id=event, op="MEASURE_Z", vqs=[name], produces=[event])
    yield node


def _undo(at: int, node: Node) -> Node:
    op = OPS[node.op]
    assert op.inverse is not None, "a segment holds reversible nodes only"
    inverse_args = {row.name for row in OPS[op.inverse].args}
    angles = {row.name for row in op.args if row.type is ArgType.ANGLE}
    args = {
        name: _negated(value) if name in angles else value
        for name, value in (node.args or {}).items()
        if name in inverse_args
    }
    return Node(
        id=f"undo-{at}",
        op=op.inverse,
        args=args or UNSET,
        vqs=node.vqs,
        inputs=node.inputs,
        guard=node.guard,
    )


def _negated(angle: Any) -> float:
    radians = angle_radians(angle)
    assert isinstance(radians, float), "verified"
    return -radians
