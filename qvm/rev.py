"""REV segments: the stretches of a program that can be undone by running them backwards.

A segment is a longest run, in execution order, of nodes whose opcodes have inverses: unitaries and
ALLOC_LQ. Measurements, resets, injected states, teleports, channels, FREE_LQ, fences and barriers
end it. Noise is not undone, and consumed T states do not come back.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from qvm.angles import angle_radians
from qvm.isa import OPS, ArgType
from qvm.order import reads
from qvm.program import Node, VerifiedProgram


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
