"""The operator's log on standard error: a line of text or of JSON per fact.

Records carry their fields in `extra`. Session ids are secrets of a sort (they name what a caller
may use), so they are cut short wherever they appear.
"""

from __future__ import annotations

import logging
import re
import select
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

LINE_CHARS_MAX = 3_000  # below PIPE_BUF, so that a pipe with room at all has room for a line
WINDOW_S = 10.0
PER_WINDOW_MAX = 200  # of one message

_SESSION = re.compile(r"(sess_[0-9a-f]{6})[0-9a-f]+")
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def shortened(text: str) -> str:
    """The text with session ids cut to what tells them apart and is of no use."""
    return _SESSION.sub(r"\1…", text)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {
        name: shortened(value) if isinstance(value, str) else value
        for name, value in vars(record).items()
        if name not in _STANDARD
    }


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(logging.Formatter):
    """`time level logger: message field=value ...`, with any traceback on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        level = record.levelname.lower()
        line = f"{_time(record)} {level} {record.name}: {shortened(record.getMessage())}{fields}"
        if record.exc_info:
            line += "\n" + shortened(self.formatException(record.exc_info))
        return line[:LINE_CHARS_MAX]


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": shortened(record.getMessage()),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = shortened(self.formatException(record.exc_info))[-LINE_CHARS_MAX:]
        return msgspec.json.encode(line, enc_hook=str).decode()


class Restraint(logging.Filter):
    """Lets one message through only so often, whoever provokes it, and counts the rest."""

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[str, tuple[float, int]] = {}  # message -> (window's begin, how many)

    def filter(self, record: logging.LogRecord) -> bool:
        begin, count = self._windows.get(record.msg, (0.0, 0))
        if record.created - begin >= WINDOW_S:
            if count > PER_WINDOW_MAX:
                record.suppressed_before = count - PER_WINDOW_MAX
            begin, count = record.created, 0
        self._windows[record.msg] = (begin, count + 1)
        return count < PER_WINDOW_MAX


class Handler(logging.StreamHandler[TextIO]):
    """Writes to standard error, but never waits for it: a line without room is dropped."""

    def emit(self, record: logging.LogRecord) -> None:
        room = select.poll()
        try:
            room.register(self.stream, select.POLLOUT)
            if room.poll(0):
                super().emit(record)
        except (OSError, ValueError):
            return  # standard error is closed: there is nobody to tell


def start_log(level: Level, format: Format) -> None:
    """Send the log of this process to standard error."""
    handler = Handler(sys.stderr)
    handler.addFilter(Restraint())
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
