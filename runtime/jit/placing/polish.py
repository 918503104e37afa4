"""A plan's homes made better by what they really cost, step by step, within a bound.

The web that partitioners see gives each gate to one run beforehand; here each step is judged by the
copies that would be made (`packets.py`). That is dear, so it is done for the few most promising
plans of circuits that are not large.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from runtime.jit.placing.homes import Homes

JUDGED_MAX: Final = 200
"""Homes that are judged for one plan."""
GATES_MAX: Final = 800
"""On two qubits, of a circuit for which this is done."""

Row = tuple[int, ...]


def polished(
    homes: Homes, weights: Sequence[int], slots: Mapping[int, int], judge: Callable[[Homes], int]
) -> Homes:
    """The homes after steps that help: a qubit elsewhere, or two exchanged, in one row or in all.

    weights: 1 for each qubit that takes a place. slots: of each module that may be used. judge:
    pairs; smaller is better.
    """
    best = judge(homes)
    left = JUDGED_MAX
    better = True
    while better and left > 0:
        better = False
        for step in _steps(homes, weights, slots):
            if left <= 0:
                break
            left -= 1
            found = judge(step)
            if found < best:
                homes, best, better = step, found, True
                break
    return homes


def _steps(homes: Homes, weights: Sequence[int], slots: Mapping[int, int]) -> Iterator[Homes]:
    """All neighbours, those that change every row first."""
    whole = range(len(homes.rows))
    spans = [whole, *([at] for at in whole)] if len(whole) > 1 else [whole]
    qubits = [qubit for qubit, weight in enumerate(weights) if weight]
    for span in spans:
        for place, one in enumerate(qubits):
            for module in slots:
                yield from _put(homes, span, {one: module}, weights, slots)
            for other in qubits[place + 1 :]:
                row = homes.rows[span[0]]
                if row[one] != row[other]:
                    change = {one: row[other], other: row[one]}
                    yield from _put(homes, span, change, weights, slots)


def _put(
    homes: Homes,
    span: Sequence[int],
    change: Mapping[int, int],
    weights: Sequence[int],
    slots: Mapping[int, int],
) -> Iterator[Homes]:
    """The homes with these qubits in these modules, in the rows of the span, if they fit."""
    rows = list(homes.rows)
    for at in span:
        row = list(rows[at])
        for qubit, module in change.items():
            row[qubit] = module
        held = Counter(module for module, weight in zip(row, weights, strict=True) if weight)
        if any(number > slots.get(module, 0) for module, number in held.items()):
            return
        rows[at] = tuple(row)
    if tuple(rows) != homes.rows:
        yield Homes(tuple(rows), homes.starts)
