"""`python -m qmkd.qec calibrate`: measure calibration tables, the shipped one or single points.

Without points it makes the shipped table anew (`qmkd/qec/data/calibration.jsonl`): every seed
follows from what is measured, so the same versions give the same bytes on any machine, though not
in the same time. With `--code`, `--distance` and `--p` it measures one memory. A file that exists
is extended: what it holds is not measured again. Exit status: 0 done; 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Final

import msgspec

from qmkd.qec import noise
from qmkd.qec.calibration import Basis, Entry, Key, Table, decode, encode
from qmkd.qec.codes.code import OTHER, Code, CodeError
from qmkd.qec.measuring import (
    CODES,
    ERRORS_ENOUGH,
    GATE_ERRORS_ENOUGH,
    Effort,
    measure_around,
    measure_cnot,
    measure_h,
    measure_injection,
    measure_memory,
    measure_surgery,
    versions,
)

COMMAND: Final = "python -m qmkd.qec calibrate"
BASES: Final[tuple[Basis, ...]] = ("Z", "X")
STRENGTHS: Final = (3e-3, 2e-3, 1e-3, 5e-4, 1e-4)
DISTANCES: Final = {
    "Surface": (2, 3, 4, 5, 6, 7, 9, 11, 13, 15),
    "BaconShor": (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    "SHYPS": (2, 4),
}
OTHER_NOISE: Final = {"si1000": (3e-3, 2e-3, 1e-3), "biased10": (5e-3, 3e-3, 2e-3, 1e-3)}
"""Models and their strengths; where X errors are rare, their law needs a stronger one."""
OTHER_DISTANCES: Final = {"Surface": (3, 4, 5, 7), "BaconShor": (3, 5, 7)}
P_LEAST: Final = {"SHYPS": 1e-3}
"""Where decoding is too slow to see failures at the weakest strengths."""
SHARE: Final = {"Surface": 1.0, "BaconShor": 0.4, "SHYPS": 1.0}
"""Of the effort."""
GATES: Final = {
    ("Surface", 3): (3e-3, 2e-3, 1e-3),
    ("Surface", 4): (3e-3,),
    ("Surface", 5): (3e-3, 2e-3, 1e-3),
    ("Surface", 7): (3e-3,),
    ("BaconShor", 3): (3e-3, 1e-3),
    ("BaconShor", 5): (3e-3, 1e-3),
}
"""Where gates err often enough to be told from the rounds around them; elsewhere as memory does."""
GATES_LONGER: Final = {("Surface", 5, 2e-3): 2.0}
OTHER_GATES: Final = {("Surface", 3): (2e-3,), ("Surface", 5): (2e-3,), ("BaconShor", 3): (2e-3,)}
SURGERY: Final = (3, 5)
LONGER: Final = {
    ("Surface", 5, 1e-4): 3.0,
    ("Surface", 7, 1e-3): 15.0,
    ("Surface", 9, 3e-3): 2.0,
    ("Surface", 11, 3e-3): 4.0,
    ("SHYPS", 4, 1e-3): 4.0,
}
"""Points that carry the law and are compared with published ones get so many times the effort."""
SECONDS: Final = 6.0


class Made:
    """Entries so far, written out after each so that nothing is lost."""

    def __init__(self, path: Path, quiet: bool) -> None:
        self.path = path
        self.quiet = quiet
        self.started = time.monotonic()
        self.table = decode(path.read_bytes()) if path.exists() else Table([], versions())

    def has(self, key: Key) -> bool:
        return key in self.table.entries

    def add(self, key: Key, entry: Entry | None) -> None:
        spent = time.monotonic() - self.started
        if entry is not None:
            assert entry.key == key
            self.table = self.table.joined(Table([entry], versions()))
            self.path.write_bytes(encode(self.table, COMMAND))
        if not self.quiet:
            result = "not measurable" if entry is None else _result(entry)
            text = f"{key.code} d={key.distance} p={key.p:g} {key.gadget} {key.basis}: {result}"
            sys.stderr.write(f"{spent:7.0f} s  {text}\n")


def _result(entry: Entry) -> str:
    terms = ", ".join(f"{term.pauli} {term.rate:.3g}" for term in entry.terms)
    return f"{terms} per {entry.per}, {entry.errors} errors"


def shipped(made: Made, effort: Effort) -> None:
    """Everything that ships."""
    for code in DISTANCES:
        for p in STRENGTHS:
            if p >= P_LEAST.get(code, 0):
                for basis in BASES:
                    _memories(made, code, DISTANCES[code], noise.uniform(p), basis, effort)
    for (code, distance), strengths in GATES.items():
        for p in strengths:
            _gates(made, CODES[code](distance), noise.uniform(p), effort)
    for name, code in product(OTHER_NOISE, OTHER_DISTANCES):
        for p in OTHER_NOISE[name]:
            model = noise.PRESETS[name](p)
            for basis in BASES:
                _memories(made, code, OTHER_DISTANCES[code], model, basis, effort)
    for name, (code, distance) in product(OTHER_NOISE, OTHER_GATES):
        for p in OTHER_GATES[code, distance]:
            _gates(made, CODES[code](distance), noise.PRESETS[name](p), effort)


def _times(effort: Effort, share: float) -> Effort:
    return msgspec.structs.replace(effort, seconds=effort.seconds * share)


def _memories(
    made: Made, code: str, distances: Iterable[int], model: noise.NoiseModel, basis: Basis,
    effort: Effort,
) -> None:  # fmt: skip
    for distance in distances:
        key = Key(code, distance, model.name, model.strength, "memory", basis)
        if made.has(key):
            continue
        longer = 1.0
        if model.name == "uniform":
            longer = LONGER.get((code, distance, model.strength), 1.0)
        spend = _times(effort, SHARE[code] * longer)
        entry = measure_memory(CODES[code](distance), model, basis, spend)
        made.add(key, entry)
        if entry is None:
            return  # up to these distances rates fall, so the next one is not measurable either


def _gates(made: Made, code: Code, model: noise.NoiseModel, effort: Effort) -> None:
    point = (code.profile, code.distance, model.strength)
    longer = GATES_LONGER.get(point, 1.0) if model.name == "uniform" else 1.0
    gates = msgspec.structs.replace(_times(effort, longer), errors=GATE_ERRORS_ENOUGH)
    keys = {
        (basis, gadget): Key(code.profile, code.distance, model.name, model.strength, gadget, basis)
        for basis in BASES
        for gadget in _gadgets(code)
    }
    missing = {which: key for which, key in keys.items() if not made.has(key)}
    for (basis, gadget), key in missing.items():
        if gadget.startswith("inject"):
            quiet = gadget == "inject_quiet"
            made.add(key, measure_injection(code, model, basis, effort, quiet))
    missing = {which: key for which, key in missing.items() if not which[1].startswith("inject")}
    if not missing:
        return
    arounds = {basis: measure_around(code, model, basis, gates) for basis in BASES}
    for (basis, gadget), key in missing.items():
        mine, other = arounds[basis], arounds[OTHER[basis]]
        if mine is None or other is None:
            made.add(key, None)
            continue
        match gadget:
            case "cnot":
                made.add(key, measure_cnot(code, model, basis, mine, gates))
            case "cnot_surgery":
                made.add(key, measure_surgery(code, model, basis, mine, gates))
            case "h":
                made.add(key, measure_h(code, model, basis, mine, other, gates))


def _gadgets(code: Code) -> Iterator[str]:
    yield "cnot"
    yield "h"
    if code.profile == "Surface" and code.distance % 2:
        yield "inject"
        yield "inject_quiet"
        if code.distance in SURGERY:
            yield "cnot_surgery"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the table to make or to extend")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="effort per experiment")
    parser.add_argument(
        "--errors", type=int, default=ERRORS_ENOUGH, help="failures that are enough"
    )
    parser.add_argument("--code", choices=sorted(CODES), help="measure only this code")
    parser.add_argument("--distance", type=int)
    parser.add_argument("--p", type=float, help="physical strength")
    parser.add_argument("--noise", choices=sorted(noise.PRESETS), default="uniform")
    parser.add_argument("--quiet", action="store_true")
    asked = parser.parse_args(arguments)
    point = (asked.code, asked.distance, asked.p)
    if any(each is not None for each in point) and None in point:
        parser.error("--code, --distance and --p belong together")
    made = Made(asked.out, asked.quiet)
    effort = Effort(seconds=asked.seconds, errors=asked.errors)
    if asked.code is None:
        shipped(made, effort)
        return 0
    try:
        code = CODES[asked.code](asked.distance)
        model = noise.PRESETS[asked.noise](asked.p)
    except (CodeError, noise.NoiseError) as problem:
        parser.error(str(problem))
    for basis in BASES:
        key = Key(code.profile, code.distance, model.name, model.strength, "memory", basis)
        if not made.has(key):
            made.add(key, measure_memory(code, model, basis, effort))
    return 0
