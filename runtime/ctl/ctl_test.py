"""`qmkctl` as a program, on a real daemon: what it prints, and with which status it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.client import Client
from runtime.ctl.__main__ import COMMANDS, main, parser
from runtime.ctl.commands import run
from runtime.ctl.exits import MEANING, Exit, status_of
from runtime.ctl.session_cache import cache_file
from syscalls.capability import Delegate
from syscalls.rights import Right
from tests.daemon import Daemon, running_daemon

ROOT = Path(__file__).parents[2]
BELL = str(ROOT / "qvm/examples/bell.qvm.json")
ARM = {"FORCE_COLOR": "", "COLUMNS": "100"}
FLIP = """\
start: ALLOC_LQ n=1, profile="logical:Surface(d=3)", q0
coin:  APPLY_H q0
look:  MEASURE_Z q0 -> m0
fix:   APPLY_X q0 if m0==1
again: MEASURE_Z q0 -> m1
done:  FREE_LQ q0
"""
# Guards that differ in every shot make this the slowest program per node that there is.
SLOW = """\
ALLOC_LQ n=12, profile="logical:Surface(d=3)", {qubits}
{rounds}
FREE_LQ {qubits}
"""

Ctl = Callable[..., "subprocess.CompletedProcess[str]"]


def slow_program() -> str:
    qubits = [f"q{n}" for n in range(12)]
    lines = []
    for n in range(60):
        qubit = qubits[n % 12]
        lines.append(
            f"APPLY_H {qubit}\nAPPLY_T {qubit}\nAPPLY_CNOT {qubit}, {qubits[(n + 1) % 12]}"
        )
        lines.append(f"MEASURE_Z {qubit} -> m{n}")
        lines.append(f"APPLY_H {qubits[(n + 5) % 12]} if m{n}==1")
    return SLOW.format(qubits=", ".join(qubits), rounds="\n".join(lines))


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


@pytest.fixture
def environment(daemon: Daemon, tmp_path: Path) -> dict[str, str]:
    private = {"QMK_SOCKET": str(daemon.socket), "XDG_RUNTIME_DIR": str(tmp_path)}
    return {k: v for k, v in os.environ.items() if k != "QMK_SOCKET"} | private | ARM


@pytest.fixture
def ctl(environment: dict[str, str]) -> Ctl:
    """Run qmkctl, assert its status, and that nobody sees a traceback."""

    def run(
        *arguments: str, status: Exit = Exit.OK, text: str = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "runtime.ctl", *arguments],
            input=text, capture_output=True, text=True, cwd=ROOT, timeout=60,
            env=environment | more,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def object_in(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.stdout.count("\n") == 1, "one object on one line"
    return json.loads(done.stdout)


def test_run_prints_the_counts_as_a_table_and_as_json(ctl: Ctl) -> None:
    shown = ctl("run", BELL, "--shots", "1000", "--seed", "7").stdout
    assert "1000 shots, seed 7" in shown
    job = object_in(ctl("run", BELL, "--shots", "1000", "--seed", "7", "--json"))
    assert job["state"] == "COMPLETED"
    assert sum(job["counts"].values()) == 1000
    assert all(str(count) in shown for count in job["counts"].values())


def test_what_decoders_knew_is_shown_and_written_shot_by_shot(ctl: Ctl, tmp_path: Path) -> None:
    policy = ("--shots", "2000", "--seed", "7", "--noise", "decoded", "--decoder-data")
    job = object_in(ctl("run", BELL, *policy, "--json"))
    shown = ctl("results", job["job_id"], "--decoder").stdout
    assert "2000 shots" in shown
    assert "left wrong" in shown
    table = object_in(ctl("results", job["job_id"], "--decoder", "--json"))
    assert sum(row["shots"] for row in table["by_gap"]) == 2000
    written = tmp_path / "data.csv"
    ctl("results", job["job_id"], "--decoder", "--out", str(written))
    head, *rows = written.read_text().splitlines()
    assert head == "gap,weight,flips,undecoded"
    assert len(rows) == 2000
    ctl("results", job["job_id"], "--out", str(tmp_path / "data.npy"))
    samples = np.load(tmp_path / "data.npy")
    assert samples.shape == (2000, 2)
    counts = object_in(ctl("results", job["job_id"], "--json"))["counts"]
    assert counts == job["counts"]
    ctl("results", job["job_id"], "--out", "data.txt", status=Exit.USAGE)
    plain = object_in(ctl("run", BELL, "--json"))
    refused = ctl("results", plain["job_id"], "--decoder", status=Exit.REFUSED).stderr
    assert "policy.decoder_data" in refused


def test_run_explains_what_a_program_was_planned_to_cost_and_did(ctl: Ctl) -> None:
    shown = ctl("run", BELL, "--explain").stdout
    for told in ("1024 shots", "engine frames", "predicted", "real", "packing and counting"):
        assert told in shown
    job = object_in(ctl("run", BELL, "--explain", "--json"))["telemetry"]
    assert job["plan"]["engine"] == "frames"
    assert job["cpu_ns"] == sum(job["spent_ns"].values()) > 0
    ctl("run", BELL, "--explain", "--no-wait", status=Exit.USAGE)


def test_a_program_is_explained_without_being_run(ctl: Ctl) -> None:
    shown = ctl("explain", BELL, "--shots", "1").stdout
    assert "engine tableau" in shown
    assert "real" not in shown
    plan = object_in(ctl("explain", BELL, "--json"))["plan"]
    assert [row["qubits"] for row in plan["rows"]] == [2]
    assert object_in(ctl("jobs", "--json"))["jobs"] == []
    wide = [f"q{at}" for at in range(30)]
    lines = [f"ALLOC_LQ n=30, profile=logical:ideal, {', '.join(wide)}"]
    lines += [f"APPLY_T {qubit}" for qubit in wide] * 140  # too many for `magic`, too
    lines += [f"APPLY_CNOT {one}, {two}" for one, two in pairwise(wide)]
    refused = ctl("explain", "-", text="\n".join(lines), status=Exit.REFUSED).stderr
    assert "30 qubits" in refused
    assert "16 GiB" in refused


def test_exact_probabilities_are_shown_as_shares(ctl: Ctl) -> None:
    shown = ctl("run", BELL, "--exact", "--noise", "ideal").stdout
    assert "exact probabilities" in shown
    assert shown.count("0.500000000") == 2
    found = object_in(ctl("run", BELL, "--exact", "--noise", "ideal", "--json"))["probabilities"]
    assert found == pytest.approx({"00": 0.5, "11": 0.5}, abs=1e-12)
    noisy = object_in(ctl("run", BELL, "--exact", "--json"))["probabilities"]
    assert 1e-4 < noisy["01"] + noisy["10"] < 1e-2, "a code of distance 3 errs"
    ctl("run", BELL, "--exact", "--shots", "2", status=Exit.USAGE)


def test_assembly_runs_from_a_file_and_from_standard_input(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "flip.qvm").write_text(FLIP)
    asked = ("--seed", "1", "--noise", "ideal", "--json")
    from_file = object_in(ctl("run", str(tmp_path / "flip.qvm"), *asked))
    piped = object_in(ctl("run", "-", *asked, text=FLIP))
    assert from_file["counts"] == piped["counts"]
    assert set(piped["counts"]) == {"00", "10"}


def test_a_job_left_running_is_found_again_by_later_invocations(ctl: Ctl) -> None:
    submitted = object_in(ctl("run", BELL, "--no-wait", "--json"))
    job = submitted["job_id"]
    assert "1024 shots" in ctl("wait", job).stdout
    assert object_in(ctl("status", job, "--json"))["state"] == "COMPLETED"
    assert job in ctl("status", job).stdout
    assert [each["job_id"] for each in object_in(ctl("jobs", "--json"))["jobs"]] == [job]
    assert f"{job}  COMPLETED  1024" in ctl("jobs").stdout
    assert object_in(ctl("telemetry", job, "--json"))["jobs"]["COMPLETED"] == 1
    shown = ctl("telemetry", job).stdout
    assert "total epochs" in shown
    assert "predicted" in shown
    refused = ctl("cancel", job, "--json", status=Exit.REFUSED)
    assert json.loads(refused.stderr)["error"]["type"] == "ALREADY_COMPLETED"


def test_status_of_the_daemon_says_what_holds_its_workers_in(ctl: Ctl) -> None:
    told = object_in(ctl("status", "--daemon", "--json"))
    (sandbox,) = told["worker_sandboxes"]
    shown = ctl("status", "--daemon").stdout
    assert "sandbox of workers 0" in shown
    for name in (*sandbox["in_force"], *sandbox["lacking"]):
        assert name in shown
    assert shown.count("not in force: ") == len(sandbox["lacking"])
    ctl("status", status=Exit.USAGE)
    ctl("status", "job_1", "--daemon", status=Exit.USAGE)


def test_rights_are_delegated_listed_used_and_revoked(ctl: Ctl) -> None:
    """The daemon's one tenant hands on to itself, which narrows rather than widens."""
    tenant = object_in(ctl("session", "--json"))["tenant_id"]
    terms = ("--jobs", "2", "--expires", "60")
    name = ctl("caps", "delegate", tenant, "CAP_MAGIC", "CAP_ALLOC", *terms).stdout.strip()
    (row,) = object_in(ctl("caps", "list", "--json"))["capabilities"]
    assert (row["capability_id"], row["given"], row["share"]) == (name, True, {"jobs": 2})
    assert f"{name}  given" in ctl("caps", "list").stdout
    assert object_in(ctl("caps", "revoke", name, "--json"))["revoked"] == 1
    assert "No capabilities." in ctl("caps", "list").stdout
    again = ctl("caps", "revoke", name, status=Exit.REFUSED).stderr
    assert "No such capability" in again
    ctl("caps", "delegate", tenant, "CAP_FLY", status=Exit.USAGE)


def test_qubits_are_held_and_channels_opened_told_and_closed(ctl: Ctl) -> None:
    """On a machine of one module, where a channel is local."""
    one, two = ctl("alloc", "2", "logical:Surface(d=3)").stdout.split()
    (third,) = object_in(ctl("alloc", "1", "logical:ideal", "--json"))["handles"]
    told = object_in(ctl("telemetry", "--json"))["qubits"]
    assert [each["handle"] for each in told] == [one, two, third]
    ctl("chan", "open", one, two, "--type", "DEJMPSS", status=Exit.USAGE)
    channel = ctl("chan", "open", one, two, "--fidelity", "0.9").stdout.strip()
    other = object_in(ctl("chan", "open", one, third, "--json"))
    assert other["actual_fidelity"] == 1.0
    assert "Fidelity 1 after 0 cycles" in ctl("chan", "status", channel).stdout
    assert object_in(ctl("chan", "status", channel, "--json"))["uses"] == 0
    assert "Closed." in ctl("chan", "close", channel).stdout
    assert "No such channel" in ctl("chan", "status", channel, status=Exit.REFUSED).stderr
    assert "Released: 2." in ctl("release", one, two).stdout
    assert object_in(ctl("release", third, "--json"))["handles"] == [third]
    closed = ctl("chan", "close", other["channel_id"], status=Exit.REFUSED).stderr
    assert "No such channel" in closed
    assert "no such logical qubit" in ctl("release", one, status=Exit.REFUSED).stderr
    ctl("alloc", "0", "logical:ideal", status=Exit.USAGE)


def test_who_waits_is_told_what_keeps_the_job_and_who_cancels_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job whose own session holds the qubits that its quota lets it have."""
    config = (
        f'[[tenant]]\nname = "me"\nuids = [{os.getuid()}]\n[tenant.quota]\nlogical_qubits = 2\n'
    )
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(run, "HINT_S", 0.05)
    with running_daemon(config=config) as running:
        monkeypatch.setenv("QMK_SOCKET", str(running.socket))
        assert main(["alloc", "1", "logical:ideal"]) == Exit.OK
        assert main(["run", BELL, "--no-wait"]) == Exit.OK
        job = capsys.readouterr().out.split()[-1]
        assert main(["wait", job, "--timeout", "0.1"]) == Exit.TIMEOUT
        assert (
            f"qmkctl: {job} is QUEUED: waiting for logical qubits of the tenant's quota: "
            "2 asked, 1 of 2 in use, 1 of these held by its session\n"
        ) in capsys.readouterr().err
        assert main(["cancel", job]) == Exit.OK
        assert "none begun" in capsys.readouterr().out


def test_faults_are_injected_listed_and_cleared(ctl: Ctl) -> None:
    """As an operator would rehearse them; the machine has no other module to move to."""
    assert "Nothing is wrong" in ctl("faults", "list").stdout
    soon = ctl("faults", "inject", "module", "main", "--after", "9", "--for", "5").stdout.strip()
    drift = object_in(ctl("faults", "inject", "calibration", "--strength", "2", "--json"))
    assert drift["modes"] == ["raise_distance", "add_fences"]
    listed = object_in(ctl("faults", "list", "--json"))
    assert set(listed["faults"]) == {soon, drift["fault_id"]}
    assert {each["fault_id"] for each in listed["degraded"]} == {drift["fault_id"]}
    shown = ctl("faults", "list").stdout
    assert "not yet" in shown
    assert "raise_distance" in shown
    for name in (soon, drift["fault_id"]):
        assert "fault_id" in object_in(ctl("faults", "clear", name, "--json"))
    assert "No injected fault" in ctl("faults", "clear", soon, status=Exit.REFUSED).stderr
    ctl("faults", "inject", "calibration", "--strength", "0.5", status=Exit.USAGE)
    refused = ctl("faults", "inject", "module", "attic", status=Exit.REFUSED).stderr
    assert "no module is named 'attic'" in refused


def test_a_session_with_a_capability_takes_the_place_of_the_one_before(
    ctl: Ctl, daemon: Daemon
) -> None:
    with Client(daemon.socket, rights=["CAP_MAGIC", "CAP_DELEGATE"]) as giver:
        request = Delegate(
            session_id=giver.session_id, rights=[Right.MAGIC], tenant_id=giver.session.tenant_id
        )
        name = giver.call(request).capability_id  # type: ignore[attr-defined]
        before = object_in(ctl("session", "--json"))["session_id"]
        assert name in ctl("caps", "use", name).stdout
        session = object_in(ctl("session", "--json"))
        assert session["session_id"] != before
        assert name in session["granted"]
        assert f"{name}  in use" in ctl("caps", "list").stdout
    assert "no more" in ctl("caps", "use", name, status=Exit.REFUSED).stdout


def test_one_key_makes_one_job(ctl: Ctl) -> None:
    run = ("run", BELL, "--seed", "1", "--key", "mine", "--no-wait")
    assert ctl(*run).stdout == ctl(*run).stdout
    done = ctl(*run, "--shots", "7", status=Exit.REFUSED)
    assert "another submission" in done.stderr


def test_the_session_is_kept_for_its_owner_alone_and_closed_on_request(
    ctl: Ctl, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", environment["XDG_RUNTIME_DIR"])
    path = cache_file(Path(environment["QMK_SOCKET"]))
    first = object_in(ctl("session", "--json"))["session_id"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first in ctl("session", "show").stdout
    ctl("run", BELL, "--no-wait")
    assert object_in(ctl("session", "close", "--json"))["jobs_forgotten"] <= 1
    assert not path.exists()
    assert object_in(ctl("session", "--json"))["session_id"] != first
    path.chmod(0o644)
    assert "open to others" in ctl("session", status=Exit.USAGE).stderr


def test_a_kept_session_that_the_kernel_forgot_is_replaced(
    ctl: Ctl, environment: dict[str, str]
) -> None:
    first = object_in(ctl("session", "--json"))["session_id"]
    with Client(environment["QMK_SOCKET"]) as client:
        own = client.session
        client._session = own.__class__(
            **{name: getattr(own, name) for name in own.__struct_fields__ if name != "session_id"},
            session_id=first,
        )
        client.close_session()
        client._session = own
    assert object_in(ctl("session", "--json"))["session_id"] != first


def test_without_the_cache_nothing_is_written(ctl: Ctl, environment: dict[str, str]) -> None:
    ctl("run", BELL, "--no-session-cache", "--json")
    assert not (Path(environment["XDG_RUNTIME_DIR"]) / "qmkctl").exists()
    ctl("run", BELL, "--no-session-cache", "--no-wait", status=Exit.USAGE)


def test_an_invalid_program_is_refused_with_findings_by_verify_and_by_run(
    ctl: Ctl, tmp_path: Path
) -> None:
    graph = json.loads(Path(BELL).read_text())
    graph["program"]["nodes"][2]["op"] = "FLY"
    bad = tmp_path / "bad.qvm.json"
    bad.write_text(json.dumps(graph))
    here = ctl("verify", str(bad), status=Exit.INVALID_PROGRAM).stdout.splitlines()
    there = ctl("run", str(bad), status=Exit.INVALID_PROGRAM).stderr.splitlines()
    assert "[op.unknown]" in here[0]
    assert [each.strip() for each in there[1:]] == here
    by_json = object_in(ctl("verify", str(bad), "--json", status=Exit.INVALID_PROGRAM))
    assert by_json["findings"][0]["rule"] == "op.unknown"
    assert object_in(ctl("verify", BELL, "--json"))["ok"] is True
    assert "7 nodes" in ctl("verify", BELL).stdout
    assert ":1:" in ctl("run", "-", text="FLY q0\n", status=Exit.INVALID_PROGRAM).stderr


def test_a_picture_is_drawn_where_asked(ctl: Ctl, tmp_path: Path) -> None:
    ctl("run", BELL, "--plot", str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    done = ctl("run", BELL, "--plot", str(tmp_path / "a.gnp"), status=Exit.USAGE)
    assert "gnp" in done.stderr


def test_discovery_lists_the_calls(ctl: Ctl) -> None:
    assert "q_submit" in ctl("discover").stdout
    assert object_in(ctl("discover", "--json"))["openrpc"].startswith("1.")


def test_a_job_that_runs_out_of_time_ends_with_the_timeout_status(ctl: Ctl) -> None:
    slow = ("run", "-", "--shots", "10000000")
    done = ctl(*slow, "--timeout", "0.2", text=slow_program(), status=Exit.TIMEOUT)
    assert "within 200 ms" in done.stderr
    job = ctl(*slow, "--no-wait", text=slow_program()).stdout.strip()
    ctl("wait", job, "--timeout", "0.1", status=Exit.TIMEOUT)
    assert object_in(ctl("cancel", job, "--json"))["state"] == "CANCELLED"
    assert "cancelled" in ctl("wait", job, status=Exit.JOB_FAILED).stderr


def test_an_interrupt_cancels_the_job_politely(
    ctl: Ctl, environment: dict[str, str], tmp_path: Path
) -> None:
    source = tmp_path / "slow.qvm"
    source.write_text(slow_program())
    with subprocess.Popen(
        [sys.executable, "-m", "runtime.ctl", "run", str(source), "--shots", "10000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
    ) as process:  # fmt: skip
        try:
            deadline = time.monotonic() + 30
            jobs: list[Any] = []
            while not any(job["started_at"] for job in jobs):
                assert time.monotonic() < deadline
                jobs = object_in(ctl("jobs", "--json"))["jobs"]
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == Exit.INTERRUPTED
    assert "cancelling" in said
    assert "Traceback" not in said
    assert object_in(ctl("status", jobs[0]["job_id"], "--json"))["state"] == "CANCELLED"


def test_no_daemon_and_no_such_file_say_so(ctl: Ctl, tmp_path: Path) -> None:
    done = ctl("jobs", "--socket", str(tmp_path / "none"), status=Exit.UNREACHABLE)
    assert done.stderr.startswith("qmkctl: No daemon answers at")
    assert "Cannot read" in ctl("run", "none.qvm", status=Exit.USAGE).stderr
    ctl("run", BELL, "--shots", "0", status=Exit.USAGE)
    ctl("status", "job_none", status=Exit.REFUSED)


def test_a_reader_that_goes_away_is_no_failure(environment: dict[str, str]) -> None:
    done = subprocess.run(
        f"{sys.executable} -m runtime.ctl discover --json | head -c 1; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, cwd=ROOT, timeout=60,
        env=environment,
    )  # fmt: skip
    assert done.stdout == "{0\n"
    assert done.stderr == ""


def on_a_terminal(command: list[str], environment: dict[str, str]) -> str:
    """What a person sees: standard output and standard error on a terminal of its own."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment
    ) as process:
        os.close(theirs)
        seen = b""
        with suppress(OSError):  # The end of a terminal is an error on Linux.
            while piece := os.read(ours, 65536):
                seen += piece
        os.close(ours)
    assert process.returncode == 0, seen
    return seen.decode()


def test_colour_is_for_terminals_and_no_color_turns_it_off(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "runtime.ctl"]
    coloured = environment | {"TERM": "xterm-256color"}
    for name in ("NO_COLOR", "FORCE_COLOR"):
        coloured.pop(name, None)
    run = on_a_terminal([*command, "run", BELL, "--shots", "100000"], coloured)
    assert "shots" in run
    green = "\x1b[32m"
    assert green in on_a_terminal([*command, "jobs"], coloured)
    assert green not in on_a_terminal([*command, "jobs"], coloured | {"NO_COLOR": "1"})


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_every_subcommand(ctl: Ctl, shell: str) -> None:
    script = ctl("completion", shell).stdout
    assert all(name in script for name in COMMANDS)
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_every_exit_status_is_in_the_help(ctl: Ctl) -> None:
    shown = ctl("--help").stdout
    for status, meaning in MEANING.items():
        assert f"{status.value:>3}  {meaning}" in shown


def test_an_unexpected_fault_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(options: object) -> Exit:
        raise ZeroDivisionError("one by none")

    monkeypatch.setattr(COMMANDS["jobs"], "execute", broken)
    assert main(["jobs"]) == Exit.BUG
    assert "fault of qmkctl itself: ZeroDivisionError" in capsys.readouterr().err
    assert status_of(ZeroDivisionError()) is Exit.BUG
    assert parser().parse_args(["jobs"]).json is False


def test_the_example_of_the_readme_runs(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "flip.qvm").write_text(FLIP)
    with Client(daemon.socket) as client:
        result = client.run(str(tmp_path / "flip.qvm"), shots=1000, seed=1)
        assert result.samples.shape == (1000, 2)
        assert set(result.counts) == {"00", "10"}
        assert not result.samples[:, 1].any()
        again = client.run(FLIP, shots=1000, seed=1)
        assert (again.samples_packed == result.samples_packed).all()


def test_many_samples_come_as_a_mapped_descriptor_and_agree_with_the_counts(
    daemon: Daemon,
) -> None:
    with Client(daemon.socket) as client:
        result = client.run(Path(BELL), shots=200_000, seed=3, noise="ideal")
        assert result.samples.shape == (200_000, 2)
        assert (result.samples[:, 0] == result.samples[:, 1]).all()
        assert result.packed.counts() == result.counts
        uncounted = client.run(Path(BELL), shots=200_000, seed=3, noise="ideal", counts=False)
        assert uncounted.status.counts is None
        assert uncounted.counts == result.counts


def test_a_job_is_repeated_by_name_and_one_that_is_over_holds_no_qubits(ctl: Ctl) -> None:
    first = object_in(ctl("run", BELL, "--shots", "100", "--json"))
    again = object_in(ctl("replay", first["job_id"], "--json"))
    assert again["replay_of"] == first["job_id"]
    assert object_in(ctl("wait", again["job_id"], "--json"))["counts"] == first["counts"]
    assert "holds no physical qubits" in ctl("mapping", first["job_id"]).stdout
    assert object_in(ctl("mapping", first["job_id"], "--json"))["mapping"] == {}
    ctl("mapping", "job_none", status=Exit.REFUSED)


def test_wrong_usage_says_what_to_type(ctl: Ctl, tmp_path: Path) -> None:
    said = ctl("caps", "delegate", "root", "CAP_MAGIK", status=Exit.USAGE).stderr
    assert "choose from 'CAP_ALLOC', " in said
    none = str(tmp_path / "none")
    assert "qmkctl doctor" in ctl("jobs", "--socket", none, status=Exit.UNREACHABLE).stderr
    assert "Name a program" in ctl("estimate", status=Exit.USAGE).stderr
