"""`python -m qmkd.qec count`: our own counts of surface memories, as many as others published.

Memories of 4d rounds under uniform noise, each with a fixed seed and a fixed end, so that the same
versions of Stim and PyMatching count the same. The plan holds what a calibration table has no use
for or no time for: large distances, some of them for an hour, and strengths around the threshold. A
file that exists is extended: what it holds is not counted again. The shipped file is read by
`qmkd.qec.data`; `validate.py` puts it beside published counts. Exit status: 0 done; 2 the command
line is wrong.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from qmkd.qec import noise
from qmkd.qec.calibration import Basis
from qmkd.qec.circuits import memory
from qmkd.qec.codes.surface import surface
from qmkd.qec.data import Count, read_counts
from qmkd.qec.measuring import decoder_of_memory, seed_of, versions
from qmkd.qec.sampling import Stop, sample_and_decode

COMMAND: Final = "python -m qmkd.qec count"
BASES: Final[tuple[Basis, ...]] = ("Z", "X")
EXPERIMENT: Final = "rotated surface, 4-CX"
"""As published counts call it."""
COLUMNS: Final = (*Count._fields, "seed", "versions")
LIBRARIES: Final = ("stim", "pymatching")


class Planned(NamedTuple):
    """One memory, in both bases. It ends after `shots`, or after the chunk with error `errors`."""

    distance: int
    p: float
    shots: int
    errors: int


LONG: Final = (
    Planned(9, 3e-3, 409_600, 500),
    Planned(11, 3e-3, 409_600, 300),
)
NEAR_THRESHOLD: Final = tuple(
    Planned(distance, p, 16_384, 1000)
    for p in (5e-3, 6e-3, 7e-3, 8e-3, 9e-3, 1e-2)
    for distance in (5, 7, 9, 11)
)
PLAN: Final = (*NEAR_THRESHOLD, *LONG)


class Found(NamedTuple):
    """A row with what it takes to count it again."""

    row: Count
    seed: int
    versions: str


def count(planned: Planned, basis: Basis) -> Found:
    distance = planned.distance
    circuit = noise.apply(memory(surface(distance), 4 * distance, basis), noise.uniform(planned.p))
    decoder = decoder_of_memory(surface(distance), circuit, basis)
    seed = seed_of("validate", "memory", distance, planned.p, basis)
    stop = Stop(shots=planned.shots, errors=planned.errors)
    tally = sample_and_decode(circuit, decoder, stop, seed)
    made = Count(
        source="ours",
        experiment=EXPERIMENT,
        decoder=decoder.name,
        basis=basis,
        distance=distance,
        rounds=4 * distance,
        p=planned.p,
        shots=tally.shots,
        errors=tally.errors,
    )
    return Found(made, seed, versions_now())


def versions_now() -> str:
    """Of the libraries that counts depend on."""
    found = versions()
    return ", ".join(f"{name} {found[name]}" for name in LIBRARIES)


def as_csv(found: Iterable[Found]) -> str:
    """Rows by strength, distance, basis, under a line that names the columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in sorted(found, key=lambda each: (each.row.p, each.row.distance, each.row)):
        writer.writerow((*each.row, each.seed, each.versions))
    return text.getvalue()


def from_csv(text: str) -> list[Found]:
    rows = csv.DictReader(text.splitlines())
    return [
        Found(row, int(more["seed"]), more["versions"])
        for row, more in zip(read_counts(text), rows, strict=True)
    ]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the file to make or to extend")
    parser.add_argument("--distance", type=int, help="only this distance of the plan")
    parser.add_argument("--p", type=float, help="only this strength of the plan")
    asked = parser.parse_args(arguments)
    out: Path = asked.out
    found = from_csv(out.read_text(encoding="utf-8")) if out.exists() else []
    for planned in PLAN:
        if asked.distance not in (None, planned.distance) or asked.p not in (None, planned.p):
            continue
        for basis in BASES:
            have = {(each.row.distance, each.row.p, each.row.basis) for each in found}
            if (planned.distance, planned.p, basis) in have:
                continue
            found.append(count(planned, basis))
            out.write_text(as_csv(found), encoding="utf-8")
            made = found[-1].row
            text = f"d={made.distance} p={made.p:g} {basis}: {made.errors} of {made.shots}"
            sys.stderr.write(f"{text} shots\n")
    return 0
