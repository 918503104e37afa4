"""The book of decisions: decides, keeps the record in the chain, has it signed, finds it again.

Records are written in one transaction for a batch, before anybody is told. A signer that does not
answer keeps no job waiting: the record says nothing of it, its envelope is missing, and `sign_all`
signs later, in order. Time never runs backwards in the chain: a clock that does is not believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from policy.api import Advise
from runtime.scheduler.calibrations import parse_time
from runtime.scheduler.catalogue import MIGRATIONS, Catalogue
from runtime.scheduler.deciding import Decided, decide_batch
from runtime.scheduler.errors import BadInput, Damaged, Unknown
from runtime.scheduler.jobs import Job, Scoring, State
from runtime.scheduler.records import (
    FIRST,
    Decision,
    Replayed,
    Retry,
    check_chain,
    check_signature,
    decode,
    digest_of,
    encode,
    record,
    replay,
    sign,
)
from runtime.signer.api import Sign
from runtime.storage.database import Database

CLOCK_S: Final = 1.0
"""How far behind the last decision a clock may be before it is remarked on."""
PAGE: Final = 256


class Kept(NamedTuple):
    """A decision as it stands in the book. signed: whether it has its envelope."""

    decision: Decision
    digest: str
    signed: bool


class Book:
    """folder: where each record also lies as a file, under its digest."""

    def __init__(self, database: Database, folder: Path | None = None) -> None:
        """Raises StorageError."""
        database.migrate("scheduler", MIGRATIONS)
        self._database = database
        self._folder = folder
        self.catalogue = Catalogue(database)

    def decide(
        self,
        jobs: Sequence[Job],
        states: Mapping[str, State],
        policy: Advise,
        scoring: Scoring,
        now: datetime,
        *,
        retry: Retry | None = None,
    ) -> list[Kept]:
        """Decide a batch and keep every decision, the nearest deadline first.

        Raises BadInput, Unknown, StorageError; then nothing is kept.
        """
        with self._database.write("scheduler_decisions"):
            number, previous, last = self._end()
            now, remarks = _forward(now, last)
            entries = self.catalogue.entries(states, now)
            if not entries:
                raise Unknown("The catalogue is empty; qmkctl schedule backends FILE fills it.")
            failed = {} if retry is None else retry.failed
            kept = []
            for decided in decide_batch(jobs, entries, policy, scoring, now, failed):
                number += 1
                kept.append(self._keep(decided, scoring, number, previous, now, remarks, retry))
                previous = kept[-1].digest
        return kept

    def _keep(
        self,
        decided: Decided,
        scoring: Scoring,
        number: int,
        previous: str,
        now: datetime,
        remarks: Sequence[str],
        retry: Retry | None,
    ) -> Kept:
        made = record(
            decided, scoring, number=number, previous=previous, now=now, remarks=remarks,
            retry=retry,
        )  # fmt: skip
        body = encode(made)
        digest = digest_of(body)
        self._database.execute(
            "INSERT INTO scheduler_decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                made.decision_id,
                made.job.job_id,
                made.chosen_backend or None,
                made.score,
                msgspec.json.encode(reasons(made)).decode(),
                self._write(digest, body),
                parse_time(made.decided_at).replace(tzinfo=None).isoformat(" "),
                number,
                digest,
                body,
            ),
        )
        return Kept(made, digest, False)

    def _write(self, digest: str, body: bytes) -> str:
        """The file's path; written beside and moved, so that it is whole or not there."""
        if self._folder is None:
            return ""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{digest}.json"
        beside = path.with_suffix(".new")
        beside.write_bytes(body)
        beside.replace(path)
        return str(path)

    def _end(self) -> tuple[int, str, datetime | None]:
        rows = self._database.execute(
            "SELECT number, digest, body FROM scheduler_decisions ORDER BY number DESC LIMIT 1"
        )
        if not rows:
            return 0, FIRST, None
        number, digest, body = rows[0]
        return int(number), str(digest), parse_time(decode(bytes(body)).decided_at)

    def again(
        self,
        name: str,
        why: str,
        states: Mapping[str, State],
        policy: Advise,
        now: datetime,
    ) -> Kept:
        """Decide a job again, without the backends that failed it. Raises BadInput, Unknown."""
        old = self.find(name).decision
        if not old.chosen_backend:
            raise BadInput(f"Decision {old.number} chose no backend that could have failed.")
        failed = dict(old.retry.failed) if old.retry is not None else {}
        failed[old.chosen_backend] = f"It failed this job: {why}"
        retry = Retry(of=old.decision_id, failed=failed)
        (kept,) = self.decide([old.job], states, policy, old.scoring, now, retry=retry)
        return kept

    # --- looking ------------------------------------------------------------------------------

    def find(self, name: str) -> Kept:
        """By number, id, digest, or job (then its last decision). Raises Unknown."""
        column = "number" if name.isdigit() else "digest" if len(name) == 64 else "id"
        for key in (column, "job_id") if column == "id" else (column,):
            rows = self._database.execute(
                "SELECT digest, body, envelope IS NOT NULL FROM scheduler_decisions "
                f"WHERE CAST({key} AS TEXT) = ? ORDER BY number DESC LIMIT 1",
                (name,),
            )
            if rows:
                return _kept(rows[0])
        raise Unknown(f"No decision, and no job, is called {name}.")

    def last(self, count: int) -> list[Kept]:
        """The last so many, the newest first."""
        rows = self._database.execute(
            "SELECT digest, body, envelope IS NOT NULL FROM scheduler_decisions "
            "ORDER BY number DESC LIMIT ?",
            (count,),
        )
        return [_kept(row) for row in rows]

    def verify(self, signer: Sign | None) -> tuple[int, str, int]:
        """Check the whole chain, and every signature if there is a signer to tell of keys.

        Returns how many records there are, the digest of the last, and how many are signed.
        Raises Damaged.
        """
        signed = 0

        def bodies() -> Iterator[bytes]:
            nonlocal signed
            for number, digest, body, envelope in self._pages():
                if digest_of(body) != digest:
                    raise Damaged(f"Decision {number} is not what was written.")
                if envelope is not None:
                    signed += 1
                    if signer is not None:
                        check_signature(envelope, body, signer)
                yield body

        count, head = check_chain(bodies())
        return count, head, signed

    def _pages(self) -> Iterator[tuple[int, str, bytes, bytes | None]]:
        after = 0
        while rows := self._database.execute(
            "SELECT number, digest, body, envelope FROM scheduler_decisions "
            "WHERE number > ? ORDER BY number LIMIT ?",
            (after, PAGE),
        ):
            for number, digest, body, envelope in rows:
                yield number, digest, bytes(body), None if envelope is None else bytes(envelope)
            after = rows[-1][0]

    def sign_all(self, signer: Sign) -> int:
        """Sign what is not signed, in order; how many. Raises what the signer raises."""
        rows = self._database.execute(
            "SELECT number, body FROM scheduler_decisions WHERE envelope IS NULL ORDER BY number"
        )
        for number, body in rows:
            envelope = sign(bytes(body), decode(bytes(body)).job, signer)
            self._database.execute(
                "UPDATE scheduler_decisions SET envelope = ? WHERE number = ?", (envelope, number)
            )
        return len(rows)

    def replay(self, decision: Decision, policies: Mapping[str, Advise]) -> Replayed:
        """Make a decision again from the snapshots that are kept. Raises NotReplayed, Damaged."""
        named = {each.calibration for each in decision.offers if each.calibration}
        return replay(decision, {each: self.catalogue.snapshot(each) for each in named}, policies)


def reasons(decision: Decision) -> list[dict[str, object]]:
    """What SPEC-001's column holds: each candidate with its verdict and why."""
    return [
        {
            "backend": each.backend_id,
            "method": each.method,
            "verdict": each.verdict,
            "reasons": each.reasons,
        }
        for each in decision.candidates
    ]


def _kept(row: tuple[str, bytes, object]) -> Kept:
    digest, body, signed = row
    data = bytes(body)
    if digest_of(data) != digest:
        raise Damaged(f"The decision {digest[:16]} is not what was written.")
    return Kept(decode(data), str(digest), bool(signed))


def _forward(now: datetime, last: datetime | None) -> tuple[datetime, list[str]]:
    """A time that is not before the last decision, and what to say if the clock had it so."""
    if now.tzinfo is None:
        raise BadInput("A time says its offset.")
    now = now.astimezone(UTC)
    if last is None or now >= last:
        return now, []
    behind = (last - now).total_seconds()
    if behind <= CLOCK_S:
        return last, []
    return last, [
        f"The clock ran backwards: it is {behind:,.0f} s behind the last decision, whose time was "
        "taken instead."
    ]
