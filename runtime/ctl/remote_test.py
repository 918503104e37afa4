"""`qmkctl --remote` and `serve-remote` as programs, before a real daemon and a real signer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.client import Client, errors
from runtime.client.address import Remote, remote_address, split_host
from runtime.ctl.__main__ import main
from runtime.ctl.exits import Exit
from runtime.remote import certificates
from runtime.remote.authority import Authority
from runtime.remote.credentials import load
from tests.daemon import Daemon, running_daemon, short_folder

ROOT = Path(__file__).parents[2]
BELL = str(ROOT / "qvm/examples/bell.qvm.json")
HOST = "127.0.0.1"
TENANTS = """
[[tenant]]
name = "operators"
uids = [{here}]

[[tenant]]
name = "laboratory"
users = ["nobody"]
"""
RELAY = """
import os, sys, trio
from pathlib import Path
from runtime.remote import relay
path, daemon, uid, front = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
os.setuid(uid)
trio.run(relay.run, path, daemon, frozenset({front}), lambda: print("ready", flush=True))
"""


def credentials(folder: Path, authority: Authority, name: str, *, server: bool = False) -> Path:
    for kind in ("ES256", "ML-DSA-65"):
        certificates.obtain(
            authority, folder / name, kind, usage="server" if server else "client", name=name,
            hosts=[HOST] if server else [],
        )  # fmt: skip
    return folder / name


@contextlib.contextmanager
def program(*arguments: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A program that says one line when it is ready; stopped with SIGTERM in the end."""
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=os.environ | environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, "it says that it is ready"
        yield line, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.stdout.close()
        assert process.wait(20) == 0


SERVE = ("-m", "runtime.ctl", "serve-remote", "--listen", f"{HOST}:0", "--json")


@contextlib.contextmanager
def service(*arguments: str) -> Iterator[str]:
    """`qmkctl serve-remote`; where it listens."""
    with program(*SERVE, *arguments) as (line, _):
        yield json.loads(line)["listening"][0]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon(config=TENANTS.format(here=os.getuid())) as running:
        running.socket.parent.chmod(0o711)
        yield running


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def qmkctl(capsys: pytest.CaptureFixture[str], *arguments: str, status: Exit = Exit.OK) -> str:
    capsys.readouterr()
    assert main(arguments) == status
    out, err = capsys.readouterr()
    return out if status is Exit.OK else err


def test_every_command_works_on_a_daemon_of_another_host(
    daemon: Daemon,
    authority: Authority,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("QMK_SOCKET", raising=False)
    served = credentials(tmp_path, authority, "server", server=True)
    alice = credentials(tmp_path, authority, "alice")
    with socket.create_server((HOST, 0)) as probe:
        metrics = probe.getsockname()[1]
    with service(
        "--socket", str(daemon.socket), "--credentials", str(served), "--admit", "alice",
        "--metrics-port", str(metrics),
    ) as address:  # fmt: skip
        remote = ("--remote", address, "--credentials", str(alice))
        job = json.loads(qmkctl(capsys, "run", BELL, "--shots", "9", "--json", *remote))
        assert sum(job["counts"].values()) == 9
        shown = qmkctl(capsys, "status", job["job_id"], *remote)
        assert "COMPLETED" in shown
        rows = qmkctl(capsys, "results", job["job_id"], *remote)
        assert rows
        assert "operators" in qmkctl(capsys, "session", *remote)
        agreed = json.loads(qmkctl(capsys, "status", "--json", *remote))
        assert agreed["group"] == "X25519MLKEM768"
        assert agreed["peer_certificate"] == agreed["own_certificate"] == "ML-DSA-65"
        assert agreed["post_quantum"] == "key exchange and certificates"
        shown = qmkctl(capsys, "remote", "check", *remote, "--tls-mode", "classical")
        assert "X25519" in shown
        assert "nothing" in shown
        monkeypatch.setenv("QMK_REMOTE", address)
        monkeypatch.setenv("QMK_REMOTE_CREDENTIALS", str(alice))
        assert "operators" in qmkctl(capsys, "session")
        # A result that does not fit an answer on the host comes as a memory file there.
        with Client() as client:
            result = client.run(BELL, shots=40_000, counts=False, samples=True)
            assert result.samples.shape[0] == 40_000
        with urllib.request.urlopen(f"http://{HOST}:{metrics}/metrics") as page:
            text = page.read().decode()
        assert 'qmk_remote_handshakes_total{certificate="ML-DSA-65",client_certificate=' in text


def test_what_cannot_work_is_said_before_anything_is_asked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, authority: Authority
) -> None:
    for arguments, said in (
        (("session", "--socket", "/x", "--remote", "h"), "not both"),
        (("session", "--credentials", "/x"), "for --remote"),
        (("session", "--remote", "h:0"), "is no HOST"),
        (("serve-remote", "--credentials", str(tmp_path)), "Nobody would be admitted"),
        (("serve-remote", "--credentials", str(tmp_path), "--admit", "a"), "no certificate"),
        (("remote", "show", "--credentials", str(tmp_path / "none")), "No such file"),
        (("remote", "check"), "Say --remote"),
        (("remote", "revoke", "xyz", "--credentials", str(tmp_path)), "hexadecimal"),
        (("status",), "Name a job"),
    ):
        assert said in qmkctl(capsys, *arguments, status=Exit.USAGE), arguments
    nobody = ("session", "--remote", f"{HOST}:9", "--credentials", str(tmp_path / "none"))
    assert "own-*.pem" in qmkctl(capsys, *nobody, status=Exit.UNREACHABLE)
    open_key = credentials(tmp_path, authority, "loose") / "own-es256.pem"
    open_key.chmod(0o644)
    loose = ("remote", "show", "--credentials", str(open_key.parent))
    assert "chmod 600" in qmkctl(capsys, *loose, status=Exit.USAGE)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("host", ("host", 7443)),
        ("host:1", ("host", 1)),
        ("[::1]:2", ("::1", 2)),
        ("[::1]", ("::1", 7443)),
        ("192.0.2.1:65535", ("192.0.2.1", 65535)),
        ("", None), (":1", None), ("host:", None), ("host:x", None), ("host:65536", None),
        ("::1", None), ("[::1", None), ("a..b", None), ("a b", None), ("a\0b", None),
        ("x" * 64, None), ("ssh://h", None), ("me@h", None), ("[]:1", None), ("h:-1", None),
        ("h:1:2", None),
    ],
)  # fmt: skip
def test_an_address_is_a_host_and_perhaps_a_port(text: str, found: tuple[str, int] | None) -> None:
    if found is None:
        with pytest.raises(ValueError, match="is no HOST"):
            split_host(text)
        return
    assert split_host(text) == found
    assert split_host(str(remote_address(text, "/x"))) == found


def test_certificates_are_requested_certified_shown_and_revoked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority()
    monkeypatch.setattr(certificates, "signer_at", lambda path: contextlib.nullcontext(authority))
    folder = str(tmp_path / "own")
    made = ("--credentials", folder)
    said = json.loads(qmkctl(capsys, "remote", "request", "alice", "--json", *made))
    for request in said["requests"]:
        # Whoever certifies says who sent it; what the request says of that is nothing.
        qmkctl(capsys, "remote", "certify", request, "--name", "alicia")
        answer = request.replace(".csr", ".crt")
        qmkctl(capsys, "remote", "accept", answer, *made)
    shown = json.loads(qmkctl(capsys, "remote", "show", "--json", *made))
    assert {(each["kind"], each["name"], each["usage"]) for each in shown["own"]} == {
        ("ES256", "alicia", "client"),
        ("ML-DSA-65", "alicia", "client"),
    }
    assert not list(Path(folder).glob("*.key")), "a key is in one file alone"
    qmkctl(capsys, "remote", "renew", "--all", *made)
    again = json.loads(qmkctl(capsys, "remote", "show", "--json", *made))
    serials = [each["serial"] for each in shown["own"]]
    assert not {each["serial"] for each in again["own"]} & set(serials)
    for serial in serials:
        qmkctl(capsys, "remote", "revoke", serial, "--why", "renewed\nearly", *made)
    assert load(Path(folder)).revoked == {int(serial, 16) for serial in serials}
    assert "certificates of a kind" not in qmkctl(capsys, "remote", "show", *made)
    bad = tmp_path / "bad.csr"
    bad.write_text("hello")
    said = qmkctl(capsys, "remote", "certify", str(bad), "--name", "x", status=Exit.USAGE)
    assert "no request" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a process of another user")
def test_a_client_is_to_the_daemon_the_user_whose_relay_carries_it(
    daemon: Daemon, authority: Authority, tmp_path: Path
) -> None:
    served = credentials(tmp_path, authority, "server", server=True)
    alice, bob = (credentials(tmp_path, authority, name) for name in ("alice", "bob"))
    with short_folder() as relays:
        relays.chmod(0o755)
        (relays / "nobody").mkdir()
        os.chown(relays / "nobody", 65534, 65534)
        config = tmp_path / "remote.toml"
        config.write_text(
            f'credentials = "{served}"\ndaemon = "{daemon.socket}"\nrelays = "{relays}"\n'
            '[[client]]\nname = "alice"\nuser = "nobody"\n[[client]]\nname = "bob"\n'
        )
        path = relays / "nobody" / "relay.sock"

        def relay(uid: int) -> contextlib.AbstractContextManager[Any]:
            return program("-c", RELAY, str(path), str(daemon.socket), str(uid), str(os.getuid()))

        with service("--config", str(config)) as address:
            host, port = split_host(address)
            remotes = [Remote(host=host, port=port, credentials=each) for each in (alice, bob)]
            with pytest.raises(errors.Busy, match="no relay for alice"):
                tenant_of(remotes[0])
            with relay(65534):
                assert [tenant_of(each) for each in remotes] == ["laboratory", "operators"]
                assert refused_by_relay(path, 61_003)
            with relay(0), pytest.raises(errors.Busy, match="no relay for alice"):
                tenant_of(remotes[0])


def test_the_signer_s_certificates_are_renewed_under_a_service_that_goes_on(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with signer() as socket_path:
        made = ("--signer", str(socket_path), "--credentials")
        served, own = str(tmp_path / "served"), str(tmp_path / "own")
        qmkctl(capsys, "remote", "make", "server", "--host", HOST, *made, served)
        qmkctl(capsys, "remote", "make", "alice", *made, own)
        config = tmp_path / "remote.toml"
        config.write_text(
            f'credentials = "{served}"\ndaemon = "{daemon.socket}"\nsigner = "{socket_path}"\n'
            f'names = ["{HOST}"]\n[[client]]\nname = "alice"\n'
        )
        with program(*SERVE, "--config", str(config)) as (line, process):
            host, port = split_host(json.loads(line)["listening"][0])
            remote = Remote(host=host, port=port, credentials=Path(own))
            with Client(remote) as client:
                assert client.session_id
                before = client.remote_facts()
                assert before is not None
                assert before.peer_certificate == "ML-DSA-65"
                renewed = qmkctl(capsys, "remote", "renew", "--all", *made, served)
                assert renewed.count("by tls-ca") == 2
                process.send_signal(signal.SIGHUP)
                until = time.monotonic() + 20
                while serial_at(remote) == before.peer_serial:
                    assert time.monotonic() < until, "later connections see the new one"
                assert client.telemetry().jobs is not None
                assert client.remote_facts() == before, "over the connection that it had"


def serial_at(remote: Remote) -> str:
    with Client(remote) as client:
        assert client.session_id
        facts = client.remote_facts()
    assert facts is not None
    return facts.peer_serial


@contextlib.contextmanager
def signer() -> Iterator[Path]:
    """The socket of a real signer with keys in software."""
    with short_folder() as folder:
        state, path = folder / "state", folder / "s"
        command = [sys.executable, "-m", "runtime.signer"]
        subprocess.run(
            [*command, "init", "--state-dir", str(state), "--software"],
            cwd=ROOT, check=True, capture_output=True,
        )  # fmt: skip
        process = subprocess.Popen(
            [*command, "serve", "--state-dir", str(state), "--socket", str(path)],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            until = time.monotonic() + 20
            while not path.exists():
                assert time.monotonic() < until, "the signer serves"
                time.sleep(0.02)
            yield path
        finally:
            process.terminate()
            process.wait(20)


def tenant_of(remote: Remote) -> str:
    with Client(remote, timeout=3.0) as client:
        return str(client.session.tenant_id)


def refused_by_relay(path: Path, uid: int) -> bool:
    """Whether a relay closes a connection of that user without a word."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(20)
        os.seteuid(uid)
        try:
            line.connect(str(path))
        finally:
            os.seteuid(0)
        return line.recv(1) == b""
