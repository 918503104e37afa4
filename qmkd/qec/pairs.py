"""Purification of Bell pairs drawn history by history, to set beside its closed forms.

`sample` draws the errors of both pairs from a seed, runs BBPSSW or DEJMPS on them and counts. What
pairs and protocols are, and what they come to exactly, stands in `qvm/pairs.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qvm.pairs import Pair


def sample(
    kept: Pair, spent: Pair, protocol: str, trials: int, seed: int
) -> tuple[int, NDArray[np.int64]]:
    """Draw both pairs, run the protocol on their errors, count.

    Returns the number accepted, and of those how many ended in each state of `BELL`, int64, (4,).
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
