"""ML-QEM on circuits, families and machines that it has not seen, beside extrapolation.

Mean absolute errors as shares of the spread, over their own by extrapolation with the best of the
linear, exponential and Richardson fits (readout undone, as many shots), and without mitigation.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.bench.rows import Row, missing, row
from harness.em.learning.training import (
    OTHERS,
    Example,
    by_backend,
    by_circuit,
    by_family,
    errors,
    examples,
    kind,
    machines,
)

SEEDS: Final = range(1000, 1012)
SEEDS_QUICK: Final = range(1000, 1005)
SPLITS: Final = (
    ("unseen circuits", by_circuit, None, 0.65),
    ("left-out families", by_family, kind, 0.9),
    ("left-out machines and their circuits", by_backend, lambda each: each.backend, 0.9),
)


def rows(quick: bool) -> Iterator[Row]:
    if find_spec("sklearn") is None:
        yield missing("ML-QEM", "pip install 'qmkd[em]'")
        return
    found = list(examples(machines(), SEEDS_QUICK if quick else SEEDS))
    plain = np.array([each.off_plain for each in found])
    base = np.array([each.off for each in found])
    others = {fit: np.array([each.off_others[fit] for each in found]) for fit in OTHERS}
    best = min(others.values(), key=lambda values: float(np.abs(values).mean()))
    yield row("ML-QEM: examples", len(found), "")
    for name, split, group, goal in SPLITS:
        left = errors(found, split(found))
        label = f"ML-QEM, {name}"
        at_most = goal if group is None else None
        yield row(f"{label}: error / best ZNE's", _ratio(left, best), "x", at_most=at_most)
        yield row(f"{label}: error / our calibrated ZNE's", _ratio(left, base), "x")
        if group is None:
            continue
        parts = _parts(found, [group(each) for each in found])
        worst = max(_ratio(left[part], best[part]) for part in parts)
        yield row(f"{label}: the worst one, / best ZNE's", worst, "x", at_most=goal)
        worst = max(_ratio(left[part], plain[part]) for part in parts)
        yield row(f"{label}: the worst one, / none", worst, "x", at_most=1)


def _ratio(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> float:
    return float(np.abs(top).mean() / np.abs(bottom).mean())


def _parts(found: list[Example], groups: list[str]) -> list[list[int]]:
    return [[at for at in range(len(found)) if groups[at] == name] for name in sorted(set(groups))]
