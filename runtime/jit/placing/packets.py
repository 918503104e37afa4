"""Which copy serves each gate between modules, so that as few as can be are made.

Between two modules every gate is an edge from a copy of its one end to a copy of its other, and
copies that touch all edges suffice: a minimum vertex cover of a bipartite graph, which follows from
a maximum matching (König). That is exact for one pair of modules (Andres-Martinez et al.,
arXiv:2305.14148); copies in several modules may share the way there, and `shared` goes on from it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from runtime.jit.placing.flow import End, Flow
from runtime.jit.placing.homes import Homes, Option, options
from runtime.jit.placing.room import Room

Serving = dict[int, Option]
"""By the place of a gate, the copy that serves it."""
Run = tuple[End, int]
"""A run of a qubit, and the row since which the qubit lies where it does."""
PASSES_MAX: Final = 4


def run_of(option: Option) -> Run:
    return option.end, option.stay


def serving(flow: Flow, homes: Homes) -> Serving:
    """For every gate between two modules a copy of one of its ends, few of them in all."""
    between = defaultdict[tuple[int, int], list[tuple[int, Option, Option]]](list)
    for gate, one, two in options(flow, homes):
        if one.module < two.module:
            between[one.module, two.module].append((gate.at, one, two))
        else:
            between[two.module, one.module].append((gate.at, two, one))
    found: Serving = {}
    for rows in between.values():
        found |= _covered(rows)
    return found


def _covered(rows: Sequence[tuple[int, Option, Option]]) -> Serving:
    lefts = {left: at for at, left in enumerate(dict.fromkeys(left for _, left, _ in rows))}
    rights = {right: at for at, right in enumerate(dict.fromkeys(right for _, _, right in rows))}
    edges = list(dict.fromkeys((lefts[left], rights[right]) for _, left, right in rows))
    in_left, in_right = _cover(edges, len(lefts), len(rights))
    uses: dict[Option, int] = defaultdict(int)
    for _, left, right in rows:
        uses[left] += lefts[left] in in_left
        uses[right] += rights[right] in in_right
    # Where both ends have a copy, the one that is used more often.
    return {
        at: left
        if lefts[left] in in_left and (rights[right] not in in_right or uses[left] >= uses[right])
        else right
        for at, left, right in rows
    }


def _cover(edges: Sequence[tuple[int, int]], lefts: int, rights: int) -> tuple[set[int], set[int]]:
    """A minimum vertex cover: of the left side what no alternating path from an unmatched left one
    reaches, of the right side what one does."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    graph: Any = csr_matrix(
        (np.ones(len(edges), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(lefts, rights)
    )
    of_right = maximum_bipartite_matching(graph, perm_type="row").tolist()
    of_left = {left: right for right, left in enumerate(of_right) if left >= 0}
    waiting = [left for left in range(lefts) if left not in of_left]
    seen_left, seen_right = set(waiting), set[int]()
    while waiting:
        left = waiting.pop()
        for right in graph.indices[graph.indptr[left] : graph.indptr[left + 1]].tolist():
            if right not in seen_right:
                seen_right.add(right)
                matched = of_right[right]
                if matched >= 0 and matched not in seen_left:
                    seen_left.add(matched)
                    waiting.append(matched)
    return set(range(lefts)) - seen_left, seen_right


class _Trees:
    """The modules that copies of each run reach, with how many gates each serves there."""

    def __init__(self, found: Serving, homes: Homes, room: Room) -> None:
        self.homes, self.room = homes, room
        self.uses = defaultdict[Run, Counter[int]](Counter)
        for each in found.values():
            self.uses[run_of(each)][each.module] += 1

    def pairs(self, run: Run, modules: Iterable[int]) -> int:
        end, stay = run
        return self.room.reach(self.homes.rows[stay][end.qubit], modules)

    def saved(self, run: Run, without: int) -> int:
        """Pairs that the run takes fewer if none of its copies is in that module."""
        modules = self.uses[run]
        return self.pairs(run, modules) - self.pairs(run, modules.keys() - {without})

    def more(self, run: Run, module: int) -> int:
        """Pairs that the run takes more with a copy in that module."""
        modules = self.uses[run]
        return self.pairs(run, modules.keys() | {module}) - self.pairs(run, modules)

    def change(self, old: Option, new: Option) -> None:
        """One gate is served by the other copy."""
        uses = self.uses[run_of(old)]
        uses[old.module] -= 1
        if not uses[old.module]:
            del uses[old.module]
        self.uses[run_of(new)][new.module] += 1


def shared(found: Serving, flow: Flow, homes: Homes, room: Room) -> Serving:
    """The same with fewer pairs, where copies in several modules share the way there: a copy goes
    if copies of the other ends of its gates serve them for less. Greedy, some times over."""
    both = {
        gate.at: {one: two, two: one} for gate, one, two in options(flow, homes)
    }  # fmt: skip
    met = Counter(run_of(option) for pair in both.values() for option in pair)
    trees = _Trees(found, homes, room)
    made = dict(found)
    for _ in range(PASSES_MAX):
        gates = defaultdict[Option, list[int]](list)
        for at, option in made.items():
            gates[option].append(at)
        changed = False
        for option, served in sorted(gates.items(), key=lambda each: (len(each[1]), each[1])):
            places = [at for at in served if made[at] == option]
            if not places:
                continue
            run, others = run_of(option), {both[at][option] for at in places}
            gain = trees.saved(run, option.module)
            gain -= sum(trees.more(run_of(other), other.module) for other in others)
            # At the same price, what meets more gates may serve more of them later.
            if gain > 0 or (gain == 0 and all(met[run_of(each)] > met[run] for each in others)):
                for at in places:
                    made[at] = both[at][option]
                    trees.change(option, made[at])
                changed = True
        if not changed:
            break
    return made


def pairs_of(found: Serving, homes: Homes, room: Room) -> int:
    """Pairs that copies and moves take if places for copies are without limit."""
    trees = _Trees(found, homes, room)
    return homes.moves(room) + sum(trees.pairs(run, uses) for run, uses in trees.uses.items())
