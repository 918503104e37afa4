"""What is kept of a key: its versions, and for each where the private half is. No I/O.

A sealed half is bound to its version's header, canonical JSON of everything that must not change:
whoever moves it to another name, algorithm or version has something that does not open.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from runtime.signer.api import Protection, PublicKey, State
from runtime.signer.errors import BadRequest, KeyNotActive, UnknownKey

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
VERSIONS_MAX = 10_000
HEADER_FORMAT = "qmk-key-header/1"


class Resident(Struct, frozen=True, tag="token", tag_field="kind"):
    """Made in the token and used there. identity: its CKA_ID; serial: of the token."""

    identity: bytes
    serial: str


class Sealed(Struct, frozen=True, tag="sealed", tag_field="kind"):
    """AES-256-GCM under a key-encrypting key, of which `kek` is the name, over the header."""

    kek: str
    iv: bytes
    ciphertext: bytes


class Destroyed(Struct, frozen=True, tag="destroyed", tag_field="kind"):
    """Its private half is gone: it was revoked, or stayed in the token that a backup is from."""

    protection: Protection


Material = Resident | Sealed | Destroyed
TOKEN_KEK, FILE_KEK = "token:", "file:"
"""How the names of key-encrypting keys begin."""


class Version(Struct, frozen=True, kw_only=True):
    """One pair of keys. provider: who made it, and alone can use it. reason: of a revocation."""

    version: int
    state: State
    provider: str
    provider_version: str
    spki: bytes
    created_at: str
    material: Material
    retired_at: str | None = None
    reason: str | None = None

    @property
    def protection(self) -> Protection:
        """From where the private half is, not from what somebody wrote down."""
        match self.material:
            case Resident():
                return "hsm"
            case Sealed(kek=kek):
                return "hsm-wrapped" if kek.startswith(TOKEN_KEK) else "software"
            case Destroyed(protection=was):
                return was


class Record(Struct, frozen=True, kw_only=True):
    """A key: its versions, the oldest first. At most one of them is active.

    provider, protection: what whoever made it insisted on, which holds for new versions as well.
    """

    name: str
    algorithm: str
    versions: list[Version]
    provider: str | None = None
    protection: Protection | None = None
    format: str = "qmk-key/1"

    def active(self) -> Version:
        """The version that signs. Raises KeyNotActive."""
        for each in reversed(self.versions):
            if each.state == "active":
                return each
        raise KeyNotActive(
            f"{self.name} has no active version: it was revoked, or stayed in a lost token. "
            f"`qmkctl keys rotate {self.name}` makes a new one."
        )

    def newest(self) -> Version:
        """The active version, or the last there is."""
        try:
            return self.active()
        except KeyNotActive:
            return self.versions[-1]

    def one(self, version: int) -> Version:
        """Raises UnknownKey."""
        for each in self.versions:
            if each.version == version:
                return each
        raise UnknownKey(f"{self.name} has no version {version}; its newest is "
                         f"{self.versions[-1].version}.")  # fmt: skip

    def public(self, version: Version) -> PublicKey:
        return PublicKey(
            name=self.name,
            version=version.version,
            algorithm=self.algorithm,
            spki_der=version.spki,
            protection=version.protection,
            state=version.state,
        )

    def replacing(self, version: Version) -> Record:
        """With this version in place of the one of its number, or added."""
        others = [each for each in self.versions if each.version != version.version]
        ordered = sorted([*others, version], key=lambda each: each.version)
        return msgspec.structs.replace(self, versions=ordered)


class _Header(Struct, frozen=True):
    name: str
    algorithm: str
    version: int
    provider: str
    spki: bytes
    created_at: str
    kek: str
    format: str = HEADER_FORMAT


def header(
    name: str, algorithm: str, version: int, provider: str, spki: bytes, created_at: str, kek: str
) -> bytes:
    """What a sealed private half is bound to."""
    return canonical(_Header(name, algorithm, version, provider, spki, created_at, kek))


def header_of(record: Record, version: Version, kek: str) -> bytes:
    return header(
        record.name,
        record.algorithm,
        version.version,
        version.provider,
        version.spki,
        version.created_at,
        kek,
    )


def canonical(value: object) -> bytes:
    """JSON with sorted keys and without blanks: one value, one text."""
    return msgspec.json.encode(value, order="sorted")


def check_name(name: str) -> None:
    """Raises BadRequest."""
    if not NAME.fullmatch(name):
        raise BadRequest(
            f"{name[:80]!r} is no name of a key: lower-case letters, digits, hyphens, 63 at most."
        )


def stamp(moment: datetime | None = None) -> str:
    """RFC 3339, UTC, to the microsecond."""
    moment = moment or datetime.now(UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
