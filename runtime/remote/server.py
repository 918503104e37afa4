"""The service: accepts TLS connections, admits clients by their certificates, bridges each.

Who a client is, its certificate says and nothing else: the common name stands for a user of this
host (`settings.Admitted`), and the daemon sees that user, because the connection to it is made by a
process of that user: this one, or that user's relay (`relay.py`). Nothing here has any privilege.

A connection ends when its certificate expires, or is revoked, or its client is admitted no more.
Certificates are renewed, and credentials read again, while connections go on.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from runtime.client.stream import Facts
from runtime.remote import certificates
from runtime.remote.bridge import (
    NotThere,
    SecureStream,
    Stalled,
    connect_local,
    join,
    tell_systemd,
)
from runtime.remote.credentials import Credentials, left_s, load
from runtime.remote.errors import HandshakeFailed, RemoteError
from runtime.remote.metrics import Metrics
from runtime.remote.settings import Admitted, Settings, uid_of
from runtime.remote.tls import Context
from syscalls.errors import Busy
from syscalls.jsonrpc import encode_error

_log = logging.getLogger("qmk.remote")

LOOK_S = 5.0  # how often the credentials' folder is looked at
RENEW_EVERY_S = 60.0
RETRY_MS = 1000
BACKLOG = 256
NOT_ADMITTED = -32190  # of this service alone; the kernel's codes are others
KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Client(msgspec.Struct):
    """One that is connected and admitted. authority: who vouches for it, as `_mark` has it."""

    facts: Facts
    serial: int
    authority: bytes
    scope: trio.CancelScope
    why: str = ""  # it is to end


class Server:
    """All connections. renew: makes new certificates where it is time; None where nothing does."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics | None = None,
        renew: certificates.Renewal | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics or Metrics()
        self.clients: dict[int, Client] = {}
        self._renew = renew
        self._folder = Path(settings.credentials)
        self._admitted = {each.name: each for each in settings.client}
        self._seen = _look(self._folder)
        self._context = self._made(load(self._folder))
        self._numbers = 0
        self._by_name: Counter[str] = Counter()
        self._by_host: Counter[str] = Counter()

    @property
    def handshakes(self) -> int:
        """Connections that have not shown yet who they are."""
        return sum(self._by_host.values())

    # --- running --------------------------------------------------------------------------------

    async def listen(self) -> list[trio.SocketListener]:
        """Bind what the settings say. Raises OSError."""
        found: list[trio.SocketListener] = []
        for host, port in self.settings.listeners():
            found += await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
        return found

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(self._accept, listener, nursery)
            nursery.start_soon(self._look_after_credentials)
            if self._renew is not None:
                nursery.start_soon(self._look_after_certificates, self._renew)

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        while True:
            try:
                tcp = await listener.accept()
            except OSError as error:
                if error.errno not in _NO_DESCRIPTORS:
                    raise
                _log.warning("out of descriptors; accepting is paused")
                await trio.sleep(0.1)
                continue
            nursery.start_soon(self._meet, tcp)

    # --- one connection -------------------------------------------------------------------------

    async def _meet(self, tcp: trio.SocketStream) -> None:
        """From the first byte to the last."""
        try:
            peer = tcp.socket.getpeername()
            for option in KEEPALIVE:
                tcp.socket.setsockopt(*option)
        except OSError:
            await trio.aclose_forcefully(tcp)
            return
        host = str(peer[0])
        limits = self.settings.limits
        crowded = self.handshakes >= limits.handshakes
        if crowded or self._by_host[host] >= limits.handshakes_per_host:
            self._refuse(host, "too many handshakes", "too many handshakes at once")
            await trio.aclose_forcefully(tcp)
            return
        try:
            await self._shake_and_serve(tcp, host)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            _log.info("%s: lost: %s", host, error)
        except Stalled as error:
            _log.info("%s: %s", host, error)
        except Exception:
            # A fault of ours that one client meets is not to end the others' connections.
            self.metrics.refused.labels("fault").inc()
            _log.exception("%s: this is a fault of the service itself", host)
        finally:
            await trio.aclose_forcefully(tcp)

    async def _shake_and_serve(self, tcp: trio.SocketStream, host: str) -> None:
        limits = self.settings.limits
        began = trio.current_time()
        tls = self._context.connection()
        stream = SecureStream(tcp, tls, limits.stalled_s)
        self._by_host[host] += 1
        try:
            with trio.move_on_after(limits.handshake_s) as patience:
                await stream.shake_hands()
        except HandshakeFailed as failed:
            self._refuse(host, failed.reason, str(failed))
            await stream.send_eof()
            return
        finally:
            self._by_host[host] -= 1
            if not self._by_host[host]:
                del self._by_host[host]
        if patience.cancelled_caught:
            self._refuse(host, "slow handshake", f"no handshake within {limits.handshake_s:g} s")
            return
        facts = tls.facts()
        self.metrics.agreed(facts, trio.current_time() - began)
        _log.info(
            "%s: %s connects: group %s, certificate %s, of the client %s (serial %s, until %s)",
            host, facts.peer, facts.group, facts.own_certificate, facts.peer_certificate,
            facts.peer_serial, facts.peer_expires,
        )  # fmt: skip
        peer = tls.peer_certificate()
        client = Client(facts, peer.serial_number, _mark(tls.authority()), trio.CancelScope())
        client.scope.deadline = trio.current_time() + max(0.0, left_s(peer))
        await self._serve_client(stream, client, host)

    async def _serve_client(self, stream: SecureStream, client: Client, host: str) -> None:
        name = client.facts.peer
        refusal = self._refusal(client)
        if refusal is not None:
            reason, sentence, answer = refusal
            self._refuse(host, reason, sentence)
            await stream.send_all(answer)
            await stream.send_eof()
            return
        self._numbers += 1
        number = self._numbers
        self.clients[number] = client
        self._by_name[name] += 1
        self.metrics.connections.set(len(self.clients))
        why = "its certificate expired"
        try:
            with client.scope:
                why = await self._bridge(stream, self._admitted[name])
        finally:
            del self.clients[number]
            self._by_name[name] -= 1
            if not self._by_name[name]:
                del self._by_name[name]
            self.metrics.connections.set(len(self.clients))
        _log.info("%s: %s: %s", host, name, client.why or why)

    async def _bridge(self, stream: SecureStream, who: Admitted) -> str:
        """Carry its bytes, to the daemon or to its user's relay; why that ended."""
        path, uid = Path(self.settings.daemon), None
        if who.user is not None:
            path, uid = self.settings.relay_of(who.user), uid_of(who.user)
        try:
            local = await connect_local(path, uid)
        except NotThere as error:
            self.metrics.refused.labels("daemon away").inc()
            what = "the daemon does not answer" if uid is None else f"no relay for {who.name}"
            await stream.send_all(encode_error(None, Busy(what=what, retry_after_ms=RETRY_MS)))
            await stream.send_eof()
            return str(error)
        return await join(stream, local, lambda way, more: self.metrics.bytes.labels(way).inc(more))

    def _refusal(self, client: Client) -> tuple[str, str, bytes] | None:
        """Why a client that is known may not go on, if so: reason, sentence, what it is told."""
        limits, name = self.settings.limits, client.facts.peer
        revoked = client.serial in self._context.credentials.revoked
        if revoked or name not in self._admitted:
            what = f"{name or 'nobody'!r} has a certificate, and is not admitted here"
            if revoked:
                what = f"the certificate of {name or 'nobody'!r} is revoked"
            sentence = f"{what[0].upper()}{what[1:]}; ask the machine's administrator."
            error = {"code": NOT_ADMITTED, "message": sentence, "data": {"type": "NOT_ADMITTED"}}
            line = msgspec.json.encode({"jsonrpc": "2.0", "error": error, "id": None}) + b"\n"
            return "revoked" if revoked else "not admitted", what, line
        busy = None
        if len(self.clients) >= limits.connections:
            busy = "too many remote connections"
        elif self._by_name[name] >= limits.connections_per_client:
            busy = f"too many connections of {name}"
        if busy is None:
            return None
        return "too many", busy, encode_error(None, Busy(what=busy, retry_after_ms=RETRY_MS))

    def _refuse(self, host: str, reason: str, sentence: str) -> None:
        self.metrics.refused.labels(reason).inc()
        _log.warning("%s: refused: %s", host, sentence)

    # --- credentials ----------------------------------------------------------------------------

    def _made(self, found: Credentials) -> Context:
        context = Context(found, self.settings.crypto_mode, server=True)
        self.metrics.hold(found.own)
        return context

    def reload(self) -> bool:
        """Read the credentials again; what does not hold together changes nothing."""
        try:
            context = self._made(load(self._folder))
        except RemoteError as error:
            self.metrics.reloads.labels("failed").inc()
            _log.error("the credentials stay as they were: %s", error)
            return False
        self._context = context
        self.metrics.reloads.labels("done").inc()
        _log.info("credentials read: %s", _described(context))
        trusted = {_mark(each) for each in context.credentials.trust}
        for client in list(self.clients.values()):
            if client.serial in context.credentials.revoked:
                client.why = "its certificate is revoked"
            elif client.authority not in trusted:
                client.why = "its authority is not trusted any more"
            if client.why:
                client.scope.cancel()
        return True

    async def _look_after_credentials(self) -> None:
        """Read them again when they have changed."""
        while True:
            await trio.sleep(LOOK_S)
            self.look()

    def look(self) -> bool:
        """Read the credentials again if they have changed; whether they were read."""
        seen = _look(self._folder)
        if seen == self._seen:
            return False
        self._seen = seen
        return self.reload()

    async def _look_after_certificates(self, renew: certificates.Renewal) -> None:
        while True:
            await self.renew_due(renew)
            await trio.sleep(RENEW_EVERY_S)

    async def renew_due(self, renew: certificates.Renewal) -> None:
        """Renew every certificate whose time it is. What fails is tried again, and counted."""
        for own in self._context.credentials.own:
            if not certificates.is_due(own.certificate):
                continue
            try:
                fresh = await trio.to_thread.run_sync(renew, own)
            except Exception as error:  # the signer's own, of whatever kind
                self.metrics.renewals.labels("failed").inc()
                left = left_s(own.certificate)
                _log.error("%s is not renewed, %d s are left: %s", own.path.name, left, error)
                continue
            self.metrics.renewals.labels("done").inc()
            _log.info("%s is renewed: serial %s, until %s", own.path.name, fresh.serial,
                      fresh.not_after)  # fmt: skip
        self.look()

    @property
    def summary(self) -> str:
        """What it serves with, for a person."""
        return f"mode {self.settings.crypto_mode.value}, {_described(self._context)}"


def _mark(certificate: x509.Certificate) -> bytes:
    return certificate.fingerprint(hashes.SHA256())


def _described(context: Context) -> str:
    own = ", ".join(sorted(each.kind for each in context.credentials.usable(context.mode)))
    return f"certificates {own}, {len(context.credentials.revoked)} revoked"


def _look(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Enough of a folder to see that something in it has changed."""
    try:
        with os.scandir(folder) as entries:
            found = [(each.name, each.stat().st_mtime_ns, each.stat().st_ino) for each in entries]
    except OSError:
        return ()
    return tuple(sorted(found))


async def run(server: Server, ready: Callable[[list[str]], None]) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP has the credentials read again.

    ready: told the addresses it listens at.
    """
    listeners = await server.listen()
    if server.settings.metrics_port:
        server.metrics.serve(server.settings.metrics_port)
    ready([_address(each) for each in listeners])
    tell_systemd(f"READY=1\nSTATUS=Serving: {server.summary}.")
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listeners)
            async for number in signals:
                if number == signal.SIGHUP:
                    server.reload()
                    continue
                nursery.cancel_scope.cancel()
                break
    for listener in listeners:
        await listener.aclose()


def _address(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
