"""What `qmkctl serve-remote` is told: a TOML file, or a few flags in place of one. No I/O but
reading that file and asking the user database who is who.

What the keys mean is in docs/remote.md.
"""

from __future__ import annotations

import pwd
import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from runtime.client.address import SYSTEM_SOCKET, TlsMode, split_host
from runtime.remote.errors import BadSettings

FILE_BYTES_MAX = 1 << 20
CLIENTS_MAX = 1024
RELAYS = "/run/qmk-relay"

_Count = Annotated[int, Meta(ge=1, le=65_536)]
_Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]


class Admitted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[client]]`: the common name in a certificate, and the user of this host it stands for.

    Without a user, it stands for the one that this service runs as.
    """

    name: Name
    user: Annotated[str, Meta(min_length=1)] | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What remote clients may take.

    handshakes: connections that have not shown who they are, of all hosts, and of one.
    stalled_s: how long a client may leave what it is sent unread.
    """

    connections: _Count = 1024
    connections_per_client: _Count = 64
    handshakes: _Count = 128
    handshakes_per_host: _Count = 16
    handshake_s: _Seconds = 10.0
    stalled_s: _Seconds = 30.0

    def __post_init__(self) -> None:
        if self.connections_per_client > self.connections:
            raise ValueError("connections_per_client may not exceed connections")
        if self.handshakes_per_host > self.handshakes:
            raise ValueError("handshakes_per_host may not exceed handshakes")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of it. names: of this host, for certificates that are renewed here."""

    credentials: Annotated[str, Meta(min_length=1)]
    listen: Annotated[list[str], Meta(min_length=1, max_length=16)] = msgspec.field(
        default_factory=lambda: ["127.0.0.1"]
    )
    daemon: str = str(SYSTEM_SOCKET)
    relays: str = RELAYS
    crypto_mode: TlsMode = TlsMode.HYBRID
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    signer: str = ""
    names: Annotated[list[str], Meta(max_length=16)] = []
    limits: Limits = Limits()
    client: Annotated[list[Admitted], Meta(max_length=CLIENTS_MAX)] = []

    def listeners(self) -> list[tuple[str, int]]:
        """Raises BadSettings."""
        try:
            return [split_host(each, port_min=0) for each in self.listen]
        except ValueError as error:
            raise BadSettings(f"listen: {error}") from error

    def relay_of(self, user: str) -> Path:
        """Where the relay of a user listens."""
        return Path(self.relays) / user / "relay.sock"


def read(path: Path) -> Settings:
    """Raises BadSettings."""
    try:
        raw = path.read_bytes()[: FILE_BYTES_MAX + 1]
    except OSError as error:
        raise BadSettings(f"{path}: {error.strerror}.") from error
    try:
        settings = msgspec.toml.decode(raw, type=Settings)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path}: {error}.") from error
    return checked(settings, str(path))


def checked(settings: Settings, where: str) -> Settings:
    """The same, if it makes sense on this host. Raises BadSettings."""
    names = [each.name for each in settings.client]
    for name in names:
        if names.count(name) > 1:
            raise BadSettings(f"{where}: two clients are called {name!r}.")
    for user in {each.user for each in settings.client if each.user is not None}:
        uid_of(user)
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", user):
            raise BadSettings(f"{where}: {user!r} cannot be the name of a folder.")
    if settings.signer and not settings.names:
        raise BadSettings(f"{where}: `names` says what a renewed certificate is for; it is empty.")
    settings.listeners()
    return settings


def uid_of(user: str) -> int:
    """A user's number. Raises BadSettings."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise BadSettings(f"This host has no user {user!r}.") from error
