"""What is handed to whoever wants to know that something is in the log, without asking the log.

A `.tlog-proof` (C2SP tlog-proof): a leaf's number, its inclusion proof and a signed checkpoint. The
leaf itself is the extra data, so that the file alone is enough. A `.spicy` file is the same as
torchwood's `spicy` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from runtime.attest import canonical
from runtime.attest.errors import NotAuthentic
from runtime.attest.ledger import notes
from runtime.attest.ledger.log import Log
from runtime.attest.ledger.notes import Verifier
from runtime.attest.ledger.tree import HASH_BYTES, leaf_hash, verify_inclusion

HEADER = "c2sp.org/tlog-proof@v1"


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """leaf: its bytes; None where whoever verifies has them. checkpoint: a signed note."""

    number: int
    path: list[bytes]
    checkpoint: str
    leaf: bytes | None = None

    @property
    def text(self) -> str:
        """As a `.tlog-proof` file has it."""
        extra = "" if self.leaf is None else f"extra {canonical.to_base64(self.leaf)}\n"
        return f"{HEADER}\n{extra}{self._tail}"

    @property
    def spicy(self) -> str:
        """As torchwood's `spicy` reads it, beside a file that has the leaf."""
        return self._tail

    @property
    def _tail(self) -> str:
        path = "".join(canonical.to_base64(each) + "\n" for each in self.path)
        return f"index {self.number}\n{path}\n{self.checkpoint}"


def prove(log: Log, number: int, size: int | None = None) -> Proof:
    """That this leaf is in the log of the newest signed head, or of this size."""
    checkpoint = log.checkpoint(size)
    known = notes.parse(checkpoint).checkpoint.size
    found = log.leaf(number)
    return Proof(
        number=number,
        path=log.inclusion(number, known),
        checkpoint=checkpoint,
        leaf=found.data,
    )


def parse(text: str) -> Proof:
    """A `.tlog-proof`. Raises NotAuthentic."""
    head, gap, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not gap or lines.pop(0) != HEADER:
        raise NotAuthentic("This is no proof of a log (c2sp.org/tlog-proof).")
    leaf = None
    if lines and lines[0].startswith("extra "):
        leaf = canonical.from_base64(lines.pop(0)[len("extra ") :], "The leaf")
    told = lines.pop(0) if lines else ""
    digits = told.removeprefix("index ")
    if digits == told:
        raise NotAuthentic("The proof does not say of which leaf it is.")
    path = [canonical.from_base64(line, "A hash of the proof") for line in lines]
    if any(len(each) != HASH_BYTES for each in path):
        raise NotAuthentic("A hash of the proof has not 32 bytes.")
    number = canonical.number(digits, "The number of the leaf")
    found = Proof(number=number, path=path, checkpoint=checkpoint, leaf=leaf)
    if found.text != text:
        raise NotAuthentic("The proof is not written in the one right way.")
    return found


def verify(
    proof: Proof,
    verifiers: Iterable[Verifier],
    witnesses: Sequence[Verifier] = (),
    quorum: int = 0,
    leaf: bytes | None = None,
) -> tuple[bytes, notes.Checkpoint]:
    """The leaf and the checkpoint that has it. Raises NotAuthentic.

    leaf: what is asked for; by default that of the proof.
    """
    if leaf is not None and proof.leaf not in (None, leaf):
        raise NotAuthentic("The proof is of another leaf.")
    proven = proof.leaf if leaf is None else leaf
    if proven is None:
        raise NotAuthentic("The proof has no leaf in it, and none was given.")
    checkpoint = notes.verify_note(proof.checkpoint, verifiers, witnesses, quorum)
    verify_inclusion(leaf_hash(proven), proof.number, checkpoint.size, proof.path, checkpoint.root)
    return proven, checkpoint
