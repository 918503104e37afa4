"""Carries sealed keys to another token, or to the same installation after its token is lost.

A backup is one file: each private half sealed by AES-256-GCM under a key that scrypt (RFC 7914)
makes of a passphrase, bound to the same header as in its record. Of keys that were made in the
token it has the public halves alone, because a token that keeps its keys gives none out: after a
restore what they signed still holds, and rotating them makes new ones, with the root's signature.
"""

from __future__ import annotations

import os
import secrets

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from msgspec import Struct

from runtime.signer.algorithms import algorithm as row
from runtime.signer.api import State
from runtime.signer.errors import BadRequest, KeyExists, NotBackedUp
from runtime.signer.keys.records import (
    Destroyed,
    Record,
    Resident,
    Sealed,
    canonical,
    header_of,
    stamp,
)
from runtime.signer.keys.store import Keys
from runtime.signer.providers.base import wipe

FORMAT = "qmk-key-backup/1"
PASSPHRASE_BYTES_MIN = 16
# 128 MiB and about half a second: what OWASP's cheat sheet of 2023 names for passwords.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**17, 8, 1


class Kdf(Struct, frozen=True, kw_only=True):
    """scrypt's parameters. Others than ours are read up to a bound, so that they may be raised."""

    salt: bytes
    n: int = SCRYPT_N
    r: int = SCRYPT_R
    p: int = SCRYPT_P


class Backup(Struct, frozen=True, kw_only=True):
    """records: of all keys, sealed private halves under `kdf`'s key.

    resident: names of keys whose active version is in the token and not here. Everything but the
    private halves is in clear; `seal` authenticates all of it.
    """

    created_at: str
    kdf: Kdf
    records: list[Record]
    resident: list[str]
    audit_seq: int
    audit_head: str
    seal: Sealed | None = None
    format: str = FORMAT


class Restored(Struct, frozen=True, kw_only=True):
    """names: what was taken in. skipped: what was there already. resident: to be rotated now."""

    names: list[str]
    skipped: list[str]
    resident: list[str]


_KEK = "backup:"


def backup(keys: Keys, passphrase: bytes, user: int | None = None) -> bytes:
    """The file. Raises BadRequest: too short a passphrase."""
    if len(passphrase) < PASSPHRASE_BYTES_MIN:
        raise BadRequest(f"A passphrase has at least {PASSPHRASE_BYTES_MIN} bytes.")
    kdf = Kdf(salt=secrets.token_bytes(16))
    key = _derive(passphrase, kdf)
    try:
        records = [keys.record(name) for name in keys.names]
        resident = [each.name for each in records if isinstance(each.newest().material, Resident)]
        carried = [_carried(keys, each, key) for each in records]
        entry = keys.audit.append("backup", _or_own(user), note=",".join(keys.names))
        keys.audit.flush(entry.seq)
        bare = Backup(
            created_at=stamp(),
            kdf=kdf,
            records=carried,
            resident=resident,
            audit_seq=entry.seq,
            audit_head=entry.hash,
        )
        iv = secrets.token_bytes(12)
        seal = Sealed(_KEK, iv, AESGCM(key).encrypt(iv, b"", canonical(bare)))
        return canonical(msgspec.structs.replace(bare, seal=seal))
    finally:
        wipe(key)


def _carried(keys: Keys, record: Record, key: bytearray) -> Record:
    """A record whose sealed versions are under the backup's key; the token's are public alone."""
    versions = []
    for version in record.versions:
        if isinstance(version.material, Sealed):
            secret = keys.opened(record, version)
            try:
                iv = secrets.token_bytes(12)
                bound = header_of(record, version, _KEK)
                material = Sealed(_KEK, iv, AESGCM(key).encrypt(iv, secret, bound))
            finally:
                wipe(secret)
            versions.append(msgspec.structs.replace(version, material=material))
        elif isinstance(version.material, Resident):
            state: State = "verify-only" if version.state == "active" else version.state
            material_gone = Destroyed(version.protection)
            versions.append(msgspec.structs.replace(version, material=material_gone, state=state))
        else:
            versions.append(version)
    return msgspec.structs.replace(record, versions=versions)


def restore(keys: Keys, data: bytes, passphrase: bytes, user: int | None = None) -> Restored:
    """Take in a backup's keys, sealed under this installation's own key from now on.

    Keys that are there already are left as they are. Raises NotBackedUp, and then nothing is taken.
    """
    try:
        found = msgspec.json.decode(data, type=Backup)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotBackedUp(f"This is no backup of keys: {error}.") from error
    if found.format != FORMAT or found.seal is None:
        raise NotBackedUp(f"This is no backup of the kind {FORMAT}.")
    if found.kdf.n > 4 * SCRYPT_N or found.kdf.r != SCRYPT_R or found.kdf.p != SCRYPT_P:
        raise NotBackedUp("The backup asks for more memory than is given.")
    key = _derive(passphrase, found.kdf)
    try:
        bare = canonical(msgspec.structs.replace(found, seal=None))
        AESGCM(key).decrypt(found.seal.iv, found.seal.ciphertext, bare)
        taken = [(record, _taken(keys, record, key)) for record in found.records]
    except (InvalidTag, ValueError) as error:
        raise NotBackedUp("The passphrase is another, or the backup was changed.") from error
    finally:
        wipe(key)
    names, skipped = [], []
    for record, adopted in taken:
        try:
            keys.adopt(adopted, user)
            names.append(record.name)
        except KeyExists:
            skipped.append(record.name)
    return Restored(names=names, skipped=skipped, resident=found.resident)


def _taken(keys: Keys, record: Record, key: bytearray) -> Record:
    """A record whose private halves are sealed here, each shown to be that of its public one."""
    kek, versions = keys.custody.kek(), []
    for version in record.versions:
        if isinstance(version.material, Sealed):
            sealed = version.material
            secret = bytearray(len(sealed.ciphertext) - 16)
            try:
                bound = header_of(record, version, _KEK)
                AESGCM(key).decrypt_into(sealed.iv, sealed.ciphertext, bound, secret)
                material = keys.custody.seal(kek, header_of(record, version, kek), secret)
            finally:
                wipe(secret)
            versions.append(msgspec.structs.replace(version, material=material))
        else:
            versions.append(version)
        row(record.algorithm).raw(version.spki)
    return msgspec.structs.replace(record, versions=versions)


def _derive(passphrase: bytes, kdf: Kdf) -> bytearray:
    key = bytearray(32)
    Scrypt(salt=kdf.salt, length=32, n=kdf.n, r=kdf.r, p=kdf.p).derive_into(passphrase, key)
    return key


def _or_own(user: int | None) -> int:
    return os.getuid() if user is None else user
