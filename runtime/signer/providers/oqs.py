"""Keys by liboqs, through liboqs-python: SLH-DSA, and ML-DSA and ML-KEM for whoever asks for them.

A secret is liboqs's own expanded key, which no other library takes: its ML-DSA knows no seeds
(liboqs issue 2475). `load` finds the shared library first, because `import oqs` without one clones
a repository and then leaves the whole process by SystemExit. It never looks at the network.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import io
import logging
import os
from pathlib import Path
from typing import Any

from runtime.signer.errors import ProviderMissing

NAMES = {
    "ML-DSA-44": "ML-DSA-44",
    "ML-DSA-65": "ML-DSA-65",
    "ML-DSA-87": "ML-DSA-87",
    "SLH-DSA-SHA2-128s": "SLH_DSA_PURE_SHA2_128S",
}
PATH_VARIABLE = "OQS_INSTALL_PATH"
# liboqs 0.16.0 as in the wheel of quantum-safe-py 1.0.0 for x86_64: another file is not loaded.
WHEEL_SHA256 = "5629971d9a4eae6eba3d52c1f33aedf475800912a25ed7bfa0b855aa51dad6a3"
HINT = (
    "liboqs is not here: pip install 'qmkd[signer]' and then pip install --no-deps "
    f"quantum-safe-py==1.0.0, which brings it, or set {PATH_VARIABLE} to where it is installed."
)


class Liboqs:
    """The provider `liboqs`."""

    name = "liboqs"

    def __init__(self, oqs: Any) -> None:
        self._oqs = oqs
        enabled = oqs.get_enabled_sig_mechanisms()
        self.algorithms = frozenset(name for name, theirs in NAMES.items() if theirs in enabled)
        self.version = f"{oqs.oqs_version()} (liboqs-python {oqs.oqs_python_version()})"

    def generate(self, algorithm: str) -> tuple[bytearray, bytes]:
        with self._oqs.Signature(NAMES[algorithm]) as signer:
            public: bytes = signer.generate_keypair()
            return bytearray(signer.secret_key), public

    def public(self, algorithm: str, secret: bytearray) -> bytes:
        """Of SLH-DSA, whose secret holds it (FIPS 205, figure 15). Raises ValueError."""
        size = {"SLH-DSA-SHA2-128s": 64}.get(algorithm)
        if size is None or len(secret) != size:
            raise ValueError(f"{algorithm}: liboqs does not tell the public key of a secret")
        return bytes(secret[size // 2 :])

    def sign(
        self, algorithm: str, secret: bytearray, message: bytes, context: bytes = b""
    ) -> bytes:
        with self._oqs.Signature(NAMES[algorithm]) as signer:
            if len(secret) != signer.length_secret_key:
                raise ValueError(f"{algorithm}: {len(secret)} bytes are no secret of liboqs")
            # The library's buffer is the caller's, so that no copy is left that cannot be wiped;
            # the wrapper clears what it is handed when it is done, so it gets one of ours.
            held = bytearray(secret)
            signer.secret_key = (ctypes.c_char * len(held)).from_buffer(held)
            signature: bytes = (
                signer.sign_with_ctx_str(message, context) if context else signer.sign(message)
            )
            return signature

    def verify(
        self,
        algorithm: str,
        public: bytes,
        message: bytes,
        signature: bytes,
        context: bytes = b"",
    ) -> bool:
        with self._oqs.Signature(NAMES[algorithm]) as verifier:
            # The C functions read as much as the standard says there is, whatever they are given.
            if len(public) != verifier.length_public_key or len(context) > 255:
                return False
            if len(signature) != verifier.length_signature:
                return False
            held: bool = (
                verifier.verify_with_ctx_str(message, signature, context, public)
                if context
                else verifier.verify(message, signature, public)
            )
            return held

    def seal(self, algorithm: str, public: bytes, plaintext: bytes, label: bytes) -> bytes:
        raise AssertionError(f"{algorithm}: sealing is the business of `software.py`")

    def unseal(
        self, algorithm: str, secret: bytearray, sealed: bytes, label: bytes
    ) -> bytes | None:
        raise AssertionError(f"{algorithm}: sealing is the business of `software.py`")


def load() -> Liboqs:
    """The provider. Raises ProviderMissing, with what to install."""
    place = _place()
    if place is None or importlib.util.find_spec("oqs") is None:
        raise ProviderMissing(HINT)
    before = os.environ.get(PATH_VARIABLE)
    os.environ[PATH_VARIABLE] = str(place)
    # It greets: on standard output, which may be somebody's protocol, and in everybody's log.
    logging.getLogger("oqs.oqs").propagate = False
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            import oqs
    except (SystemExit, Exception) as error:
        raise ProviderMissing(f"liboqs in {place} does not load: {error}. {HINT}") from error
    finally:
        if before is None:
            del os.environ[PATH_VARIABLE]
    if not hasattr(oqs, "oqs_version"):
        raise ProviderMissing(
            "The package `oqs` here is not liboqs-python: pip uninstall oqs, then pip install "
            "liboqs-python."
        )
    return Liboqs(oqs)


def _place() -> Path | None:
    """Where liboqs is: as the environment says, or in the wheel that brings it."""
    if named := os.environ.get(PATH_VARIABLE):
        found = [*Path(named).glob("lib*/liboqs.so"), *Path(named).glob("lib/*/liboqs.so")]
        return Path(named) if found else None
    spec = importlib.util.find_spec("quantum_safe")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        place = Path(folder) / "_vendor" / "liboqs"
        library = place / "lib" / "liboqs.so"
        if library.is_file() and _digest(library) == WHEEL_SHA256:
            return place
    return None


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
