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
from typing import Any, Literal

import msgspec

from runtime.attest import bundle, canonical, dsse, manifest
from runtime.attest.database import Database
from runtime.attest.errors import Forked, NotMet, NotThere, Unavailable
from runtime.attest.keys import Trust, TrustedKey
from runtime.attest.ledger import leaves, rekor
from runtime.attest.ledger.log import LOG_KEYS, Leaf, Log
from runtime.attest.manifest import (
    BUNDLE_KEY,
    CLASSICAL_KEY,
    POST_QUANTUM_KEY,
    Mitigation,
    RunManifest,
)
from runtime.attest.modes import DEFAULT, strongest
from runtime.attest.remembering import Remembering
from runtime.attest.store.objects import Objects
from runtime.signer.api import PublicKey, Sign, Signature
from runtime.signer.client import SignerClient
from runtime.signer.errors import SignerError, UnknownKey
from runtime.signer.protocol import Statements
from syscalls.audit import AuditBody, Entry, hash_of
from syscalls.job import CryptoMode, JobStatus

When = Literal["always", "request", "never"]
KEYS = (CLASSICAL_KEY, POST_QUANTUM_KEY, BUNDLE_KEY, *LOG_KEYS, rekor.KEY)
ACCEPTED = frozenset({"job accepted", "job restored"})
STOCK = ".p256.sigstore.json"
STOCK_LOGGED = ".logged" + STOCK
BATCH_MAX = 16  # manifests signed at once; three signatures each, and a signer takes 64
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
    """A row of the index, with the columns of SPEC-001 and where its leaf is. logged_path: of the
    P-256 bundle that says its place in the log, once that is signed."""

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
    logged_path: str = ""


class Keeper:
    """Keeps manifests and the ledger in one database; one at a time does."""

    def __init__(
        self, database: Database, objects: Objects, signer: Sign, policy: Policy, ask: Ask
    ) -> None:
        self.database, self.objects, self.policy = database, objects, policy
        self.log = Log(database, policy.origin)
        self._signer, self._keys, self._ask = Remembering(signer), signer, ask

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
            # One that was signed since whoever asks last looked is never to be signed again.
            db.execute(
                "UPDATE queue SET state = 'waiting', error = '', asked = ?"
                " WHERE job_id = ? AND state != 'signed'",
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

    def bundle(self, job_id: str, *, logged: bool = False) -> bytes | None:
        """The P-256 bundle, if there is one; or the one that says its place in the log."""
        row = self.signed(job_id)[0]
        path = row.logged_path if logged else row.bundle_path
        return self._object(path) if path else None

    def _object(self, path: str) -> bytes:
        return self.objects.get(path.removeprefix(self.objects.url + "/"))

    def trust(self) -> Trust:
        """The keys in use, and those that were. Raises Unavailable."""
        keys = [TrustedKey.of(each) for each in self._known_keys()]
        return Trust(keys=keys, origin=self.policy.origin)

    # --- signing --------------------------------------------------------------------------------

    def sign_next(self) -> str | None:
        """Sign the manifest of the oldest job that waits; its name, None if none waits."""
        done = self.sign_some(1)
        return done[0] if done else None

    def sign_some(self, limit: int = BATCH_MAX) -> list[str]:
        """Sign the manifests of the oldest jobs that wait, at most so many; the names of those that
        wait no longer. One request to the signer and one commit are for all of them.

        Raises Unavailable where something is away; then the same are tried again, and no others.
        """
        with self.database.reading() as db:
            rows = db.execute(
                "SELECT job_id, accepted, ended, hash, versions, asked FROM queue"
                " WHERE state = 'waiting' ORDER BY number LIMIT ?",
                (limit,),
            ).fetchall()
        if not rows:
            return []
        try:
            made = []
            for row in rows:
                try:
                    made.append(self._manifest(row))
                except (NotMet, Forked) as error:
                    _log.warning("the manifest of %s is not signed: %s", row[0], error)
                    self._set(row[0], "refused", str(error))
            if made:
                self._sign(made)
        except (Unavailable, Forked, SignerError) as error:
            self._set(rows[0][0], "waiting", str(error))
            raise Unavailable(str(error)) from error
        return [str(row[0]) for row in rows]

    def _manifest(self, row: tuple[str, bytes, bytes, bytes, str, str]) -> RunManifest:
        """What is to be signed for a row of the queue."""
        job_id, accepted, ended, entry_hash, versions, asked = row
        body = _body.decode(accepted)
        status = self._ask(job_id)
        context = None if status is None else status.execution_context
        mode = strongest(
            self.policy.crypto_mode,
            self.policy.tenants.get(str(body.fields["tenant"])),
            None if context is None else context.crypto_mode,
        )
        return manifest.of_job(
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

    def _sign(self, made: list[RunManifest]) -> None:
        """Sign, store, log and enter these, all or none."""
        requests: list[tuple[str, bytes]] = []
        payloads = [manifest.statement_of(each) for each in made]
        for each, payload in zip(made, payloads, strict=True):
            message = dsse.pae(dsse.STATEMENT_TYPE, payload)
            names = [*(one.key for one in each.signed_by), *self._bundle_keys(each.crypto_mode)]
            requests += [(name, message) for name in names]
        found = iter(dsse.signed_all(self._signer, requests))
        objects: dict[str, bytes] = {}
        rows: list[tuple[Signed, list[Leaf]]] = []
        for each, payload in zip(made, payloads, strict=True):
            own = [next(found) for _ in each.signed_by]
            manifest.check_signers(each, [record for _, record in own])
            envelope = dsse.enveloped(payload, own)
            data = canonical.encode(envelope)
            digest = sha256(data).hexdigest()
            name = f"{each.created_at[:10]}/{each.job_id}.{digest[:16]}"
            objects[f"{name}.dsse.json"] = data
            stock, logged = "", []
            for _ in self._bundle_keys(each.crypto_mode):
                key, record = next(found)
                signed = bundle.derived(dsse.enveloped(payload, [(key, record)]), key)
                stock = f"{name}{STOCK}"
                objects[stock] = canonical.encode(signed)
                assert signed.dsse_envelope is not None, "it was just made"
                logged.append(rekor.leaf_of(each.job_id, signed.dsse_envelope, key))
            row, leaf = self._row(each, own, digest, f"{name}.dsse.json", stock)
            rows.append((row, [leaf, *logged]))
        places = dict(zip(objects, self.objects.put_all(objects), strict=True))
        self._finish(rows, places | {"": ""})

    def _row(
        self,
        told: RunManifest,
        signed: list[tuple[TrustedKey, Signature]],
        digest: str,
        path: str,
        stock: str,
    ) -> tuple[Signed, Leaf]:
        """A row of the index, its places still names, and the leaf."""
        records = [record for _, record in signed]
        leaf = leaves.of_manifest(
            log=self.policy.origin,
            tenant=told.tenant,
            job_id=told.job_id,
            envelope=digest,
            payload=sha256(manifest.statement_of(told)).hexdigest(),
            records=records,
        )
        row = Signed(
            job_id=told.job_id,
            tenant=told.tenant,
            backend_id=told.backend_id,
            pqc_suite=told.pqc_suite,
            crypto_mode=told.crypto_mode,
            calibration_snapshot_id=told.calibration_snapshot_id,
            em_method=told.em_method,
            signature=canonical.to_base64(records[-1].signature),
            s3_path=path,
            created_at=told.created_at,
            bundle_path=stock,
            envelope_digest=digest,
            leaf=-1,
        )
        return row, leaf

    def _finish(self, rows: list[tuple[Signed, list[Leaf]]], places: dict[str, str]) -> None:
        """Log and enter what is signed and stored. places: of objects, by name."""
        names = Signed.__struct_fields__
        insert = (
            f"INSERT INTO manifests ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        )
        try:
            with self.database.writing() as db:
                for row, told in rows:
                    number = -1
                    if "manifest" in self.policy.log:
                        number = self.log.append_in(db, told)[0]
                    path, stock = places[row.s3_path], places[row.bundle_path]
                    entered = msgspec.structs.replace(
                        row, leaf=number, s3_path=path, bundle_path=stock
                    )
                    db.execute(insert, msgspec.structs.astuple(entered))
                    db.execute(
                        "UPDATE queue SET state = 'signed', error = '' WHERE job_id = ?",
                        (row.job_id,),
                    )
        except BaseException:
            self.log.reload()
            raise

    def _bundle_keys(self, mode: CryptoMode) -> list[str]:
        """The key of the bundle that cosign reads; none where the mode or the signer has none."""
        if mode == "pqc-required":
            return []
        try:
            self._signer.public(BUNDLE_KEY)
        except UnknownKey:
            return []
        return [BUNDLE_KEY]

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
        origin = self.policy.origin
        logged = [leaves.of_key(origin, each) for each in self._known_keys()]
        try:
            for name in dict.fromkeys(each.about.partition("/")[0] for each in logged):
                told = _statements(self._keys, name)
                logged += [leaves.of_statement(origin, name, each) for each in told]
        except SignerError as error:
            raise Unavailable(str(error)) from error
        self.log.append(logged)

    def note_record(self, record: Any) -> int:
        """Log a decision of another program; the number of its leaf. Raises NotMet, Unavailable."""
        leaf = leaves.of_record(self.policy.origin, record)
        self.log.append([leaf])
        return self.log.find(leaf.kind, leaf.about).number

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

    def place_bundles(self, at_s: int) -> int:
        """Make the bundles that say their place in the log, for those that the signed head has; how
        many. at_s: seconds since 1970, which is promised as their time. Raises Unavailable.
        """
        with self.database.reading() as db:
            rows = db.execute(
                "SELECT job_id, bundle_path FROM manifests WHERE logged_path = '' AND leaf >= 0"
                " AND bundle_path != '' ORDER BY leaf LIMIT ?",
                (BATCH_MAX,),
            ).fetchall()
        made = 0
        try:
            size = self.log.signed_size() if rows else 0
            for job_id, path in rows:
                number = self.log.find(rekor.KIND, job_id).number
                if number >= size:
                    continue
                entry = rekor.entry_of(self.log, number, size, self._signer, at_s)
                placed = bundle.logged(bundle.parse(self._object(path)), entry)
                name = path.removeprefix(self.objects.url + "/").removesuffix(STOCK)
                data = canonical.encode(placed)
                digest = sha256(data).hexdigest()[:16]
                where = self.objects.put(f"{name}.{digest}{STOCK_LOGGED}", data)
                with self.database.writing() as db:
                    db.execute(
                        "UPDATE manifests SET logged_path = ? WHERE job_id = ?", (where, job_id)
                    )
                made += 1
        except UnknownKey:
            return made  # Without that key there are none, and nobody asks for them.
        except SignerError as error:
            raise Unavailable(str(error)) from error
        return made

    def _known_keys(self) -> list[PublicKey]:
        """Those that the signer has, the newest version of each first."""
        found = []
        try:
            for name in KEYS:
                with contextlib.suppress(UnknownKey):
                    newest = self._keys.public(name)
                    found.append(newest)
                    for version in range(newest.version - 1, 0, -1):
                        found.append(self._keys.public(name, version))
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


def _statements(signer: Sign, name: str) -> list[Any]:
    """What the signer has said of a key, oldest first, where it is one that says so."""
    told: Any = []
    if isinstance(signer, SignerClient):
        told = signer.call(Statements(name=name))
    elif statements := getattr(signer, "statements", None):
        told = statements(name)
    return [msgspec.json.decode(msgspec.json.encode(each)) for each in told]


def _cursor(db: sqlite3.Connection) -> tuple[int, bytes, dict[str, str]]:
    found = db.execute("SELECT number, hash, versions FROM cursor").fetchone()
    if found is None:
        return 0, b"", {}
    return int(found[0]), bytes(found[1]), msgspec.json.decode(found[2], type=dict[str, str])
