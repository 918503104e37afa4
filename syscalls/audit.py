"""The audit chain: entries that nobody can change, drop, reorder or cut off unnoticed.

An entry's body is canonical JSON, and its hash covers the hash before it, so the hash of the last
entry, the head, stands for all of them. Whoever can write the whole chain can also write it anew:
only a head kept elsewhere finds that.

As text (`qmkctl audit export`) each entry is a line: its hash in 64 hex digits, a space, its body.
"""

from collections.abc import Iterable
from hashlib import sha256

import msgspec

Fields = dict[str, str | int | list[str]]
Entry = tuple[int, bytes, bytes]
"""Number, body, hash. Numbers count from 1 without gaps."""

HASH_BYTES = 32


class AuditBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an entry says. at_ns: the kernel's time, nanoseconds since 1970."""

    number: int
    epoch: int
    at_ns: int
    kind: str
    fields: Fields


class AuditBreak(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chain does not hold. what: `changed`, `missing`, `order` or `head`."""

    number: int
    what: str
    message: str


def canonical(body: AuditBody) -> bytes:
    """The one way to write a body: UTF-8 JSON, keys sorted, no spaces."""
    return msgspec.json.encode(body, order="sorted")


def hash_of(previous: bytes, body: bytes) -> bytes:
    """SHA-256 over the hash before, b"" before the first, and the body."""
    return sha256(previous + body).digest()


def line_of(entry: Entry) -> bytes:
    """An entry as text, without the line's end. Its number is in its body."""
    _, body, entry_hash = entry
    return entry_hash.hex().encode() + b" " + body


def entry_of(line: bytes, place: int) -> Entry:
    """A line as an entry, whatever it holds; `verify` says what is wrong with it.

    place: of the line, from 1; it stands in for a number that cannot be read.
    """
    told, _, encoded = line.rstrip(b"\n").partition(b" ")
    try:
        entry_hash = bytes.fromhex(told.decode())
    except ValueError:
        entry_hash = b""
    body = _read(encoded)
    return place if body is None else body.number, encoded, entry_hash


def verify(entries: Iterable[Entry], head: bytes | None = None) -> AuditBreak | None:
    """Walk a chain from its first entry; the first thing wrong with it, or None.

    head: of this chain, taken when it was at most as long as now; it must be on the way. Without
    it, entries missing at the end are not noticed.
    """
    place, previous, epoch, met = 0, b"", 0, head in (None, b"")
    for number, encoded, hash_told in entries:
        place += 1
        if number != place:
            what = "missing" if number > place else "order"
            return AuditBreak(number=place, what=what, message=f"entry {number} stands there")
        body = _read(encoded)
        if body is None or body.number != number or hash_told != hash_of(previous, encoded):
            message = "its hash is not that of its body and of the entries before it"
            return AuditBreak(number=place, what="changed", message=message)
        if body.epoch < epoch:
            message = f"its epoch {body.epoch} is before the {epoch} of the entry before it"
            return AuditBreak(number=place, what="order", message=message)
        previous, epoch = hash_told, body.epoch
        met = met or hash_told == head
    if not met:
        message = "it is the last, and no entry has the hash of the head: cut off or rewritten"
        return AuditBreak(number=place, what="head", message=message)
    return None


def _read(encoded: bytes) -> AuditBody | None:
    """A body, if these bytes are one, and the way it is written."""
    try:
        body = msgspec.json.decode(encoded, type=AuditBody)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return body if canonical(body) == encoded else None
