"""Run manifests: what one job was, what came of it, and all that running it again needs.

The first fields are those of SPEC-001, `signature` aside, which is in the envelope. Nothing in a
manifest is taken from whoever asks for it, except what `stated` names.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec

from runtime.attest import canonical, dsse
from runtime.attest.errors import NotAuthentic, NotMet, Unavailable
from runtime.attest.keys import Trust, TrustedKey
from runtime.attest.modes import keys_for, require
from runtime.attest.statement import Statement, Subject, read
from runtime.signer.api import Sign, Signature
from syscalls.audit import AuditBody
from syscalls.job import CryptoMode, JobStatus

PREDICATE = "urn:qmkd:run-manifest:v1"
CLASSICAL_KEY = "manifest-classical"
POST_QUANTUM_KEY = "manifest-pqc"
BUNDLE_KEY = "bundle"
PQC_SUITE = "ML-DSA-65"
SHA256 = "sha256:"


class Audit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The entry of the daemon's audit chain by which the job ended, which stands for all before."""

    number: int
    hash: str
    epoch: int


class Mitigation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How errors were mitigated, by what the requester says."""

    method: str = "none"
    version: str = ""


class SignedBy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key that was to sign, and how its private half is kept."""

    key: str
    version: int
    algorithm: str
    protection: str


class RunManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """seed: decimal. created_at: when the job ended, RFC 3339, UTC. artifact_hash: the digest of
    the results (`syscalls/results.py`), or of exact probabilities; `sha256:` and hex digits.

    results_digest: as the daemon tells it, hex; empty for exact probabilities, whose digest is
    over the canonical JSON of the histogram. calibration_snapshot_id: names the profile table that
    ships and, behind a `+`, that of points measured here. source: `status`, or `audit chain` where
    the daemon had forgotten the job; then noise_requested and all after it are left empty.
    stated: fields that the requester said, and nobody here can know.
    """

    job_id: str
    tenant: str
    backend_id: str
    pqc_suite: str
    crypto_mode: CryptoMode
    calibration_snapshot_id: str
    em_method: str
    em_version: str
    seed: str
    created_at: str
    artifact_hash: str
    program_digest: str
    results_digest: str
    shots: int
    engine: str
    noise: str
    versions: dict[str, str]
    audit: Audit
    signed_by: list[SignedBy]
    source: str
    stated: list[str]
    noise_requested: str = ""
    why: str = ""
    width: int = 0
    exact: bool = False
    raise_distance: bool = False
    profiles: dict[str, str] = {}
    decoder: dict[str, Any] = {}
    advice: dict[str, int] = {}
    replay_of: str = ""
    restored_from: str = ""


def of_job(
    *,
    accepted: AuditBody,
    ended: AuditBody,
    ended_hash: bytes,
    versions: dict[str, str],
    status: JobStatus | None,
    backend_id: str,
    mode: CryptoMode,
    signed_by: list[SignedBy],
    mitigation: Mitigation | None = None,
) -> RunManifest:
    """The manifest of a completed job, from the audit chain and, where it is known, its status.

    accepted, ended: of this job; versions: of the daemon's start before it ended.
    """
    asked, results = accepted.fields, str(ended.fields["results"])
    if not results and (status is None or status.probabilities is None):
        raise NotMet("Nothing is known any more of its results, so there is nothing to sign.")
    stated = [] if mitigation is None else ["em_method", "em_version"]
    method = mitigation or Mitigation()
    context = None if status is None else status.execution_context
    known: dict[str, Any] = {}
    artifact = SHA256 + results
    if status is not None and context is not None:
        if (context.results_digest or "") != results:
            raise NotMet("The daemon tells of other results than its audit chain.")
        if status.probabilities is not None:
            artifact = SHA256 + probabilities_digest(status.probabilities)
        known = {
            "noise_requested": context.noise.requested,
            "why": context.why,
            "width": context.width,
            "exact": status.probabilities is not None,
            "raise_distance": bool(context.raised),
            "profiles": {each.requested: each.applied for each in context.profiles},
            "decoder": _plain(context.decoder),
            "advice": context.advice,
            "replay_of": context.replay_of or "",
            "restored_from": context.restored_from or "",
        }
    return RunManifest(
        job_id=str(ended.fields["job"]),
        tenant=str(asked["tenant"]),
        backend_id=backend_id,
        pqc_suite="none" if mode == "classical" else PQC_SUITE,
        crypto_mode=mode,
        calibration_snapshot_id="" if context is None else context.calibration or "none",
        em_method=method.method,
        em_version=method.version,
        seed=str(asked["seed"]),
        created_at=_time(ended.at_ns),
        artifact_hash=artifact,
        program_digest=str(asked["program"]),
        results_digest=results,
        shots=int(str(asked["shots"])),
        engine=str(asked["engine"]),
        noise=str(asked["noise"]),
        versions=versions if context is None else context.versions,
        audit=Audit(number=ended.number, hash=ended_hash.hex(), epoch=ended.epoch),
        signed_by=signed_by,
        source="audit chain" if context is None else "status",
        stated=stated,
        **known,
    )


def probabilities_digest(probabilities: dict[str, float]) -> str:
    """Of exact probabilities: SHA-256 of their JSON, keys sorted, the shortest decimals."""
    return sha256(canonical.encode(probabilities)).hexdigest()


def statement_of(manifest: RunManifest) -> bytes:
    """The in-toto Statement, canonical: the manifest is said of the results and of the program."""
    subject = [
        Subject(name=manifest.job_id, digest={"sha256": manifest.artifact_hash[len(SHA256) :]}),
        Subject(name="program", digest={"sha256": manifest.program_digest[len(SHA256) :]}),
    ]
    return canonical.encode(
        Statement(subject=subject, predicate_type=PREDICATE, predicate=manifest)
    )


def signers(signer: Sign, mode: CryptoMode) -> list[SignedBy]:
    """The keys that sign in this mode, as they are now."""
    found = []
    for name in keys_for(mode, CLASSICAL_KEY, POST_QUANTUM_KEY):
        key = signer.public(name)
        found.append(
            SignedBy(
                key=key.name,
                version=key.version,
                algorithm=key.algorithm,
                protection=key.protection,
            )
        )
    return found


def sign(manifest: RunManifest, signer: Sign) -> tuple[dsse.Envelope, list[Signature]]:
    """Sign a manifest with the keys of its mode, which it names itself. Raises Unavailable."""
    names = [each.key for each in manifest.signed_by]
    envelope, records = dsse.sign(statement_of(manifest), signer, names)
    check_signers(manifest, records)
    return envelope, records


def check_signers(manifest: RunManifest, records: Sequence[Signature]) -> None:
    """Raises Unavailable unless these are by the versions of keys that the manifest names."""
    wanted = [(each.key, each.version, each.algorithm) for each in manifest.signed_by]
    if [(each.key, each.version, each.algorithm) for each in records] != wanted:
        raise Unavailable("A key was rotated while the manifest was being signed.")


def verify(
    envelope: dsse.Envelope,
    trust: Trust,
    *,
    mode: CryptoMode = "hybrid",
    tenant: str | None = None,
    job_id: str | None = None,
) -> RunManifest:
    """What an envelope says, if it is signed as its mode and `mode` want it.

    Raises NotAuthentic, and NotMet where it is of another tenant or job, or too weakly signed.
    """
    algorithms = dsse.opened(envelope, trust)
    found = unverified(envelope)
    require(algorithms, found.crypto_mode, mode)
    said = {each.algorithm for each in found.signed_by}
    if len(envelope.signatures) > 1 and algorithms != said:
        raise NotAuthentic("It is not signed in the algorithms that it names.")
    named = {(each.key, each.version) for each in found.signed_by}
    for one in envelope.signatures:
        key = trust.by_id(one.keyid)
        check_purpose(key, (CLASSICAL_KEY, POST_QUANTUM_KEY))
        if (key.name, key.version) not in named:
            raise NotAuthentic(f"Key {key.name}/{key.version} signed it, and it names others.")
    for name, wanted, told in (("tenant", tenant, found.tenant), ("job", job_id, found.job_id)):
        if wanted is not None and wanted != told:
            raise NotMet(f"It is of {name} {told}, and {wanted} is asked for.")
    return found


def check_purpose(key: TrustedKey, names: Sequence[str]) -> None:
    """Raises NotAuthentic unless the key has one of these names: a trusted key of the log, say, is
    not one of manifests, and others may be allowed to sign with it."""
    if key.name not in names:
        raise NotAuthentic(f"Key {key.name} signs other things than this.")


def unverified(envelope: dsse.Envelope) -> RunManifest:
    """What an envelope says, believed by nobody. Raises NotAuthentic where it says nothing."""
    statement = read(envelope.payload, RunManifest, PREDICATE)
    if statement_of(statement.predicate) != envelope.payload:
        raise NotAuthentic("Its subject is not what its predicate tells of.")
    return statement.predicate


def _plain(value: object) -> dict[str, Any]:
    found: dict[str, Any] = {} if value is None else msgspec.to_builtins(value)
    return found


def _time(at_ns: int) -> str:
    whole, rest = divmod(at_ns, 10**9)
    at = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{at}.{rest // 10**6:03d}Z"
