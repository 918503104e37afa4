"""What every call of the ABI has: a name, a reply, a needed right, its possible errors.

A call is one frozen type whose fields are its parameters. Everything said about it elsewhere
(JSON Schema, OpenRPC entry, reference page, client stub) is derived from the type.
No behaviour here. The table of all calls is `syscalls.registry`.
"""

from typing import Any, ClassVar

import msgspec

from syscalls.errors import (
    PRECEDENCE,
    AuthFailed,
    Busy,
    InsufficientCaps,
    InternalError,
    InvalidParams,
    KernelError,
    NotAvailable,
    SessionExpired,
    TenantSuspended,
)
from syscalls.ids import SessionIdIn
from syscalls.rights import Right

Errors = tuple[type[KernelError], ...]

ANY_CALL: Errors = (InvalidParams, Busy, InternalError)
ANY_SESSION_CALL: Errors = (AuthFailed, TenantSuspended, SessionExpired)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a call answers when it succeeds. A client ignores fields it does not know."""


class Syscall(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A call. A parameter that it does not know is refused, never ignored.

    METHOD: its name on the wire.
    REPLY: the type of its result.
    NEEDS: the right that the call itself needs, beyond those its arguments need.
    REFUSALS: the errors of its own, beyond those that follow from the rest.
    ERRORS: all its errors, in order of precedence; derived.
    AVAILABLE: whether this build performs it; if not, it answers `NotAvailable`.
    CHANCE: whether the kernel needs fresh random bytes to perform it.
    """

    METHOD: ClassVar[str]
    REPLY: ClassVar[type[Reply]]
    NEEDS: ClassVar[Right | None] = None
    REFUSALS: ClassVar[Errors] = ()
    ERRORS: ClassVar[Errors]
    AVAILABLE: ClassVar[bool] = True
    CHANCE: ClassVar[bool] = False

    def __init_subclass__(cls, **config: Any) -> None:
        super().__init_subclass__(**config)
        if not hasattr(cls, "METHOD"):
            return
        assert cls.__doc__, f"{cls.METHOD} says what it does"
        possible = set(ANY_CALL + cls.REFUSALS)
        if issubclass(cls, SessionCall):
            possible.update(ANY_SESSION_CALL)
        if not cls.AVAILABLE:
            possible.add(NotAvailable)
        if cls.NEEDS is not None:
            possible.add(InsufficientCaps)
        cls.ERRORS = tuple(sorted(possible, key=PRECEDENCE.__getitem__))


class SessionCall(Syscall, frozen=True, kw_only=True):
    """A call made through a session."""

    session_id: SessionIdIn
