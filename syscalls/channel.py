"""Entangled channels between two logical qubits.

The types are fixed; this build answers each of these calls with `NotAvailable`.
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
from syscalls.ids import ChannelId, ChannelIdIn, HandleIdIn
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
    actual_fidelity: float
    purification_rounds: int


class OpenChan(SessionCall, frozen=True, kw_only=True):
    """Open a channel between two logical qubits."""

    METHOD: ClassVar[str] = "q_open_chan"
    REPLY: ClassVar[type[Reply]] = ChanOpened
    NEEDS: ClassVar[Right | None] = Right.LINK
    REFUSALS: ClassVar[Errors] = (
        QuotaExceeded,
        ResourceExhausted,
        FidelityUnavailable,
        NotBrokered,
    )
    AVAILABLE: ClassVar[bool] = False

    vq_a: HandleIdIn
    vq_b: HandleIdIn
    options: ChanOptions = ChanOptions()


class ChanClosed(Reply, frozen=True, kw_only=True):
    """The channel that is no more."""

    channel_id: ChannelId


class CloseChan(SessionCall, frozen=True, kw_only=True):
    """Close a channel."""

    METHOD: ClassVar[str] = "q_close_chan"
    REPLY: ClassVar[type[Reply]] = ChanClosed
    REFUSALS: ClassVar[Errors] = (ChannelNotFound,)
    AVAILABLE: ClassVar[bool] = False

    channel_id: ChannelIdIn


class ChanState(Reply, frozen=True, kw_only=True):
    """An open channel, as it is now."""

    channel_id: ChannelId
    vq_a: str
    vq_b: str
    actual_fidelity: float
    purification_rounds: int
    uses: int


class ChanStatus(SessionCall, frozen=True, kw_only=True):
    """Say how a channel is."""

    METHOD: ClassVar[str] = "q_chan_status"
    REPLY: ClassVar[type[Reply]] = ChanState
    REFUSALS: ClassVar[Errors] = (ChannelNotFound,)
    AVAILABLE: ClassVar[bool] = False

    channel_id: ChannelIdIn
