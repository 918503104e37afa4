"""The keeper: from entries of the daemon's audit chain to signed manifests and a ledger.

What it was told and has not signed yet is on the disk, in the order in which jobs ended, and it is
signed in that order. A signer, store or disk that is away makes it wait, and nothing else: jobs end
all the same, and nobody waits for a manifest but who wants to see it. One transaction says that a
manifest is signed, where it lies and which leaf it is. Opens no socket; `service.py` does.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Literal

import msgspec

from runtime.attest import bundle, canonical, manifest
from runtime.attest.database import Database
from runtime.attest.errors import Forked, NotMet, NotThere, Unavailable
from runtime.attest.keys import Trust, TrustedKey
from runtime.attest.ledger import leaves
from runtime.attest.ledger.log import LOG_KEYS, Leaf, Log
from runtime.attest.manifest import CLASSICAL_KEY, POST_QUANTUM_KEY, Mitigation
from runtime.attest.modes import DEFAULT, strongest
from runtime.attest.store.objects import Objects
from runtime.signer.api import PublicKey, Sign
from runtime.signer.errors import SignerError, UnknownKey
from syscalls.audit import AuditBody, Entry, hash_of
from syscalls.job import CryptoMode, JobStatus

When = Literal["always", "request", "never"]
BUNDLE_KEY = "bundle"
KEYS = (CLASSICAL_KEY, POST_QUANTUM_KEY, BUNDLE_KEY, *LOG_KEYS)
ACCEPTED = frozenset({"job accepted", "job restored"})
NOT_VERSIONS = frozenset({"jobs_interrupted"})

Ask = Callable[[str], JobStatus | None]
"""The status of a job, None if it is forgotten. Raises Unavailable."""

_log = logging.getLogger("qmk.attest")
_body = msgspec.json.Decoder(AuditBody)


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is signed and logged. crypto_mode: the least; tenants: of some, by name.

    log: kinds of leaves (`ledger/leaves.py`).
    """

    when: When = "always"
    crypto_mode: CryptoMode = DEFAULT
    tenants: dict[str, CryptoMode] = {}
    log: tuple[str, ...] = leaves.KINDS
    backend_id: str = "qmkd"
    origin: str = "qmkd/ledger"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest that is not signed. state: `waiting`, `offered` until somebody asks, `refused`."""

    job_id: str
    tenant: str
    state: str
    error: str


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the index, with the columns of SPEC-001 and where its leaf is."""

    job_id: str
    tenant: str
    backend_id: str
    pqc_suite: str
    crypto_mode: str
    calibration_snapshot_id: str
    em_method: str
    signature: str
    s3_path: str
    created_at: str
    bundle_path: str
    envelope_digest: str
    leaf: int


class Keeper:
    """Keeps manifests and the ledger in one database; one at a time does."""

    def __init__(
        self, database: Database, objects: Objects, signer: Sign, policy: Policy, ask: Ask
    ) -> None:
        self.database, self.objects, self.policy = database, objects, policy
        self.log = Log(database, policy.origin)
        self._signer, self._ask = signer, ask

    # --- what the chain says --------------------------------------------------------------------

    @property
    def taken(self) -> int:
        """Number of the last entry of the audit chain that was taken in."""
        with self.database.reading() as db:
            return _cursor(db)[0]

    def take(self, entries: Sequence[Entry]) -> None:
        """Take in what follows in the chain. Raises Forked where it does not follow."""
        try:
            with self.database.writing() as db:
                number, head, versions = _cursor(db)
                logged = []
                for told, encoded, entry_hash in entries:
                    if told != number + 1 or entry_hash != hash_of(head, encoded):
                        raise Forked(f"Entry {told} of the audit chain does not follow {number}.")
                    number, head, body = told, entry_hash, _body.decode(encoded)
                    if body.kind == "started":
                        versions = {
                            name: str(value)
                            for name, value in body.fields.items()
                            if name not in NOT_VERSIONS
                        }
                    self._note(db, body, encoded, entry_hash, versions)
                    leaf = leaves.of_entry(self.policy.origin, body, entry_hash)
                    if leaf is not None and leaf.kind in self.policy.log:
                        logged.append(leaf)
                self.log.append_in(db, logged)
                db.execute(
                    "INSERT OR REPLACE INTO cursor VALUES (1, ?, ?, ?)",
                    (number, head, msgspec.json.encode(versions).decode()),
                )
        except BaseException:
            self.log.reload()
            raise

    def _note(
        self,
        db: sqlite3.Connection,
        body: AuditBody,
        encoded: bytes,
        entry_hash: bytes,
        versions: dict[str, str],
    ) -> None:
        """What an entry means for the queue."""
        job = str(body.fields.get("job", ""))
        if body.kind in ACCEPTED:
            db.execute("INSERT OR REPLACE INTO accepted VALUES (?, ?)", (job, encoded))
        elif body.kind in ("job complete", "job fail", "job cancel"):
            found = db.execute("SELECT body FROM accepted WHERE job_id = ?", (job,)).fetchone()
            db.execute("DELETE FROM accepted WHERE job_id = ?", (job,))
            if found is None or body.kind != "job complete" or self.policy.when == "never":
                return
            asked = _body.decode(found[0])
            state = "waiting" if self.policy.when == "always" else "offered"
            db.execute(
                "INSERT INTO queue (number, job_id, tenant, session, state, accepted, ended, hash,"
                " versions) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    body.number,
                    job,
                    str(asked.fields["tenant"]),
                    str(asked.fields["session"]),
                    state,
                    found[0],
                    encoded,
                    entry_hash,
                    msgspec.json.encode(versions).decode(),
                ),
            )

    # --- asking ---------------------------------------------------------------------------------

    def request(self, job_id: str, mitigation: Mitigation | None = None) -> None:
        """Have a job's manifest signed. Raises NotThere, and NotMet where it cannot be."""
        with self.database.writing() as db:
            found = db.execute("SELECT state, error FROM queue WHERE job_id = ?", (job_id,))
            row = found.fetchone()
            if row is None:
                done = "SELECT 1 FROM manifests WHERE job_id = ?"
                if db.execute(done, (job_id,)).fetchone():
                    return
                raise NotThere(f"No completed job {job_id} is known, or its time was before.")
            asked = "{}" if mitigation is None else msgspec.json.encode(mitigation).decode()
            db.execute(
                "UPDATE queue SET state = 'waiting', error = '', asked = ? WHERE job_id = ?",
                (asked, job_id),
            )

    def session_of(self, job_id: str) -> str:
        """What the audit chain calls the session of a job. Raises NotThere."""
        with self.database.reading() as db:
            found = db.execute("SELECT session FROM queue WHERE job_id = ?", (job_id,)).fetchone()
        if found is None:
            raise NotThere(f"No job {job_id} is known here.")
        return str(found[0])

    def waiting(self) -> list[Waiting]:
        """What is not signed, the oldest first."""
        return waiting_of(self.database)

    def signed(self, job_id: str | None = None) -> list[Signed]:
        """The index, or one row of it. Raises NotThere."""
        return index_of(self.database, job_id)

    def count(self) -> int:
        """Manifests that were signed."""
        with self.database.reading() as db:
            (number,) = db.execute("SELECT count(*) FROM manifests").fetchone()
        return int(number)

    def envelope(self, job_id: str) -> bytes:
        """A signed manifest. Raises NotThere, Unavailable, and Forked where it is another."""
        row = self.signed(job_id)[0]
        data = self._object(row.s3_path)
        if sha256(data).hexdigest() != row.envelope_digest:
            raise Forked(f"{row.s3_path} is not the manifest that was logged.")
        return data

    def bundle(self, job_id: str) -> bytes | None:
        """The P-256 bundle, if there is one."""
        path = self.signed(job_id)[0].bundle_path
        return self._object(path) if path else None

    def _object(self, path: str) -> bytes:
        return self.objects.get(path.removeprefix(self.objects.url + "/"))

    def trust(self) -> Trust:
        """The keys in use, and those that were. Raises Unavailable."""
        keys = [TrustedKey.of(each) for each in self._known_keys()]
        return Trust(keys=keys, origin=self.policy.origin)

    # --- signing --------------------------------------------------------------------------------

    def sign_next(self) -> str | None:
        """Sign the manifest of the oldest job that waits; its name, None if none waits.

        Raises Unavailable where something is away; then the same is tried again, and none before.
        """
        with self.database.reading() as db:
            row = db.execute(
                "SELECT job_id, accepted, ended, hash, versions, asked FROM queue"
                " WHERE state = 'waiting' ORDER BY number LIMIT 1"
            ).fetchone()
        if row is None:
            return None
        job_id = str(row[0])
        try:
            self._sign(row)
        except (NotMet, Forked) as error:
            _log.warning("manifest of %s is not signed: %s", job_id, error)
            self._set(job_id, "refused", str(error))
        except (Unavailable, SignerError) as error:
            self._set(job_id, "waiting", str(error))
            raise Unavailable(str(error)) from error
        return job_id

    def _sign(self, row: tuple[str, bytes, bytes, bytes, str, str]) -> None:
        job_id, accepted, ended, entry_hash, versions, asked = row
        body = _body.decode(accepted)
        status = self._ask(job_id)
        context = None if status is None else status.execution_context
        tenant = str(body.fields["tenant"])
        mode = strongest(
            self.policy.crypto_mode,
            self.policy.tenants.get(tenant),
            None if context is None else context.crypto_mode,
        )
        made = manifest.of_job(
            accepted=body,
            ended=_body.decode(ended),
            ended_hash=entry_hash,
            versions=msgspec.json.decode(versions, type=dict[str, str]),
            status=status,
            backend_id=self.policy.backend_id,
            mode=mode,
            signed_by=manifest.signers(self._signer, mode),
            mitigation=None if asked == "{}" else msgspec.json.decode(asked, type=Mitigation),
        )
        envelope, records = manifest.sign(made, self._signer)
        data = canonical.encode(envelope)
        digest = sha256(data).hexdigest()
        path = self.objects.put(f"{job_id}/{digest}.dsse.json", data)
        stock = self._bundle(job_id, mode, envelope.payload)
        leaf = leaves.of_manifest(
            log=self.policy.origin,
            tenant=tenant,
            job_id=job_id,
            envelope=digest,
            payload=sha256(envelope.payload).hexdigest(),
            records=records,
        )
        found = Signed(
            job_id=job_id,
            tenant=tenant,
            backend_id=made.backend_id,
            pqc_suite=made.pqc_suite,
            crypto_mode=made.crypto_mode,
            calibration_snapshot_id=made.calibration_snapshot_id,
            em_method=made.em_method,
            signature=canonical.to_base64(records[-1].signature),
            s3_path=path,
            created_at=made.created_at,
            bundle_path=stock,
            envelope_digest=digest,
            leaf=-1,
        )
        self._finish(found, leaf if "manifest" in self.policy.log else None)

    def _finish(self, found: Signed, leaf: Leaf | None) -> None:
        names = Signed.__struct_fields__
        try:
            with self.database.writing() as db:
                if leaf is not None:
                    (number,) = self.log.append_in(db, [leaf])
                    found = msgspec.structs.replace(found, leaf=number)
                db.execute(
                    f"INSERT INTO manifests ({', '.join(names)})"
                    f" VALUES ({', '.join('?' * len(names))})",
                    msgspec.structs.astuple(found),
                )
                db.execute(
                    "UPDATE queue SET state = 'signed', error = '' WHERE job_id = ?",
                    (found.job_id,),
                )
        except BaseException:
            self.log.reload()
            raise

    def _bundle(self, job_id: str, mode: CryptoMode, payload: bytes) -> str:
        """The bundle that cosign reads; empty where the mode or the signer has none."""
        if mode == "pqc-required":
            return ""
        try:
            made, _ = bundle.dsse_bundle(payload, self._signer, BUNDLE_KEY)
        except UnknownKey:
            return ""
        data = canonical.encode(made)
        name = f"{job_id}/{sha256(data).hexdigest()}.p256.sigstore.json"
        return self.objects.put(name, data)

    def _set(self, job_id: str, state: str, error: str) -> None:
        try:
            with self.database.writing() as db:
                db.execute(
                    "UPDATE queue SET state = ?, error = ? WHERE job_id = ?",
                    (state, error, job_id),
                )
        except Unavailable as full:
            _log.warning("%s", full)

    # --- the ledger -----------------------------------------------------------------------------

    def note_keys(self) -> None:
        """Log the keys that sign, and what has become of them. Raises Unavailable."""
        if "key" not in self.policy.log:
            return
        self.log.append([leaves.of_key(self.policy.origin, each) for each in self._known_keys()])

    def note_statement(self, name: str, statement: bytes) -> None:
        """Log what the signer's operator signed about keys."""
        self.log.append([leaves.of_statement(self.policy.origin, name, statement)])

    def sign_head(self, timestamp: int) -> str | None:
        """Sign the log's head if it has grown; the checkpoint, None if it has not."""
        size = self.log.size
        try:
            if not size or self.log.signed_size() == size:
                return None
        except NotThere:
            pass
        try:
            return self.log.sign_head(self._signer, timestamp)
        except SignerError as error:
            raise Unavailable(str(error)) from error

    def _known_keys(self) -> list[PublicKey]:
        """Those that the signer has, the newest version of each first."""
        found = []
        try:
            for name in KEYS:
                with contextlib.suppress(UnknownKey):
                    newest = self._signer.public(name)
                    found.append(newest)
                    for version in range(newest.version - 1, 0, -1):
                        found.append(self._signer.public(name, version))
        except SignerError as error:
            raise Unavailable(str(error)) from error
        return found


def index_of(database: Database, job_id: str | None = None) -> list[Signed]:
    """Rows of the index, the oldest leaf first. Raises NotThere where one is asked for in vain."""
    names = ", ".join(Signed.__struct_fields__)
    where, values = ("", ()) if job_id is None else ("WHERE job_id = ?", (job_id,))
    with database.reading() as db:
        rows = db.execute(
            f"SELECT {names} FROM manifests {where} ORDER BY leaf, job_id", values
        ).fetchall()
    if job_id is not None and not rows:
        raise NotThere(f"No manifest of {job_id} is signed.")
    return [Signed(**dict(zip(Signed.__struct_fields__, row, strict=True))) for row in rows]


def waiting_of(database: Database) -> list[Waiting]:
    """What is not signed, the oldest first."""
    with database.reading() as db:
        rows = db.execute(
            "SELECT job_id, tenant, state, error FROM queue WHERE state != 'signed' ORDER BY number"
        ).fetchall()
    return [Waiting(job_id=a, tenant=b, state=c, error=d) for a, b, c, d in rows]


def _cursor(db: sqlite3.Connection) -> tuple[int, bytes, dict[str, str]]:
    found = db.execute("SELECT number, hash, versions FROM cursor").fetchone()
    if found is None:
        return 0, b"", {}
    return int(found[0]), bytes(found[1]), msgspec.json.decode(found[2], type=dict[str, str])
