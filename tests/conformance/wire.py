"""The suite's end of a connection: bytes out, JSON texts in, a time limit on every wait.

It reads any framing: an answer ends where its JSON ends, whether or not a newline follows.
"""

from __future__ import annotations

import json
import socket
import time
from typing import Any

ANSWER_S_MAX = 30.0
CHUNK_PAUSE_S = 0.002  # lets a chunk arrive by itself; nothing depends on that
WHITESPACE = " \t\r\n"


class Silence(Exception):
    """Nothing came within the time, or the connection ended: in words."""


class Wire:
    """One connection to the server."""

    def __init__(self, path: str, seconds: float = ANSWER_S_MAX) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(seconds)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self._received = b""
        self.texts: list[Any] = []  # received, and not asked for yet
        self.notices: list[Any] = []  # notifications, in the order in which they came

    def close(self) -> None:
        self._socket.close()

    def send(self, *chunks: bytes) -> None:
        """Send the chunks one by one. That the server hangs up meanwhile is seen when reading."""
        try:
            for chunk in chunks:
                self._socket.sendall(chunk)
                if len(chunks) > 1:
                    time.sleep(CHUNK_PAUSE_S)
        except ConnectionError:
            pass

    def stop_writing(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def text(self) -> Any:
        """The next JSON text that is no notification."""
        while True:
            if self.texts:
                return self.texts.pop(0)
            self._take()

    def answer(self, identity: Any) -> Any:
        """The answer to the call of this id; answers to others are kept for them."""
        while True:
            for place, text in enumerate(self.texts):
                if isinstance(text, dict) and text.get("id") == identity:
                    return self.texts.pop(place)
            self._take()

    def notice(self) -> Any:
        """The next notification."""
        while not self.notices:
            self._take()
        return self.notices.pop(0)

    def ended(self) -> bool:
        """Whether the server hangs up, with nothing more to say."""
        try:
            return self._received.strip() == b"" and self._socket.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def _take(self) -> None:
        """Read one more JSON text and file it."""
        while (text := self._whole()) is None:
            try:
                more = self._socket.recv(1 << 20)
            except TimeoutError:
                raise Silence("the server does not answer") from None
            except ConnectionError:
                more = b""
            if not more:
                raise Silence(f"the server hung up after {self._received[:80]!r}")
            self._received += more
        if isinstance(text, dict) and "method" in text:
            self.notices.append(text)
        else:
            self.texts.append(text)

    def _whole(self) -> Any:
        """The JSON text at the head of what was received, if it is complete."""
        line, newline, rest = self._received.partition(b"\n")
        if newline and line.strip():
            self._received = rest
            return json.loads(line)
        try:
            pending = self._received.decode().lstrip(WHITESPACE)
            text, end = json.JSONDecoder().raw_decode(pending)
        except ValueError:
            return None
        self._received = pending[end:].encode()
        return text
