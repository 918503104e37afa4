"""The remote units under a real systemd: a service without privilege, and a relay of a user."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.booted import Booted, booted, install, reason

UNIT, RELAY, SIGNER = "qmk-remote.service", "qmk-relay@alice.service", "qmk-signer.service"
HOST = "127.0.0.1"
WHY_NOT = reason()

pytestmark = [
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
    pytest.mark.slow,
]

USERS = "u alice - Alice\n"
TENANTS = """
[[tenant]]
name = "operators"
users = ["root"]
[[tenant]]
name = "laboratory"
users = ["alice"]
"""
REMOTE = """
credentials = "/var/lib/qmk-remote"
listen = ["{host}:{port}"]
signer = "/run/qmk-signer/signer.sock"
names = ["{host}"]
[[client]]
name = "alice-laptop"
user = "alice"
"""
MAY = """
[[allow]]
users = ["root"]
keys = ["*"]
may = ["certify", "manage", "sign", "audit", "unseal"]
names = ["*"]
[[allow]]
users = ["qmk-remote"]
keys = ["tls-ca", "tls-ca-pqc"]
may = ["certify"]
names = ["127.0.0.1", "server"]
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    folder = tmp_path_factory.mktemp("installed")
    install(folder)
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "etc/qmk/qmkd.toml").write_text(TENANTS)
    (folder / "etc/qmk/remote.toml").write_text(REMOTE.format(host=HOST, port=port))
    (folder / "usr/lib/sysusers.d/alice.conf").write_text(USERS)
    with booted(folder) as machine:
        machine.run("/usr/bin/qmk-signer", "init", "--system", "--software")
        (machine.root / "etc/qmk/signer.toml").write_text(MAY)
        machine.systemctl("start", SIGNER, "qmkd.socket")
        yield machine


def test_a_laptop_is_alice_to_the_daemon_and_the_service_is_nobody(machine: Booted) -> None:
    make = ("/usr/bin/qmkctl", "remote", "make", "--signer", "/run/qmk-signer/signer.sock")
    as_service = ("setpriv", "--reuid=qmk-remote", "--regid=qmk-remote", "--clear-groups")
    machine.run("install", "-d", "-o", "qmk-remote", "-g", "qmk-remote", "/var/lib/qmk-remote")
    machine.run(
        *as_service, *make, "server", "--host", HOST, "--credentials", "/var/lib/qmk-remote"
    )
    refused = machine.run(
        *as_service, *make, "alice-laptop", "--credentials", "/tmp/x", check=False
    )
    assert "does not let" in refused.stderr, "the service's own user cannot make itself another"
    machine.run(*make, "alice-laptop", "--credentials", "/tmp/laptop")
    machine.systemctl("start", UNIT, RELAY)
    text = (machine.root / "etc/qmk/remote.toml").read_text()
    found = re.search(r"127\.0\.0\.1:\d+", text)
    assert found is not None
    said = machine.run(
        "/usr/bin/qmkctl", "session", "--no-session-cache", "--json", "--remote", found[0],
        "--credentials", "/tmp/laptop", check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr + machine.journal(UNIT) + machine.journal(RELAY)
    assert json.loads(said.stdout)["tenant_id"] == "laboratory"
    for unit, user in ((UNIT, "qmk-remote"), (RELAY, "alice")):
        status = Path(f"/proc/{machine.main_pid(unit)}/status").read_text()
        uid = machine.run("id", "-u", user).stdout.strip()
        assert re.search(rf"^Uid:\s+{uid}\s+{uid}\s+{uid}\s+{uid}$", status, re.MULTILINE)
        assert re.search(r"^CapEff:\s+0{16}$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
        assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
    assert "alice-laptop connects: group X25519MLKEM768" in machine.journal(UNIT)
