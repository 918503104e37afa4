"""Where the daemon listens: a socket of this host, or a host and port that serve it over TLS.

Reads the environment and nothing else. Which credentials a remote connection takes, and what it
insists on, is said in docs/remote.md.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

SYSTEM_SOCKET = Path("/run/qmk/qsyscall.sock")
SOCKET_VARIABLE = "QMK_SOCKET"
REMOTE_VARIABLE = "QMK_REMOTE"
CREDENTIALS_VARIABLE = "QMK_REMOTE_CREDENTIALS"
PORT = 7443


class TlsMode(StrEnum):
    """Which cryptography a connection may use.

    classical: X25519 and ECDSA alone. hybrid: X25519MLKEM768 and ML-DSA where the other end has
    them, X25519 and ECDSA where it has not. pqc-required: refuse whoever has not.
    """

    CLASSICAL = "classical"
    HYBRID = "hybrid"
    PQC_REQUIRED = "pqc-required"


class Remote(Struct, frozen=True, kw_only=True):
    """A daemon on another host. credentials: the folder with our certificates and whom we trust."""

    host: str
    port: int
    credentials: Path
    mode: TlsMode = TlsMode.HYBRID

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Address = Path | Remote


def socket_path(socket: str | os.PathLike[str] | None = None) -> Path:
    """The socket named, else $QMK_SOCKET, else the user's own, else the system's.

    The user's own is $XDG_RUNTIME_DIR/qmk/qsyscall.sock; it is taken where it exists.
    """
    if socket is not None:
        return Path(socket)
    if named := os.environ.get(SOCKET_VARIABLE):
        return Path(named)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        own = Path(runtime) / "qmk" / "qsyscall.sock"
        if own.exists() or not SYSTEM_SOCKET.exists():
            return own
    return SYSTEM_SOCKET


def credentials_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """The folder named, else $QMK_REMOTE_CREDENTIALS, else the user's own."""
    if folder is not None:
        return Path(folder)
    if named := os.environ.get(CREDENTIALS_VARIABLE):
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base) / "qmk" / "remote"


def remote_address(
    text: str,
    credentials: str | os.PathLike[str] | None = None,
    mode: TlsMode | str = TlsMode.HYBRID,
) -> Remote:
    """`HOST`, `HOST:PORT` or `[ADDRESS]:PORT`. Raises ValueError with a sentence."""
    host, port = split_host(text)
    return Remote(
        host=host, port=port, credentials=credentials_folder(credentials), mode=TlsMode(mode)
    )


def split_host(text: str, port_min: int = 1) -> tuple[str, int]:
    """A host and a port, PORT by default. Raises ValueError with a sentence."""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        whole = bool(closed) and (not rest or colon == ":")
    else:
        host, colon, port = text.partition(":")
        whole = ":" not in port
    number = int(port) if port.isascii() and port.isdecimal() else (-1 if port or colon else PORT)
    if not (whole and _is_host(host)) or not port_min <= number < 65536:
        raise ValueError(f"{text!r} is no HOST, HOST:PORT or [ADDRESS]:PORT.")
    return host, number


def _is_host(text: str) -> bool:
    """Whether that may be a name or an address at all."""
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return bool(text) and text.isprintable() and not re.search(r"[\s/@]", text)


def address_of(
    socket: str | os.PathLike[str] | Remote | None = None, remote: Remote | str | None = None
) -> Address:
    """What is named; else $QMK_REMOTE; else as `socket_path` says. Raises ValueError."""
    if socket is not None and remote is not None:
        raise ValueError("Name a socket or a remote host, not both.")
    if isinstance(socket, Remote):
        return socket
    if socket is None and remote is None:
        remote = os.environ.get(REMOTE_VARIABLE) or None
    if remote is None:
        return socket_path(socket)
    return remote if isinstance(remote, Remote) else remote_address(remote)
