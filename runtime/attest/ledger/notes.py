"""Checkpoints: signed notes that say how large a log is and what its root is.

The format is that of C2SP signed-note, tlog-checkpoint and tlog-cosignature. Lines of ours are
Ed25519 (0x01), ML-DSA-44 (0x06) and, for cosign, which knows no other, ECDSA P-256 as Rekor signs;
those of witnesses are Ed25519 cosignatures (0x04) or ML-DSA-44 (0x06).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

from runtime.attest import canonical
from runtime.attest.dsse import signed
from runtime.attest.errors import NotAuthentic
from runtime.attest.keys import Trust, TrustedKey, verify
from runtime.attest.ledger.tree import HASH_BYTES
from runtime.signer.api import Sign

ED25519 = 0x01
ED25519_COSIGNATURE = 0x04
ML_DSA_44 = 0x06
RANGE_LABEL = b"subtree/v1\n\x00"
ED25519_RAW_BYTES = 32
ML_DSA_44_RAW_BYTES = 1312
KEY_ID_BYTES = 4
TIMESTAMP_BYTES = 8
DASH = "\u2014"
SIZE_MAX = 2**63 - 1
ORIGIN_BYTES_MAX = 255


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How large the log of this origin is, and its root."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The text that is signed, its last line break included."""
        return f"{self.origin}\n{self.size}\n{canonical.to_base64(self.root)}\n"


class NoteLine(msgspec.Struct, frozen=True, kw_only=True):
    """A signature line. key_id: four bytes that hint at the key."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"{DASH} {self.name} {canonical.to_base64(self.key_id + self.signature)}\n"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint and its signature lines."""

    checkpoint: Checkpoint
    lines: list[NoteLine]

    @property
    def text(self) -> str:
        return self.checkpoint.body + "\n" + "".join(map(str, self.lines))


class Verifier(msgspec.Struct, frozen=True, kw_only=True):
    """A key by the name that its lines have. kind: the algorithm byte; 0 for Rekor's ECDSA."""

    name: str
    kind: int
    key: TrustedKey

    @property
    def key_id(self) -> bytes:
        if self.kind == 0:
            return sha256(self.key.spki).digest()[:KEY_ID_BYTES]
        return _key_id(self.name, self.kind, self.key.raw)

    @property
    def vkey(self) -> str:
        """As `signed-note` writes verifier keys, which most tools take."""
        material = canonical.to_base64(bytes([self.kind]) + self.key.raw)
        return f"{self.name}+{self.key_id.hex()}+{material}"


def sign(checkpoint: Checkpoint, signer: Sign, keys: Sequence[str], timestamp: int) -> Note:
    """A note with one line of each key, under the log's own name.

    timestamp: seconds since 1970, for the kinds of lines that carry one; 0 claims nothing.
    """
    lines = []
    for name in keys:
        algorithm = signer.public(name).algorithm
        kind = {"Ed25519": ED25519, "ML-DSA-44": ML_DSA_44, "ES256": 0}[algorithm]
        message = _message(checkpoint, checkpoint.origin, kind, timestamp)
        key, record = signed(signer, name, message)
        verifier = Verifier(name=checkpoint.origin, kind=kind, key=key)
        stamp = timestamp.to_bytes(TIMESTAMP_BYTES, "big") if kind == ML_DSA_44 else b""
        lines.append(
            NoteLine(
                name=checkpoint.origin,
                key_id=verifier.key_id,
                signature=stamp + record.signature,
            )
        )
    return Note(checkpoint=checkpoint, lines=lines)


def parse(text: str) -> Note:
    """A note as `Note.text` writes it. Raises NotAuthentic."""
    body, gap, rest = text.partition("\n\n")
    lines = body.split("\n")
    if not gap or len(lines) != 3 or not rest.endswith("\n"):
        raise NotAuthentic("This is no checkpoint: three lines, an empty one, signatures.")
    origin, size, root = lines
    if not origin or len(origin.encode()) > ORIGIN_BYTES_MAX:
        raise NotAuthentic("This is no checkpoint: it has no origin, or too long a one.")
    checkpoint = Checkpoint(
        origin=origin,
        size=canonical.number(size, "The size"),
        root=canonical.from_base64(root, "The root"),
    )
    if len(checkpoint.root) != HASH_BYTES or checkpoint.size > SIZE_MAX:
        raise NotAuthentic("This is no checkpoint: its size or root is none.")
    note = Note(checkpoint=checkpoint, lines=signature_lines(rest))
    if note.text != text:
        raise NotAuthentic("The checkpoint is not written in the one right way.")
    return note


def signature_lines(text: str) -> list[NoteLine]:
    """Raises NotAuthentic where one of them is none."""
    found = []
    for line in text[:-1].split("\n"):
        parts = line.split(" ")
        if len(parts) != 3 or parts[0] != DASH or not parts[1]:
            raise NotAuthentic("A signature line of the checkpoint is none.")
        data = canonical.from_base64(parts[2], "A signature line")
        if len(data) <= KEY_ID_BYTES:
            raise NotAuthentic("A signature line of the checkpoint is too short.")
        found.append(
            NoteLine(name=parts[1], key_id=data[:KEY_ID_BYTES], signature=data[KEY_ID_BYTES:])
        )
    return found


def verify_line(line: NoteLine, checkpoint: Checkpoint, verifier: Verifier) -> None:
    """Raises NotAuthentic unless this line is this verifier's, over this checkpoint."""
    if line.name != verifier.name or line.key_id != verifier.key_id:
        raise NotAuthentic(f"The line of {line.name} is of another key.")
    signature, timestamp = line.signature, 0
    if verifier.kind in (ED25519_COSIGNATURE, ML_DSA_44):
        timestamp = int.from_bytes(signature[:TIMESTAMP_BYTES], "big")
        signature = signature[TIMESTAMP_BYTES:]
    message = _message(checkpoint, verifier.name, verifier.kind, timestamp)
    verify(verifier.key, message, signature)


def verify_note(
    text: str,
    verifiers: Iterable[Verifier],
    witnesses: Iterable[Verifier] = (),
    quorum: int = 0,
) -> Checkpoint:
    """The checkpoint, if every line holds: one of each of our verifiers, and witnesses beside them.

    quorum: how many different witnesses it needs. A line of anybody else refuses the note: here
    nothing is passed over that nobody can judge. Raises NotAuthentic.
    """
    note = parse(text)
    ours, others = list(verifiers), list(witnesses)
    if not ours:
        raise NotAuthentic("No key is given by which to judge the checkpoint.")
    seen = set()
    for line in note.lines:
        found = [v for v in (*ours, *others) if (v.name, v.key_id) == (line.name, line.key_id)]
        if not found:
            raise NotAuthentic(f"A signature line of {line.name} is of a key nobody here trusts.")
        verify_line(line, note.checkpoint, found[0])
        if found[0].vkey in seen:
            raise NotAuthentic(f"Two signature lines of {line.name} are of one key.")
        seen.add(found[0].vkey)
    missing = {v.key.name: v for v in ours if v.vkey not in seen}
    met = {v.key.name for v in ours if v.vkey in seen}
    if absent := sorted(missing.keys() - met):
        raise NotAuthentic(f"The checkpoint is not signed by {', '.join(absent)}.")
    if any(v.name != note.checkpoint.origin for v in ours):
        raise NotAuthentic(f"This is a checkpoint of {note.checkpoint.origin}, another log.")
    # By name: one that is given twice, or has two keys, or is the log itself, is not another.
    if len({v.name for v in others if v.vkey in seen} - {note.checkpoint.origin}) < quorum:
        raise NotAuthentic(f"Fewer than {quorum} witnesses have signed the checkpoint.")
    return note.checkpoint


LOG_KEYS = {"log": ED25519, "log-pqc": ML_DSA_44}


def verifiers_of(trust: Trust) -> list[Verifier]:
    """The log's own, of the keys that are trusted."""
    return [
        Verifier(name=trust.origin, kind=LOG_KEYS[key.name], key=key)
        for key in trust.keys
        if key.name in LOG_KEYS and key.state != "revoked"
    ]


def from_vkey(text: str) -> Verifier:
    """A verifier key as `signed-note` writes it. Raises NotAuthentic."""
    name, _, rest = text.strip().partition("+")
    told, _, material = rest.partition("+")
    data = canonical.from_base64(material, "The verifier key")
    kind, raw = data[:1], data[1:]
    sizes = {
        ED25519: ED25519_RAW_BYTES,
        ED25519_COSIGNATURE: ED25519_RAW_BYTES,
        ML_DSA_44: ML_DSA_44_RAW_BYTES,
    }
    if not name or not kind or sizes.get(kind[0]) != len(raw):
        raise NotAuthentic(f"{text!r} is no verifier key that is known here.")
    algorithm = "ML-DSA-44" if kind[0] == ML_DSA_44 else "Ed25519"
    key = TrustedKey(name=name, version=1, algorithm=algorithm, spki=_SPKI[algorithm] + raw)
    verifier = Verifier(name=name, kind=kind[0], key=key)
    if verifier.key_id.hex() != told:
        raise NotAuthentic(f"The verifier key of {name} has another id than it says.")
    return verifier


# SubjectPublicKeyInfo of RFC 8410 and RFC 9881, up to the key's own bits.
_SPKI = {
    "Ed25519": bytes.fromhex("302a300506032b6570032100"),
    "ML-DSA-44": bytes.fromhex("30820532300b06096086480165030403110382052100"),
}


def _key_id(name: str, kind: int, raw: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + bytes([kind]) + raw).digest()[:KEY_ID_BYTES]


def _message(checkpoint: Checkpoint, name: str, kind: int, timestamp: int) -> bytes:
    """What a line of this kind signs."""
    if kind == ED25519_COSIGNATURE:
        return f"cosignature/v1\ntime {timestamp}\n{checkpoint.body}".encode()
    if kind != ML_DSA_44:
        return checkpoint.body.encode()
    return b"".join(
        (
            RANGE_LABEL,
            _short(name),
            timestamp.to_bytes(8, "big"),
            _short(checkpoint.origin),
            (0).to_bytes(8, "big"),
            checkpoint.size.to_bytes(8, "big"),
            checkpoint.root,
        )
    )


def _short(text: str) -> bytes:
    """A string of at most 255 bytes, after its length (RFC 8446, section 3.4)."""
    encoded = text.encode()
    return bytes([len(encoded)]) + encoded
