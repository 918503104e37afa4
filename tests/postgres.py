"""A PostgreSQL server of one's own for the length of a test: its programs, a folder, no network."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_S = "60"


def programs() -> Path | None:
    """The folder of initdb and pg_ctl; None where no server is installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    if found is not None:
        folders.insert(0, Path(found).resolve().parent)
    return next((each for each in folders if (each / "pg_ctl").exists()), None)


@contextmanager
def running_postgres() -> Iterator[str]:
    """Its URL, over a Unix socket. Skips the test where there is no server to run."""
    place = programs()
    if place is None:
        pytest.skip("no PostgreSQL server is installed")
    # The server refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="qmk-pg-", dir="/tmp") as folder:
        data = Path(folder, "data")
        data.mkdir()
        if user is not None:
            entry = pwd.getpwnam(user)
            for each in (Path(folder), data):
                os.chown(each, entry.pw_uid, entry.pw_gid)

        def run(*command: str) -> None:
            done = subprocess.run(
                [str(place / command[0]), *command[1:]],
                user=user, cwd=folder, capture_output=True, text=True, check=False,
                env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr + done.stdout

        run("initdb", "-D", str(data), "-U", "qmk", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        log = str(data / "log")
        run("pg_ctl", "-D", str(data), "-w", "-t", START_S, "-l", log, "-o", options, "start")
        try:
            yield f"postgresql://qmk@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
