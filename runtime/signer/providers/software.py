"""Keys by the `cryptography` package, whose wheel brings its own OpenSSL.

A secret is what the standard makes the key from: a seed of 32 bytes for ML-DSA, 64 for ML-KEM (d
and z), 32 for X-Wing (draft-connolly-cfrg-xwing-kem), those of RFC 8032, or the scalar of P-256. So
one can be moved to a token or a service that imports seeds. Signing with ML-DSA is hedged (FIPS
204, 3.4): two signatures of one message differ.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import cryptography
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, mlkem, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from runtime.signer.providers.base import wipe

ML_DSA: dict[str, tuple[Any, Any]] = {
    "ML-DSA-44": (mldsa.MLDSA44PrivateKey, mldsa.MLDSA44PublicKey),
    "ML-DSA-65": (mldsa.MLDSA65PrivateKey, mldsa.MLDSA65PublicKey),
    "ML-DSA-87": (mldsa.MLDSA87PrivateKey, mldsa.MLDSA87PublicKey),
}
SUITES = {
    "ML-KEM-768": hpke.Suite(hpke.KEM.MLKEM768, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
    "X-Wing": hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
}
_P256 = ec.SECP256R1()
_ES256 = ec.ECDSA(hashes.SHA256())
_KEM_SEED, _KEM_PUBLIC = 64, 1184


class Software:
    """The provider `cryptography`."""

    name = "cryptography"
    version = f"{cryptography.__version__} ({backend.openssl_version_text()})"
    algorithms = frozenset(("Ed25519", "ES256", *ML_DSA, *SUITES))

    def generate(self, algorithm: str) -> tuple[bytearray, bytes]:
        if algorithm == "ES256":
            # The scalar is drawn by OpenSSL, which draws again what is out of range.
            numbers = ec.generate_private_key(_P256).private_numbers()
            secret = bytearray(numbers.private_value.to_bytes(32, "big"))
        else:
            secret = bytearray(secrets.token_bytes(_KEM_SEED if algorithm == "ML-KEM-768" else 32))
        return secret, self.public(algorithm, secret)

    def public(self, algorithm: str, secret: bytearray) -> bytes:
        if algorithm == "X-Wing":
            kem, other = _halves(secret)
            return kem.public_key().public_bytes_raw() + other.public_key().public_bytes_raw()
        public = private_key(algorithm, secret).public_key()
        if algorithm == "ES256":
            point: bytes = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            return point
        raw: bytes = public.public_bytes_raw()
        return raw

    def sign(
        self, algorithm: str, secret: bytearray, message: bytes, context: bytes = b""
    ) -> bytes:
        key = private_key(algorithm, secret)
        signature: bytes
        if algorithm in ML_DSA:
            signature = key.sign(message, context or None)
        else:
            assert not context, f"{algorithm} has no contexts"
            signature = key.sign(message, _ES256) if algorithm == "ES256" else key.sign(message)
        return signature

    def verify(
        self,
        algorithm: str,
        public: bytes,
        message: bytes,
        signature: bytes,
        context: bytes = b"",
    ) -> bool:
        try:
            key = _public_key(algorithm, public)
            if algorithm in ML_DSA:
                key.verify(signature, message, context or None)
            elif algorithm == "ES256":
                key.verify(signature, message, _ES256)
            else:
                key.verify(signature, message)
        except (InvalidSignature, ValueError, UnsupportedAlgorithm):
            return False
        return True

    def seal(self, algorithm: str, public: bytes, plaintext: bytes, label: bytes) -> bytes:
        return SUITES[algorithm].encrypt(plaintext, _public_key(algorithm, public), label)

    def unseal(
        self, algorithm: str, secret: bytearray, sealed: bytes, label: bytes
    ) -> bytes | None:
        try:
            return SUITES[algorithm].decrypt(sealed, private_key(algorithm, secret), label)
        except Exception as error:  # one answer, whatever is wrong: no oracle
            if isinstance(error, (AssertionError, MemoryError)):
                raise
            return None

    def encapsulate(self, algorithm: str, public: bytes) -> tuple[bytes, bytes]:
        """ML-KEM's own: a ciphertext, and the secret in it. Raises ValueError: a bad key."""
        # The library answers the other way round.
        secret, ciphertext = _public_key(algorithm, public).encapsulate()
        return ciphertext, secret

    def decapsulate(self, algorithm: str, secret: bytearray, ciphertext: bytes) -> bytes:
        """The secret in a ciphertext; some other one if it was changed (FIPS 203, 6.3).

        Raises ValueError: a ciphertext, or a seed, of another length.
        """
        shared: bytes = private_key(algorithm, secret).decapsulate(ciphertext)
        return shared


def private_key(algorithm: str, secret: bytearray) -> Any:
    """The library's own object, whose memory it clears when it goes. Raises ValueError."""
    if algorithm in ML_DSA:
        return ML_DSA[algorithm][0].from_seed_bytes(secret)
    if algorithm == "Ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(secret)
    if algorithm == "ES256":
        return ec.derive_private_key(int.from_bytes(secret, "big"), _P256)
    if algorithm == "ML-KEM-768":
        return mlkem.MLKEM768PrivateKey.from_seed_bytes(secret)
    assert algorithm == "X-Wing", algorithm
    return hpke.MLKEM768X25519PrivateKey(*_halves(secret))


def _halves(seed: bytearray) -> tuple[mlkem.MLKEM768PrivateKey, x25519.X25519PrivateKey]:
    """The two keys that an X-Wing seed stands for (the draft's section 5.2)."""
    if len(seed) != 32:
        raise ValueError("an X-Wing key is a seed of 32 bytes")
    both = bytearray(hashlib.shake_256(seed).digest(_KEM_SEED + 32))
    first, last = both[:_KEM_SEED], both[_KEM_SEED:]
    try:
        return (
            mlkem.MLKEM768PrivateKey.from_seed_bytes(first),
            x25519.X25519PrivateKey.from_private_bytes(last),
        )
    finally:
        for buffer in (both, first, last):
            wipe(buffer)


def _public_key(algorithm: str, public: bytes) -> Any:
    if algorithm in ML_DSA:
        return ML_DSA[algorithm][1].from_public_bytes(public)
    if algorithm == "Ed25519":
        return ed25519.Ed25519PublicKey.from_public_bytes(public)
    if algorithm == "ES256":
        return ec.EllipticCurvePublicKey.from_encoded_point(_P256, public)
    if algorithm == "ML-KEM-768":
        return mlkem.MLKEM768PublicKey.from_public_bytes(public)
    assert algorithm == "X-Wing", algorithm
    kem = mlkem.MLKEM768PublicKey.from_public_bytes(public[:_KEM_PUBLIC])
    other = x25519.X25519PublicKey.from_public_bytes(public[_KEM_PUBLIC:])
    return hpke.MLKEM768X25519PublicKey(kem, other)
