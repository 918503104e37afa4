"""The follower's own socket: one JSON-RPC 2.0 request a line, one answer a line.

Who calls is what the host's kernel says (SO_PEERCRED). Root and the follower's own user may see
everything. Anybody else names a job and shows the session that it ran in, whose name only its own
tenant knows and of which the audit chain has a digest; keys and checkpoints are for all.
"""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from runtime.attest.errors import AttestError, NotMet, NotThere, Unavailable
from runtime.attest.keeping import Signed
from runtime.attest.ledger import proofs
from runtime.attest.manifest import Mitigation
from runtime.attest.watching import Follower
from syscalls.job import CryptoMode

LINE_BYTES_MAX = 64 * 1024
IDLE_S = 60.0
CALLERS_MAX = 64  # of those who may not see everything, all together
CALLERS_PER_USER_MAX = 16
SIGN_WAIT_S = 20.0
LOOK_S = 0.05
FAILED, MALFORMED, UNKNOWN = -32000, -32600, -32601
PEER = struct.Struct("3i")
TAIL_MAX = 1000


class Request(msgspec.Struct, kw_only=True):
    jsonrpc: str
    method: str
    id: int | str | None = None
    params: dict[str, Any] = {}


class Params(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Of all methods; each takes those that it names."""

    job_id: str = ""
    session_id: str = ""
    number: int | None = None
    size: int | None = None
    last: int = 20
    logged: bool = False
    mode: CryptoMode | None = None
    mitigation: Mitigation | None = None
    wait_s: float = SIGN_WAIT_S
    record: Any = None


class Calls:
    """What callers may ask, by name."""

    def __init__(self, follower: Follower) -> None:
        self._follower, self._keeper = follower, follower.keeper

    def sign(self, params: Params, trusted: bool) -> Any:
        """Have a job's manifest signed; answers with its row of the index once it is.

        A job that has just ended may not be known yet: it is waited for as well.
        """
        until = time.monotonic() + max(0.0, min(params.wait_s, SIGN_WAIT_S))
        asked = False
        while True:
            late = time.monotonic() >= until
            try:
                self._check(params, trusted)
                with contextlib.suppress(NotThere):
                    row = self._keeper.signed(params.job_id)[0]
                    return _as_asked(row, params.mitigation)
                if not asked:
                    self._keeper.request(params.job_id, params.mitigation)
                    self._follower.nudge()
                    asked = True
            except NotThere:
                if late:
                    raise
            found = [each for each in self._keeper.waiting() if each.job_id == params.job_id]
            if found and found[0].state == "refused":
                raise NotMet(found[0].error)
            if late:
                why = found[0].error if found else "it has just been asked for."
                raise Unavailable(f"It waits to be signed: {why}")
            time.sleep(LOOK_S)

    def show(self, params: Params, trusted: bool) -> Any:
        """The envelope and the P-256 bundle, as text."""
        self._check(params, trusted)
        stock = self._keeper.bundle(params.job_id, logged=params.logged)
        return {
            "envelope": self._keeper.envelope(params.job_id).decode(),
            "bundle": "" if stock is None else stock.decode(),
        }

    def listing(self, params: Params, trusted: bool) -> Any:
        if not trusted:
            raise NotMet("Only root and the follower's own user may list all manifests.")
        return {"signed": self._keeper.signed(), "waiting": self._keeper.waiting()}

    def prove(self, params: Params, trusted: bool) -> Any:
        """A `.tlog-proof` of a leaf by number, or of a job's manifest."""
        if params.number is not None and not trusted:
            raise NotMet("Leaves by number are for root and the follower's own user.")
        log = self._keeper.log
        if params.number is None:
            self._check(params, trusted)
            number = log.find("manifest", params.job_id).number
        else:
            number = params.number
        return {"proof": proofs.prove(log, number, params.size).text}

    def add(self, params: Params, trusted: bool) -> Any:
        """Log a record of a decision; answers with its leaf."""
        if not trusted:
            raise NotMet("Only root and the follower's own user may log records.")
        number = self._keeper.note_record(params.record)
        self._follower.nudge()
        return {"leaf": number}

    def tail(self, params: Params, trusted: bool) -> Any:
        if not trusted:
            raise NotMet("Only root and the follower's own user may read all leaves.")
        log = self._keeper.log
        size = log.size
        begin = max(0, size - min(max(0, params.last), TAIL_MAX))
        return {"size": size, "leaves": log.leaves(begin, size)}

    def checkpoint(self, params: Params, trusted: bool) -> Any:
        return {"checkpoint": self._keeper.log.checkpoint(params.size)}

    def trust(self, params: Params, trusted: bool) -> Any:
        return self._keeper.trust()

    def status(self, params: Params, trusted: bool) -> Any:
        """How things stand, and the modes that can be signed in now."""
        keys = {each.name for each in self._keeper.trust().keys if each.state == "active"}
        can = ["classical"] if "manifest-classical" in keys else []
        if can and "manifest-pqc" in keys:
            can += ["hybrid", "pqc-required"]
        about: dict[str, Any] = {"crypto_modes": can, "when": self._keeper.policy.when}
        about["crypto_mode"] = self._keeper.policy.crypto_mode
        if not trusted:
            return about
        waiting = self._keeper.waiting()
        return about | {
            "waiting": sum(each.state == "waiting" for each in waiting),
            "refused": sum(each.state == "refused" for each in waiting),
            "taken": self._keeper.taken,
            "size": self._keeper.log.size,
            "health": self._follower.health,
        }

    def _check(self, params: Params, trusted: bool) -> None:
        """Raises NotThere: the same for another's job and for none."""
        if trusted:
            return
        nothing = NotThere(f"No job {params.job_id} of that session is known here.")
        try:
            told = self._keeper.session_of(params.job_id)
        except NotThere:
            raise nothing from None
        if sha256(params.session_id.encode()).hexdigest()[: len(told)] != told:
            raise nothing


METHODS: dict[str, Callable[[Calls, Params, bool], Any]] = {
    "sign": Calls.sign,
    "show": Calls.show,
    "list": Calls.listing,
    "prove": Calls.prove,
    "add": Calls.add,
    "tail": Calls.tail,
    "checkpoint": Calls.checkpoint,
    "trust": Calls.trust,
    "status": Calls.status,
}


def _as_asked(row: Signed, mitigation: Mitigation | None) -> Signed:
    """Raises NotMet where what is signed says another mitigation than was asked for."""
    if mitigation is not None and mitigation.method != row.em_method:
        raise NotMet(
            f"The manifest of {row.job_id} is signed already and says the mitigation "
            f"{row.em_method!r}, not {mitigation.method!r}; it is never changed."
        )
    return row


class _Handler(socketserver.StreamRequestHandler):
    timeout = IDLE_S
    server: Server

    def handle(self) -> None:
        trusted = _is_trusted(_uid_of(self.request))
        with contextlib.suppress(OSError):
            while line := self.rfile.readline(LINE_BYTES_MAX + 1):
                answer = answer_to(self.server.calls, line, trusted)
                self.wfile.write(msgspec.json.encode(answer) + b"\n")
                if len(line) > LINE_BYTES_MAX:
                    return


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Open to all users of the host; what they may ask is `Calls`' business."""

    daemon_threads = True
    request_queue_size = CALLERS_MAX

    def __init__(self, path: Path, follower: Follower) -> None:
        self.calls = Calls(follower)
        self._callers: Counter[int] = Counter()
        self._turn = threading.Lock()
        _clear(path)
        before = os.umask(0o111)
        try:
            super().__init__(os.fspath(path), _Handler)
        finally:
            os.umask(before)
        self._path = path

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether this caller may have one more connection; if not, he is told. Counts it."""
        uid = _uid_of(request)
        with self._turn:
            others = sum(n for each, n in self._callers.items() if not _is_trusted(each))
            crowded = others >= CALLERS_MAX and not _is_trusted(uid)
            if not crowded and self._callers[uid] < CALLERS_PER_USER_MAX:
                self._callers[uid] += 1
                return True
        told = _refusal(None, FAILED, Unavailable.__name__, "Too many connections are open.")
        with contextlib.suppress(OSError):
            request.sendall(msgspec.json.encode(told) + b"\n")
        return False

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        uid = _uid_of(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._turn:
                self._callers[uid] -= 1

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._path.unlink(missing_ok=True)


def _uid_of(connection: socket.socket) -> int:
    """Who is at its other end, as the host's kernel says."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
    return int(PEER.unpack(peer)[1])


def _is_trusted(uid: int) -> bool:
    return uid in (0, os.getuid())


def answer_to(calls: Calls, line: bytes, trusted: bool) -> dict[str, Any]:
    """The answer to a line, whatever it holds."""
    number: int | str | None = None
    try:
        request = msgspec.json.decode(line, type=Request)
        number = request.id
        method = METHODS.get(request.method)
        if method is None:
            return _refusal(number, UNKNOWN, "method_not_found", request.method)
        params = msgspec.convert(request.params, Params)
        return {"jsonrpc": "2.0", "id": number, "result": method(calls, params, trusted)}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _refusal(number, MALFORMED, "invalid_request", str(error))
    except AttestError as error:
        return _refusal(number, FAILED, type(error).__name__, str(error))


def _refusal(number: int | str | None, code: int, kind: str, message: str) -> dict[str, Any]:
    error = {"code": code, "message": message, "data": {"type": kind}}
    return {"jsonrpc": "2.0", "id": number, "error": error}


def _clear(path: Path) -> None:
    """Remove a socket at which nobody listens any more."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise Unavailable(f"{path}: another follower listens there.")
