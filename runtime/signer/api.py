"""What whoever wants signatures is handed: types alone, no cryptography, no I/O.

`Sign` is what a socket client (`client.py`) and a signer inside one process (`keys/store.py`) both
are. What either raises is in `errors.py`.

Names of algorithms are those of FIPS 204, 205 and 203, and of JOSE for the classical ones:
`Ed25519`, `ES256`, `ML-DSA-44`, `ML-DSA-65`, `ML-DSA-87`, `SLH-DSA-SHA2-128s` (which answers to
`SPHINCS+` as well), `ML-KEM-768`, `X-Wing`. A signature is over the message itself: pure, with an
empty context, where the standard has contexts. That of ES256 is DER (RFC 3279), over SHA-256.
"""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import Struct

Protection = Literal["hsm", "hsm-wrapped", "software"]
"""Where a private key is. hsm: made in the token and used there, never outside. hsm-wrapped: kept
under a key of the token that cannot be taken out; in clear in the signer's memory while it is used.
software: kept under a key that is itself a file of the signer's user."""

State = Literal["active", "verify-only", "revoked"]
"""active: signs. verify-only: rotated, so that its signatures hold and it makes no more. revoked:
nothing it signed is to be believed any more."""

MESSAGE_BYTES_MAX = 1 << 20


class Signature(Struct, frozen=True, kw_only=True):
    """A signature and all that a record of it should say.

    provider: what did the arithmetic, `cryptography`, `liboqs` or `pkcs11`; provider_version: its
    version and that of the library or token below it. created_at: RFC 3339, UTC.
    """

    key: str
    version: int
    algorithm: str
    signature: bytes
    protection: Protection
    provider: str
    provider_version: str
    created_at: str


class PublicKey(Struct, frozen=True, kw_only=True):
    """One version of a key. spki_der: SubjectPublicKeyInfo, DER, with the algorithm's own OID."""

    name: str
    version: int
    algorithm: str
    spki_der: bytes
    protection: Protection
    state: State


class CertificateRequest(Struct, frozen=True, kw_only=True):
    """Ask for an X.509 certificate. The private key stays with whoever asks.

    issuer: name of the key that signs. csr_der: PKCS#10, DER, whose own signature proves that its
    sender has the key; only its public key is taken from it. common_name and the alternative names
    are what the certificate says, if the policy lets the caller have them.
    """

    issuer: str
    csr_der: bytes
    usage: Literal["server", "client", "code-signing"]
    common_name: str
    dns_names: list[str] = []
    ip_addresses: list[str] = []
    lifetime_s: int = 24 * 3600


class Certificate(Struct, frozen=True, kw_only=True):
    """certificate_der: the certificate; authority_der: that of the issuer, signed by itself.

    serial: hexadecimal, without prefix. not_before, not_after: RFC 3339, UTC.
    """

    issuer: str
    issuer_version: int
    algorithm: str
    certificate_der: bytes
    authority_der: bytes
    serial: str
    not_before: str
    not_after: str
    protection: Protection


class Sign(Protocol):
    """What a maker of signed records is handed. Every method may raise `errors.SignerError`."""

    def sign(self, key: str, message: bytes) -> Signature:
        """Sign at most MESSAGE_BYTES_MAX bytes with the active version of the key."""
        ...

    def public(self, key: str, version: int | None = None) -> PublicKey:
        """One version of a key, or the active one; the newest where none is active."""
        ...

    def issue(self, request: CertificateRequest) -> Certificate:
        """An X.509 certificate under the authority that `request.issuer` is."""
        ...
