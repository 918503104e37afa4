"""Where private halves are: in the token, or sealed under a key of the token or of a file.

Which it is decides the `protection` that a key is given, so this is the one place that decides it.
Without a token in the configuration the sealing key is a file of the signer's user, and everything
made is `software`; with one that is missing, nothing is made, and nothing falls back.
"""

from __future__ import annotations

import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from runtime.signer.algorithms import ALGORITHMS, Use
from runtime.signer.errors import (
    RecordsDamaged,
    StorageFailed,
    TokenAbsent,
    TokenFailed,
    TokenLeaks,
)
from runtime.signer.keys.files import storing, write
from runtime.signer.keys.records import FILE_KEK, TOKEN_KEK, Resident, Sealed
from runtime.signer.providers.base import wipe

if TYPE_CHECKING:  # a signer without a token never loads PyKCS11
    from runtime.signer.providers.token import Token

IV_BYTES = 12
KEK_LABEL = "qmk-kek"
IN_TOKEN = tuple(
    name
    for name, row in ALGORITHMS.items()
    if row.use is Use.SIGN and (row.in_token or name.startswith("ML-DSA"))
)
"""What a token is tried for."""


class _Keks(Struct):
    """Names of the keys that seal others; the last one seals what is new."""

    names: list[str] = []


class Custody:
    """token: None for software alone. The folder holds `keks.json`, and `kek-*.key` if software."""

    def __init__(self, folder: Path, token: Token | None) -> None:
        self.token = token
        self._folder = folder
        self._lock = threading.RLock()
        self._tried: dict[str, str | None] = {}
        self._tried_of: tuple[str, str] | None = None  # serial and make of the token
        path = folder / "keks.json"
        try:
            with storing(path):
                data = path.read_bytes() if path.exists() else b"{}"
            self._keks = msgspec.json.decode(data, type=_Keks)
        except msgspec.DecodeError as error:
            raise RecordsDamaged(f"{path}: {error}.") from error

    # --- the token ------------------------------------------------------------------------------

    def open(self, *, insist: bool = False) -> None:
        """Open the token, and try whether it keeps its keys: once, and again if it is another.

        No-op without a token.
        """
        if self.token is None:
            return
        self.token.open(insist=insist)
        with self._lock:
            this = self.token.serial, self.token.version
            if self._tried_of != this:
                from runtime.signer.providers.probe import KEK, probe

                for what in (KEK, *IN_TOKEN):
                    try:
                        self._tried[what] = probe(self.token, what)
                    except TokenFailed as error:
                        self._tried[what] = f"not offered: {str(error).rstrip('.')}"
                self._tried_of = this

    @property
    def findings(self) -> dict[str, str | None]:
        """What the token withstood: None, or why a key of that kind is not to be kept there."""
        return dict(self._tried)

    def keeps(self, algorithm: str) -> bool:
        """Whether keys of an algorithm can be made in the token and stay there."""
        self.open()
        return self.token is not None and self.findings.get(algorithm, "never tried") is None

    def _need(self) -> Token:
        if self.token is None:
            raise TokenAbsent("This key is in a token, and the configuration names none.")
        return self.token

    def make_resident(self, algorithm: str, label: str) -> tuple[Resident, bytes]:
        """A key in the token, and its raw public key."""
        token = self._need()
        assert self.keeps(algorithm), "whoever asks has looked"
        identity, public = token.generate(algorithm, label)
        return Resident(identity, token.serial), public

    def sign_resident(self, algorithm: str, where: Resident, message: bytes) -> bytes:
        """Sign in the token. Raises TokenLeaks if it turns out not to keep such keys."""
        token = self._need()
        self.open()
        finding = self.findings[algorithm]
        if finding is not None:
            raise TokenLeaks(f"The token {token.config.label!r} does not keep {algorithm} keys: "
                             f"{finding}. Rotate what is in it to another.")  # fmt: skip
        return token.sign(algorithm, where.identity, message)

    def destroy(self, where: Resident) -> None:
        self._need().destroy(where.identity)

    # --- sealing --------------------------------------------------------------------------------

    def kek(self) -> str:
        """The name of the key that seals what is new; made when first needed."""
        self.open()
        begins = FILE_KEK if self.token is None else TOKEN_KEK
        with self._lock:
            if self._keks.names and self._keks.names[-1].startswith(begins):
                return self._keks.names[-1]
            name = self._make_file_kek() if self.token is None else self._make_token_kek()
            keks = _Keks([*self._keks.names, name])
            write(self._folder / "keks.json", msgspec.json.encode(keks))
            self._keks = keks
            return name

    def _make_token_kek(self) -> str:
        from runtime.signer.providers.probe import KEK

        token = self._need()
        if (finding := self.findings[KEK]) is not None:
            raise TokenLeaks(f"The token {token.config.label!r} does not keep the key that is to "
                             f"seal others: {finding}.")  # fmt: skip
        return TOKEN_KEK + token.generate_kek(KEK_LABEL).hex()

    def _make_file_kek(self) -> str:
        identity = secrets.token_hex(8)
        write(self._file_kek(FILE_KEK + identity), secrets.token_bytes(32))
        return FILE_KEK + identity

    def _file_kek(self, name: str) -> Path:
        return self._folder / f"kek-{name.removeprefix(FILE_KEK)}.key"

    def seal(self, kek: str, header: bytes, secret: bytearray) -> Sealed:
        """Seal a private half, bound to its header."""
        iv = secrets.token_bytes(IV_BYTES)
        if kek.startswith(TOKEN_KEK):
            identity = bytes.fromhex(kek.removeprefix(TOKEN_KEK))
            ciphertext = self._token_kek(identity).encrypt(identity, iv, header, secret)
        else:
            key = self._read_file_kek(kek)
            try:
                ciphertext = AESGCM(key).encrypt(iv, secret, header)
            finally:
                wipe(key)
        return Sealed(kek, iv, ciphertext)

    def unseal(self, sealed: Sealed, header: bytes) -> bytearray:
        """The private half, for the caller to wipe. Raises RecordsDamaged if it was changed."""
        if sealed.kek.startswith(TOKEN_KEK):
            return self._unseal_by_token(sealed, header)
        key = self._read_file_kek(sealed.kek)
        try:
            # Decrypted in place of bytes that could not be wiped.
            plain = bytearray(len(sealed.ciphertext) - 16)
            AESGCM(key).decrypt_into(sealed.iv, sealed.ciphertext, header, plain)
            return plain
        except (InvalidTag, ValueError) as error:
            raise RecordsDamaged("A sealed key does not open: its record was changed.") from error
        finally:
            wipe(key)

    def _unseal_by_token(self, sealed: Sealed, header: bytes) -> bytearray:
        identity = bytes.fromhex(sealed.kek.removeprefix(TOKEN_KEK))
        token = self._token_kek(identity)
        try:
            return token.decrypt(identity, sealed.iv, header, sealed.ciphertext)
        except TokenFailed as error:
            # Tokens do not say whether they failed or the record was changed (SoftHSM answers
            # CKR_GENERAL_ERROR), so something that surely was not changed is tried as well.
            iv, sample = secrets.token_bytes(IV_BYTES), bytearray(secrets.token_bytes(32))
            again = token.encrypt(identity, iv, b"", sample)
            if token.decrypt(identity, iv, b"", again) == sample:
                raise RecordsDamaged(
                    "A sealed key does not open: its record was changed."
                ) from error
            raise

    def _token_kek(self, identity: bytes) -> Token:
        from runtime.signer.providers.probe import KEK

        token = self._need()
        self.open()
        if (finding := self.findings[KEK]) is not None:
            raise TokenLeaks(f"The token {token.config.label!r} does not keep the key that seals "
                             f"others: {finding}.")  # fmt: skip
        return token

    def _read_file_kek(self, kek: str) -> bytearray:
        path = self._file_kek(kek)
        key = bytearray(32)
        try:
            with open(path, "rb", buffering=0) as file:
                size = file.readinto(key)
        except OSError as error:
            raise StorageFailed(f"{path}: {error.strerror}.") from error
        if size != len(key):
            raise RecordsDamaged(f"{path} is not the key that was written.")
        return key
