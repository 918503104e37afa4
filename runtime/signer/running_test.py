"""A signer as a process: what it protects, and what its callers see when it fails."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.ctl.__main__ import main as qmkctl
from runtime.signer.client import SignerClient
from runtime.signer.config import TokenConfig
from runtime.signer.conftest import PIN, MakeToken, RunningSigner
from runtime.signer.errors import (
    KeyExists,
    NotAllowed,
    PinWrong,
    SignerBusy,
    SignerSlow,
    SignerUnreachable,
    StorageFailed,
    UnknownKey,
)
from runtime.signer.keys.store import DEFAULTS, Keys
from runtime.signer.protocol import Create, ReadAudit, Revoke, Rotate, Status, Unlock
from runtime.signer.service import CONNECTIONS_PER_USER_MAX
from tests.daemon import running_daemon

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client(signer: RunningSigner) -> Iterator[SignerClient]:
    with SignerClient(signer.socket) as made:
        made.call(Create(name="classical", algorithm="Ed25519"))
        made.call(Create(name="pqc", algorithm="ML-DSA-44"))
        yield made


def test_the_client_loads_no_cryptography_and_no_token() -> None:
    code = (
        "import sys, runtime.signer.client, runtime.ctl.__main__\n"
        "print([m for m in ('cryptography', 'PyKCS11', 'oqs') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr


def test_a_signature_from_the_socket_holds(client: SignerClient) -> None:
    made = client.sign("pqc", b"message")
    assert client.verify("pqc", b"message", made.signature)
    assert not client.verify("pqc", b"massage", made.signature)
    pair = client.sign_all([("classical", b"1"), ("pqc", b"2")])
    assert [each.key for each in pair] == ["classical", "pqc"]
    with pytest.raises(UnknownKey):
        client.sign("absent", b"")
    with pytest.raises(KeyExists):
        client.call(Create(name="pqc", algorithm="ML-DSA-44"))


def test_the_process_leaves_no_core_and_is_read_by_nobody_of_its_user(
    signer: RunningSigner, client: SignerClient
) -> None:
    pid = signer.process.pid
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"Max core file size\s+0\s+0\s", limits)
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert status["NoNewPrivs"].strip() == "1"
    said = client.call(Status()).hardening
    assert said["core_dumps"] == "none"
    assert said["readable_by_others"] == "no"
    # Not dumpable: the kernel gives what is below /proc to root, whoever runs the process.
    assert os.stat(f"/proc/{pid}/mem").st_uid == 0
    locked = int(status["VmLck"].split()[0])
    assert (said["swap"] == "never") == (locked > 0)
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] == resource.RLIM_INFINITY
    if unlimited or os.getuid() == 0:
        assert said["swap"] == "never", said


def _memory(pid: int) -> bytes:
    """Everything that a process has mapped for writing."""
    found = b""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights = line.split()[:2]
            if "w" in rights and "[v" not in line:
                start, end = (int(each, 16) for each in place.split("-"))
                memory.seek(start)
                with contextlib.suppress(OSError):
                    found += memory.read(end - start)
    return found


@pytest.mark.skipif(os.getuid() != 0, reason="reading another process's memory needs root")
def test_no_private_key_is_in_the_daemons_memory_the_files_or_the_log(
    tmp_path: Path, make_token: MakeToken
) -> None:
    """Keys that only a test can know: opened with the token that sealed them."""
    token = make_token()
    token.close()
    config = token.config
    folder = tmp_path / "signer"
    folder.mkdir()
    text = (
        f'[token]\nmodule = "{config.module}"\nlabel = "{config.label}"\n'
        f'pin_file = "{config.pin_file}"\n'
    )
    with RunningSigner(folder, text) as running, running_daemon() as daemon:
        with SignerClient(running.socket) as client:
            for name in ("ML-DSA-44", "ML-DSA-65", "X-Wing"):
                client.call(Create(name=name.lower(), algorithm=name))
            public = client.sign("ml-dsa-65", b"message").signature
        memory = _memory(daemon.process.pid)
        files = [path for path in daemon.state_dir.rglob("*") if path.is_file()]
        daemon_files = b"".join(path.read_bytes() for path in files)
    keys = Keys(running.state, token)
    secrets = [
        bytes(keys.opened(record, record.versions[0])) for record in map(keys.record, keys.names)
    ]
    keys.close()
    assert len(memory) > 1 << 20
    assert b"qmkd" in memory, "it is the memory of the daemon that was read"
    signer_files = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert public[:32] not in memory
    for secret in secrets:
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)[:-3]):
            assert form not in memory
            assert form not in daemon_files
            assert form not in signer_files
    assert PIN.encode() not in signer_files


def test_a_signer_that_was_killed_comes_back_with_all_that_it_gave_out(
    tmp_path: Path,
) -> None:
    with RunningSigner(tmp_path) as running, SignerClient(running.socket) as client:
        client.call(Create(name="a-key", algorithm="ML-DSA-44"))
        given = [client.sign("a-key", b"%d" % number) for number in range(20)]
        running.end(kill=True)
        with pytest.raises(SignerUnreachable) as refusal:
            client.sign("a-key", b"message")
        assert refusal.value.retryable
        running.start()
        # The same client goes on, over a new connection.
        page = client.call(ReadAudit(since=1, verify=True))
        assert page.verified == page.seq == 21
        for number, made in enumerate(given):
            assert client.verify("a-key", b"%d" % number, made.signature)


@pytest.mark.slow
def test_a_kill_while_many_sign_and_rotate_loses_no_signature_that_was_given(
    tmp_path: Path,
) -> None:
    given: list[tuple[bytes, int, bytes]] = []
    enough = threading.Event()

    def use(number: int) -> None:
        with (
            SignerClient(tmp_path / "signer.sock") as client,
            contextlib.suppress(SignerUnreachable),
        ):
            for count in range(100_000):
                message = b"%d %d" % (number, count)
                made = client.sign("a-key", message)
                given.append((message, made.version, made.signature))
                if number == 0 and count % 5 == 4:
                    client.call(Rotate(name="a-key", without_root=True))
                if len(given) > 60:
                    enough.set()

    with RunningSigner(tmp_path) as running:
        with SignerClient(running.socket) as client:
            client.call(Create(name="a-key", algorithm="Ed25519"))
        threads = [threading.Thread(target=use, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        assert enough.wait(60)
        running.end(kill=True)
        for thread in threads:
            thread.join()
        running.start()
        with SignerClient(running.socket) as client:
            page = client.call(ReadAudit(since=1, verify=True))
            signed = [json.loads(bytes(each)) for each in page.entries]
            assert sum(each["event"] == "sign" for each in signed) >= len(given)
            for message, version, signature in given:
                assert client.verify("a-key", message, signature, version)


def test_a_signer_that_is_slow_is_told_from_one_that_is_gone(
    signer: RunningSigner, client: SignerClient
) -> None:
    with SignerClient(signer.socket) as hasty:
        hasty.sign("classical", b"message")
        signer.process.send_signal(signal.SIGSTOP)
        hasty.timeout = 0.3
        try:
            with pytest.raises(SignerSlow) as refusal:
                hasty.sign("classical", b"message")
            assert refusal.value.retryable
        finally:
            signer.process.send_signal(signal.SIGCONT)
        hasty.timeout = 10.0
        assert hasty.sign("classical", b"message").version == 1
    with pytest.raises(SignerUnreachable):
        SignerClient(signer.socket.with_name("nobody")).sign("classical", b"")


def test_a_full_disk_is_told_and_signing_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """RLIMIT_FSIZE in the place of a disk, as a file then cannot grow."""
    with RunningSigner(tmp_path) as running, SignerClient(running.socket) as client:
        client.call(Create(name="a-key", algorithm="Ed25519"))
        limit = resource.RLIMIT_FSIZE
        grown = sum(path.stat().st_size for path in (running.state / "audit").iterdir())
        before = resource.prlimit(running.process.pid, limit)
        resource.prlimit(running.process.pid, limit, (grown + 100, before[1]))
        with pytest.raises(StorageFailed, match="audit log") as refusal:
            client.sign("a-key", b"message")
        assert refusal.value.retryable
        resource.prlimit(running.process.pid, limit, before)
        assert client.sign("a-key", b"message").version == 1
        assert client.call(ReadAudit(verify=True)).verified == 2


def test_a_wrong_pin_is_told_and_mended_without_a_restart(
    tmp_path: Path, make_token: MakeToken
) -> None:
    token = make_token()
    token.open()
    token.close()
    pin_file = Path(str(token.config.pin_file))
    pin_file.write_text("9999")
    config: TokenConfig = token.config
    (tmp_path / "signer").mkdir()
    text = (
        f'[token]\nmodule = "{config.module}"\nlabel = "{config.label}"\npin_file = "{pin_file}"\n'
    )
    with (
        RunningSigner(tmp_path / "signer", text) as running,
        SignerClient(running.socket) as client,
    ):
        for _ in range(3):
            with pytest.raises(PinWrong):
                client.call(Create(name="a-key", algorithm="Ed25519"))
        assert "PIN" in client.call(Status()).token.problem
        with pytest.raises(PinWrong):
            client.call(Unlock())
        pin_file.write_text(PIN)
        assert client.call(Unlock()).token.problem is None
        client.call(Create(name="a-key", algorithm="Ed25519"))
        assert client.sign("a-key", b"message").protection == "hsm"


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")
def test_who_asks_is_known_from_the_kernel_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.stat().st_mode & 0o001 == 0 and str(folder).startswith("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    rule = '[[allow]]\nusers = [0]\nkeys = ["*"]\nmay = ["manage"]\n'
    with RunningSigner(tmp_path, rule) as running, SignerClient(running.socket) as client:
        client.call(Create(name="a-key", algorithm="Ed25519"))
        with pytest.raises(NotAllowed, match="uid 0"):
            client.sign("a-key", b"message")
        request = (
            b'{"jsonrpc":"2.0","id":1,"method":"revoke","params":{"name":"a-key","reason":"r"}}\n'
        )
        code = (
            "import os, socket, sys\nos.setgroups([]); os.setgid(54321); os.setuid(54321)\n"
            f"s = socket.socket(socket.AF_UNIX); s.connect({str(running.socket)!r})\n"
            f"s.sendall({request!r}); print(s.recv(4096).decode())"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "uid 54321" in done.stdout, done.stderr


def test_one_user_has_so_many_connections_and_a_half_sent_line_harms_nobody(
    signer: RunningSigner, client: SignerClient
) -> None:
    client.sign("classical", b"message")  # holds one
    held = []
    try:
        for _ in range(CONNECTIONS_PER_USER_MAX + 3):
            each = socket.socket(socket.AF_UNIX)
            held.append(each)
            each.connect(str(signer.socket))
            with contextlib.suppress(BrokenPipeError):  # one too many is sent away
                each.sendall(b'{"jsonrpc":')
        held[-1].settimeout(20)
        assert b"SIGNER_BUSY" in held[-1].recv(4096)
        assert client.sign("classical", b"message").version == 1
    finally:
        for each in held:
            each.close()
    for _ in range(600):  # the service has to notice that they went
        with contextlib.suppress(SignerBusy), SignerClient(signer.socket) as another:
            another.call(Status())
            return
        time.sleep(0.05)
    raise AssertionError("connections that went are still counted")


@pytest.mark.slow
def test_a_second_signer_for_the_same_keys_or_socket_is_refused(
    signer: RunningSigner, client: SignerClient, tmp_path: Path
) -> None:
    command = [*signer.command]
    same_keys = subprocess.run(command, capture_output=True, text=True)
    assert same_keys.returncode == 1
    assert "in use" in same_keys.stderr
    command[command.index("--state-dir") + 1] = str(tmp_path / "other")
    same_socket = subprocess.run(command, capture_output=True, text=True)
    assert same_socket.returncode == 1
    assert "another signer listens there" in same_socket.stderr
    assert client.sign("classical", b"message").version == 1
    (tmp_path / "wrong.toml").write_text("nonsense = 1")
    command[command.index("--config") + 1] = str(tmp_path / "wrong.toml")
    assert subprocess.run(command, capture_output=True).returncode == 2


def test_setting_up_makes_a_token_and_the_keys_or_says_loudly_that_there_is_none(
    softhsm: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "runtime.signer", "init", "--state-dir"]
    made = subprocess.run(
        [*command, tmp_path / "hsm", "--module", softhsm], capture_output=True, text=True, cwd=ROOT
    )
    bare = subprocess.run(
        [*command, tmp_path / "bare", "--software"], capture_output=True, text=True, cwd=ROOT
    )
    protections = {}
    for name, done in (("hsm", made), ("bare", bare)):
        rows = [line.split() for line in done.stdout.splitlines()]
        assert {row[0] for row in rows} == set(DEFAULTS) - (
            set() if done.returncode == 0 else {"root"}
        ), done.stderr
        protections[name] = {row[2] for row in rows}
    assert protections == {"hsm": {"hsm", "hsm-wrapped"}, "bare": {"software"}}
    assert "NO TOKEN" in bare.stderr
    assert "NO TOKEN" not in made.stderr
    pin = (tmp_path / "hsm" / "pin").read_text()
    assert len(pin) == 32
    assert pin not in made.stdout + made.stderr + (tmp_path / "hsm" / "signer.toml").read_text()
    assert (tmp_path / "hsm" / "pin").stat().st_mode & 0o777 == 0o600


# --- the command line ---------------------------------------------------------------------------


def test_the_operator_does_it_all_from_the_command_line(
    signer: RunningSigner,
    client: SignerClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("QMK_SIGNER_SOCKET", str(signer.socket))
    (tmp_path / "file").write_text("content")
    (tmp_path / "phrase").write_text("correct horse battery staple\n")

    def run(*words: object, status: int = 0) -> str:
        assert qmkctl(["keys", *map(str, words)]) == status, capsys.readouterr().err
        return capsys.readouterr().out

    def read(*words: object, status: int = 0) -> dict[str, object]:
        found: dict[str, object] = json.loads(run(*words, "--json", status=status))
        return found

    assert "ML-DSA-44, software" in run("create", "cli", "--algorithm", "ML-DSA-44")
    assert "software" in run("list")
    run("sign", "cli", tmp_path / "file", "--out", tmp_path / "sig")
    assert "holds" in run("verify", "cli", tmp_path / "file", tmp_path / "sig")
    assert read("rotate", "cli", "--without-root")["key"]["version"] == 2  # type: ignore[index]
    run("verify", "cli", "--version", 1, tmp_path / "file", tmp_path / "sig")
    run("verify", "cli", tmp_path / "file", tmp_path / "sig", status=7)
    assert "rotation of cli" in run("statements", "cli")
    assert run("public", "cli").startswith("-----BEGIN PUBLIC KEY-----\n")
    assert "BEGIN CERTIFICATE" in run("certificate", "classical")
    run("create", "opens", "--algorithm", "X-Wing")
    run("seal", "opens", tmp_path / "file", "--out", tmp_path / "sealed", "--label", "a")
    run("unseal", "opens", tmp_path / "sealed", "--out", tmp_path / "x", "--label", "b", status=3)
    run("unseal", "opens", tmp_path / "sealed", "--out", tmp_path / "opened", "--label", "a")
    assert (tmp_path / "opened").read_text() == "content"
    backup = tmp_path / "backup"
    run("backup", backup, "--passphrase-file", tmp_path / "phrase")
    assert backup.stat().st_mode & 0o077 == 0
    restored = read("restore", backup, "--passphrase-file", tmp_path / "phrase")
    assert "cli" in restored["skipped"]  # type: ignore[operator]
    assert "Revoked" in run("revoke", "cli", "--reason", "test", "--without-root")
    run("sign", "cli", tmp_path / "file", status=3)
    assert "The chain holds" in run("audit", "--verify")
    head = f"{read('audit')['seq']}:{read('audit')['head']}"
    assert read("audit", "--state-dir", signer.state, "--head", head)["verified"]
    run("audit", "--state-dir", signer.state, "--head", f"1:{'0' * 64}", status=7)
    assert "core dumps: none" in run("status")
    assert read("status")["token"] is None
    assert "Sealed anew: 0" in run("rewrap")
    assert "qmk_signer_requests_total" in run("metrics")
    run("unlock")
    run("create", "cli", "--algorithm", "RSA", status=3)
    monkeypatch.setenv("QMK_SIGNER_SOCKET", str(tmp_path / "nobody"))
    assert qmkctl(["keys", "list", "--json"]) == 4
    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["type"], error["data"]["retryable"]) == ("SIGNER_UNREACHABLE", True)


@pytest.mark.slow
def test_what_was_revoked_stays_so_over_a_restart(tmp_path: Path) -> None:
    with RunningSigner(tmp_path) as running, SignerClient(running.socket) as client:
        client.call(Create(name="a-key", algorithm="Ed25519"))
        client.call(Revoke(name="a-key", reason="test", without_root=True))
        assert running.end() == 0
        running.start()
        assert client.public("a-key").state == "revoked"


@pytest.mark.slow
def test_metrics_go_to_a_file_that_is_whole_at_any_time(tmp_path: Path) -> None:
    target = tmp_path / "qmk.prom"
    with RunningSigner(tmp_path, f'metrics_file = "{target}"\n'):
        for _ in range(400):
            if target.exists():
                break
            time.sleep(0.05)
    assert "qmk_signer_audit_entries 0" in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o644
