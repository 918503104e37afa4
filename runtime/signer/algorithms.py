"""The algorithms that keys may have, by the names of their standards, and how public keys look.

One row each; whatever asks what an algorithm can do asks this table. No cryptography here: a
SubjectPublicKeyInfo is a prefix that the row fixes, and then the raw public key.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from runtime.signer.errors import BadRequest, UnknownAlgorithm


class Use(StrEnum):
    """What a key of an algorithm is for."""

    SIGN = "sign"
    SEAL = "seal"


class Algorithm(Struct, frozen=True):
    """identifier: what AlgorithmIdentifier holds in a public key, DER; signed_as: in a signature.

    public_bytes: size of a raw public key, as it stands in the BIT STRING. in_token: PKCS#11 2.40
    has it, so that keys of it are made in the token unless something else is asked for.
    """

    name: str
    use: Use
    identifier: bytes
    public_bytes: int
    quantum_safe: bool
    in_token: bool = False
    signed_as: bytes = b""

    @property
    def spki_prefix(self) -> bytes:
        """What stands before the raw key in its SubjectPublicKeyInfo."""
        raw = bytes(self.public_bytes)
        whole = der(0x30, der(0x30, self.identifier) + der(0x03, b"\0" + raw))
        return whole[: -self.public_bytes]

    def spki(self, public: bytes) -> bytes:
        """SubjectPublicKeyInfo, DER, of a raw public key."""
        assert len(public) == self.public_bytes, f"{self.name}: {len(public)} bytes"
        return self.spki_prefix + public

    def raw(self, spki: bytes) -> bytes:
        """The raw public key. Raises BadRequest if this is no key of the algorithm."""
        prefix = self.spki_prefix
        if not spki.startswith(prefix) or len(spki) != len(prefix) + self.public_bytes:
            raise BadRequest(f"This is no public key of {self.name}.")
        return spki[len(prefix) :]


def der(tag: int, content: bytes) -> bytes:
    """One DER value of definite length (X.690, 8.1.3)."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _nist(last: int) -> bytes:
    """2.16.840.1.101.3.4.3.`last`: NIST's signature algorithms (FIPS 204 and 205, RFC 9881)."""
    return bytes.fromhex("06096086480165030403") + bytes((last,))


_P256 = bytes.fromhex("06072a8648ce3d020106082a8648ce3d030107")
_ECDSA_SHA256 = bytes.fromhex("06082a8648ce3d040302")
_ED25519 = bytes.fromhex("06032b6570")
_ML_KEM_768 = bytes.fromhex("0609608648016503040402")
# 1.3.6.1.4.1.62253.25722, of draft-connolly-cfrg-xwing-kem.
_X_WING = bytes.fromhex("060a2b0601040183e62d81c87a")

ALGORITHMS: dict[str, Algorithm] = {
    row.name: row
    for row in (
        Algorithm("Ed25519", Use.SIGN, _ED25519, 32, False, True, _ED25519),
        Algorithm("ES256", Use.SIGN, _P256, 65, False, True, _ECDSA_SHA256),
        Algorithm("ML-DSA-44", Use.SIGN, _nist(17), 1312, True, signed_as=_nist(17)),
        Algorithm("ML-DSA-65", Use.SIGN, _nist(18), 1952, True, signed_as=_nist(18)),
        Algorithm("ML-DSA-87", Use.SIGN, _nist(19), 2592, True, signed_as=_nist(19)),
        Algorithm("SLH-DSA-SHA2-128s", Use.SIGN, _nist(20), 32, True, signed_as=_nist(20)),
        Algorithm("ML-KEM-768", Use.SEAL, _ML_KEM_768, 1184, True),
        Algorithm("X-Wing", Use.SEAL, _X_WING, 1216, True),
    )
}
ALIASES = {"SPHINCS+": "SLH-DSA-SHA2-128s"}
"""Names that people know, and what they mean here."""


def algorithm(name: str) -> Algorithm:
    """The row of a name or alias. Raises UnknownAlgorithm."""
    found = ALGORITHMS.get(ALIASES.get(name, name))
    if found is None:
        raise UnknownAlgorithm(
            f"No algorithm is called {name[:80]!r}; there are {', '.join(ALGORITHMS)}."
        )
    return found
