"""Asking the signer for certificates, and keeping them in a folder of credentials.

The private key of a certificate is made where it is used and stays there, in a file of its owner
(`protection: software`, and it lives for days). Those of the authorities are the signer's.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime.remote.credentials import OWN, TRUST, Own, common_name, left_s, lifetime_s
from runtime.remote.errors import BadCredentials
from runtime.remote.suites import kind_of
from runtime.signer.api import Certificate, CertificateRequest, Sign

AUTHORITIES = {"ES256": "tls-ca", "ML-DSA-65": "tls-ca-pqc"}
"""Kind of certificate -> the signer's key that makes it, in the default installation."""

LIFETIME_S = 7 * 24 * 3600
RENEW_AT = 1 / 3  # of its lifetime left

Kind = Literal["ES256", "ML-DSA-65"]
Usage = Literal["server", "client"]
Key = ec.EllipticCurvePrivateKey | mldsa.MLDSA65PrivateKey
Renewal = Callable[[Own], Certificate]
"""Makes a new certificate in the place of one; raises what the signer raises."""


def new_key(kind: str) -> Key:
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ES256" else _new_mldsa()


def _new_mldsa() -> mldsa.MLDSA65PrivateKey:
    return mldsa.MLDSA65PrivateKey.generate()


def key_pem(key: Key) -> bytes:
    """PKCS #8; of an ML-DSA key its seed alone, which every library reads."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signing_request(
    key: Key, name: str, hosts: Sequence[str] = ()
) -> x509.CertificateSigningRequest:
    """PKCS #10: a public key, proof of its private one, and what the certificate is to say."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(general_names(hosts)), False)
    digest = hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None
    return builder.sign(key, digest)


def general_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    """Names and addresses of hosts, as certificates have them."""
    dns, addresses = split_names(hosts)
    found: list[x509.GeneralName] = [x509.DNSName(each) for each in dns]
    return found + [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]


def split_names(hosts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of hosts, and addresses."""
    addresses = []
    for each in hosts:
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(each)
            addresses.append(each)
    return [each for each in hosts if each not in addresses], addresses


def ask(
    sign: Sign,
    csr: x509.CertificateSigningRequest,
    *,
    issuer: str,
    usage: Usage,
    name: str,
    hosts: Sequence[str] = (),
    lifetime: int = LIFETIME_S,
) -> Certificate:
    """Have the signer make a certificate. Raises `runtime.signer.errors.SignerError`."""
    dns, addresses = split_names(hosts)
    return sign.issue(
        CertificateRequest(
            issuer=issuer,
            csr_der=csr.public_bytes(Encoding.DER),
            usage=usage,
            common_name=name,
            dns_names=dns,
            ip_addresses=addresses,
            lifetime_s=lifetime,
        )
    )


def is_due(certificate: x509.Certificate) -> bool:
    """Whether it is time to renew it."""
    return left_s(certificate) < RENEW_AT * lifetime_s(certificate)


def obtain(
    sign: Sign,
    folder: Path,
    kind: str,
    *,
    usage: Usage,
    name: str,
    hosts: Sequence[str] = (),
    lifetime: int = LIFETIME_S,
    issuer: str | None = None,
) -> Certificate:
    """Make a key, have it certified, and keep both in the folder, with the authority to trust.

    Raises BadCredentials, and what the signer raises.
    """
    if kind not in AUTHORITIES:
        raise BadCredentials(f"The signer certifies no keys of kind {kind}.")
    key = new_key(kind)
    csr = signing_request(key, name, hosts)
    made = ask(
        sign,
        csr,
        issuer=issuer or AUTHORITIES[kind],
        usage=usage,
        name=name,
        hosts=hosts,
        lifetime=lifetime,
    )
    store(folder, kind, made, key_pem(key))
    return made


def store(folder: Path, kind: str, made: Certificate, key: bytes) -> Path:
    """Put a certificate, its key and its authority into a folder; returns the first one's file."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = _pem(made.authority_der)
    trust = folder / f"{TRUST}{kind.lower()}-{made.issuer_version}.pem"
    if not trust.exists():
        write(trust, authority, 0o644)
    path = folder / f"{OWN}{kind.lower()}.pem"
    write(path, _pem(made.certificate_der) + key, 0o600)
    return path


def write(path: Path, data: bytes, mode: int) -> None:
    """Put a whole file there in one step: who reads sees the one before or this one."""
    fd, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.rename(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def renewal(sign: Sign, hosts: Sequence[str] | None = None) -> Renewal:
    """What renews a certificate by the signer: the same name and use, with a new key.

    hosts: what a server's is for; None takes over what the old one says.
    """

    def renew(own: Own) -> Certificate:
        old = own.certificate
        return obtain(
            sign,
            own.path.parent,
            own.kind,
            usage=usage_of(old),
            name=common_name(old),
            hosts=hosts_of(old) if hosts is None else hosts,
            lifetime=round(lifetime_s(old)),
        )

    return renew


def usage_of(certificate: x509.Certificate) -> Usage:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return "client"
    return "server" if ExtendedKeyUsageOID.SERVER_AUTH in uses else "client"


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """The names and addresses that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(each) for each in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def request(folder: Path, kind: str, name: str, hosts: Sequence[str] = ()) -> Path:
    """Make a key, and a request for its certificate beside it; returns the request's file."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = new_key(kind)
    stem = folder / f"{name}-{kind.lower()}"
    path = stem.with_name(stem.name + ".csr")
    write(stem.with_name(stem.name + ".key"), key_pem(key), 0o600)
    write(path, signing_request(key, name, hosts).public_bytes(Encoding.PEM), 0o644)
    return path


def certify(
    sign: Sign,
    request_pem: bytes,
    *,
    name: str,
    hosts: Sequence[str] = (),
    lifetime: int = LIFETIME_S,
) -> tuple[Certificate, bytes]:
    """Answer a request: the certificate, and PEM of it and of its authority.

    name and hosts are what is certified, whatever the request says. Raises BadCredentials.
    """
    try:
        csr = x509.load_pem_x509_csr(request_pem)
        kind = kind_of(csr.public_key())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadCredentials(f"That is no request for a certificate: {error}.") from error
    if kind not in AUTHORITIES:
        raise BadCredentials(f"The request is for a key of a kind that is not certified: {kind}.")
    usage: Usage = "server" if hosts else "client"
    issuer = AUTHORITIES[kind]
    made = ask(sign, csr, issuer=issuer, usage=usage, name=name, hosts=hosts, lifetime=lifetime)
    return made, _pem(made.certificate_der) + _pem(made.authority_der)


def accept(folder: Path, key_file: Path, certificate: bytes) -> Path:
    """Put a certificate that came back for a request, PEM with its authority, beside its key."""
    try:
        chain = x509.load_pem_x509_certificates(certificate)
        key = load_pem_private_key(key_file.read_bytes(), None)
    except FileNotFoundError as error:
        raise BadCredentials(f"{key_file} is not there: was it requested from here?") from error
    except ValueError as error:
        raise BadCredentials(f"That is no certificate: {error}.") from error
    if len(chain) < 2 or key.public_key() != chain[0].public_key():
        raise BadCredentials(f"The certificate is not the one for the key in {key_file}.")
    kind = kind_of(chain[0].public_key())
    write(folder / f"{TRUST}{kind.lower()}-{chain[1].serial_number:x}.pem",
          chain[1].public_bytes(Encoding.PEM), 0o644)  # fmt: skip
    path = folder / f"{OWN}{kind.lower()}.pem"
    write(path, chain[0].public_bytes(Encoding.PEM) + key_file.read_bytes(), 0o600)
    key_file.unlink()
    return path


@contextlib.contextmanager
def signer_at(path: str | None) -> Iterator[Sign]:
    """The signer that serves this socket; None: the one that its own client finds."""
    from runtime.signer.client import SignerClient

    with SignerClient(path) as client:
        yield client


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
