"""The decoders of the machine: how fast they are, and what they did for a job.

A decoder watches one logical qubit for one kind of error. It is given the syndrome in windows of
two code distances of rounds, one every distance, and commits what it finds in the first half. Times
are of the simulated machine, not of the processes that simulate it.
"""

from typing import Annotated

from msgspec import Meta, Struct

NS_MAX = 10**9
WEIGHT_BUCKETS_MAX = 32

_Ns = Annotated[int, Meta(ge=0, le=NS_MAX)]
_Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class DecoderSpeed(Struct, frozen=True, kw_only=True):
    """How fast the machine's decoders are, and what is too much for them."""

    round_ns: Annotated[
        int, Meta(ge=1, le=NS_MAX, description="From one round of syndrome extraction to the next.")
    ] = 1000
    window_ns: Annotated[_Ns, Meta(description="To decode a window in which nothing is seen.")] = 0
    event_ns: Annotated[_Ns, Meta(description="More for each detection event in a window.")] = 0
    weight_max: Annotated[
        _Count | None,
        Meta(
            description="Detection events in a window beyond which it fails; a history in which "
            "one fails is left undecoded. Null for no bound."
        ),
    ] = None
    backlog_max: Annotated[
        _Count | None,
        Meta(
            description="Windows that may wait at once; where one more comes, the machine holds "
            "back its next round. Null for no bound."
        ),
    ] = None


AT_ONCE = DecoderSpeed()
"""Decoders that take no time and whatever they are given."""


class DecoderFigures(Struct, frozen=True, kw_only=True):
    """What decoders did, over all shots. Figures of different shots add up, but for the `most`."""

    histories: Annotated[
        int,
        Meta(
            description="Lives of logical qubits, from a preparation or measurement to the next, "
            "X errors and Z errors apart. Under `physical` noise, whole programs."
        ),
    ] = 0
    calls: Annotated[int, Meta(description="Windows of these that decoders were given.")] = 0
    cycles: Annotated[int, Meta(description="Rounds of syndrome in all histories.")] = 0
    failures: Annotated[int, Meta(description="Windows heavier than a decoder takes.")] = 0
    undecoded: Annotated[int, Meta(description="Histories that have such windows.")] = 0
    errors: Annotated[
        int,
        Meta(
            description="Histories that leave their qubit flipped after decoding, or any outcome "
            "of their program wrong."
        ),
    ] = 0
    syndrome_weights: Annotated[
        list[int],
        Meta(
            description="Windows by detection events: none, 1, 2 to 3, 4 to 7, and so on by powers "
            "of two. They add up to `calls`."
        ),
    ] = []
    busy_ns: Annotated[int, Meta(description="Time in which decoders worked, all together.")] = 0
    stalled_ns: Annotated[
        int,
        Meta(
            description="Time by which rounds were held back for decoders that were behind, each "
            "by itself."
        ),
    ] = 0
    overloads: Annotated[int, Meta(description="How often that was.")] = 0
    backlog_most: Annotated[
        int, Meta(description="The most windows that one decoder had before it at once.")
    ] = 0
    reaction_ns_most: Annotated[
        int, Meta(description="The longest that anything waited for its last window's decoding.")
    ] = 0
    machine_ns: Annotated[
        int,
        Meta(
            description="Time that the machine took: the program's rounds, and the time by which "
            "they were held back, as if no two decoders had held it back at once."
        ),
    ] = 0


class DecoderColumn(Struct, frozen=True, kw_only=True):
    """One figure of a shot's row of decoder data. Columns follow one another without gaps."""

    name: str
    type: Annotated[
        str, Meta(description="`<u2` and `<u4`: unsigned; `<f4`: IEEE 754. All little-endian.")
    ]
    about: str


SHOT_COLUMNS = (
    DecoderColumn(
        name="gap",
        type="<f4",
        about="How sure decoders were: the smallest complementary gap of the shot's histories, in "
        "nats, which is the weight of the best explanation in which a qubit comes out the other "
        "way less that of the best one. Infinite without histories, 0 where one was left "
        "undecoded, not a number where the decoder tells none.",
    ),
    DecoderColumn(name="weight", type="<u4", about="Detection events in all histories."),
    DecoderColumn(
        name="flips", type="<u2", about="Histories that left their qubit flipped after decoding."
    ),
    DecoderColumn(name="undecoded", type="<u2", about="Histories that were left undecoded."),
)
"""Of each shot of a job that keeps decoder data."""
SHOT_COLUMNS_BYTES = sum(int(column.type[-1]) for column in SHOT_COLUMNS)
