"""What a worker in its sandbox tries in vain, each by trying; and what it can still do.

The attempts are in `probe.py`. Here are their refusals: by the filter of system calls (EPERM), by
Landlock (EACCES), or by a limit. What a host's kernel lacks is skipped, and said.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmkd.engine import landlock
from qmkd.engine.messages import Check, Failed
from qmkd.engine.sandbox import NEEDED, code_places
from tests.daemon import (
    ROOT,
    Daemon,
    Line,
    clean_environment,
    example,
    running_daemon,
    short_folder,
)
from tests.worker import Peer

PROBE = "tests.security.probe"
MEMORY_BYTES = 256 << 20
NOBODY = ("--user", "65534", "65534") if os.geteuid() == 0 else ()
LEVELS = {
    "best": ("--sandbox=best", *NOBODY),
    "require": ("--sandbox=require", *NOBODY),
}
FATAL = ("execve", "ptrace", "process_vm_readv", "mount", "unshare")

# {file}: somebody else's, here our own. {other}: another process of this user's. {socket}: where
# somebody listens.
ATTEMPTS = {
    "read": "{file} /etc/passwd /proc/self/environ /proc/self/mem /proc/{other}/mem "
    "/proc/{other}/environ /proc/{other}/maps /dev/null /etc/hostname",
    "list": "/ /tmp /home {folder} /proc /proc/{other}/fd",
    "write": "{file} {folder}/new /tmp/qmk-probe /dev/shm/x /dev/null {code}/new.py",
    "append": "{file} {code}/__init__.py",
    "truncate": "{file}",
    "remove": "{file} {code}/__init__.py",
    "rename": "{file}",
    "link": "{file}",
    "make folder": "{file}",
    "make pipe": "{file}",
    "change mode": "{file}",
    "change owner": "{file}",
    "change times": "{file}",
    "set attribute": "{file}",
    "every kind of socket": "-",
    "pair of sockets": "-",
    "connect": "{socket}",
    "listen on its own": "-",
    "have signals sent": "{other}",
    "fork": "-",
    "start a thread": "-",
    "start a program": "-",
    "signal": "{other} {parent} -1 1",
    "signal a thread": "{other}",
    "hold a process": "{other}",
    "bind to a core": "{other} 0",
    "change priority": "{other}",
    "limit another": "{other}",
    "become root": "-",
    "become dumpable": "-",
    "outlive the daemon": "-",
    "leave its group": "-",
    "raise a limit": "-",
    "fill descriptors": "-",
    "make code": "-",
    "fill memory": str(2 * MEMORY_BYTES),
    "fill a memory file": str(1 << 50),
}
REFUSALS = {"fill descriptors": "EMFILE", "fill memory": "ENOMEM", "fill a memory file": "EFBIG"}
PAIRS = [(name, at) for name, places in ATTEMPTS.items() for at in range(len(places.split()))]


class Place:
    """What a worker might be after."""

    def __init__(self, folder: Path, other: int, listens: Path) -> None:
        (folder / "secret").write_text("of another tenant")
        (folder / "secret").chmod(0o666)
        folder.chmod(0o777)
        self.names = {
            "file": folder / "secret",
            "folder": folder,
            "other": other,
            "parent": os.getpid(),
            "socket": listens,
            "code": ROOT / "qmkd",
        }

    def fill(self, name: str, at: int) -> str:
        return ATTEMPTS[name].split()[at].format(**self.names)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon(workers=2) as one:
        one.socket.parent.chmod(0o755)
        one.socket.chmod(0o666)
        yield one


@pytest.fixture(scope="module")
def place(daemon: Daemon) -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(["sleep", "600"]) as other:
        yield Place(Path(folder), other.pid, daemon.socket)
        other.kill()


@pytest.fixture(scope="module", params=LEVELS)
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    found = Peer(f"--memory-bytes={MEMORY_BYTES}", *LEVELS[request.param], module=PROBE)
    yield found
    found.close()


def tried(peer: Peer, name: str, argument: str = "") -> str:
    answer = peer.ask(Check(1, f"{name} | {argument}".encode()))
    assert isinstance(answer, Failed)
    return answer.message


def needs(peer: Peer, *parts: str) -> None:
    """Skip where the host's kernel has not what would refuse it."""
    for part in parts:
        if part in peer.sandbox.lacking:
            pytest.skip(f"{part}: {peer.sandbox.lacking[part]}")


@pytest.mark.parametrize(("name", "at"), PAIRS)
def test_an_attempt_is_refused(peer: Peer, place: Place, name: str, at: int) -> None:
    if name == "make code" and "becomes code" not in peer.sandbox.in_force["privileges"]:
        pytest.skip("the host's kernel cannot forbid code in written memory (Linux 6.3)")
    if name not in REFUSALS:
        needs(peer, "system calls", "files")
    wanted = {REFUSALS[name]} if name in REFUSALS else {"EPERM", "EACCES"}
    if name == "fill descriptors":
        needs(peer, "limits")
    if name == "raise a limit":
        assert tried(peer, name, "").startswith(("ValueError", "EPERM"))
        return
    argument = place.fill(name, at)
    assert tried(peer, name, argument) in wanted, (name, argument)


def test_a_worker_in_its_sandbox_still_works(peer: Peer) -> None:
    assert tried(peer, "answer") == "done"
    assert tried(peer, "make a memory file") == "done"
    assert tried(peer, "fill memory", str(MEMORY_BYTES // 8)) == "done"


def test_code_is_loaded_later_only_where_files_may_be_read(peer: Peer) -> None:
    """A module of Python's that no worker uses, and one of ours that lies beside its packages."""
    needs(peer, "files")
    reads = "code" in peer.sandbox.in_force["files"]
    assert tried(peer, "import", "wave").startswith("done" if reads else "ImportError")
    assert tried(peer, "import", "harness.demo") != "done"


@pytest.mark.parametrize("name", FATAL)
def test_what_no_worker_asks_for_ends_it_at_once(place: Place, name: str) -> None:
    peer = Peer("--sandbox=best", module=PROBE)
    try:
        needs(peer, "system calls")
        with pytest.raises((EOFError, ConnectionResetError)):
            tried(peer, name, str(place.names["other"]))
        assert peer.process.wait(10) == -signal.SIGSYS
    finally:
        peer.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_worker_of_root_becomes_the_user_that_was_named() -> None:
    peer = Peer(*LEVELS["require"], module=PROBE)
    try:
        status = Path(f"/proc/{peer.process.pid}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines())
        assert lines["Uid"].split() == lines["Gid"].split() == ["65534"] * 4
        assert lines["Groups"].split() == []
        for name in ("CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd"):
            assert int(lines[name], 16) == 0, name
        assert lines["NoNewPrivs"].strip() == "1"
        assert peer.sandbox.lacking == {} or "user" not in peer.sandbox.lacking
    finally:
        peer.close()


def test_a_worker_without_a_sandbox_says_that_it_has_none() -> None:
    peer = Peer("--sandbox=off", module=PROBE)
    try:
        assert peer.sandbox.in_force == {}
        assert set(NEEDED) < set(peer.sandbox.lacking)
        assert tried(peer, "read", "/etc/passwd") == "done"
    finally:
        peer.close()


def test_a_worker_holds_no_descriptor_but_its_own_and_no_environment(daemon: Daemon) -> None:
    for pid in daemon.children():
        held = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        kinds = {link.split(":")[0].removesuffix(" (deleted)") for link in held}
        assert kinds <= {"/dev/null", "pipe", "socket", "/memfd"}, held
        assert sum(link.startswith("socket") for link in held) == 1
        given = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        names = {each.partition(b"=")[0] for each in given if each}
        assert all(name.startswith((b"PYTHON", b"LANG", b"LC_", b"LD_LIB")) for name in names)


# --- each mechanism by itself, where the other would refuse too -----------------------------------

ALONE = """
import ctypes, os, socket
from qmkd.engine import landlock, sandbox, syscall_filter
places = sandbox.code_places()
assert not ctypes.CDLL(None).prctl(38, ctypes.c_ulong(1), 0, 0, 0)
{restrict}
for attempt in {attempts}:
    try:
        attempt()
    except PermissionError:
        continue
    raise SystemExit("it could")
"""


def alone(restrict: str, attempts: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE.format(restrict=restrict, attempts=attempts)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not landlock.abi(), reason="the host's kernel has no Landlock")
def test_landlock_alone_keeps_files_closed_but_code() -> None:
    attempts = (
        "lambda: open('/etc/passwd')",
        "lambda: open('/tmp/qmk-probe', 'w')",
        "lambda: open(places[-1] + '/new', 'w')",
        "lambda: os.listdir('/')",
        "lambda: os.mkdir('/tmp/qmk-probe')",
        "lambda: os.execv('/bin/true', ['true'])",
    )
    alone("landlock.restrict(places); import wave", f"({', '.join(attempts)})")


@pytest.mark.skipif(landlock.abi() < 6, reason="the host's kernel has no Landlock ABI 6")
def test_landlock_alone_keeps_from_tcp_and_from_signals_to_others() -> None:
    attempts = (
        "lambda: socket.socket().bind(('127.0.0.1', 0))",
        "lambda: socket.create_connection(('127.0.0.1', 1))",
        "lambda: os.kill(os.getppid(), 0)",
    )
    alone("landlock.restrict(places)", f"({', '.join(attempts)})")


def test_the_filter_alone_keeps_files_closed() -> None:
    attempts = (
        "lambda: open('/etc/passwd')",
        "lambda: open('/tmp/qmk-probe', 'w')",
        "lambda: os.listdir('/')",
        "lambda: os.stat('/')",
        "lambda: os.readlink('/proc/self/exe')",
    )
    alone("syscall_filter.install(False)", f"({', '.join(attempts)})")


def test_the_state_directory_is_not_among_what_may_be_read() -> None:
    assert str(ROOT) not in code_places()
    assert not any(place in ("/", "/var", "/var/lib", "/run", "/tmp") for place in code_places())


# --- what operators see ---------------------------------------------------------------------------


def test_the_machine_s_figures_and_the_log_say_what_is_in_force(daemon: Daemon) -> None:
    with Line(daemon.socket) as line:
        asked = ["CAP_ALLOC", "CAP_ADMIN"]
        session = line.call("q_negotiate_caps", requested=asked)["session_id"]
        machine = line.call("q_get_telemetry", session_id=session, machine=True)["machine"]
    told = [each for each in machine["worker_sandboxes"] if each is not None]
    assert told
    for each in told:
        assert not set(each["in_force"]) & set(each["lacking"])
        assert {*each["in_force"], *each["lacking"]} == {"namespaces", *NEEDED}
        assert all(each["lacking"].values()), "each with its reason"
    assert "workers are held in by" in daemon.log
    if told[0]["lacking"]:
        assert "workers are not held in by" in daemon.log


def test_a_daemon_that_requires_a_sandbox_which_is_not_to_be_had_refuses_to_start() -> None:
    """Here because the machine is made to look like one whose system calls nobody knows."""
    with short_folder() as folder:
        (folder / "sitecustomize.py").write_text(
            "import sys\n"
            "if any('engine.worker' in a for a in sys.orig_argv):\n"
            "    import platform\n"
            "    platform.machine = lambda: 'pdp11'\n"
        )
        places = ("--socket", str(folder / "q.sock"), "--state-dir", str(folder / "state"))
        done = subprocess.run(
            [sys.executable, "-m", "qmkd", *places, "--workers", "1"],
            cwd=ROOT,
            env=clean_environment(PYTHONPATH=str(folder), QMKD_WORKER_SANDBOX="require"),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    said = "cannot start: the sandbox that is required for workers is not to be had: system calls"
    assert said in done.stderr, done.stderr
    assert "on pdp11 are not known" in done.stderr


@pytest.mark.skipif(not landlock.abi(), reason="the host's kernel has no Landlock")
def test_a_daemon_that_requires_the_sandbox_runs_every_kind_of_noise_in_it() -> None:
    """All that these jobs import has been loaded before, since nothing can be read any more."""
    kinds = ("ideal", "calibrated", "decoded", "physical")
    environment = {"QMKD_WORKER_SANDBOX": "require"}
    with running_daemon(environment=environment) as one, Line(one.socket) as line:
        session = line.session()
        for noise in kinds:
            policy = {"shots": 50, "seed": 1, "noise": noise}
            graph = example("ghz")
            job = line.call("q_submit", session_id=session, graph=graph, policy=policy)["job_id"]
            done = line.call("q_wait", session_id=session, job_id=job)
            assert done["state"] == "COMPLETED", (noise, done)
