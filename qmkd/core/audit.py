"""One entry of the audit chain. What a chain is, and how it is verified: `syscalls/audit.py`.

Which entries there are is `keeping.py`'s business; where they lie, the store's.
"""

from __future__ import annotations

from qmkd.core.records import AuditRow
from syscalls.audit import HASH_BYTES, AuditBody, Fields, canonical, hash_of


def entry(
    *, number: int, previous: bytes, epoch: int, at_ns: int, kind: str, fields: Fields
) -> AuditRow:
    """The entry that follows the one with hash `previous`; the first, number 1, follows b""."""
    assert len(previous) == (HASH_BYTES if number > 1 else 0), "an entry follows the one before it"
    body = canonical(AuditBody(number=number, epoch=epoch, at_ns=at_ns, kind=kind, fields=fields))
    return AuditRow(number=number, body=body, hash=hash_of(previous, body))
