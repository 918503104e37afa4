"""The signer's unit under a real systemd: set up by root, run by its own user, used by others."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.signer.__main__ import SOFTHSM
from runtime.signer.client import SignerClient
from runtime.signer.protocol import List, Status
from tests.systemd.booted import Booted, booted, install, reason

UNIT = "qmk-signer.service"
MODULE = Path("/usr/lib/qmkd/libsofthsm2.so")  # where the machine has what was installed
WHY_NOT = reason()
HSM = os.environ.get("QMK_SOFTHSM_MODULE") or next((str(p) for p in SOFTHSM if p.exists()), None)

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    folder = tmp_path_factory.mktemp("installed")
    install(folder)
    if HSM is not None:
        shutil.copyfile(HSM, folder / MODULE.relative_to("/"))
    with booted(folder) as machine:
        machine.systemctl("start", UNIT)
        assert machine.value(UNIT, "ConditionResult") == "no", "not set up yet, so not started"
        more = [] if HSM is None else ["--module", str(MODULE)]
        machine.run("/usr/bin/qmk-signer", "init", "--system", *more, check=False)
        machine.systemctl("start", UNIT)
        yield machine


def test_the_unit_serves_as_a_user_of_its_own_that_reads_no_pin_file(machine: Booted) -> None:
    assert machine.value(UNIT, "ActiveState") == "active", machine.journal(UNIT)
    pid = machine.main_pid(UNIT)
    text = Path(f"/proc/{pid}/status").read_text()
    uid = machine.run("id", "-u", "qmk-signer").stdout.strip()
    assert re.search(r"^Uid:\s+(\d+)", text, re.MULTILINE)[1] == uid  # type: ignore[index]
    assert uid != "0"
    assert re.search(r"^CapEff:\s+0{16}$", text, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", text, re.MULTILINE)
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"^Max core file size\s+0\s+0\s", limits, re.MULTILINE)
    # A host that gives its own root no more than so much cannot give the service more.
    unlimited = re.search(r"^Max locked memory\s+unlimited", limits, re.MULTILINE)
    assert machine.run("stat", "-c", "%U %a", "/var/lib/qmk-signer").stdout == "qmk-signer 700\n"
    with SignerClient(machine.root / "run/qmk-signer/signer.sock") as client:
        said = client.call(Status()).hardening
        assert (said["core_dumps"], said["readable_by_others"]) == ("none", "no")
        assert said["swap"] == "never" or not unlimited
        assert len(client.call(List()).keys) >= 9
        for key in ("manifest-classical", "manifest-pqc", "bundle"):
            assert client.verify(key, b"message", client.sign(key, b"message").signature)


@pytest.mark.skipif(HSM is None, reason="SoftHSM2 is not installed")
def test_the_token_is_opened_with_the_pin_that_systemd_hands_over(machine: Booted) -> None:
    assert machine.run("stat", "-c", "%U %a", "/etc/qmk/signer-pin").stdout == "root 600\n"
    with SignerClient(machine.root / "run/qmk-signer/signer.sock") as client:
        token = client.call(Status()).token
        assert token is not None, machine.journal(UNIT)
        assert token.problem is None
        assert {each.protection for each in client.call(List()).keys} == {"hsm", "hsm-wrapped"}
        assert client.sign("manifest-classical", b"message").protection == "hsm"
    before = "signer-pin.kept"
    machine.run("mv", "/etc/qmk/signer-pin", f"/etc/qmk/{before}")
    machine.systemctl("restart", UNIT)
    with SignerClient(machine.root / "run/qmk-signer/signer.sock") as client:
        assert "There is no PIN" in client.call(Status()).token.problem
    machine.run("mv", f"/etc/qmk/{before}", "/etc/qmk/signer-pin")
    machine.systemctl("restart", UNIT)
    with SignerClient(machine.root / "run/qmk-signer/signer.sock") as client:
        assert client.sign("manifest-classical", b"message").protection == "hsm"


def test_a_signer_that_is_killed_is_started_again_and_knows_all(machine: Booted) -> None:
    with SignerClient(machine.root / "run/qmk-signer/signer.sock") as client:
        before = client.sign("manifest-pqc", b"message")
        seq = client.call(Status()).audit_seq
    machine.systemctl("kill", "-s", "KILL", UNIT)
    machine.wait(UNIT, "active")
    with SignerClient(machine.root / "run/qmk-signer/signer.sock") as client:
        assert client.verify("manifest-pqc", b"message", before.signature)
        assert client.call(Status()).audit_seq >= seq
