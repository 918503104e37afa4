"""The log neither tells secrets, nor lets itself be flooded, nor waits for its reader."""

from __future__ import annotations

import io
import logging
import os
import re
import socket
import time
from pathlib import Path

import pytest

from qmkd.shell.log import (
    LINE_CHARS_MAX,
    MESSAGE_IDS,
    PER_WINDOW_MAX,
    Handler,
    JournalHandler,
    JsonFormatter,
    Restraint,
    TextFormatter,
    to_journal,
)

SESSION = "sess_0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_session_ids_are_cut_short_in_messages_fields_and_tracebacks(
    formatter: logging.Formatter,
) -> None:
    try:
        raise ValueError(f"no {SESSION}")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("q", logging.INFO, "", 0, "of %s", (SESSION,), info)
    record.session = SESSION
    line = formatter.format(record)
    assert SESSION not in line
    assert line.count("sess_012345…") == 3


def test_one_message_is_let_through_only_so_often_and_the_rest_is_counted() -> None:
    restraint = Restraint()

    def passes(at: float) -> logging.LogRecord | None:
        record = logging.makeLogRecord({"msg": "again", "created": at})
        return record if restraint.filter(record) else None

    assert sum(passes(100.0) is not None for _ in range(PER_WINDOW_MAX + 30)) == PER_WINDOW_MAX
    assert restraint.filter(logging.makeLogRecord({"msg": "other", "created": 100.0}))
    later = passes(200.0)
    assert later is not None
    assert later.__dict__["suppressed_before"] == 30


def test_a_full_pipe_does_not_hold_up_whoever_logs() -> None:
    readable, writable = os.pipe()
    with os.fdopen(readable, "rb"), io.TextIOWrapper(os.fdopen(writable, "wb", 0)) as stream:
        handler = Handler(stream)
        began = time.monotonic()
        for _ in range(1_000):
            handler.emit(logging.makeLogRecord({"msg": "x" * 1_000}))
        assert time.monotonic() - began < 5


def fields(data: bytes) -> dict[str, str]:
    """A datagram as JOURNAL_NATIVE_PROTOCOL says that journald reads it."""
    found = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + size], data[8 + size :]
            assert data[:1] == b"\n"
            data = data[1:]
        found[name.decode()] = value.decode()
    return found


def test_journald_gets_every_field_by_itself_and_lines_within_them(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        handler = JournalHandler(path)
        record = logging.LogRecord("q", logging.ERROR, "f.py", 7, "job failed", (), None)
        record.job_id, record.tenant, record.note_why = "job_1", "a=b", f"one\ntwo {SESSION}"
        handler.emit(record)
        found = fields(journal.recv(1 << 16))
        assert found["QMK_JOB_ID"] == "job_1"
        assert found["QMK_TENANT"] == "a=b"
        assert found["QMK_WHY"] == "one\ntwo sess_012345…"
        assert found["PRIORITY"] == "3"
        assert found["MESSAGE_ID"] == MESSAGE_IDS["job failed"]
        assert found["MESSAGE"].startswith("q: job failed job_id=job_1 tenant=a=b")
        handler.emit(logging.makeLogRecord({"msg": "x" * (2 * LINE_CHARS_MAX), "funcName": "f"}))
        assert len(fields(journal.recv(1 << 16))["MESSAGE"]) == LINE_CHARS_MAX
        for _ in range(2_000):  # more than there is room for; nobody waits
            handler.emit(record)
        handler.close()


def test_standard_error_is_the_journals_only_where_the_manager_says_so(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        about = os.fstat(file.fileno())
        named = f"{about.st_dev}:{about.st_ino}"
        assert to_journal({"JOURNAL_STREAM": named}, file.fileno())
        assert not to_journal({"JOURNAL_STREAM": f"{named}1"}, file.fileno())
        assert not to_journal({}, file.fileno())


def test_every_message_with_a_number_is_one_that_is_logged() -> None:
    assert len(set(MESSAGE_IDS.values())) == len(MESSAGE_IDS)
    assert all(re.fullmatch("[0-9a-f]{32}", number) for number in MESSAGE_IDS.values())
    folder = Path(__file__).parents[1]
    sources = [path for path in folder.rglob("*.py") if path.name not in ("log.py", "log_test.py")]
    text = "\n".join(path.read_text() for path in sources)
    assert [message for message in MESSAGE_IDS if f'"{message}"' not in text] == []
