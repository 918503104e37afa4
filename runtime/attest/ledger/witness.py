"""Having others sign checkpoints: the client's side of C2SP tlog-witness.

A witness signs a head only if it follows from the one that it signed before. So a log with enough
witnesses cannot show different histories to different people.
"""

from __future__ import annotations

import urllib.error
import urllib.request

import msgspec

from runtime.attest import canonical
from runtime.attest.errors import Forked, NotAuthentic, Unavailable
from runtime.attest.ledger import notes
from runtime.attest.ledger.log import Log
from runtime.attest.ledger.notes import Verifier

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024
CONFLICT, FORBIDDEN, UNPROCESSABLE = 409, 403, 422


class Witness(msgspec.Struct, frozen=True, kw_only=True):
    """url: what `/add-checkpoint` follows. verifier: the key by which it signs."""

    url: str
    verifier: Verifier


def cosign(log: Log, witness: Witness) -> str:
    """Have the newest signed head signed by a witness; its line, which is kept.

    Raises Forked where the witness has seen another history, Unavailable where it does not answer.
    """
    size = log.signed_size()
    note = log.checkpoint(size)
    ours = note[: _end_of_ours(note, log.origin)]
    old = log.witnessed_size(witness.verifier.name)
    status, answer = _ask(log, witness, old, size, ours)
    if status == CONFLICT:
        told = answer.strip()
        if not told.isdigit() or int(told) > size or int(told) == old:
            raise Forked(f"Witness {witness.verifier.name} knows a log of {told} leaves.")
        status, answer = _ask(log, witness, int(told), size, ours)
    if status in (CONFLICT, UNPROCESSABLE):
        raise Forked(f"Witness {witness.verifier.name} has seen another history of this log.")
    if status != 200:
        why = answer.strip()[:200]
        raise Unavailable(f"Witness {witness.verifier.name} answers {status}: {why}")
    line = _line(answer, notes.parse(ours).checkpoint, witness.verifier)
    log.cosigned(size, witness.verifier.name, line)
    return line


def request(log: Log, old: int, size: int, note: str) -> bytes:
    """The body of `add-checkpoint`."""
    proof = "".join(canonical.to_base64(e) + "\n" for e in log.consistency(old, size) if old)
    return f"old {old}\n{proof}\n{note}".encode()


def _ask(log: Log, witness: Witness, old: int, size: int, note: str) -> tuple[int, str]:
    asked = urllib.request.Request(
        f"{witness.url.rstrip('/')}/add-checkpoint",
        data=request(log, old, size, note),
        headers={"Content-Type": "application/octet-stream"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read(ANSWER_BYTES_MAX).decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(ANSWER_BYTES_MAX).decode(errors="replace")
    except OSError as error:
        raise Unavailable(f"Witness {witness.verifier.name} does not answer: {error}.") from error


def _line(answer: str, checkpoint: notes.Checkpoint, verifier: Verifier) -> str:
    """Of the lines that it answers with, the one that is by the key that we trust."""
    for line in notes.signature_lines(answer if answer.endswith("\n") else answer + "\n"):
        if (line.name, line.key_id) == (verifier.name, verifier.key_id):
            notes.verify_line(line, checkpoint, verifier)
            return str(line)
    raise NotAuthentic(f"Witness {verifier.name} answers with no signature of its own.")


def _end_of_ours(note: str, origin: str) -> int:
    """Where the lines of witnesses begin, behind those of the log."""
    at = note.index("\n\n") + 2
    while note.startswith(f"{notes.DASH} {origin} ", at):
        at = note.index("\n", at) + 1
    return at
