"""Public keys that somebody trusts, and whether one of them made a signature.

A key is known by the SHA-256 of its SubjectPublicKeyInfo: its id says which algorithm and which
bits, so neither can be exchanged without the other. Holds no private key and makes no signature.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Self

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from runtime.attest.errors import NotAuthentic, NotThere
from runtime.signer.api import PublicKey, State

CLASSICAL = frozenset({"Ed25519", "ES256"})
POST_QUANTUM = frozenset({"ML-DSA-44", "ML-DSA-65", "ML-DSA-87"})

_MLDSA = {
    "ML-DSA-44": mldsa.MLDSA44PublicKey,
    "ML-DSA-65": mldsa.MLDSA65PublicKey,
    "ML-DSA-87": mldsa.MLDSA87PublicKey,
}

_MLDSA_ANY = (mldsa.MLDSA44PublicKey, mldsa.MLDSA65PublicKey, mldsa.MLDSA87PublicKey)


class TrustedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of a key. spki: SubjectPublicKeyInfo, DER."""

    name: str
    version: int
    algorithm: str
    spki: bytes
    state: State = "active"

    @property
    def id(self) -> str:
        """SHA-256 of the SPKI, 64 hex digits."""
        return sha256(self.spki).hexdigest()

    @property
    def raw(self) -> bytes:
        """The key's own bits, as FIPS 204 and RFC 8032 write them; of P-256 the SPKI."""
        loaded = _loaded(self)
        if isinstance(loaded, ec.EllipticCurvePublicKey):
            return self.spki
        return loaded.public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def pem(self) -> bytes:
        return _loaded(self).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @classmethod
    def of(cls, key: PublicKey) -> Self:
        """As the signer tells of it."""
        return cls(
            name=key.name,
            version=key.version,
            algorithm=key.algorithm,
            spki=key.spki_der,
            state=key.state,
        )


class Trust(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a verifier believes in. origin: the name of the log, empty for none."""

    keys: list[TrustedKey]
    origin: str = ""

    def by_id(self, key_id: str) -> TrustedKey:
        """Raises NotAuthentic for a key that is unknown or revoked."""
        for key in self.keys:
            if key.id == key_id:
                if key.state == "revoked":
                    raise NotAuthentic(f"Key {key.name}/{key.version} was revoked.")
                return key
        raise NotAuthentic(f"It is signed by a key that nobody here trusts, {key_id[:16]}.")

    def named(self, name: str) -> list[TrustedKey]:
        """All versions of a key that are not revoked, the newest first."""
        found = [key for key in self.keys if key.name == name and key.state != "revoked"]
        if not found:
            raise NotThere(f"No key {name} is among those that are trusted.")
        return sorted(found, key=lambda key: -key.version)


def verify(key: TrustedKey, message: bytes, signature: bytes) -> None:
    """Raises NotAuthentic unless this key signed this message, in its own algorithm."""
    loaded = _loaded(key)
    try:
        if isinstance(loaded, ec.EllipticCurvePublicKey):
            loaded.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        else:
            loaded.verify(signature, message)
    except InvalidSignature as error:
        named = f"{key.name}/{key.version} ({key.algorithm})"
        raise NotAuthentic(f"The signature is not one of {named} over this.") from error


_Loaded = (
    ed25519.Ed25519PublicKey
    | ec.EllipticCurvePublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)


def _loaded(key: TrustedKey) -> _Loaded:
    try:
        loaded = load_der_public_key(key.spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise NotAuthentic(f"Key {key.name}/{key.version} cannot be read: {error}.") from error
    if key.algorithm == "Ed25519" and isinstance(loaded, ed25519.Ed25519PublicKey):
        return loaded
    if (
        key.algorithm == "ES256"
        and isinstance(loaded, ec.EllipticCurvePublicKey)
        and isinstance(loaded.curve, ec.SECP256R1)
    ):
        return loaded
    if isinstance(loaded, _MLDSA_ANY) and isinstance(loaded, _MLDSA.get(key.algorithm, ())):
        return loaded
    raise NotAuthentic(f"Key {key.name}/{key.version} is no key of {key.algorithm}.")
