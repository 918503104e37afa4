"""Sigstore bundles, version 0.3, of one signature and our own key: what stock verifiers read.

Of a run manifest there may be one of each algorithm: `dsse_bundle` over the in-toto statement, for
`cosign verify-blob-attestation` and `@sigstore/verify`; `message_bundle` over any bytes, for
`cosign verify-blob`. Stock verifiers want exactly one signature, so the envelope with two, which is
what we keep, is not one of them. One of P-256 may say where it is logged (`ledger/rekor.py`).
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from runtime.attest import canonical, dsse
from runtime.attest.errors import NotAuthentic, NotMet
from runtime.attest.keys import CLASSICAL, Trust, TrustedKey, verify
from runtime.attest.ledger import rekor
from runtime.attest.manifest import (
    BUNDLE_KEY,
    CLASSICAL_KEY,
    POST_QUANTUM_KEY,
    RunManifest,
    check_purpose,
    unverified,
)
from runtime.attest.modes import require
from runtime.signer.api import Sign
from syscalls.job import CryptoMode

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


class Strict(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename="camel",
    omit_defaults=True,
):
    """As protobuf writes JSON: names in camel case, what is empty left out."""


class Key(Strict, frozen=True, kw_only=True):
    """hint: base64 of the SHA-256 of the SPKI."""

    hint: str


class Material(Strict, frozen=True, kw_only=True):
    public_key: Key
    tlog_entries: list[rekor.TlogEntry] = []


class MessageDigest(Strict, frozen=True, kw_only=True):
    algorithm: str
    digest: bytes


class MessageSignature(Strict, frozen=True, kw_only=True):
    message_digest: MessageDigest
    signature: bytes


class Bundle(Strict, frozen=True, kw_only=True):
    """One of the last two is there."""

    media_type: str
    verification_material: Material
    dsse_envelope: dsse.Envelope | None = None
    message_signature: MessageSignature | None = None


def dsse_bundle(payload: bytes, signer: Sign, key: str) -> tuple[Bundle, TrustedKey]:
    """A bundle over an in-toto statement. Raises NotMet where its mode forbids it."""
    made, records = dsse.sign(payload, signer, [key])
    trusted = TrustedKey.of(signer.public(key, records[0].version))
    if trusted.algorithm in CLASSICAL and _mode(made) == "pqc-required":
        raise NotMet("A manifest of mode pqc-required has no bundle with a classical signature.")
    return _bundle(trusted, dsse_envelope=made), trusted


def derived(envelope: dsse.Envelope, key: TrustedKey) -> Bundle:
    """The bundle with one of an envelope's signatures, which needs no signing. Raises NotMet."""
    if key.algorithm in CLASSICAL and _mode(envelope) == "pqc-required":
        raise NotMet("A manifest of mode pqc-required has no bundle with a classical signature.")
    chosen = [each for each in envelope.signatures if each.keyid == key.id]
    if not chosen:
        raise NotMet(f"Key {key.name}/{key.version} has not signed it.")
    return _bundle(key, dsse_envelope=msgspec.structs.replace(envelope, signatures=chosen))


def logged(bundle: Bundle, entry: rekor.TlogEntry) -> Bundle:
    """The same with its place in the log, for cosign without `--insecure-ignore-tlog`."""
    material = msgspec.structs.replace(bundle.verification_material, tlog_entries=[entry])
    return msgspec.structs.replace(bundle, verification_material=material)


def message_bundle(message: bytes, signer: Sign, key: str) -> tuple[Bundle, TrustedKey]:
    """A bundle over any bytes."""
    trusted, record = dsse.signed(signer, key, message)
    told = MessageDigest(algorithm="SHA2_256", digest=sha256(message).digest())
    made = MessageSignature(message_digest=told, signature=record.signature)
    return _bundle(trusted, message_signature=made), trusted


def parse(data: bytes) -> Bundle:
    """A bundle in the form that is written here. Raises NotAuthentic."""
    return canonical.decode(data, Bundle, "bundle")


def verify_manifest(bundle: Bundle, trust: Trust, *, mode: CryptoMode = "classical") -> RunManifest:
    """The manifest in a bundle. Raises NotAuthentic, and NotMet where its mode or yours wants more
    than its one signature."""
    envelope = bundle.dsse_envelope
    if envelope is None or bundle.message_signature is not None:
        raise NotAuthentic("There is no statement in it.")
    if len(envelope.signatures) != 1:
        raise NotAuthentic("A bundle has exactly one signature.")
    key = _key(bundle, trust)
    check_purpose(key, (BUNDLE_KEY, CLASSICAL_KEY, POST_QUANTUM_KEY))
    if envelope.signatures[0].keyid:
        raise NotAuthentic("Its key is named beside the hint.")
    algorithms = dsse.opened(_keyed(envelope, key.id), trust)
    for entry in bundle.verification_material.tlog_entries:
        rekor.verify_entry(entry, rekor.body_of(envelope, key), trust)
    found = unverified(envelope)
    require(algorithms, found.crypto_mode, mode)
    return found


def verify_message(bundle: Bundle, message: bytes, trust: Trust) -> TrustedKey:
    """The key that signed this message. Raises NotAuthentic."""
    made = bundle.message_signature
    if made is None or bundle.dsse_envelope is not None:
        raise NotAuthentic("There is no signature of a message in it.")
    told = made.message_digest
    if told.algorithm != "SHA2_256" or told.digest != sha256(message).digest():
        raise NotAuthentic("It is of another message.")
    key = _key(bundle, trust)
    verify(key, message, made.signature)
    return key


def envelope_of(bundle: Bundle, trust: Trust) -> dsse.Envelope:
    """The envelope in it, with its key named as ours name it. Raises NotAuthentic."""
    if bundle.dsse_envelope is None:
        raise NotAuthentic("There is no statement in it.")
    return _keyed(bundle.dsse_envelope, _key(bundle, trust).id)


def _keyed(envelope: dsse.Envelope, key_id: str) -> dsse.Envelope:
    """The same with this name of the key. In a bundle it has none: the hint names it, and cosign
    compares any other name with an SSH fingerprint."""
    named = [msgspec.structs.replace(each, keyid=key_id) for each in envelope.signatures]
    return msgspec.structs.replace(envelope, signatures=named)


def _key(bundle: Bundle, trust: Trust) -> TrustedKey:
    if bundle.media_type != MEDIA_TYPE:
        raise NotAuthentic(f"It is of type {bundle.media_type!r}.")
    hint = bundle.verification_material.public_key.hint
    return trust.by_id(canonical.from_base64(hint, "The hint").hex())


def _bundle(
    key: TrustedKey,
    dsse_envelope: dsse.Envelope | None = None,
    message_signature: MessageSignature | None = None,
) -> Bundle:
    hint = canonical.to_base64(bytes.fromhex(key.id))
    return Bundle(
        media_type=MEDIA_TYPE,
        verification_material=Material(public_key=Key(hint=hint)),
        dsse_envelope=None if dsse_envelope is None else _keyed(dsse_envelope, ""),
        message_signature=message_signature,
    )


def _mode(envelope: dsse.Envelope) -> CryptoMode | None:
    """Of the manifest in it; None for any other statement."""
    try:
        return unverified(envelope).crypto_mode
    except NotAuthentic:
        return None
