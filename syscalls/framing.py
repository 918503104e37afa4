"""Cutting a byte stream into JSON texts, without ever waiting for or asking for bytes.

The rules, which depend on the bytes alone and never on how they were chunked:

1. Between frames, whitespace is skipped.
2. A frame that begins with `{` or `[` ends where that bracket is closed, newline or not.
3. Any frame ends at a newline at the latest. JSON has no raw newline inside a string, so one bad
   line spoils itself and nothing after it.
4. A frame that begins otherwise, closes a bracket with one of another kind, or nests deeper than
   NESTING_MAX before it is closed, ends at the newline.
5. A frame longer than `message_bytes_max` ends the stream: `failed` says why.

Each byte is looked at a bounded number of times, in bulk: a line that is valid JSON as a whole is
one frame and is never scanned for brackets at all. What a frame means is `syscalls.jsonrpc`'s.
"""

import re

import msgspec

from syscalls.errors import ParseError

MESSAGE_BYTES_MAX = 64 * 2**20  # a program of a million Clifford+T gates fits
NESTING_MAX = 64  # brackets open at once in a message sent without a newline
WINDOW_BYTES_MIN = 64
WINDOW_BYTES_MAX = 64 * 1024
COLLAPSE_ROUNDS_MAX = 8

assert WINDOW_BYTES_MIN <= WINDOW_BYTES_MAX <= MESSAGE_BYTES_MAX
assert COLLAPSE_ROUNDS_MAX < NESTING_MAX, "ordinary messages are scanned in bulk"

WHITESPACE = b" \t\r\n"
_BLANK = re.compile(rb"[ \t\r\n]*")
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'{}[]"')
_OPENED_BY = {ord("}"): ord("{"), ord("]"): ord("[")}
_OPENERS = frozenset(b"{[")
_CLOSERS = frozenset(b"}]")
_QUOTE = ord('"')
_BACKSLASH = ord("\\")

_whole_text = msgspec.json.Decoder(msgspec.Raw).decode


class Brackets:
    """How deep inside one bracketed value a scan stands. Fed what follows its first bracket."""

    __slots__ = ("escaped", "in_string", "opaque", "open", "work")

    def __init__(self, opener: int) -> None:
        assert opener in _OPENERS, "a bracketed value begins with its bracket"
        self.open = bytearray((opener,))  # the brackets now open, outermost first
        self.in_string = False
        self.escaped = False  # the last byte was a backslash that escapes the next
        self.opaque = False  # rule 4: nothing but a newline ends this frame
        self.work = 0  # bytes examined, counted for the test of linear time

    def advance(self, data: bytes | bytearray, start: int, stop: int) -> int:
        """Scan `data[start:stop]`, up to where the value closes.

        Returns the index just after the closing bracket, or `stop` if it is not closed there.
        The caller tells the two apart by `closed`. Works in windows that double while nothing
        closes and halve towards a close, so a value costs time linear in its own length.
        """
        window = WINDOW_BYTES_MIN
        at = start
        while at < stop and not self.opaque:
            end = min(at + window, stop)
            self.work += end - at
            if self._skip(bytes(data[at:end])):
                at = end
                window = min(2 * window, WINDOW_BYTES_MAX)
            elif end - at > WINDOW_BYTES_MIN:
                window = max((end - at) // 2, WINDOW_BYTES_MIN)
            else:
                at = self._walk(data, at, end)
                if self.closed:
                    return at
        return stop

    @property
    def closed(self) -> bool:
        """Whether the value that was begun is complete."""
        return not self.open and not self.opaque

    def _skip(self, piece: bytes) -> bool:
        """Take in `piece` in bulk, if nothing closes in it and it is simple enough. Else no-op."""
        if self.escaped and piece[0] in b'"\\':
            piece = piece[1:]
        escaped = (len(piece) - len(piece.rstrip(b"\\"))) % 2 == 1
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        piece = piece.translate(None, _NOT_STRUCTURE)
        if self.in_string:
            piece = b'"' + piece
        # Two quotes with nothing between them change nothing, whichever way they face.
        strings = piece.replace(b'""', b"").split(b'"')
        shape = b"".join(strings[::2])
        for _ in range(COLLAPSE_ROUNDS_MAX):
            before = len(shape)
            shape = shape.replace(b"{}", b"").replace(b"[]", b"")
            if len(shape) == before:
                break
        opened = shape.lstrip(b"}]")
        depth = len(self.open) - (len(shape) - len(opened))
        deepest = len(self.open) + len(opened) + COLLAPSE_ROUNDS_MAX
        if depth <= 0 or deepest > NESTING_MAX or not _CLOSERS.isdisjoint(opened):
            return False
        for closer, opener in zip(shape, reversed(self.open[depth:]), strict=False):
            if _OPENED_BY[closer] != opener:
                return False
        del self.open[depth:]
        self.open += opened
        self.in_string = len(strings) % 2 == 0
        self.escaped = escaped
        return True

    def _walk(self, data: bytes | bytearray, start: int, stop: int) -> int:
        """Take in bytes one at a time, up to where the value closes; the meaning of `_skip`."""
        for at in range(start, stop):
            byte = data[at]
            if byte == _BACKSLASH:
                self.escaped = not self.escaped
                continue
            if byte == _QUOTE and not self.escaped:
                self.in_string = not self.in_string
            self.escaped = False
            if self.in_string:
                continue
            if byte in _OPENERS:
                self.open.append(byte)
                if len(self.open) > NESTING_MAX:
                    self.opaque = True
                    return stop
            elif byte in _CLOSERS:
                if self.open.pop() != _OPENED_BY[byte]:
                    self.opaque = True
                    return stop
                if not self.open:
                    return at + 1
        return stop


class Scanner:
    """Bytes in, in any chunks; JSON texts out, each as soon as it is complete.

    `feed` gives exact frames. `feed_lines` gives the same, except that a line which might hold
    more than one frame comes whole; `cut` takes such a line apart. A reader that decodes every
    line anyway uses the latter pair, and cuts only what does not decode.

    frames_max: how many frames that no newline ends one call looks for, for a reader that must not
    be held up by a mass of tiny ones. `more` then says that `finish_idle` has others at hand, which
    are to be taken before anything else is fed.
    """

    __slots__ = (
        "_brackets",
        "_buffer",
        "_frames_max",
        "_message_bytes_max",
        "_scanned",
        "failed",
        "more",
    )

    def __init__(
        self, message_bytes_max: int = MESSAGE_BYTES_MAX, frames_max: int = MESSAGE_BYTES_MAX
    ) -> None:
        assert message_bytes_max >= 2, "a message has at least its brackets"
        assert frames_max >= 1, "every call gets further"
        self._message_bytes_max = message_bytes_max
        self._frames_max = frames_max
        self.more = False
        self._buffer = bytearray()  # a frame begun and not ended; starts with no whitespace
        self._scanned = 0  # bytes of it that `_brackets` has taken in
        self._brackets: Brackets | None = None
        self.failed: ParseError | None = None  # once set, nothing more is read

    @property
    def pending_bytes(self) -> int:
        """Bytes of a message begun and not ended. The caller bounds how long that may last."""
        return len(self._buffer)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take in bytes; return the frames they complete, without their line ends."""
        frames: list[bytes] = []
        for line in self.feed_lines(chunk):
            frames += self.cut(line)
        return frames

    def feed_lines(self, chunk: bytes) -> list[bytes]:
        """As `feed`, but lines which begin with a bracket are not yet cut at its close."""
        if self.failed is not None:
            return []
        buffer = self._buffer
        # By far the most common chunk: one line and nothing else.
        size = len(chunk)
        if (
            0 < size <= self._message_bytes_max
            and chunk.find(b"\n") == size - 1
            and not buffer
            and chunk[0] not in WHITESPACE
        ):
            return [chunk]
        lines: list[bytes] = []
        seen = len(buffer)
        buffer += chunk
        begin = 0
        while (end := buffer.find(b"\n", seen)) >= 0 and self.failed is None:
            self._take_line(begin, end, lines)
            begin = seen = end + 1
        if self.failed is None:
            self._take_tail(begin, chunk, lines)
        if self.failed is not None:
            buffer.clear()
        return lines

    def finish_idle(self) -> list[bytes]:
        """Say that no more bytes are at hand: return what is complete already.

        Never needed for a message that ends at a newline or at its own closing bracket; only for
        one followed, without a newline, by the beginning of something else.
        """
        frames: list[bytes] = []
        if self.failed is None:
            self._take_closed(frames)
        return frames

    def cut(self, line: bytes) -> list[bytes]:
        """Take a line from `feed_lines` apart into exact frames; most lines are one."""
        try:
            _whole_text(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._pieces(line)
        return [line.rstrip(WHITESPACE)]

    def _pieces(self, line: bytes) -> list[bytes]:
        pieces: list[bytes] = []
        at, stop = _skip_blank(line, 0), len(line)
        while at < stop:
            end = stop
            if line[at] in _OPENERS:
                brackets = Brackets(line[at])
                closed_at = brackets.advance(line, at + 1, stop)
                end = closed_at if brackets.closed else stop
            if self._too_long(end - at):
                break
            pieces.append(line[at:end].rstrip(WHITESPACE))
            at = _skip_blank(line, end)
        return pieces

    def _take_line(self, begin: int, end: int, lines: list[bytes]) -> None:
        """Move a line out of the buffer, unless it is blank."""
        begin = _skip_blank(self._buffer, begin)
        if begin >= end:
            return
        line = bytes(memoryview(self._buffer)[begin:end])  # copied once: it may be large
        if len(line) <= self._message_bytes_max:
            lines.append(line)
        else:
            lines += self._pieces(line)

    def _take_tail(self, begin: int, last: bytes, lines: list[bytes]) -> None:
        """Keep what follows the last newline, less the frames that are complete in it.

        Brackets are looked for only when the newest bytes, `last`, end in a closing one, so that
        a long message arriving in pieces is not scanned at every piece.
        """
        buffer = self._buffer
        if kept := _skip_blank(buffer, begin):
            del buffer[:kept]
            self._brackets = None
        ends_in_closer = last.rstrip(WHITESPACE)[-1:] in (b"}", b"]")
        if ends_in_closer or len(buffer) > self._message_bytes_max:
            self._take_closed(lines)
        self._too_long(len(buffer))

    def _take_closed(self, frames: list[bytes]) -> None:
        """Move every bracketed value that is complete from the head of the buffer."""
        buffer = self._buffer
        enough = len(frames) + self._frames_max
        self.more = False
        while buffer and buffer[0] in _OPENERS:
            if len(frames) == enough:
                self.more = True
                return
            if self._brackets is None:
                self._brackets = Brackets(buffer[0])
                self._scanned = 1
            self._scanned = self._brackets.advance(buffer, self._scanned, len(buffer))
            if not self._brackets.closed or self._too_long(self._scanned):
                return
            frames.append(bytes(buffer[: self._scanned]))
            del buffer[: _skip_blank(buffer, self._scanned)]
            self._brackets = None

    def _too_long(self, size: int) -> bool:
        if size <= self._message_bytes_max:
            return False
        self.failed = ParseError(reason=f"a message exceeds {self._message_bytes_max} bytes")
        return True


def _skip_blank(data: bytes | bytearray, start: int) -> int:
    """The index of the first byte from `start` on that is not whitespace."""
    blank = _BLANK.match(data, start)
    assert blank is not None, "the pattern matches the empty string"
    return blank.end()
