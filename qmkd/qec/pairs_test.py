"""Sampled histories against closed forms."""

from __future__ import annotations

import math

import pytest

from qmkd.qec import pairs
from qvm.pairs import PROTOCOLS, Pair, werner

TRIALS = 400_000
EXAMPLES = [
    (werner(0.8), werner(0.8)),
    (werner(0.95), werner(0.95)),
    (Pair(0.7, 0.1, 0.15, 0.05), Pair(0.85, 0.05, 0.02, 0.08)),
]


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
@pytest.mark.parametrize(("kept", "spent"), EXAMPLES)
def test_sampled_purification_is_within_three_sigma_of_the_closed_form(
    kept: Pair, spent: Pair, protocol: str
) -> None:
    success, pair = PROTOCOLS[protocol](kept, spent)
    accepted, ends = pairs.sample(kept, spent, protocol, TRIALS, seed=7)
    assert abs(accepted - TRIALS * success) <= 3 * math.sqrt(TRIALS * success * (1 - success))
    for count, chance in zip(ends, pair.chances, strict=True):
        assert abs(count - accepted * chance) <= 3 * math.sqrt(accepted * chance * (1 - chance))
