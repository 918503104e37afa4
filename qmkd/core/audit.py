"""The audit chain: entries that nobody can change, drop, reorder or cut off unnoticed.

An entry's body is canonical JSON, and its hash covers the hash before it, so the hash of the last
entry, the head, stands for all of them. Whoever can write the whole chain can also write it anew:
only a head kept elsewhere finds that. Which entries there are is the kernel's business
(`keeping.py`); where they lie, the store's.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import msgspec

from qmkd.core.records import AuditRow

Fields = dict[str, str | int | list[str]]

HASH_BYTES = 32


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an entry says. at_ns: the kernel's time, nanoseconds since 1970."""

    number: int
    epoch: int
    at_ns: int
    kind: str
    fields: Fields


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chain does not hold. what: `changed`, `missing`, `order` or `head`."""

    number: int
    what: str
    message: str


def entry(
    *, number: int, previous: bytes, epoch: int, at_ns: int, kind: str, fields: Fields
) -> AuditRow:
    """The entry that follows the one with hash `previous`; the first, number 1, follows b""."""
    assert len(previous) == (HASH_BYTES if number > 1 else 0), "an entry follows the one before it"
    body = canonical(Body(number=number, epoch=epoch, at_ns=at_ns, kind=kind, fields=fields))
    return AuditRow(number=number, body=body, hash=hash_of(previous, body))


def canonical(body: Body) -> bytes:
    """The one way to write a body: UTF-8 JSON, keys sorted, no spaces."""
    return msgspec.json.encode(body, order="sorted")


def hash_of(previous: bytes, body: bytes) -> bytes:
    """SHA-256 over the hash before and the body."""
    return sha256(previous + body).digest()


def verify(entries: Iterable[AuditRow], head: bytes | None = None) -> Break | None:
    """Walk a chain from its first entry; the first thing wrong with it, or None.

    head: of this chain, taken when it was at most as long as now; it must be on the way. Without
    it, entries missing at the end are not noticed.
    """
    number, previous, epoch, met = 0, b"", 0, head in (None, b"")
    for one in entries:
        number += 1
        if one.number != number:
            what = "missing" if one.number > number else "order"
            return Break(
                number=number, what=what, message=f"entry {one.number} stands in its place"
            )
        try:
            body = msgspec.json.decode(one.body, type=Body)
            sound = canonical(body) == one.body and body.number == number
        except (msgspec.DecodeError, UnicodeDecodeError):
            sound = False
        if not sound or one.hash != hash_of(previous, one.body):
            message = "its hash is not that of its body and of the entries before it"
            return Break(number=number, what="changed", message=message)
        if body.epoch < epoch:
            message = f"its epoch {body.epoch} is before the {epoch} of the entry before it"
            return Break(number=number, what="order", message=message)
        previous, epoch = one.hash, body.epoch
        met = met or one.hash == head
    if not met:
        message = (
            f"no entry up to the last, {number}, has the hash of the head: cut off or rewritten"
        )
        return Break(number=number, what="head", message=message)
    return None
