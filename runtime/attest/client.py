"""Asking the follower: small, blocking, one connection a call. Loads no cryptography."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Any

import msgspec

from runtime.attest import errors
from runtime.attest.errors import AttestError, NotMet, Unavailable
from syscalls.job import CryptoMode

SYSTEM_SOCKET = Path("/run/qmk-attest/attest.sock")
SOCKET_VARIABLE = "QMK_ATTEST_SOCKET"
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 16
ANSWER_BYTES_MAX = 64 << 20


def attest_socket(named: str | os.PathLike[str] | None = None) -> Path:
    """The socket named, else $QMK_ATTEST_SOCKET, else the system's."""
    return Path(named or os.environ.get(SOCKET_VARIABLE) or SYSTEM_SOCKET)


def ask(path: Path, method: str, **params: Any) -> Any:
    """What the follower answers. Raises its own error, by name, and Unavailable."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = bytearray()
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(TIMEOUT_S)
            link.connect(os.fspath(path))
            with contextlib.suppress(BrokenPipeError):
                # A follower that is too busy says so and closes, before it has read anything.
                link.sendall(msgspec.json.encode(request) + b"\n")
            while not answer.endswith(b"\n") and (chunk := link.recv(CHUNK_BYTES)):
                answer += chunk
                if len(answer) > ANSWER_BYTES_MAX:
                    raise Unavailable(f"The follower at {path} answers without an end.")
        told = msgspec.json.decode(answer)
    except OSError as error:
        why = error.strerror or str(error)
        raise Unavailable(f"No follower of manifests answers at {path}: {why}.") from error
    except msgspec.DecodeError as error:
        raise Unavailable(f"The follower at {path} ended in the middle of its answer.") from error
    if "error" not in told:
        return told["result"]
    kind = getattr(errors, str(told["error"]["data"]["type"]), AttestError)
    raise kind(told["error"]["message"])


def require_mode(mode: CryptoMode, path: Path | None = None) -> None:
    """Raises NotMet unless manifests can be signed in this mode now, Unavailable unless anybody
    can say so: to be asked before a job is submitted that needs one."""
    status = ask(attest_socket(path), "status")
    if status["when"] == "never":
        raise NotMet("No manifests are signed here (the follower's policy is `never`).")
    if mode not in status["crypto_modes"]:
        has = ", ".join(status["crypto_modes"]) or "none"
        raise NotMet(f"Manifests cannot be signed in mode {mode} here; the modes are: {has}.")
