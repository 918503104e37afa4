"""Bell pairs in closed form: what purifies them, what storing costs, how many raw ones it takes.

A pair is four probabilities, those of the Bell states that it may be in. Purifying takes two pairs,
keeps one if two measured bits agree, and is exact here: local operations of BBPSSW and DEJMPS only
permute and compare Bell states. Operations at the ends of a pair do not err here, and a pair that
waits for another to be purified with does not age. Links are in `machine.py`; what the pairs of a
program come to, in `channels.py`; the same protocols drawn history by history, in
`qmkd/qec/pairs.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Final, NamedTuple

import msgspec

BELL: Final = ("phi+", "psi+", "psi-", "phi-")
"""Errors of the wanted pair phi+: none, X, Y, Z on one half, in this order."""
ROUNDING: Final = 1e-9
ROUNDS_MAX: Final = 64
RAW_PAIRS_MAX: Final = 4096
"""Nobody is given a purified pair that takes more raw ones, in the mean."""
RAW: Final = "raw"
"""In place of a protocol where a raw pair will do."""


class Pair(msgspec.Struct, frozen=True):
    """A Bell-diagonal pair: chances of phi+, psi+, psi-, phi-.

    Raises ValueError unless they are probabilities that add up to 1.
    """

    none: float
    x: float
    y: float
    z: float

    def __post_init__(self) -> None:
        chances = self.chances
        if min(chances) < 0 or abs(sum(chances) - 1) > ROUNDING:
            raise ValueError(f"a pair needs four probabilities that add up to 1, not {chances}")

    @property
    def chances(self) -> tuple[float, float, float, float]:
        return (self.none, self.x, self.y, self.z)

    @property
    def fidelity(self) -> float:
        return self.none


def werner(fidelity: float) -> Pair:
    """The pair of this fidelity whose three errors are alike."""
    rest = (1 - fidelity) / 3
    return Pair(fidelity, rest, rest, rest)


def twirled(pair: Pair) -> Pair:
    """The pair after both ends turn by one random rotation: its errors become alike."""
    return werner(pair.fidelity)


def rotated(pair: Pair) -> Pair:
    """The pair after Alice turns by sqrt(X) and Bob by its inverse: Y and Z change places."""
    return Pair(pair.none, pair.x, pair.z, pair.y)


def kept(cycles: float, lifetime: float | None) -> float:
    """The chance that memories leave a pair as it was: exp(-cycles / lifetime).

    lifetime: None for memories that keep it for ever.
    """
    return 1.0 if lifetime is None else math.exp(-cycles / lifetime)


def stored(pair: Pair, cycles: float, lifetime: float | None) -> Pair:
    """The pair after that many cycles in memories that depolarise it: as it was with the chance
    that it is `kept`, else nothing, all four Bell states alike.

    So its fidelity F becomes 1/4 + (F - 1/4) exp(-cycles / lifetime), as in Inesta et al.,
    arXiv:2502.20240.
    """
    return _faded(pair, kept(cycles, lifetime))


def _faded(pair: Pair, kept: float) -> Pair:
    return Pair(*[_mixed(chance, kept) for chance in pair.chances])


def _mixed(chance: float, kept: float) -> float:
    return kept * chance + (1 - kept) / 4


class Purified(NamedTuple):
    """success: chance that the kept pair is accepted. pair: its state then."""

    success: float
    pair: Pair


def compared(kept: Pair, spent: Pair) -> Purified:
    """Bilateral CNOT from the kept pair onto the spent one; accepted where Z outcomes agree.

    X errors of the kept pair spread to the spent one, Z errors of the spent to the kept. Outcomes
    agree where both or neither pair held an X or Y error.
    """
    same = (kept.none + kept.z) * (spent.none + spent.z) + (kept.x + kept.y) * (spent.x + spent.y)
    if same <= 0:
        raise ValueError("these pairs are never accepted")
    return Purified(
        same,
        Pair(
            (kept.none * spent.none + kept.z * spent.z) / same,
            (kept.x * spent.x + kept.y * spent.y) / same,
            (kept.x * spent.y + kept.y * spent.x) / same,
            (kept.none * spent.z + kept.z * spent.none) / same,
        ),
    )


def bbpssw(kept: Pair, spent: Pair) -> Purified:
    """Bennett et al., arXiv:quant-ph/9511027: twirl to Werner pairs, then compare."""
    return compared(twirled(kept), twirled(spent))


def dejmps(kept: Pair, spent: Pair) -> Purified:
    """Deutsch et al., arXiv:quant-ph/9604039: turn both pairs instead of twirling, then compare."""
    return compared(rotated(kept), rotated(spent))


PROTOCOLS: Final[dict[str, Callable[[Pair, Pair], Purified]]] = {
    "BBPSSW": bbpssw,
    "DEJMPS": dejmps,
}


class Ladder(NamedTuple):
    """pair: after all rounds. raw_pairs: mean number of raw pairs per purified one."""

    pair: Pair
    rounds: int
    raw_pairs: float

    def cycles(self, cycles_per_raw: float) -> float:
        """Mean number of cycles in which a source of raw pairs makes a purified one."""
        return self.raw_pairs * cycles_per_raw


def ladders(raw: Pair, protocol: str) -> Iterator[Ladder]:
    """Purification among equals, round by round, from none on, for as long as it gains anything.

    Each round takes two pairs of the one before, again and again until they are accepted.
    """
    step = PROTOCOLS[protocol]
    pair, cost = raw, 1.0
    for rounds in range(ROUNDS_MAX + 1):
        yield Ladder(pair, rounds, cost)
        success, better = step(pair, pair)
        # DEJMPS may lose fidelity in its first round and win it back in the second.
        if rounds > 1 and better.fidelity <= pair.fidelity:
            return
        pair, cost = better, 2 * cost / success


class Purification(NamedTuple):
    """protocol: one of PROTOCOLS, or RAW. kept: the chance that storage leaves the pair alone."""

    protocol: str
    ladder: Ladder
    kept: float

    @property
    def used(self) -> Pair:
        """The pair as it is when it is consumed."""
        return _faded(self.ladder.pair, self.kept)

    @property
    def fidelity(self) -> float:
        """Of the same."""
        return _mixed(self.ladder.pair.fidelity, self.kept)


def purifications(
    raw: Pair,
    age: float = 0.0,
    lifetime: float | None = None,
    protocols: Sequence[str] = tuple(PROTOCOLS),
) -> list[Purification]:
    """All that may be done to raw pairs, up to RAW_PAIRS_MAX, where a pair is consumed when it is
    `age` cycles old."""
    left = kept(age, lifetime)
    return [
        Purification(protocol if each.rounds else RAW, each, left)
        for protocol in protocols
        for each in _affordable(raw, protocol)
    ]


@lru_cache(maxsize=1024)
def _affordable(raw: Pair, protocol: str) -> tuple[Ladder, ...]:
    return tuple(takewhile(lambda each: each.raw_pairs <= RAW_PAIRS_MAX, ladders(raw, protocol)))


def cheapest(ways: Sequence[Purification], fidelity: float) -> Purification | None:
    """The one of fewest raw pairs that is at least this good when it is consumed; None where none
    is."""
    enough = [way for way in ways if way.fidelity >= fidelity]
    return min(enough, key=lambda way: (way.ladder.raw_pairs, -way.fidelity), default=None)


def best(ways: Sequence[Purification]) -> Purification:
    """The one that makes the best pair; of those alike, the cheapest."""
    return min(ways, key=lambda way: (-way.fidelity, way.ladder.raw_pairs))
