"""Data that ships: our calibration table, published counts that we compare with, our validation.

`calibration.jsonl` is made by `python -m qmkd.qec calibrate --out FILE`, `counts.csv`, our own
counts of what others published, by `python -m qmkd.qec count --out FILE`, and `validation.jsonl` by
`python -m qmkd.qec validate --out FILE`.

`published.csv`: a part of `assets/stats.csv` of the public repositories Strilanc/midout (McEwen,
Bacon, Gidney, arXiv:2302.02192), Strilanc/more-bacon-less-threshold (Gidney, Bacon,
arXiv:2305.12046) and Strilanc/magic-state-cultivation (Gidney, Shutty, Jones, arXiv:2409.17595).
Uniform circuit-level depolarizing noise of strength p with idling (`noise.uniform`); errors are per
shot of `rounds` rounds, in one basis.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from qmkd.qec.calibration import Basis, Table, decode


class Count(NamedTuple):
    """One count. source: the repository, or "ours"; experiment: what was run, in its words."""

    source: str
    experiment: str
    decoder: str
    basis: Basis
    distance: int
    rounds: int
    p: float
    shots: int
    errors: int


@cache
def calibration() -> Table:
    """The shipped table. Raises TableError where it was damaged."""
    return decode((files(__name__) / "calibration.jsonl").read_bytes())


@cache
def published() -> tuple[Count, ...]:
    return read_counts((files(__name__) / "published.csv").read_text(encoding="utf-8"))


@cache
def counted() -> tuple[Count, ...]:
    """Ours, of surface memories."""
    return read_counts((files(__name__) / "counts.csv").read_text(encoding="utf-8"))


def read_counts(text: str) -> tuple[Count, ...]:
    """Rows of a CSV whose first line names the columns; it may have more than `Count` has."""
    return tuple(
        Count(
            source=row["source"],
            experiment=row["experiment"],
            decoder=row["decoder"],
            basis="X" if row["basis"] == "X" else "Z",
            distance=int(row["distance"]),
            rounds=int(row["rounds"]),
            p=float(row["p"]),
            shots=int(row["shots"]),
            errors=int(row["errors"]),
        )
        for row in csv.DictReader(text.splitlines())
    )
