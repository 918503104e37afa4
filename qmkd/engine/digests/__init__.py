"""Reference runs, and the SHA-256 of the packed rows that they have always given.

`reference.json` holds the digests and the version of random words (`chance.VERSION`) that they
belong to. They never change unless that version does. A program is made from a seed; should what
makes it change, its own digest does, and the run is another one.

    python -m qmkd.engine.digests            compare
    python -m qmkd.engine.digests --write    after a new version, or for new programs
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from qmkd.engine import chance, run
from qmkd.engine.digests.programs import FAMILIES, NOISES, capable, graph
from qmkd.engine.noise import NoiseModel
from qvm.examples import load, names

FILE: Final = Path(__file__).parent / "reference.json"
SHOTS: Final = (150, 5000, 9, 700)  # in turn
FIRSTS: Final = (0, 64, 1 << 20, (1 << 40) - 128)
SEED_STEP: Final = 0x9E3779B97F4A7C15  # so that seeds have bits everywhere
EXAMPLE_NOISES: Final = 2

RUNS: Final = 200
assert sum(family.runs for family in FAMILIES.values()) + EXAMPLE_NOISES * len(names()) == RUNS


class Run(NamedTuple):
    """A program under errors, and the shots [first, first + shots) of a seed."""

    name: str
    graph: bytes
    seed: int
    first: int
    shots: int
    noise: NoiseModel


class Digests(msgspec.Struct, frozen=True):
    """Of a run: that of its program (`Summary.digest`), and that of its packed rows, in hex."""

    program: str
    rows: str


class Reference(msgspec.Struct, frozen=True):
    """What `reference.json` holds. version: `chance.VERSION` under which it was made."""

    version: int
    runs: dict[str, Digests]


def runs() -> Iterator[Run]:
    """The reference runs, always the same."""
    programs = [
        *((f"example {name}", load(name), at) for name in names() for at in range(EXAMPLE_NOISES)),
        *(
            (f"{name} {seed}", graph(family, seed), seed)
            for name, family in FAMILIES.items()
            for seed in range(family.runs)
        ),
    ]
    for number, (name, raw, at) in enumerate(programs):
        noise = NOISES[at % len(NOISES)]
        yield Run(
            f"{name}, {type(noise).__name__}",
            raw,
            number * SEED_STEP % (1 << 64),
            FIRSTS[number % len(FIRSTS)],
            SHOTS[number // len(FIRSTS) % len(SHOTS)],
            noise,
        )


def digests(one: Run, engine: str | None = None) -> Digests:
    """Run it: on this engine, or each part on the first that suits it."""
    program = run.prepare(one.graph)
    engine = engine or capable(program, one.noise)[-1]
    found = hashlib.sha256()
    for packed in run.packed_rows(program, one.seed, one.first, one.shots, engine, one.noise):
        found.update(packed.tobytes())
    return Digests(program.summary.digest, found.hexdigest())


def computed() -> Reference:
    """All runs, run now."""
    return Reference(chance.VERSION, {one.name: digests(one) for one in runs()})


def stored() -> Reference:
    """Those of `reference.json`."""
    return msgspec.json.decode(FILE.read_bytes(), type=Reference)


def changed(before: Reference, now: Reference) -> list[str]:
    """Runs of the same program that give other bits."""
    return [
        name
        for name, digest in before.runs.items()
        if name in now.runs and now.runs[name].program == digest.program
        if now.runs[name].rows != digest.rows
    ]


def complaint(before: Reference, now: Reference) -> str | None:
    """What is wrong with the runs as they are now, as sentences; None where nothing is."""
    if before.version != now.version:
        return (
            f"The reference digests are those of version {before.version} of the random words, and "
            f"this is version {now.version}. Run: python -m qmkd.engine.digests --write"
        )
    if others := changed(before, now):
        return (
            f"{len(others)} of {len(before.runs)} reference runs give other bits than they always "
            f"gave, the first of them {others[0]!r}. If that is meant, it is a new version of the "
            "random words: count it in chance.DOMAIN, tell users in changelog.d/, and run "
            "python -m qmkd.engine.digests --write"
        )
    if before.runs != now.runs:
        return (
            "Some reference runs have other programs than before, so they say nothing about bits. "
            "If that is meant, run: python -m qmkd.engine.digests --write"
        )
    return None
