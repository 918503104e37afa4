"""The same log for cosign, which knows logs only as Rekor shows them.

A bundle's leaf is the body of a Rekor entry (`dsse` 0.0.1), so that its hash is one that cosign
computes too. Over the same root stands a checkpoint of its own, whose name is a host and a number
and whose signature is ECDSA P-256; and each entry has a signed promise of its time. All of it goes
into the bundle, and `trusted_root` is the file that cosign believes in.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec

from runtime.attest import canonical, dsse
from runtime.attest.errors import NotAuthentic
from runtime.attest.keys import Trust, TrustedKey, verify
from runtime.attest.ledger import notes
from runtime.attest.ledger.log import Leaf, Log
from runtime.attest.ledger.tree import leaf_hash, verify_inclusion
from runtime.signer.api import Sign

KEY = "log-p256"
KIND = "bundle"
TREE_ID_BYTES = 7
TRUSTED_ROOT = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Numbers of 64 bits are strings, as protobuf writes them."""


class LogId(Strict, frozen=True, kw_only=True):
    """key_id: SHA-256 of the log's SPKI."""

    key_id: bytes


class KindVersion(Strict, frozen=True, kw_only=True):
    kind: str = "dsse"
    version: str = "0.0.1"


class Promise(Strict, frozen=True, kw_only=True):
    signed_entry_timestamp: bytes


class CheckpointText(Strict, frozen=True, kw_only=True):
    envelope: str


class InclusionProof(Strict, frozen=True, kw_only=True):
    log_index: str
    root_hash: bytes
    tree_size: str
    hashes: list[bytes]
    checkpoint: CheckpointText


class TlogEntry(Strict, frozen=True, kw_only=True):
    """What a bundle says of its place in the log."""

    log_index: str
    log_id: LogId
    kind_version: KindVersion
    integrated_time: str
    inclusion_promise: Promise
    inclusion_proof: InclusionProof
    canonicalized_body: bytes


def leaf_of(job_id: str, envelope: dsse.Envelope, key: TrustedKey) -> Leaf:
    """The leaf of a bundle's envelope, which has one signature and no name of its key."""
    return Leaf(kind=KIND, about=job_id, data=body_of(envelope, key))


def body_of(envelope: dsse.Envelope, key: TrustedKey) -> bytes:
    (one,) = envelope.signatures
    spec = {
        "envelopeHash": _hash(canonical.encode(envelope)),
        "payloadHash": _hash(envelope.payload),
        "signatures": [
            {
                "signature": canonical.to_base64(one.sig),
                "verifier": canonical.to_base64(key.pem),
            }
        ],
    }
    return canonical.encode({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})


def entry_of(log: Log, number: int, size: int, signer: Sign, at_s: int) -> TlogEntry:
    """The entry of a leaf in the head of this size, which must have been signed. Raises NotThere.

    at_s: seconds since 1970 that are promised as its time.
    """
    root = notes.parse(log.checkpoint(size)).checkpoint.root
    key = TrustedKey.of(signer.public(KEY))
    body = log.leaf(number).data
    promise = dsse.signed(signer, KEY, _promised(body, at_s, key, number))[1].signature
    checkpoint = notes.Checkpoint(origin=origin_of(log.origin), size=size, root=root)
    line = dsse.signed(signer, KEY, checkpoint.body.encode())[1].signature
    verifier = _verifier(log.origin, key)
    note = notes.Note(
        checkpoint=checkpoint,
        lines=[notes.NoteLine(name=verifier.name, key_id=verifier.key_id, signature=line)],
    )
    return TlogEntry(
        log_index=str(number),
        log_id=LogId(key_id=bytes.fromhex(key.id)),
        kind_version=KindVersion(),
        integrated_time=str(at_s),
        inclusion_promise=Promise(signed_entry_timestamp=promise),
        inclusion_proof=InclusionProof(
            log_index=str(number),
            root_hash=root,
            tree_size=str(size),
            hashes=log.inclusion(number, size),
            checkpoint=CheckpointText(envelope=note.text),
        ),
        canonicalized_body=body,
    )


def verify_entry(entry: TlogEntry, body: bytes, trust: Trust) -> int:
    """The leaf's number, if all of the entry holds for this body. Raises NotAuthentic."""
    key = trust.by_id(entry.log_id.key_id.hex())
    if key.name != KEY:
        raise NotAuthentic(f"Key {key.name} signs no such entries.")
    proof = entry.inclusion_proof
    number = canonical.number(entry.log_index, "The index")
    size = canonical.number(proof.tree_size, "The size")
    if proof.log_index != entry.log_index or entry.kind_version != KindVersion():
        raise NotAuthentic("The entry contradicts itself.")
    if entry.canonicalized_body != body:
        raise NotAuthentic("The entry is of another signature.")
    at_s = canonical.number(entry.integrated_time, "The time")
    promised = _promised(body, at_s, key, number)
    verify(key, promised, entry.inclusion_promise.signed_entry_timestamp)
    note = notes.parse(proof.checkpoint.envelope)
    told = (note.checkpoint.origin, note.checkpoint.size, note.checkpoint.root)
    if told != (origin_of(trust.origin), size, proof.root_hash) or len(note.lines) != 1:
        raise NotAuthentic("The entry's checkpoint is of another log or head.")
    notes.verify_line(note.lines[0], note.checkpoint, _verifier(trust.origin, key))
    verify_inclusion(leaf_hash(body), number, size, proof.hashes, proof.root_hash)
    return number


def trusted_root(trust: Trust) -> dict[str, Any]:
    """What `cosign --trusted-root` reads: this log, and no certificate authority."""
    logs = [
        {
            "baseUrl": f"https://{_host(trust.origin)}",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": canonical.to_base64(key.spki),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": "1970-01-01T00:00:00Z"},
            },
            "logId": {"keyId": canonical.to_base64(bytes.fromhex(key.id))},
        }
        for key in trust.named(KEY)
    ]
    return {
        "mediaType": TRUSTED_ROOT,
        "tlogs": logs,
        "certificateAuthorities": [],
        "ctlogs": [],
        "timestampAuthorities": [],
    }


def origin_of(origin: str) -> str:
    """The log's name as cosign wants it: a host, and a number of the tree."""
    digest = sha256(origin.encode()).digest()[:TREE_ID_BYTES]
    return f"{_host(origin)} - {int.from_bytes(digest, 'big')}"


def _host(origin: str) -> str:
    return origin.partition("/")[0]


def _verifier(origin: str, key: TrustedKey) -> notes.Verifier:
    return notes.Verifier(name=_host(origin), kind=0, key=key)


def _promised(body: bytes, at_s: int, key: TrustedKey, number: int) -> bytes:
    """What a signed entry timestamp signs."""
    return canonical.encode(
        {
            "body": canonical.to_base64(body),
            "integratedTime": at_s,
            "logID": key.id,
            "logIndex": number,
        }
    )


def _hash(data: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": sha256(data).hexdigest()}
