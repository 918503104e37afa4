"""A certificate authority inside this process, for tests, benchmarks and demonstrations alone.

It stands where the signer stands (`runtime.signer.api.Sign.issue`). Its keys are in memory and die
with it; nothing that serves anybody may use it.
"""

from __future__ import annotations

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runtime.remote.suites import kind_of
from runtime.signer.api import Certificate, CertificateRequest, PublicKey, Signature

DAY = datetime.timedelta(days=1)
USES = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code-signing": ExtendedKeyUsageOID.CODE_SIGNING,
}


class Authority:
    """Issues under `tls-ca` (ES256) and `tls-ca-pqc` (ML-DSA-65). shift: moves what is issued in
    time, to before it is valid or after it has expired."""

    def __init__(self, name: str = "test authority") -> None:
        self.shift = datetime.timedelta(0)
        self._name = name
        self._keys: dict[str, ec.EllipticCurvePrivateKey | mldsa.MLDSA65PrivateKey] = {
            "tls-ca": ec.generate_private_key(ec.SECP256R1()),
            "tls-ca-pqc": mldsa.MLDSA65PrivateKey.generate(),
        }
        self.roots = {name: self._root(name) for name in self._keys}

    def sign(self, key: str, message: bytes) -> Signature:
        raise AssertionError("this authority issues, and signs nothing else")

    def public(self, key: str, version: int | None = None) -> PublicKey:
        raise AssertionError("this authority shows its certificates alone")

    def issue(self, request: CertificateRequest) -> Certificate:
        csr = x509.load_der_x509_csr(request.csr_der)
        assert csr.is_signature_valid, "who asks has the key"
        root = self.roots[request.issuer]
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + self.shift
        end = now + datetime.timedelta(seconds=request.lifetime_s)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, request.common_name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(root.subject)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(x509.ExtendedKeyUsage([USES[request.usage]]), False)
        )
        names: list[x509.GeneralName] = [x509.DNSName(each) for each in request.dns_names]
        for each in request.ip_addresses:
            names.append(x509.IPAddress(ipaddress.ip_address(each)))
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        made = builder.sign(self._keys[request.issuer], self._digest(request.issuer))
        der = serialization.Encoding.DER
        return Certificate(
            issuer=request.issuer,
            issuer_version=1,
            algorithm=kind_of(root.public_key()),
            certificate_der=made.public_bytes(der),
            authority_der=root.public_bytes(der),
            serial=f"{made.serial_number:x}",
            not_before=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            not_after=end.strftime("%Y-%m-%dT%H:%M:%SZ"),
            protection="software",
        )

    def revocation_list(self, issuer: str, *serials: int) -> bytes:
        """A list of revoked certificates, PEM."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.roots[issuer].subject)
            .last_update(now)
            .next_update(now + DAY)
        )
        for serial in serials:
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            builder = builder.add_revoked_certificate(one.build())
        made = builder.sign(self._keys[issuer], self._digest(issuer))
        return made.public_bytes(serialization.Encoding.PEM)

    def _digest(self, name: str) -> hashes.SHA256 | None:
        return hashes.SHA256() if name == "tls-ca" else None

    def _root(self, name: str) -> x509.Certificate:
        key = self._keys[name]
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{self._name} {name}")])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 30 * DAY)
            .not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
            .sign(key, self._digest(name))
        )
