"""A token by PKCS#11, through PyKCS11: makes keys that never leave it, and uses them.

Found by its label, never by its slot, whose number changes whenever a token is added. What tells
apart a token that keeps its keys from one that only says so is `probe.py`.

Three things of PyKCS11 1.5.20 are worked around here: it holds the interpreter's lock for whole
calls (so it is used by no process that serves anybody else), `getMechanismList` invents CKM_ML_DSA
for every token (so algorithms are found by trying), and it cannot load a module twice (so the
library is initialised anew rather than loaded anew when slots have to be looked for again).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
import threading
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import PyKCS11
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from runtime.signer.config import TokenConfig
from runtime.signer.errors import PinWrong, TokenAbsent, TokenFailed
from runtime.signer.providers.base import wipe

T = TypeVar("T")

KEK_BYTES = 32
TAG_BITS = 128
# Ed25519 by its name (PKCS#11 3.0, 6.3.5; SoftHSM) or its OID (RFC 8410; opencryptoki); P-256.
_ED25519 = [bytes.fromhex("130c656477617264733235353139"), bytes.fromhex("06032b6570")]
_P256 = [bytes.fromhex("06082a8648ce3d030107")]
_OTHER_CURVE = {
    PyKCS11.CKR_ATTRIBUTE_VALUE_INVALID,
    PyKCS11.CKR_CURVE_NOT_SUPPORTED,
    PyKCS11.CKR_DOMAIN_PARAMS_INVALID,
}
_ML_DSA_SETS = {"ML-DSA-44": 1, "ML-DSA-65": 2, "ML-DSA-87": 3}  # CKP_ML_DSA_*, PKCS#11 3.2
_PIN_REFUSED = {PyKCS11.CKR_PIN_INCORRECT, PyKCS11.CKR_PIN_INVALID, PyKCS11.CKR_PIN_LEN_RANGE}
# The connection to the token is gone, not the token's answer: look for it again, once.
_LOST = {
    PyKCS11.CKR_CRYPTOKI_NOT_INITIALIZED,
    PyKCS11.CKR_DEVICE_REMOVED,
    PyKCS11.CKR_DEVICE_ERROR,
    PyKCS11.CKR_OBJECT_HANDLE_INVALID,
    PyKCS11.CKR_KEY_HANDLE_INVALID,
    PyKCS11.CKR_SESSION_CLOSED,
    PyKCS11.CKR_SESSION_HANDLE_INVALID,
    PyKCS11.CKR_SLOT_ID_INVALID,
    PyKCS11.CKR_TOKEN_NOT_PRESENT,
    PyKCS11.CKR_USER_NOT_LOGGED_IN,
}

NEVER_OUT = [
    (PyKCS11.CKA_PRIVATE, True),
    (PyKCS11.CKA_SENSITIVE, True),
    (PyKCS11.CKA_EXTRACTABLE, False),
]
KEK_SHAPE = {
    PyKCS11.CKA_SENSITIVE: True,
    PyKCS11.CKA_EXTRACTABLE: False,
    PyKCS11.CKA_NEVER_EXTRACTABLE: True,
    PyKCS11.CKA_ALWAYS_SENSITIVE: True,
    PyKCS11.CKA_LOCAL: True,
    PyKCS11.CKA_ENCRYPT: True,
    PyKCS11.CKA_DECRYPT: True,
    PyKCS11.CKA_WRAP: False,
    PyKCS11.CKA_UNWRAP: False,
}
"""What a key that seals others has to be, as the token itself says. With WRAP and DECRYPT both, it
would give out in clear whatever the token lets it wrap."""


class _Missing(Exception):
    """No key of this id, or more than one."""

    def __init__(self, identity: bytes) -> None:
        super().__init__(identity.hex())


class Token:
    """One token, opened when first needed and again when its connection is lost.

    Safe for several threads. Methods raise TokenAbsent, PinWrong and TokenFailed.
    """

    name = "pkcs11"

    def __init__(self, config: TokenConfig) -> None:
        self.config = config
        self._lock = threading.RLock()
        self._library: Any = None
        self._session: Any = None
        self._handles: dict[tuple[bytes, int], Any] = {}
        self._refused_pin: tuple[bytes, bytes] | None = None  # salt, digest
        self._version = ""
        self.serial = ""

    @property
    def version(self) -> str:
        """The token's model and library, as it was when last opened."""
        return self._version

    # --- getting there --------------------------------------------------------------------------

    def open(self, *, insist: bool = False) -> None:
        """Find the token and log in, unless that is done.

        insist: log in although the token counts a wrong PIN already, which is otherwise not done,
        so that restarts of the signer cannot use up its tries.
        """
        with self._lock:
            if self._session is None:
                self._connect(insist)

    def close(self) -> None:
        """Let the session go; it is opened again when needed."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        self._session = None
        self._handles.clear()

    def _connect(self, insist: bool) -> None:
        slot, info = self._find()
        if info.flags & PyKCS11.CKF_USER_PIN_LOCKED:
            raise PinWrong(f"The token {self.config.label!r} has locked its PIN: only its security "
                           "officer can set a new one.")  # fmt: skip
        if (
            info.flags & (PyKCS11.CKF_USER_PIN_COUNT_LOW | PyKCS11.CKF_USER_PIN_FINAL_TRY)
            and not insist
        ):
            raise PinWrong(
                f"The token {self.config.label!r} was given a wrong PIN before, and is not tried "
                "again by itself: put the right one into the file and run `qmkctl keys unlock`."
            )
        try:
            session = self._library.openSession(
                slot, PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION
            )
        except PyKCS11.PyKCS11Error as error:
            raise TokenFailed(
                f"The token {self.config.label!r} opens no session: {error}."
            ) from error
        self._log_in(session)
        self.serial = info.serialNumber.strip()
        self._version = self._describe(info)
        self._session = session

    def _find(self) -> tuple[int, Any]:
        """The slot in which the token is now, and what the token says of itself."""
        try:
            if self._library is None:
                self._library = PyKCS11.PyKCS11Lib().load(self.config.module)
            else:
                # Only a library that begins again looks which tokens there are.
                self._library.lib.C_Finalize()
                self._library.lib.C_Initialize()
            slots = self._library.getSlotList(tokenPresent=True)
            infos = [(slot, self._library.getTokenInfo(slot)) for slot in slots]
        except PyKCS11.PyKCS11Error as error:
            raise TokenAbsent(f"{self.config.module} does not load: {error}.") from error
        found = [
            (slot, info)
            for slot, info in infos
            if info.label.strip("\0 ") == self.config.label
            and self.config.serial in (None, info.serialNumber.strip())
        ]
        if len(found) == 1:
            return found[0]
        if found:
            serials = ", ".join(info.serialNumber.strip() for _, info in found)
            raise TokenAbsent(
                f"{len(found)} tokens are labelled {self.config.label!r}: name one by `serial`, "
                f"of {serials}."
            )
        seen = ", ".join(repr(info.label.strip("\0 ")) for _, info in infos) or "none"
        raise TokenAbsent(f"No token is labelled {self.config.label!r}; there are: {seen}.")

    def _log_in(self, session: Any) -> None:
        pin = self._read_pin()
        try:
            if self._is_refused(pin):
                raise PinWrong(
                    f"The token {self.config.label!r} has refused this PIN, and it is not tried "
                    "again: put the right one into the file and run `qmkctl keys unlock`."
                )
            try:
                session.login(bytes(pin))
            except PyKCS11.PyKCS11Error as error:
                if error.value == PyKCS11.CKR_USER_ALREADY_LOGGED_IN:
                    return
                if error.value in _PIN_REFUSED:
                    salt = secrets.token_bytes(16)
                    self._refused_pin = (salt, hashlib.sha256(salt + pin).digest())
                    raise PinWrong(
                        f"The token {self.config.label!r} refuses the PIN: {error}."
                    ) from error
                raise TokenFailed(f"Logging in failed: {error}.") from error
        finally:
            wipe(pin)

    def _read_pin(self) -> bytearray:
        path = self._pin_path()
        try:
            with open(path, "rb") as file:
                pin = bytearray(file.read(1024))
        except OSError as error:
            raise PinWrong(f"The PIN cannot be read: {path}: {error.strerror}.") from error
        while pin and pin[-1] in b"\r\n":
            del pin[-1]
        if pin == b"-":  # what the unit hands over where nobody has put one there
            raise PinWrong(f"There is no PIN in {path}: put it into /etc/qmk/signer-pin.")
        return pin

    def _pin_path(self) -> Path:
        if self.config.pin_file is not None:
            return Path(self.config.pin_file)
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder is None:
            raise PinWrong("No PIN: name `pin_file`, or hand over the credential `pin`.")
        return Path(folder) / "pin"

    def _is_refused(self, pin: bytearray) -> bool:
        if self._refused_pin is None:
            return False
        salt, digest = self._refused_pin
        return hashlib.sha256(salt + pin).digest() == digest

    def _describe(self, info: Any) -> str:
        library = ".".join(map(str, self._library.getInfo().libraryVersion))
        model = info.model.strip("\0 ")
        return f"{model} {library} (PyKCS11 {metadata.version('pykcs11')})"

    def use(self, do: Callable[[Any], T]) -> T:
        """Do something with an open session; once more, if the connection turns out to be lost."""
        with self._lock:
            reopened = self._session is None
            self.open()
            while True:
                try:
                    return do(self._session)
                except _Missing as error:
                    # What a token shows that was taken away under an open session is no keys.
                    self._drop()
                    if reopened:
                        raise TokenAbsent(
                            f"The token {self.config.label!r} has no key {error}: it is another "
                            "token of that label, or the key was destroyed there."
                        ) from error
                    self.open()
                    reopened = True
                except PyKCS11.PyKCS11Error as error:
                    if error.value not in _LOST or reopened:
                        if error.value in _LOST:
                            self._drop()
                        raise TokenFailed(f"The token failed: {error}.") from error
                    self._drop()
                    self.open()
                    reopened = True

    # --- keys made and used there ---------------------------------------------------------------

    def generate(self, algorithm: str, label: str) -> tuple[bytes, bytes]:
        """Make a key pair that stays there. Returns its id and the raw public key."""
        identity = secrets.token_bytes(16)
        public = self.use(lambda session: make_pair(session, algorithm, label, identity)[0])
        return identity, public

    def sign(self, algorithm: str, identity: bytes, message: bytes) -> bytes:
        """Sign with a key that is there, as `api.py` says of signatures."""
        return self.use(
            lambda session: sign_with(
                session,
                algorithm,
                self._handle(session, identity, PyKCS11.CKO_PRIVATE_KEY),
                message,
            )
        )

    def destroy(self, identity: bytes) -> None:
        """Forget a key and its public half. Not an error if it is gone."""

        def do(session: Any) -> None:
            for each in session.findObjects([(PyKCS11.CKA_ID, identity)]):
                session.destroyObject(each)
            self._handles.clear()

        self.use(do)

    def holds(self, identity: bytes) -> bool:
        """Whether a private or secret key of this id is there."""

        def do(session: Any) -> bool:
            kinds = (PyKCS11.CKO_PRIVATE_KEY, PyKCS11.CKO_SECRET_KEY)
            return any(
                session.findObjects([(PyKCS11.CKA_ID, identity), (PyKCS11.CKA_CLASS, kind)])
                for kind in kinds
            )

        return self.use(do)

    def _handle(self, session: Any, identity: bytes, kind: int) -> Any:
        key = (identity, kind)
        if key not in self._handles:
            found = session.findObjects([(PyKCS11.CKA_ID, identity), (PyKCS11.CKA_CLASS, kind)])
            if len(found) != 1:
                raise _Missing(identity)
            self._handles[key] = found[0]
        return self._handles[key]

    # --- the key that seals others ----------------------------------------------------------------

    def generate_kek(self, label: str) -> bytes:
        """Make an AES-256 key that only encrypts and decrypts. Returns its id."""
        identity = secrets.token_bytes(16)
        self.use(lambda session: make_kek(session, label, identity, on_token=True))
        self.check_kek(identity)
        return identity

    def check_kek(self, identity: bytes) -> None:
        """Raises TokenFailed if the token says of this key that it could leave or wrap."""

        def do(session: Any) -> dict[int, Any]:
            handle = self._handle(session, identity, PyKCS11.CKO_SECRET_KEY)
            return dict(
                zip(KEK_SHAPE, session.getAttributeValue(handle, list(KEK_SHAPE)), strict=True)
            )

        said = self.use(do)
        wrong = [
            PyKCS11.CKA[name] for name, wanted in KEK_SHAPE.items() if bool(said[name]) != wanted
        ]
        if wrong:
            raise TokenFailed(
                f"The token's key {identity.hex()} is not fit to seal others: {', '.join(wrong)}."
            )

    def encrypt(self, identity: bytes, iv: bytes, label: bytes, plaintext: bytearray) -> bytes:
        """AES-256-GCM with a tag of 128 bits, which is at the end."""

        def do(session: Any) -> bytes:
            handle = self._handle(session, identity, PyKCS11.CKO_SECRET_KEY)
            mechanism = PyKCS11.AES_GCM_Mechanism(iv, label, TAG_BITS)
            return bytes(session.encrypt(handle, bytes(plaintext), mechanism))

        return self.use(do)

    def decrypt(self, identity: bytes, iv: bytes, label: bytes, sealed: bytes) -> bytearray:
        """The reverse; what comes back is the caller's to wipe. Raises TokenFailed: changed."""

        def do(session: Any) -> bytearray:
            handle = self._handle(session, identity, PyKCS11.CKO_SECRET_KEY)
            mechanism = PyKCS11.AES_GCM_Mechanism(iv, label, TAG_BITS)
            found = session.decrypt(handle, sealed, mechanism)
            plain = bytearray(found)
            found.assign(len(found), 0)
            return plain

        return self.use(do)


def make_pair(
    session: Any, algorithm: str, label: str, identity: bytes, *, on_token: bool = True
) -> tuple[bytes, Any]:
    """A key pair that never leaves the token. Returns the raw public key and the private handle."""
    ways, private, mechanism = _templates(algorithm)
    common = [
        (PyKCS11.CKA_TOKEN, on_token),
        (PyKCS11.CKA_LABEL, label),
        (PyKCS11.CKA_ID, identity),
    ]
    uses = [(PyKCS11.CKA_SIGN, True), *NEVER_OUT]
    for last, public in enumerate(ways, 1):
        try:
            public_handle, private_handle = session.generateKeyPair(
                [*common, (PyKCS11.CKA_VERIFY, True), *public],
                [*common, *uses, *private],
                PyKCS11.Mechanism(mechanism, None),
            )
            break
        except PyKCS11.PyKCS11Error as error:
            if error.value not in _OTHER_CURVE or last == len(ways):
                raise
    attribute = PyKCS11.CKA_VALUE if algorithm in _ML_DSA_SETS else PyKCS11.CKA_EC_POINT
    value = bytes(session.getAttributeValue(public_handle, [attribute], True)[0])
    if attribute == PyKCS11.CKA_EC_POINT and value[:1] == b"\x04" and value[1] == len(value) - 2:
        value = value[2:]  # an OCTET STRING around the point
    return value, private_handle


def _templates(algorithm: str) -> tuple[list[list[Any]], list[Any], int]:
    """Ways to describe the public key, the private key's own attributes, and the mechanism."""
    if algorithm in _ML_DSA_SETS:
        # PyKCS11 does not know that this attribute is a number.
        chosen = struct.pack("@L", _ML_DSA_SETS[algorithm])
        kind = (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_ML_DSA)
        way = [kind, (PyKCS11.CKA_PARAMETER_SET, chosen)]
        return [way], [kind], PyKCS11.CKM_ML_DSA_KEY_PAIR_GEN
    number, curves, mechanism = {
        "Ed25519": (PyKCS11.CKK_EC_EDWARDS, _ED25519, PyKCS11.CKM_EC_EDWARDS_KEY_PAIR_GEN),
        "ES256": (PyKCS11.CKK_EC, _P256, PyKCS11.CKM_EC_KEY_PAIR_GEN),
    }[algorithm]
    kind = (PyKCS11.CKA_KEY_TYPE, number)
    return [[kind, (PyKCS11.CKA_EC_PARAMS, each)] for each in curves], [kind], mechanism


def sign_with(session: Any, algorithm: str, handle: Any, message: bytes) -> bytes:
    if algorithm == "ES256":
        # Tokens may do plain ECDSA alone (SoftHSM), which signs a digest and answers r, then s.
        digest = hashlib.sha256(message).digest()
        raw = bytes(session.sign(handle, digest, PyKCS11.Mechanism(PyKCS11.CKM_ECDSA, None)))
        half = len(raw) // 2
        return encode_dss_signature(
            int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
        )
    mechanism = PyKCS11.CKM_EDDSA if algorithm == "Ed25519" else PyKCS11.CKM_ML_DSA
    return bytes(session.sign(handle, message, PyKCS11.Mechanism(mechanism, None)))


def make_kek(session: Any, label: str, identity: bytes, *, on_token: bool) -> Any:
    template = [
        (PyKCS11.CKA_CLASS, PyKCS11.CKO_SECRET_KEY),
        (PyKCS11.CKA_KEY_TYPE, PyKCS11.CKK_AES),
        (PyKCS11.CKA_VALUE_LEN, KEK_BYTES),
        (PyKCS11.CKA_TOKEN, on_token),
        (PyKCS11.CKA_LABEL, label),
        (PyKCS11.CKA_ID, identity),
        (PyKCS11.CKA_ENCRYPT, True),
        (PyKCS11.CKA_DECRYPT, True),
        (PyKCS11.CKA_WRAP, False),
        (PyKCS11.CKA_UNWRAP, False),
        (PyKCS11.CKA_SIGN, False),
        (PyKCS11.CKA_VERIFY, False),
        (PyKCS11.CKA_DERIVE, False),
        *NEVER_OUT,
    ]
    return session.generateKey(template, PyKCS11.Mechanism(PyKCS11.CKM_AES_KEY_GEN, None))


def initialise(module: str, label: str, so_pin: bytearray, pin: bytearray) -> None:
    """Make a token in the first slot that has none yet, as a software token offers it.

    Raises TokenFailed; TokenAbsent where no slot is free.
    """
    try:
        library = PyKCS11.PyKCS11Lib().load(module)
        free = [
            slot
            for slot in library.getSlotList(tokenPresent=True)
            if not library.getTokenInfo(slot).flags & PyKCS11.CKF_TOKEN_INITIALIZED
        ]
        if not free:
            raise TokenAbsent(f"{module} has no slot for another token.")
        library.initToken(free[0], bytes(so_pin), label)
        library.lib.C_Finalize()  # slots are numbered anew (SoftHSM)
        library.lib.C_Initialize()
        for slot in library.getSlotList(tokenPresent=True):
            info = library.getTokenInfo(slot)
            if (
                info.label.strip("\0 ") == label
                and not info.flags & PyKCS11.CKF_USER_PIN_INITIALIZED
            ):
                session = library.openSession(
                    slot, PyKCS11.CKF_SERIAL_SESSION | PyKCS11.CKF_RW_SESSION
                )
                session.login(bytes(so_pin), PyKCS11.CKU_SO)
                session.initPin(bytes(pin))
                session.logout()
                session.closeSession()
                return
    except PyKCS11.PyKCS11Error as error:
        raise TokenFailed(f"{module} makes no token: {error}.") from error
    raise TokenFailed(f"{module} made a token and does not show it.")
