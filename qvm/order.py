"""When each node runs: list order, unless a node reads an event that is written further down.

A fence, and a barrier that lists no qubits, keep everything before them before everything after;
so the list falls into blocks, and only inside a block may a node move. What moves is decided by a
stable topological sort: of the nodes that may run, the one listed first runs first.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Mapping, Sequence

from qvm.program import Node


def reads(node: Node) -> Iterable[str]:
    """The events that a node reads: those of its guard, then its inputs."""
    guard = node.guard
    if guard:
        if guard.event:
            yield guard.event
        for condition in guard.conditions or ():
            yield condition.event
    yield from node.inputs or ()


def fences_all(node: Node) -> bool:
    """True for a node that everything else is ordered against."""
    return node.op == "FENCE_EPOCH" or (node.op == "BAR_REGION" and not node.vqs)


def execution_order(
    nodes: Sequence[Node], producer: Mapping[str, int]
) -> tuple[array[int], list[int]]:
    """Node indices in execution order, and a cycle of node indices (empty where there is none).

    producer: event name -> index of the node that writes it; events that nobody writes are skipped.
    Only the first cycle is given; the order is then of no use. Takes O(n log n).
    """
    order: array[int] = array("I")
    start = 0
    for stop in range(len(nodes) + 1):
        if stop < len(nodes) and not fences_all(nodes[stop]):
            continue
        cycle = _order_block(nodes, producer, start, stop, order)
        if not cycle and stop < len(nodes):
            late = max((producer.get(event, -1) for event in reads(nodes[stop])), default=-1)
            cycle = [stop, late] if late > stop else []
            order.append(stop)
        if cycle:
            return order, cycle
        start = stop + 1
    return order, []


def _order_block(
    nodes: Sequence[Node], producer: Mapping[str, int], start: int, stop: int, order: array[int]
) -> list[int]:
    """Append the block's order, or return a cycle. The barrier at `stop` takes part in cycles."""
    after: list[list[int]] = [[] for _ in range(start, stop)]
    waits = [0] * (stop - start)
    last: dict[tuple[str, str], int] = {}
    moved = False
    for index in range(start, stop):
        node = nodes[index]
        handles = [("vqs", name) for name in node.vqs or ()]
        handles += [("chs", name) for name in node.chs or ()]
        before = {last[handle] for handle in handles if handle in last}
        last.update(dict.fromkeys(handles, index))
        for event in reads(node):
            writer = producer.get(event, -1)
            if writer >= stop:
                return [index, stop, writer] if writer > stop else [index, stop]
            if writer >= start:
                before.add(writer)
                moved = moved or writer >= index
        for each in before:
            after[each - start].append(index)
        waits[index - start] = len(before)
    if not moved:
        order.extend(range(start, stop))
        return []
    return _sort(after, waits, start, order)


def _sort(after: list[list[int]], waits: list[int], start: int, order: array[int]) -> list[int]:
    """Kahn's algorithm with a heap; on failure, a cycle among the nodes that still wait."""
    ready = [start + at for at, number in enumerate(waits) if number == 0]
    heapq.heapify(ready)
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for later in after[index - start]:
            waits[later - start] -= 1
            if waits[later - start] == 0:
                heapq.heappush(ready, later)
    blocked_by: dict[int, int] = {}
    for at, successors in enumerate(after):
        if waits[at] > 0:
            for later in successors:
                if waits[later - start] > 0:
                    blocked_by.setdefault(later, start + at)
    if not blocked_by:
        return []
    # Every waiting node waits for another one, so walking back must come round.
    seen: dict[int, int] = {}
    at = min(blocked_by)
    while at not in seen:
        seen[at] = len(seen)
        at = blocked_by[at]
    return list(seen)[seen[at] :][::-1]
