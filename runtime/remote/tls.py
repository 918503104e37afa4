"""One end of a TLS 1.3 connection, without I/O: bytes of the network in and out, plain bytes out
and in. The one place that touches OpenSSL.

Only TLS 1.3, which has no renegotiation. Each side shows a certificate. No tickets, no resumption
and no early data: every connection is judged anew, and nothing can be replayed into it.
The OpenSSL is the one inside `cryptography`, so that of the host does not matter.
"""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Any

from cryptography import x509
from OpenSSL import SSL, _util
from OpenSSL.crypto import X509

from runtime.client.address import TlsMode
from runtime.client.stream import Facts
from runtime.remote.credentials import Credentials, common_name, serial_of
from runtime.remote.errors import BadCredentials, HandshakeFailed
from runtime.remote.suites import GROUPS, SCHEMES, kind_of

RECORD_BYTES_MAX = 16 * 1024  # of plain bytes, RFC 8446 section 5.1
CHUNK_BYTES = 64 * 1024
NO_WILDCARDS = 0x2  # X509_CHECK_FLAG_NO_WILDCARDS
NO_AUTO_CHAIN = 0x8  # SSL_MODE_NO_AUTO_CHAIN: the other end has the authority's certificate

_lib: Any = _util.lib

# What OpenSSL calls it -> why a handshake failed, for counting; and what a person should know.
REASONS: dict[str, tuple[tuple[str, ...], str]] = {
    "no common group": (
        ("no suitable key share", "handshake failure", "no suitable groups"),
        "the two ends have no key exchange in common: the modes of cryptography do not meet",
    ),
    "no common signature": (
        ("no suitable signature algorithm", "no shared signature", "certificate unknown ca kind"),
        "neither end has a certificate of a kind that the other takes",
    ),
    "old protocol": (
        ("unsupported protocol", "protocol version", "version too low", "no protocols available"),
        "the other end does not speak TLS 1.3",
    ),
    "no certificate": (
        ("peer did not return a certificate", "certificate required"),
        "the client showed no certificate that the server takes",
    ),
    "expired": (("certificate has expired", "certificate expired"), "a certificate has expired"),
    "not yet valid": (("certificate is not yet valid",), "a certificate is not valid yet"),
    "revoked": (("certificate revoked",), "a certificate is revoked"),
    "unknown authority": (
        ("unknown ca", "unable to get local issuer", "self-signed certificate", "self signed"),
        "a certificate is of an authority that the other end does not trust",
    ),
    "wrong purpose": (
        ("unsuitable certificate purpose", "unsupported certificate", "invalid purpose"),
        "a certificate is not meant for this end of a connection",
    ),
    "wrong name": (("hostname mismatch", "ip address mismatch"), "the server is not who was asked"),
    "certificate refused": (
        ("certificate verify failed", "bad certificate", "certificate unknown", "access denied"),
        "a certificate was not believed",
    ),
    "not TLS": (
        ("wrong version number", "http request", "unexpected message", "packet length too long",
         "record layer failure", "unknown protocol", "bad record type"),
        "the other end does not speak TLS",
    ),
    "ended": (("unexpected eof", "syscall error"), "the other end went away"),
}  # fmt: skip


class Context:
    """What connections are made with: certificates, trust and mode, of one end.

    Immutable once made; a renewed certificate means a new context, and old connections go on.
    """

    def __init__(self, credentials: Credentials, mode: TlsMode, *, server: bool) -> None:
        self.server = server
        self.mode = mode
        self.credentials = credentials
        context = SSL.Context(SSL.TLS_SERVER_METHOD if server else SSL.TLS_CLIENT_METHOD)
        self._context = context
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_mode(NO_AUTO_CHAIN)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
        if server:
            context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
        usable, kinds = credentials.usable(mode), credentials.trusted_kinds(mode)
        # pyOpenSSL has no public name for these (pyca/pyopenssl pull request 1477).
        raw: Any = context._context
        _must(_lib.SSL_CTX_set1_curves_list(raw, ":".join(GROUPS[mode]).encode()))
        schemes = ":".join(SCHEMES[mode][kind] for kind in kinds)
        _must(_lib.SSL_CTX_set1_sigalgs_list(raw, schemes.encode()))
        _must(_lib.SSL_CTX_set_max_early_data(raw, 0))
        store = context.get_cert_store()
        assert store is not None, "a context has a store"
        for authority in credentials.trust:
            store.add_cert(X509.from_cryptography(authority))
        for own in usable:
            try:
                context.use_certificate_chain_file(str(own.path))
                context.use_privatekey_file(str(own.path))
            except SSL.Error as error:
                raise BadCredentials(f"{own.path} is of no use: {_reasons(error)}.") from error
        if server:
            for authority in credentials.trust:
                context.add_client_ca(authority)

    def connection(self, host: str | None = None) -> Tls:
        """A new connection's end. host: whom a client wants to speak to, by name or address."""
        assert self.server == (host is None), "a client says whom it wants"
        return Tls(SSL.Connection(self._context, None), self, host)


class Tls:
    """One connection. `take` bytes from the network, `give` it plain ones, send what is `outgoing`.

    Raises HandshakeFailed from any of them; `outgoing` may then still hold the alert that tells the
    other end. ended: the other end has said that it sends no more.
    """

    def __init__(self, connection: SSL.Connection, context: Context, host: str | None) -> None:
        self._connection = connection
        self._host = host
        self._revoked = context.credentials.revoked
        self.done = False
        self.ended = False
        if host is None:
            connection.set_accept_state()
        else:
            _ask_for(connection, host)
            connection.set_connect_state()

    def start(self) -> None:
        """Begin the handshake: a client speaks first."""
        self._shake()

    def take(self, data: bytes) -> bytes:
        """Bytes from the network; returns the plain ones among them that are complete."""
        at = 0
        plain: list[bytes] = []
        while at < len(data):
            at += self._connection.bio_write(data[at : at + CHUNK_BYTES])
            if not self.done:
                self._shake()
            if self.done:
                plain += self._plain()
        return b"".join(plain)

    def give(self, data: bytes | bytearray | memoryview) -> None:
        """Plain bytes, which come out of `outgoing` in a form that others cannot read."""
        assert self.done, "only what is agreed can be used"
        view = memoryview(data)
        for at in range(0, len(view), RECORD_BYTES_MAX):
            try:
                self._connection.sendall(bytes(view[at : at + RECORD_BYTES_MAX]))
            except SSL.Error as error:
                raise self._failed(error) from error

    def outgoing(self) -> bytes:
        """What is to be sent over the network now."""
        parts: list[bytes] = []
        while True:
            try:
                parts.append(self._connection.bio_read(CHUNK_BYTES))
            except SSL.WantReadError:
                return b"".join(parts)

    def end(self) -> None:
        """Say that no more comes from here; `outgoing` then has it."""
        with contextlib.suppress(SSL.Error):  # There may be nobody left to tell.
            self._connection.shutdown()

    def peer_certificate(self) -> x509.Certificate:
        """The other end's, once the handshake is done."""
        found = self._connection.get_peer_certificate()
        assert found is not None, "either side shows one"
        return found.to_cryptography()

    def authority(self) -> x509.Certificate:
        """Whom we trust, and who vouches for the other end's certificate in the end."""
        chain = self._connection.get_verified_chain()
        assert chain, "what is believed leads up to somebody"
        return chain[-1].to_cryptography()

    def facts(self) -> Facts:
        """What was agreed, once the handshake is done."""
        peer = self.peer_certificate()
        own = self._connection.get_certificate()
        return Facts(
            protocol=self._connection.get_protocol_version_name(),
            group=_group(self._connection.get_group_name()),
            cipher=self._connection.get_cipher_name() or "",
            own_certificate="none" if own is None else kind_of(own.to_cryptography().public_key()),
            peer_certificate=kind_of(peer.public_key()),
            peer=common_name(peer),
            peer_serial=serial_of(peer),
            peer_expires=peer.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )

    def _shake(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except SSL.Error as error:
            raise self._failed(error) from error
        peer = self.peer_certificate()
        # Of what else a server objects to it can tell in words, once it may speak.
        if self._host is not None and peer.serial_number in self._revoked:
            raise HandshakeFailed("revoked", f"the certificate of {common_name(peer)} is revoked.")
        self.done = True

    def _plain(self) -> list[bytes]:
        parts: list[bytes] = []
        while True:
            try:
                parts.append(self._connection.recv(CHUNK_BYTES))
            except SSL.WantReadError:
                return parts
            except SSL.ZeroReturnError:
                self.ended = True
                return parts
            except SSL.Error as error:
                raise self._failed(error) from error

    def _failed(self, error: SSL.Error) -> HandshakeFailed:
        said = _reasons(error)
        if "certificate verify failed" in said:
            raw: Any = self._connection._ssl
            number = _lib.SSL_get_verify_result(raw)
            said = _util.ffi.string(_lib.X509_verify_cert_error_string(number)).decode()
        reason = _reason(said)
        about = REASONS[reason][1] if reason in REASONS else "the handshake failed"
        return HandshakeFailed(reason, f"{about} ({said}).")


def _ask_for(connection: SSL.Connection, host: str) -> None:
    """Have OpenSSL hold the server's certificate against a name or an address, without wildcards.

    By its own means, for a function of ours that it calls back needs memory which can be written
    and run, and services here have none.
    """
    raw: Any = connection._ssl
    param = _lib.SSL_get0_param(raw)
    address = _address(host)
    if address is not None:
        _must(_lib.X509_VERIFY_PARAM_set1_ip(param, address.packed, len(address.packed)))
        return
    name = host.rstrip(".").encode("idna")
    _lib.X509_VERIFY_PARAM_set_hostflags(param, NO_WILDCARDS)
    _must(_lib.X509_VERIFY_PARAM_set1_host(param, name, len(name)))
    connection.set_tlsext_host_name(name)


def _must(result: int) -> None:
    assert result == 1, "OpenSSL knows the groups and schemes of our tables"


def _reasons(error: SSL.Error) -> str:
    """OpenSSL's own words."""
    if error.args and isinstance(error.args[0], list):
        return ", ".join(str(each[-1]) for each in error.args[0]) or "no reason given"
    return ", ".join(str(each).lower() for each in error.args) or type(error).__name__


def _reason(said: str) -> str:
    """Which of REASONS that is."""
    lower = said.lower()
    for reason, (words, _) in REASONS.items():
        if any(word in lower for word in words):
            return reason
    return "other"


def _group(name: str | None) -> str:
    """OpenSSL writes old groups in lower case."""
    known = {each.lower(): each for groups in GROUPS.values() for each in groups}
    aliases = {"secp256r1": "P-256", "prime256v1": "P-256"}
    lower = (name or "").lower()
    return known.get(lower) or aliases.get(lower) or name or ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
