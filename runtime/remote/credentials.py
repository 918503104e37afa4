"""One end's credentials: a folder with its own certificates, whom it trusts, and what is revoked.

    own-NAME.pem     a certificate, what leads up to its authority, and its private key
    trust-NAME.pem   certificates of authorities
    revoked-NAME.pem   lists of revoked certificates (RFC 5280), each signed by one of these
    revoked.txt      serial numbers in hexadecimal, one a line, `#` begins a comment

Reads files; connects nothing and makes no certificate (`certificates.py`). A private key is refused
where others than its owner may read it.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from msgspec import Struct

from runtime.client.address import TlsMode
from runtime.remote.errors import BadCredentials
from runtime.remote.suites import SCHEMES, kind_of

FILE_BYTES_MAX = 1 << 20
OWN, TRUST, REVOKED, SERIALS = "own-", "trust-", "revoked-", "revoked.txt"


class Own(Struct, frozen=True):
    """A certificate of ours. The private key stays in the file; OpenSSL reads it there."""

    path: Path
    kind: str
    certificate: x509.Certificate


class Credentials(Struct, frozen=True, kw_only=True):
    """What a folder holds. revoked: serial numbers, of whichever authority."""

    folder: Path
    own: tuple[Own, ...]
    trust: tuple[x509.Certificate, ...]
    revoked: frozenset[int]

    def usable(self, mode: TlsMode) -> tuple[Own, ...]:
        """Our certificates that this mode takes. Raises BadCredentials where there is none."""
        found = tuple(each for each in self.own if each.kind in SCHEMES[mode])
        if not found:
            held = ", ".join(sorted(each.kind for each in self.own)) or "none"
            raise BadCredentials(
                f"{self.folder} has no certificate that the mode {mode.value} takes "
                f"(there: {held}); `qmkctl remote certificate` makes one."
            )
        return found

    def trusted_kinds(self, mode: TlsMode) -> list[str]:
        """Kinds of certificates whose authorities are trusted, as far as the mode takes them.

        A peer that has several chooses by what we say we can verify, not by whom we trust. So
        nothing may be offered that could only lead to an authority which we do not know.
        """
        known = {kind_of(each.public_key()) for each in self.trust}
        found = [kind for kind in SCHEMES[mode] if kind in known]
        if not found:
            raise BadCredentials(
                f"{self.folder} trusts no authority of a kind that the mode {mode.value} takes; "
                f"put its certificate there as {TRUST}NAME.pem."
            )
        return found


def load(folder: Path) -> Credentials:
    """Read a folder. Raises BadCredentials."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise BadCredentials(
            f"{folder}: {error.strerror}. It should hold {OWN}*.pem and {TRUST}*.pem; "
            "see `qmkctl remote certificate --help`."
        ) from error
    pem = [folder / name for name in names if name.endswith(".pem")]
    trust = [each for path in pem if path.name.startswith(TRUST) for each in _certificates(path)]
    return Credentials(
        folder=folder,
        own=tuple(_own(path) for path in pem if path.name.startswith(OWN)),
        trust=tuple(trust),
        revoked=frozenset(_revoked(folder, pem, trust)),
    )


def common_name(certificate: x509.Certificate) -> str:
    """The one common name of the subject; empty where there is none, several, or one that no
    person could read in a log."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if len(names) == 1 else ""
    return name if name.isprintable() else ""


def left_s(certificate: x509.Certificate, now: datetime | None = None) -> float:
    """Seconds until the certificate expires; negative afterwards."""
    return (certificate.not_valid_after_utc - (now or datetime.now(UTC))).total_seconds()


def lifetime_s(certificate: x509.Certificate) -> float:
    whole = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return whole.total_seconds()


def serial_of(certificate: x509.Certificate) -> str:
    """In hexadecimal, as `revoked.txt` has it."""
    return f"{certificate.serial_number:x}"


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadCredentials(f"{path}: {error.strerror}.") from error
    if len(raw) > FILE_BYTES_MAX:
        raise BadCredentials(f"{path} is larger than {FILE_BYTES_MAX} bytes.")
    return raw


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise BadCredentials(f"{path} holds no certificate: {error}.") from error


def _own(path: Path) -> Own:
    raw = _read(path)
    about = path.stat()
    if about.st_mode & 0o077:
        raise BadCredentials(f"{path} holds a private key that others may read; chmod 600 it.")
    certificate = _certificates(path)[0]
    try:
        key = load_pem_private_key(raw, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadCredentials(f"{path} holds no private key that can be used: {error}.") from error
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise BadCredentials(f"{path}: the private key is not that of its first certificate.")
    return Own(path=path, kind=kind_of(certificate.public_key()), certificate=certificate)


def _revoked(folder: Path, pem: list[Path], trust: list[x509.Certificate]) -> set[int]:
    found = set(_serials(folder / SERIALS)) if (folder / SERIALS).exists() else set()
    for path in pem:
        if path.name.startswith(REVOKED):
            found |= _listed(path, trust)
    return found


def _serials(path: Path) -> list[int]:
    lines = [
        line.split("#")[0].strip() for line in _read(path).decode("utf-8", "replace").split("\n")
    ]
    try:
        return [int(line.replace(":", ""), 16) for line in lines if line]
    except ValueError as error:
        raise BadCredentials(f"{path}: a line is no serial number in hexadecimal.") from error


def _listed(path: Path, trust: list[x509.Certificate]) -> set[int]:
    """The serial numbers on a list that an authority signed. An old list is better than none."""
    try:
        revoked = x509.load_pem_x509_crl(_read(path))
    except ValueError as error:
        raise BadCredentials(f"{path} is no list of revoked certificates: {error}.") from error
    if not any(_signed(revoked, each) for each in trust):
        raise BadCredentials(f"{path} is not signed by an authority that is trusted here.")
    return {each.serial_number for each in revoked}


def _signed(revoked: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    if revoked.issuer != authority.subject:
        return False
    try:
        return revoked.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (InvalidSignature, TypeError, UnsupportedAlgorithm):
        return False
