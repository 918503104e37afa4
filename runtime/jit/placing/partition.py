"""Qubits to modules: by METIS, and then one by one.

METIS (Karypis and Kumar, SIAM J. Sci. Comput. 20, 359 (1998)) partitions the graph in which the
edges of the web are cliques; `refine.py` goes on with the web itself, the room of each module and
the links that there are. Seeds are fixed, so the same question has the same answer. Why this
library, beside four others: docs/decisions/0037-placing.md and `harness/bench/placing_bench.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Final, Protocol

from runtime.jit.placing.homes import in_order
from runtime.jit.placing.refine import Refiner
from runtime.jit.placing.room import Room
from runtime.jit.placing.web import Web

SEEDS: Final = (0, 1, 2, 3, 4)
SCALE: Final = 60
"""Weights of a graph are whole numbers; an edge of n qubits counts SCALE / (n - 1) in each pair."""
CLIQUE_MAX: Final = 64
"""A larger edge is a star around its first qubit."""


class Partitioner(Protocol):
    """Whoever assigns qubits to parts. parts: room of each. Returns a part for every qubit; it need
    not fit exactly, or None."""

    def __call__(self, web: Web, parts: Sequence[int]) -> list[int] | None: ...


def assignments(
    web: Web,
    room: Room,
    modules: Sequence[int],
    slots: Sequence[int],
    *,
    partitioner: Partitioner | None = None,
    near: Sequence[int] | None = None,
) -> list[tuple[int, ...]]:
    """A module for each qubit, within the room of each, in several ways; of fewest pairs first, as
    far as the web knows them.

    modules: that may be used, with `slots` each, enough for all. partitioner: METIS unless another
    is given. near: where each qubit was before; being elsewhere costs a pair for each link between,
    and this is where the search begins too.
    """
    places = dict(zip(modules, slots, strict=True))
    ordered = [modules[at] for at in in_order(web.weights, slots)]
    starts = [ordered] if near is None else [list(near)]
    if partitioner is None:
        starts += [
            [modules[part] for part in found]
            for seed in SEEDS
            if (found := by_metis(web, slots, seed)) is not None
        ]
    elif (parts := partitioner(web, slots)) is not None:
        starts = [[modules[part] for part in parts]]
    found_rows: dict[tuple[int, ...], int] = {}
    for start in starts:
        refiner = Refiner(web, room, start, places, near)
        row = refiner.run()
        assert refiner.fits()
        found_rows.setdefault(row, refiner.total())
    return sorted(found_rows, key=lambda row: found_rows[row])


def by_metis(web: Web, parts: Sequence[int], seed: int = 0) -> list[int] | None:
    """A part for each qubit; None where there is nothing to cut. Raises ModuleNotFoundError."""
    import pymetis

    near = adjacency(web)
    if len(parts) < 2 or not any(near):
        return None
    starts, ends, weights = [0], list[int](), list[int]()
    for neighbours in near:
        for other, weight in sorted(neighbours.items()):
            ends.append(other)
            weights.append(max(1, weight))
        starts.append(len(ends))
    whole = sum(parts)
    found = pymetis.part_graph(
        len(parts),
        pymetis.CSRAdjacency(starts, ends),
        eweights=weights,
        vweights=list(web.weights),
        tpwgts=[part / whole for part in parts],
        options=pymetis.Options(seed=seed),
    )
    return list(found.vertex_part)


def adjacency(web: Web) -> list[dict[int, int]]:
    """Of each qubit its neighbours, with weights: edges as cliques, large ones as stars."""
    near: list[Counter[int]] = [Counter() for _ in web.weights]
    for pins, weight in web.edges:
        wide = len(pins) > CLIQUE_MAX
        joined = ((pins[0], pin) for pin in pins[1:]) if wide else combinations(pins, 2)
        each = SCALE * weight // (1 if wide else len(pins) - 1)
        for one, two in joined:
            near[one][two] += each
            near[two][one] += each
    return [dict(each) for each in near]
