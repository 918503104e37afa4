"""Which rights a session gets, and whether it has those that something needs.

Authority comes from the tenant's rule alone and only shrinks: a session never gains a right after
it was opened. Deriving and revoking are not in this build.
"""

from __future__ import annotations

from collections.abc import Iterable

from qmkd.core.state import Session
from syscalls.errors import InsufficientCaps
from syscalls.rights import Right

_RIGHTS: dict[str, Right] = {right.value: right for right in Right}


def negotiate(requested: list[str], grantable: frozenset[Right]) -> tuple[list[Right], list[str]]:
    """(granted, denied), each in the order asked and without repetition.

    Names of no right are denied like rights that policy withholds.
    """
    granted: dict[Right, None] = {}
    denied: dict[str, None] = {}
    for name in requested:
        right = _RIGHTS.get(name)
        if right is not None and right in grantable:
            granted[right] = None
        else:
            denied[name] = None
    return list(granted), list(denied)


def check_rights(session: Session, needed: Iterable[str]) -> InsufficientCaps | None:
    """The refusal where the session lacks one of the needed rights."""
    required = sorted(needed)
    missing = [name for name in required if _RIGHTS[name] not in session.granted]
    return InsufficientCaps(required=required, missing=missing) if missing else None
