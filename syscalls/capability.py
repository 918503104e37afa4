"""Handing rights on, and taking them back.

Authority only shrinks along the way; taking a capability back takes back all that came from it.
What a capability is and how long it lives: `docs/capabilities.md`.
"""

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from syscalls.errors import CapabilityNotFound, InsufficientCaps, QuotaExceeded
from syscalls.ids import CapabilityId, CapabilityIdIn, TenantId, TenantIdIn
from syscalls.rights import Right
from syscalls.syscall import Errors, Reply, SessionCall

EXPIRY_MS_MAX = 365 * 24 * 3600 * 1000
AMOUNT_MAX = 2**53 - 1

Amount = Annotated[int, Meta(ge=0, le=AMOUNT_MAX)]


class Share(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all jobs that use the capability may hold together. Null: no bound of its own.

    What is named here is set aside from the giver's quota for as long as the capability lives, and
    counts against the receiver's quota as it is used.
    """

    logical_qubits: Amount | None = None
    physical_qubits: Amount | None = None
    jobs: Amount | None = None
    t_states_per_minute: Amount | None = None
    cpu_ms_per_minute: Amount | None = None
    channels: Amount | None = None


class Delegated(Reply, frozen=True, kw_only=True):
    """A capability derived from the session's own."""

    capability_id: CapabilityId
    rights: list[str]
    tenant_id: TenantId
    expires_at: Annotated[
        str | None, Meta(description="When it ends by itself; null: with the session it came from.")
    ] = None


class Delegate(SessionCall, frozen=True, kw_only=True):
    """Give a subset of one's own rights to another tenant.

    A session of that tenant uses them if it names the capability when it is opened. It ends
    when it expires, when it is revoked, or when the session that it came from closes.
    """

    METHOD: ClassVar[str] = "q_delegate"
    REPLY: ClassVar[type[Reply]] = Delegated
    NEEDS: ClassVar[Right | None] = Right.DELEGATE
    REFUSALS: ClassVar[Errors] = (InsufficientCaps, QuotaExceeded)
    CHANCE: ClassVar[bool] = True

    rights: Annotated[
        list[Right],
        Meta(min_length=1, max_length=len(Right), description="Which, out of one's own."),
    ]
    tenant_id: TenantIdIn
    share: Annotated[Share, Meta(description="How much its users may hold at a time.")] = Share()
    expires_after_ms: Annotated[
        Annotated[int, Meta(ge=1, le=EXPIRY_MS_MAX)] | None,
        Meta(description="Milliseconds after which it ends, by the kernel's clock."),
    ] = None


class Revoked(Reply, frozen=True, kw_only=True):
    """How many capabilities ended: the named one and all derived from it."""

    capability_id: CapabilityId
    revoked: int


class Revoke(SessionCall, frozen=True, kw_only=True):
    """Take a delegated capability back, and with it all derived from it.

    Jobs that run by its rights stop at their next fence and fail with `INSUFFICIENT_CAPS`.
    """

    METHOD: ClassVar[str] = "q_revoke"
    REPLY: ClassVar[type[Reply]] = Revoked
    NEEDS: ClassVar[Right | None] = Right.DELEGATE
    REFUSALS: ClassVar[Errors] = (CapabilityNotFound,)

    capability_id: CapabilityIdIn


class CapabilityInfo(Struct, frozen=True, kw_only=True):
    """A capability that came from this session, or that is offered to this tenant."""

    capability_id: CapabilityId
    given: Annotated[bool, Meta(description="It came from this session, else it is offered.")]
    in_use: Annotated[bool, Meta(description="This session was opened with it.")]
    rights: list[str]
    tenant_id: Annotated[TenantId, Meta(description="Whom it was given to.")]
    share: Share
    expires_at: str | None = None
