"""A signer inside the test: fresh keys of every algorithm, with which formats are tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from runtime.attest.keys import Trust, TrustedKey
from runtime.signer.api import Certificate, CertificateRequest, PublicKey, Signature
from runtime.signer.errors import UnknownKey

ALGORITHMS = {
    "manifest-classical": "Ed25519",
    "manifest-pqc": "ML-DSA-65",
    "bundle": "ES256",
    "log": "Ed25519",
    "log-pqc": "ML-DSA-44",
    "log-p256": "ES256",
    "release": "ES256",
    "release-pqc": "ML-DSA-65",
}
_FRESH: dict[str, Callable[[], Any]] = {
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ML-DSA-44": mldsa.MLDSA44PrivateKey.generate,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate,
}


class TestSigner:
    """Keys of `cryptography`. down: what every call raises instead, while it is set."""

    __test__ = False

    def __init__(self) -> None:
        self.keys: dict[tuple[str, int], Any] = {}
        self.down: Exception | None = None
        self.calls = 0
        for name in ALGORITHMS:
            self.rotate(name)

    def rotate(self, name: str) -> None:
        version = self._newest(name) + 1
        self.keys[name, version] = _FRESH[ALGORITHMS[name]]()

    def sign(self, key: str, message: bytes) -> Signature:
        self._called()
        version = self._newest(key)
        private = self._key(key, version)
        algorithm = ALGORITHMS[key]
        hashed = (ec.ECDSA(hashes.SHA256()),) if algorithm == "ES256" else ()
        return Signature(
            key=key,
            version=version,
            algorithm=algorithm,
            signature=private.sign(message, *hashed),
            protection="software",
            provider="cryptography",
            provider_version="of the test",
            created_at="2026-01-01T00:00:00Z",
        )

    def public(self, key: str, version: int | None = None) -> PublicKey:
        self._called()
        number = version or self._newest(key)
        public = self._key(key, number).public_key()
        return PublicKey(
            name=key,
            version=number,
            algorithm=ALGORITHMS[key],
            spki_der=public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            protection="software",
            state="active" if number == self._newest(key) else "verify-only",
        )

    def issue(self, request: CertificateRequest) -> Certificate:
        raise NotImplementedError("no certificate is asked for here")

    def trust(self, origin: str = "") -> Trust:
        keys = [TrustedKey.of(self.public(name, number)) for name, number in self.keys]
        return Trust(keys=keys, origin=origin)

    def _newest(self, name: str) -> int:
        return max((number for key, number in self.keys if key == name), default=0)

    def _key(self, name: str, version: int) -> Any:
        try:
            return self.keys[name, version]
        except KeyError:
            raise UnknownKey(f"There is no key {name}.") from None

    def _called(self) -> None:
        self.calls += 1
        if self.down is not None:
            raise self.down


@pytest.fixture(scope="session")
def signer() -> TestSigner:
    """One for tests that do not change it."""
    return TestSigner()
