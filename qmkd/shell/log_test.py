"""The log neither tells secrets, nor lets itself be flooded, nor waits for its reader."""

from __future__ import annotations

import io
import logging
import os
import time

import pytest

from qmkd.shell.log import PER_WINDOW_MAX, Handler, JsonFormatter, Restraint, TextFormatter

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
