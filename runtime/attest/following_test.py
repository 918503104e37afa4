"""A follower beside a real daemon, each a process, and the command line that asks it."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.attest.client import ask, require_mode
from runtime.attest.errors import NotThere, Unavailable
from runtime.attest.keeping import Policy
from runtime.attest.keys import Trust
from runtime.attest.rpc import CALLERS_PER_USER_MAX, Calls, Params, Server, answer_to
from runtime.attest.watching import Follower
from runtime.client import Client
from runtime.ctl.__main__ import main
from runtime.ctl.exits import Exit
from tests.daemon import Daemon, clean_environment, running_daemon, short_folder

BELL = "qvm/examples/bell.qvm.json"
WAIT_S_MAX = 60.0


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as daemon:
        yield daemon


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@contextmanager
def following(daemon: Daemon, folder: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A follower that listens, with software keys of its own."""
    process = subprocess.Popen(
        [
            sys.executable, "-m", "runtime.attest", "--dir", folder / "attest", "--state-dir",
            daemon.state_dir, "--socket", daemon.socket, "--software-keys", folder / "keys",
            "--listen", folder / "s", "--origin", "qmkd.test/ledger", *more,
        ],
        env=clean_environment(),
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + WAIT_S_MAX
        while not (folder / "s").is_socket():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait(WAIT_S_MAX)


def qmkctl(daemon: Daemon, folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Its status and its answer, which is an error's where it fails."""
    said, wrong = io.StringIO(), io.StringIO()
    places = {
        "QMK_SOCKET": str(daemon.socket),
        "QMK_ATTEST_SOCKET": str(folder / "s"),
        "XDG_RUNTIME_DIR": str(folder),
    }
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(wrong):
        for name, value in places.items():
            patch.setenv(name, value)
        status = main([*arguments, "--json"])
    return status, json.loads((said.getvalue() or wrong.getvalue()).splitlines()[-1])


def wait_signed(folder: Path, job_id: str) -> None:
    until = time.monotonic() + WAIT_S_MAX
    while True:
        try:
            ask(folder / "s", "show", job_id=job_id)
            ask(folder / "s", "prove", job_id=job_id)
        except (NotThere, Unavailable):
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            return


def test_a_job_is_signed_logged_verified_and_run_again_from_its_manifest(
    daemon: Daemon, folder: Path
) -> None:
    with following(daemon, folder, "--when", "request"):
        status, job = qmkctl(daemon, folder, "run", BELL, "--shots", "50", "--seed", "3")
        assert status == 0, job
        job_id = str(job["job_id"])
        status, row = qmkctl(daemon, folder, "manifest", "sign", job_id, "--em-method", "zne")
        assert (status, row["crypto_mode"]) == (0, "hybrid")
        status, error = qmkctl(daemon, folder, "manifest", "sign", job_id, "--em-method", "pec")
        assert (status, "never changed" in str(error)) == (Exit.UNVERIFIED, True), error
        wait_signed(folder, job_id)
        status, told = qmkctl(daemon, folder, "manifest", "verify", job_id)
        assert (status, told["ok"], told["leaf"]) == (0, True, row["leaf"])
        file = str(folder / "artifact")
        status, made = qmkctl(daemon, folder, "manifest", "artifact", job_id, "--out", file)
        assert (status, made["artifact_hash"]) == (0, told["artifact_hash"])
        status, again = qmkctl(daemon, folder, "manifest", "replay", job_id, "--program", BELL)
        assert (status, again["same"]) == (0, {"program": True, "seed": True, "results": True})
        ghz = "qvm/examples/ghz.qvm.json"
        status, again = qmkctl(daemon, folder, "manifest", "replay", job_id, "--program", ghz)
        assert (status, again["ok"]) == (Exit.UNVERIFIED, False)
        proof = str(folder / "p.tlog-proof")
        assert qmkctl(daemon, folder, "ledger", "prove", job_id, "--out", proof)[0] == 0
        assert qmkctl(daemon, folder, "ledger", "verify", proof)[1]["leaf"] == row["leaf"]
        text = Path(proof).read_text()
        Path(proof).write_text(text.replace("index ", "index 1"))
        assert qmkctl(daemon, folder, "ledger", "verify", proof)[0] == Exit.UNVERIFIED
        (folder / "decision").write_text('{"chosen": "qmkd@test", "score": 1.5}')
        status, added = qmkctl(daemon, folder, "ledger", "add", str(folder / "decision"))
        _, last = qmkctl(daemon, folder, "ledger", "tail", "--last", "1")
        assert (status, last["leaves"][0]["number"]) == (0, added["leaf"])
        assert last["leaves"][0]["data"]["record"]["chosen"] == "qmkd@test"
        status, listed = qmkctl(daemon, folder, "manifest", "list")
        assert (status, len(listed["signed"])) == (0, 1)


def test_a_follower_that_is_killed_goes_on_and_what_ended_meanwhile_is_signed(
    daemon: Daemon, folder: Path
) -> None:
    jobs: list[str] = []
    # The session ends with each client, so the daemon forgets the jobs, and the chain does not.
    for turn in range(2):
        with Client(daemon.socket) as client:
            jobs += [client.run(BELL, shots=10, seed=turn).job_id]
        with following(daemon, folder, "--metrics-port", "0") as process:
            wait_signed(folder, jobs[-1])
            told = ask(folder / "s", "list")
            process.send_signal(signal.SIGKILL)
            process.wait()
            (folder / "s").unlink()
    known = [row["job_id"] for row in told["signed"]]
    assert [each for each in known if each in jobs] == jobs
    keys = str(_keys(folder))
    at = str(folder / "attest")
    status, told = qmkctl(daemon, folder, "ledger", "verify", "--dir", at, "--keys", keys)
    assert (status, told["ok"]) == (0, True)


def _keys(folder: Path) -> Path:
    """Public keys, from the follower's own signer."""
    from runtime.attest.catalog import write_trust
    from runtime.attest.keeping import KEYS
    from runtime.attest.keys import Trust, TrustedKey
    from runtime.signer.keys.store import Keys

    keys = Keys(folder / "keys")
    told = [TrustedKey.of(keys.public(name)) for name in KEYS]
    write_trust(folder, Trust(keys=told, origin="qmkd.test/ledger"))
    keys.close()
    return folder / "trust.json"


def test_a_program_that_needs_a_mode_is_not_run_where_nobody_signs_in_it(
    daemon: Daemon, folder: Path
) -> None:
    status, error = qmkctl(daemon, folder, "run", BELL, "--crypto-mode", "pqc-required")
    assert status == Exit.UNREACHABLE, error
    with following(daemon, folder), Client(daemon.socket) as client:
        require_mode("pqc-required", folder / "s")
        job_id = client.run(BELL, shots=5, crypto_mode="pqc-required").job_id
        wait_signed(folder, job_id)
        rows = ask(folder / "s", "list")["signed"]
        assert [r["crypto_mode"] for r in rows if r["job_id"] == job_id] == ["pqc-required"]


# --- who may ask --------------------------------------------------------------------------------


class _Keeper:
    """Knows one job, of one session."""

    policy = Policy(when="never")

    def trust(self) -> Trust:
        return Trust(keys=[])

    def session_of(self, job_id: str) -> str:
        if job_id != "job_1":
            raise NotThere("No job.")
        return sha256(b"sess_1").hexdigest()[:16]

    def envelope(self, job_id: str) -> bytes:
        return b"{}"

    def bundle(self, job_id: str, *, logged: bool) -> None:
        return None


class _Follower:
    keeper = _Keeper()


def test_others_see_the_manifests_of_a_session_that_they_can_name_and_no_more() -> None:
    calls = Calls(_Follower())  # type: ignore[arg-type]
    own: dict[str, object] = {"job_id": "job_1", "session_id": "sess_1"}
    assert "result" in _asked(calls, "show", own)
    assert "result" in _asked(calls, "show", {"job_id": "job_1"}, trusted=True)
    foreign = _asked(calls, "show", {"job_id": "job_1", "session_id": "sess_2"})
    nothing = _asked(calls, "show", {"job_id": "job_1"})
    unknown = _asked(calls, "show", {"job_id": "job_2", "session_id": "sess_1"})
    for each in (foreign, nothing, unknown):
        assert each["error"]["data"]["type"] == "NotThere"
    assert foreign["error"]["message"] == unknown["error"]["message"].replace("job_2", "job_1")
    for method in ("list", "tail", "add"):
        refused = _asked(calls, method, {})
        assert refused["error"]["data"]["type"] == "NotMet", method
    assert _asked(calls, "status", {})["result"] == {
        "crypto_mode": "hybrid", "crypto_modes": [], "when": "never",
    }  # fmt: skip


def _asked(
    calls: Calls, method: str, params: dict[str, object], trusted: bool = False
) -> dict[str, Any]:
    line = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return answer_to(calls, msgspec.json.encode(line), trusted)


def test_a_fault_of_the_follower_itself_ends_it_instead_of_signing_no_more() -> None:
    class Faulty(_Keeper):
        def sign_some(self) -> list[str]:
            raise ValueError("a fault")

    follower = Follower(Faulty(), state_dir=None, public=None)  # type: ignore[arg-type]
    follower._take = lambda: None  # type: ignore[method-assign]
    ended = threading.Event()
    follower.on_fault = ended.set
    follower.start()
    assert ended.wait(WAIT_S_MAX)
    follower.stop()
    assert follower.faulty


def _answers(path: Path) -> bool:
    try:
        return bool(ask(path, "trust")["keys"] == [])
    except Unavailable:
        return False


def test_a_user_has_so_many_connections_and_no_more(folder: Path) -> None:
    server = Server(folder / "s", _Follower())  # type: ignore[arg-type]
    listening = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    listening.start()
    try:
        idle = [socket.socket(socket.AF_UNIX) for _ in range(CALLERS_PER_USER_MAX)]
        for each in idle:
            each.connect(str(folder / "s"))
        with pytest.raises(Unavailable, match="Too many connections"):
            ask(folder / "s", "trust")
        for each in idle:
            each.close()
        until = time.monotonic() + WAIT_S_MAX
        while not _answers(folder / "s"):
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        server.close()
        listening.join()


def test_whatever_comes_over_the_socket_is_answered() -> None:
    calls = Calls(_Follower())  # type: ignore[arg-type]
    for line in (b"", b"\xff", b"[]", b"{}", b'{"jsonrpc":"2.0","method":"x"}', b"[" * 9999):
        assert answer_to(calls, line, trusted=True)["error"]["message"]
    bad = b'{"jsonrpc":"2.0","method":"show","params":{"job_id":1}}'
    assert answer_to(calls, bad, trusted=True)["error"]["code"] == -32600
    assert Params().last > 0
    with pytest.raises(Unavailable, match="No follower"):
        ask(Path("/nonexistent"), "status")
