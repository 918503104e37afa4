"""The keys of one installation, and all that is done with them: a signer without a socket.

    keys = Keys(folder)                      # software; with a token: Keys(folder, Token(config))
    keys.create("manifest-pqc", "ML-DSA-65")
    keys.sign("manifest-pqc", b"...")

Every use is in the audit log before its result is returned. A change goes through four steps, any
of which may be the last one before a crash: the new record beside the old, the entry in the log,
which decides, the old one replaced, what is needless destroyed. So a record is believed only if its
digest is the one that the log knows.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from runtime.signer.algorithms import Use
from runtime.signer.algorithms import algorithm as row
from runtime.signer.api import (
    MESSAGE_BYTES_MAX,
    Certificate,
    CertificateRequest,
    Protection,
    PublicKey,
    Signature,
)
from runtime.signer.errors import (
    BadRequest,
    KeyExists,
    KeyNotActive,
    RecordsDamaged,
    SignerError,
    StorageFailed,
    UnknownAlgorithm,
    UnknownKey,
    Unopened,
)
from runtime.signer.keys import certificates, statements
from runtime.signer.keys.audit import Audit
from runtime.signer.keys.custody import Custody
from runtime.signer.keys.files import commit, pending, prepare, storing, write
from runtime.signer.keys.records import (
    VERSIONS_MAX,
    Destroyed,
    Record,
    Resident,
    Sealed,
    Version,
    canonical,
    check_name,
    header,
    header_of,
    stamp,
)
from runtime.signer.keys.statements import ROOT, Envelope, Revocation, Rotation
from runtime.signer.providers.base import wipe
from runtime.signer.providers.chain import Chain
from runtime.signer.providers.token import Token

DEFAULTS = {
    ROOT: "SLH-DSA-SHA2-128s",
    "manifest-classical": "Ed25519",
    "manifest-pqc": "ML-DSA-65",
    "bundle": "ES256",
    "log": "Ed25519",
    "log-pqc": "ML-DSA-44",
    "log-p256": "ES256",
    "seal": "X-Wing",
    "tls-ca": "ES256",
    "tls-ca-pqc": "ML-DSA-65",
}
"""The keys of a new installation."""
REASON_CHARS_MAX = 500


class Keys:
    """The keys in a folder, which belongs to one process at a time. Satisfies `api.Sign`.

    Safe for several threads. Where a method takes `user`, it is the uid to be written down, by
    default this process's. All may raise `errors.SignerError`.
    """

    def __init__(
        self, folder: Path, token: Token | None = None, chain: Chain | None = None
    ) -> None:
        """Raises StorageFailed, RecordsDamaged. A token is opened later, when first needed."""
        self.folder = folder
        self.chain = chain or Chain()
        self._lock = threading.RLock()
        with storing(folder):
            for each in (folder, folder / "records", folder / "statements"):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._claim = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._claim)
            raise StorageFailed(f"{folder} is in use by another signer.") from error
        self.custody = Custody(folder, token)
        self.audit = Audit(folder / "audit")
        self._records: dict[str, Record] = {}
        self.damaged: dict[str, str] = {}
        self._load()

    def close(self) -> None:
        """Let the folder go. Closing twice is closing once."""
        if self._claim < 0:
            return
        self.audit.close()
        os.close(self._claim)
        self._claim = -1
        if self.custody.token is not None:
            self.custody.token.close()

    # --- records on the disk --------------------------------------------------------------------

    def _load(self) -> None:
        """Take in every record that the log vouches for; finish what a crash interrupted."""
        for name, digest in self.audit.records.items():
            path = self._path(name)
            for candidate in (path, pending(path)):
                with storing(candidate):
                    data = candidate.read_bytes() if candidate.exists() else b""
                if hashlib.sha256(data).hexdigest() == digest:
                    if candidate != path:
                        with storing(path):
                            commit(path)
                    self._records[name] = msgspec.json.decode(data, type=Record)
                    break
            else:
                self.damaged[name] = f"{path} is not what the audit log says was written."
        for path in (self.folder / "records").glob("*.new"):
            path.unlink(missing_ok=True)  # never came to be
        for path in (self.folder / "records").glob("*.json"):
            if path.stem not in self._records and path.stem not in self.damaged:
                self.damaged[path.stem] = f"{path} is unknown to the audit log."

    def _path(self, name: str) -> Path:
        return self.folder / "records" / f"{name}.json"

    def _commit(self, event: str, record: Record, version: int, user: int, note: str = "") -> None:
        """Make a record the one that counts. Raises StorageFailed: then nothing has changed."""
        path, data = self._path(record.name), canonical(record)
        with storing(path):
            prepare(path, data)
        try:
            entry = self.audit.append(
                event, user,
                key=record.name, version=version, algorithm=record.algorithm,
                digest=hashlib.sha256(data).hexdigest(), note=note,
            )  # fmt: skip
        except SignerError:
            pending(path).unlink(missing_ok=True)
            raise
        self._records[record.name] = record
        self.audit.flush(entry.seq)
        with storing(path):
            commit(path)

    def record(self, name: str) -> Record:
        """Raises UnknownKey, RecordsDamaged."""
        found = self._records.get(name)
        if found is not None:
            return found
        if name in self.damaged:
            raise RecordsDamaged(self.damaged[name])
        raise UnknownKey(f"No key is called {name[:80]!r}; there are: {', '.join(self.names)}.")

    @property
    def names(self) -> list[str]:
        return sorted(self._records)

    # --- use ------------------------------------------------------------------------------------

    def sign(self, key: str, message: bytes, user: int | None = None) -> Signature:
        made, seq = self.sign_later(key, message, user)
        self.audit.flush(seq)
        return made

    def sign_all(
        self, requests: list[tuple[str, bytes]], user: int | None = None
    ) -> list[Signature]:
        """Several signatures with one flush of the log; all of them, or an error and none."""
        made = [self.sign_later(key, message, user) for key, message in requests]
        if made:
            self.audit.flush(made[-1][1])
        return [each for each, _ in made]

    def sign_later(
        self, key: str, message: bytes, user: int | None = None
    ) -> tuple[Signature, int]:
        """A signature that must not be given out before the log is flushed up to this entry."""
        if len(message) > MESSAGE_BYTES_MAX:
            raise BadRequest(
                f"A message has at most {MESSAGE_BYTES_MAX} bytes, not {len(message)}."
            )
        if statements.is_statement(message):
            raise BadRequest("Statements on keys are made by rotating and revoking them alone.")
        while True:
            record = self.record(key)
            version = record.active()
            signature = self._sign_with(record, version, message)
            try:
                return signature, self._write_down("sign", record, version, message, user)
            except KeyNotActive:
                if self.record(key).active().version == version.version:
                    raise
                # It was rotated while it signed, so the new version does.

    def _write_down(
        self, event: str, record: Record, version: Version, content: bytes, user: int | None
    ) -> int:
        """Enter a use in the log, unless the key was taken out of use since it was begun."""
        with self._lock:
            now = self.record(record.name).one(version.version)
            if now.state != version.state:
                raise KeyNotActive(f"{record.name} was rotated or revoked meanwhile.")
            entry = self.audit.append(
                event, _user(user),
                key=record.name, version=version.version, algorithm=record.algorithm,
                digest=hashlib.sha256(content).hexdigest(),
            )  # fmt: skip
        return entry.seq

    def _sign_with(self, record: Record, version: Version, message: bytes) -> Signature:
        """A signature that is in no log yet. Raises UnknownAlgorithm for a key that seals."""
        name = record.algorithm
        if row(name).use is not Use.SIGN:
            raise UnknownAlgorithm(f"{record.name} is a key of {name}, which seals and signs not.")
        match version.material:
            case Resident() as where:
                made = self.custody.sign_resident(name, where, message)
                assert self.custody.token is not None, "it has just signed"
                by, by_version = version.provider, self.custody.token.version
            case Sealed():
                provider = self.chain.of(name, version.provider)
                secret = self._secret(record, version)
                try:
                    made = provider.sign(name, secret, message)
                finally:
                    wipe(secret)
                by, by_version = provider.name, provider.version
            case Destroyed():
                raise KeyNotActive(f"{record.name} version {version.version} was revoked.")
        return Signature(
            key=record.name,
            version=version.version,
            algorithm=name,
            signature=made,
            protection=version.protection,
            provider=by,
            provider_version=by_version,
            created_at=stamp(),
        )

    def _secret(self, record: Record, version: Version) -> bytearray:
        """The private half, for the caller to wipe."""
        assert isinstance(version.material, Sealed), "only what is sealed is ever opened"
        sealed = version.material
        return self.custody.unseal(sealed, header_of(record, version, sealed.kek))

    def public(self, key: str, version: int | None = None) -> PublicKey:
        record = self.record(key)
        return record.public(record.newest() if version is None else record.one(version))

    def verify(
        self, key: str, message: bytes, signature: bytes, version: int | None = None
    ) -> bool:
        """Whether a signature holds, of the newest version unless one is named.

        That a version was revoked does not make its signatures false; `public` says so.
        """
        record = self.record(key)
        found = record.newest() if version is None else record.one(version)
        algorithm = row(record.algorithm)
        if algorithm.use is not Use.SIGN:
            raise UnknownAlgorithm(f"{key} is a key of {algorithm.name}, which signs nothing.")
        raw = algorithm.raw(found.spki)
        return self.chain.of(algorithm.name).verify(algorithm.name, raw, message, signature)

    def seal(self, key: str, plaintext: bytes, label: bytes = b"") -> bytes:
        """Seal for a key by HPKE (RFC 9180), with `label` as its info. Needs no private key."""
        if len(plaintext) > MESSAGE_BYTES_MAX:
            raise BadRequest(f"At most {MESSAGE_BYTES_MAX} bytes are sealed at once.")
        record = self.record(key)
        algorithm = row(record.algorithm)
        if algorithm.use is not Use.SEAL:
            raise UnknownAlgorithm(f"{key} is a key of {algorithm.name}, which seals nothing.")
        raw = algorithm.raw(record.active().spki)
        return self.chain.of(algorithm.name).seal(algorithm.name, raw, plaintext, label)

    def unseal(
        self,
        key: str,
        sealed: bytes,
        label: bytes = b"",
        version: int | None = None,
        user: int | None = None,
    ) -> bytes:
        """What was sealed for a key by HPKE. Raises Unopened; never says what is wrong with it."""
        record = self.record(key)
        found = record.newest() if version is None else record.one(version)
        algorithm = row(record.algorithm)
        if algorithm.use is not Use.SEAL:
            raise UnknownAlgorithm(f"{key} is a key of {algorithm.name}, which opens nothing.")
        if not isinstance(found.material, Sealed):
            raise KeyNotActive(f"{key} version {found.version} was revoked.")
        secret = self._secret(record, found)
        try:
            provider = self.chain.of(algorithm.name, found.provider)
            plain = provider.unseal(algorithm.name, secret, sealed, label)
        finally:
            wipe(secret)
        self.audit.flush(self._write_down("unseal", record, found, sealed, user))
        if plain is None:
            raise Unopened(f"This does not open with {key} version {found.version}.")
        return plain

    def issue(self, request: CertificateRequest, user: int | None = None) -> Certificate:
        record = self.record(request.issuer)
        version = record.active()
        made: list[bytes] = []

        def sign(tbs: bytes) -> bytes:
            made.append(tbs)
            return self._sign_with(record, version, tbs).signature

        authority = self.authority(request.issuer)
        found = certificates.issue(request, record, version, authority, sign)
        self.audit.flush(self._write_down("certify", record, version, made[-1], user))
        return found

    def authority(self, key: str) -> bytes:
        """The certificate that a key's active version gave itself, made when first asked for."""
        record = self.record(key)
        version = record.active()
        path = self._authority_path(record, version)
        with self._lock, storing(path):
            if path.exists():
                return path.read_bytes()
            found = certificates.authority(
                record, version, lambda tbs: self._sign_with(record, version, tbs).signature
            )
            self.audit.flush(self._write_down("certify", record, version, found, None))
            write(path, found)
            return found

    def is_authority(self, key: str) -> bool:
        """Whether a key's active version has given itself a certificate."""
        record = self.record(key)
        return self._authority_path(record, record.active()).exists()

    def _authority_path(self, record: Record, version: Version) -> Path:
        return self.folder / "statements" / f"{record.name}-{version.version}.der"

    # --- lives ----------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        algorithm: str,
        *,
        provider: str | None = None,
        protection: Protection | None = None,
        user: int | None = None,
    ) -> PublicKey:
        """Make a key. provider, protection: insist on one; refused if it cannot be given."""
        check_name(name)
        with self._lock:
            if name in self._records or name in self.damaged:
                raise KeyExists(f"There is a key {name!r}; `qmkctl keys rotate {name}` renews it.")
            record = Record(
                name=name,
                algorithm=row(algorithm).name,
                versions=[],
                provider=provider,
                protection=protection,
            )
            version = self._make(record, 1)
            record = record.replacing(version)
            with self._or_destroyed(record.name, version):
                self._commit("create", record, 1, _user(user))
            return record.public(version)

    @contextmanager
    def _or_destroyed(self, name: str, version: Version) -> Iterator[None]:
        """Where a new version does not come to be, leave nothing of it in the token."""
        try:
            yield
        except SignerError:
            known = self._records.get(name)
            came_to_be = known is not None and version in known.versions
            if isinstance(version.material, Resident) and not came_to_be:
                self.custody.destroy(version.material)
            raise

    def _make(self, record: Record, number: int) -> Version:
        """A new pair, in the token if it may and can be there, else sealed."""
        name, created_at = record.algorithm, stamp()
        provider, protection = record.provider, record.protection
        in_token = (
            provider in (None, "pkcs11")
            and protection in (None, "hsm")
            and self.custody.token is not None
            and self.custody.keeps(name)
        )
        if in_token:
            where, raw = self.custody.make_resident(name, f"qmk/{record.name}/{number}")
            assert self.custody.token is not None, "it has just made a key"
            by, by_version = "pkcs11", self.custody.token.version
            spki = row(name).spki(raw)
            material: Resident | Sealed = where
        else:
            self._refuse_others(name, provider, protection)
            maker = self.chain.of(name, provider)
            by, by_version = maker.name, maker.version
            kek = self.custody.kek()
            secret, raw = maker.generate(name)
            try:
                spki = row(name).spki(raw)
                bound = header(record.name, name, number, by, spki, created_at, kek)
                material = self.custody.seal(kek, bound, secret)
            finally:
                wipe(secret)
        return Version(
            version=number,
            state="active",
            provider=by,
            provider_version=by_version,
            spki=spki,
            created_at=created_at,
            material=material,
        )

    def _refuse_others(
        self, algorithm: str, provider: str | None, protection: Protection | None
    ) -> None:
        """Raises BadRequest where a key was to be what it would not be."""
        if provider == "pkcs11" or protection == "hsm":
            why = "the configuration names no token"
            if self.custody.token is not None:
                why = self.custody.findings.get(algorithm) or "PKCS#11 has it not"
            raise BadRequest(f"No {algorithm} key can be in the token: {why}.")
        if protection == "hsm-wrapped" and self.custody.token is None:
            raise BadRequest("Nothing is sealed by a token here: the configuration names none.")
        if protection == "software" and self.custody.token is not None:
            raise BadRequest("Everything is sealed by the token here; software would be less.")

    def rotate(
        self, name: str, *, without_root: bool = False, user: int | None = None
    ) -> tuple[PublicKey, Envelope]:
        """A new version that signs, while the old one's signatures hold; and who says so.

        The statement is signed by the old version, the new one and the root. Raises UnknownKey
        where there is no root, unless it is to be left out.
        """
        with self._lock:
            record = self.record(name)
            old = record.newest()
            if len(record.versions) >= VERSIONS_MAX:
                raise BadRequest(f"{name} has {VERSIONS_MAX} versions, which is the most.")
            number = record.versions[-1].version + 1
            version = self._make(record, number)
            with self._or_destroyed(name, version):
                statement = self._rotation(record, old, version, without_root)
                changed = record.replacing(version)
                if old.state == "active":
                    retired = msgspec.structs.replace(
                        old, state="verify-only", retired_at=version.created_at
                    )
                    changed = changed.replacing(retired)
                self._keep(statement, f"{name}-{number}-rotation")
                note = hashlib.sha256(canonical(statement)).hexdigest()
                self._commit("rotate", changed, number, _user(user), note)
            return self.public(name, number), statement

    def _rotation(self, record: Record, old: Version, new: Version, without_root: bool) -> Envelope:
        is_signed = old.state == "active"
        kind, payload = statements.encode(
            Rotation(
                key=record.name,
                algorithm=record.algorithm,
                old=statements.key_version(old.version, old.spki) if is_signed else None,
                new=statements.key_version(new.version, new.spki),
                created_at=new.created_at,
                audit_seq=self.audit.seq,
                audit_head=self.audit.head,
            )
        )
        signers = [(record, old)] if is_signed else []
        signers.append((record, new))
        if row(record.algorithm).use is not Use.SIGN:
            signers = []  # such keys sign nothing, so the root alone speaks for them
        return self._attested(kind, payload, signers, record.name, without_root)

    def _attested(
        self,
        kind: str,
        payload: bytes,
        signers: list[tuple[Record, Version]],
        about: str,
        without_root: bool,
    ) -> Envelope:
        if about != ROOT and not without_root:
            try:
                root = self.record(ROOT)
            except UnknownKey as error:
                raise UnknownKey(
                    f"There is no key {ROOT!r} to sign this: `qmkctl keys create {ROOT} "
                    f"--algorithm {DEFAULTS[ROOT]}` makes one; --without-root leaves it out."
                ) from error
            signers = [*signers, (root, root.active())]
        message = statements.pae(kind, payload)
        made = [
            (version.spki, self._sign_with(record, version, message)) for record, version in signers
        ]
        return statements.envelope(kind, payload, made)

    def _keep(self, statement: Envelope, name: str) -> None:
        write(self.folder / "statements" / f"{name}.json", canonical(statement))

    def statements(self, name: str) -> list[Envelope]:
        """What was told of a key's life, in the order of its versions."""
        self.record(name)
        found = []
        for kind in ("rotation", "revocation"):
            for path in (self.folder / "statements").glob(f"{name}-*-{kind}.json"):
                number = path.name.removeprefix(f"{name}-").removesuffix(f"-{kind}.json")
                if number.isdigit():
                    with storing(path):
                        data = path.read_bytes()
                    found.append((int(number), msgspec.json.decode(data, type=Envelope)))
        return [each for _, each in sorted(found, key=lambda pair: pair[0])]

    def revoke(
        self,
        name: str,
        reason: str,
        *,
        version: int | None = None,
        without_root: bool = False,
        user: int | None = None,
    ) -> tuple[PublicKey, Envelope]:
        """Let a version, or every one, be believed no more, and destroy its private half.

        The statement is signed by the root; where the root is revoked, by itself.
        """
        if not reason or len(reason) > REASON_CHARS_MAX:
            raise BadRequest(
                f"A revocation has a reason, of at most {REASON_CHARS_MAX} characters."
            )
        with self._lock:
            record = self.record(name)
            wanted = record.versions if version is None else [record.one(version)]
            victims = [each for each in wanted if each.state != "revoked"]
            if not victims:
                raise KeyNotActive(f"{name} was revoked before.")
            statement = self._revocation(record, victims, reason, without_root)
            changed, now = record, stamp()
            for each in victims:
                gone = msgspec.structs.replace(
                    each, state="revoked", retired_at=now, reason=reason,
                    material=Destroyed(each.protection),
                )  # fmt: skip
                changed = changed.replacing(gone)
            newest = victims[-1].version
            self._keep(statement, f"{name}-{newest}-revocation")
            note = hashlib.sha256(canonical(statement)).hexdigest()
            self._commit("revoke", changed, newest, _user(user), note)
            for each in victims:
                if isinstance(each.material, Resident):
                    self.custody.destroy(each.material)
            return self.public(name, newest), statement

    def _revocation(
        self, record: Record, victims: list[Version], reason: str, without_root: bool
    ) -> Envelope:
        kind, payload = statements.encode(
            Revocation(
                key=record.name,
                algorithm=record.algorithm,
                revoked=[statements.key_version(each.version, each.spki) for each in victims],
                reason=reason,
                created_at=stamp(),
                audit_seq=self.audit.seq,
                audit_head=self.audit.head,
            )
        )
        signers = []
        if record.name == ROOT:
            signers = [(record, each) for each in victims if each.state == "active"]
        return self._attested(kind, payload, signers, record.name, without_root)

    def rewrap(self, user: int | None = None) -> int:
        """Seal anew, under the sealing key of today, what is sealed under an older one.

        So keys that were software become hsm-wrapped once there is a token. Returns how many.
        """
        kek, count = self.custody.kek(), 0
        with self._lock:
            for name in self.names:
                record = changed = self._records[name]
                for each in record.versions:
                    if isinstance(each.material, Sealed) and each.material.kek != kek:
                        secret = self._secret(record, each)
                        try:
                            bound = header_of(record, each, kek)
                            material = self.custody.seal(kek, bound, secret)
                        finally:
                            wipe(secret)
                        changed = changed.replacing(
                            msgspec.structs.replace(each, material=material)
                        )
                        count += 1
                if changed is not record:
                    self._commit("rewrap", changed, 0, _user(user))
        return count

    def adopt(self, record: Record, user: int | None = None) -> None:
        """Take in a record that a backup held. Raises KeyExists."""
        with self._lock:
            if record.name in self._records or record.name in self.damaged:
                raise KeyExists(f"There is a key {record.name!r} already; it is left as it is.")
            self._commit("restore", record, 0, _user(user))

    def opened(self, record: Record, version: Version) -> bytearray:
        """For `backup.py` alone: a private half that is about to be sealed for elsewhere."""
        return self._secret(record, version)


def _user(user: int | None) -> int:
    return os.getuid() if user is None else user
