"""Where a calibration table knows memories: which codes, distances and strengths of which noise.

A table states its reach in its header, so that whoever admits work can ask without loading the
numerics: this module needs nothing but msgspec. `calibration.py` works the reach out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

import msgspec


class Reach(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """At each of `distances`, a memory's rates are known for each strength of this range."""

    code: str
    noise: str
    p_least: float
    p_most: float
    distances: tuple[int, ...]


class _Reaching(msgspec.Struct):
    """That much of a table's header."""

    reach: tuple[Reach, ...]


class Strength(msgspec.Struct, frozen=True):
    """A physical noise: a model, by its name in the table, and how strong it is."""

    model: str
    p: float


def parse_noise(text: str) -> Strength | str:
    """The noise that `text` names, such as `uniform 0.001`, or one sentence saying why none."""
    model, _, strength = text.partition(" ")
    try:
        p = float(strength)
    except ValueError:
        p = 0.0
    if not 0 < p < 0.5:
        return f"physical noise is a model and a strength between 0 and 0.5, not {text!r}"
    return Strength(model, p)


@cache
def shipped() -> tuple[Reach, ...]:
    """The reach of the table that ships."""
    with (files("qmkd.qec") / "data" / "calibration.jsonl").open("rb") as table:
        return msgspec.json.decode(table.readline(), type=_Reaching).reach


def distances(reach: Iterable[Reach], noise: Strength) -> dict[str, frozenset[int]]:
    """Of each code, the distances at which its memories are known under that noise."""
    found: dict[str, frozenset[int]] = {}
    for each in reach:
        if each.noise == noise.model and each.p_least <= noise.p <= each.p_most:
            found[each.code] = found.get(each.code, frozenset()) | frozenset(each.distances)
    return found
