"""The log on the disk: the same tree as in memory, heads that never fork, files that hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.attest.conftest import TestSigner
from runtime.attest.database import NAME, Database
from runtime.attest.errors import AttestError, Forked, NotAuthentic, NotThere, Unavailable
from runtime.attest.ledger import notes, proofs, tiles
from runtime.attest.ledger.log import Leaf, Log
from runtime.attest.ledger.tree import inclusion_proof, leaf_hash, root_of, verify_consistency
from runtime.attest.ledger.tree_test import reader

ORIGIN = "qmkd.test/ledger"
LONG = "\u00e9" * 200  # of two bytes each


def leaf(number: int) -> Leaf:
    return Leaf(kind="test", about=str(number), data=b"leaf %d" % number)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "attest")
    yield opened
    opened.close()


@pytest.fixture
def log(database: Database) -> Log:
    return Log(database, ORIGIN)


@pytest.fixture(scope="module")
def verifiers(signer: TestSigner) -> list[notes.Verifier]:
    return notes.verifiers_of(signer.trust(ORIGIN))


def test_a_log_has_the_roots_of_its_leaves_however_they_came(log: Log) -> None:
    leaves = [leaf(number) for number in range(1100)]
    read = reader([each.data for each in leaves])
    at = 0
    for step in (1, 2, 253, 1, 255, 300, 288):
        log.append(leaves[at : at + step])
        at += step
        assert log.size == at
        assert log.root(at) == root_of(read, at)
    again = Log(log.database, ORIGIN)
    again.append([leaf(1100)])
    whole = reader([b"leaf %d" % number for number in range(1101)])
    assert again.root(1101) == root_of(whole, 1101)
    assert again.inclusion(700, 1101) == inclusion_proof(whole, 700, 1101)


def test_a_leaf_is_logged_once(log: Log) -> None:
    log.append([leaf(1), leaf(2), leaf(1)])
    log.append([leaf(2), leaf(3)])
    assert [each.about for each in log.leaves(0, 9)] == ["1", "2", "3"]
    assert log.find("test", "3").number == 2
    with pytest.raises(NotThere):
        log.leaf(3)
    with pytest.raises(NotThere):
        log.find("test", "4")


def test_leaves_and_heads_cannot_be_changed_or_removed(log: Log, signer: TestSigner) -> None:
    log.append([leaf(1), leaf(2)])
    log.sign_head(signer, 1)
    for statement in (
        "DELETE FROM leaf", "UPDATE leaf SET data = x'00'", "DELETE FROM head",
        "UPDATE head SET root = x'00'", "UPDATE head SET note = ''",
        "INSERT INTO leaf VALUES (7, x'00', 'a', 'b', x'00')",
    ):  # fmt: skip
        with log.database.reading() as db, pytest.raises(sqlite3.Error):
            db.execute(statement)


def test_a_checkpoint_holds_for_all_its_keys_and_no_other_log(
    log: Log, signer: TestSigner, verifiers: list[notes.Verifier]
) -> None:
    log.append([leaf(1)])
    text = log.sign_head(signer, 1)
    assert text == log.sign_head(signer, 2) == log.checkpoint()  # signed once
    assert notes.verify_note(text, verifiers).root == leaf_hash(leaf(1).data)
    assert text.count(notes.DASH) == 2
    other = [msgspec.structs.replace(each, name="another.log") for each in verifiers]
    stranger = notes.verifiers_of(TestSigner().trust(ORIGIN))
    half = text[: text.rindex(notes.DASH)]
    for judge, said in ((other, text), (stranger, text), (verifiers, half), ([], text)):
        with pytest.raises(NotAuthentic):
            notes.verify_note(said, judge)


def test_a_bit_flipped_at_any_position_of_a_checkpoint_is_refused(
    log: Log, signer: TestSigner, verifiers: list[notes.Verifier]
) -> None:
    log.append([leaf(1)])
    whole = log.sign_head(signer, 1).encode()
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises((NotAuthentic, UnicodeDecodeError)):
            notes.verify_note(changed.decode(), verifiers)
    for said in (whole + b"\n", whole[:-1], b"\n" + whole, b""):
        with pytest.raises(NotAuthentic):
            notes.verify_note(said.decode(), verifiers)


def test_numbers_and_names_that_are_too_long_are_refused_with_a_sentence(
    seven: list[str], verifiers: list[notes.Verifier]
) -> None:
    head, _, lines = proofs.parse(seven[0]).checkpoint.partition("\n\n")
    origin, _, root = head.split("\n")
    for text in (f"{origin}\n{'9' * 5000}\n{root}", f"{LONG}\n7\n{root}"):
        with pytest.raises(NotAuthentic):
            notes.verify_note(f"{text}\n\n{lines}", verifiers[1:])
    with pytest.raises(NotAuthentic):
        proofs.parse(seven[0].replace("index 0", f"index {'9' * 5000}"))


def test_a_witness_counts_once_and_the_log_is_no_witness_of_itself(
    log: Log, signer: TestSigner, verifiers: list[notes.Verifier]
) -> None:
    log.append([leaf(1)])
    text = log.sign_head(signer, 1)
    own = notes.from_vkey(verifiers[0].vkey)
    with pytest.raises(NotAuthentic, match="1 witnesses"):
        notes.verify_note(text, verifiers, [own], quorum=1)
    key = signer.trust().named("manifest-classical")[0]
    other = notes.Verifier(name="w.example", kind=notes.ED25519, key=key)
    body = notes.parse(text).checkpoint.body.encode()
    signature = signer.sign(key.name, body).signature
    text += str(notes.NoteLine(name=other.name, key_id=other.key_id, signature=signature))
    notes.verify_note(text, verifiers, [other], quorum=1)
    with pytest.raises(NotAuthentic, match="2 witnesses"):
        notes.verify_note(text, verifiers, [other, other], quorum=2)


@settings(max_examples=150, deadline=None)
@given(number=st.integers(0, 6), at=st.integers(0), other=st.integers(0, 127))
def test_any_change_of_one_byte_of_a_proof_is_refused(
    number: int, at: int, other: int, seven: list[str], verifiers: list[notes.Verifier]
) -> None:
    whole = seven[number].encode()
    at %= len(whole)
    if whole[at] == other:
        return
    changed = whole[:at] + bytes([other]) + whole[at + 1 :]
    with pytest.raises((NotAuthentic, UnicodeDecodeError)):
        proofs.verify(proofs.parse(changed.decode()), verifiers)


@pytest.fixture(scope="module")
def seven(signer: TestSigner, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Proofs of all seven leaves of a log."""
    database = Database(tmp_path_factory.mktemp("seven"))
    log = Log(database, ORIGIN)
    log.append([leaf(number) for number in range(7)])
    log.sign_head(signer, 1)
    found = [proofs.prove(log, number).text for number in range(7)]
    database.close()
    return found


def test_a_proof_proves_its_leaf_and_no_other(
    seven: list[str], verifiers: list[notes.Verifier]
) -> None:
    for number, text in enumerate(seven):
        proof = proofs.parse(text)
        found, checkpoint = proofs.verify(proof, verifiers)
        assert (found, checkpoint.size) == (leaf(number).data, 7)
        moved = msgspec.structs.replace(proof, number=(number + 1) % 7)
        for wrong in (moved, msgspec.structs.replace(proof, leaf=b"other")):
            with pytest.raises(NotAuthentic):
                proofs.verify(wrong, verifiers)
        bare = msgspec.structs.replace(proof, leaf=None)
        assert proofs.verify(bare, verifiers, leaf=found)[0] == found
        with pytest.raises(NotAuthentic):
            proofs.verify(bare, verifiers)


def test_a_bit_flipped_at_any_position_of_a_proof_is_refused(
    seven: list[str], verifiers: list[notes.Verifier]
) -> None:
    whole = seven[3].encode()
    end = whole.index(b"\n\n") + 80  # the checkpoint's own positions are tried above
    for at in range(end):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises((NotAuthentic, UnicodeDecodeError)):
            proofs.verify(proofs.parse(changed.decode()), verifiers)


def test_files_of_the_log_hold_all_of_it_and_show_what_was_changed(
    log: Log, signer: TestSigner, tmp_path: Path
) -> None:
    folder, old = tmp_path / "public", 0
    for size in (3, 256, 300, 600):
        log.append([leaf(number) for number in range(old, size)])
        tiles.publish(log, folder, old, log.sign_head(signer, 1), size)
        assert root_of(tiles.reader(folder, size), size) == log.root(size)
        hashes = tiles.leaf_hashes(folder, size)
        assert hashes == [leaf_hash(leaf(number).data) for number in range(size)]
        if old:
            proof = log.consistency(old, size)
            verify_consistency(old, size, proof, log.root(old), log.root(size))
        old = size
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "checkpoint", "tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/1",
        "tile/1/000.p/2", "tile/entries/000", "tile/entries/001", "tile/entries/002.p/88",
    }  # fmt: skip
    (folder / "tile/entries/001").write_bytes(b"\x00")
    with pytest.raises(NotAuthentic):
        tiles.leaf_hashes(folder, 600)


def test_tiles_are_named_as_others_look_for_them() -> None:
    # The examples of C2SP tlog-tiles.
    assert tiles.tile_name(0, 1234067) == "tile/0/x001/x234/067"
    assert tiles.tile_name("entries", 5, 17) == "tile/entries/005.p/17"


def test_a_log_whose_leaves_were_exchanged_signs_no_more(log: Log, signer: TestSigner) -> None:
    log.append([leaf(1), leaf(2)])
    log.sign_head(signer, 1)
    path = log.database.folder / NAME
    with sqlite3.connect(path) as db:
        db.execute("DROP TRIGGER leaf_is_not_changed")
        db.execute("UPDATE leaf SET hash = zeroblob(32) WHERE number = 0")
    db.close()
    log.append([leaf(3)])
    with pytest.raises(Forked):
        log.sign_head(signer, 1)
    with pytest.raises(NotThere):
        log.checkpoint(3)


def test_a_signer_that_is_gone_leaves_a_head_to_be_signed_later(log: Log) -> None:
    signer = TestSigner()
    log.append([leaf(1)])
    signer.down = Unavailable("away")
    with pytest.raises(Unavailable):
        log.sign_head(signer, 1)
    signer.down = None
    log.append([leaf(2)])
    assert notes.parse(log.sign_head(signer, 1)).checkpoint.size == 2


def test_two_processes_do_not_keep_one_log(log: Log) -> None:
    with pytest.raises(Unavailable, match="another process"):
        Database(log.database.folder)
    beside = Log(Database(log.database.folder, write=False), ORIGIN)
    log.append([leaf(1)])
    assert beside.size == 1
    beside.database.close()


def test_a_verifier_key_is_read_as_it_is_written(verifiers: list[notes.Verifier]) -> None:
    for each in verifiers:
        read = notes.from_vkey(each.vkey)
        assert (read.name, read.kind, read.key_id) == (each.name, each.kind, each.key_id)
        assert read.key.spki == each.key.spki
    for wrong in ("", "a+b", "a+00000000+AQ==", verifiers[0].vkey.replace("qmkd", "pmkd")):
        with pytest.raises(AttestError):
            notes.from_vkey(wrong)


def test_a_key_that_others_published_is_read() -> None:
    # The example of golang.org/x/mod/sumdb/note.
    key = notes.from_vkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    assert key.kind == notes.ED25519
