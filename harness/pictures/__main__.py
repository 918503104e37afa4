"""`python -m harness.pictures NAME --out FILE`: a picture of logical qubits, as PNG or SVG.

by-strength, by-distance: logical error rates with intervals, our law, published points. threshold:
where curves cross, with its interval. patch: a block, and the detectors that fired in a shot.
backlog: a decoder that keeps up and one that does not. all: each of them, in both formats, with
`--out` a folder. Exit status: 0 drawn; 2 it cannot be drawn, and why.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.pictures.style import SUFFIXES, PictureRefused, save
from qmkd.qec.calibration import Table, TableError, decode
from qmkd.qec.data import calibration, counted, published

CODES = ("Surface", "BaconShor", "SHYPS", "Repetition", "Honeycomb")


def by_strength(asked: argparse.Namespace, out: Path) -> None:
    from harness.pictures import rates

    which = rates.Asked(asked.code, asked.noise, asked.basis)
    counts = rates.Counts(counted(), published())
    save(rates.by_strength(_table(asked.table), counts, which), out)


def by_distance(asked: argparse.Namespace, out: Path) -> None:
    from harness.pictures import rates

    which = rates.Asked(asked.code, asked.noise, asked.basis)
    counts = rates.Counts(counted(), published())
    save(rates.by_distance(_table(asked.table), counts, which), out)


def threshold(_: argparse.Namespace, out: Path) -> None:
    from harness.pictures.threshold import threshold as drawn

    save(drawn(counted(), published()), out)


def patch(asked: argparse.Namespace, out: Path) -> None:
    from harness.pictures.patch import patch as drawn
    from harness.pictures.patch import save_drawing

    save_drawing(
        drawn(asked.code, asked.distance, asked.rounds, asked.p, asked.seed, asked.shown), out
    )


def backlog(asked: argparse.Namespace, out: Path) -> None:
    from harness.pictures.backlog import backlog as drawn

    save(drawn(asked.distance, asked.p, asked.windows, asked.loads, asked.seed), out)


PICTURES: dict[str, Callable[[argparse.Namespace, Path], None]] = {
    "by-strength": by_strength,
    "by-distance": by_distance,
    "threshold": threshold,
    "patch": patch,
    "backlog": backlog,
}


def _table(path: Path | None) -> Table:
    """The shipped one, or that joined with one grown by `python -m qmkd.qec calibrate`."""
    if path is None:
        return calibration()
    try:
        return calibration().joined(decode(path.read_bytes()))
    except TableError as problem:
        raise PictureRefused(f"{path}: {problem}") from problem


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="python -m harness.pictures", description=__doc__)
    whole.add_argument("name", choices=[*PICTURES, "all"])
    whole.add_argument("--out", type=Path, required=True, help="*.svg or *.png; of all, a folder")
    whole.add_argument("--code", choices=CODES, default="Surface")
    whole.add_argument("--noise", default="uniform", help="of rates: a model of the table")
    whole.add_argument("--basis", choices=("X", "Z"), default="Z", help="of rates")
    whole.add_argument("--table", type=Path, help="of rates: a table that adds to the shipped one")
    whole.add_argument("--distance", type=int, default=5, help="of a patch or a backlog")
    whole.add_argument("--p", type=float, default=3e-3, help="of a patch or a backlog")
    whole.add_argument("--seed", type=int, default=1, help="of a patch or a backlog")
    whole.add_argument("--rounds", type=int, default=5, help="of a patch")
    whole.add_argument("--shown", choices=("gauges", "stabilizers"), default="gauges")
    whole.add_argument("--windows", type=int, default=120, help="of a backlog")
    whole.add_argument("--loads", type=float, nargs="+", default=[0.8, 1.1], help="of a backlog")
    return whole


def main(arguments: Sequence[str]) -> int:
    asked = parser().parse_args(arguments)
    out: Path = asked.out
    try:
        if asked.name != "all":
            PICTURES[asked.name](asked, out)
            return 0
        out.mkdir(parents=True, exist_ok=True)
        for name, draw in PICTURES.items():
            for suffix in SUFFIXES:
                draw(asked, out / f"{name}{suffix}")
    except (PictureRefused, OSError) as problem:
        sys.stderr.write(f"No picture: {problem}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
