"""The daemon as a process: its places, its signals, its workers, and the bits it gives."""

from __future__ import annotations

import array
import base64
import os
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy
import pytest
import stim

from qmkd.core.ports import Quota
from qmkd.shell import daemon, tables
from qmkd.shell.config import load
from qmkd.shell.results import ROWS_KEPT_BYTES_MAX
from tests.daemon import (
    ROOT,
    Daemon,
    Line,
    clean_environment,
    command,
    example,
    running_daemon,
    short_folder,
    start,
)


def grinding(nodes: int = 3_000) -> dict[str, Any]:
    """A program whose every shot does some work; at 10^7 shots it runs for minutes."""
    qubits = [f"q{i}" for i in range(16)]
    events = [f"m{i}" for i in range(nodes // 3)]
    body: list[dict[str, Any]] = [
        {"id": "a", "op": "ALLOC_LQ", "args": {"n": 16, "profile": "logical:ideal"}, "vqs": qubits}
    ]
    for i, event in enumerate(events):
        first, second = qubits[i % 16], qubits[(i + 7) % 16]
        body += [
            {"id": f"h{i}", "op": "APPLY_H", "vqs": [first]},
            {"id": f"c{i}", "op": "APPLY_CNOT", "vqs": [first, second]},
            {"id": f"m{i}", "op": "MEASURE_Z", "vqs": [first], "produces": [event]},
        ]
    body.append({"id": "f", "op": "FREE_LQ", "vqs": qubits})
    resources = {"vqs": qubits, "events": events}
    return {"version": "0.1", "program": {"nodes": body}, "resources": resources}


def digest(line: Line, session: str, graph: Any, shots: int) -> str:
    """Run to the end; the digest of all rows."""
    policy = {"shots": shots, "seed": 11, "counts": False}
    job = line.call("q_submit", session_id=session, graph=graph, policy=policy)["job_id"]
    done = line.call("q_wait", session_id=session, job_id=job)
    assert done["state"] == "COMPLETED", done
    return str(done["execution_context"]["results_digest"])


def begun(line: Line, session: str, shots: int = 1_000_000) -> str:
    """A job that runs for long, once it runs."""
    policy = {"shots": shots, "seed": 11, "counts": False}
    job = line.call("q_submit", session_id=session, graph=grinding(), policy=policy)["job_id"]
    while line.call("q_status", session_id=session, job_id=job)["progress"]["shots_done"] == 0:
        time.sleep(0.01)
    return str(job)


def lives(pid: int) -> bool:
    """Whether the process exists and has not ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- points of noise ----------------------------------------------------------------------------


def stored(profile: str) -> dict[str, Any]:
    """A logical qubit that is prepared and measured."""
    nodes = [
        {"id": "a", "op": "ALLOC_LQ", "args": {"n": 1, "profile": profile}, "vqs": ["q"]},
        {"id": "m", "op": "MEASURE_Z", "vqs": ["q"], "produces": ["m"]},
        {"id": "f", "op": "FREE_LQ", "vqs": ["q"]},
    ]
    return {
        "version": "0.1",
        "program": {"nodes": nodes},
        "resources": {"vqs": ["q"], "events": ["m"]},
    }


def stored_and_measured(line: Line, noise: str) -> dict[str, Any]:
    """Many shots of that, in a session of its own; the status at the end."""
    session, graph = line.session(), stored("logical:Surface(d=3)")
    policy = {"shots": 20_000, "seed": 5, "noise": noise}
    job = line.call("q_submit", session_id=session, graph=graph, policy=policy)["job_id"]
    done: dict[str, Any] = line.call("q_wait", session_id=session, job_id=job)
    return done


def test_what_no_table_knows_is_measured_once_and_kept() -> None:
    """Both lives of the daemon give the same bits, and the second measures nothing."""
    config = 'physical_noise = "si1000 0.0061"\nworkers = 1\n'
    records = []
    with short_folder() as folder:
        for _ in range(2):
            with running_daemon(folder, config=config) as daemon, Line(daemon.socket) as line:
                done = stored_and_measured(line, "calibrated")
            assert done["state"] == "COMPLETED", done
            records.append((done["counts"], done["execution_context"]))
        assert daemon.log.count("measured a point") == 1
        kept = (daemon.state_dir / tables.FILE_NAME).read_bytes()
    (first, before), (second, after) = records
    assert first == second
    assert 100 < first["1"] < 5_000
    assert before["results_digest"] == after["results_digest"]
    ours = tables.name_of(sha256(kept).hexdigest())
    assert before["calibration"] == f"{tables.name_of(tables.shipped().sha256)}+{ours}"
    assert before["calibration"] == after["calibration"]


def test_decoders_are_as_fast_as_configured() -> None:
    config = "workers = 1\n[decoder]\nwindow_ns = 5000\nevent_ns = 100\nweight_max = 1\n"
    with running_daemon(config=config) as daemon, Line(daemon.socket) as line:
        done = stored_and_measured(line, "decoded")
    figures = done["telemetry"]["decoder"]
    assert done["execution_context"]["decoder"]["weight_max"] == 1
    assert figures["calls"] == figures["histories"] == 20_000
    assert figures["failures"] == sum(figures["syndrome_weights"][2:]) > 0
    ones = figures["syndrome_weights"][1]
    assert figures["busy_ns"] == 5000 * (20_000 - figures["failures"]) + 100 * ones
    assert figures["reaction_ns_most"] == 5100


def test_what_cannot_be_measured_is_refused_in_words() -> None:
    config = 'physical_noise = "uniform 0.2"\nworkers = 1\n'
    with running_daemon(config=config) as daemon, Line(daemon.socket) as line:
        session = line.session()
        policy = {"shots": 100, "noise": "calibrated"}
        graph = stored("logical:Surface(d=3)")
        job = line.call("q_submit", session_id=session, graph=graph, policy=policy)["job_id"]
        done = line.call("q_wait", session_id=session, job_id=job)
        assert done["error"]["type"] == "NOT_AVAILABLE"
        assert "too few errors to tell, or nothing else" in done["error"]["message"]
        refused = line.ask("q_submit", session_id=session, graph=graph, policy=policy)
        assert refused["error"]["data"]["type"] == "NOT_AVAILABLE"


# --- places -------------------------------------------------------------------------------------


def test_a_socket_that_nobody_listens_on_is_taken_over() -> None:
    with short_folder() as folder:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(folder / "q.sock"))
        with running_daemon(folder) as daemon, Line(daemon.socket) as line:
            line.session()
        assert not daemon.socket.exists()


def test_a_second_daemon_is_refused_by_socket_and_by_state_and_disturbs_nothing() -> None:
    with short_folder() as folder, running_daemon(folder) as daemon:

        def second(path: Path, state: Path) -> subprocess.CompletedProcess[str]:
            flags = ("--socket", str(path), "--state-dir", str(state))
            return subprocess.run(
                command(*flags), capture_output=True, text=True, cwd=ROOT, env=clean_environment()
            )

        same_socket = second(daemon.socket, folder / "other")
        assert same_socket.returncode == 1
        assert f"a live daemon already listens on {daemon.socket}" in same_socket.stderr
        same_state = second(folder / "other.sock", daemon.state_dir)
        assert same_state.returncode == 1
        assert f"another daemon, process {daemon.process.pid}, holds" in same_state.stderr
        with Line(daemon.socket) as line:
            line.session()


def test_descriptors_suffice_for_connections_beside_all_results_that_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1 << 20))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: given.append(limits))
    limits = daemon._fitting(load({}, {"HOME": "/", "XDG_RUNTIME_DIR": "/"}))
    ((soft, hard),) = given
    kept = Quota().result_bytes // ROWS_KEPT_BYTES_MAX
    assert soft >= limits.connections + kept + Quota().jobs
    assert hard == 1 << 20


def test_what_is_not_a_socket_is_left_alone() -> None:
    with short_folder() as folder:
        (folder / "q.sock").write_text("precious")
        daemon = start(folder)
        assert daemon.process.wait(20) == 1
        assert "exists and is not a socket" in daemon.log
        assert (folder / "q.sock").read_text() == "precious"


@pytest.mark.parametrize(
    ("config", "mode"),
    [("", 0o600), ('[[tenant]]\nname = "x"\nuids = [54321]\n', 0o666)],
)
def test_the_socket_opens_to_others_only_where_a_tenant_is_somebody_else(
    config: str, mode: int
) -> None:
    with running_daemon(config=config) as daemon:
        assert stat.S_IMODE(daemon.socket.stat().st_mode) == mode


def test_a_socket_handed_in_is_served_and_left_in_place() -> None:
    with short_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = folder / "given.sock"
        listener.bind(str(path))
        listener.listen()
        # A shell puts the socket where the protocol wants it: descriptor 3 of that very process.
        script = f'exec 3<&{listener.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
        flags = ("--state-dir", str(folder / "state"), "--workers", "1")
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command(*flags)],
            pass_fds=(listener.fileno(),),
            cwd=ROOT,
            env=clean_environment(),
            stderr=subprocess.DEVNULL,
        )
        with Line(path) as line:  # accepted once the daemon is there
            line.session()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert path.exists()


def test_the_service_manager_hears_when_the_daemon_is_ready_and_when_it_stops() -> None:
    with short_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(folder / "notify")}
        with running_daemon(folder, environment=environment) as daemon:
            message, fds, _, _ = socket.recv_fds(manager, 1000, 1)
            assert message == b"FDSTORE=1\nFDNAME=qmkd-listener"
            with socket.socket(fileno=fds[0]) as kept:
                assert kept.getsockname() == str(daemon.socket)
            ready = f"READY=1\nSTATUS=Serving {daemon.socket} with 1 workers."
            assert manager.recv(1000) == ready.encode()
        assert manager.recv(1000) == b"STOPPING=1\nEXTEND_TIMEOUT_USEC=32000000"


def test_workers_that_do_not_start_fail_the_start_and_say_why() -> None:
    with short_folder() as folder:
        daemon = start(folder, environment={"PYTHONMALLOC": "no-such-allocator"})
        assert daemon.process.wait(20) == 1
    with short_folder() as folder:
        (folder / "sitecustomize.py").write_text(
            "import sys\nif any('engine.worker' in a for a in sys.orig_argv): sys.exit('no luck')\n"
        )
        daemon = start(folder, environment={"PYTHONPATH": str(folder)})
        assert daemon.process.wait(30) == 1
        assert "no luck" in daemon.log
        assert "cannot start: a worker died" in daemon.log


def test_calls_are_answered_before_there_is_a_worker_and_jobs_wait_for_one() -> None:
    with short_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(20)
        (folder / "sitecustomize.py").write_text(
            "import os, sys, time\n"
            "if any('engine.worker' in a for a in sys.orig_argv):\n"
            f"    while not os.path.exists({str(folder / 'go')!r}): time.sleep(0.01)\n"
        )
        told = {"PYTHONPATH": str(folder), "NOTIFY_SOCKET": str(folder / "notify")}
        with running_daemon(folder, environment=told) as daemon, Line(daemon.socket) as line:
            session = line.session()
            asked = {"session_id": session, "graph": example("bell"), "policy": {"shots": 10}}
            who = {"session_id": session, "job_id": line.call("q_submit", **asked)["job_id"]}
            assert line.call("q_status", **who)["state"] == "QUEUED"
            assert b"FDSTORE=1" in manager.recv(1000)
            assert not select.select([manager], [], [], 0)[0]
            (folder / "go").touch()
            assert line.call("q_wait", **who)["state"] == "COMPLETED"
            assert manager.recv(1000).startswith(b"READY=1")


# --- signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_running_jobs_answers_their_waits_and_ends_cleanly(number: int) -> None:
    nothing_kept = {"QMKD_DURABILITY": "none"}
    with running_daemon(environment=nothing_kept) as daemon, Line(daemon.socket) as line:
        session = line.session()
        job = begun(line, session)
        workers = daemon.children()
        line.begin("q_wait", session_id=session, job_id=job)
        time.sleep(0.05)
        asked = time.monotonic()
        assert daemon.stop(number) == 0
        assert time.monotonic() - asked < 5
        assert line.answer()["result"]["state"] == "CANCELLED"
        assert line.ended()
        assert not daemon.socket.exists()
        assert not any(lives(pid) for pid in workers)


# --- durability ---------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def digest_undisturbed(shots: int) -> str:
    """Of the program that goes on, run where nothing happens."""
    with running_daemon() as daemon, Line(daemon.socket) as line:
        return digest(line, line.session(), grinding(), shots)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("durability", ["power", "process"])
def test_a_running_job_goes_on_in_the_next_daemon_and_gives_the_same_bits(
    number: int, durability: str
) -> None:
    shots = 150_000
    undisturbed = digest_undisturbed(shots)
    environment = {"QMKD_DURABILITY": durability}
    status = 0 if number == signal.SIGTERM else -number
    with short_folder() as folder:
        with (
            running_daemon(folder, status=status, environment=environment) as daemon,
            Line(daemon.socket) as line,
        ):
            session = line.session()
            job = begun(line, session, shots)
            line.begin("q_wait", session_id=session, job_id=job)
            time.sleep(0.05)
            daemon.stop(number)
            if number == signal.SIGTERM:
                assert line.answer()["error"]["data"]["type"] == "BUSY"
        with (
            running_daemon(folder, environment=environment) as again,
            Line(again.socket) as line,
        ):
            done = line.call("q_wait", session_id=session, job_id=job)
            assert done["state"] == "COMPLETED"
            assert done["execution_context"]["results_digest"] == undisturbed


def test_results_and_status_are_the_same_after_kill_9() -> None:
    with short_folder() as folder:
        with running_daemon(folder, status=-signal.SIGKILL) as daemon:
            with Line(daemon.socket) as line:
                session = line.session()
                policy = {"shots": 5_000, "seed": 3}
                graph = example("teleportation")
                asked = {"session_id": session, "graph": graph, "policy": policy}
                job = line.call("q_submit", **asked)["job_id"]
                status = line.call("q_wait", session_id=session, job_id=job)
                rows = line.call("q_results", session_id=session, job_id=job)
            daemon.stop(signal.SIGKILL)
        with running_daemon(folder) as again, Line(again.socket) as line:
            assert line.call("q_status", session_id=session, job_id=job) == status
            assert line.call("q_results", session_id=session, job_id=job) == rows
            assert line.call("q_wait", session_id=session, job_id=job) == status


def test_a_job_is_replayed_from_its_record_after_a_restart() -> None:
    with short_folder() as folder:
        with running_daemon(folder) as daemon, Line(daemon.socket) as line:
            session = line.session()
            asked = {"session_id": session, "graph": example("teleportation")}
            first = line.call("q_submit", **asked, policy={"shots": 4_000})["job_id"]
            done = line.call("q_wait", session_id=session, job_id=first)
        with running_daemon(folder) as again, Line(again.socket) as line:
            replayed = line.call("q_replay", session_id=session, job_id=first)
            assert replayed["replay_of"] == first
            same = line.call("q_wait", session_id=session, job_id=replayed["job_id"])
            assert same["counts"] == done["counts"]
            before, after = done["execution_context"], same["execution_context"]
            assert after["results_digest"] == before["results_digest"]
            assert after["replay_of"] == first


def test_a_closed_session_stays_closed_after_kill_9() -> None:
    with short_folder() as folder:
        with running_daemon(folder, status=-signal.SIGKILL) as daemon:
            with Line(daemon.socket) as line:
                session = line.session()
                line.call("q_close_session", session_id=session)
            daemon.stop(signal.SIGKILL)
        with running_daemon(folder) as again, Line(again.socket) as line:
            line.begin("q_get_telemetry", session_id=session)
            assert line.answer()["error"]["data"]["type"] == "AUTH_FAILED"


def test_a_second_signal_ends_the_daemon_at_once() -> None:
    config = "stop_grace_ms = 60000"
    with running_daemon(config=config, status=1) as daemon, Line(daemon.socket) as line:
        begun(line, line.session())
        (worker,) = daemon.children()
        os.kill(worker, signal.SIGSTOP)
        daemon.process.send_signal(signal.SIGTERM)
        while "stopping" not in daemon.log:
            time.sleep(0.01)
        assert daemon.stop() == 1
        assert not lives(worker)


def test_killing_the_daemon_takes_its_workers_along_and_the_next_one_starts() -> None:
    with short_folder() as folder:
        with running_daemon(folder, status=-signal.SIGKILL) as daemon:
            with Line(daemon.socket) as line:
                begun(line, line.session())
                workers = daemon.children()
            daemon.stop(signal.SIGKILL)
        deadline = time.monotonic() + 5
        while any(lives(pid) for pid in workers):
            assert time.monotonic() < deadline, "workers outlive the daemon"
            time.sleep(0.01)
        with running_daemon(folder) as again, Line(again.socket) as line:
            line.session()


# --- workers and bits ---------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits_for_any_number_of_workers_and_after_a_restart() -> None:
    def digests(workers: int) -> list[str]:
        with running_daemon(workers=workers) as daemon, Line(daemon.socket) as line:
            session = line.session()
            return [
                digest(line, session, example("teleportation"), 5_000),
                digest(line, session, grinding(300), 50_000),
            ]

    first = digests(1)
    assert digests(2) == first
    assert digests(1) == first


def test_a_job_tells_the_versions_of_what_computed_it() -> None:
    with running_daemon() as daemon, Line(daemon.socket) as line:
        session = line.session()
        policy = {"shots": 1}
        asked = line.call("q_submit", session_id=session, graph=example("bell"), policy=policy)
        done = line.call("q_wait", session_id=session, job_id=asked["job_id"])
        versions = done["execution_context"]["versions"]
        assert versions["numpy"] == numpy.__version__
        assert versions["stim"] == stim.__version__


def test_a_job_whose_worker_is_killed_gives_the_same_bits() -> None:
    with running_daemon() as daemon, Line(daemon.socket) as line:
        session = line.session()
        graph, shots = grinding(900), 600_000
        undisturbed = digest(line, session, graph, shots)
        policy = {"shots": shots, "seed": 11, "counts": False}
        job = line.call("q_submit", session_id=session, graph=graph, policy=policy)["job_id"]
        while True:
            status = line.call("q_status", session_id=session, job_id=job)
            assert status["state"] in ("QUEUED", "RUNNING"), "it ended before it was disturbed"
            if status["progress"]["shots_done"]:
                break
            time.sleep(0.002)
        (worker,) = daemon.children()
        os.kill(worker, signal.SIGKILL)
        done = line.call("q_wait", session_id=session, job_id=job)
        assert done["state"] == "COMPLETED"
        assert done["execution_context"]["results_digest"] == undisturbed
        (other,) = daemon.children()
        assert other != worker
        assert "worker ended" in daemon.log


def test_a_running_job_is_cancelled_within_a_tenth_of_a_second() -> None:
    with running_daemon() as daemon, Line(daemon.socket) as line:
        session = line.session()
        job = begun(line, session)
        asked = time.monotonic()
        status = line.call("q_cancel", session_id=session, job_id=job)
        assert time.monotonic() - asked < 1.0  # the benchmark holds it to 100 ms; here others run
        assert status["state"] == "CANCELLED"


def test_a_worker_frozen_in_a_call_is_killed_for_a_cancel_and_replaced() -> None:
    with running_daemon() as daemon, Line(daemon.socket) as line:
        session = line.session()
        job = begun(line, session)
        (worker,) = daemon.children()
        os.kill(worker, signal.SIGSTOP)
        assert line.call("q_cancel", session_id=session, job_id=job)["state"] == "CANCELLED"
        digest(line, session, example("bell"), 10)
        assert daemon.children() != [worker]


def packed(daemon: Daemon, session: str, job: str) -> bytes:
    """A job's rows by descriptor."""
    with Line(daemon.socket) as line:
        line.begin("q_results", session_id=session, job_id=job, transport="fd")
        data, ancillary, _, _ = line.sock.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        assert b'"fd":true' in data
        (fd,) = array.array("i", ancillary[0][2])
        with os.fdopen(fd, "rb") as file:
            return file.read()


@pytest.mark.parametrize("shots", [100, 400_000])
def test_rows_travel_by_descriptor_and_inline_and_hash_to_the_same(shots: int) -> None:
    with running_daemon(workers=2) as daemon, Line(daemon.socket) as line:
        session = line.session()
        policy = {"shots": shots, "seed": 3}
        graph = example("bell")
        job = line.call("q_submit", session_id=session, graph=graph, policy=policy)["job_id"]
        status = line.call("q_wait", session_id=session, job_id=job)
        rows = packed(daemon, session, job)
        inline = line.call("q_results", session_id=session, job_id=job)
        assert base64.b64decode(inline["data"]) == rows
        assert len(rows) == shots * inline["row_bytes"]
        counted: dict[str, int] = {}
        for row in range(shots):
            value = rows[row * inline["row_bytes"]]
            key = f"{value & 1}{value >> 1 & 1}"
            counted[key] = counted.get(key, 0) + 1
        assert counted == status["counts"]


def test_one_batch_can_bring_several_descriptors_in_the_order_of_its_answers() -> None:
    with running_daemon() as daemon, Line(daemon.socket) as line:
        session = line.session()
        jobs = []
        for seed in (1, 2):
            policy = {"shots": 64, "seed": seed}
            graph = example("bell")
            made = line.call("q_submit", session_id=session, graph=graph, policy=policy)
            jobs.append(made["job_id"])
            line.call("q_wait", session_id=session, job_id=made["job_id"])
        batch = [
            {
                "jsonrpc": "2.0",
                "id": number,
                "method": "q_results",
                "params": {"session_id": session, "job_id": job, "transport": "fd"},
            }
            for number, job in enumerate(jobs)
        ]
        line.send(msgspec.json.encode(batch) + b"\n")
        data, ancillary, _, _ = line.sock.recvmsg(1 << 20, socket.CMSG_SPACE(8))
        fds = array.array("i", ancillary[0][2])
        got = [os.read(fd, 10_000) for fd in fds]
        for fd in fds:
            os.close(fd)
        answers = msgspec.json.decode(data)
        assert [one["id"] for one in answers] == [0, 1]
        assert got == [packed(daemon, session, job) for job in jobs]


def test_discover_gives_the_generated_document() -> None:
    with running_daemon() as daemon, Line(daemon.socket) as line:
        document = (ROOT / "syscalls/schemas/openrpc.json").read_bytes()
        assert line.call("rpc.discover") == msgspec.json.decode(document)


def test_the_log_is_json_where_asked_and_cuts_session_ids_short() -> None:
    with running_daemon(None, "--log-format", "json", "--log-level", "debug") as daemon:
        with Line(daemon.socket) as line:
            session = line.session()
        deadline = time.monotonic() + 60
        while '"ready"' not in daemon.log:  # calls are answered before
            assert time.monotonic() < deadline, daemon.log
            time.sleep(0.01)
        daemon.stop()
        lines = [msgspec.json.decode(one) for one in daemon.log.splitlines()]
        assert {"ready", "stopping", "stopped"} <= {one["message"] for one in lines}
        assert session not in daemon.log


def test_the_daemons_module_runs_under_warnings_as_errors() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "qmkd", "--version"],
        capture_output=True,
        cwd=ROOT,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr.decode()
