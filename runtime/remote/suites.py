"""Which groups, signatures and certificates each mode of cryptography takes. Tables, no I/O.

Names of groups and of signature schemes are those of the TLS registries of IANA as OpenSSL spells
them: X25519MLKEM768 is draft-ietf-tls-ecdhe-mlkem, ML-DSA in TLS is draft-ietf-tls-mldsa.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa

from runtime.client.address import TlsMode

HYBRID_GROUP = "X25519MLKEM768"

GROUPS: dict[TlsMode, tuple[str, ...]] = {
    TlsMode.CLASSICAL: ("X25519", "P-256"),
    TlsMode.HYBRID: (HYBRID_GROUP, "X25519", "P-256"),
    TlsMode.PQC_REQUIRED: (HYBRID_GROUP,),
}

# Kind of certificate, as it is shown -> the signature scheme that its key makes.
CLASSICAL_SCHEMES = {
    "ES256": "ecdsa_secp256r1_sha256",
    "ES384": "ecdsa_secp384r1_sha384",
    "Ed25519": "ed25519",
}
PQC_SCHEMES = {"ML-DSA-44": "mldsa44", "ML-DSA-65": "mldsa65", "ML-DSA-87": "mldsa87"}

# What a peer is told first it is to use if it can.
SCHEMES: dict[TlsMode, dict[str, str]] = {
    TlsMode.CLASSICAL: CLASSICAL_SCHEMES,
    TlsMode.HYBRID: PQC_SCHEMES | CLASSICAL_SCHEMES,
    TlsMode.PQC_REQUIRED: PQC_SCHEMES,
}

assert set(GROUPS) == set(SCHEMES) == set(TlsMode), "every mode is declared"

CURVES = {"secp256r1": "ES256", "secp384r1": "ES384"}
MLDSA = (
    (mldsa.MLDSA44PublicKey, "ML-DSA-44"),
    (mldsa.MLDSA65PublicKey, "ML-DSA-65"),
    (mldsa.MLDSA87PublicKey, "ML-DSA-87"),
)


def kind_of(public_key: object) -> str:
    """What a certificate with this key is called here; `other` for kinds that are not taken."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return CURVES.get(public_key.curve.name, "other")
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return "Ed25519"
    return next((name for known, name in MLDSA if isinstance(public_key, known)), "other")
