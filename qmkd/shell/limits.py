"""Every bound of the daemon's outside, with its default. Those in `Limits` may be configured.

The bounds of the kernel itself are in `qmkd.core.limits`, those of messages in `syscalls.framing`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from syscalls.framing import MESSAGE_BYTES_MAX
from syscalls.jsonrpc import BATCH_MAX

BACKLOG = 1024  # connections the host's kernel keeps for us until they are accepted
ACCEPTS_PER_TURN_MAX = 16
ACCEPT_PAUSE_S = 0.1  # after running out of descriptors
SNAPSHOTS_HELD_MAX = 256  # by a descriptor each
DESCRIPTORS_SPARE = 64 + SNAPSHOTS_HELD_MAX  # kept free of connections; results and the log too

CALLS_PER_TURN_MAX = 16
TURN_NS_MAX = 100_000
FRAMES_AT_ONCE_MAX = 64  # messages without a newline between them, looked for at once
READ_BYTES_MIN = 4 * 1024  # one read while small calls come in: at most a few dozen of them
READ_BYTES_MAX = 256 * 1024  # one read within a large message

# A connection is not read while this much waits for its client, and no notification is queued.
UNREAD_BYTES_PAUSE = 1 << 20
UNREAD_BYTES_NOTIFY = 256 * 1024
BATCH_REPLY_BYTES_MAX = 64 << 20

SWEEP_S = 0.25  # how often ages are looked at

assert BACKLOG >= 128
assert READ_BYTES_MIN <= READ_BYTES_MAX <= MESSAGE_BYTES_MAX
assert UNREAD_BYTES_NOTIFY < UNREAD_BYTES_PAUSE < BATCH_REPLY_BYTES_MAX

Scheduling = Literal["other", "batch", "idle"]
"""How the host schedules workers: like anything else, never preempting, only on idle cores.

The last is the default. Where two simulations keep two cores busy, anything above it delays the
99th percentile of a call at 1,000 calls a second by milliseconds, ten times what it is without
them; with it the delay is within 1.5 times. Its price: on a host whose cores are all wanted by
others, jobs get hardly any time.
"""

_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_Bytes = Annotated[int, msgspec.Meta(ge=1024, le=1 << 40)]
_Message = Annotated[int, msgspec.Meta(ge=READ_BYTES_MIN, le=2 * MESSAGE_BYTES_MAX)]
_Millis = Annotated[int, msgspec.Meta(ge=10, le=86_400_000)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one user of the host, and all together, may take of the daemon's outside.

    message_age_ms: from the first byte of a message to its last.
    calls_in_flight: unanswered calls of one connection; at the bound it is not read any more.
    unread_ms: how long a client may leave what it was sent unread before it is disconnected.
    unread_bytes: how much may wait for one client before it is disconnected.
    buffered_bytes_per_uid: requests not complete and answers not read, of all connections of one
        user; at the bound the connection that holds most is disconnected.
    """

    connections: _Count = 8192
    connections_per_uid: _Count = 4096
    message_bytes: _Message = MESSAGE_BYTES_MAX
    message_age_ms: _Millis = 30_000
    calls_in_flight: _Count = 1024
    unread_ms: _Millis = 30_000
    unread_bytes: _Bytes = 128 << 20
    buffered_bytes_per_uid: _Bytes = 512 << 20

    def __post_init__(self) -> None:
        if self.connections_per_uid > self.connections:
            raise ValueError("connections_per_uid may not exceed connections")
        if self.calls_in_flight < BATCH_MAX:
            raise ValueError(f"calls_in_flight must hold one batch, {BATCH_MAX} calls")
        if self.unread_bytes < BATCH_REPLY_BYTES_MAX:
            raise ValueError(f"unread_bytes must hold a batch's reply, {BATCH_REPLY_BYTES_MAX}")
        if self.buffered_bytes_per_uid < self.unread_bytes:
            raise ValueError("buffered_bytes_per_uid may not be less than unread_bytes")


DEFAULTS = Limits()
