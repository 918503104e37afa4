"""Answers requests: who asks (SO_PEERCRED), whether the policy lets them, then the keys.

`Service.answer` takes a line and returns a line, and is all there is to fuzz. `Server` carries
lines between it and a Unix socket, a thread for each connection, of which a user has so many.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from runtime.signer import protocol as wire
from runtime.signer.algorithms import ALGORITHMS
from runtime.signer.config import Config, May, Policy
from runtime.signer.errors import BadRequest, SignerBusy, SignerError, SignerFault, StorageFailed
from runtime.signer.keys import backup
from runtime.signer.keys.records import Record, canonical, stamp
from runtime.signer.keys.store import Keys
from runtime.signer.metrics import Counters, due, render
from syscalls.framing import Scanner

CONNECTIONS_MAX = 64
CONNECTIONS_PER_USER_MAX = 16
MESSAGE_S_MAX = 30.0  # from its first byte to its last
ENTRIES_MAX = 1000
_CHUNK = 64 * 1024

_log = logging.getLogger("qmk.signer")
C = TypeVar("C", bound=wire.Call)
_request = msgspec.json.Decoder(wire.Request).decode


class Service:
    """The signer without its socket. Safe for several threads."""

    def __init__(self, keys: Keys, config: Config, hardening: dict[str, str]) -> None:
        """Raises ConfigError: a user of the policy is unknown."""
        self.keys = keys
        self.config = config
        self.hardening = hardening
        self.counters = Counters()
        self.token_problem: str | None = None
        self._policy = Policy(config.allow)
        self._decoders = {
            name: msgspec.json.Decoder(call).decode for name, call in wire.CALLS.items()
        }
        self._do: dict[type[wire.Call], Callable[[int, Any], Any]] = {
            wire.SignOne: self._sign,
            wire.SignAll: self._sign_all,
            wire.Public: lambda _, it: keys.public(it.key, it.version),
            wire.Verify: lambda _, it: keys.verify(it.key, it.message, it.signature, it.version),
            wire.Seal: lambda _, it: keys.seal(it.key, it.plaintext, it.label),
            wire.Unseal: self._unseal,
            wire.Issue: self._issue,
            wire.Authority: self._authority,
            wire.List: lambda _user, _it: self.listing(),
            wire.Create: self._create,
            wire.Rotate: self._rotate,
            wire.Revoke: self._revoke,
            wire.Statements: lambda _, it: [_raw(each) for each in keys.statements(it.name)],
            wire.Rewrap: self._rewrap,
            wire.TakeBackup: self._backup,
            wire.Restore: self._restore,
            wire.ReadAudit: self._audit,
            wire.Status: lambda _user, _it: self.status(),
            wire.Unlock: self._unlock,
            wire.Metrics: lambda _user, _it: self.metrics(),
        }
        assert self._do.keys() == set(wire.CALLS.values()), "every call is answered"

    def answer(self, user: int, line: bytes) -> bytes | None:
        """The answer to a line of this user; None for a notification. Raises nothing."""
        identity: int | str | None = None
        method, result = "none", "ok"
        try:
            try:
                request = _request(line)
            except wire.MALFORMED as error:
                raise BadRequest(f"This is no request: {str(error)[:200]}.") from error
            if isinstance(request.id, msgspec.UnsetType):
                return None
            identity = request.id
            decode = self._decoders.get(request.method)
            if decode is None or request.jsonrpc != "2.0":
                raise BadRequest(f"No call is named {request.method[:80]!r}.")
            method = request.method
            try:
                call = decode(request.params)
            except wire.MALFORMED as error:
                raise wire.bad_params(error) from error
            return wire.encode_answer(identity, self._do[type(call)](user, call))
        except SignerError as error:
            result = error.NAME
            if not isinstance(error, BadRequest):
                _log.warning("uid %d, %s: %s", user, method, error)
            return wire.encode_error(identity, error)
        except Exception as error:
            result = SignerFault.NAME
            # Where, and of what type: a message could hold what it failed on.
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind = type(error).__name__
            _log.error("uid %d, %s: %s, %s:%s", user, method, kind, where.filename, where.lineno)
            fault = SignerFault("The signer failed; its log says more.")
            return wire.encode_error(identity, fault)
        finally:
            self.counters.count(method, result)

    # --- calls ----------------------------------------------------------------------------------

    def _sign(self, user: int, call: wire.SignOne) -> Any:
        self._policy.check(user, May.SIGN, call.key)
        made = self._watched(lambda: self.keys.sign(call.key, call.message, user))
        self.counters.used(made.key, made.algorithm)
        return made

    def _sign_all(self, user: int, call: wire.SignAll) -> Any:
        if len(call.requests) > wire.MESSAGES_MAX:
            raise BadRequest(f"At most {wire.MESSAGES_MAX} messages are signed at once.")
        for each in call.requests:
            self._policy.check(user, May.SIGN, each.key)
        asked = [(each.key, each.message) for each in call.requests]
        made = self._watched(lambda: self.keys.sign_all(asked, user))
        for one in made:
            self.counters.used(one.key, one.algorithm)
        return made

    def _unseal(self, user: int, call: wire.Unseal) -> Any:
        self._policy.check(user, May.UNSEAL, call.key)
        return self._watched(
            lambda: self.keys.unseal(call.key, call.sealed, call.label, call.version, user)
        )

    def _issue(self, user: int, call: wire.Issue) -> Any:
        request = call.request
        self._policy.check(user, May.CERTIFY, request.issuer)
        names = [request.common_name, *request.dns_names, *request.ip_addresses]
        self._policy.check_names(user, request.issuer, names)
        made = self._watched(lambda: self.keys.issue(request, user))
        self.counters.used(made.issuer, made.algorithm)
        return made

    def _authority(self, user: int, call: wire.Authority) -> Any:
        if not self.keys.is_authority(call.key):
            self._policy.check(user, May.CERTIFY, call.key)
        return self._watched(lambda: self.keys.authority(call.key))

    def _create(self, user: int, call: wire.Create) -> Any:
        self._policy.check(user, May.MANAGE, call.name)
        return self._watched(
            lambda: self.keys.create(
                call.name,
                call.algorithm,
                provider=call.provider,
                protection=call.protection,
                user=user,
            )
        )

    def _rotate(self, user: int, call: wire.Rotate) -> Any:
        self._policy.check(user, May.MANAGE, call.name)
        key, statement = self._watched(
            lambda: self.keys.rotate(call.name, without_root=call.without_root, user=user)
        )
        return wire.Changed(key=key, statement=_raw(statement))

    def _revoke(self, user: int, call: wire.Revoke) -> Any:
        self._policy.check(user, May.MANAGE, call.name)
        key, statement = self._watched(
            lambda: self.keys.revoke(
                call.name,
                call.reason,
                version=call.version,
                without_root=call.without_root,
                user=user,
            )
        )
        return wire.Changed(key=key, statement=_raw(statement))

    def _rewrap(self, user: int, call: wire.Rewrap) -> Any:
        self._policy.check(user, May.MANAGE, "*")
        return self._watched(lambda: self.keys.rewrap(user))

    def _backup(self, user: int, call: wire.TakeBackup) -> Any:
        self._policy.check(user, May.MANAGE, "*")
        data = self._watched(lambda: backup.backup(self.keys, call.passphrase, user))
        return wire.BackupFile(data=data)

    def _restore(self, user: int, call: wire.Restore) -> Any:
        self._policy.check(user, May.MANAGE, "*")
        return self._watched(lambda: backup.restore(self.keys, call.data, call.passphrase, user))

    def _audit(self, user: int, call: wire.ReadAudit) -> Any:
        self._policy.check(user, May.AUDIT, "*")
        log = self.keys.audit
        since = call.since if call.since > 0 else log.seq + 1 + call.since
        try:
            verified = log.verify() if call.verify else None
            entries = log.entries(max(since, 1), max(0, min(call.most, ENTRIES_MAX)))
        except OSError as error:
            raise StorageFailed(f"The audit log cannot be read: {error.strerror}.") from error
        return wire.AuditPage(
            entries=[_raw(each) for each in entries],
            seq=log.seq,
            head=log.head,
            verified=verified,
        )

    def _unlock(self, user: int, call: wire.Unlock) -> Any:
        self._policy.check(user, May.MANAGE, "*")
        if self.keys.custody.token is not None:
            self.keys.custody.token.close()
        self._watched(lambda: self.keys.custody.open(insist=True))
        return self.status()

    def _watched(self, do: Callable[[], Any]) -> Any:
        """Do what may need the token, and remember whether it answered."""
        try:
            found = do()
        except SignerError as error:
            if -31024 <= error.CODE <= -31021:
                self.token_problem = str(error)
            raise
        self.token_problem = None
        return found

    # --- what there is --------------------------------------------------------------------------

    def listing(self) -> wire.Listing:
        keys = [self._info(self.keys.record(name)) for name in self.keys.names]
        return wire.Listing(keys=keys, damaged=self.keys.damaged)

    def _info(self, record: Record) -> wire.KeyInfo:
        newest = record.newest()
        return wire.KeyInfo(
            name=record.name,
            algorithm=record.algorithm,
            version=newest.version,
            state=newest.state,
            protection=newest.protection,
            provider=newest.provider,
            quantum_safe=ALGORITHMS[record.algorithm].quantum_safe,
            created_at=newest.created_at,
            due_at=stamp(due(newest.created_at, self.config.rotate_days)),
            versions=len(record.versions),
        )

    def status(self) -> wire.ServiceStatus:
        token, status = self.keys.custody.token, None
        if token is not None:
            status = wire.TokenStatus(
                label=token.config.label,
                module=token.config.module,
                serial=token.serial,
                version=token.version,
                problem=self.token_problem,
                tried=self.keys.custody.findings,
            )
        now = datetime.now(UTC)
        return wire.ServiceStatus(
            version=metadata.version("qmkd"),
            uid=os.getuid(),
            providers={each.name: each.version for each in self.keys.chain.providers},
            missing=self.keys.chain.missing,
            token=status,
            hardening=self.hardening,
            audit_seq=self.keys.audit.seq,
            audit_head=self.keys.audit.head,
            overdue=[
                each.name
                for each in self.listing().keys
                if each.state == "active" and datetime.fromisoformat(each.due_at) <= now
            ],
        )

    def metrics(self) -> str:
        token = self.keys.custody.token
        up = None if token is None else self.token_problem is None
        return render(self.counters, self.listing(), up, self.keys.audit.seq)

    def start(self) -> None:
        """Open the token and say what is found. A token that is not there stops nothing else."""
        if self.keys.custody.token is None:
            _log.warning(
                "NO TOKEN is configured: every key here is protected by files alone, and is called "
                "`software`. `[token]` in the configuration names one."
            )
            return
        try:
            self._watched(self.keys.custody.open)
        except SignerError as error:
            _log.error("the token is not usable: %s It is tried again when needed.", error)
            return
        for what, why in self.keys.custody.findings.items():
            _log.info("the token %s: %s", what, "keeps its keys" if why is None else why)


def _raw(value: object) -> Raw:
    return Raw(canonical(value))


class Server:
    """A listening socket, and a thread for each connection."""

    def __init__(self, service: Service, path: Path) -> None:
        """Raises OSError where it cannot be bound."""
        self._service = service
        self._path = path
        self._connections: Counter[int] = Counter()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._listener = _listen(path)

    def serve(self) -> None:
        """Accept until `stop` is called, from a signal handler for instance."""
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if not self._stopping.is_set():
                    _log.error("accepting failed: %s", error.strerror)
                    self._stopping.wait(0.1)
                continue
            self._welcome(connection)
        self._close()

    def stop(self) -> None:
        self._stopping.set()

    def _welcome(self, connection: socket.socket) -> None:
        user = peer(connection)
        with self._lock:
            busy = (
                len(self._open) >= CONNECTIONS_MAX
                or self._connections[user] >= CONNECTIONS_PER_USER_MAX
            )
            if not busy:
                self._open.add(connection)
                self._connections[user] += 1
        if busy:
            error = SignerBusy("Too many connections are open.")
            with contextlib.suppress(OSError):
                connection.sendall(wire.encode_error(None, error))
            connection.close()
            return
        threading.Thread(target=self._talk, args=(connection, user), daemon=True).start()

    def _talk(self, connection: socket.socket, user: int) -> None:
        scanner = Scanner(wire.LINE_BYTES_MAX)
        try:
            while True:
                connection.settimeout(MESSAGE_S_MAX if scanner.pending_bytes else None)
                chunk = connection.recv(_CHUNK)
                if not chunk:
                    break
                for line in scanner.feed(chunk):
                    answer = self._service.answer(user, line)
                    if answer is not None:
                        connection.settimeout(MESSAGE_S_MAX)
                        connection.sendall(answer)
                if scanner.failed is not None:
                    error = BadRequest(scanner.failed.sentence())
                    connection.sendall(wire.encode_error(None, error))
                    break
        except OSError:
            pass  # it went away, or was too slow; what was signed for it is in the log
        finally:
            with self._lock:
                self._open.discard(connection)
                self._connections[user] -= 1
            connection.close()

    def wait(self, seconds: float) -> None:
        """Until every connection is done, but no longer than this."""
        until = time.monotonic() + seconds
        while self._open and time.monotonic() < until:
            time.sleep(0.01)

    def _close(self) -> None:
        self._listener.close()
        self._path.unlink(missing_ok=True)
        with self._lock:
            left = list(self._open)
        for connection in left:
            # Whoever waits for an answer gets it; nothing further is read.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)


def peer(connection: socket.socket) -> int:
    """The uid of whoever connected, as the kernel says."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", raw)
    return int(user)


def _listen(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(os.fspath(path))
            except FileNotFoundError:
                pass
            except ConnectionRefusedError:
                if path.is_socket():  # of a signer that is gone; any other file stays
                    path.unlink(missing_ok=True)
            else:
                raise OSError(98, "another signer listens there", os.fspath(path))
        before = os.umask(0)
        try:
            made.bind(os.fspath(path))  # for everybody: the policy decides, by the uid
        finally:
            os.umask(before)
        made.listen(128)
        made.settimeout(0.2)
    except OSError:
        made.close()
        raise
    return made
