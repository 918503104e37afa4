"""What came as a memory file beside an answer goes on inside it, for a client on another host.

Bytes and descriptors of the daemon in; pieces to send on out, in order. A piece that is a `Rows` is
a memory file to be sent as base64, bit by bit, so that large results need no memory here. As long
as no descriptor is there, bytes pass without being looked at.

A descriptor comes with the first byte of the message that announces it (`"fd": true` in the result
of `q_results`), and every message of the daemon ends at a newline, the only one in it
(`syscalls.framing`). So of a chunk with descriptors just the lines that begin in it are looked at.
"""

from __future__ import annotations

import base64
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

ROWS_BYTES = 3 * 16 * 1024  # read at once; a multiple of three, so that base64 has no seams
LINE_BYTES_MAX = 64 << 20  # of an answer that announces a descriptor: the layout of its rows

assert ROWS_BYTES % 3 == 0

_members = msgspec.json.Decoder(dict[str, Raw]).decode
_elements = msgspec.json.Decoder(list[Raw]).decode


class Rows(Struct, frozen=True):
    """A memory file, to be closed by whoever holds this."""

    fd: int

    def chunks(self) -> Iterator[bytes]:
        """All of it in base64."""
        at = 0
        while part := os.pread(self.fd, ROWS_BYTES, at):
            yield base64.b64encode(part)
            at += len(part)


Piece = bytes | Rows


class BadAnswer(Exception):
    """The daemon sent descriptors that no answer announces, or that do not fit one."""


class Inliner:
    """Of one connection to the daemon, from its beginning to its end."""

    def __init__(self) -> None:
        self._fds: deque[int] = deque()
        self._line = bytearray()  # begun, and may announce a descriptor
        self._midway = False  # what was sent on last was the beginning of a line

    def feed(self, data: bytes, fds: Sequence[int]) -> list[Piece]:
        """Take in what came; what goes on. Raises BadAnswer."""
        self._fds += fds
        if not (self._fds or self._line):
            self._midway = not data.endswith(b"\n")
            return [data]
        pieces: list[Piece] = []
        if self._midway and not self._line:
            end = data.find(b"\n") + 1 or len(data)
            pieces.append(data[:end])
            self._midway = not data[:end].endswith(b"\n")
            data = data[end:]
        self._line += data
        if len(self._line) > LINE_BYTES_MAX:
            raise BadAnswer("an answer with a descriptor is too long")
        while self._fds and (end := self._line.find(b"\n") + 1):
            line = bytes(self._line[:end])
            del self._line[:end]
            pieces += self._looked_at(line)
        if not self._fds:
            if self._line:
                self._midway = not self._line.endswith(b"\n")
                pieces.append(bytes(self._line))
            self._line.clear()
        return [piece for piece in pieces if piece]

    def close(self) -> None:
        """The connection is over: nobody claims what is left."""
        while self._fds:
            os.close(self._fds.popleft())

    def _looked_at(self, line: bytes) -> list[Piece]:
        if b'"fd"' not in line:
            return [line]
        try:
            if line.lstrip()[:1] != b"[":
                return [*self._answer(Raw(line)), b"\n"]
            pieces: list[Piece] = [b"["]
            for number, each in enumerate(_elements(line)):
                pieces += [b","] if number else []
                pieces += self._answer(each)
            return [*pieces, b"]\n"]
        except msgspec.DecodeError as error:
            raise BadAnswer(f"an answer is no JSON: {error}") from error

    def _answer(self, answer: Raw) -> list[Piece]:
        """One answer; with its rows inside it, if they came as a descriptor."""
        members = _members(answer)
        result: Any = members.get("result")
        if result is None or bytes(result)[:1] != b"{":
            return [bytes(answer).rstrip(b"\n")]
        fields = _members(result)
        if bytes(fields.get("fd", b"")) != b"true":
            return [bytes(answer).rstrip(b"\n")]
        if not self._fds:
            raise BadAnswer("an answer announces a descriptor that did not come")
        fields["fd"] = Raw(b"false")
        fields.pop("data", None)
        outer = b"".join(
            msgspec.json.encode(name) + b":" + bytes(value) + b","
            for name, value in members.items()
            if name != "result"
        )
        inner = msgspec.json.encode(fields)[:-1]
        return [
            b"{" + outer + b'"result":' + inner + b',"data":"',
            Rows(self._fds.popleft()),
            b'"}}',
        ]
