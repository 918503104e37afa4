"""in-toto Statements, version 1: what a predicate is said of.

Subjects name bits by digest; the predicate's type is a URI of ours. What it holds is in
`manifest.py`.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from runtime.attest import canonical
from runtime.attest.errors import NotAuthentic

STATEMENT = "https://in-toto.io/Statement/v1"

P = TypeVar("P")


class Subject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """digest: hexadecimal, by algorithm."""

    name: str
    digest: dict[str, str]


class Statement(
    msgspec.Struct,
    Generic[P],
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename={"type": "_type", "predicate_type": "predicateType"},
):
    subject: list[Subject]
    predicate_type: str
    predicate: P
    type: str = STATEMENT


def read(payload: bytes, kind: type[P], predicate_type: str) -> Statement[P]:
    """The statement in an envelope that was verified. Raises NotAuthentic."""
    statement = canonical.decode(payload, Statement[kind], "statement")  # type: ignore[valid-type]
    if statement.type != STATEMENT or statement.predicate_type != predicate_type:
        raise NotAuthentic(f"It states {statement.predicate_type!r}, which is something else.")
    return statement
