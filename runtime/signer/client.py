"""The way to a running signer: blocking, over its Unix socket, safe for several threads.

    with SignerClient() as signer:
        made = signer.sign("manifest-pqc", b"...")

Satisfies `api.Sign`. What goes wrong is an `errors.SignerError`; those that are `retryable` may
pass by themselves. Loads no cryptography.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from runtime.signer.api import Certificate, CertificateRequest, PublicKey, Signature
from runtime.signer.errors import SignerSlow, SignerUnreachable
from runtime.signer.protocol import (
    LINE_BYTES_MAX,
    Authority,
    Call,
    Issue,
    Public,
    Seal,
    SignAll,
    SignOne,
    ToSign,
    Unseal,
    Verify,
    decode_answer,
    encode_call,
)

SYSTEM_SOCKET = Path("/run/qmk-signer/signer.sock")
SOCKET_VARIABLE = "QMK_SIGNER_SOCKET"
TIMEOUT_S = 10.0
_CHUNK = 64 * 1024


def signer_socket(named: str | os.PathLike[str] | None = None) -> Path:
    """The socket named, else $QMK_SIGNER_SOCKET, else the user's own, else the system's."""
    if named is not None:
        return Path(named)
    if value := os.environ.get(SOCKET_VARIABLE):
        return Path(value)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        own = Path(runtime) / "qmk" / "signer.sock"
        if own.exists():
            return own
    return SYSTEM_SOCKET


class SignerClient:
    """One connection, made when first needed and again after it was lost.

    timeout: seconds for one request. A request whose answer did not come in time may have been
    carried out; the signer's audit log says so.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, timeout: float = TIMEOUT_S
    ) -> None:
        self.path = signer_socket(path)
        self.timeout = timeout
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._drop()

    # --- api.Sign -------------------------------------------------------------------------------

    def sign(self, key: str, message: bytes) -> Signature:
        found: Signature = self.call(SignOne(key=key, message=message))
        return found

    def public(self, key: str, version: int | None = None) -> PublicKey:
        found: PublicKey = self.call(Public(key=key, version=version))
        return found

    def issue(self, request: CertificateRequest) -> Certificate:
        found: Certificate = self.call(Issue(request=request))
        return found

    # --- and more -------------------------------------------------------------------------------

    def sign_all(self, requests: list[tuple[str, bytes]]) -> list[Signature]:
        """Up to 64 signatures at once: one flush of the signer's log for all of them."""
        asked = [ToSign(key, message) for key, message in requests]
        found: list[Signature] = self.call(SignAll(requests=asked))
        return found

    def verify(
        self, key: str, message: bytes, signature: bytes, version: int | None = None
    ) -> bool:
        """Whether a signature of a key's version holds; of the newest unless one is named."""
        held: bool = self.call(
            Verify(key=key, message=message, signature=signature, version=version)
        )
        return held

    def seal(self, key: str, plaintext: bytes, label: bytes = b"") -> bytes:
        """Seal for a key by HPKE, with the label as its `info`."""
        sealed: bytes = self.call(Seal(key=key, plaintext=plaintext, label=label))
        return sealed

    def unseal(self, key: str, sealed: bytes, label: bytes = b"") -> bytes:
        """What was sealed for a key by HPKE, under the label. Raises Unopened."""
        plain: bytes = self.call(Unseal(key=key, sealed=sealed, label=label))
        return plain

    def authority(self, key: str) -> bytes:
        """The certificate that a key gave itself, DER."""
        found: bytes = self.call(Authority(key=key))
        return found

    def call(self, call: Call, timeout: float | None = None) -> Any:
        """Make any call. Returns what its RESULT says. Raises SignerError."""
        until = time.monotonic() + (self.timeout if timeout is None else timeout)
        with self._lock:
            self._number += 1
            line = encode_call(self._number, call)
            reused = self._socket is not None
            try:
                answer = self._exchange(line, until)
            except SignerUnreachable:
                if not reused:
                    raise
                # The signer was restarted since the last request. A request that it carried out
                # before it went is merely carried out twice.
                answer = self._exchange(line, until)
            return decode_answer(answer, self._number, call)

    def _exchange(self, line: bytes, until: float) -> bytes:
        """Raises SignerUnreachable or SignerSlow, and then the connection is gone."""
        try:
            if self._socket is None:
                self._socket = self._connect(until)
            self._wait(until)
            with contextlib.suppress(BrokenPipeError):
                # A signer that is too busy says so and closes, before it has read anything.
                self._socket.sendall(line)
            received = bytearray()
            while not received.endswith(b"\n"):
                self._wait(until)
                chunk = self._socket.recv(_CHUNK)
                if not chunk or len(received) > LINE_BYTES_MAX:
                    raise ConnectionResetError("it closed the connection")
                received += chunk
            return bytes(received)
        except TimeoutError as error:
            self._drop()
            raise SignerSlow(f"The signer at {self.path} did not answer in time.") from error
        except OSError as error:
            self._drop()
            why = error.strerror or str(error)
            raise SignerUnreachable(f"No signer answers at {self.path}: {why}.") from error
        except BaseException:
            self._drop()  # half an exchange is no connection any more
            raise

    def _connect(self, until: float) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            made.settimeout(max(until - time.monotonic(), 0.001))
            made.connect(os.fspath(self.path))
        except BaseException:
            made.close()
            raise
        return made

    def _wait(self, until: float) -> None:
        assert self._socket is not None, "connected"
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
