"""What a provider that computes in this process is asked, and the wiping of buffers."""

from __future__ import annotations

from typing import Protocol

SEALED_BYTES_MAX = 1 << 20


class Provider(Protocol):
    """One library. Secrets are buffers in the library's own form, never moved between libraries.

    name and version go into records: version names the wrapper's and the library's below it.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def algorithms(self) -> frozenset[str]:
        """Names of `algorithms.ALGORITHMS` that it does."""
        ...

    def generate(self, algorithm: str) -> tuple[bytearray, bytes]:
        """A new secret, which is the caller's to wipe, and its raw public key."""
        ...

    def public(self, algorithm: str, secret: bytearray) -> bytes:
        """The raw public key of a secret. Raises ValueError if it is none."""
        ...

    def sign(
        self, algorithm: str, secret: bytearray, message: bytes, context: bytes = b""
    ) -> bytes:
        """A signature; of the algorithms with contexts (FIPS 204, 205), under that context."""
        ...

    def verify(
        self,
        algorithm: str,
        public: bytes,
        message: bytes,
        signature: bytes,
        context: bytes = b"",
    ) -> bool:
        """Whether the signature holds. Anything malformed does not, and raises nothing."""
        ...

    def seal(self, algorithm: str, public: bytes, plaintext: bytes, label: bytes) -> bytes:
        """Seal for a public key by HPKE (RFC 9180, base mode). Raises ValueError: a bad key."""
        ...

    def unseal(
        self, algorithm: str, secret: bytearray, sealed: bytes, label: bytes
    ) -> bytes | None:
        """What was sealed; None if it was changed, for another key, or with another label."""
        ...


def wipe(buffer: bytearray) -> None:
    """Overwrite a secret that is no longer needed."""
    buffer[:] = bytes(len(buffer))  # in place, as the length stays
