"""Bell pairs and their purification: BBPSSW and DEJMPS on Bell-diagonal states.

A pair is four probabilities, those of the Bell states that it may be in. Purifying takes two pairs,
keeps one if two measured bits agree, and is exact here: local operations of the two protocols only
permute and compare Bell states. `purify` gives closed forms, `sample` draws histories from a seed.
What a channel of the machine costs is counted by those who use this; nothing here is physical.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

BELL: Final = ("phi+", "psi+", "psi-", "phi-")
"""Errors of the wanted pair phi+: none, X, Y, Z on one half, in this order."""
ROUNDING: Final = 1e-9
ROUNDS_MAX: Final = 64


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


def purify(raw: Pair, protocol: str, fidelity: float) -> Ladder | None:
    """Rounds of purification among equals until `fidelity`; None where it is out of reach.

    Each round takes two pairs of the one before, again and again until they are accepted.
    """
    step = PROTOCOLS[protocol]
    pair, cost = raw, 1.0
    for rounds in range(ROUNDS_MAX + 1):
        if pair.fidelity >= fidelity:
            return Ladder(pair, rounds, cost)
        success, better = step(pair, pair)
        # DEJMPS may lose fidelity in its first round and win it back in the second.
        if rounds > 1 and better.fidelity <= pair.fidelity:
            return None
        pair, cost = better, 2 * cost / success
    return None


def sample(
    kept: Pair, spent: Pair, protocol: str, trials: int, seed: int
) -> tuple[int, NDArray[np.int64]]:
    """Draw both pairs, run the protocol on their errors, count.

    Returns the number accepted, and of those how many ended in each state of BELL, int64, (4,).
    """
    chance = np.random.Generator(np.random.Philox(seed))
    errors = []
    for pair in (kept, spent):
        drawn = chance.choice(4, size=trials, p=pair.chances)
        errors.append(_prepared(drawn, protocol, chance))
    # An error is its X part and its Z part: none, X, Y, Z have X parts 0, 1, 1, 0.
    (x_kept, z_kept), (x_spent, z_spent) = errors
    x_spent, z_kept = x_spent ^ x_kept, z_kept ^ z_spent
    accepted = ~x_spent
    x, z = x_kept[accepted], z_kept[accepted]
    state = np.where(x, np.where(z, 2, 1), np.where(z, 3, 0))
    return int(accepted.sum()), np.bincount(state, minlength=4).astype(np.int64)


def _prepared(
    drawn: NDArray[np.int64], protocol: str, chance: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """X and Z parts of the drawn errors, after what the protocol does before comparing."""
    x, z = (drawn == 1) | (drawn == 2), (drawn == 2) | (drawn == 3)
    if protocol == "DEJMPS":  # sqrt(X) on one side, its inverse on the other: Z becomes Y
        return x ^ z, z
    turns = chance.integers(3, size=drawn.size)  # a twirl permutes X, Y and Z in a circle
    for turn in (1, 2):
        turned = turns >= turn
        x, z = np.where(turned, z, x), np.where(turned, x ^ z, z)
    return x, z
