"""Another model, and whether it may serve: only if it is better on what it has not seen.

Candidate and serving model are compared on fresh circuits of tonight's machines. The candidate is
trained anew for each split, so that it predicts unseen circuits, machines and families; the serving
one has seen none of these circuits. Where nothing serves, it is held against no correction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from harness.em.backends.backend import Backend
from harness.em.circuits.families import FAMILIES, make
from harness.em.learning.forest import Forest
from harness.em.learning.training import (
    Example,
    Split,
    by_backend,
    by_circuit,
    by_family,
    errors,
    example,
    trained,
)
from harness.em.methods.learned import corrections
from harness.em.running import run_seed

FIRST_SEED: Final = 1_000_000
NIGHT_SEEDS: Final = 1_000
SPLITS: Final[dict[str, Callable[[Sequence[Example]], Iterator[Split]]]] = {
    "circuits": by_circuit,
    "backends": by_backend,
    "families": by_family,
}


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Mean absolute errors, and the standard error of their difference."""

    candidate: float
    serving: float
    std_err: float
    better: bool


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """candidate, serving: digests; empty where there is none. by: for each split."""

    candidate: str
    serving: str
    examples: int
    data: str
    by: dict[str, Compared]
    promoted: bool
    because: str


def gathered(
    backends: Sequence[Backend],
    families: Sequence[str],
    circuits: int,
    qubits: int,
    shots: int,
    seed: int,
    night: int,
) -> list[Example]:
    """Fresh circuits of each family, every one on one machine, so that machines can be left out
    without their circuits."""
    found: dict[str, Example] = {}
    number = 0
    for family in families:
        row = FAMILIES[family]
        width = min(max(qubits, row.qubits_min), row.qubits_max)
        for each in range(circuits):
            task = make(family, FIRST_SEED + night * NIGHT_SEEDS + each, width)
            if task.circuit_id in found:
                continue
            backend = backends[number % len(backends)]
            found[task.circuit_id] = example(task, backend, shots, run_seed(seed, number))
            number += 1
    return list(found.values())


def judged(
    found: Sequence[Example], serving: Forest | None, calibrations: Sequence[str]
) -> tuple[Forest | None, Verdict]:
    """The candidate, and whether it may serve."""
    held = serving.digest if serving else ""
    splits = {name: [s for s in split(found) if s[1]] for name, split in SPLITS.items()}
    for name, parts in splits.items():
        if len(parts) < 2 or not all(training for training, _ in parts):
            why = f"There are too few {name} to leave any out, so nothing can be promoted."
            return None, Verdict(candidate="", serving=held, examples=len(found), data="", by={},
                                 promoted=False, because=why)  # fmt: skip
    candidate = trained(found, {"calibrations": sorted(set(calibrations))})
    now = np.array([each.off for each in found])
    if serving is not None:
        now = now + corrections(serving, np.array([each.features for each in found]))[0]
    by = {}
    for name, parts in splits.items():
        left = errors(found, iter(parts))
        gain = np.abs(now) - np.abs(left)
        std_err = float(gain.std(ddof=1) / len(gain) ** 0.5)
        by[name] = Compared(
            candidate=float(np.abs(left).mean()),
            serving=float(np.abs(now).mean()),
            std_err=std_err,
            better=bool(gain.mean() > std_err),
        )
    worse = [name for name, each in by.items() if not each.better]
    return candidate, Verdict(
        candidate=candidate.digest,
        serving=held,
        examples=len(found),
        data=str(candidate.about["data"]),
        by=by,
        promoted=not worse,
        because=f"It is not better on unseen {', '.join(worse)}."
        if worse
        else "It is better on unseen circuits, backends and families.",
    )
