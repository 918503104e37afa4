"""Checkpoints, moves and slices that go on, with real daemons that are stopped and killed."""

from __future__ import annotations

import hashlib
import itertools
import signal
import socket
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qmkd.shell.store import DATABASE_NAME
from syscalls.results import SHOT_BLOCK
from tests import daemon as daemon_module
from tests.daemon import Line, running_daemon, short_folder

SHOTS = 200_000
ROUNDS = 120


def fenced(profile: str = "logical:ideal") -> dict[str, Any]:
    """Rounds on a few qubits with a fence after each; SHOTS shots of it take a second or two."""
    qubits = [f"q{i}" for i in range(16)]
    nodes: list[dict[str, Any]] = [
        {"id": "a", "op": "ALLOC_LQ", "args": {"n": 16, "profile": profile}, "vqs": qubits}
    ]
    for i in range(ROUNDS):
        first, second = qubits[i % 16], qubits[(i + 7) % 16]
        nodes += [
            {"id": f"h{i}", "op": "APPLY_H", "vqs": [first]},
            {"id": f"c{i}", "op": "APPLY_CNOT", "vqs": [first, second]},
            {"id": f"m{i}", "op": "MEASURE_Z", "vqs": [first], "produces": [f"m{i}"]},
            {"id": f"e{i}", "op": "FENCE_EPOCH"},
        ]
    nodes.append({"id": "f", "op": "FREE_LQ", "vqs": qubits})
    resources = {"vqs": qubits, "events": [f"m{i}" for i in range(ROUNDS)]}
    return {"version": "0.1", "program": {"nodes": nodes}, "resources": resources}


def opened(line: Line) -> str:
    rights = ["CAP_ALLOC", "CAP_CHECKPOINT", "CAP_MIGRATE"]
    return str(line.call("q_negotiate_caps", requested=rights)["session_id"])


def refusal(line: Line, method: str, **params: Any) -> tuple[str, str]:
    """The type and the sentence of a refusal."""
    error = line.ask(method, **params)["error"]
    return error["data"]["type"], error["message"]


def submitted(line: Line, session: str, **policy: Any) -> str:
    policy = {"shots": SHOTS, "seed": 5, "counts": False, **policy}
    asked = {"session_id": session, "graph": fenced(), "policy": policy}
    return str(line.call("q_submit", **asked)["job_id"])


def digest(line: Line, session: str, job: str) -> str:
    done = line.call("q_wait", session_id=session, job_id=job)
    assert done["state"] == "COMPLETED", done
    return str(done["execution_context"]["results_digest"])


def leaves(path: Path, session: str, job: str) -> str:
    """The digest of the packed rows as they are sent: as results digests are defined."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        params = {"session_id": session, "job_id": job, "format": "packed", "transport": "fd"}
        call = {"jsonrpc": "2.0", "id": 1, "method": "q_results", "params": params}
        sock.sendall(msgspec.json.encode(call) + b"\n")
        _, (fd,), _, _ = socket.recv_fds(sock, 1 << 20, 1)
    with open(fd, "rb") as file:
        rows = file.read()
    size = len(rows) // SHOTS * SHOT_BLOCK
    blocks = (hashlib.sha256(rows[at : at + size]).digest() for at in range(0, len(rows), size))
    return hashlib.sha256(b"".join(blocks)).hexdigest()


def begun(line: Line, session: str) -> str:
    """A job of which something runs and most is still to be run."""
    for _ in range(20):
        job = submitted(line, session)
        while True:
            status = line.call("q_status", session_id=session, job_id=job)
            if status["state"] != "QUEUED":
                break
            time.sleep(0.002)
        if status["state"] == "RUNNING":
            return job
    raise AssertionError("the jobs are too short for this machine")


@pytest.fixture(scope="module")
def undisturbed() -> str:
    """The digest of the job where nothing comes between."""
    with running_daemon() as daemon, Line(daemon.socket) as line:
        session = opened(line)
        return digest(line, session, submitted(line, session))


def test_a_checkpoint_outlives_its_job_and_kill_9_and_gives_the_same_bits(undisturbed: str) -> None:
    with short_folder() as folder:
        with running_daemon(folder, status=-signal.SIGKILL) as daemon, Line(daemon.socket) as line:
            session = opened(line)
            job = begun(line, session)
            made = line.call("q_checkpoint", session_id=session, job_id=job)
            line.call("q_cancel", session_id=session, job_id=job)
            asked = {"session_id": session, "checkpoint_id": made["checkpoint_id"]}
            new = line.call("q_restore", **asked)["job_id"]
            assert digest(line, session, new) == undisturbed
            assert leaves(daemon.socket, session, new) == undisturbed
            daemon.stop(signal.SIGKILL)
        with running_daemon(folder) as again, Line(again.socket) as line:
            (kept,) = line.call("q_list_checkpoints", session_id=session)["checkpoints"]
            name = kept["checkpoint_id"]
            assert name == made["checkpoint_id"]
            assert kept["size_bytes"] == made["size_bytes"]
            assert made["epoch"] or made["shots_done"], "it was under way"
            for _ in range(2):
                new = line.call("q_restore", session_id=session, checkpoint_id=name)["job_id"]
                assert digest(line, session, new) == undisturbed
                assert leaves(again.socket, session, new) == undisturbed, (
                    "its rows are those digested"
                )
                done = line.call("q_status", session_id=session, job_id=new)
                assert done["execution_context"]["restored_from"] == name
            line.call("q_drop_checkpoint", session_id=session, checkpoint_id=name)
            kind, _ = refusal(line, "q_restore", session_id=session, checkpoint_id=name)
            assert kind == "CHECKPOINT_NOT_FOUND"


def test_a_restored_job_and_its_first_end_alike_in_a_daemon_that_keeps_nothing(
    undisturbed: str,
) -> None:
    environment = {"QMKD_DURABILITY": "none"}
    with running_daemon(environment=environment) as daemon, Line(daemon.socket) as line:
        session = opened(line)
        job = begun(line, session)
        made = line.call("q_checkpoint", session_id=session, job_id=job)
        name = made["checkpoint_id"]
        new = line.call("q_restore", session_id=session, checkpoint_id=name)["job_id"]
        assert digest(line, session, job) == digest(line, session, new) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_a_job_goes_on_inside_its_slice_after_the_daemon_ends(
    undisturbed: str, number: signal.Signals
) -> None:
    status = 0 if number == signal.SIGTERM else -number
    with short_folder() as folder:
        with running_daemon(folder, status=status) as daemon, Line(daemon.socket) as line:
            session = opened(line)
            job = begun(line, session)
            daemon.stop(number)
        parked = _parked(folder)
        with running_daemon(folder) as again, Line(again.socket) as line:
            assert digest(line, session, job) == undisturbed
    assert parked or number == signal.SIGKILL, "a shutdown parks what runs"


# A daemon whose threads begin to read what is stored once a file `open` is there. It says by files
# of its own that one has come so far, and that the loop itself has read packed rows.
GATED = """
import pathlib, runpy, sys, time
from qmkd.shell.store import fetcher, reader

gate = pathlib.Path({!r})

def gated(read):
    def reads(*asked):
        (gate / "asked").touch()
        while not (gate / "open").exists():
            time.sleep(0.005)
        return read(*asked)
    return reads

def said(read):
    def reads(*asked):
        (gate / "read").touch()
        return read(*asked)
    return reads

fetcher.packed_rows = gated(reader.packed_rows)
fetcher.snapshot_pieces = gated(reader.snapshot_pieces)
reader.packed_rows = said(reader.packed_rows)
sys.argv[0] = "qmkd"
runpy.run_module("qmkd", run_name="__main__")
"""


class Gate:
    """Of a daemon that is started while it is there."""

    def __init__(self, folder: Path, patched: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        code = GATED.format(str(folder))
        patched.setattr(
            daemon_module, "command", lambda *flags: [sys.executable, "-c", code, *flags]
        )

    def wait(self, name: str) -> None:
        until = time.monotonic() + 20.0
        while not (self.folder / name).exists():
            assert time.monotonic() < until
            time.sleep(0.005)


def test_everybody_is_answered_while_a_job_waits_for_what_it_goes_on_from(
    undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is opened only once all that is asked meanwhile is answered, or the daemon ends."""
    with short_folder() as folder:
        with running_daemon(folder) as daemon, Line(daemon.socket) as line:
            session = opened(line)
            jobs = [begun(line, session), submitted(line, session, seed=6)]
        assert _parked(folder)
        gate = Gate(folder / "gate1", monkeypatch)
        with running_daemon(folder) as daemon:
            gate.wait("asked")
            before = len(daemon.log)
            daemon.process.send_signal(signal.SIGTERM)
            until = time.monotonic() + 20.0
            while "qmkd: stopped" not in daemon.log[before:]:
                assert time.monotonic() < until, daemon.log
                time.sleep(0.005)
            (gate.folder / "open").touch()
            assert daemon.process.wait(20) == 0
        gate = Gate(folder / "gate2", monkeypatch)
        with running_daemon(folder) as daemon, Line(daemon.socket) as line:
            gate.wait("asked")
            with Line(daemon.socket) as other:
                theirs = opened(other)
                assert other.call("q_get_telemetry", session_id=theirs)["jobs"] is not None
            for job in jobs[1:]:
                ended = line.call("q_cancel", session_id=session, job_id=job)
                assert ended["state"] == "CANCELLED"
            (gate.folder / "open").touch()
            assert digest(line, session, jobs[0]) == undisturbed
            assert not (gate.folder / "read").exists(), "nobody asked for its rows"
            assert leaves(daemon.socket, session, jobs[0]) == undisturbed


def _parked(folder: Path) -> int:
    """How many snapshots a daemon that ended has left."""
    (path,) = folder.rglob(DATABASE_NAME)
    with sqlite3.connect(path) as db:
        return int(db.execute("SELECT count(*) FROM snapshots").fetchone()[0])


def test_a_damaged_checkpoint_is_refused_and_says_so(undisturbed: str) -> None:
    with short_folder() as folder:
        with running_daemon(folder) as daemon, Line(daemon.socket) as line:
            session = opened(line)
            job = begun(line, session)
            name = line.call("q_checkpoint", session_id=session, job_id=job)["checkpoint_id"]
        (path,) = folder.rglob(DATABASE_NAME)
        with sqlite3.connect(path) as db:
            for table in ("snapshot_bytes", "checkpoint_rows"):
                db.execute(f"UPDATE {table} SET bytes = zeroblob(length(bytes))")
        db.close()
        with running_daemon(folder) as again, Line(again.socket) as line:
            kind, why = refusal(line, "q_restore", session_id=session, checkpoint_id=name)
            assert kind == "CHECKPOINT_INCOMPATIBLE"
            assert "it is damaged" in why
            # Snapshots of the job itself are damaged as well: what stood there begins anew.
            assert digest(line, session, job) == undisturbed


def test_a_job_that_is_moved_back_and_forth_gives_the_same_bits(undisturbed: str) -> None:
    environment = {"QMKD_MACHINE": "modular"}
    with running_daemon(environment=environment) as daemon, Line(daemon.socket) as line:
        session = opened(line)
        job = begun(line, session)
        moves = 0
        for target in itertools.islice(itertools.cycle(("north", "east")), 6):
            answer = line.ask("q_migrate", session_id=session, job_id=job, target=target)
            if "error" in answer:
                assert answer["error"]["data"]["type"] == "ALREADY_COMPLETED"
                break
            assert answer["result"]["placement"] == target
            moves += 1
        assert moves
        other = submitted(line, session)
        kind, why = refusal(line, "q_migrate", session_id=session, job_id=other, target="up")
        assert kind == "INVALID_PARAMS"
        assert "one of north, east, south, west" in why
        assert digest(line, session, job) == undisturbed
