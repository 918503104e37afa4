"""Where each virtual qubit of a placed program lies: in which block, on which physical qubits.

Blocks of a kind fill in the order of execution: an allocation takes the lowest free place of its
code and distance, a release frees it. The largest number of places ever taken is what the verifier
counted, so there is a block for each. Qubits named by handles lie where their session holds them.
"""

from __future__ import annotations

from collections import defaultdict
from heapq import heappop, heappush

from qvm.blocks import Place
from qvm.profiles import Profile, parse_profile
from qvm.program import Summary, VerifiedProgram
from syscalls.ids import is_handle

Kind = tuple[str, int]


def homes(program: VerifiedProgram) -> dict[str, tuple[int, int]]:
    """Virtual qubit -> (kind, block): where it lies from its last allocation on.

    kind: index into `summary.blocks`. block: from 0, among the program's blocks of that kind.
    """
    kinds: dict[Kind, int] = {
        (each.code, each.distance): at for at, each in enumerate(program.summary.blocks)
    }
    given: dict[Kind, int] = defaultdict(int)
    spare: dict[Kind, list[int]] = defaultdict(list)
    held: dict[str, tuple[Profile, int]] = {}
    found: dict[str, tuple[int, int]] = {}
    for index in program.order:
        node = program.graph.program.nodes[index]
        if node.op == "ALLOC_LQ":
            assert node.args
            profile = parse_profile(node.args["profile"])
            assert isinstance(profile, Profile), "the verifier has read it"
            kind = (profile.code, profile.distance)
            for name in node.vqs or ():
                if is_handle(name):
                    continue
                if spare[kind]:
                    place = heappop(spare[kind])
                else:
                    place = given[kind]
                    given[kind] += 1
                held[name] = (profile, place)
                found[name] = (kinds[kind], place // profile.block)
        elif node.op == "FREE_LQ":
            for name in node.vqs or ():
                if name in held:
                    profile, place = held.pop(name)
                    heappush(spare[profile.code, profile.distance], place)
    return found


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
