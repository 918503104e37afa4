"""Each thing that may be wrong with an installation is broken here, and the sentence read."""

from __future__ import annotations

import os
import resource
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qmkd.engine import landlock
from qmkd.shell import doctor
from qmkd.shell.config import Config
from qmkd.shell.store.schema import MIGRATIONS, open_to_write
from tests.daemon import short_folder

GIB = 1 << 30


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with short_folder() as folder:
        yield folder


def configured(home: Path, **keys: Any) -> Config:
    keys = {"socket": str(home / "q.sock"), "state_dir": str(home / "state"), "workers": 1} | keys
    return msgspec.convert(keys, Config)


def faults(found: Iterator[doctor.Finding]) -> list[str]:
    """What is not fine: severity and sentence."""
    return [f"{each.severity}: {each.message}" for each in found if each.severity != "fine"]


def own_state(home: Path) -> Path:
    state = home / "state"
    state.mkdir(mode=0o700)
    return state


# --- what was installed -------------------------------------------------------------------------


def test_a_module_that_does_not_load_is_named_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_library.py").write_text("raise ImportError('libm.so.6: wrong version')\n")
    monkeypatch.setattr(doctor, "LIBRARIES", ("broken_library",))
    monkeypatch.syspath_prepend(str(tmp_path))
    (found,) = doctor._native()
    assert found.message == (
        "broken_library cannot be loaded: ImportError: libm.so.6: wrong version"
    )
    assert "make install" in found.remedy


def test_native_modules_are_those_that_were_built_from_the_sources(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "_missing.c").write_text("")
    monkeypatch.setattr(doctor, "NATIVE", tmp_path)
    monkeypatch.setattr(doctor, "LIBRARIES", ())
    (found,) = doctor._native()
    assert found.severity == "fault"
    assert "No module named 'qmkd.engine.native._missing'" in found.message


def test_a_host_kernel_without_landlock_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    (found,) = doctor._kernel()
    assert found.severity == "warning"
    assert "lacks Landlock" in found.message


def test_a_configuration_that_does_not_hold_together_is_told_key_by_key(home: Path) -> None:
    (home / "qmkd.toml").write_text("workers = 0\n")
    found = doctor.examine({"HOME": "/"}, str(home / "qmkd.toml"), lambda unit: {})
    (fault,) = [each for each in found if each.severity == "fault"]
    assert fault.check == "configuration"
    assert "$.workers" in fault.message


# --- places -------------------------------------------------------------------------------------


def test_a_state_directory_that_others_may_read_is_a_warning(home: Path) -> None:
    own_state(home).chmod(0o755)
    (found,) = faults(doctor._state(configured(home)))
    assert found == f"warning: {home}/state is open to other users (mode 755)."


def test_a_state_directory_that_is_a_file_is_a_fault(home: Path) -> None:
    (home / "state").write_text("")
    assert faults(doctor._state(configured(home))) == [f"fault: {home}/state is not a folder."]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_state_directory_of_somebody_else_is_a_fault(home: Path) -> None:
    os.chown(own_state(home), 65534, 65534)
    (found,) = faults(doctor._state(configured(home)))
    assert found == f"fault: {home}/state belongs to nobody, and the daemon runs as root."


def test_what_a_dead_daemon_left_is_told_and_is_no_fault(home: Path) -> None:
    (own_state(home) / "lock").write_text("4194304\n")  # above any process id there is
    (found,) = doctor._state(configured(home))
    assert (found.severity, "process 4194304 is gone" in found.message) == ("fine", True)


def test_no_state_directory_is_as_it_should_be_before_the_first_start(home: Path) -> None:
    (found,) = doctor._state(configured(home))
    assert found.message == f"{home}/state is made at the first start."


def test_the_database_of_a_newer_release_is_a_fault_and_of_an_older_is_none(home: Path) -> None:
    path = own_state(home) / "qmkd.db"
    open_to_write(path, "process").close()
    (found,) = doctor._database(configured(home))
    assert found.severity == "fine"
    for version, severity, what in (
        (len(MIGRATIONS) + 1, "fault", "written by a newer qmkd"),
        (len(MIGRATIONS) - 1, "fine", "brings it up to date"),
    ):
        with sqlite3.connect(path) as db:
            db.execute(f"PRAGMA user_version = {version}")
        db.close()
        (found,) = doctor._database(configured(home))
        assert (found.severity, what in found.message) == (severity, True)


def test_what_is_no_database_is_a_fault(home: Path) -> None:
    (own_state(home) / "qmkd.db").write_bytes(b"letters to my mother" * 100)
    (found,) = faults(doctor._database(configured(home)))
    assert "the database is damaged" in found


@pytest.mark.parametrize(
    ("free", "sentence"),
    [
        (GIB - 1, "warning: {} has 1023 MiB left: it may soon be full."),
        (1 << 20, "fault: {} has 1 MiB left: nothing new can be taken on."),
    ],
)
def test_a_disk_that_is_nearly_full_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, free: int, sentence: str
) -> None:
    monkeypatch.setattr(
        os, "statvfs", lambda _: os.statvfs_result((1, 1, 0, 0, free, 9, 9, 9, 0, 255))
    )
    state = own_state(home)
    monkeypatch.setattr(doctor, "_file_system", lambda _: "ext4")
    assert faults(doctor._space(configured(home))) == [sentence.format(state)]


def test_a_file_system_that_forgets_is_told_where_power_cuts_should_be_survived(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_file_system", lambda _: "tmpfs")
    found = faults(doctor._space(configured(home)))
    assert "what is acknowledged does not outlive the power" in found[-1]
    assert not [
        each
        for each in faults(doctor._space(configured(home, durability="process")))
        if "power" in each
    ]


def test_the_file_system_is_that_of_the_longest_mount_point() -> None:
    assert doctor._file_system(Path("/proc/self")) == "proc"


# --- the socket ---------------------------------------------------------------------------------


def test_a_socket_is_missing_left_over_or_not_one_at_all(home: Path) -> None:
    path = home / "q.sock"
    (found,) = faults(doctor._socket(configured(home)))
    assert found == f"fault: {path} is not there: no daemon was started."
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    (found,) = faults(doctor._socket(configured(home)))
    assert found == f"fault: {path} is left over: nobody listens."
    path.unlink()
    path.write_text("")
    assert faults(doctor._socket(configured(home))) == [f"fault: {path} is not a socket."]


def test_a_socket_that_tenants_cannot_reach_is_a_fault(home: Path) -> None:
    path = home / "q.sock"
    tenants = [{"name": "chemistry", "uids": [54321]}]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o600)
        (found,) = faults(doctor._socket(configured(home, tenant=tenants)))
        assert found == f"fault: {path} has mode 600, and tenant 'chemistry' cannot connect."
        path.chmod(0o666)
        assert not faults(doctor._socket(configured(home, tenant=tenants)))


# --- the host and the service -------------------------------------------------------------------


def test_few_descriptors_and_little_memory_are_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    (found,) = faults(doctor._limits(configured(home)))
    assert found.startswith("warning: 100 descriptors allow fewer than the 8192 connections")
    (found,) = faults(doctor._memory(configured(home, workers=64, worker_bytes=1 << 45)))
    assert found.startswith("warning: 64 workers may take 2097152 GiB")


def test_a_clock_that_nobody_set_or_keeps_is_told() -> None:
    (found,) = faults(doctor._clock(now_s=0.0))
    assert found.startswith("fault: It is set to 1970-01-01")
    (found,) = faults(doctor._clock(now_s=2e9, state=doctor.TIME_ERROR))
    assert found == "warning: Nobody keeps the clock right."
    assert not faults(doctor._clock(now_s=2e9, state=0))


LOADED = {"LoadState": "loaded", "ActiveState": "active", "WatchdogUSec": "30s", "NRestarts": "0"}


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            {"ActiveState": "failed", "Result": "watchdog"},
            "fault: qmkd.service has failed (it did not answer, and the watchdog ended it).",
        ),
        (
            {"ActiveState": "failed", "Result": "exit-code", "StatusText": "Cannot start: it."},
            "fault: qmkd.service has failed (exit-code). Cannot start: it.",
        ),
        ({"NRestarts": "3"}, "warning: It was started again 3 times since"),
        ({"WatchdogUSec": "0"}, "warning: Nobody watches whether it hangs."),
        ({"NeedDaemonReload": "yes"}, "warning: Its unit files were changed"),
        (
            {"StatusText": "The configuration stays as it was: no user 'ada'"},
            "warning: The configuration stays as it was: no user 'ada'",
        ),
    ],
)
def test_what_is_wrong_with_the_service_is_told(said: dict[str, str], sentence: str) -> None:
    (found,) = faults(doctor._service(lambda unit: LOADED | said))
    assert found.startswith(sentence)


def test_a_host_without_the_service_is_fine() -> None:
    (found,) = doctor._service(lambda unit: {})
    assert found.severity == "fine"
