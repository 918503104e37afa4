"""How likely counts are under known chances, which programs that are sampled are held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from scipy.stats import chi2

CELL_MIN: Final = 5.0  # expected shots below which cells are thrown together


def g_test(observed: Mapping[str, int], exact: Mapping[str, float]) -> float:
    """p value of the observed counts. Rare cells count together; an impossible one gives 0."""
    shots = sum(observed.values())
    if any(exact.get(key, 0.0) < 1e-12 for key in observed):
        return 0.0
    cells, rare = [], [0.0, 0.0]
    for key, chance in exact.items():
        seen, expected = float(observed.get(key, 0)), shots * chance
        if expected < CELL_MIN:
            rare = [rare[0] + seen, rare[1] + expected]
        else:
            cells.append((seen, expected))
    if rare[1] > 0:
        cells.append((rare[0], rare[1]))
    statistic = 2 * sum(seen * np.log(seen / expected) for seen, expected in cells if seen)
    return float(chi2.sf(statistic, len(cells) - 1)) if len(cells) > 1 else 1.0
