"""Handing rights on, and taking them back.

Authority only shrinks along the way; taking a capability back takes back all that came from it.
The types are fixed; this build answers each of these calls with `NotAvailable`.
"""

from typing import Annotated, ClassVar

from msgspec import Meta

from syscalls.errors import InsufficientCaps, QuotaExceeded
from syscalls.ids import CapabilityId, CapabilityIdIn, TenantId, TenantIdIn
from syscalls.rights import Right
from syscalls.syscall import Errors, Reply, SessionCall


class Delegated(Reply, frozen=True, kw_only=True):
    """A capability derived from the session's own."""

    capability_id: CapabilityId
    rights: list[str]
    tenant_id: TenantId


class Delegate(SessionCall, frozen=True, kw_only=True):
    """Give a subset of one's own rights to another tenant."""

    METHOD: ClassVar[str] = "q_delegate"
    REPLY: ClassVar[type[Reply]] = Delegated
    NEEDS: ClassVar[Right | None] = Right.DELEGATE
    REFUSALS: ClassVar[Errors] = (InsufficientCaps, QuotaExceeded)
    AVAILABLE: ClassVar[bool] = False

    rights: Annotated[
        list[Right],
        Meta(min_length=1, max_length=len(Right), description="Which, out of one's own."),
    ]
    tenant_id: TenantIdIn


class Revoked(Reply, frozen=True, kw_only=True):
    """How many capabilities ended: the named one and all derived from it."""

    capability_id: CapabilityId
    revoked: int


class Revoke(SessionCall, frozen=True, kw_only=True):
    """Take a delegated capability back, and with it all derived from it."""

    METHOD: ClassVar[str] = "q_revoke"
    REPLY: ClassVar[type[Reply]] = Revoked
    NEEDS: ClassVar[Right | None] = Right.DELEGATE
    AVAILABLE: ClassVar[bool] = False

    capability_id: CapabilityIdIn
