"""What is kept of a decision: all that went in and all that came out; and its replay.

A record is canonical JSON (keys sorted, no spaces), so it has one digest. It names the digest of
the record before it, which makes a chain that nobody can take a record out of; the first names
zeros. Its signature is a DSSE envelope over these very bytes, of a type of its own. Nothing here
does I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from policy.api import Advise
from policy.rules import Rules
from runtime.scheduler.calibrations import Snapshot, parse_time
from runtime.scheduler.deciding import Candidate, Decided, Entry, decide, offers
from runtime.scheduler.errors import Damaged, NotReplayed
from runtime.scheduler.jobs import Job, Offer, Scoring
from runtime.signer.api import Sign

FORMAT: Final = "qmkd-scheduler-decision-1"
PAYLOAD_TYPE: Final = "application/vnd.qmkd.scheduler-decision+json"
FIRST: Final = "0" * 64
CLASSICAL_KEY: Final = "manifest-classical"
POST_QUANTUM_KEY: Final = "manifest-pqc"


class Retry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """of: the decision whose run failed, failed: backends that failed this job so far, and why."""

    of: str
    failed: dict[str, str]


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """decision_id: a UUID made of what stands in it. number: from 1. previous: digest, hex.

    decided_at: the time that was reckoned with. remarks: what a reader should know, as of a clock
    that ran backwards. chosen_backend: empty where there is none.
    """

    format: str
    decision_id: str
    number: int
    previous: str
    decided_at: str
    remarks: tuple[str, ...]
    job: Job
    scoring: Scoring
    offers: tuple[Offer, ...]
    candidates: tuple[Candidate, ...]
    chosen_backend: str
    method: str
    params: dict[str, Any]
    score: float | None
    sla_kept: bool
    retry: Retry | None = None

    @property
    def chosen(self) -> Candidate | None:
        return next((each for each in self.candidates if each.verdict == "chosen"), None)


def encode(decision: Decision) -> bytes:
    """The record's bytes."""
    return msgspec.json.encode(decision, order="sorted")


def decode(data: bytes) -> Decision:
    """A record, if these are the bytes that `encode` writes of it. Raises Damaged."""
    try:
        found = msgspec.json.decode(data, type=Decision)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"This is no decision: {error}.") from error
    if encode(found) != data or found.format != FORMAT:
        raise Damaged("This is no decision: it is not written in the canonical form.")
    return found


def digest_of(data: bytes) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(data).hexdigest()


def record(
    decided: Decided,
    scoring: Scoring,
    *,
    number: int,
    previous: str,
    now: datetime,
    remarks: Sequence[str] = (),
    retry: Retry | None = None,
) -> Decision:
    """The record of a decision, at its place in the chain."""
    chosen = decided.choice.chosen
    seed = f"{FORMAT}/{decided.job.job_id}/{number}/{previous}".encode()
    return Decision(
        format=FORMAT,
        decision_id=str(UUID(bytes=hashlib.sha256(seed).digest()[:16], version=5)),
        number=number,
        previous=previous,
        decided_at=now.astimezone(UTC).isoformat(timespec="microseconds"),
        remarks=tuple(remarks),
        job=decided.job,
        scoring=scoring,
        offers=decided.offers,
        candidates=decided.choice.candidates,
        chosen_backend="" if chosen is None else chosen.backend_id,
        method="" if chosen is None else chosen.method,
        params={} if chosen is None else _params(decided.offers, chosen),
        score=None if chosen is None else chosen.score,
        sla_kept=decided.choice.sla_kept,
        retry=retry,
    )


def _params(offered: Iterable[Offer], chosen: Candidate) -> dict[str, Any]:
    return next(
        each.params
        for offer in offered
        if offer.backend.backend_id == chosen.backend_id
        for each in offer.alternatives
        if each.method == chosen.method
    )


# --- the chain ----------------------------------------------------------------------------------


def check_chain(bodies: Iterable[bytes]) -> tuple[int, str]:
    """How many records there are, and the digest of the last. Raises Damaged at the first break."""
    number, previous = 0, FIRST
    for body in bodies:
        found = decode(body)
        number += 1
        if found.number != number or found.previous != previous:
            raise Damaged(f"The chain breaks at decision {number}: it does not follow the last.")
        previous = digest_of(body)
    return number, previous


# --- signatures ---------------------------------------------------------------------------------


def sign(body: bytes, job: Job, signer: Sign) -> bytes:
    """An envelope over the record, with the signatures that the job's crypto mode asks for.

    Raises what `runtime.signer.errors` and `runtime.attest.errors` hold.
    """
    # Loaded here: who only decides needs no cryptography.
    from runtime.attest import canonical, dsse

    keys = [CLASSICAL_KEY]
    if job.crypto_mode != "classical":
        keys.append(POST_QUANTUM_KEY)
    envelope, _ = dsse.sign(body, signer, keys, PAYLOAD_TYPE)
    return canonical.encode(envelope)


def check_signature(envelope: bytes, body: bytes, signer: Sign) -> list[str]:
    """The algorithms that signed a record, by the keys that the signer tells of.

    Raises Damaged, and SignerError where the signer does not answer.
    """
    from policy.signing import trusted
    from runtime.attest import dsse
    from runtime.attest.errors import AttestError

    try:
        parsed = dsse.parse(envelope)
        algorithms = dsse.opened(parsed, trusted(signer), PAYLOAD_TYPE)
    except AttestError as error:
        raise Damaged(f"The signature does not hold: {error}") from error
    if parsed.payload != body:
        raise Damaged("The signature is of another decision.")
    if decode(body).job.crypto_mode != "classical" and len(algorithms) < 2:
        raise Damaged("It lacks the post-quantum signature that its crypto mode asks for.")
    return sorted(algorithms)


# --- replay -------------------------------------------------------------------------------------


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """asked_again: whether the advice was made again as well, not taken from the record."""

    decision_id: str
    digest: str
    asked_again: bool


def replay(
    decision: Decision, snapshots: Mapping[str, Snapshot], policies: Mapping[str, Advise]
) -> Replayed:
    """Make a decision again from its job and the snapshots it names, and compare every byte.

    snapshots: by digest. policies: by the source that an advice names; where one is not there, the
    recorded advice is taken. Raises NotReplayed.
    """
    now = parse_time(decision.decided_at)
    sources = {each.source for each in decision.offers if each.source}
    offered = decision.offers
    again = len(sources) <= 1 and sources <= set(policies)
    if again:
        entries = [_entry(each, snapshots) for each in decision.offers]
        failed = {} if decision.retry is None else decision.retry.failed
        policy = policies[next(iter(sources))] if sources else Rules()
        (row,) = offers([decision.job], entries, policy, now, failed)
        for recorded, fresh in zip(decision.offers, row, strict=True):
            if recorded != fresh:
                raise NotReplayed(
                    f"{recorded.backend.backend_id}: the advice comes out otherwise than recorded."
                )
        offered = tuple(row)
    choice = decide(decision.job, offered, decision.scoring, now)
    made = record(
        Decided(decision.job, offered, choice),
        decision.scoring,
        number=decision.number,
        previous=decision.previous,
        now=now,
        remarks=decision.remarks,
        retry=decision.retry,
    )
    if encode(made) != encode(decision):
        raise NotReplayed(f"Decision {decision.number} comes out otherwise than recorded.")
    return Replayed(
        decision_id=decision.decision_id, digest=digest_of(encode(made)), asked_again=again
    )


def _entry(offer: Offer, snapshots: Mapping[str, Snapshot]) -> Entry:
    snapshot = None
    if offer.calibration:
        snapshot = snapshots.get(offer.calibration)
        if snapshot is None:
            raise NotReplayed(
                f"The snapshot {offer.calibration[:16]} of {offer.backend.backend_id} is not here."
            )
    return Entry(offer.backend, snapshot, offer.state, offer.reservations)
