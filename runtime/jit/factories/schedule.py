"""When each node of a verified program can begin at the earliest, in logical time steps.

Every operation on qubits takes one step, from when its operands and the events that it reads are
there; a fence waits for all. These are the steps by which `qvm/uses.py` ages Bell pairs. Whatever
a machine makes an operation wait for is left out; read `model.py` for T states.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec import UNSET

from qvm.isa import OPS, Kind
from qvm.program import Node, VerifiedProgram
from syscalls.rights import Right

TIMELESS: Final = frozenset(
    op.name for op in OPS.values() if op.kind in (Kind.LIFETIME, Kind.ORDER, Kind.ADMIN)
) | {"OPEN_CHAN", "CLOSE_CHAN"}
"""Opcodes that take no step."""
_MAGIC: Final = frozenset(op.name for op in OPS.values() if op.right is Right.MAGIC)


class Schedule(msgspec.Struct, frozen=True):
    """begins: of each node in list order, its first step. steps: of the whole program."""

    begins: tuple[int, ...]
    steps: int


def earliest(program: VerifiedProgram) -> Schedule:
    """Every node as early as it can be."""
    nodes, order = program.graph.program.nodes, program.order
    found = [0] * len(nodes)
    for index, begin in zip(order, begins(nodes[index] for index in order), strict=True):
        found[index] = begin
    ends = [b + 1 for b, node in zip(found, nodes, strict=True) if node.op not in TIMELESS]
    return Schedule(tuple(found), max(ends, default=0))


def begins(nodes: Iterable[Node]) -> Iterator[int]:
    """The first step of each node, which come in the order of execution."""
    free: dict[str, int] = {}
    fence = last = 0
    for node in nodes:
        names = [*_list(node.vqs), *_read(node)]
        begin = max([fence, *(free.get(name, 0) for name in names)])
        if node.op == "FENCE_EPOCH":
            fence = last
        elif node.op not in TIMELESS:
            last = max(last, begin + 1)
            free.update(dict.fromkeys(_list(node.vqs), begin + 1))
            free.update(dict.fromkeys(_list(node.produces), begin + 1))
        yield begin


def magic_steps(program: VerifiedProgram, schedule: Schedule) -> list[int]:
    """The step in which each T state is consumed, if every guard holds; ascending."""
    nodes = program.graph.program.nodes
    return sorted(begin for begin, node in zip(schedule.begins, nodes, strict=True)
                  if node.op in _MAGIC)  # fmt: skip


def _list(names: object) -> list[str]:
    return names if isinstance(names, list) else []


def _read(node: Node) -> Iterator[str]:
    """The events that its guard and its inputs read."""
    yield from _list(node.inputs)
    guard = node.guard or None
    if guard is None:
        return
    if guard.event is not UNSET:
        yield guard.event
    else:
        yield from (each.event for each in guard.conditions or ())
