"""The names by which callers know kernel things.

Each is a plain string on the wire and a type of its own in code, so that a `JobId` cannot be
passed where a `SessionId` belongs. Ids carry no authority: every call looks them up in the
caller's own tables. The kernel makes them from fresh random bytes; nothing here rolls dice.
"""

from typing import Annotated, NewType

from msgspec import Meta

SessionId = NewType("SessionId", str)
JobId = NewType("JobId", str)
CheckpointId = NewType("CheckpointId", str)
ChannelId = NewType("ChannelId", str)
CapabilityId = NewType("CapabilityId", str)
TenantId = NewType("TenantId", str)

SESSION_PREFIX = "sess_"
JOB_PREFIX = "job_"
CHECKPOINT_PREFIX = "ckpt_"
CHANNEL_PREFIX = "chan_"
CAPABILITY_PREFIX = "cap_"

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
TenantIdIn = Annotated[TenantId, Meta(max_length=TENANT_CHARS_MAX, description="A tenant's name.")]


def session_id(fresh: bytes) -> SessionId:
    """Name a session after ID_BYTES fresh random bytes."""
    return SessionId(_named(SESSION_PREFIX, fresh))


def job_id(fresh: bytes) -> JobId:
    """Name a job after ID_BYTES fresh random bytes."""
    return JobId(_named(JOB_PREFIX, fresh))


def capability_id(fresh: bytes) -> CapabilityId:
    """Name a delegated capability after ID_BYTES fresh random bytes."""
    return CapabilityId(_named(CAPABILITY_PREFIX, fresh))


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
        )
    )
    + 2 * ID_BYTES
    <= ID_CHARS_MAX
), "every id the kernel makes fits in a request"
