"""Logical qubits held by a session, outside any job.

A handle is a place, not a state: a program that names its qubit by the handle runs it there, and
begins each shot afresh. What that is for: `docs/channels.md`.
"""

from typing import Annotated, ClassVar

from msgspec import Meta

from syscalls.errors import HandleNotFound, QuotaExceeded, ResourceExhausted
from syscalls.ids import HandleId, HandleIdIn
from syscalls.rights import Right
from syscalls.syscall import Errors, Reply, SessionCall

ALLOC_MAX = 1024  # qubits one call may ask for or give back
PROFILE_CHARS_MAX = 128
MODULE_CHARS_MAX = 64


class Allocated(Reply, frozen=True, kw_only=True):
    """Handles the kernel issued. They mean nothing outside their session."""

    handles: list[HandleId]
    profile: Annotated[str, Meta(description="The code profile as realised.")]


class Alloc(SessionCall, frozen=True, kw_only=True):
    """Allocate `n` logical qubits that live until released or until the session closes.

    They are taken now or not at all, and count against the quotas of qubits as jobs' do.
    """

    METHOD: ClassVar[str] = "q_alloc"
    REPLY: ClassVar[type[Reply]] = Allocated
    NEEDS: ClassVar[Right | None] = Right.ALLOC
    REFUSALS: ClassVar[Errors] = (QuotaExceeded, ResourceExhausted)
    CHANCE: ClassVar[bool] = True

    n: Annotated[int, Meta(ge=1, le=ALLOC_MAX, description="How many.")]
    profile: Annotated[
        str,
        Meta(
            max_length=PROFILE_CHARS_MAX,
            description="Their code profile, as in a program: `logical:Surface(d=7)`.",
        ),
    ]
    module: Annotated[
        Annotated[str, Meta(max_length=MODULE_CHARS_MAX)] | None,
        Meta(description="The module of the machine in which they are to lie; null for any."),
    ] = None


class Released(Reply, frozen=True, kw_only=True):
    """The handles that are no more."""

    handles: list[HandleId]


class Release(SessionCall, frozen=True, kw_only=True):
    """Give logical qubits back: all of these, or none.

    Channels that end in them close. `BUSY` while a job of this session that is not over names
    one.
    """

    METHOD: ClassVar[str] = "q_release"
    REPLY: ClassVar[type[Reply]] = Released
    REFUSALS: ClassVar[Errors] = (HandleNotFound,)

    handles: Annotated[
        list[HandleIdIn], Meta(min_length=1, max_length=ALLOC_MAX, description="Which.")
    ]
