"""A real daemon over its database: rows that are large, a file that is locked, full or damaged."""

from __future__ import annotations

import array
import os
import signal
import socket
import sqlite3
import subprocess
from hashlib import sha256
from time import monotonic, sleep

from qmkd.shell.results import ROWS_READ_BYTES_MAX
from qmkd.shell.store.check import check
from qmkd.shell.store.schema import DATABASE_NAME
from syscalls.results import SHOT_BLOCK
from tests.daemon import Daemon, Line, example, running_daemon, short_folder, start

ROW_BYTES = 2  # of a Bell pair


def submitted(line: Line, session: str, shots: int = 1000) -> str:
    policy = {"shots": shots, "seed": 1, "counts": False}
    asked = line.call("q_submit", session_id=session, graph=example("bell"), policy=policy)
    job: str = asked["job_id"]
    return job


def finished(line: Line, session: str, shots: int = 1000) -> tuple[str, str]:
    """A completed job, and the digest of its results."""
    job = submitted(line, session, shots)
    done = line.call("q_wait", session_id=session, job_id=job)
    return job, done["execution_context"]["results_digest"]


def answer_by_descriptor(daemon: Daemon, session: str, job: str) -> tuple[bytes, bytes]:
    """The answer's line, and the rows if some came with it."""
    with Line(daemon.socket) as line:
        line.begin("q_results", session_id=session, job_id=job, transport="fd")
        data, ancillary, _, _ = line.sock.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        if not ancillary:
            return data, b""
        (fd,) = array.array("i", ancillary[0][2])
        with os.fdopen(fd, "rb") as file:
            return data, file.read()


def digest(rows: bytes) -> str:
    leaf = SHOT_BLOCK * ROW_BYTES
    leaves = (sha256(rows[at : at + leaf]).digest() for at in range(0, len(rows), leaf))
    return sha256(b"".join(leaves)).hexdigest()


def test_large_results_of_a_killed_daemon_are_handed_out_by_the_next() -> None:
    shots = ROWS_READ_BYTES_MAX // ROW_BYTES + 5000
    with short_folder() as folder:
        with running_daemon(folder, status=-signal.SIGKILL) as daemon:
            with Line(daemon.socket) as line:
                session = line.session()
                job, named = finished(line, session, shots)
            daemon.stop(signal.SIGKILL)
        assert check(folder / "state" / DATABASE_NAME).ok
        with running_daemon(folder) as again:
            for _ in range(2):
                _, rows = answer_by_descriptor(again, session, job)
                assert len(rows) == shots * ROW_BYTES
                assert digest(rows) == named
        assert check(folder / "state" / DATABASE_NAME).ok


def test_damaged_results_are_refused_and_all_else_is_served() -> None:
    with short_folder() as folder:
        database = folder / "state" / DATABASE_NAME
        with running_daemon(folder) as daemon, Line(daemon.socket) as line:
            session = line.session()
            small, _ = finished(line, session)
            large, _ = finished(line, session, ROWS_READ_BYTES_MAX)
            sound, named = finished(line, session, 2000)
        db = sqlite3.connect(database, isolation_level=None)
        for job in (small, large):
            db.execute(
                "UPDATE rows SET bytes = zeroblob(length(bytes)) "
                "WHERE job = (SELECT number FROM jobs WHERE id = ?)",
                (job,),
            )
        db.close()
        with running_daemon(folder) as daemon, Line(daemon.socket) as line:
            for job in (small, large):
                said, rows = answer_by_descriptor(daemon, session, job)
                assert (b"INTERNAL_ERROR" in said, rows) == (True, b"")
            assert digest(answer_by_descriptor(daemon, session, sound)[1]) == named
            finished(line, session)
        assert {fault.where for fault in check(database).faults} == {"packed rows"}


def test_a_locked_database_refuses_new_work_and_serves_reads_until_it_is_free() -> None:
    with short_folder() as folder, running_daemon(folder) as daemon, Line(daemon.socket) as line:
        session = line.session()
        job, named = finished(line, session)
        lock = sqlite3.connect(folder / "state" / DATABASE_NAME, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        asked = {"session_id": session, "graph": example("bell"), "policy": {"shots": 10}}
        for _ in range(2):
            refused = line.ask("q_submit", **asked)["error"]
            assert refused["data"]["type"] == "BUSY"
            assert "locked" in refused["message"]
        assert digest(answer_by_descriptor(daemon, session, job)[1]) == named
        assert line.call("q_status", session_id=session, job_id=job)["state"] == "COMPLETED"
        lock.close()
        deadline = monotonic() + 20.0
        while "error" in line.ask("q_submit", **asked):
            assert monotonic() < deadline
            sleep(0.02)
        finished(line, session)


def test_a_damaged_job_keeps_the_daemon_from_starting() -> None:
    with short_folder() as folder:
        with running_daemon(folder) as daemon, Line(daemon.socket) as line:
            finished(line, line.session())
        db = sqlite3.connect(folder / "state" / DATABASE_NAME, isolation_level=None)
        db.execute("UPDATE jobs SET body = x'00'")
        db.close()
        daemon = start(folder)
        try:
            assert daemon.process.wait(20) == 1
        except subprocess.TimeoutExpired:
            daemon.process.kill()
            raise
        assert "its checksum is not that of its bytes" in daemon.log
