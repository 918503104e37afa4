"""What others are told of a key's life: DSSE envelopes, so that any verifier of those reads them.

A rotation is signed by the old key, the new one and the root (SLH-DSA); a revocation by the root.
The payload names the head of the audit log, so that a published statement ties the log down. Bytes
that are signed: the pre-authentication encoding of DSSE 1.0.2.
"""

from __future__ import annotations

import base64
import hashlib

import msgspec
from msgspec import Struct

from runtime.signer.api import Signature
from runtime.signer.keys.records import canonical

ROTATION = "application/vnd.qmk.key-rotation+json"
REVOCATION = "application/vnd.qmk.key-revocation+json"
KINDS = (ROTATION, REVOCATION)
ROOT = "root"
"""Name of the key that signs every statement."""


class KeyVersion(Struct, frozen=True, kw_only=True):
    """Which version of a key; spki_sha256 in hexadecimal."""

    version: int
    spki: bytes
    spki_sha256: str


class Rotation(Struct, frozen=True, kw_only=True):
    """old: None where the version before was revoked or lost, and so signs nothing any more."""

    key: str
    algorithm: str
    old: KeyVersion | None
    new: KeyVersion
    created_at: str
    audit_seq: int
    audit_head: str


class Revocation(Struct, frozen=True, kw_only=True):
    """From when on what these versions signed is not to be believed, and why."""

    key: str
    algorithm: str
    revoked: list[KeyVersion]
    reason: str
    created_at: str
    audit_seq: int
    audit_head: str


class EnvelopeSignature(Struct, frozen=True, kw_only=True):
    """keyid: SHA-256 of the SPKI, hexadecimal. What else is there tells whose key it is."""

    keyid: str
    sig: str
    key: str
    version: int
    algorithm: str
    protection: str
    provider: str
    provider_version: str


class Envelope(Struct, frozen=True, kw_only=True):
    """DSSE, with members beyond the standard's that verifiers pass over."""

    payload: str
    payloadType: str  # noqa: N815 (DSSE's own name)
    signatures: list[EnvelopeSignature]

    def content(self) -> bytes:
        return base64.b64decode(self.payload)


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def is_statement(message: bytes) -> bool:
    """Whether these bytes, signed, would be believed as a statement of the signer's own."""
    return any(message.startswith(pae(kind, b"").removesuffix(b"0 ")) for kind in KINDS)


def encode(statement: Rotation | Revocation) -> tuple[str, bytes]:
    """Its payload type and payload."""
    kind = ROTATION if isinstance(statement, Rotation) else REVOCATION
    return kind, canonical(statement)


def envelope(
    payload_type: str, payload: bytes, signatures: list[tuple[bytes, Signature]]
) -> Envelope:
    """signatures: each with the SPKI of its key."""
    return Envelope(
        payload=base64.b64encode(payload).decode(),
        payloadType=payload_type,
        signatures=[
            EnvelopeSignature(
                keyid=fingerprint(spki),
                sig=base64.b64encode(each.signature).decode(),
                key=each.key,
                version=each.version,
                algorithm=each.algorithm,
                protection=each.protection,
                provider=each.provider,
                provider_version=each.provider_version,
            )
            for spki, each in signatures
        ],
    )


def fingerprint(spki: bytes) -> str:
    return hashlib.sha256(spki).hexdigest()


def key_version(version: int, spki: bytes) -> KeyVersion:
    return KeyVersion(version=version, spki=spki, spki_sha256=fingerprint(spki))


def rotation_of(found: Envelope) -> Rotation:
    return msgspec.json.decode(found.content(), type=Rotation)


def revocation_of(found: Envelope) -> Revocation:
    return msgspec.json.decode(found.content(), type=Revocation)
