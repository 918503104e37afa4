"""What is logged, and as which bytes: canonical JSON that says its kind and its log.

manifest: the digest of an envelope, whose it is, and who signed it. decision: an entry of the
daemon's audit chain by which a job was taken on, restored or moved; or a record that another
program asks to be logged. epochs: an entry by which it
tells whose its epochs were and who lay where, which attests the chain up to there. key: a version
of a key as the signer tells of it, and its state. Entries keep the number and hash that they have
in the chain, so that the one holds the other.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec

from runtime.attest import canonical
from runtime.attest.errors import NotAuthentic, NotMet
from runtime.attest.ledger.log import LEAF_BYTES_MAX, Leaf
from runtime.signer.api import PublicKey, Signature
from syscalls.audit import AuditBody

DECISIONS = frozenset({"job accepted", "job restored", "job moved"})
EPOCHS = "epochs"
KINDS = ("manifest", "decision", "epochs", "key")


class ManifestLeaf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """envelope, payload: SHA-256, hex. signatures: what the signer recorded of them."""

    log: str
    tenant: str
    job_id: str
    envelope: str
    payload: str
    signatures: list[dict[str, Any]]
    kind: str = "manifest"


def of_manifest(
    *, log: str, tenant: str, job_id: str, envelope: str, payload: str, records: list[Signature]
) -> Leaf:
    """One leaf for one job."""
    told = [msgspec.to_builtins(each) for each in records]
    for each in told:
        del each["signature"]
    data = ManifestLeaf(
        log=log,
        tenant=tenant,
        job_id=job_id,
        envelope=envelope,
        payload=payload,
        signatures=told,
    )
    return Leaf(kind="manifest", about=job_id, data=canonical.encode(data))


def of_entry(log: str, body: AuditBody, entry_hash: bytes) -> Leaf | None:
    """The leaf of an entry of the audit chain, if it is of a kind that is logged."""
    kind = "decision" if body.kind in DECISIONS else EPOCHS if body.kind == EPOCHS else None
    if kind is None:
        return None
    data = {"kind": kind, "log": log, "entry": body, "hash": entry_hash.hex()}
    encoded = canonical.encode(data)
    if len(encoded) > LEAF_BYTES_MAX:
        # Its hash, which is over all of it, and what names it.
        brief = {"number": body.number, "epoch": body.epoch, "kind": body.kind}
        encoded = canonical.encode(data | {"entry": brief})
    return Leaf(kind=kind, about=str(body.number), data=encoded)


def of_key(log: str, key: PublicKey) -> Leaf:
    """One leaf for each state that a version of a key comes into."""
    data = {"kind": "key", "log": log, "key": key}
    about = f"{key.name}/{key.version} {key.state}"
    return Leaf(kind="key", about=about, data=canonical.encode(data))


def of_statement(log: str, name: str, statement: Any) -> Leaf:
    """What the signer says of a key under signatures of its own: that it was rotated, or revoked.

    statement: a DSSE envelope, whose place among the leaves is by its content.
    """
    data = canonical.encode({"kind": "key", "log": log, "statement": statement})
    about = f"{name} statement {sha256(canonical.encode(statement)).hexdigest()[:16]}"
    return Leaf(kind="key", about=about, data=data)


def of_record(log: str, record: Any) -> Leaf:
    """A decision that another program made, as of a scheduler across machines: any JSON, best one
    that is signed. Its place among the leaves is by its content. Raises NotMet: it is too long."""
    data = canonical.encode({"kind": "decision", "log": log, "record": record})
    if len(data) > LEAF_BYTES_MAX:
        raise NotMet(f"A leaf has at most {LEAF_BYTES_MAX} bytes, and this has {len(data)}.")
    about = f"record {sha256(canonical.encode(record)).hexdigest()}"
    return Leaf(kind="decision", about=about, data=data)


def check_manifest(leaf: bytes, envelope: bytes, tenant: str, job_id: str, log: str) -> None:
    """Raises NotAuthentic unless this leaf logs this manifest in this log."""
    told = canonical.decode(leaf, ManifestLeaf, "leaf of a manifest")
    if told.kind != "manifest" or told.log != log:
        raise NotAuthentic("The leaf is of another log, or of no manifest.")
    if told.envelope != sha256(envelope).hexdigest():
        raise NotAuthentic("The leaf is of another manifest.")
    if (told.tenant, told.job_id) != (tenant, job_id):
        raise NotAuthentic("The leaf names another tenant or job than the manifest.")
