"""The installed service under a real systemd: started, reloaded, hung, restarted, stopped.

One machine serves the tests of this file, one after the other; each leaves the daemon as it found
it, up or down does not matter. Where none can be booted, the reason is said.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qmkd.shell.daemon_test import grinding
from tests.daemon import Line, example
from tests.systemd.booted import ROOT, WAIT_S_MAX, Booted, booted, install, reason

UNIT = "qmkd.service"
ALONE = "alone.service"
CONFIG = "etc/qmk/qmkd.toml"
WHY_NOT = reason()

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    folder = tmp_path_factory.mktemp("installed")
    install(folder)
    # Workers share the cores with other tests; on idle cores only, they would wait for them.
    config = folder / CONFIG
    config.write_text('workers = 1\nworker_scheduling = "other"\n' + config.read_text())
    dropin = folder / "usr/lib/systemd/system/qmkd.service.d"
    dropin.mkdir(exist_ok=True)
    (dropin / "test.conf").write_text("[Unit]\nStartLimitBurst=100\n[Service]\nWatchdogSec=6\n")
    (folder / "usr/lib/systemd/system" / ALONE).write_text(alone())
    with booted(folder) as machine:
        yield machine


def alone() -> str:
    """The daemon's unit where an administrator wants no socket unit beside it."""
    text = (ROOT / "systemd" / UNIT).read_text()
    text = "".join(line for line in text.splitlines(True) if "qmkd.socket" not in line)
    text = text.replace("Directory=qmkd\n", "Directory=alone\n").replace("%S/qmkd", "%S/alone")
    return text.replace("/run/qmk/qsyscall.sock", "/run/alone/q.sock")


def talk(machine: Booted, unit: str = UNIT) -> Line:
    path = machine.socket if unit == UNIT else machine.root / "run/alone/q.sock"
    return Line(path, seconds=WAIT_S_MAX)


def submit(line: Line, session: str, graph: Any, **policy: Any) -> str:
    return str(line.call("q_submit", session_id=session, graph=graph, policy=policy)["job_id"])


def done(line: Line, session: str, job: str) -> Any:
    status = line.call("q_wait", session_id=session, job_id=job)
    assert status["state"] == "COMPLETED", status
    return status


def begun(line: Line, session: str, shots: int) -> str:
    """A job that runs for long, once it runs."""
    job = submit(line, session, grinding(), shots=shots, seed=11, counts=False)
    while not line.call("q_status", session_id=session, job_id=job)["progress"]["shots_done"]:
        time.sleep(0.01)
    return job


def test_the_first_connection_starts_the_daemon_as_a_user_without_privileges(
    machine: Booted,
) -> None:
    assert machine.value(UNIT, "ActiveState") == "inactive"
    with talk(machine) as line:
        session = line.session()
        done(line, session, submit(line, session, example("bell"), shots=100))
    assert machine.value(UNIT, "ActiveState") == "active"
    assert machine.value(UNIT, "StatusText") == "Serving /run/qmk/qsyscall.sock with 1 workers."
    pid = machine.main_pid()
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    uid = machine.run("id", "-u", "qmkd").stdout.strip()
    assert uid != "0"
    assert status["Uid"].split() == [uid] * 4
    assert (status["CapEff"], status["CapBnd"]) == ("0" * 16, "0" * 16)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    machine.run("test", "-f", "/var/lib/qmkd/qmkd.db")
    assert machine.run("stat", "-c", "%U %a", "/var/lib/qmkd").stdout == "qmkd 700\n"


def test_workers_are_held_in_under_the_services_own_filter(machine: Booted) -> None:
    with talk(machine) as line:
        line.session()
    children = Path(f"/proc/{machine.main_pid()}/task/{machine.main_pid()}/children").read_text()
    (worker,) = children.split()
    lines = Path(f"/proc/{worker}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    filters = {"daemon": 0, "worker": int(status["Seccomp_filters"])}
    text = Path(f"/proc/{machine.main_pid()}/status").read_text()
    filters["daemon"] = int(text.split("Seccomp_filters:\t")[1].split()[0])
    assert filters["worker"] > filters["daemon"], "a narrower one inside the service's"
    said = machine.journal().rsplit("workers are not held in by", 1)[-1].splitlines()[0]
    for name in ("privileges=", "user=", "limits=", "files=", "system_calls="):
        assert name not in said, "all that is needed is in force"


def test_a_reload_drops_no_session_and_a_bad_file_changes_nothing_and_fails(
    machine: Booted,
) -> None:
    config = machine.root / CONFIG
    before = config.read_text()
    with talk(machine) as line:
        session = line.session()
        pid = machine.main_pid()
        config.write_text(before + '\n[[tenant]]\nname = "guests"\nusers = ["nobody"]\n')
        machine.systemctl("reload", UNIT)
        assert machine.value(UNIT, "StatusText").endswith("In force: tenant.")
        config.write_text(before + '\n[[tenant]]\nname = "guests"\nusers = ["nobodi"]\n')
        failed = machine.systemctl("reload", UNIT, check=False)
        assert failed.returncode != 0
        text = machine.value(UNIT, "StatusText")
        assert "The configuration stays as it was" in text
        assert "no user 'nobodi'" in text
        assert "the configuration is refused" in machine.journal()
        config.write_text(before)
        machine.systemctl("reload", UNIT)
        assert machine.value(UNIT, "ActiveState") == "active"
        assert machine.main_pid() == pid
        line.call("q_get_telemetry", session_id=session)


def test_a_hung_daemon_is_ended_by_the_watchdog_and_its_job_goes_on_in_the_next(
    machine: Booted,
) -> None:
    with talk(machine) as line:
        session = line.session()
        job = begun(line, session, 60_000)
        before = machine.main_pid()
        os.kill(before, signal.SIGSTOP)
        assert line.ended(), "the connection ends with the daemon"
    with talk(machine) as line:  # waits in the socket until the next one is there
        done(line, session, job)
    assert machine.main_pid() != before
    assert "Watchdog timeout" in machine.journal()


def test_a_job_goes_on_over_a_restart_and_gives_the_bits_that_it_would_have_given(
    machine: Booted,
) -> None:
    with talk(machine) as line:
        session = line.session()
        job = begun(line, session, 60_000)
    machine.systemctl("restart", UNIT)
    with talk(machine) as line:
        digest = done(line, session, job)["execution_context"]["results_digest"]
        again = submit(line, session, grinding(), shots=60_000, seed=11, counts=False)
        assert done(line, session, again)["execution_context"]["results_digest"] == digest


def load(
    machine: Booted,
    unit: str,
    ends: threading.Event,
    kept: dict[str, str],
    troubles: list[str],
) -> None:
    """Submit one job after the other by new connections; whoever gets no answer asks again."""
    graph, number, session = example("bell"), 0, ""
    while not ends.is_set():
        key = f"{threading.get_ident()}-{number}"
        try:
            with talk(machine, unit) as line:
                session = session or line.session()
                policy = {"shots": 10, "idempotency_key": key}
                answer = line.ask("q_submit", session_id=session, graph=graph, policy=policy)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            continue  # it was accepted, and the daemon went: ask the next one
        except OSError as error:
            troubles.append(f"connecting: {error!r}")
            return
        if "result" in answer:
            kept[answer["result"]["job_id"]] = session
            number += 1
        elif answer["error"]["data"]["type"] in ("BUSY", "QUOTA_EXCEEDED"):
            time.sleep(0.01)  # the jobs before it have to end first
        else:
            troubles.append(str(answer))
            return


def restarted_under_load(machine: Booted, unit: str, times: int) -> None:
    ends = threading.Event()
    kept: dict[str, str] = {}
    troubles: list[str] = []
    threads = [
        threading.Thread(target=load, args=(machine, unit, ends, kept, troubles)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(times):
            before = len(kept)
            while len(kept) < before + 30 and not troubles:
                time.sleep(0.01)
            machine.systemctl("restart", unit)
    finally:
        ends.set()
        for thread in threads:
            thread.join(WAIT_S_MAX)
    assert not troubles
    with talk(machine, unit) as line:
        for job, session in kept.items():
            line.call("q_status", session_id=session, job_id=job)


@pytest.mark.slow
def test_restarts_under_load_refuse_no_connection_and_lose_nothing_acknowledged(
    machine: Booted,
) -> None:
    restarted_under_load(machine, UNIT, 2)


@pytest.mark.slow
def test_without_a_socket_unit_the_descriptor_store_keeps_the_socket_over_restarts(
    machine: Booted,
) -> None:
    machine.systemctl("start", ALONE)
    restarted_under_load(machine, ALONE, 2)
    machine.systemctl("stop", ALONE)
    assert not (machine.root / "run/alone").exists()


@pytest.mark.slow
def test_a_stop_ends_in_time_even_with_a_worker_that_hangs(machine: Booted) -> None:
    with talk(machine) as line:
        session = line.session()
        begun(line, session, 1_000_000)
        pid = machine.main_pid()
        (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(worker), signal.SIGSTOP)
        machine.systemctl("stop", UNIT, "qmkd.socket")
    assert machine.value(UNIT, "ActiveState") == "inactive"
    assert machine.value(UNIT, "Result") == "success", "not by a timeout"
    assert not Path(f"/proc/{worker}").exists()
    machine.systemctl("start", "qmkd.socket")
    with talk(machine) as line:
        line.call("q_close_session", session_id=session)


@pytest.mark.slow
def test_the_nightly_check_finds_all_well_or_a_chain_that_was_cut_off(machine: Booted) -> None:
    with talk(machine) as line:
        line.session()
    nightly = "qmkd-nightly.service"
    machine.systemctl("start", nightly)
    said = machine.journal(nightly)
    assert "Nothing is damaged." in said
    assert "The chain holds from its first entry to its last" in said
    (machine.root / "etc/qmk/audit-head").write_text("ab" * 32 + "\n")
    failed = machine.systemctl("start", nightly, check=False)
    (machine.root / "etc/qmk/audit-head").unlink()
    assert failed.returncode != 0
    assert "The chain does not hold" in machine.journal(nightly)
    machine.systemctl("reset-failed", nightly)


@pytest.mark.slow
def test_a_program_is_run_by_its_name_as_a_tenant_of_its_own(machine: Booted) -> None:
    programs = machine.root / "etc/qmk/programs"
    source = Path(__file__).parents[2] / "qvm/examples/bell.qvm.json"
    (programs / "bell.qvm.json").write_bytes(source.read_bytes())
    (programs / "bell.env").write_text("QMK_RUN_OPTIONS=--shots 50\n")
    machine.systemctl("start", "qmk-run@bell.service")
    assert '"shots_total":50' in machine.journal("qmk-run@bell.service")


@pytest.mark.slow
def test_a_user_has_a_machine_of_ones_own_in_ones_session(machine: Booted) -> None:
    machine.run("useradd", "--create-home", "--home-dir", "/var/ada", "ada")
    uid = machine.run("id", "-u", "ada").stdout.strip()
    machine.systemctl("start", "dbus.socket", "systemd-logind.service", f"user@{uid}.service")

    def ada(*command: str) -> str:
        runtime = f"XDG_RUNTIME_DIR=/run/user/{uid}"
        return machine.run("runuser", "-u", "ada", "--", "env", runtime, *command).stdout

    ada("systemctl", "--user", "start", "qmkd.socket")
    program = machine.root / "tmp/bell.qvm.json"
    program.write_bytes((ROOT / "qvm/examples/bell.qvm.json").read_bytes())
    assert '"COMPLETED"' in ada("qmkctl", "run", "--json", "/tmp/bell.qvm.json")
    # `require` insists on all that workers give up, so the unit's filter lets them.
    ada("mkdir", "-p", "/var/ada/.config/qmk")
    own = machine.root / "var/ada/.config/qmk/qmkd.toml"
    own.write_text('worker_sandbox = "require"\n')
    ada("systemctl", "--user", "restart", "qmkd.service")
    assert '"COMPLETED"' in ada("qmkctl", "run", "--json", "/tmp/bell.qvm.json")
    ada("systemctl", "--user", "reload", "qmkd.service")


@pytest.mark.slow
def test_the_doctor_finds_no_fault_in_an_installation_that_serves(machine: Booted) -> None:
    with talk(machine) as line:
        line.session()
    healthy = machine.run("qmkctl", "doctor", check=False)
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    assert "qmkd.service is active" in healthy.stdout
    machine.systemctl("stop", UNIT, "qmkd.socket")
    broken = machine.run("qmkctl", "doctor", check=False)
    machine.systemctl("start", "qmkd.socket")
    assert broken.returncode == 8
    assert "/run/qmk/qsyscall.sock is not there" in broken.stdout
