"""The events of every shot of a completed job, and the one packed form in which they travel.

Packed layout, row-major, one row of `row_bytes` bytes per shot. A row is two parts:

1. values: the bits of all events, in the order of `resources.events`. An event takes one bit; a
   MEASURE_BELL reported as a single event (2*m0 + m1) takes two, the low bit, m1, first.
2. validity: one bit per event, in the same order; 0 where the measurement did not run in that
   shot, and then its value bits are 0 as well.

Inside each part bits fill bytes from the least significant up (NumPy's `bitorder="little"`), and
the part is padded with zero bits to a whole byte. So, with V value bits and E events,
`values_bytes = ceil(V / 8)` and `row_bytes = ceil(V / 8) + ceil(E / 8)`.

Decoder data, of a job whose policy asked for it, has one row of `SHOT_COLUMNS_BYTES` bytes per
shot: the columns of `syscalls.decoding.SHOT_COLUMNS`, without gaps. It is sent and named as rows of
events are.

The results digest is SHA-256 over the concatenated SHA-256 of every SHOT_BLOCK rows, so that
workers can hash what they run and the whole still has one digest.
"""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from syscalls.decoding import DecoderColumn
from syscalls.errors import (
    AccessDenied,
    JobNotFound,
    NotAvailable,
    NotCompleted,
    ResultsDropped,
    ResultsTooLarge,
)
from syscalls.ids import JobId, JobIdIn
from syscalls.syscall import Errors, Reply, SessionCall

SHOT_BLOCK = 1024  # shots under one leaf of a results digest
COUNTS_KEYS_MAX = 1 << 15  # outcomes that `counts` tells apart; beyond, read packed rows
COUNTS_CHARS_MAX = 4 << 20  # characters of all its keys
EVENT_BITS_MAX = 2  # value bits of the widest event, a MEASURE_BELL reported as one


class EventField(Struct, frozen=True, kw_only=True):
    """One event's place in a row: its name, and how many value bits it takes (1 or 2)."""

    name: str
    bits: int


def values_bytes(order: list[EventField]) -> int:
    """Bytes of the values part of a packed row."""
    return (sum(event.bits for event in order) + 7) // 8


def row_bytes(order: list[EventField]) -> int:
    """Bytes of a whole packed row: values, then validity."""
    return values_bytes(order) + (len(order) + 7) // 8


class ResultsReply(Reply, frozen=True, kw_only=True):
    """Events of every shot. Which of `data`, `fd` and `counts` are filled depends on the request.

    The packed layout is in `syscalls.results`.
    """

    job_id: JobId
    shots: int
    order: Annotated[
        list[EventField],
        Meta(description="The events, in row order; none for rows of decoder data."),
    ]
    values_bytes: Annotated[int, Meta(description="Bytes of a row before its validity bits.")]
    row_bytes: Annotated[
        int, Meta(description="Bytes of a row, validity bits included; or of decoder data.")
    ]
    data: Annotated[str | None, Meta(description="The packed rows, in base64.")] = None
    fd: Annotated[
        bool, Meta(description="The packed rows came as a sealed file descriptor instead.")
    ] = False
    columns: Annotated[
        list[DecoderColumn],
        Meta(description="Of each row of decoder data, where the rows are these."),
    ] = []
    counts: Annotated[
        dict[str, int] | None, Meta(description="Shots per outcome, as in the job's status.")
    ] = None
    digest: Annotated[
        str,
        Meta(
            description="SHA-256, in hex, over the SHA-256 of every 1,024 consecutive packed rows "
            "(the last may be fewer); over nothing where rows are empty."
        ),
    ]


class Results(SessionCall, frozen=True, kw_only=True):
    """Fetch the events of every shot of a completed job.

    format: `packed` gives the rows, `counts` the histogram, `order` only the layout, `decoder`
    the rows of decoder data.
    transport: `inline` puts rows into the reply as base64; `fd` passes a sealed memory file
    beside it (SCM_RIGHTS), which has no size limit of its own.
    """

    METHOD: ClassVar[str] = "q_results"
    REPLY: ClassVar[type[Reply]] = ResultsReply
    REFUSALS: ClassVar[Errors] = (
        NotAvailable,
        JobNotFound,
        AccessDenied,
        NotCompleted,
        ResultsDropped,
        ResultsTooLarge,
    )

    job_id: JobIdIn
    format: Annotated[
        Literal["packed", "counts", "order", "decoder"],
        Meta(description="What to send of the results."),
    ] = "packed"
    transport: Annotated[Literal["inline", "fd"], Meta(description="How packed rows travel.")] = (
        "inline"
    )
