"""The names by which callers know kernel things.

Each is a plain string on the wire and a type of its own in code, so that a `JobId` cannot be
passed where a `SessionId` belongs. Ids carry no authority: every call looks them up in the
caller's own tables. The kernel makes them from fresh random bytes; nothing here rolls dice.
"""

import re
from typing import Annotated, Final, NewType

from msgspec import Meta

SessionId = NewType("SessionId", str)
JobId = NewType("JobId", str)
CheckpointId = NewType("CheckpointId", str)
ChannelId = NewType("ChannelId", str)
CapabilityId = NewType("CapabilityId", str)
HandleId = NewType("HandleId", str)
TenantId = NewType("TenantId", str)

SESSION_PREFIX = "sess_"
JOB_PREFIX = "job_"
CHECKPOINT_PREFIX = "ckpt_"
CHANNEL_PREFIX = "chan_"
CAPABILITY_PREFIX = "cap_"
HANDLE_PREFIX = "vq_"

ID_BYTES = 16  # random bytes behind each id; an id is its prefix and 2 * ID_BYTES hex digits
ID_CHARS_MAX = 128  # longest id a request may carry
TENANT_CHARS_MAX = 128

# An id of the wrong shape is not a malformed request: it names nothing, and is answered like any
# other name that names nothing. So requests bound its length and no more.
SessionIdIn = Annotated[
    SessionId,
    Meta(max_length=ID_CHARS_MAX, description="The session, as `q_negotiate_caps` named it."),
]
JobIdIn = Annotated[
    JobId, Meta(max_length=ID_CHARS_MAX, description="The job, as `q_submit` named it.")
]
CheckpointIdIn = Annotated[
    CheckpointId,
    Meta(max_length=ID_CHARS_MAX, description="The checkpoint, as `q_checkpoint` named it."),
]
ChannelIdIn = Annotated[
    ChannelId, Meta(max_length=ID_CHARS_MAX, description="The channel, as `q_open_chan` named it.")
]
CapabilityIdIn = Annotated[
    CapabilityId,
    Meta(max_length=ID_CHARS_MAX, description="The capability, as `q_delegate` named it."),
]
HandleIdIn = Annotated[
    HandleId, Meta(max_length=ID_CHARS_MAX, description="The qubit, as `q_alloc` named it.")
]
TenantIdIn = Annotated[TenantId, Meta(max_length=TENANT_CHARS_MAX, description="A tenant's name.")]


def session_id(fresh: bytes) -> SessionId:
    """Name a session after ID_BYTES fresh random bytes."""
    return SessionId(_named(SESSION_PREFIX, fresh))


def job_id(fresh: bytes) -> JobId:
    """Name a job after ID_BYTES fresh random bytes."""
    return JobId(_named(JOB_PREFIX, fresh))


def checkpoint_id(fresh: bytes) -> CheckpointId:
    """Name a checkpoint after ID_BYTES fresh random bytes."""
    return CheckpointId(_named(CHECKPOINT_PREFIX, fresh))


def capability_id(fresh: bytes) -> CapabilityId:
    """Name a delegated capability after ID_BYTES fresh random bytes."""
    return CapabilityId(_named(CAPABILITY_PREFIX, fresh))


def handle_id(fresh: bytes) -> HandleId:
    """Name a logical qubit after ID_BYTES fresh random bytes."""
    return HandleId(_named(HANDLE_PREFIX, fresh))


def channel_id(fresh: bytes) -> ChannelId:
    """Name a channel after ID_BYTES fresh random bytes."""
    return ChannelId(_named(CHANNEL_PREFIX, fresh))


def is_handle(name: str) -> bool:
    """Whether a program that names a qubit so means one of `q_alloc`'s."""
    return name.startswith(HANDLE_PREFIX) and _HANDLE.fullmatch(name) is not None


def is_channel(name: str) -> bool:
    """Whether a program that names a channel so means one of `q_open_chan`'s."""
    return name.startswith(CHANNEL_PREFIX) and _CHANNEL.fullmatch(name) is not None


_HANDLE: Final = re.compile(f"{HANDLE_PREFIX}[0-9a-f]{{{2 * ID_BYTES}}}")
_CHANNEL: Final = re.compile(f"{CHANNEL_PREFIX}[0-9a-f]{{{2 * ID_BYTES}}}")


def _named(prefix: str, fresh: bytes) -> str:
    assert len(fresh) == ID_BYTES, f"an id takes {ID_BYTES} random bytes, got {len(fresh)}"
    return prefix + fresh.hex()


assert (
    max(
        len(prefix)
        for prefix in (
            SESSION_PREFIX,
            JOB_PREFIX,
            CHECKPOINT_PREFIX,
            CHANNEL_PREFIX,
            CAPABILITY_PREFIX,
            HANDLE_PREFIX,
        )
    )
    + 2 * ID_BYTES
    <= ID_CHARS_MAX
), "every id the kernel makes fits in a request"
