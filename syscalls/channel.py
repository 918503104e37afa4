"""Entangled channels between two logical qubits that sessions hold.

What they are for, and what both sides' consent is: `docs/channels.md`.
"""

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from syscalls.errors import (
    ChannelNotFound,
    FidelityUnavailable,
    NotBrokered,
    QuotaExceeded,
    ResourceExhausted,
)
from syscalls.ids import ChannelId, ChannelIdIn, HandleId, HandleIdIn
from syscalls.rights import Right
from syscalls.syscall import Errors, Reply, SessionCall

TYPE_CHARS_MAX = 64


class RawPairs(Struct, frozen=True, kw_only=True):
    """Raw Bell pairs as a link makes them: cycles for one, its fidelity, and the cycles in which
    one that is kept decays to 1/e; null where it does not."""

    cycles: float
    fidelity: float
    lifetime: float | None = None


class ChanOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the channel should be like; a field left out is the kernel's choice."""

    fidelity: Annotated[
        Annotated[float, Meta(ge=0.0, le=1.0)] | None,
        Meta(description="The least fidelity that will do."),
    ] = None
    type: Annotated[
        Annotated[str, Meta(max_length=TYPE_CHARS_MAX)] | None,
        Meta(description="The kind of channel."),
    ] = None


class ChannelTerms(Struct, frozen=True, kw_only=True):
    """What the pairs of a channel are like, and what they take.

    Two ends in one module need no pairs: `link` is then null, and nothing errs.
    """

    link: Annotated[
        RawPairs | None, Meta(description="The link that makes its raw pairs, at the least.")
    ] = None
    protocol: Annotated[str, Meta(description="`BBPSSW`, `DEJMPS`, or `raw` for none.")] = "raw"
    rounds: Annotated[int, Meta(description="Of purification.")] = 0
    raw_pairs: Annotated[float, Meta(description="Mean number for one purified pair.")] = 0.0
    cycles: Annotated[float, Meta(description="Mean number in which one is made.")] = 0.0
    made: Annotated[float, Meta(description="Fidelity of a pair just made.")] = 1.0
    age: Annotated[int, Meta(description="Cycles for which a pair is kept before its use.")] = 0
    fidelity: Annotated[float, Meta(description="Of a pair when it is used.")] = 1.0
    x: Annotated[float, Meta(description="Chance of X on one half of it then.")] = 0.0
    y: float = 0.0
    z: float = 0.0


class ChanOpened(Reply, frozen=True, kw_only=True):
    """An open channel and how good it is."""

    channel_id: ChannelId
    actual_fidelity: Annotated[float, Meta(description="Of a pair just made.")]
    purification_rounds: int
    terms: ChannelTerms


class OpenChan(SessionCall, frozen=True, kw_only=True):
    """Open a channel between two logical qubits, at least one of them the session's own.

    The other may be another session's if this session holds CAP_LINK by itself and was opened
    with a CAP_LINK that the other's tenant delegated to it.
    """

    METHOD: ClassVar[str] = "q_open_chan"
    REPLY: ClassVar[type[Reply]] = ChanOpened
    NEEDS: ClassVar[Right | None] = Right.LINK
    REFUSALS: ClassVar[Errors] = (
        QuotaExceeded,
        ResourceExhausted,
        FidelityUnavailable,
        NotBrokered,
    )
    CHANCE: ClassVar[bool] = True

    vq_a: HandleIdIn
    vq_b: HandleIdIn
    options: ChanOptions = ChanOptions()


class ChanClosed(Reply, frozen=True, kw_only=True):
    """The channel that is no more."""

    channel_id: ChannelId


class CloseChan(SessionCall, frozen=True, kw_only=True):
    """Close a channel that the session opened. `BUSY` while a job that is not over names it."""

    METHOD: ClassVar[str] = "q_close_chan"
    REPLY: ClassVar[type[Reply]] = ChanClosed
    REFUSALS: ClassVar[Errors] = (ChannelNotFound,)

    channel_id: ChannelIdIn


class ChanState(Reply, frozen=True, kw_only=True):
    """An open channel, as it is now."""

    channel_id: ChannelId
    vq_a: HandleId
    vq_b: HandleId
    actual_fidelity: Annotated[
        float, Meta(description="Of the pair that waits now; it decays while it does.")
    ]
    purification_rounds: int
    uses: Annotated[int, Meta(description="By jobs that are over, since the daemon started.")]
    age_cycles: Annotated[
        int, Meta(description="Machine cycles for which the pair that waits has been kept.")
    ] = 0
    raw_pairs: Annotated[
        float, Meta(description="Mean number taken of the link, since the daemon started.")
    ] = 0.0
    terms: ChannelTerms = ChannelTerms()


class ChanStatus(SessionCall, frozen=True, kw_only=True):
    """Say how a channel that this session opened is."""

    METHOD: ClassVar[str] = "q_chan_status"
    REPLY: ClassVar[type[Reply]] = ChanState
    REFUSALS: ClassVar[Errors] = (ChannelNotFound,)

    channel_id: ChannelIdIn
