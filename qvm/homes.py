"""Where each virtual qubit of a placed program lies: in which block, on which physical qubits.

Blocks of a kind fill in the order of execution: an allocation takes the lowest free place of its
code and distance, a release frees it. The largest number of places ever taken is what the verifier
counted, so there is a block for each. Qubits named by handles lie where their session holds them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from heapq import heappop, heappush

from qvm.blocks import Place
from qvm.profiles import Profile, parse_profile
from qvm.program import Blocks, Summary, VerifiedProgram
from syscalls.ids import is_handle

Kind = tuple[str, int]
Home = tuple[int, int]
"""(kind, block): an index into `Summary.blocks`, and which of the blocks of that kind."""


class Places:
    """Places in blocks, as they are given out and come back.

    found: virtual qubit -> (kind, block), where it lies from its last allocation on.
    """

    def __init__(self, blocks: Sequence[Blocks]) -> None:
        self._kinds: dict[Kind, int] = {
            (each.code, each.distance): at for at, each in enumerate(blocks)
        }
        self._given: dict[Kind, int] = defaultdict(int)
        self._spare: dict[Kind, list[int]] = defaultdict(list)
        self._held: dict[str, tuple[Profile, int]] = {}
        self.found: dict[str, Home] = {}

    def take(self, profile: Profile, names: Sequence[str]) -> None:
        kind = (profile.code, profile.distance)
        for name in names:
            if is_handle(name):
                continue
            if self._spare[kind]:
                place = heappop(self._spare[kind])
            else:
                place = self._given[kind]
                self._given[kind] += 1
            self._held[name] = (profile, place)
            self.found[name] = (self._kinds[kind], place // profile.block)

    def free(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self._held:
                profile, place = self._held.pop(name)
                heappush(self._spare[profile.code, profile.distance], place)


def homes(program: VerifiedProgram) -> dict[str, Home]:
    """Virtual qubit -> (kind, block): where it lies from its last allocation on.

    kind: index into `summary.blocks`. block: from 0, among the program's blocks of that kind.
    """
    places = Places(program.summary.blocks)
    for index in program.order:
        node = program.graph.program.nodes[index]
        if node.op == "ALLOC_LQ":
            assert node.args
            profile = parse_profile(node.args["profile"])
            assert isinstance(profile, Profile), "the verifier has read it"
            places.take(profile, node.vqs or ())
        elif node.op == "FREE_LQ":
            places.free(node.vqs or ())
    return places.found


def physical(place: Place, kind: int, block: int) -> range:
    """The physical qubits of a block."""
    for run in place:
        if run.kind == kind:
            if block < run.number:
                first = run.first + block * run.size
                return range(first, first + run.size)
            block -= run.number
    raise AssertionError("a placed program has all of its blocks")


def entries(summary: Summary) -> int:
    """Physical qubits that a whole mapping names at most; those of a shared block several times."""
    return sum(each.physical * each.number * each.logical for each in summary.blocks)
