"""For tests: an HTTP server on this host that answers by a script, and keeps what it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import msgspec

Script = dict[str, list[tuple[int, Any]]]
"""By method and path: status and JSON, one after another, the last one for ever. Status 0 hangs up
without an answer."""


class Asked(NamedTuple):
    """headers: names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Served:
    """url: of the server. pauses: what a client that pauses by `slept` would have waited."""

    def __init__(self, script: Script, url: str) -> None:
        self.script, self.url = script, url
        self.log: list[Asked] = []
        self.pauses: list[float] = []

    def slept(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def asked(self, method: str, path: str) -> list[Asked]:
        return [a for a in self.log if a.method == method and a.path.split("?")[0] == path]

    def only(self, method: str, path: str) -> Asked:
        [found] = self.asked(method, path)
        return found


@contextmanager
def served(script: Script) -> Iterator[Served]:
    """A server with this script."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            size = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.log.append(Asked(self.command, self.path, headers, self.rfile.read(size)))
            rows = found.script.get(f"{self.command} {self.path.split('?')[0]}", [(404, {})])
            status, said = rows.pop(0) if len(rows) > 1 else rows[0]
            if status == 0:
                self.close_connection = True
                return
            raw = msgspec.json.encode(said)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = _answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Served(script, f"http://127.0.0.1:{server.server_address[1]}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def replies(name: str) -> dict[str, Any]:
    """Replies from `data/`, whose `source` says what they were made after."""
    raw = (Path(__file__).parent / "data" / name).read_bytes()
    return msgspec.json.decode(raw, type=dict[str, Any])
