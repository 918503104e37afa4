"""The operator's log: on standard error a line of text or of JSON per fact, or entries of journald.

Records carry their fields in `extra`. Session ids are secrets of a sort (they name what a caller
may use), so they are cut short wherever they appear. Where standard error goes to journald, entries
go to its own socket instead, each field by itself, so that `journalctl QMK_JOB_ID=...` finds them.
After systemd.journal-fields(7) and JOURNAL_NATIVE_PROTOCOL; no library is needed.
"""

from __future__ import annotations

import logging
import os
import re
import select
import socket
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

import msgspec

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "text", "json", "journal"]
"""`auto` is `journal` where standard error goes to journald, else `text`."""

LINE_CHARS_MAX = 3_000  # below PIPE_BUF, so that a pipe with room at all has room for a line
WINDOW_S = 10.0
PER_WINDOW_MAX = 200  # of one message

JOURNAL: Final = "/run/systemd/journal/socket"
PREFIX: Final = "QMK_"
"""Of our own fields in the journal."""
MESSAGE_IDS: Final = {
    "ready": "bbcf430581c446fd89fd791876a50497",
    "stopping": "7f0b009e582b4c48b6f8f37b947f61ba",
    "stopped": "80cc3e60be334588a180cd9165806e00",
    "cannot start: %s": "8e804ff371324dfeba6d8b11cca9d9ad",
    "the daemon broke down": "c188c1ef4de24c29a8539a37229c14d4",
    "worker ended": "08f9eba033b2476cb930853c50a0ebc0",
    "a worker tried what no worker does": "3ff9e222ccad488284072e2eb56eea55",
    "reloaded": "092dbd81117e451a96391b92f77cf896",
    "the configuration is refused": "3754c88b7aef4753831fce754bc0b0bb",
    "records cannot be written": "34b37ebf94ad4efcbea3455d446a55aa",
    "job failed": "7692b0096b1f418b81b5d07d55c7c4ce",
    "segment failed": "019a8cbde13c4a3a8998f2d7b182e5e1",
    "metrics cannot be scraped": "2292fc90f1e94a75851b3611fb8a4902",
}
"""What monitoring may wait for, each under a number that never changes (sd_journal_print(3))."""
_PRIORITIES: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}

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


class JournalHandler(logging.Handler):
    """Gives records to journald, but never waits for it: an entry without room is dropped."""

    def __init__(self, path: str = JOURNAL) -> None:
        """Raises OSError where nobody listens."""
        super().__init__()
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._socket.send(b"".join(entry(record)))
        except OSError:
            return  # it is full, or restarts: there is nobody to tell

    def close(self) -> None:
        self._socket.close()
        super().close()


def entry(record: logging.LogRecord) -> Iterator[bytes]:
    """A record as journald takes it, field by field."""
    fields = _fields(record)
    told = "".join(f" {name}={value}" for name, value in fields.items())
    message = f"{record.name}: {shortened(record.getMessage())}{told}"
    if record.exc_info:
        message += "\n" + shortened(logging.Formatter().formatException(record.exc_info))
    yield _field("MESSAGE", message)
    yield _field("PRIORITY", _PRIORITIES.get(record.levelname, 6))
    yield _field("SYSLOG_IDENTIFIER", "qmkd")
    yield _field("CODE_FILE", record.pathname)
    yield _field("CODE_LINE", record.lineno)
    yield _field("CODE_FUNC", record.funcName)
    if number := MESSAGE_IDS.get(record.msg):
        yield _field("MESSAGE_ID", number)
    for name, value in fields.items():
        # What the kernel notes is prefixed to keep it apart from fields of `logging`.
        plain = re.sub(r"[^A-Z0-9_]", "_", name.removeprefix("note_").upper())
        yield _field(PREFIX + plain, value)


def _field(name: str, value: object) -> bytes:
    data = str(value)[:LINE_CHARS_MAX].encode(errors="replace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


def to_journal(environment: Mapping[str, str], fd: int) -> bool:
    """Whether a descriptor goes to journald, as systemd.exec(5) has one find out."""
    try:
        about = os.fstat(fd)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}"


def start_log(level: Level, format: Format, environment: Mapping[str, str] = os.environ) -> None:
    """Send the log of this process to standard error, or to journald."""
    handler = _handler(format, environment)
    handler.addFilter(Restraint())
    root = logging.getLogger()
    for before in root.handlers:
        if isinstance(before, JournalHandler):
            before.close()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _handler(format: Format, environment: Mapping[str, str]) -> logging.Handler:
    if format == "journal" or (format == "auto" and to_journal(environment, sys.stderr.fileno())):
        try:
            return JournalHandler()
        except OSError as error:
            if format == "journal":
                sys.stderr.write(f"qmkd: no journal at {JOURNAL}: {error.strerror}; text instead\n")
    handler = Handler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    return handler
