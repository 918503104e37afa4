"""Opening and closing a session.

Who is calling comes from the host's kernel (peer credentials), never from these fields; a tenant
named here is checked against that. Rights are in `syscalls.rights`, jobs in `syscalls.job`.
"""

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from syscalls.errors import AuthFailed, QuotaExceeded, TenantSuspended
from syscalls.ids import SessionId, TenantId, TenantIdIn
from syscalls.syscall import Errors, Reply, SessionCall, Syscall

NAME_CHARS_MAX = 128  # one capability or op family name
NAMES_MAX = 64  # names one negotiation may list

Name = Annotated[str, Meta(max_length=NAME_CHARS_MAX)]


class Quota(Struct, frozen=True, kw_only=True):
    """What a session may hold at the same time."""

    max_logical_qubits: int
    max_physical_qubits: int
    max_channels: int
    max_jobs: int


class Session(Reply, frozen=True, kw_only=True):
    """An open session, and what it may do."""

    session_id: SessionId
    granted: Annotated[
        list[str],
        Meta(description="Capabilities this session holds: rights, and delegated ones by id."),
    ]
    denied: Annotated[
        list[str], Meta(description="Capabilities asked and not given; unknown names land here.")
    ]
    quota: Quota
    abi_version: str
    qvm_version: str
    op_families: Annotated[
        list[str], Meta(description="Op families both sides know; without a request, all.")
    ]
    tenant_id: TenantId
    expires_after_idle_s: Annotated[
        float, Meta(description="Seconds without any call after which the session closes.")
    ]


class NegotiateCaps(Syscall, frozen=True, kw_only=True):
    """Open a session that holds those of the requested capabilities which policy grants.

    The id of a capability that was delegated to this tenant may stand among them: its rights
    are then the session's too, until it expires or is revoked. Capabilities that are unknown or
    not granted are listed in `denied`; that is not an error.
    """

    METHOD: ClassVar[str] = "q_negotiate_caps"
    REPLY: ClassVar[type[Reply]] = Session
    REFUSALS: ClassVar[Errors] = (AuthFailed, TenantSuspended, QuotaExceeded)
    CHANCE: ClassVar[bool] = True

    requested: Annotated[
        list[Name],
        Meta(max_length=NAMES_MAX, description="Capabilities wanted: CAP_ names, delegated ids."),
    ]
    op_families: Annotated[
        list[Name],
        Meta(max_length=NAMES_MAX, description="Op families the client knows, as `clifford/1`."),
    ] = []
    tenant_id: Annotated[
        TenantIdIn | None,
        Meta(description="Act for this tenant, if the caller may; null takes the caller's own."),
    ] = None


class SessionClosed(Reply, frozen=True, kw_only=True):
    """How much of each the session held, now released."""

    jobs_cancelled: int
    jobs_forgotten: int
    logical_qubits_released: int
    channels_closed: int
    subscriptions_ended: int


class CloseSession(SessionCall, frozen=True, kw_only=True):
    """Close the session: cancel its jobs, answer its waits, release all it holds."""

    METHOD: ClassVar[str] = "q_close_session"
    REPLY: ClassVar[type[Reply]] = SessionClosed
