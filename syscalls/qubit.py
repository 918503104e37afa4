"""Logical qubits held by a session, outside any job.

The types are fixed; this build answers each of these calls with `NotAvailable`.
"""

from typing import Annotated, ClassVar

from msgspec import Meta

from syscalls.errors import InvalidGraph, QuotaExceeded, ResourceExhausted
from syscalls.rights import Right
from syscalls.syscall import Errors, Reply, SessionCall

ALLOC_MAX = 1024  # qubits one call may ask for or give back
HANDLE_CHARS_MAX = 128
PROFILE_CHARS_MAX = 128

Handle = Annotated[str, Meta(max_length=HANDLE_CHARS_MAX)]


class Allocated(Reply, frozen=True, kw_only=True):
    """Handles the kernel issued. They mean nothing outside their session."""

    handles: list[str]
    profile: Annotated[str, Meta(description="The code profile as realised.")]


class Alloc(SessionCall, frozen=True, kw_only=True):
    """Allocate `n` logical qubits that live until released or until the session closes."""

    METHOD: ClassVar[str] = "q_alloc"
    REPLY: ClassVar[type[Reply]] = Allocated
    NEEDS: ClassVar[Right | None] = Right.ALLOC
    REFUSALS: ClassVar[Errors] = (InvalidGraph, QuotaExceeded, ResourceExhausted)
    AVAILABLE: ClassVar[bool] = False

    n: Annotated[int, Meta(ge=1, le=ALLOC_MAX, description="How many.")]
    profile: Annotated[
        str,
        Meta(
            max_length=PROFILE_CHARS_MAX,
            description="Their code profile, as in a program: `logical:Surface(d=7)`.",
        ),
    ]


class Released(Reply, frozen=True, kw_only=True):
    """The handles that are no more."""

    handles: list[str]


class Release(SessionCall, frozen=True, kw_only=True):
    """Give logical qubits back."""

    METHOD: ClassVar[str] = "q_release"
    REPLY: ClassVar[type[Reply]] = Released
    AVAILABLE: ClassVar[bool] = False

    handles: Annotated[list[Handle], Meta(min_length=1, max_length=ALLOC_MAX, description="Which.")]
