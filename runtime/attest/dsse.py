"""Envelopes: a payload, what type it is of, and signatures over both.

DSSE 1.0: what is signed is the pre-authentication encoding of type and payload, so that no payload
can be taken for one of another type. Every signature names its key by `TrustedKey.id`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from runtime.attest import canonical
from runtime.attest.errors import NotAuthentic, Unavailable
from runtime.attest.keys import Trust, TrustedKey, verify
from runtime.signer.api import Sign, Signature

STATEMENT_TYPE = "application/vnd.in-toto+json"


class EnvelopeSignature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keyid: str
    sig: bytes


class Envelope(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """payload and signatures in base64 where it is written."""

    payload: bytes
    payload_type: str
    signatures: list[EnvelopeSignature]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: the bytes that are signed."""
    encoded = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(encoded), encoded, len(payload), payload)


def sign(
    payload: bytes, signer: Sign, keys: Sequence[str], payload_type: str = STATEMENT_TYPE
) -> tuple[Envelope, list[Signature]]:
    """An envelope with one signature of each key, and what the signer says of each.

    Every signature is verified before it is given out: a token that errs is found here.
    """
    message = pae(payload_type, payload)
    found = signed_all(signer, [(name, message) for name in keys])
    return enveloped(payload, found, payload_type), [record for _, record in found]


def enveloped(
    payload: bytes,
    found: Sequence[tuple[TrustedKey, Signature]],
    payload_type: str = STATEMENT_TYPE,
) -> Envelope:
    """The envelope with these signatures over it."""
    made = [EnvelopeSignature(keyid=key.id, sig=record.signature) for key, record in found]
    return Envelope(payload=payload, payload_type=payload_type, signatures=made)


def signed(signer: Sign, name: str, message: bytes) -> tuple[TrustedKey, Signature]:
    """A signature, verified, and the version of the key that made it."""
    (found,) = signed_all(signer, [(name, message)])
    return found


def signed_all(
    signer: Sign, requests: list[tuple[str, bytes]]
) -> list[tuple[TrustedKey, Signature]]:
    """Signatures of keys over messages, verified; at once where the signer can do that."""
    several = getattr(signer, "sign_all", None)
    if several is None:
        records = [signer.sign(name, message) for name, message in requests]
    else:
        records = several(requests)
    found = []
    for (_, message), record in zip(requests, records, strict=True):
        key = TrustedKey.of(signer.public(record.key, record.version))
        if key.algorithm != record.algorithm:
            raise Unavailable(f"The signer does not agree with itself on what {record.key} is.")
        verify(key, message, record.signature)
        found.append((key, record))
    return found


def parse(data: bytes) -> Envelope:
    """An envelope in its canonical form. Raises NotAuthentic."""
    return canonical.decode(data, Envelope, "envelope")


def opened(envelope: Envelope, trust: Trust, payload_type: str = STATEMENT_TYPE) -> set[str]:
    """Verify every signature; returns the algorithms. Raises NotAuthentic.

    One that does not hold, or is of a key that is not trusted, refuses the whole: who signs with
    two algorithms expects both to be looked at.
    """
    if envelope.payload_type != payload_type:
        raise NotAuthentic(f"Its payload is of type {envelope.payload_type!r}.")
    if not envelope.signatures:
        raise NotAuthentic("It is not signed.")
    message = pae(envelope.payload_type, envelope.payload)
    algorithms = []
    for each in envelope.signatures:
        key = trust.by_id(each.keyid)
        verify(key, message, each.sig)
        algorithms.append(key.algorithm)
    if len(set(algorithms)) != len(algorithms):
        raise NotAuthentic("Two of its signatures are of one algorithm.")
    return set(algorithms)
