"""X.509 certificates (RFC 5280; RFC 9881 for ML-DSA) under a key of the signer.

The library builds certificates with a private key in hand, and ours may be in a token. What is to
be signed does not depend on that key, so it is built with one that is thrown away, and then signed
by whoever can.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime.signer.algorithms import algorithm as row
from runtime.signer.algorithms import der
from runtime.signer.api import Certificate, CertificateRequest
from runtime.signer.errors import BadRequest, UnknownAlgorithm
from runtime.signer.keys.records import Record, Version, stamp
from runtime.signer.providers.base import wipe
from runtime.signer.providers.software import Software, private_key

AUTHORITY_YEARS = 5
BACKDATE = timedelta(minutes=5)
"""Clocks of those who verify may be behind."""
LIFETIME_S_MAX = 90 * 24 * 3600
NAMES_MAX = 64

_USAGES = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code-signing": ExtendedKeyUsageOID.CODE_SIGNING,
}

Signing = Callable[[bytes], bytes]
"""Signs what is given, with the issuer's key."""


def authority(record: Record, version: Version, sign: Signing) -> bytes:
    """The certificate of an authority by itself, DER."""
    _check_issuer(record)
    now = datetime.now(UTC)
    public = load_der_public_key(version.spki)
    name = _name(_title(record, version))
    builder = (
        _builder(name, name, public, now, timedelta(days=366 * AUTHORITY_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(_key_id(public), critical=False)
    )
    return _signed(builder, record.algorithm, sign)


def issue(
    request: CertificateRequest,
    record: Record,
    version: Version,
    authority_der: bytes,
    sign: Signing,
) -> Certificate:
    """A certificate for the key in the request. Raises BadRequest."""
    _check_issuer(record)
    public = _requested(request)
    now = datetime.now(UTC)
    issuer = x509.load_der_x509_certificate(authority_der)
    issuer_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(issuer.subject, _name(request.common_name), public, now,
                 timedelta(seconds=request.lifetime_s))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_USAGES[request.usage]]), critical=False)
        .add_extension(_key_id(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id),
            critical=False,
        )
    )  # fmt: skip
    if names := _alternatives(request):
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = x509.load_der_x509_certificate(_signed(builder, record.algorithm, sign))
    return Certificate(
        issuer=record.name,
        issuer_version=version.version,
        algorithm=record.algorithm,
        certificate_der=made.public_bytes(Encoding.DER),
        authority_der=authority_der,
        serial=f"{made.serial_number:x}",
        not_before=stamp(made.not_valid_before_utc),
        not_after=stamp(made.not_valid_after_utc),
        protection=version.protection,
    )


def _check_issuer(record: Record) -> None:
    if not row(record.algorithm).signed_as or record.algorithm.startswith("SLH-DSA"):
        raise UnknownAlgorithm(
            f"{record.name} is a key of {record.algorithm}, which issues no certificates here."
        )


def _requested(request: CertificateRequest) -> Any:
    """The public key that a certificate is wanted for, whose owner has shown to have it."""
    if not 0 < request.lifetime_s <= LIFETIME_S_MAX:
        raise BadRequest(f"A certificate lives for up to {LIFETIME_S_MAX} seconds.")
    if len(request.dns_names) + len(request.ip_addresses) > NAMES_MAX:
        raise BadRequest(f"A certificate has at most {NAMES_MAX} names.")
    try:
        asked = x509.load_der_x509_csr(request.csr_der)
        if not asked.is_signature_valid:
            raise InvalidSignature
        return asked.public_key()
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise BadRequest("The request is no PKCS#10 request that its own key signed.") from error


def _alternatives(request: CertificateRequest) -> list[x509.GeneralName]:
    try:
        return [
            *(x509.DNSName(name) for name in request.dns_names),
            *(x509.IPAddress(ipaddress.ip_address(each)) for each in request.ip_addresses),
        ]
    except ValueError as error:
        raise BadRequest(f"This is no name for a certificate: {error}.") from error


def _builder(
    issuer: x509.Name, subject: x509.Name, public: Any, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + life)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_id(public: Any) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(public)


def _title(record: Record, version: Version) -> str:
    return f"qmk {record.name} {version.version}"


def _name(common_name: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    except ValueError as error:
        raise BadRequest(f"This is no name for a certificate: {error}.") from error


def _signed(builder: x509.CertificateBuilder, algorithm: str, sign: Signing) -> bytes:
    """The certificate, signed by `sign` in place of a key of the same algorithm."""
    secret, _ = Software().generate(algorithm)
    try:
        digest = hashes.SHA256() if algorithm == "ES256" else None
        tbs = builder.sign(private_key(algorithm, secret), digest).tbs_certificate_bytes
    finally:
        wipe(secret)
    identifier = der(0x30, row(algorithm).signed_as)
    return der(0x30, tbs + identifier + der(0x03, b"\0" + sign(tbs)))
