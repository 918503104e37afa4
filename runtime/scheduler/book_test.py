"""Decisions in the book: chained, signed, found again, made again; and a world that misbehaves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from policy.rules import SOURCE, Rules
from runtime.attest.conftest import TestSigner
from runtime.scheduler.book import Book, Kept
from runtime.scheduler.calibrations import Snapshot
from runtime.scheduler.conftest import NOW, calibration, entry, job
from runtime.scheduler.errors import BadInput, Damaged, NotReplayed, Unknown
from runtime.scheduler.jobs import Reservation, Scoring, Sla, State
from runtime.scheduler.records import decode, encode, replay
from runtime.storage.database import Database
from tests.postgres import running_postgres

POLICIES = {SOURCE: Rules()}


def filled(database: Database, folder: Path | None) -> Book:
    book = Book(database, folder)
    for each in (entry("good"), entry("better", 0.002), entry("poor", 0.03)):
        assert each.snapshot is not None
        book.catalogue.put(each.backend, each.snapshot.calibration)
    return book


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with Database(str(tmp_path / "decisions.db")) as database:
        yield filled(database, tmp_path / "decisions")


def decided(book: Book, number: int = 1, *, later_s: float = 0.0) -> Kept:
    states = {"better": State(waiting_s=300.0, waiting_high_s=500.0, utilisation=0.4)}
    now = NOW + timedelta(seconds=later_s)
    (kept,) = book.decide([job(number)], states, Rules(), Scoring(), now)
    return kept


def test_decisions_are_kept_in_a_chain_and_come_out_the_same_when_they_are_made_again(
    book: Book, tmp_path: Path
) -> None:
    made = [decided(book, number, later_s=number) for number in range(5)]
    assert book.verify(None) == (5, made[-1].digest, 0)
    for each in made:
        assert (tmp_path / "decisions" / f"{each.digest}.json").read_bytes() == encode(
            each.decision
        )
        for name in (
            str(each.decision.number),
            each.digest,
            each.decision.decision_id,
            each.decision.job.job_id,
        ):
            assert book.find(name) == each
        done = book.replay(each.decision, POLICIES)
        assert done.digest == each.digest
        assert done.asked_again
    assert [each.decision.number for each in book.last(2)] == [5, 4]


def test_postgresql_keeps_the_same_book() -> None:
    with running_postgres() as url, Database(url) as database:
        book = filled(database, None)
        made = [decided(book, number, later_s=number) for number in range(2)]
        assert book.verify(None) == (2, made[-1].digest, 0)
        assert book.find(made[0].decision.decision_id) == made[0]
        assert book.find(made[0].decision.job.job_id) == made[0]
        assert book.replay(made[0].decision, POLICIES).digest == made[0].digest
        rows = database.execute(
            "SELECT chosen_backend, score, jsonb_array_length(reasons) FROM scheduler_decisions "
            "ORDER BY number"
        )
        first = made[0].decision
        assert rows[0] == (first.chosen_backend, first.score, len(first.candidates))
        with Database(url) as other:
            assert filled(other, None).verify(None)[0] == 2


def test_a_replay_finds_whatever_was_changed(book: Book) -> None:
    decision = decided(book).decision
    snapshots = {
        each.calibration: book.catalogue.snapshot(each.calibration) for each in decision.offers
    }
    worse = msgspec.structs.replace(decision, score=0.5)
    with pytest.raises(NotReplayed, match="otherwise"):
        replay(worse, snapshots, POLICIES)
    offer = decision.offers[0]
    other = msgspec.structs.replace(
        offer,
        alternatives=tuple(
            msgspec.structs.replace(each, fidelity_low=0.999) for each in offer.alternatives
        ),
    )
    advised = msgspec.structs.replace(decision, offers=(other, *decision.offers[1:]))
    with pytest.raises(NotReplayed, match="advice"):
        replay(advised, snapshots, POLICIES)
    changed = {**snapshots, offer.calibration: Snapshot(calibration("good", 0.02))}
    with pytest.raises(NotReplayed):
        replay(decision, changed, POLICIES)
    with pytest.raises(NotReplayed, match="is not here"):
        replay(decision, {}, POLICIES)
    # Without the engine that was asked, its recorded advice is taken, and that is said.
    assert not replay(decision, snapshots, {}).asked_again


def test_every_changed_byte_of_the_chain_is_found(book: Book, tmp_path: Path) -> None:
    for number in range(3):
        decided(book, number)
    with Database(str(tmp_path / "decisions.db")) as database:
        ((body,),) = database.execute("SELECT body FROM scheduler_decisions WHERE number = 2")
        for at in range(0, len(body), 97):
            broken = body[:at] + bytes((body[at] ^ 1,)) + body[at + 1 :]
            database.execute("UPDATE scheduler_decisions SET body = ? WHERE number = 2", (broken,))
            with pytest.raises(Damaged):
                book.verify(None)
        database.execute("UPDATE scheduler_decisions SET body = ? WHERE number = 2", (body,))
        assert book.verify(None)[0] == 3
        database.execute("DELETE FROM scheduler_decisions WHERE number = 2")
        with pytest.raises(Damaged, match="breaks at decision 2"):
            book.verify(None)


def test_a_record_that_is_not_canonical_is_none(book: Book) -> None:
    body = encode(decided(book).decision)
    assert encode(decode(body)) == body
    for bad in (b"", body + b" ", body.replace(b",", b", ", 1), body[:-1], b"[]"):
        with pytest.raises(Damaged):
            decode(bad)


def test_a_clock_that_runs_backwards_is_not_believed_and_that_is_said(book: Book) -> None:
    first = decided(book, 1, later_s=3600.0).decision
    second = decided(book, 2).decision
    assert second.decided_at == first.decided_at
    assert "ran backwards: it is 3,600 s behind" in second.remarks[0]
    assert decided(book, 3, later_s=3599.5).decision.remarks == ()
    assert book.replay(second, POLICIES).asked_again


def test_a_job_that_failed_goes_elsewhere_until_nobody_is_left(book: Book) -> None:
    kept, used = decided(book), []
    for _ in range(3):
        used.append(kept.decision.chosen_backend)
        before = kept.decision
        kept = book.again(str(before.number), "no answer", {}, Rules(), NOW)
        assert kept.decision.retry is not None
        assert kept.decision.retry.of == before.decision_id
        assert set(kept.decision.retry.failed) == set(used)
        assert book.replay(kept.decision, POLICIES).asked_again
    assert sorted(used) == ["better", "good", "poor"]
    assert kept.decision.chosen_backend == ""
    with pytest.raises(BadInput, match="chose no backend"):
        book.again(str(kept.decision.number), "no answer", {}, Rules(), NOW)


def test_decisions_are_signed_as_their_crypto_mode_asks_and_verified(
    book: Book, signer: TestSigner
) -> None:
    decided(book)
    book.decide([job(2, crypto_mode="hybrid")], {}, Rules(), Scoring(), NOW)
    assert book.sign_all(signer) == 2
    assert book.sign_all(signer) == 0
    assert book.verify(signer)[2] == 2
    assert book.find("2").signed


def test_a_signature_of_another_decision_or_too_weak_a_one_is_refused(
    book: Book, signer: TestSigner, tmp_path: Path
) -> None:
    decided(book)
    book.decide([job(2, crypto_mode="hybrid")], {}, Rules(), Scoring(), NOW)
    book.sign_all(signer)
    with Database(str(tmp_path / "decisions.db")) as database:
        ((envelope,),) = database.execute(
            "SELECT envelope FROM scheduler_decisions WHERE number = 1"
        )
        database.execute("UPDATE scheduler_decisions SET envelope = ?", (envelope,))
        with pytest.raises(Damaged, match="another decision"):
            book.verify(signer)
        database.execute("UPDATE scheduler_decisions SET envelope = ?", (envelope[:-3],))
        with pytest.raises(Damaged, match="does not hold"):
            book.verify(signer)


def test_a_backend_nobody_knows_and_an_empty_catalogue_are_refused(
    book: Book, tmp_path: Path
) -> None:
    with pytest.raises(Unknown, match="No backend is called strange"):
        book.decide([job()], {"strange": State()}, Rules(), Scoring(), NOW)
    with pytest.raises(Unknown, match="No backend"):
        book.catalogue.reserve(
            Reservation(
                reservation_id="r",
                backend_id="strange",
                tenant="a",
                starts_at="2026-04-18T12:00:00Z",
                ends_at="2026-04-18T13:00:00Z",
            )
        )
    with Database(str(tmp_path / "other.db")) as database, pytest.raises(Unknown, match="empty"):
        Book(database).decide([job()], {}, Rules(), Scoring(), NOW)
    assert book.verify(None)[0] == 0


def test_two_tenants_cannot_reserve_the_same_time(book: Book) -> None:
    def reserve(name: str, starts: str, ends: str) -> None:
        book.catalogue.reserve(
            Reservation(
                reservation_id=name, backend_id="good", tenant=name, starts_at=starts, ends_at=ends
            )
        )

    reserve("a", "2026-04-18T14:00:00+02:00", "2026-04-18T15:00:00+02:00")
    with pytest.raises(BadInput, match="a has good"):
        reserve("b", "2026-04-18T12:59:00Z", "2026-04-18T13:30:00Z")
    reserve("b", "2026-04-18T13:00:00Z", "2026-04-18T13:30:00Z")
    with pytest.raises(BadInput, match="after it starts"):
        reserve("c", "2026-04-18T13:00:00Z", "2026-04-18T13:00:00Z")
    kept = decided(book).decision
    good = next(each for each in kept.offers if each.backend.backend_id == "good")
    assert len(good.reservations) == 2
    assert book.replay(kept, POLICIES).asked_again


def test_a_refused_job_keeps_nothing_of_its_batch(book: Book) -> None:
    bad = job(2, sla=Sla(fidelity_floor=2.0))
    with pytest.raises(BadInput):
        book.decide([job(), bad], {}, Rules(), Scoring(), NOW)
    assert book.verify(None)[0] == 0


def test_a_snapshot_that_was_changed_in_the_database_is_not_taken(
    book: Book, tmp_path: Path
) -> None:
    decision = decided(book).decision
    other = msgspec.json.encode(calibration("good", 0.02))
    with Database(str(tmp_path / "decisions.db")) as database:
        database.execute("UPDATE calibration_snapshots SET body = ?", (other,))
        again = Book(database)
        with pytest.raises(Damaged, match="not what was written"):
            again.replay(decision, POLICIES)
