"""Lives of keys, in software and in tokens of SoftHSM2."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from runtime.signer.algorithms import algorithm
from runtime.signer.api import MESSAGE_BYTES_MAX, Sign
from runtime.signer.conftest import MakeToken
from runtime.signer.errors import (
    BadRequest,
    KeyExists,
    KeyNotActive,
    NotBackedUp,
    PinWrong,
    RecordsDamaged,
    SignerError,
    StorageFailed,
    TokenAbsent,
    TokenLeaks,
    UnknownAlgorithm,
    UnknownKey,
    Unopened,
)
from runtime.signer.keys import backup as backup_module
from runtime.signer.keys import files, statements
from runtime.signer.keys.backup import backup, restore
from runtime.signer.keys.records import Record, Resident, Sealed, header_of
from runtime.signer.keys.store import Keys
from runtime.signer.providers.chain import Chain
from runtime.signer.providers.token import Token

CHAIN = Chain()
PASSPHRASE = b"correct horse battery staple"
needs_liboqs = pytest.mark.skipif("liboqs" in CHAIN.missing, reason=str(CHAIN.missing))


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    made = Keys(tmp_path / "state", chain=CHAIN)
    yield made
    made.close()


def reopen(keys: Keys, token: Token | None = None) -> Keys:
    keys.close()
    return Keys(keys.folder, token, CHAIN)


def holds(keys: Keys, name: str, message: bytes, signature: bytes, version: int) -> bool:
    """By a public key alone, as anybody else would look."""
    public = keys.public(name, version)
    row = algorithm(public.algorithm)
    raw = row.raw(public.spki_der)
    return CHAIN.of(row.name).verify(row.name, raw, message, signature)


def test_the_store_is_what_makers_of_records_are_handed(keys: Keys) -> None:
    handed: Sign = keys
    keys.create("a-key", "Ed25519")
    made = handed.sign("a-key", b"message")
    assert (made.key, made.version, made.algorithm) == ("a-key", 1, "Ed25519")
    assert holds(keys, "a-key", b"message", made.signature, 1)


@pytest.mark.parametrize("name", ["Ed25519", "ES256", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"])
def test_without_a_token_every_key_is_software_and_every_record_says_so(
    name: str, keys: Keys
) -> None:
    made = keys.create("a-key", name)
    assert made.protection == "software"
    signed = keys.sign("a-key", b"message")
    assert signed.protection == "software"
    assert signed.provider == "cryptography"
    assert signed.provider_version.startswith("50.")
    assert holds(keys, "a-key", b"message", signed.signature, 1)
    with pytest.raises(BadRequest, match="no token"):
        keys.create("other", name, protection="hsm")
    with pytest.raises(BadRequest):
        keys.create("other", name, protection="hsm-wrapped")


def test_with_a_token_keys_are_in_it_or_sealed_by_it_and_say_which(
    tmp_path: Path, make_token: MakeToken
) -> None:
    token = make_token()
    keys = Keys(tmp_path / "state", token, CHAIN)
    expected = {
        "Ed25519": "hsm",
        "ES256": "hsm",
        "ML-DSA-65": "hsm-wrapped",
        "X-Wing": "hsm-wrapped",
    }
    for name, protection in expected.items():
        assert keys.create(name.lower(), name).protection == protection
    assert keys.create("sealed", "Ed25519", protection="hsm-wrapped").protection == "hsm-wrapped"
    for name in ("ed25519", "es256", "ml-dsa-65", "sealed"):
        signed = keys.sign(name, b"message")
        assert holds(keys, name, b"message", signed.signature, 1)
        assert ("SoftHSM" in signed.provider_version) == (signed.protection == "hsm")
    with pytest.raises(BadRequest, match="software would be less"):
        keys.create("other", "Ed25519", protection="software")
    with pytest.raises(BadRequest, match="not offered"):
        keys.create("other", "ML-DSA-65", protection="hsm")
    # New versions keep to what their key was made with.
    assert keys.rotate("sealed", without_root=True)[0].protection == "hsm-wrapped"
    assert keys.rotate("ed25519", without_root=True)[0].protection == "hsm"
    again = reopen(keys, Token(token.config))
    assert again.verify("ed25519", b"m", again.sign("ed25519", b"m").signature)
    again.close()


def test_a_token_that_leaks_seals_nothing_and_holds_nothing(
    tmp_path: Path, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make_token()
    keys = Keys(tmp_path / "state", token, CHAIN)
    keys.create("a-key", "Ed25519")
    keys.create("sealed", "ML-DSA-44")
    keys.close()
    monkeypatch.setattr("runtime.signer.providers.probe.probe", lambda token, what: "it leaks")
    leaky = Keys(keys.folder, Token(token.config), CHAIN)
    for name in ("a-key", "sealed"):
        with pytest.raises(TokenLeaks, match="it leaks"):
            leaky.sign(name, b"message")
    with pytest.raises(TokenLeaks):
        leaky.create("other", "Ed25519")
    leaky.close()


def test_another_token_of_the_same_label_is_tried_before_it_is_used(
    tmp_path: Path, make_token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = make_token()
    keys = Keys(tmp_path / "state", token, CHAIN)
    keys.create("a-key", "Ed25519")
    tried = []
    monkeypatch.setattr(
        "runtime.signer.providers.probe.probe", lambda token, what: tried.append(what)
    )
    keys.create("b-key", "Ed25519")
    assert tried == [], "the same token is not tried again"
    token.serial = "another"
    keys.create("c-key", "Ed25519")
    assert "Ed25519" in tried
    keys.close()


def test_a_token_that_is_gone_or_locked_stops_signing_with_a_name_and_nothing_falls_back(
    tmp_path: Path, make_token: MakeToken
) -> None:
    token = make_token()
    keys = Keys(tmp_path / "state", token, CHAIN)
    keys.create("a-key", "ML-DSA-44")
    gone = msgspec.structs.replace(token.config, label="gone")
    for config, error in ((gone, TokenAbsent), (token.config, PinWrong)):
        if error is PinWrong:
            Path(str(token.config.pin_file)).write_text("9999")
        keys = reopen(keys, Token(config))
        with pytest.raises(error) as refusal:
            keys.sign("a-key", b"message")
        assert refusal.value.retryable
        with pytest.raises(error):
            keys.create("other", "ML-DSA-44")
        assert keys.names == ["a-key"]
        assert keys.audit.seq == 1
    without = reopen(keys)
    with pytest.raises(TokenAbsent):
        without.sign("a-key", b"message")
    without.close()


def test_what_a_key_is_for_is_kept_apart(keys: Keys) -> None:
    keys.create("signs", "Ed25519")
    keys.create("opens", "X-Wing")
    raw = algorithm("X-Wing").raw(keys.public("opens").spki_der)
    sealed = CHAIN.of("X-Wing").seal("X-Wing", raw, b"content", b"label")
    assert keys.unseal("opens", sealed, b"label") == b"content"
    with pytest.raises(Unopened):
        keys.unseal("opens", sealed, b"lable")
    with pytest.raises(UnknownAlgorithm):
        keys.sign("opens", b"message")
    with pytest.raises(UnknownAlgorithm):
        keys.unseal("signs", sealed)
    assert [each.event for each in keys.audit.entries()] == ["create", "create", "unseal", "unseal"]


def test_names_sizes_and_doubles_are_refused(keys: Keys) -> None:
    keys.create("a-key", "Ed25519")
    for wrong in ("", "A", "../x", "a/b", "a" * 64, "-a", "a\n"):
        with pytest.raises(BadRequest):
            keys.create(wrong, "Ed25519")
    with pytest.raises(KeyExists):
        keys.create("a-key", "Ed25519")
    with pytest.raises(UnknownKey):
        keys.sign("b-key", b"")
    with pytest.raises(UnknownKey):
        keys.public("a-key", 2)
    with pytest.raises(BadRequest):
        keys.sign("a-key", bytes(MESSAGE_BYTES_MAX + 1))
    keys.sign("a-key", bytes(MESSAGE_BYTES_MAX))


def test_every_use_is_in_the_log_with_the_digest_of_what_was_signed(keys: Keys) -> None:
    keys.create("a-key", "Ed25519", user=7)
    keys.sign("a-key", b"message", user=8)
    entry = keys.audit.entries()[-1]
    assert (entry.event, entry.key, entry.user) == ("sign", "a-key", 8)
    assert entry.digest == hashlib.sha256(b"message").hexdigest()


def test_nothing_is_signed_that_the_log_cannot_hold(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.create("a-key", "Ed25519")

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for use in (
        lambda: keys.sign("a-key", b"message"),
        lambda: keys.rotate("a-key", without_root=True),
        lambda: keys.revoke("a-key", "test", without_root=True),
        lambda: keys.create("b-key", "Ed25519"),
    ):
        with pytest.raises(StorageFailed):
            use()
    monkeypatch.undo()
    assert keys.names == ["a-key"]
    assert keys.public("a-key").state == "active"
    again = reopen(keys)
    assert again.names == ["a-key"]
    assert not again.damaged
    assert again.sign("a-key", b"message").version == 1
    again.close()


@needs_liboqs
def test_a_rotation_is_told_by_the_old_key_the_new_one_and_the_root(keys: Keys) -> None:
    keys.create("root", "SPHINCS+")
    keys.create("a-key", "ML-DSA-44")
    before = keys.sign("a-key", b"message")
    public, statement = keys.rotate("a-key")
    assert (public.version, public.state) == (2, "active")
    assert keys.public("a-key", 1).state == "verify-only"
    assert holds(keys, "a-key", b"message", before.signature, 1)
    assert keys.sign("a-key", b"message").version == 2
    signers = [(each.key, each.version, each.algorithm) for each in statement.signatures]
    root = ("root", 1, "SLH-DSA-SHA2-128s")
    assert signers == [("a-key", 1, "ML-DSA-44"), ("a-key", 2, "ML-DSA-44"), root]
    message = statements.pae(statement.payloadType, statement.content())
    for each in statement.signatures:
        assert holds(keys, each.key, message, base64.b64decode(each.sig), each.version)
        spki = keys.public(each.key, each.version).spki_der
        assert each.keyid == hashlib.sha256(spki).hexdigest()
    told = statements.rotation_of(statement)
    assert told.old is not None
    assert told.old.spki == keys.public("a-key", 1).spki_der
    assert told.new.spki == public.spki_der
    assert keys.audit.entries(told.audit_seq, 1)[0].hash == told.audit_head
    assert keys.statements("a-key") == [statement]


def test_nobody_has_a_statement_on_keys_signed_as_if_it_were_a_message(keys: Keys) -> None:
    keys.create("a-key", "Ed25519")
    _, statement = keys.rotate("a-key", without_root=True)
    for kind in (statements.ROTATION, statements.REVOCATION):
        for payload in (b"", statement.content(), b"{}"):
            with pytest.raises(BadRequest, match="alone"):
                keys.sign("a-key", statements.pae(kind, payload))
    keys.sign("a-key", statements.pae("application/vnd.in-toto+json", statement.content()))


def test_without_a_root_a_rotation_is_refused_unless_that_is_wanted(keys: Keys) -> None:
    keys.create("a-key", "Ed25519")
    with pytest.raises(UnknownKey, match="--without-root"):
        keys.rotate("a-key")
    assert keys.public("a-key").version == 1
    _, statement = keys.rotate("a-key", without_root=True)
    assert [each.version for each in statement.signatures] == [1, 2]


def test_what_is_revoked_is_destroyed_and_a_new_version_does_not_speak_for_it(
    tmp_path: Path, make_token: MakeToken
) -> None:
    token = make_token()
    keys = Keys(tmp_path / "state", token, CHAIN)
    keys.create("a-key", "Ed25519")
    keys.create("sealed", "ML-DSA-44")
    material = keys.record("a-key").versions[0].material
    assert isinstance(material, Resident)
    for name in ("a-key", "sealed"):
        public, statement = keys.revoke(name, "lost laptop", without_root=True)
        assert public.state == "revoked"
        told = statements.revocation_of(statement)
        assert (told.reason, [each.version for each in told.revoked]) == ("lost laptop", [1])
        with pytest.raises(KeyNotActive, match="rotate"):
            keys.sign(name, b"message")
        with pytest.raises(KeyNotActive):
            keys.revoke(name, "again", without_root=True)
    assert not token.holds(material.identity)
    assert b"ciphertext" not in (keys.folder / "records" / "sealed.json").read_bytes()
    _, statement = keys.rotate("a-key", without_root=True)
    assert [each.version for each in statement.signatures] == [2]
    assert statements.rotation_of(statement).old is None
    keys.close()


def test_a_record_that_was_changed_or_put_there_is_not_used(keys: Keys) -> None:
    keys.create("a-key", "Ed25519")
    keys.create("b-key", "Ed25519")
    keys.rotate("a-key", without_root=True)
    folder = keys.folder / "records"
    original = (folder / "a-key.json").read_bytes()
    (folder / "a-key.json").write_bytes(original.replace(b"verify-only", b"active"))
    (folder / "c-key.json").write_bytes((folder / "b-key.json").read_bytes())
    again = reopen(keys)
    assert set(again.damaged) == {"a-key", "c-key"}
    with pytest.raises(RecordsDamaged):
        again.sign("a-key", b"")
    with pytest.raises(KeyExists):
        again.create("a-key", "Ed25519")
    again.sign("b-key", b"")
    again.close()


def test_a_sealed_key_opens_only_where_it_belongs(keys: Keys) -> None:
    """Whoever can write everything, the log too, still gains no key under another name."""
    keys.create("a-key", "Ed25519")
    keys.create("b-key", "Ed25519")
    first, second = keys.record("a-key"), keys.record("b-key")
    moved = msgspec.structs.replace(first.versions[0], material=second.versions[0].material)
    for changed in (
        moved,
        msgspec.structs.replace(moved, spki=second.versions[0].spki),
        msgspec.structs.replace(first.versions[0], created_at="2020-01-01T00:00:00.000000Z"),
        msgspec.structs.replace(first.versions[0], provider="liboqs"),
    ):
        keys._records["a-key"] = first.replacing(changed)
        with pytest.raises((RecordsDamaged, SignerError)):
            keys.sign("a-key", b"message")


def test_a_crash_between_any_two_steps_of_a_change_leaves_the_old_or_the_new(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.create("a-key", "Ed25519")

    class Crash(BaseException):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    for place, version in (
        ("runtime.signer.keys.store.prepare", 1),
        ("runtime.signer.keys.audit.Audit.append", 1),
        ("runtime.signer.keys.audit.Audit.flush", 2),
        ("runtime.signer.keys.store.commit", 3),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, crash)
            with pytest.raises(Crash):
                keys.rotate("a-key", without_root=True)
        keys = reopen(keys)
        assert not keys.damaged, place
        assert keys.public("a-key").version == version, place
        made = keys.sign("a-key", b"message")
        assert holds(keys, "a-key", b"message", made.signature, version)
        assert not list((keys.folder / "records").glob("*.new"))
    keys.close()


def test_a_folder_belongs_to_one_signer(keys: Keys) -> None:
    with pytest.raises(StorageFailed, match="in use"):
        Keys(keys.folder, chain=CHAIN)


def test_no_file_holds_a_private_key(tmp_path: Path, make_token: MakeToken) -> None:
    keys = Keys(tmp_path / "state", make_token(), CHAIN)
    found = []
    for name in ("ML-DSA-44", "ML-DSA-65", "X-Wing", "ML-KEM-768"):
        keys.create(name.lower(), name)
        record = keys.record(name.lower())
        found.append(bytes(keys.opened(record, record.versions[0])))
    keys.sign("ml-dsa-65", b"message")
    (tmp_path / "backup").write_bytes(backup(keys, PASSPHRASE))
    for path in [*keys.folder.rglob("*"), tmp_path / "backup"]:
        if path.is_file():
            data = path.read_bytes()
            for secret in found:
                forms = (secret, secret.hex().encode(), base64.b64encode(secret)[:-3])
                assert not any(form in data for form in forms), path
            assert path.stat().st_mode & 0o077 == 0 or path.parent == tmp_path, path
    keys.close()


def test_a_backup_brings_sealed_keys_to_another_token_and_names_those_that_stay(
    tmp_path: Path, make_token: MakeToken
) -> None:
    first = Keys(tmp_path / "first", make_token(), CHAIN)
    first.create("sealed", "ML-DSA-44")
    first.create("resident", "Ed25519")
    first.rotate("sealed", without_root=True)
    signed = first.sign("sealed", b"message"), first.sign("resident", b"message")
    data = backup(first, PASSPHRASE)
    second = Keys(tmp_path / "second", make_token(), CHAIN)
    done = restore(second, data, PASSPHRASE)
    assert (done.names, done.skipped, done.resident) == (["resident", "sealed"], [], ["resident"])
    for before in signed:
        assert holds(second, before.key, b"message", before.signature, before.version)
    after = second.sign("sealed", b"message")
    assert (after.version, after.protection) == (2, "hsm-wrapped")
    assert holds(first, "sealed", b"message", after.signature, 2)
    with pytest.raises(KeyNotActive, match="lost token"):
        second.sign("resident", b"message")
    assert second.rotate("resident", without_root=True)[0].protection == "hsm"
    again = restore(second, data, PASSPHRASE)
    assert again.skipped == ["resident", "sealed"]
    first_kek, second_kek = (
        material.kek
        for each in (first, second)
        if isinstance(material := each.record("sealed").versions[0].material, Sealed)
    )
    assert first_kek != second_kek
    first.close()
    second.close()


def test_a_backup_that_was_changed_or_is_of_another_passphrase_brings_nothing(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_module, "SCRYPT_N", 2)  # its cost is not what is tried here
    keys.create("a-key", "Ed25519")
    with pytest.raises(BadRequest):
        backup(keys, b"too short")
    data = backup(keys, PASSPHRASE)
    other = Keys(tmp_path / "other", chain=CHAIN)
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(NotBackedUp):
            restore(other, bytes(changed), PASSPHRASE)
    with pytest.raises(NotBackedUp):
        restore(other, data, PASSPHRASE + b"!")
    assert other.names == []
    greedy = msgspec.json.decode(data, type=backup_module.Backup)
    much = msgspec.structs.replace(greedy.kdf, n=2**30)
    with pytest.raises(NotBackedUp, match="memory"):
        restore(other, msgspec.json.encode(msgspec.structs.replace(greedy, kdf=much)), PASSPHRASE)
    other.close()


def test_what_was_software_becomes_wrapped_once_there_is_a_token(
    keys: Keys, make_token: MakeToken
) -> None:
    keys.create("a-key", "ML-DSA-44")
    keys.create("b-key", "Ed25519")
    token = make_token()
    keys = reopen(keys, token)
    assert keys.public("a-key").protection == "software"
    assert keys.rewrap() == 2
    assert {keys.public(name).protection for name in keys.names} == {"hsm-wrapped"}
    assert keys.rewrap() == 0
    again = reopen(keys, Token(token.config))
    for name in again.names:
        assert holds(again, name, b"m", again.sign(name, b"m").signature, 1)
    again.close()


def test_a_half_written_file_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFailed, match="No space"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_headers_of_versions_differ_in_whatever_must_not_be_swapped(keys: Keys) -> None:
    keys.create("a-key", "Ed25519")
    record: Record = keys.record("a-key")
    other = msgspec.structs.replace(record, name="b-key")
    renamed = msgspec.structs.replace(record, algorithm="ES256")
    version = record.versions[0]
    later = msgspec.structs.replace(version, version=2)
    found = {
        header_of(record, version, "kek"),
        header_of(other, version, "kek"),
        header_of(renamed, version, "kek"),
        header_of(record, later, "kek"),
        header_of(record, version, "other"),
    }
    assert len(found) == 5
    assert secrets.compare_digest(
        header_of(record, version, "kek"), header_of(record, version, "kek")
    )
