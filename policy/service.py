"""The policy engine as a service: JSON-RPC on a Unix socket, and SPEC-001's `/predict` over HTTP.

It holds no secret, keeps nothing of what it is asked and changes nothing; whoever may connect may
ask. One thread each connection, as many as CONNECTIONS_MAX; who comes then waits.
"""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import stat
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import msgspec

from policy.api import Asked, BadFeatures
from policy.engine import Engine
from policy.protocol import (
    ASKED_MAX,
    BAD_PARAMETERS,
    BAD_REQUEST,
    FAULT,
    LINE_BYTES_MAX,
    NO_METHOD,
    Answer,
    Explain,
    Explained,
    Fault,
    Recommend,
    Request,
    Status,
)

CONNECTIONS_MAX: Final = 64
TIMES_KEPT: Final = 10_000
BODY_BYTES_MAX: Final = 1 << 20
WAIT_S: Final = 60.0

_log = logging.getLogger("qmk.policy")


class Refused(Exception):
    """A request that is not answered; code and sentence."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Service:
    """What both doors lead to. Safe for several threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.answered = 0
        self._times: deque[int] = deque(maxlen=TIMES_KEPT)
        self._methods: dict[str, Callable[[msgspec.Raw | bytes], Any]] = {
            "recommend": self._recommend,
            "explain": self._explain,
            "status": lambda _: self.status(),
        }

    def call(self, method: str, params: msgspec.Raw | bytes) -> Any:
        """A method's result. Raises Refused."""
        found = self._methods.get(method)
        if found is None:
            raise Refused(NO_METHOD, f"There is no method {method[:80]!r}.")
        try:
            return found(params)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadFeatures) as error:
            raise Refused(BAD_PARAMETERS, str(error)) from error

    def _recommend(self, params: msgspec.Raw | bytes) -> Any:
        asked = msgspec.json.decode(params, type=Recommend).asked
        if len(asked) > ASKED_MAX:
            raise BadFeatures(f"At most {ASKED_MAX:,} questions at once, not {len(asked):,}.")
        before = time.perf_counter_ns()
        advice = self.engine.recommend(asked)
        self._count(before, len(asked))
        return advice

    def _explain(self, params: msgspec.Raw | bytes) -> Explained:
        asked = msgspec.json.decode(params, type=Explain).asked
        (advice,) = self.engine.recommend([asked])
        drivers = () if advice.abstained else self.engine.explain(asked)
        return Explained(advice=advice, drivers=drivers)

    def predict(self, body: bytes) -> bytes:
        """SPEC-001's `/predict`: a question in, an advice out, as JSON. Raises Refused."""
        before = time.perf_counter_ns()
        try:
            asked = msgspec.json.decode(body, type=Asked)
            (advice,) = self.engine.recommend([asked])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadFeatures) as error:
            raise Refused(BAD_PARAMETERS, str(error)) from error
        told = msgspec.json.encode(advice)
        self._count(before, 1)
        return told

    def _count(self, before: int, questions: int) -> None:
        self.answered += questions
        if questions == 1:
            self._times.append(time.perf_counter_ns() - before)

    def status(self) -> Status:
        times = sorted(self._times)
        return Status(
            source=self.engine.source,
            trouble=self.engine.trouble,
            answered=self.answered,
            p50_us=statistics.median(times) / 1e3 if times else 0.0,
            p99_us=times[int(0.99 * len(times))] / 1e3 if times else 0.0,
        )


def line(service: Service, data: bytes) -> bytes | None:
    """The answer to one line of JSON-RPC; None to a notification."""
    number: int | str | None = None
    try:
        try:
            request = msgspec.json.decode(data, type=Request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(BAD_REQUEST, f"This is no request: {error}.") from error
        number = request.id
        answer = Answer(
            jsonrpc="2.0", id=number, result=service.call(request.method, request.params)
        )
        if number is None:
            return None
    except Refused as error:
        answer = Answer(jsonrpc="2.0", id=number, error=Fault(code=error.code, message=str(error)))
    except Exception:
        _log.exception("a request was not answered")
        answer = Answer(
            jsonrpc="2.0", id=number, error=Fault(code=FAULT, message="A fault; see the log.")
        )
    return msgspec.json.encode(answer) + b"\n"


class _Bounded(socketserver.ThreadingMixIn):
    """Threads that end with the process, no more at once than CONNECTIONS_MAX."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__(*arguments, **more)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._room.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()


class SocketServer(_Bounded, socketserver.UnixStreamServer):
    """JSON-RPC on a Unix socket, for its user and group, or for everybody."""

    def __init__(self, path: Path, service: Service, *, everybody: bool = False) -> None:
        """Raises OSError, also where another engine listens there."""
        self.service = service
        self.path = path
        _clear(path)
        before = os.umask(0o111 if everybody else 0o117)
        try:
            super().__init__(str(path), _Lines)
        finally:
            os.umask(before)

    def server_close(self) -> None:
        super().server_close()
        self.path.unlink(missing_ok=True)


class _Lines(socketserver.StreamRequestHandler):
    server: SocketServer
    timeout = WAIT_S

    def handle(self) -> None:
        try:
            while data := self.rfile.readline(LINE_BYTES_MAX + 1):
                if len(data) > LINE_BYTES_MAX:
                    return  # where the next request begins is not known
                if not data.strip():
                    continue
                answer = line(self.server.service, data)
                if answer is not None:
                    self.wfile.write(answer)
        except OSError:
            return  # the client went away, or said nothing for too long


class WebServer(_Bounded, ThreadingHTTPServer):
    """`POST /predict` and `GET /healthz`."""

    def __init__(self, address: tuple[str, int], service: Service) -> None:
        """Raises OSError."""
        self.service = service
        super().__init__(address, _Web)


class _Web(BaseHTTPRequestHandler):
    server: WebServer
    protocol_version = "HTTP/1.1"
    timeout = WAIT_S

    def do_POST(self) -> None:
        if self.path != "/predict":
            self.close_connection = True  # the body is not read
            self._answer(404, _told("There is /predict, by POST."))
            return
        size = self.headers.get("Content-Length", "")
        if not size.isdigit() or int(size) > BODY_BYTES_MAX:
            self.close_connection = True
            self._answer(413, _told(f"A body has a length, {BODY_BYTES_MAX:,} bytes at most."))
            return
        try:
            told = self.server.service.predict(self.rfile.read(int(size)))
        except Refused as error:
            self._answer(422, _told(str(error)))
            return
        except Exception:
            _log.exception("a request was not answered")
            self._answer(500, _told("A fault; see the log."))
            return
        self._answer(200, told)

    def do_GET(self) -> None:
        if self.path != "/healthz":
            self._answer(404, _told("There is /healthz, by GET."))
            return
        self._answer(200, msgspec.json.encode(self.server.service.status()))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        _log.debug(format, *arguments)


def _told(sentence: str) -> bytes:
    return msgspec.json.encode({"error": sentence})


def _clear(path: Path) -> None:
    """Remove a socket at which nobody listens any more."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return  # binding says what is wrong
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
